//! Taking a Cost and Usage Report: versions of a payer's billing period, each of which replaces the one before whole.
//!
//! Decides: which files are versions of one another, what is refused, and the rows that carry the difference to the version that holds.
//! Does not: read a line (see [`super::cur`]), see what came twice (see [`super::once`]) or post (see [`crate::ledger::poster`]).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::bill_checks;
use super::checks::{Check, Checks, changed_much};
use super::cur::{REQUIRED, is_known_column, is_read, read_line};
use super::delivery::{Delivery, deliveries, newest_of};
use super::gateways;
use super::once::{self, Version, run};
use super::rates::Rates;
use super::reading::{ReadFile, content_of, each_line};
use super::staging::{Lines, Place, stage};
use super::statement::{self, Cell, Changes, Held, Kind, New, Outcome, held, id_of, next_version};
use super::{ImportFault, Options};
use crate::core::units::money::BilledUsd;
use crate::core::units::time::Timestamp;
use crate::ledger::store::{LedgerFault, ensure_month};
use crate::ledger::turns::{self, Turn};

/// Takes reports in a transaction of the caller's: all of them or none.
///
/// # Errors
/// [`ImportFault`]; then the transaction must be rolled back.
pub(super) async fn take(connection: &mut PgConnection, paths: &[PathBuf], options: &mut Options) -> Result<Vec<Outcome>, ImportFault> {
    turns::take(connection, Turn::Import).await?;
    let found = deliveries(paths, options.complete)?;
    let (rates, checks) = (options.rates.clone(), options.checks.clone());
    let (versions, checks) = stage(connection, move |lines| read_all(found, &rates, checks, lines)).await?;
    options.checks = checks;
    once::each_line(connection, &versions, &mut options.checks).await?;
    let mut outcomes = Vec::new();
    for (payer, period) in periods(connection).await? {
        let version = newest(connection, &versions, (&payer, &period), &mut options.checks).await?;
        outcomes.push(take_period(connection, version, &payer, &period, &mut options.checks).await?);
    }
    if outcomes.is_empty() {
        return Err(ImportFault::Incomplete("these files have no lines".into()));
    }
    Ok(outcomes)
}

fn read_all(found: Vec<Delivery>, rates: &Rates, mut checks: Checks, lines: &mut Lines) -> Result<(Vec<Version>, Checks), ImportFault> {
    let (mut versions, mut number, mut seen) = (Vec::new(), 0_i32, BTreeSet::new());
    for delivery in found {
        let mut files = Vec::new();
        for path in &delivery.files {
            number += 1;
            // The same file by two names, or packed and plain, is once.
            if seen.insert(content_of(path)?) {
                files.push((number, read_file(path, usize::try_from(number).unwrap_or_default(), rates, &mut checks, lines)?));
            }
        }
        versions.push(Version { delivery, files });
    }
    Ok((versions, checks))
}

fn read_file(path: &Path, number: usize, rates: &Rates, checks: &mut Checks, lines: &mut Lines) -> Result<ReadFile, ImportFault> {
    let mut looked_at_header = false;
    each_line(path, &REQUIRED, is_read, |line| {
        if !looked_at_header {
            looked_at_header = true;
            let unknown: Vec<&str> = line.header.names().filter(|name| !is_known_column(name)).collect();
            if !unknown.is_empty() {
                checks.refuse(Check::UnknownColumns, || {
                    format!("{}: a Cost and Usage Report has no columns {}", path.display(), unknown.join(", "))
                })?;
            }
        }
        let read = read_line(line, rates, checks)?;
        let said = read.line_id.is_empty().then(|| line.hashed().cast_signed());
        lines.add(Place { file: number, part: line.part, said }, &read);
        Ok(())
    })
}

/// Payers and billing periods of the staged lines.
async fn periods(connection: &mut PgConnection) -> Result<Vec<(String, String)>, LedgerFault> {
    let rows = sqlx::query("SELECT DISTINCT payer, period::text AS period FROM staged_line ORDER BY period, payer");
    let rows = rows.fetch_all(connection).await.map_err(LedgerFault::during("find the periods"))?;
    Ok(rows.iter().map(|row| (row.get("payer"), row.get("period"))).collect())
}

