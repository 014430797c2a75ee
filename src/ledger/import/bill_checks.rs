//! What is refused of a bill once its lines are added up, before anything is written.
//!
//! Decides: the questions and their sentences. Reads the temporary tables of [`super::bill`].

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::ImportFault;
use super::bill::much;
use super::checks::{Check, Checks, in_all};
use super::entries::not_older;
use super::statement::{Cell, Held};
use crate::core::accounting::allocation::Line;
use crate::core::accounting::bill::{BESIDE, CARRIED, LineKind};
use crate::ledger::store::LedgerFault;

/// A version that is about to be taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    /// When its source made it, where that is known.
    pub made_at: Option<&'a str>,
    /// It belongs to an invoice.
    pub invoiced: bool,
    /// The version that holds.
    pub holds: Option<&'a Held>,
}

/// Asks everything there is to ask of the new lines against those that hold, and against the books where none do or where an invoice is about to close them.
pub(super) async fn look(connection: &mut PgConnection, cell: &Cell, asked: Asked<'_>, checks: &mut Checks) -> Result<(), ImportFault> {
    let month: String = cell.from.to_rfc3339().chars().take(7).collect();
    account(connection, cell, &month, checks).await?;
    hours_twice(connection, checks).await?;
    other_source(connection, cell, checks).await?;
    if let Some(holds) = asked.holds {
        older(connection, &month, asked, holds, checks).await?;
        amount(connection, &month, holds, checks).await?;
    }
    if asked.holds.is_none_or(|holds| asked.invoiced && !holds.invoiced) {
        against_the_books(connection, cell, &month, asked.invoiced, checks).await?;
    }
    if asked.invoiced {
        missing_machines(connection, cell, &month, asked.holds.is_some_and(|holds| holds.invoiced), checks).await?;
    }
    Ok(())
}

async fn one(connection: &mut PgConnection, sql: &'static str, cell: &Cell) -> Result<sqlx::postgres::PgRow, LedgerFault> {
    let query = sqlx::query(sql).bind(&cell.source).bind(cell.from.to_rfc3339()).bind(cell.until.to_rfc3339());
    query.fetch_one(connection).await.map_err(LedgerFault::during("look over the report"))
}

/// A payer that is not known, or a report without a machine of ours although some ran.
async fn account(connection: &mut PgConnection, cell: &Cell, month: &str, checks: &mut Checks) -> Result<(), ImportFault> {
    let row = one(
        connection,
        "SELECT (SELECT string_agg(DISTINCT source, ', ') FROM ledger.statement WHERE kind = 'bill' AND source NOT IN ($1, 'unknown')) AS others,
                EXISTS (SELECT FROM ledger.statement WHERE kind = 'bill' AND source = $1) AS known,
                EXISTS (SELECT FROM new_line n JOIN ledger.interval_opened o ON o.instance = n.instance) AS ours,
                (SELECT count(DISTINCT o.claim_uid) FROM ledger.interval_opened o WHERE o.at < $3::timestamptz AND o.at >= $2::timestamptz - interval '31 days'
                   AND NOT EXISTS (SELECT FROM ledger.interval_closed c WHERE c.claim_uid = o.claim_uid AND c.at < $2::timestamptz)) AS ran",
        cell,
    )
    .await?;
    let (others, known, ours, ran): (Option<String>, bool, bool, i64) =
        (row.get("others"), row.get("known"), row.get("ours"), row.get("ran"));
    if !known && !ours && (ran > 0 || others.is_some()) {
        let others = others.map(|others| format!("; bills taken so far are of {others}")).unwrap_or_default();
        checks.refuse(Check::ForeignAccount, || {
            format!(
                "the report for {month} is of account {}, and names none of the {ran} machines of ours that ran then{others}",
                cell.source
            )
        })?;
    }
    Ok(())
}

