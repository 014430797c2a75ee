//! The spot data feed: tab-separated, one line per instance-hour.
//!
//! Decides: how its lines are read, and that each is a period of its own: AWS writes an hour once, in files of their own and in whatever order, and not again.
//! Source: EC2 user guide, "Track your Spot Instance costs using the Spot Instance data feed". AWS does not write it for opt-in regions, and
//! some hours after the fact.

use std::collections::BTreeSet;
use std::io::{BufRead, Read as _};
use std::path::{Path, PathBuf};

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::checks::{Check, Checks};
use super::cur::{Charged, CurLine};
use super::delivery::files_of;
use super::entries::{not_much_changed, reasonable};
use super::reading::{MOST_LINE, ReadFile, content_of, malformed, name_of, sha256_of, while_reading, with_text};
use super::staging::{Lines, Place, stage};
use super::statement::{self, Cell, Changes, Kind, New, Outcome, digest_of, id_of, next_version};
use super::table::{Header, Line};
use super::{ImportFault, Options};
use crate::core::units::money::BilledUsd;
use crate::core::units::time::{Millis, Timestamp};
use crate::ledger::store::{LedgerFault, ensure_month};
use crate::ledger::turns::{self, Turn};

const HOUR_MS: i128 = 3_600_000;
/// The fields that AWS documents.
const KNOWN: [&str; 9] =
    ["timestamp", "usage_type", "operation", "instance_id", "my_bid_id", "my_max_price", "market_price", "charge", "version"];

/// Takes files of the feed in a transaction of the caller's. The files of one command are one statement.
///
/// # Errors
/// [`ImportFault`]; then the transaction must be rolled back.
pub(super) async fn take(connection: &mut PgConnection, paths: &[PathBuf], options: &mut Options) -> Result<Vec<Outcome>, ImportFault> {
    turns::take(connection, Turn::Import).await?;
    let paths = files_of(paths)?;
    let names: Vec<String> = paths.iter().map(|path| name_of(path)).collect();
    let checks = options.checks.clone();
    let (files, checks) = stage(connection, move |lines| read_all(&paths, checks, lines)).await?;
    options.checks = checks;
    let Some(cell) = cell(connection, &files).await? else {
        // AWS writes a file without lines for an hour without machines.
        return Ok(Vec::new());
    };
    if let Some((id, version)) = taken_before(connection, &cell, &files).await? {
        return Ok(vec![Outcome { cell, id, version, changes: Changes::default(), same: true }]);
    }
    statement::refuse_what_has_not_begun(connection, &cell, &mut options.checks).await?;
    foreign_account(connection, &cell, &mut options.checks).await?;
    once(connection, &mut options.checks).await?;
    run(connection, DIFFERENCE).await?;
    nothing_older(connection, &names, &mut options.checks).await?;
    near_the_books(connection, &cell, &mut options.checks).await?;
    let changes = changes(connection).await?;
    let number = next_version(connection, &cell).await?;
    let total =
        sqlx::query("SELECT coalesce(sum(cost), 0)::numeric(24,10)::text AS total FROM staged_line").fetch_one(&mut *connection).await;
    let total: String = total.map_err(LedgerFault::during("add up the feed"))?.get("total");
    let new = New {
        cell: &cell,
        said_version: None,
        files: &files,
        lines: files.iter().map(|file| i64::try_from(file.lines).unwrap_or(i64::MAX)).sum(),
        total: total.parse().unwrap_or_default(),
        invoiced: false,
        invoices: None,
    };
    let months = sqlx::query("SELECT DISTINCT date_trunc('month', at AT TIME ZONE 'UTC')::date::text AS month FROM difference");
    for month in months.fetch_all(&mut *connection).await.map_err(LedgerFault::during("find the months"))? {
        ensure_month(connection, &month.get::<String, _>("month")).await?;
    }
    statement::record(connection, &new, number, &options.checks).await?;
    let id = id_of(&cell, number);
    let added = sqlx::query(ADD).bind(id).bind(number).execute(connection).await;
    added.map_err(LedgerFault::during("add the differences"))?;
    Ok(vec![Outcome { cell, id, version: number, changes, same: false }])
}