/// Of several versions of one period the newest; the lines of the others are put away.
async fn newest<'a>(
    connection: &mut PgConnection,
    versions: &'a [Version],
    (payer, period): (&str, &str),
    checks: &mut Checks,
) -> Result<&'a Version, ImportFault> {
    let rows = sqlx::query(
        "SELECT DISTINCT v.version FROM staged_line s JOIN staged_version v USING (file) WHERE payer = $1 AND period = $2::date",
    )
    .bind(payer)
    .bind(period)
    .fetch_all(&mut *connection)
    .await
    .map_err(LedgerFault::during("find the versions of a period"))?;
    let there: BTreeSet<usize> = rows.iter().filter_map(|row| usize::try_from(row.get::<i32, _>("version")).ok()).collect();
    let of_period: Vec<(usize, &Version)> = there.iter().filter_map(|n| Some((*n, versions.get(*n)?))).collect();
    let deliveries: Vec<&Delivery> = of_period.iter().map(|(_, version)| &version.delivery).collect();
    let newest = match newest_of(&deliveries) {
        Some(newest) => of_period.iter().find(|(_, version)| std::ptr::eq(&raw const version.delivery, newest)).copied(),
        None => {
            let names: Vec<&str> = deliveries.iter().filter_map(|delivery| delivery.name.as_deref()).collect();
            checks.refuse(Check::OlderVersion, || {
                let month = period.get(..7).unwrap_or(period);
                format!("{} are versions of {month}, and nothing says which is the newest: give one of them", names.join(" and "))
            })?;
            of_period.iter().max_by_key(|(_, version)| version.delivery.age()).copied()
        }
    };
    let (n, version) = newest.ok_or_else(|| ImportFault::Incomplete("no file has lines of the period".into()))?;
    sqlx::query(
        "DELETE FROM staged_line s USING staged_version v WHERE v.file = s.file AND v.version <> $3 AND payer = $1 AND period = $2::date",
    )
    .bind(payer)
    .bind(period)
    .bind(i32::try_from(n).unwrap_or_default())
    .execute(connection)
    .await
    .map_err(LedgerFault::during("put the older versions away"))?;
    Ok(version)
}

/// Sums of the new lines by what makes lines one. Lines that name no machine are summed over the period, by account and service.
const NEW_LINES: &str = "CREATE TEMPORARY TABLE new_line ON COMMIT DROP AS
    SELECT kind, account, instance, usage_type, operation, at, until, service, sum(cost) AS cost, sum(used_ms)::bigint AS used_ms,
           sum(on_demand) AS on_demand, count(*)::integer AS lines
    FROM (SELECT kind, account, instance, CASE instance WHEN '' THEN '' ELSE usage_type END AS usage_type,
                 CASE instance WHEN '' THEN '' ELSE operation END AS operation,
                 CASE instance WHEN '' THEN $2::date::timestamp AT TIME ZONE 'UTC' ELSE at END AS at,
                 CASE instance WHEN '' THEN ($2::date + interval '1 month') AT TIME ZONE 'UTC' ELSE until END AS until,
                 CASE instance WHEN '' THEN service ELSE '' END AS service, cost, used_ms, on_demand
          FROM staged_line WHERE payer = $1 AND period = $2::date AND kind <> 'moved') s
    GROUP BY kind, account, instance, usage_type, operation, at, until, service";

/// What holds of the period, of this payer or from before payers were known.
const HELD_LINES: &str = "CREATE TEMPORARY TABLE held_line ON COMMIT DROP AS
    SELECT l.kind, l.account, l.instance, l.usage_type, l.operation, l.at, l.until, coalesce(l.service, '') AS service, sum(l.cost_usd) AS cost,
           sum(l.used_ms)::bigint AS used_ms, sum(l.public_on_demand_usd) AS on_demand, sum(l.lines)::integer AS lines
    FROM ledger.billed_line l JOIN ledger.statement s ON s.id = l.statement
    WHERE s.kind = 'bill' AND s.at = $2::date::timestamp AT TIME ZONE 'UTC' AND s.source IN ($1, 'unknown')
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8 HAVING sum(l.lines) > 0";