/// A machine that was used for more than an hour in an hour.
async fn hours_twice(connection: &mut PgConnection, checks: &mut Checks) -> Result<(), ImportFault> {
    let row = sqlx::query(
        "SELECT instance, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') AS hour, round(used / 3600000.0, 2)::text AS used, count(*) OVER () AS hours
         FROM (SELECT instance, at, until, sum(used_ms) AS used, sum(lines) AS lines FROM new_line WHERE kind IN ('usage', 'commitment') AND instance <> ''
               GROUP BY instance, at, until) x
         WHERE used > extract(epoch FROM until - at) * 1000 + 1000 * (lines + 1) AND until > at ORDER BY at, instance LIMIT 1",
    );
    let Some(row) = row.fetch_optional(connection).await.map_err(LedgerFault::during("look for hours that came twice"))? else {
        return Ok(());
    };
    let (instance, hour, used, hours): (String, String, String, i64) =
        (row.get("instance"), row.get("hour"), row.get("used"), row.get("hours"));
    checks.refuse(Check::HoursTwice, || {
        let spans = in_all(hours, "spans");
        format!("{instance} is used for {used} hours in the span from {hour} UTC{spans}: these files contain hours twice")
    })
}

/// The same use on the bill of another payer.
async fn other_source(connection: &mut PgConnection, cell: &Cell, checks: &mut Checks) -> Result<(), ImportFault> {
    let row = one(
        connection,
        "SELECT max(other) AS other, count(*) AS instances FROM (
             SELECT n.instance, max(s.source) AS other
             FROM (SELECT DISTINCT instance FROM new_line WHERE kind IN ('usage', 'commitment') AND instance <> '') n
             JOIN ledger.billed_line l ON l.instance = n.instance AND l.source = 'bill' AND l.at >= $2::timestamptz AND l.at < $3::timestamptz
             JOIN ledger.statement s ON s.id = l.statement AND s.source NOT IN ($1, 'unknown')
             GROUP BY n.instance, l.kind, l.account, l.usage_type, l.operation, l.at, l.until HAVING sum(l.lines) > 0) x",
        cell,
    )
    .await?;
    if let Some(other) = row.get::<Option<String>, _>("other") {
        checks.refuse(Check::HoursTwice, || {
            format!("hours of these machines are already on the bill of {other}; retract that first (lowtide ledger retract)")
        })?;
    }
    Ok(())
}

/// Signs of age: its own date, an invoice that is gone, a report that reaches less far.
async fn older(connection: &mut PgConnection, month: &str, asked: Asked<'_>, holds: &Held, checks: &mut Checks) -> Result<(), ImportFault> {
    not_older(checks, month, asked.made_at, Some(holds))?;
    let dated = |text: Option<&str>| text.is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok());
    if dated(asked.made_at) && dated(holds.said_version.as_deref()) {
        return Ok(());
    }
    if holds.invoiced && !asked.invoiced {
        return checks.refuse(Check::OlderVersion, || {
            format!("version {} of {month}, which holds, is on an invoice, and this version is not: it is older", holds.version)
        });
    }
    let row = sqlx::query(
        "SELECT to_char(n AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') AS new, to_char(h AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') AS held, n < h AS earlier
         FROM (SELECT (SELECT max(until) FROM new_line WHERE instance <> '') AS n, (SELECT max(until) FROM held_line WHERE instance <> '') AS h) x",
    );
    let row = row.fetch_one(connection).await.map_err(LedgerFault::during("compare how far reports reach"))?;
    if row.get::<Option<bool>, _>("earlier") == Some(true) {
        let (new, held): (String, String) = (row.get("new"), row.get("held"));
        let what =
            format!("this version of {month} reaches to {new} UTC, but version {}, which holds, to {held}: it is older", holds.version);
        return checks.refuse(Check::OlderVersion, || what);
    }
    Ok(())
}

