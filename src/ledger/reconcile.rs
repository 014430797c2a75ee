//! A month compared with what AWS said: what is confirmed, what was trued up and why, what stands beside the machines, what belongs to others in the account, and what nothing
//! explains.
//!
//! Decides: what counts as unexplained: instance-hours AWS has not reported, and the rest of those that it reported in part. Lines about machines that are not
//! ours are kept separate: a report holds the whole account.
//! Does not: change anything; importing and posting do.

use std::collections::BTreeSet;

use sqlx::PgConnection;

use super::report::{Month, Report, dollars, six_decimals, with_day_of_knowledge};
use super::store::LedgerFault;
use crate::core::units::money::MicroUsd;

/// One line of the comparison.
struct Compared {
    status: String,
    source: Option<String>,
    rows: i64,
    /// Of them, hours of which another part is on the bill, and counted there as well.
    in_part: i64,
    computed: MicroUsd,
    billed: Option<MicroUsd>,
    belongs: Belongs,
}

/// Where a line belongs in the sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Belongs {
    Confirmed,
    TruedUp,
    Unexplained,
    /// Of machines of which the final bill has no line.
    OnNoBill,
    /// Posted on a line of its own.
    Beside,
    /// No part of the figures.
    Others,
}

/// Compares a month. Instance-hours belong to the month in which they begin. Those that a bill covers in part are compared by that part; the rest is not on the
/// bill yet.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn reconcile(connection: &mut PgConnection, month: &Month) -> Result<Report, LedgerFault> {
    let mut compared = hours(connection, month).await?;
    compared.extend(other_lines(connection, month).await?);
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
    with_day_of_knowledge(connection, report).await
}

/// Compares several months, one after the other; with more than one, each row names its month.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn of_months(connection: &mut PgConnection, months: &[Month]) -> Result<Report, LedgerFault> {
    let months: BTreeSet<&Month> = months.iter().collect();
    let mut all = Report { sentence: String::new(), columns: Vec::new(), rows: Vec::new() };
    let mut sentences = Vec::new();
    for month in &months {
        let mut of_month = reconcile(connection, month).await?;
        if months.len() > 1 {
            of_month.columns.insert(0, "month".to_owned());
            of_month.rows.iter_mut().for_each(|row| row.insert(0, Some(month.to_string())));
        }
        all.columns = of_month.columns;
        all.rows.extend(of_month.rows);
        sentences.push(of_month.sentence);
    }
    all.sentence = sentences.join(" ");
    Ok(all)
}