const DIFFERENCE: &str = "CREATE TEMPORARY TABLE difference ON COMMIT DROP AS
    SELECT kind, account, instance, usage_type, operation, at, until, service, coalesce(n.cost, 0) - coalesce(h.cost, 0) AS cost,
           CASE WHEN n.used_ms IS NOT NULL OR h.used_ms IS NOT NULL THEN coalesce(n.used_ms, 0) - coalesce(h.used_ms, 0) END AS used_ms,
           CASE WHEN n.on_demand IS NOT NULL OR h.on_demand IS NOT NULL THEN coalesce(n.on_demand, 0) - coalesce(h.on_demand, 0) END AS on_demand,
           coalesce(n.lines, 0) - coalesce(h.lines, 0) AS lines, h.lines IS NULL AS is_new, n.lines IS NULL AS is_gone
    FROM new_line n FULL JOIN held_line h USING (kind, account, instance, usage_type, operation, at, until, service)
    WHERE (n.cost, n.used_ms, n.on_demand, n.lines) IS DISTINCT FROM (h.cost, h.used_ms, h.on_demand, h.lines)";

const CLEAR: &str = "DROP TABLE new_line, held_line, difference";

const ADD: &str = "INSERT INTO ledger.billed_line (id, at, source, kind, account, instance, usage_type, operation, until, revision, cost_usd, used_ms,
                                                   public_on_demand_usd, statement, lines, service)
    SELECT md5(concat_ws(E'\\x01', $1::text, kind, account, instance, usage_type, operation, ledger.ms(at), ledger.ms(until), service))::uuid, at, 'bill', kind,
           account, instance, usage_type, operation, until, $2, cost, used_ms, on_demand, $1::uuid, lines, nullif(service, '')
    FROM difference";

async fn take_period(
    connection: &mut PgConnection,
    version: &Version,
    payer: &str,
    period: &str,
    checks: &mut Checks,
) -> Result<Outcome, ImportFault> {
    let doing = LedgerFault::during;
    let cell = cell_of(payer, period)?;
    let files: Vec<ReadFile> = version.files.iter().map(|(_, file)| file.clone()).collect();
    let holds = held(connection, &cell).await?;
    // The same files may say something else than they did: with other rates, or once a machine of theirs is known.
    run(connection, "find the machines of tagged resources",
        "UPDATE staged_line s SET instance = o.instance FROM ledger.interval_opened o WHERE s.instance = '' AND s.claim_uid <> '' AND o.claim_uid = s.claim_uid").await?;
    let invoices = invoices(connection, payer, period).await?;
    gateways::split(connection, payer, period).await?;
    for (what, sql) in [("sum the new lines", NEW_LINES), ("read the lines that hold", HELD_LINES)] {
        let made = sqlx::query(AssertSqlSafe(sql)).bind(payer).bind(period).execute(&mut *connection).await;
        made.map_err(doing(what))?;
    }
    statement::refuse_what_has_not_begun(connection, &cell, checks).await?;
    let invoiced = invoiced(connection, payer, period).await?;
    let asked = bill_checks::Asked { made_at: version.delivery.made_at.as_deref(), invoiced, holds: holds.as_ref() };
    bill_checks::look(connection, &cell, asked, checks).await?;
    run(connection, "find what differs", DIFFERENCE).await?;
    let changes = changes(connection).await?;
    // What was taken before invoices were added up says the same without them.
    let as_invoiced = |holds: &Held| holds.invoiced == invoiced && (holds.invoices.is_none() || holds.invoices == invoices);
    if let Some(holds) = holds.as_ref().filter(|holds| as_invoiced(holds) && changes == Changes::default()) {
        run(connection, "clear up", CLEAR).await?;
        return Ok(Outcome { cell, id: holds.id, version: holds.version, changes, same: true });
    }
    statement::refuse_what_was_replaced(connection, (&cell, &files), holds.as_ref(), checks).await?;
    let new = New {
        cell: &cell,
        said_version: version.delivery.made_at.clone().or_else(|| version.delivery.name.clone()),
        files: &files,
        lines: files.iter().map(|file| i64::try_from(file.lines).unwrap_or(i64::MAX)).sum(),
        total: total(connection).await?,
        invoiced,
        invoices,
    };
    let number = next_version(connection, &cell).await?;
    for month in months(connection).await? {
        ensure_month(connection, &month).await?;
    }
    let id = statement::record(connection, &new, number, checks).await?;
    sqlx::query(ADD).bind(id_of(&cell, number)).bind(number).execute(&mut *connection).await.map_err(doing("add the differences"))?;
    queue_when_invoiced(connection, holds.as_ref().is_some_and(|holds| holds.invoiced) != new.invoiced).await?;
    run(connection, "clear up", CLEAR).await?;
    Ok(Outcome { cell, id, version: number, changes, same: false })
}