/// The kinds of lines that are posted, as a list for SQL: the others are no part of what our machines cost.
fn posted_kinds() -> String {
    let posted = [LineKind::Usage, LineKind::Commitment].into_iter().chain(BESIDE.map(LineKind::Beside)).map(LineKind::as_str);
    posted.chain([CARRIED]).map(|kind| format!("'{kind}'")).collect::<Vec<_>>().join(", ")
}

/// The same days in both versions: whatever of it is posted, so that a discount or a credit that takes everything off is seen too.
async fn amount(connection: &mut PgConnection, month: &str, holds: &Held, checks: &mut Checks) -> Result<(), ImportFault> {
    let ours = format!("kind IN ({}) AND EXISTS (SELECT FROM ledger.interval_opened o WHERE o.instance = l.instance)", posted_kinds());
    let row = sqlx::query(AssertSqlSafe(format!(
        "WITH upto AS (SELECT max(until) AS until FROM held_line WHERE instance <> ''), both_ AS (
             SELECT (SELECT coalesce(sum(cost), 0) FROM held_line l WHERE {ours}) AS held,
                    (SELECT coalesce(sum(cost), 0) FROM new_line l, upto WHERE at < upto.until AND {ours}) AS new)
         SELECT held::numeric(24,10)::text AS held, new::numeric(24,10)::text AS new, round(held, 2)::text AS held_usd, round(new, 2)::text AS new_usd FROM both_"
    )));
    let row = row.fetch_one(connection).await.map_err(LedgerFault::during("compare what versions add up to"))?;
    if much(&row.get::<String, _>("held"), &row.get::<String, _>("new")) {
        let (held, new): (String, String) = (row.get("held_usd"), row.get("new_usd"));
        checks.refuse(Check::AmountChanged, || {
            format!(
                "according to version {} our machines cost ${held} in {month}, according to this one ${new} for the same days",
                holds.version
            )
        })?;
    }
    Ok(())
}

/// A final bill on which machines of ours that ran in its month have no line at all: AWS says nothing of them, and never will on this bill. Asked where they cost more than
/// a dollar and a thousandth of the month together: a machine that was launched in the last minute of a month may be on the next bill alone. Those that another payer's
/// bill has are its own, and what the final version before lacked as well was asked then.
async fn missing_machines(
    connection: &mut PgConnection,
    cell: &Cell,
    month: &str,
    was_final: bool,
    checks: &mut Checks,
) -> Result<(), ImportFault> {
    let row = sqlx::query(
        "WITH posted AS (
             SELECT p.claim_uid, sum(p.cost_usd) AS usd FROM ledger.posting p
             WHERE p.at >= $2::timestamptz AND p.at < $3::timestamptz AND ledger.is_use(p.line) AND p.line <> 'egress' GROUP BY 1
         ), missing AS (
             SELECT o.instance, p.usd FROM posted p JOIN (SELECT DISTINCT claim_uid, instance FROM ledger.interval_opened) o USING (claim_uid)
             WHERE p.usd > 0
               AND NOT EXISTS (SELECT FROM new_line n WHERE n.instance = o.instance AND n.kind IN ('usage', 'commitment')
                               AND n.at < $3::timestamptz AND n.until > $2::timestamptz)
               AND NOT EXISTS (SELECT FROM ledger.billed_line l JOIN ledger.statement s ON s.id = l.statement
                               WHERE l.instance = o.instance AND l.source = 'bill' AND l.kind IN ('usage', 'commitment') AND s.source NOT IN ($1, 'unknown')
                                 AND l.at >= $2::timestamptz AND l.at < $3::timestamptz
                               GROUP BY l.kind, l.account, l.usage_type, l.operation, l.at, l.until HAVING sum(l.lines) > 0)
               AND (NOT $4 OR EXISTS (SELECT FROM held_line h WHERE h.instance = o.instance AND h.kind IN ('usage', 'commitment')))
         )
         SELECT count(*) AS machines, round(coalesce(sum(usd), 0), 2)::text AS usd, min(instance) AS first,
                coalesce(sum(usd), 0) > greatest(1, 0.001 * (SELECT sum(usd) FROM posted)) AS much
         FROM missing",
    );
    let row = row.bind(&cell.source).bind(cell.from.to_rfc3339()).bind(cell.until.to_rfc3339()).bind(was_final);
    let row = row.fetch_one(connection).await.map_err(LedgerFault::during("look for machines that are not on the bill"))?;
    if !row.get::<Option<bool>, _>("much").unwrap_or_default() {
        return Ok(());
    }
    let (machines, usd, first): (i64, String, String) = (row.get("machines"), row.get("usd"), row.get("first"));
    checks.refuse(Check::MissingMachines, || {
        let others = if machines > 1 { format!(" and {} more", machines - 1) } else { String::new() };
        format!(
            "the bill of {month} is final and has no line for the use of {first}{others}: {machines} of our machines, which cost ${usd} in that month by the books. Is it \
             complete, or is another payer's bill still to come? If it is accepted, their hours stay as computed and rest on no bill"
        )
    })
}

