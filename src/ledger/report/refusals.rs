//! Which offers were refused, and why, of those that decisions kept.
//!
//! Decides: the columns and the sentence. Does not: judge an offer (decisions did).

use sqlx::PgConnection;

use super::{Days, Report, ask, one_of, with_day_of_knowledge};
use crate::ledger::store::LedgerFault;

/// What refused offers are grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum RefusalsBy {
    /// Why: the reason code.
    Reason,
    /// EC2 instance type.
    InstanceType,
    /// Availability zone id.
    Zone,
    /// AWS region.
    Region,
    /// Spot, on-demand or reserved.
    CapacityType,
    /// UTC day of the decision.
    Day,
}

impl RefusalsBy {
    fn column(self) -> &'static str {
        match self {
            RefusalsBy::Reason => "refusal",
            RefusalsBy::InstanceType => "instance_type",
            RefusalsBy::Zone => "zone",
            RefusalsBy::Region => "region",
            RefusalsBy::CapacityType => "capacity_type",
            RefusalsBy::Day => "ledger.utc_day(decided_at)::text",
        }
    }

    fn heading(self) -> &'static str {
        match self {
            RefusalsBy::Reason => "reason",
            RefusalsBy::Day => "day",
            other => other.column(),
        }
    }
}

/// Only offers with this value, as `--only reason=cooling-down`. Several of one key are one or the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusalsOnly {
    by: RefusalsBy,
    value: String,
}

impl std::str::FromStr for RefusalsOnly {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            || "expected reason, instance-type, zone, region, capacity-type or day and its value, as in reason=cooling-down".to_owned();
        let (key, value) = text.split_once('=').ok_or_else(expected)?;
        let by = <RefusalsBy as clap::ValueEnum>::from_str(&key.replace('_', "-"), false).map_err(|_| expected())?;
        Ok(RefusalsOnly { by, value: value.to_owned() })
    }
}

/// Refused offers of the decisions of these days, the most frequent first.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn refusals(connection: &mut PgConnection, days: &Days, by: &[RefusalsBy], only: &[RefusalsOnly]) -> Result<Report, LedgerFault> {
    let by = if by.is_empty() { &[RefusalsBy::Reason][..] } else { by };
    let keys = by.iter().map(|by| format!("{} AS {}", by.column(), by.heading())).collect::<Vec<_>>().join(", ");
    let places = (1..=by.len()).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let wanted = one_of(only.iter().map(|only| (only.by.column(), only.value.as_str())));
    let sql = format!(
        "SELECT {keys}, count(*)::text AS offers, count(DISTINCT decision)::text AS decisions, round(min(price_usd_h), 4)::text AS cheapest_usd_h
         FROM ledger.candidate
         WHERE refusal IS NOT NULL AND decided_at >= coalesce($1::date, (now() AT TIME ZONE 'UTC')::date - 30)::timestamp AT TIME ZONE 'UTC'
           AND decided_at < coalesce($2::date, (now() AT TIME ZONE 'UTC')::date + 1)::timestamp AT TIME ZONE 'UTC'{wanted}
         GROUP BY {places} ORDER BY count(*) DESC, {places}"
    );
    let mut report = ask(connection, sql, days).await?;
    let count = |row: &Vec<Option<String>>| report.figure::<u64>(row, "offers");
    let all: u64 = report.rows.iter().filter_map(count).sum();
    report.sentence = match report.rows.first() {
        None => "No refused offer is on record for these days.".into(),
        Some(first) => {
            let what: Vec<&str> = first.iter().take(by.len()).flatten().map(String::as_str).collect();
            let most = count(first).unwrap_or_default();
            format!(
                "{all} refused offers are on record, {most} of them {}. A decision keeps its best ones and counts the others by reason.",
                what.join(" ")
            )
        }
    };
    with_day_of_knowledge(connection, report).await
}