const DIFFERENCE: &str = "CREATE TEMPORARY TABLE difference ON COMMIT DROP AS
    SELECT n.instance, n.usage_type, n.operation, n.at, n.until, n.cost - coalesce(h.cost, 0) AS cost,
           CASE WHEN n.used_ms IS NOT NULL OR h.used_ms IS NOT NULL THEN coalesce(n.used_ms, 0) - coalesce(h.used_ms, 0) END AS used_ms,
           1 - coalesce(h.lines, 0) AS lines, h.lines IS NULL AS is_new, n.file
    FROM staged_line n LEFT JOIN LATERAL (
        SELECT sum(l.cost_usd) AS cost, sum(l.used_ms)::bigint AS used_ms, sum(l.lines)::integer AS lines FROM ledger.billed_line l
        WHERE l.source = 'feed' AND l.statement IS NOT NULL AND l.instance = n.instance AND l.usage_type = n.usage_type AND l.operation = n.operation
          AND l.at = n.at AND l.until = n.until HAVING sum(l.lines) > 0) h ON true
    WHERE (n.cost, n.used_ms, 1) IS DISTINCT FROM (h.cost, h.used_ms, h.lines)";

const ADD: &str = "INSERT INTO ledger.billed_line (id, at, source, kind, account, instance, usage_type, operation, until, revision, cost_usd, used_ms, statement, lines)
    SELECT md5(concat_ws(E'\\x01', $1::text, instance, usage_type, operation, ledger.ms(at)))::uuid, at, 'feed', 'usage', '', instance, usage_type, operation, until,
           $2, cost, used_ms, $1::uuid, lines
    FROM difference";

async fn run(connection: &mut PgConnection, sql: &'static str) -> Result<(), LedgerFault> {
    sqlx::query(AssertSqlSafe(sql)).execute(connection).await.map_err(LedgerFault::during("compare the feed with what holds"))?;
    Ok(())
}

/// The account that the files' names begin with, and the time that their lines span.
async fn cell(connection: &mut PgConnection, files: &[ReadFile]) -> Result<Option<Cell>, LedgerFault> {
    let row = sqlx::query("SELECT ledger.ms(min(at)) AS first, ledger.ms(max(until)) AS last FROM staged_line");
    let row = row.fetch_one(connection).await.map_err(LedgerFault::during("find the span of the feed"))?;
    let account = |file: &ReadFile| {
        file.name.split('.').next().filter(|name| name.len() == 12 && name.bytes().all(|b| b.is_ascii_digit())).map(str::to_owned)
    };
    let accounts: BTreeSet<String> = files.iter().filter_map(account).collect();
    let source = if accounts.is_empty() { "feed".to_owned() } else { accounts.into_iter().collect::<Vec<_>>().join(" ") };
    let (Some(first), Some(last)) = (row.get::<Option<i64>, _>("first"), row.get::<Option<i64>, _>("last")) else { return Ok(None) };
    Ok(Some(Cell { kind: Kind::Feed, source, from: Timestamp(first), until: Timestamp(last) }))
}

/// A version of the same files that still holds.
async fn taken_before(connection: &mut PgConnection, cell: &Cell, files: &[ReadFile]) -> Result<Option<(uuid::Uuid, i32)>, LedgerFault> {
    let row = sqlx::query(
        "SELECT id, version FROM ledger.statement s WHERE kind = 'feed' AND source = $1 AND digest = $2
           AND NOT EXISTS (SELECT FROM ledger.statement r WHERE r.retracts = s.id) LIMIT 1",
    )
    .bind(&cell.source)
    .bind(digest_of(files));
    let row = row.fetch_optional(connection).await.map_err(LedgerFault::during("look for the same files"))?;
    Ok(row.map(|row| (row.get("id"), row.get("version"))))
}

/// A feed that names no machine of ours although some ran in its time.
async fn foreign_account(connection: &mut PgConnection, cell: &Cell, checks: &mut Checks) -> Result<(), ImportFault> {
    let row = sqlx::query(
        "SELECT EXISTS (SELECT FROM staged_line n JOIN ledger.interval_opened o ON o.instance = n.instance) AS ours,
                (SELECT count(DISTINCT o.claim_uid) FROM ledger.interval_opened o
                 WHERE o.capacity_type = 'spot' AND o.at < $2::timestamptz AND o.at >= $1::timestamptz - interval '31 days'
                   AND NOT EXISTS (SELECT FROM ledger.interval_closed c WHERE c.claim_uid = o.claim_uid AND c.at < $1::timestamptz)) AS ran",
    );
    let row = row.bind(cell.from.to_rfc3339()).bind(cell.until.to_rfc3339()).fetch_one(connection).await;
    let row = row.map_err(LedgerFault::during("look for machines of ours"))?;
    let (ours, ran): (bool, i64) = (row.get("ours"), row.get("ran"));
    if ours || ran == 0 {
        return Ok(());
    }
    checks.refuse(Check::ForeignAccount, || {
        format!("the feed of {} names none of the {ran} spot machines of ours that ran in its time: is it of another account?", cell.source)
    })
}

