//! The spot data feed: tab-separated, one line per instance-hour.
//!
//! Decides: how its lines are read. Source: EC2 user guide, "Track your Spot Instance costs using the Spot Instance data feed". AWS does not
//! write it for opt-in regions, and some hours after the fact.

use std::path::{Path, PathBuf};

use sqlx::PgConnection;

use super::lines::{BillImport, ImportedLine, LineKey, store};
use super::table::{Header, Line};
use super::{ImportFault, Taken, text_of};
use crate::core::units::money::BilledUsd;
use crate::core::units::time::Millis;

const HOUR_MS: i128 = 3_600_000;

/// Takes files of the feed; gives what was new and how many lines there were.
///
/// # Errors
/// [`ImportFault`]; then nothing was taken.
pub async fn import_feed(connection: &mut PgConnection, paths: &[PathBuf]) -> Result<(BillImport, Taken), ImportFault> {
    let mut import = BillImport::default();
    for path in paths {
        read(path, &text_of(path)?, &mut import)?;
    }
    let taken = store(connection, &import).await?;
    Ok((import, taken))
}

fn read(path: &Path, text: &str, import: &mut BillImport) -> Result<(), ImportFault> {
    let mut header = None;
    for (number, line) in (1_u64..).zip(text.lines()) {
        if let Some(fields) = line.strip_prefix("#Fields:") {
            let found = Header::new(fields.split_whitespace());
            found.require(path, number, &["timestamp", "usage_type", "operation", "instance_id", "market_price", "charge"])?;
            header = Some(found);
        } else if !line.starts_with('#') && !line.trim().is_empty() {
            let Some(header) = &header else {
                let fault = "expected a line `#Fields: Timestamp UsageType Operation InstanceID ...` before the first data".into();
                return Err(ImportFault::Malformed { path: path.to_path_buf(), line: number, fault });
            };
            let values: Vec<&str> = line.split('\t').collect();
            let (key, line) = read_line(&Line { path, number, header, values: &values })?;
            import.add(key, line);
        }
    }
    if header.is_none() {
        let fault = "expected a spot data feed, whose header begins with #Version and #Fields".into();
        return Err(ImportFault::Malformed { path: path.to_path_buf(), line: 1, fault });
    }
    Ok(())
}

fn read_line(line: &Line) -> Result<(LineKey, ImportedLine), ImportFault> {
    let from = line.time("timestamp")?;
    let (price, charge) = (line.usd("market_price")?, line.usd("charge")?);
    let instance = line.need("instance_id", "an instance id, as in i-0123456789abcdef0")?;
    if !instance.starts_with("i-") {
        return Err(line.fault("instance_id", instance, "an instance id, as in i-0123456789abcdef0"));
    }
    let key = LineKey {
        source: "feed",
        kind: "usage",
        account: String::new(),
        instance: instance.to_owned(),
        usage_type: line.get("usage_type").unwrap_or_default().to_owned(),
        operation: line.get("operation").unwrap_or_default().to_owned(),
        from,
        to: from + Millis::from_hours(1),
    };
    Ok((key, ImportedLine { cost: charge, used: used(price, charge), ..ImportedLine::default() }))
}

/// The feed does not say how long; charge and price do.
fn used(price: BilledUsd, charge: BilledUsd) -> Option<Millis> {
    (price.0 > 0).then(|| Millis(i64::try_from((charge.0 * HOUR_MS + price.0 / 2) / price.0).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEED: &str = "#Version: 1.0\n\
        #Fields: Timestamp UsageType Operation InstanceID MyBidID MyMaxPrice MarketPrice Charge Version\n\
        2026-07-20 07:13:47 UTC\tUSE1-SpotUsage:g6.xlarge\tRunInstances:SV001\ti-1\tsir-1\t0.8048 USD\t0.0913 USD\t0.0913 USD\t1\n\
        2026-07-20 08:13:47 UTC\tUSE1-SpotUsage:g6.xlarge\tRunInstances:SV001\ti-1\tsir-1\t0.8048 USD\t0.0913 USD\t0.0304333333 USD\t1\n";

    fn taken(text: &str) -> Result<BillImport, String> {
        let mut import = BillImport::default();
        read(Path::new("feed"), text, &mut import).map_err(|fault| fault.to_string())?;
        Ok(import)
    }

    #[test]
    fn lines_are_read_with_their_billed_time() {
        let import = taken(FEED).unwrap();
        let lines: Vec<_> =
            import.lines.iter().map(|(key, line)| (key.from.to_rfc3339(), line.cost.to_string(), line.used.unwrap().0)).collect();
        assert_eq!(
            lines,
            [
                ("2026-07-20T07:13:47.000Z".to_owned(), "0.0913000000".to_owned(), 3_600_000),
                ("2026-07-20T08:13:47.000Z".to_owned(), "0.0304333333".to_owned(), 1_200_000)
            ]
        );
    }

    #[test]
    fn what_is_no_feed_is_refused_where_it_is_wrong() {
        for (text, said) in [
            ("", "line 1: expected a spot data feed"),
            ("a,b\n1,2\n", "line 1: expected a line `#Fields:"),
            (&FEED.replace("MarketPrice ", ""), "line 2: expected the columns"),
            (&FEED.replace("0.0304333333 USD", "0.03 EUR"), "line 4: column charge holds \"0.03 EUR\""),
            (&FEED.replace("2026-07-20 08", "2026-27-20 08"), "line 4: column timestamp"),
            (
                &FEED.replace("\ti-1\tsir-1\t0.8048 USD\t0.0913 USD\t0.0913", "\tvol-1\tsir-1\t0.8048 USD\t0.0913 USD\t0.0913"),
                "line 3: column instance_id",
            ),
        ] {
            let fault = taken(text).unwrap_err();
            assert!(fault.contains(said), "{fault}");
        }
    }
}