async fn hours(connection: &mut PgConnection, month: &Month) -> Result<Vec<Compared>, LedgerFault> {
    let rows = sqlx::query!(
        r#"WITH bounds AS (
             SELECT ($1::text::date)::timestamp AT TIME ZONE 'UTC' AS first, ($1::text::date + interval '1 month')::timestamp AT TIME ZONE 'UTC' AS next
           ), hours AS (
             SELECT p.claim_uid, p.hour, sum(p.cost_usd) FILTER (WHERE p.kind IN ('estimate', 'correction')) AS computed
             FROM ledger.posting p, bounds b
             WHERE p.at >= b.first - interval '1 hour' AND p.at < b.next + interval '1 hour' AND p.posted_at < (SELECT ledger.known_before()) AND p.claim_uid IS NOT NULL AND ledger.is_use(p.line) AND p.line <> 'egress'
             GROUP BY p.claim_uid, p.hour, b.first, b.next HAVING min(p.at) >= b.first AND min(p.at) < b.next
           ), said AS (
             SELECT DISTINCT ON (t.claim_uid, t.hour) t.claim_uid, t.hour, t.source, t.cause, t.computed_usd, t.billed_usd FROM ledger.true_up t, bounds b
             WHERE t.at >= b.first AND t.at < b.next AND t.posted_at < (SELECT ledger.known_before()) ORDER BY t.claim_uid, t.hour, t.posted_at DESC
           ), final AS (
             SELECT coalesce(bool_and(x.invoiced), false) AS is_final FROM (
               SELECT DISTINCT ON (s.source) s.invoiced FROM ledger.statement s, bounds b
               WHERE s.kind = 'bill' AND s.at = b.first AND s.retracts IS NULL AND s.posted_at < (SELECT ledger.known_before())
                 AND NOT EXISTS (SELECT FROM ledger.statement r WHERE r.retracts = s.id AND r.posted_at < (SELECT ledger.known_before()))
               ORDER BY s.source, s.version DESC) x
           ), compared AS (
             SELECT coalesce(h.computed, 0) AS computed, CASE WHEN s.source <> 'none' THEN s.source END AS source, s.cause, s.computed_usd, s.billed_usd
             FROM hours h LEFT JOIN said s ON s.claim_uid = h.claim_uid AND s.hour = h.hour
           ), parts AS (
             SELECT cause AS status, source, false AS in_part, computed_usd AS computed, billed_usd AS billed FROM compared WHERE source IS NOT NULL
             UNION ALL SELECT CASE WHEN source IS NULL AND (SELECT is_final FROM final) THEN 'on no line of the final bill' ELSE 'not on the bill or feed yet' END, NULL, source IS NOT NULL, computed - CASE WHEN source IS NULL THEN 0 ELSE computed_usd END, NULL
             FROM compared WHERE source IS NULL OR computed <> computed_usd
           )
           SELECT status AS "status!", source AS "source?", count(*) AS "rows!", count(*) FILTER (WHERE in_part) AS "in_part!",
                  (coalesce(sum(computed), 0) * 1000000)::bigint AS "computed!", (sum(billed) * 1000000)::bigint AS billed
           FROM parts GROUP BY status, source ORDER BY status = 'confirmed' DESC, source IS NULL, 3 DESC, 1"#,
        month.first_day()
    )
    .fetch_all(connection)
    .await
    .map_err(LedgerFault::during("compare the month's hours"))?;
    let compared = rows.into_iter().map(|row| Compared {
        belongs: match row.status.as_str() {
            "confirmed" => Belongs::Confirmed,
            NOT_YET => Belongs::Unexplained,
            ON_NO_BILL => Belongs::OnNoBill,
            _ => Belongs::TruedUp,
        },
        status: row.status,
        source: row.source,
        rows: row.rows,
        in_part: row.in_part,
        computed: MicroUsd(row.computed),
        billed: row.billed.map(MicroUsd),
    });
    Ok(compared.collect())
}

/// The status of hours that AWS has not reported.
const NOT_YET: &str = "not on the bill or feed yet";
/// The status of hours of machines of which the month's final bill has no line.
const ON_NO_BILL: &str = "on no line of the final bill";

/// What is billed beside the use of our machines: on lines of its own where it names one, and what belongs to others in the account.
async fn other_lines(connection: &mut PgConnection, month: &Month) -> Result<Vec<Compared>, LedgerFault> {
    let rows = sqlx::query!(
        r#"WITH bounds AS (
             SELECT ($1::text::date)::timestamp AT TIME ZONE 'UTC' AS first, ($1::text::date + interval '1 month')::timestamp AT TIME ZONE 'UTC' AS next
           ), lines AS (
             SELECT l.source, l.kind, l.instance, sum(l.cost_usd) AS cost_usd FROM ledger.billed_line l, bounds b
             WHERE l.at >= b.first AND l.at < b.next AND l.posted_at < (SELECT ledger.known_before()) AND l.statement IS NOT NULL
             GROUP BY l.source, l.kind, l.account, l.instance, l.usage_type, l.operation, l.at, l.until, l.service HAVING sum(l.lines) > 0
           ), listed AS (
             SELECT l.source, l.kind, l.cost_usd, l.instance <> '' AS machine,
                    l.instance <> '' AND EXISTS (SELECT FROM ledger.interval_opened o WHERE o.instance = l.instance) AS ours
             FROM lines l
           )
           SELECT source, kind, machine AS "machine!", ours AS "ours!", count(*) AS "rows!", (sum(cost_usd) * 1000000)::bigint AS "billed!"
           FROM listed WHERE NOT (ours AND kind IN ('usage', 'commitment')) GROUP BY 1, 2, 3, 4 ORDER BY ours DESC, machine DESC, source, kind"#,
        month.first_day()
    )
    .fetch_all(connection)
    .await
    .map_err(LedgerFault::during("compare the month's lines"))?;
    let compared = rows.into_iter().map(|row| {
        let (status, belongs) = status_of(&row.kind, row.machine, row.ours);
        Compared {
            status,
            source: Some(row.source),
            rows: row.rows,
            in_part: 0,
            computed: MicroUsd(0),
            billed: Some(MicroUsd(row.billed)),
            belongs,
        }
    });
    // Several kinds may have one name.
    let mut found: Vec<Compared> = Vec::new();
    for line in compared {
        match found.iter_mut().find(|other| (&other.status, &other.source) == (&line.status, &line.source)) {
            Some(other) => {
                other.rows += line.rows;
                other.billed = Some(other.billed.unwrap_or_default() + line.billed.unwrap_or_default());
            }
            None => found.push(line),
        }
    }
    Ok(found)
}