/// An hour that comes twice is one when both say the same, and refused when not.
async fn once(connection: &mut PgConnection, checks: &mut Checks) -> Result<(), ImportFault> {
    let row = sqlx::query(
        "SELECT instance, to_char(min(at) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS hour FROM staged_line
         GROUP BY instance, usage_type, operation, at HAVING count(DISTINCT cost) > 1 ORDER BY 2, 1 LIMIT 1",
    );
    if let Some(row) = row.fetch_optional(&mut *connection).await.map_err(LedgerFault::during("look for hours that came twice"))? {
        let (instance, hour): (String, String) = (row.get("instance"), row.get("hour"));
        checks.refuse(Check::HoursTwice, || format!("the hour of {instance} from {hour} UTC appears twice with different charges"))?;
    }
    let once = "DELETE FROM staged_line WHERE ctid IN (SELECT ctid FROM (
                    SELECT ctid, row_number() OVER (PARTITION BY instance, usage_type, operation, at ORDER BY file DESC) AS n FROM staged_line) x WHERE n > 1)";
    run(connection, once).await?;
    Ok(())
}

/// The hour and the version that AWS writes into a file's name, as `2026-07-20-14` and `001` of `111122223333.2026-07-20-14.001.b959dbc6.gz`.
fn said_by_name(name: &str) -> Option<(&str, &str)> {
    let parts: Vec<&str> = name.split('.').collect();
    let is_hour = |part: &str| {
        part.len() == 13 && part.bytes().enumerate().all(|(n, b)| if matches!(n, 4 | 7 | 10) { b == b'-' } else { b.is_ascii_digit() })
    };
    let is_number = |part: &str| part.len() == 3 && part.bytes().all(|b| b.is_ascii_digit());
    parts.windows(2).find_map(|pair| match pair {
        [hour, number] if is_hour(hour) && is_number(number) => Some((*hour, *number)),
        _ => None,
    })
}

/// Whether a file is older than those that an hour was taken from: an earlier version of one of them, or of an hour before all of theirs.
fn is_older(name: &str, held: &[&str]) -> bool {
    let Some((hour, number)) = said_by_name(name) else { return false };
    let held: Vec<(&str, &str)> = held.iter().filter_map(|name| said_by_name(name)).collect();
    let of_hour = || held.iter().filter(|(of, _)| *of == hour).map(|(_, number)| *number);
    match of_hour().max() {
        Some(newest) => number < newest,
        None => !held.is_empty() && held.iter().all(|(of, _)| hour < *of),
    }
}

/// Refuses hours that a newer file has said otherwise, by the names that AWS gives its files.
async fn nothing_older(connection: &mut PgConnection, names: &[String], checks: &mut Checks) -> Result<(), ImportFault> {
    let rows = sqlx::query(
        "SELECT DISTINCT d.file::bigint AS file, s.version, ARRAY(SELECT f ->> 'name' FROM jsonb_array_elements(s.files) f) AS names
         FROM difference d JOIN ledger.billed_line l ON l.source = 'feed' AND l.statement IS NOT NULL AND l.instance = d.instance AND l.usage_type = d.usage_type
              AND l.operation = d.operation AND l.at = d.at AND l.until = d.until
         JOIN ledger.statement s ON s.id = l.statement AND s.retracts IS NULL
         WHERE NOT d.is_new AND NOT EXISTS (SELECT FROM ledger.statement r WHERE r.retracts = s.id) ORDER BY 1, 2",
    );
    for row in rows.fetch_all(connection).await.map_err(LedgerFault::during("look for newer files of the feed"))? {
        let held: Vec<String> = row.get("names");
        let held: Vec<&str> = held.iter().map(String::as_str).collect();
        let name = usize::try_from(row.get::<i64, _>("file")).ok().and_then(|file| names.get(file)).map_or("", String::as_str);
        if is_older(name, &held) {
            let (version, newer) = (row.get::<i32, _>("version"), held.last().copied().unwrap_or_default());
            checks.refuse(Check::OlderVersion, || {
                format!("{name} has other charges for hours that version {version} took from a newer file ({newer}): is there a newer one of these hours?")
            })?;
        }
    }
    Ok(())
}

