//! Recommendations that were kept, and what came of them two weeks later.
//!
//! Decides: that of a workload the best is kept, and none while one is not scored yet; and the words of a score.
//! Does not: compute a score (the view `recommendation_score` does).

use std::collections::BTreeSet;

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use super::{Found, Recommendations, evidence_of, two_decimals, words};
use crate::core::accounting::recommendation::Change;
use crate::core::units::ids::derive_uuid;
use crate::core::units::money::MicroUsd;
use crate::core::units::time::Timestamp;
use crate::ledger::report::{Days, Report, dollars, with_day_of_knowledge};
use crate::ledger::rows::Table;
use crate::ledger::store::{LedgerFault, end, insert};
use crate::ledger::turns::{self, Turn};
use crate::ledger::who::taken_by;

const RECOMMENDATION: Table = Table {
    name: "recommendation",
    columns: "id, at, workload_namespace, workload_name, team, what, change, measured_from, measured_to, gpu_ms, gpu_ms_after, types, \
              predicted_usd_per_month, basis, assumes, evidence, taken_by",
};

/// Keeps the best recommendation of each workload that has none which is still to be scored; gives how many were kept.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer; then none is kept.
pub async fn keep(connection: &mut PgConnection, recommendations: &Recommendations, now: Timestamp) -> Result<usize, LedgerFault> {
    let mut transaction = connection.begin().await.map_err(LedgerFault::during("begin a transaction"))?;
    let kept = add(&mut transaction, recommendations, now).await;
    end(transaction, kept, "keep the recommendations").await
}

async fn add(connection: &mut PgConnection, recommendations: &Recommendations, now: Timestamp) -> Result<usize, LedgerFault> {
    // One at a time: two would keep two of one workload.
    turns::take(connection, Turn::Import).await?;
    let open = "SELECT workload_namespace, workload_name FROM ledger.recommendation
                WHERE ledger.utc_day(at) + 15 > ledger.utc_day(to_timestamp($1::bigint / 1000.0))";
    let rows = sqlx::query_as::<_, (String, String)>(open).bind(now.0).fetch_all(&mut *connection).await;
    let open: BTreeSet<(String, String)> =
        rows.map_err(LedgerFault::during("read the recommendations that are open"))?.into_iter().collect();
    let taken_by = taken_by(connection).await?;
    let is_new = |found: &&Found| !open.contains(&(found.workload.namespace.clone(), found.workload.name.clone()));
    let row = |found: &Found| {
        let change = &found.recommendation.change;
        let types = match change {
            Change::SmallerGpu { types, .. } => Some(types),
            _ => None,
        };
        let (namespace, name, what) = (&found.workload.namespace, &found.workload.name, change.what().as_str());
        json!({
            "id": derive_uuid(&["recommendation", namespace, name, what, &now.to_rfc3339()]), "at": now.to_rfc3339(),
            "workload_namespace": namespace, "workload_name": name, "team": found.team, "what": what, "change": words(change, &found.evidence),
            "measured_from": recommendations.from.to_rfc3339(), "measured_to": recommendations.to.to_rfc3339(),
            "gpu_ms": found.evidence.held_gpu_ms, "gpu_ms_after": found.recommendation.gpu_ms_after, "types": types,
            "predicted_usd_per_month": found.saving, "basis": found.basis, "assumes": change.assumes(), "evidence": evidence_of(found),
            "taken_by": taken_by,
        })
    };
    let rows: Vec<serde_json::Value> = recommendations.best().into_iter().filter(is_new).map(row).collect();
    insert(connection, RECOMMENDATION, &rows).await?;
    Ok(rows.len())
}

/// Amounts as they are, so that whoever adds them up has the ledger's own sums.
const SCORES: &str = "
    SELECT ledger.utc_day(made_at)::text AS made_on, CASE workload_namespace WHEN '' THEN workload_name ELSE workload_namespace || '/' || workload_name END AS workload,
           coalesce(team, '(untagged)') AS team, what, change, state, scored_from::text AS scored_from, scored_to::text AS scored_to,
           predicted_usd::numeric(24,6)::text AS predicted_usd, saved_usd::numeric(24,6)::text AS saved_usd, saved_by,
           usd_before::numeric(24,6)::text AS usd_before, days_before::text AS days_before, usd_after::numeric(24,6)::text AS usd_after,
           round(gpu_hours_before, 3)::text AS gpu_hours_before, round(gpu_hours_after, 3)::text AS gpu_hours_after,
           usd_per_1000_requests_before::text AS usd_per_1000_requests_before, usd_per_1000_requests_after::text AS usd_per_1000_requests_after
    FROM ledger.recommendation_score_of(coalesce($1::date, (now() AT TIME ZONE 'UTC')::date - 90), coalesce($2::date, (now() AT TIME ZONE 'UTC')::date + 1))
    ORDER BY made_at, workload_namespace, workload_name";