/// What the bill says that the use of our machines cost, discounts included, against what is posted for the same machines: of the whole month where the bill is
/// final, since the hours that it does not have will cost nothing, else of the time that it speaks of. Credits and refunds are no matter of use.
async fn against_the_books(
    connection: &mut PgConnection,
    cell: &Cell,
    month: &str,
    invoiced: bool,
    checks: &mut Checks,
) -> Result<(), ImportFault> {
    let beside = BESIDE.iter().chain(&[Line::Egress, Line::Overhead]).filter(|line| **line != Line::Discount);
    let beside = beside.map(|line| format!("'{}'", line.as_str())).collect::<Vec<_>>().join(", ");
    let row = sqlx::query(AssertSqlSafe(format!(
        "WITH billed AS (
             SELECT instance, sum(cost) AS cost, min(at) FILTER (WHERE kind <> 'discount') AS first, max(until) FILTER (WHERE kind <> 'discount') AS last
             FROM new_line WHERE instance <> '' AND kind IN ('usage', 'commitment', 'discount') AND at >= $1::timestamptz AND at < $2::timestamptz
             GROUP BY instance
         ), ours AS (
             SELECT o.claim_uid, b.first, b.last FROM (SELECT DISTINCT claim_uid, instance FROM ledger.interval_opened) o JOIN billed b USING (instance)
         ), both_ AS (
             SELECT (SELECT coalesce(sum(b.cost), 0) FROM billed b WHERE EXISTS (SELECT FROM ledger.interval_opened o WHERE o.instance = b.instance)) AS bill,
                    (SELECT coalesce(sum(p.cost_usd), 0) FROM ours o JOIN ledger.posting p ON p.claim_uid = o.claim_uid
                     WHERE p.at >= $1::timestamptz AND p.at < $2::timestamptz AND p.line NOT IN ({beside})
                       AND ($3 OR p.at >= o.first - interval '1 hour' AND p.at < o.last)) AS books)
         SELECT bill::numeric(24,10)::text AS bill, books::numeric(24,10)::text AS books, round(bill, 2)::text AS bill_usd, round(books, 2)::text AS books_usd
         FROM both_"
    )));
    let row = row.bind(cell.from.to_rfc3339()).bind(cell.until.to_rfc3339()).bind(invoiced).fetch_one(connection).await;
    let row = row.map_err(LedgerFault::during("compare the bill with the books"))?;
    if much(&row.get::<String, _>("books"), &row.get::<String, _>("bill")) {
        let (bill, books): (String, String) = (row.get("bill_usd"), row.get("books_usd"));
        checks.refuse(Check::AmountChanged, || {
            let days = if invoiced { "which is final" } else { "for the same days" };
            format!("the use of our machines costs ${books} in {month} by the books, and ${bill} by this bill, {days}: is it complete?")
        })?;
    }
    Ok(())
}