/// Refuses a feed whose charges for our machines are less than half of what the books have of the same instance-hours, or more than half as much again.
async fn near_the_books(connection: &mut PgConnection, cell: &Cell, checks: &mut Checks) -> Result<(), ImportFault> {
    let row = sqlx::query(
        "WITH said AS (
             SELECT o.claim_uid, round(extract(epoch FROM n.at - o.at) / 3600)::integer AS hour, sum(n.cost) AS cost
             FROM staged_line n JOIN ledger.interval_opened o ON o.instance = n.instance GROUP BY 1, 2
         )
         SELECT coalesce(sum(s.cost), 0)::numeric(24,10)::text AS said, coalesce(sum(b.cost), 0)::numeric(24,10)::text AS books
         FROM said s JOIN LATERAL (SELECT sum(p.cost_usd) AS cost FROM ledger.posting p
                                   WHERE p.claim_uid = s.claim_uid AND p.hour = s.hour AND ledger.is_use(p.line) AND p.line <> 'egress' HAVING count(*) > 0) b ON true",
    );
    let row = row.fetch_one(connection).await.map_err(LedgerFault::during("compare the feed with the books"))?;
    let of = |name: &str| row.get::<String, _>(name).parse::<BilledUsd>().map(|amount| amount.0).unwrap_or_default();
    let period = format!("{} to {}", cell.from.to_date(), cell.until.to_date());
    not_much_changed(checks, &period, "what our machines cost by the feed, against the books,", of("books"), of("said"))
}

async fn changes(connection: &mut PgConnection) -> Result<Changes, LedgerFault> {
    let row = sqlx::query("SELECT count(*) FILTER (WHERE is_new) AS new, count(*) FILTER (WHERE NOT is_new) AS changed FROM difference");
    let row = row.fetch_one(connection).await.map_err(LedgerFault::during("count the differences"))?;
    let count = |name: &str| usize::try_from(row.get::<i64, _>(name)).unwrap_or_default();
    Ok(Changes { new: count("new"), changed: count("changed"), gone: 0 })
}

fn read_all(paths: &[PathBuf], mut checks: Checks, lines: &mut Lines) -> Result<(Vec<ReadFile>, Checks), ImportFault> {
    let (mut files, mut seen) = (Vec::new(), BTreeSet::new());
    for (n, path) in paths.iter().enumerate() {
        if !seen.insert(content_of(path)?) {
            continue;
        }
        let sha256 = sha256_of(path)?;
        let mut count = 0;
        with_text(path, |text| {
            read(path, text, &mut checks, |line| {
                count += 1;
                lines.add(Place { file: n, part: 0, said: None }, &line);
            })
        })?;
        files.push(ReadFile { name: name_of(path), sha256, lines: count });
    }
    Ok((files, checks))
}

fn read(path: &Path, text: &mut dyn BufRead, checks: &mut Checks, mut each: impl FnMut(CurLine)) -> Result<(), ImportFault> {
    let (mut header, mut buffer, mut number) = (None, String::new(), 0_u64);
    loop {
        buffer.clear();
        number += 1;
        let read = (&mut *text).take(MOST_LINE as u64).read_line(&mut buffer).map_err(|cause| while_reading(path, number, &cause))?;
        if read == MOST_LINE && !buffer.ends_with('\n') {
            return Err(while_reading(path, number, &std::io::ErrorKind::FileTooLarge.into()));
        }
        if read == 0 {
            break;
        }
        let line = buffer.trim_end_matches(['\n', '\r']);
        if let Some(fields) = line.strip_prefix("#Fields:") {
            let found = Header::new(fields.split_whitespace());
            found.require(path, number, &["timestamp", "usage_type", "operation", "instance_id", "market_price", "charge"])?;
            found.refuse_unknown(path, &KNOWN, checks)?;
            header = Some(found);
        } else if !line.starts_with('#') && !line.trim().is_empty() {
            let Some(header) = &header else {
                let fault = "expected a line `#Fields: Timestamp UsageType Operation InstanceID ...` before the first data".into();
                return Err(malformed(path, number, fault));
            };
            let values: Vec<&str> = line.split('\t').collect();
            each(read_line(&Line { path, number, part: 0, header, values: &values }, checks)?);
        }
    }
    if header.is_none() {
        return Err(malformed(path, 1, "expected a spot data feed, whose header begins with #Version and #Fields".into()));
    }
    Ok(())
}

