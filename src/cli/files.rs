//! The files that `place` and `offers` read: offers as CSV, and YAML as documents; and how answers are printed.
//!
//! Decides: what such a file must contain, and what is refused.
//! Does not: read node pools (see `pool_file`) or workloads (see `manifests`).

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::core::market::shipped::snapshot_market;
use crate::core::market::{Capacity, CapacityType, HIGHEST_PRICE, Market, Offer, PriceSource};
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::time::Timestamp;

/// Why a file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read {path}: {cause}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// Its content is not what was expected.
    #[error("{path}: {fault}")]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What is wrong and what was expected.
        fault: String,
    },
}

fn read(path: &Path) -> Result<String, FileError> {
    fs::read_to_string(path).map_err(|cause| FileError::Unreadable { path: path.to_owned(), cause })
}

pub(super) fn malformed(path: &Path, fault: impl ToString) -> FileError {
    FileError::Malformed { path: path.to_owned(), fault: fault.to_string() }
}

/// Prints `text` on standard output.
pub fn print(text: &str) -> ExitCode {
    // A reader that stopped early (`| head`) is not an error.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// Prints `value` as JSON on standard output.
pub fn print_json<T: Serialize>(value: &T) -> ExitCode {
    match serde_json::to_string_pretty(value) {
        Ok(text) => print(&format!("{text}\n")),
        Err(fault) => {
            eprintln!("the answer could not be written as JSON: {fault}");
            ExitCode::FAILURE
        }
    }
}

const HEADER: &str = "region,zone,instance_type,capacity_type,price_per_hour";

#[derive(Deserialize)]
struct OfferRow {
    region: String,
    zone: String,
    instance_type: String,
    capacity_type: String,
    price_per_hour: String,
}

/// The market of a CSV file with the header `region,zone,instance_type,capacity_type,price_per_hour`.
///
/// The file says nothing about interruptions, so none are expected; if an offer is listed twice, the last price counts.
fn market_file(path: &Path, now: Timestamp) -> Result<Market, FileError> {
    let text = read(path)?;
    let mut market = Market::default();
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|e| malformed(path, e))?.iter().collect::<Vec<_>>().join(",");
    if header.split(',').collect::<BTreeSet<_>>() != HEADER.split(',').collect() {
        return Err(malformed(path, format!("the first line is {header:?}; expected {HEADER}")));
    }
    for (index, row) in reader.deserialize::<OfferRow>().enumerate() {
        let bad = |fault: String| malformed(path, format!("offer {}: {fault}; expected {HEADER}", index + 1));
        let row = row.map_err(|e| bad(e.to_string()))?;
        if let Some((field, _)) =
            [("region", &row.region), ("zone", &row.zone), ("instance_type", &row.instance_type)].into_iter().find(|(_, v)| v.is_empty())
        {
            return Err(bad(format!("{field} is empty")));
        }
        let capacity_type = match row.capacity_type.as_str() {
            "spot" => CapacityType::Spot,
            "on-demand" => CapacityType::OnDemand,
            "reserved" => CapacityType::Reserved,
            other => return Err(bad(format!("capacity type {other:?} is not spot, on-demand or reserved"))),
        };
        let price_per_hour: MicroUsdPerHour =
            row.price_per_hour.parse().map_err(|e: crate::core::units::money::BadMoney| bad(e.to_string()))?;
        if !(MicroUsdPerHour(0)..=HIGHEST_PRICE).contains(&price_per_hour) {
            return Err(bad(format!("price {price_per_hour} is not between 0 and {HIGHEST_PRICE} dollars an hour")));
        }
        let pool = Capacity { region: row.region.into(), zone: row.zone.into(), instance_type: row.instance_type.into(), capacity_type };
        let (source, interruptions_per_million_hours) = (PriceSource::File, 0);
        let offer = Offer { capacity: pool.clone(), price_per_hour, observed_at: now, source, interruptions_per_million_hours };
        market.offers.insert(pool, offer);
    }
    if market.offers.is_empty() {
        return Err(malformed(path, format!("contains no offers; expected {HEADER}, and one line per offer")));
    }
    Ok(market)
}

/// The market of `offers`, or of the shipped snapshot.
pub fn market(offers: Option<&Path>, now: Timestamp) -> Result<Market, FileError> {
    offers.map_or_else(|| Ok(snapshot_market()), |path| market_file(path, now))
}

pub(super) fn documents(path: &Path) -> Result<Vec<serde_json::Value>, FileError> {
    let found: Vec<serde_json::Value> = serde_saphyr::from_multiple(&read(path)?).map_err(|e| malformed(path, e))?;
    let mut flat = Vec::new();
    for document in found {
        let is_list = document.get("kind").and_then(|k| k.as_str()) == Some("List");
        match document.get("items").and_then(|i| i.as_array()).filter(|_| is_list) {
            Some(items) => flat.extend(items.iter().cloned()),
            None if document.is_null() => {}
            None => flat.push(document),
        }
    }
    Ok(flat)
}

/// A null field counts as absent, as for the API server.
pub(super) fn without_nulls(value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Object(fields) => fields.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect(),
        serde_json::Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFERS: &str = "region,zone,instance_type,capacity_type,price_per_hour\nus-east-1,use1-az4,g6.xlarge,spot,0.3020\n\
        us-east-1,use1-az4,g6.xlarge,on-demand,0.8048\nus-west-2,usw2-az1,p5.48xlarge,reserved,0\n";

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::mutation::CASES))]

        #[test]
        fn whatever_a_file_of_offers_holds_is_a_market_or_refused_with_a_sentence(text in crate::mutation::csv(&[OFFERS])) {
            match crate::mutation::read_file(&text, |path| market_file(path, Timestamp(0))) {
                Ok(market) => for (capacity, offer) in &market.offers {
                    assert!((MicroUsdPerHour(0)..=HIGHEST_PRICE).contains(&offer.price_per_hour) && *capacity == offer.capacity, "{offer:?}");
                },
                Err(fault) => assert!(fault.to_string().len() > 20, "{fault}"),
            }
        }
    }
}