const COLUMNS: [&str; 19] = [
    "made_on",
    "workload",
    "team",
    "recommendation",
    "change",
    "outcome",
    "state",
    "scored_from",
    "scored_to",
    "predicted_usd",
    "saved_usd",
    "saved_by",
    "usd_before",
    "days_before",
    "usd_after",
    "gpu_hours_before",
    "gpu_hours_after",
    "usd_per_1000_requests_before",
    "usd_per_1000_requests_after",
];

/// What came of the recommendations that were kept on these days; without any, of the last 90.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn score(connection: &mut PgConnection, days: &Days) -> Result<Report, LedgerFault> {
    let rows = sqlx::query(AssertSqlSafe(SCORES)).bind(&days.from).bind(&days.to).fetch_all(&mut *connection).await;
    let mut scored = Scored::default();
    let mut table = Vec::new();
    for row in rows.map_err(LedgerFault::during("score the recommendations"))? {
        let text = |name: &str| row.try_get::<Option<String>, _>(name).map_err(LedgerFault::during("read a score"));
        let outcome = scored.add(&text("state")?.unwrap_or_default(), [text("saved_usd")?, text("predicted_usd")?], text("scored_to")?);
        let mut values = Vec::new();
        for column in COLUMNS {
            values.push(match column {
                "recommendation" => text("what")?,
                "outcome" => Some(outcome.clone()),
                column => text(column)?,
            });
        }
        table.push(values);
    }
    let report = Report { sentence: scored.sentence(), columns: COLUMNS.map(String::from).to_vec(), rows: table };
    with_day_of_knowledge(connection, report).await
}

/// How recommendations came out.
#[derive(Debug, Default)]
struct Scored {
    followed: usize,
    not_followed: usize,
    gone: usize,
    early: usize,
    saved: MicroUsd,
    predicted: MicroUsd,
    next: Option<String>,
}

impl Scored {
    /// Counts one, and puts it into words.
    fn add(&mut self, state: &str, [saved, predicted]: [Option<String>; 2], scored_to: Option<String>) -> String {
        let amount = |text: Option<String>| text.and_then(|text| text.parse::<MicroUsd>().ok()).unwrap_or_default();
        match state {
            "followed" => {
                let (saved, predicted) = (amount(saved), amount(predicted));
                self.followed += 1;
                (self.saved, self.predicted) = (self.saved + saved, self.predicted + predicted);
                format!("followed: saved {} of {} predicted", two_decimals(saved), two_decimals(predicted))
            }
            "not-followed" => {
                self.not_followed += 1;
                "not followed".to_owned()
            }
            "gone" => {
                self.gone += 1;
                "the workload no longer ran".to_owned()
            }
            _ => {
                self.early += 1;
                let until = scored_to.unwrap_or_default();
                let words = format!("too early until {until}");
                self.next = self.next.take().map_or(Some(until.clone()), |next| Some(next.min(until)));
                words
            }
        }
    }

    fn sentence(&self) -> String {
        let count = self.followed + self.not_followed + self.gone + self.early;
        let mut said = match count {
            0 => return "No recommendation was kept in these days: lowtide ledger recommendations --keep.".to_owned(),
            1 => "1 recommendation was kept:".to_owned(),
            n => format!("{n} recommendations were kept:"),
        };
        let mut parts = Vec::new();
        if self.followed > 0 {
            parts.push(format!(
                "{} followed, which saved {} in 14 days of {} predicted",
                self.followed,
                dollars(self.saved),
                dollars(self.predicted)
            ));
        }
        parts.extend((self.not_followed > 0).then(|| format!("{} not followed", self.not_followed)));
        parts.extend((self.gone > 0).then(|| format!("{} for work that no longer ran", self.gone)));
        parts.extend(
            (self.early > 0).then(|| format!("{} too early, the first until {}", self.early, self.next.clone().unwrap_or_default())),
        );
        said.push_str(&format!(" {}.", parts.join(", ")));
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_is_put_into_words() {
        let mut scored = Scored::default();
        assert!(scored.sentence().starts_with("No recommendation was kept"));
        let text = |text: &str| Some(text.to_owned());
        let outcomes = [
            scored.add("followed", [text("12.340000"), text("15.000001")], None),
            scored.add("followed", [text("-1.500000"), text("20")], None),
            scored.add("early", [None, text("3")], text("2026-08-19")),
            scored.add("early", [None, text("3")], text("2026-08-17")),
            scored.add("not-followed", [None, text("3")], None),
            scored.add("gone", [None, text("3")], None),
        ];
        assert_eq!(
            outcomes,
            [
                "followed: saved 12.34 of 15.00 predicted",
                "followed: saved -1.50 of 20.00 predicted",
                "too early until 2026-08-19",
                "too early until 2026-08-17",
                "not followed",
                "the workload no longer ran"
            ]
        );
        assert_eq!(
            scored.sentence(),
            "6 recommendations were kept: 2 followed, which saved $10.84 in 14 days of $35.00 predicted, 1 not followed, 1 for work that no longer ran, \
             2 too early, the first until 2026-08-17."
        );
    }
}