/// An invoice changes what the hours cost that no line covers: every machine on the bill is news.
async fn queue_when_invoiced(connection: &mut PgConnection, changed: bool) -> Result<(), LedgerFault> {
    if changed {
        let sql = "SELECT ledger.queue_instances(array_agg(DISTINCT instance)) FROM new_line WHERE instance LIKE 'i-%'";
        sqlx::query(sql).execute(connection).await.map_err(LedgerFault::during("queue the machines of the invoice"))?;
    }
    Ok(())
}

fn cell_of(payer: &str, period: &str) -> Result<Cell, ImportFault> {
    let first: jiff::civil::Date =
        period.parse().map_err(|_| ImportFault::Incomplete(format!("the billing period {period} is no month")))?;
    let day = |date: jiff::civil::Date| Timestamp::from_date(i64::from(date.year()), i64::from(date.month()), i64::from(date.day()));
    let next = first.checked_add(jiff::Span::new().months(1)).unwrap_or(first);
    Ok(Cell { kind: Kind::Bill, source: payer.to_owned(), from: day(first), until: day(next) })
}

async fn total(connection: &mut PgConnection) -> Result<BilledUsd, ImportFault> {
    let row = sqlx::query("SELECT coalesce(sum(cost), 0)::numeric(24,10)::text AS total FROM new_line");
    let row = row.fetch_one(connection).await.map_err(LedgerFault::during("add up the report"))?;
    let text: String = row.get("total");
    text.parse().map_err(|_| ImportFault::Incomplete(format!("the report adds up to {text}, which cannot be kept")))
}

/// All lines that name a machine of the period belong to an invoice; of a payer without machines, all lines.
async fn invoiced(connection: &mut PgConnection, payer: &str, period: &str) -> Result<bool, LedgerFault> {
    let row = sqlx::query(
        "SELECT coalesce(bool_and(invoice IS NOT NULL) FILTER (WHERE instance <> ''), bool_and(invoice IS NOT NULL), false) AS invoiced
         FROM staged_line WHERE payer = $1 AND period = $2::date",
    )
    .bind(payer)
    .bind(period);
    Ok(row.fetch_one(connection).await.map_err(LedgerFault::during("look for the invoice"))?.get("invoiced"))
}

/// What each invoice charges, and what is on none yet: before gateways are split, as the lines came.
async fn invoices(connection: &mut PgConnection, payer: &str, period: &str) -> Result<Option<serde_json::Value>, LedgerFault> {
    let sql =
        "SELECT jsonb_agg(jsonb_build_object('invoice', invoice, 'currency', currency, 'charged', charged) ORDER BY invoice, currency)
               FROM (SELECT coalesce(invoice, '') AS invoice, currency, trim_scale(sum(charged)) AS charged
                     FROM staged_line WHERE payer = $1 AND period = $2::date AND charged IS NOT NULL GROUP BY 1, 2) i";
    let query = sqlx::query_scalar(sql).bind(payer).bind(period);
    query.fetch_one(connection).await.map_err(LedgerFault::during("add up the invoices"))
}

async fn months(connection: &mut PgConnection) -> Result<Vec<String>, LedgerFault> {
    let rows = sqlx::query("SELECT DISTINCT date_trunc('month', at AT TIME ZONE 'UTC')::date::text AS month FROM difference");
    let rows = rows.fetch_all(connection).await.map_err(LedgerFault::during("find the months"))?;
    Ok(rows.iter().map(|row| row.get("month")).collect())
}

async fn changes(connection: &mut PgConnection) -> Result<Changes, LedgerFault> {
    let row = sqlx::query(
        "SELECT count(*) FILTER (WHERE is_new) AS new, count(*) FILTER (WHERE NOT is_new AND NOT is_gone) AS changed, count(*) FILTER (WHERE is_gone) AS gone
         FROM difference",
    );
    let row = row.fetch_one(connection).await.map_err(LedgerFault::during("count the differences"))?;
    let count = |name: &str| usize::try_from(row.get::<i64, _>(name)).unwrap_or_default();
    Ok(Changes { new: count("new"), changed: count("changed"), gone: count("gone") })
}

/// Whether the same days changed by half; see [`super::bill_checks`].
pub(super) fn much(before: &str, now: &str) -> bool {
    match (before.parse::<BilledUsd>(), now.parse::<BilledUsd>()) {
        (Ok(before), Ok(now)) => changed_much(before, now),
        _ => false,
    }
}
