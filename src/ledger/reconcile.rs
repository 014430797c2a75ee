//! A month held against what AWS said: what is confirmed, what was trued up and why, and what nothing explains.
//!
//! Decides: what counts as unexplained: instance-hours AWS has not spoken of, and lines about instances the ledger does not know.
//! Does not: change anything; importing and posting do.

use sqlx::PgConnection;

use super::report::{Month, Report, cents, six_decimals};
use super::store::LedgerFault;
use crate::core::units::money::MicroUsd;

/// One line of the comparison.
struct Compared {
    status: String,
    source: Option<String>,
    rows: i64,
    computed: MicroUsd,
    billed: Option<MicroUsd>,
}

/// Statuses that nothing explains.
const UNEXPLAINED: [&str; 2] = ["not on the bill or feed yet", "billed, instance unknown"];

/// Compares a month. Instance-hours belong to the month in which they begin.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn reconcile(connection: &mut PgConnection, month: &Month) -> Result<Report, LedgerFault> {
    let mut compared = hours(connection, month).await?;
    compared.extend(lines_of_unknown_instances(connection, month).await?);
    let mut report = Report {
        sentence: sentence(month, &compared),
        columns: ["status", "source", "rows", "computed_usd", "billed_usd", "difference_usd"].map(String::from).to_vec(),
        rows: Vec::new(),
    };
    let amount = |amount: Option<MicroUsd>| amount.map(six_decimals);
    for line in compared {
        let difference = line.billed.map(|billed| billed - line.computed);
        let row = [
            Some(line.status),
            line.source,
            Some(line.rows.to_string()),
            amount(Some(line.computed)),
            amount(line.billed),
            amount(difference),
        ];
        report.rows.push(row.to_vec());
    }
    Ok(report)
}

async fn hours(connection: &mut PgConnection, month: &Month) -> Result<Vec<Compared>, LedgerFault> {
    let rows = sqlx::query!(
        r#"WITH bounds AS (
             SELECT ($1::text::date)::timestamp AT TIME ZONE 'UTC' AS first, ($1::text::date + interval '1 month')::timestamp AT TIME ZONE 'UTC' AS next
           ), hours AS (
             SELECT p.claim_uid, p.hour, sum(p.cost_usd) FILTER (WHERE p.kind IN ('estimate', 'correction')) AS computed
             FROM ledger.posting p, bounds b
             WHERE p.at >= b.first - interval '1 hour' AND p.at < b.next AND p.claim_uid IS NOT NULL AND p.line <> 'egress'
             GROUP BY p.claim_uid, p.hour, b.first HAVING min(p.at) >= b.first
           ), said AS (
             SELECT DISTINCT ON (t.claim_uid, t.hour) t.claim_uid, t.hour, t.source, t.cause, t.billed_usd FROM ledger.true_up t, bounds b
             WHERE t.at >= b.first AND t.at < b.next ORDER BY t.claim_uid, t.hour, t.posted_at DESC
           )
           SELECT coalesce(s.cause, 'not on the bill or feed yet') AS "status!", s.source AS "source?", count(*) AS "rows!",
                  (coalesce(sum(h.computed), 0) * 1000000)::bigint AS "computed!", (sum(s.billed_usd) * 1000000)::bigint AS billed
           FROM hours h LEFT JOIN said s ON s.claim_uid = h.claim_uid AND s.hour = h.hour
           GROUP BY s.cause, s.source ORDER BY s.cause = 'confirmed' DESC NULLS LAST, 3 DESC, 1"#,
        month.first_day()
    )
    .fetch_all(connection)
    .await
    .map_err(LedgerFault::during("compare the month's hours"))?;
    let compared = rows.into_iter().map(|row| Compared {
        status: row.status,
        source: row.source,
        rows: row.rows,
        computed: MicroUsd(row.computed),
        billed: row.billed.map(MicroUsd),
    });
    Ok(compared.collect())
}

async fn lines_of_unknown_instances(connection: &mut PgConnection, month: &Month) -> Result<Vec<Compared>, LedgerFault> {
    let rows = sqlx::query!(
        r#"WITH bounds AS (
             SELECT ($1::text::date)::timestamp AT TIME ZONE 'UTC' AS first, ($1::text::date + interval '1 month')::timestamp AT TIME ZONE 'UTC' AS next
           ), lines AS (
             SELECT DISTINCT ON (l.source, l.kind, l.account, l.instance, l.usage_type, l.operation, l.at, l.until) l.*
             FROM ledger.billed_line l, bounds b WHERE l.at >= b.first AND l.at < b.next
             ORDER BY l.source, l.kind, l.account, l.instance, l.usage_type, l.operation, l.at, l.until, l.revision DESC
           )
           SELECT CASE WHEN kind = 'transfer' THEN 'data transfer, kept and not matched' ELSE 'billed, instance unknown' END AS "status!", source AS "source!",
                  count(*) AS "rows!", (sum(cost_usd) * 1000000)::bigint AS "billed!"
           FROM lines l
           WHERE kind = 'transfer' OR NOT EXISTS (SELECT FROM ledger.interval_opened o WHERE o.instance = l.instance)
           GROUP BY 1, 2 ORDER BY 1, 2"#,
        month.first_day()
    )
    .fetch_all(connection)
    .await
    .map_err(LedgerFault::during("compare the month's lines"))?;
    let compared = rows.into_iter().map(|row| Compared {
        status: row.status,
        source: Some(row.source),
        rows: row.rows,
        computed: MicroUsd(0),
        billed: Some(MicroUsd(row.billed)),
    });
    Ok(compared.collect())
}

fn sentence(month: &Month, compared: &[Compared]) -> String {
    if compared.is_empty() {
        return format!("Nothing is posted for {month}.");
    }
    let is = |line: &&Compared, status: &str| line.status == status;
    let unexplained = |line: &&Compared| UNEXPLAINED.contains(&line.status.as_str());
    let count = |lines: &[&Compared]| lines.iter().map(|line| line.rows).sum::<i64>();
    let confirmed: Vec<&Compared> = compared.iter().filter(|line| is(line, "confirmed")).collect();
    let open: Vec<&Compared> = compared.iter().filter(unexplained).collect();
    let trued: Vec<&Compared> =
        compared.iter().filter(|line| !is(line, "confirmed") && !unexplained(line) && !line.status.starts_with("data transfer")).collect();
    let difference: MicroUsd = trued.iter().filter_map(|line| line.billed.map(|billed| billed - line.computed)).sum();
    let amount_open: MicroUsd = open.iter().map(|line| line.billed.unwrap_or(line.computed)).sum();
    let said: MicroUsd = confirmed.iter().chain(&trued).filter_map(|line| line.billed).sum();
    format!(
        "{month}: AWS confirmed {} instance-hours and {} were trued up by ${}, ${} in all; ${} in {} rows is unexplained.",
        count(&confirmed),
        count(&trued),
        cents(difference),
        cents(said),
        cents(amount_open),
        count(&open)
    )
}