fn read_line(line: &Line, checks: &mut Checks) -> Result<CurLine, ImportFault> {
    let from = line.time("timestamp")?;
    let (price, charge) = (line.usd("market_price")?, line.usd("charge")?);
    reasonable(checks, charge, || line.fault("charge", &charge.to_string(), "at most $10,000,000 for an hour"))?;
    let expected = "an instance id, as in i-0123456789abcdef0";
    let instance = line.need("instance_id", expected)?;
    if !instance.starts_with("i-") {
        return Err(line.fault("instance_id", instance, expected));
    }
    Ok(CurLine {
        line_id: String::new(),
        payer: String::new(),
        period: "1970-01-01".into(),
        kind: "usage",
        account: String::new(),
        instance: instance.to_owned(),
        claim_uid: String::new(),
        gateway: None,
        usage_type: line.get("usage_type").unwrap_or_default().to_owned(),
        operation: line.get("operation").unwrap_or_default().to_owned(),
        service: String::new(),
        from,
        to: from + Millis::from_hours(1),
        cost: charge,
        discount: BilledUsd(0),
        used: used(price, charge),
        public_on_demand: None,
        invoice: String::new(),
        charged: Charged::default(),
    })
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

    fn taken(text: &str) -> Result<Vec<CurLine>, String> {
        let mut lines = Vec::new();
        read(Path::new("feed"), &mut text.as_bytes(), &mut Checks::default(), |line| lines.push(line))
            .map_err(|fault| fault.to_string())?;
        Ok(lines)
    }

    #[test]
    fn lines_are_read_with_their_billed_time() {
        let lines = taken(FEED).unwrap();
        let lines: Vec<_> = lines.iter().map(|line| (line.from.to_rfc3339(), line.cost.to_string(), line.used.unwrap().0)).collect();
        assert_eq!(
            lines,
            [
                ("2026-07-20T07:13:47.000Z".to_owned(), "0.0913000000".to_owned(), 3_600_000),
                ("2026-07-20T08:13:47.000Z".to_owned(), "0.0304333333".to_owned(), 1_200_000)
            ]
        );
    }

    #[test]
    fn a_file_is_older_than_a_later_version_of_its_hour_and_than_files_of_later_hours() {
        let file = |hour: &str, number: u32| format!("111122223333.2026-07-20-{hour}.{number:03}.b959dbc6.gz");
        let older = |name: &str, held: &[&str]| is_older(name, held);
        assert!(older(&file("14", 1), &[&file("14", 2)]) && !older(&file("14", 2), &[&file("14", 1)]));
        assert!(older(&file("14", 9), &[&file("15", 1)]) && !older(&file("14", 9), &[&file("13", 1), &file("15", 1)]));
        assert!(!older(&file("14", 2), &[&file("14", 1), &file("15", 1)]), "another hour of that command says nothing of this one");
        assert!(!older("feed.gz", &[&file("14", 2)]) && !older(&file("14", 1), &["feed.gz"]), "without AWS's names nobody knows");
    }

    #[test]
    fn what_is_no_feed_is_refused_where_it_is_wrong() {
        for (text, said) in [
            ("", "line 1: expected a spot data feed"),
            ("a,b\n1,2\n", "line 1: expected a line `#Fields:"),
            (&FEED.replace("MarketPrice ", ""), "line 2: expected the columns"),
            (&FEED.replace("0.0304333333 USD", "99000000 USD"), "line 4: column charge holds \"99000000.0000000000\""),
            (&FEED.replace(" MyBidID", " MyBitID"), "unknown columns: my_bit_id"),
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

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::mutation::CASES))]

        #[test]
        fn whatever_a_feed_holds_is_read_or_refused_with_a_sentence(text in proptest::prop_oneof![crate::mutation::text(&[FEED]), crate::mutation::tabbed(&[FEED])]) {
            match taken(&text) {
                Ok(lines) => assert!(lines.iter().all(|line| line.to >= line.from && line.used.is_none_or(|used| used.0 >= 0 || line.cost.0 < 0)), "{lines:?}"),
                Err(fault) => assert!(fault.contains("nothing was imported"), "{fault}"),
            }
        }
    }
}