fn status_of(kind: &str, machine: bool, ours: bool) -> (String, Belongs) {
    let what = match kind {
        "credit" => "credits",
        "refund" => "refunds",
        "discount" => "discounts",
        "transfer" => "data transfer",
        "egress" => "data carried across regions",
        "volume" => "volumes",
        "tax" => "taxes",
        "fee" => "fees and addresses",
        "nat" => "NAT and endpoints",
        "unused-commitment" => "commitments left unused",
        "usage" | "commitment" if machine => "machines",
        _ => "other services",
    };
    match (ours, machine, kind) {
        (true, _, "other" | "unused-commitment") => (format!("{what}, of our machines (kept, not posted)"), Belongs::Others),
        (true, ..) => (format!("{what}, of our machines"), Belongs::Beside),
        (false, true, _) => (format!("{what}, of others in the account"), Belongs::Others),
        (false, false, _) => (format!("{what}, of the account"), Belongs::Others),
    }
}

fn sentence(month: &Month, compared: &[Compared]) -> String {
    if compared.is_empty() {
        return format!("Nothing is posted for {month}.");
    }
    let of = |belongs: Belongs| compared.iter().filter(move |line| line.belongs == belongs);
    let count = |belongs: Belongs| of(belongs).map(|line| line.rows).sum::<i64>();
    let difference: MicroUsd = of(Belongs::TruedUp).filter_map(|line| line.billed.map(|billed| billed - line.computed)).sum();
    let open: MicroUsd = of(Belongs::Unexplained).map(|line| line.billed.unwrap_or(line.computed)).sum();
    let said: MicroUsd = of(Belongs::Confirmed).chain(of(Belongs::TruedUp)).filter_map(|line| line.billed).sum();
    let list = |belongs: Belongs| {
        // The feed's lines are on the bill as well, once there is one.
        let billed = of(belongs).any(|line| line.source.as_deref() == Some("bill"));
        let lines = of(belongs).filter(|line| !billed || line.source.as_deref() == Some("bill"));
        lines.map(|line| format!("{} {}", line.status, dollars(line.billed.unwrap_or_default()))).collect::<Vec<_>>().join("; ")
    };
    let in_part: i64 = of(Belongs::Unexplained).map(|line| line.in_part).sum();
    let in_part = if in_part == 0 { String::new() } else { format!(" (of {in_part} of them a part)") };
    let mut sentence = format!(
        "{month}: AWS confirmed {} instance-hours and {} were trued up by {}, {} in all; {} in {} instance-hours{in_part} is not on a bill or feed yet.",
        count(Belongs::Confirmed),
        count(Belongs::TruedUp),
        dollars(difference),
        dollars(said),
        dollars(open),
        count(Belongs::Unexplained)
    );
    if count(Belongs::OnNoBill) > 0 {
        let usd: MicroUsd = of(Belongs::OnNoBill).map(|line| line.computed).sum();
        let hours = count(Belongs::OnNoBill);
        sentence.push_str(&format!(
            " The bill is final and has no line of {hours} further instance-hours: their {} rests on no bill.",
            dollars(usd)
        ));
    }
    for (heading, belongs) in [("Beside them, on lines of their own", Belongs::Beside), ("No part of these figures", Belongs::Others)] {
        let list = list(belongs);
        if !list.is_empty() {
            sentence.push_str(&format!(" {heading}: {list}."));
        }
    }
    sentence
}
