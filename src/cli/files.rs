//! The files that `place` and `offers` read: offers as CSV and manifests as YAML; and how answers are printed.
//!
//! Decides: what such a file must say, and what of it is refused. Does not: read node pools (see `pool_file`).

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::core::market::shipped::snapshot_market;
use crate::core::market::{CapacityPool, CapacityType, HIGHEST_PRICE, Market, Offer, PriceSource};
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::time::Timestamp;
use crate::core::workload::need::PodManifest;

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
    /// It does not say what it should.
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
    // A reader that left early (`| head`) is no fault of ours.
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
/// The file says nothing of interruptions, so none are expected; of a pool named twice the last price counts.
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
        let pool =
            CapacityPool { region: row.region.into(), zone: row.zone.into(), instance_type: row.instance_type.into(), capacity_type };
        let (source, interruptions_per_million_hours, placement_score) = (PriceSource::File, 0, None);
        let offer =
            Offer { pool: pool.clone(), price_per_hour, observed_at: now, source, interruptions_per_million_hours, placement_score };
        market.offers.insert(pool, offer);
    }
    if market.offers.is_empty() {
        return Err(malformed(path, format!("holds no offer; expected {HEADER}, and one line for each offer")));
    }
    Ok(market)
}

/// The market of `offers`, or of the shipped snapshot.
pub fn market(offers: Option<&Path>, now: Timestamp) -> Result<Market, FileError> {
    offers.map_or_else(|| Ok(snapshot_market()), |path| market_file(path, now))
}

/// More pods than Kubernetes clusters hold (150,000, its documentation says), and few enough to plan in seconds.
const MOST_PODS: i64 = 1_000_000;

/// A workload of a manifest file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestWorkload {
    /// `Deployment`, `StatefulSet`, `Job` or `Pod`.
    pub kind: String,
    /// Its namespace; `default` where none is written.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Pods that run at once.
    pub replicas: i64,
    /// The pod, or the template.
    pub pod: PodManifest,
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

/// A field that is null is not there, as the API server reads it.
pub(super) fn without_nulls(value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Object(fields) => fields.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect(),
        serde_json::Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

/// The workloads of a manifest file, and the objects in it that run no pods we place.
pub fn workloads(path: &Path) -> Result<(Vec<ManifestWorkload>, Vec<String>), FileError> {
    let mut found = Vec::new();
    let mut skipped = Vec::new();
    let mut seen: BTreeMap<(String, String, String), usize> = BTreeMap::new();
    for (index, document) in documents(path)?.into_iter().enumerate() {
        let text = |pointer: &str| document.pointer(pointer).and_then(|v| v.as_str()).map(str::to_owned);
        let bad = |fault: String| malformed(path, format!("document {}: {fault}", index + 1));
        let kind = text("/kind").ok_or_else(|| bad("has no kind; expected a Kubernetes object".to_owned()))?;
        let name = text("/metadata/name").unwrap_or_default();
        let namespace = text("/metadata/namespace").unwrap_or_else(|| "default".to_owned());
        let count = |field: &str| match document.pointer(field) {
            None | Some(serde_json::Value::Null) => Ok(1),
            Some(v) => v.as_i64().filter(|n| *n >= 0).ok_or_else(|| bad(format!("{field} is {v}; expected a number of at least 0"))),
        };
        let (replicas, pod) = match kind.as_str() {
            "Pod" => (1, Some(document.clone())),
            "Deployment" | "StatefulSet" | "ReplicaSet" => (count("/spec/replicas")?, document.pointer("/spec/template").cloned()),
            "Job" => {
                let parallel = count("/spec/parallelism")?;
                let whole = document.pointer("/spec/completions").is_none_or(serde_json::Value::is_null);
                let at_once = if whole { parallel } else { parallel.min(count("/spec/completions")?) };
                (at_once, document.pointer("/spec/template").cloned())
            }
            _ => {
                skipped.push(format!("{kind} {namespace}/{name}"));
                continue;
            }
        };
        let pod = pod.ok_or_else(|| bad(format!("{kind} {namespace}/{name} has no spec.template")))?;
        let pod: PodManifest = serde_json::from_value(without_nulls(pod)).map_err(|e| bad(format!("{kind} {namespace}/{name}: {e}")))?;
        if let Some(first) = seen.insert((kind.clone(), namespace.clone(), name.clone()), index + 1) {
            return Err(bad(format!("{kind} {namespace}/{name} is there twice; document {first} has it too")));
        }
        found.push(ManifestWorkload { kind, namespace, name, replicas, pod });
    }
    if found.is_empty() {
        return Err(malformed(path, "holds no Pod, Deployment, StatefulSet, ReplicaSet or Job; there is nothing to place"));
    }
    let pods = found.iter().fold(0_i64, |sum, workload| sum.saturating_add(workload.replicas));
    if pods > MOST_PODS {
        return Err(malformed(path, format!("asks for {pods} pods at once; expected at most {MOST_PODS}")));
    }
    Ok((found, skipped))
}
