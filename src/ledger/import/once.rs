//! Lines of a bill that came more than once.
//!
//! Decides: that a line with an identity counts once, and which of two files that say different things of it is the newer; and that lines without one are refused where
//! they look like two versions, or like a file that was put behind itself.
//! Does not: compare a version with the one that holds (see [`super::bill`] and [`super::bill_checks`]).

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::ImportFault;
use super::checks::{Check, Checks, in_all};
use super::delivery::Delivery;
use super::reading::ReadFile;
use crate::ledger::store::LedgerFault;

/// A version as it was read.
pub(super) struct Version {
    pub delivery: Delivery,
    /// Its files with their numbers among all.
    pub files: Vec<(i32, ReadFile)>,
}

/// Looks at all staged lines.
pub(super) async fn each_line(connection: &mut PgConnection, versions: &[Version], checks: &mut Checks) -> Result<(), ImportFault> {
    by_identity(connection, versions, checks).await?;
    alike_in_two_parts(connection, versions, checks).await?;
    repeated(connection, versions, checks).await
}

/// A statement about the staged lines. Names come from here, values are bound.
pub(super) async fn run(connection: &mut PgConnection, what: &'static str, sql: &str) -> Result<u64, LedgerFault> {
    let done = sqlx::query(AssertSqlSafe(sql.to_owned())).execute(connection).await.map_err(LedgerFault::during(what))?;
    Ok(done.rows_affected())
}

/// Lines that come more than once by their identity count once where they say the same. Where two files say different things of the same lines they are
/// versions, and the newer holds whole.
async fn by_identity(connection: &mut PgConnection, versions: &[Version], checks: &mut Checks) -> Result<(), ImportFault> {
    let doing = LedgerFault::during;
    run(connection, "find lines that came twice", "CREATE INDEX ON staged_line (line_id) WHERE line_id IS NOT NULL").await?;
    differs_in_one_file(connection, versions, checks).await?;
    let pairs = sqlx::query(
        "SELECT a.file AS older, b.file AS newer, count(*) AS shared,
                count(*) FILTER (WHERE (a.cost, a.used_ms, a.kind) IS DISTINCT FROM (b.cost, b.used_ms, b.kind)) AS different
         FROM staged_line a JOIN staged_line b ON a.line_id = b.line_id AND a.file < b.file AND a.payer = b.payer AND a.period = b.period GROUP BY 1, 2",
    );
    let pairs = pairs.fetch_all(&mut *connection).await.map_err(doing("compare the files"))?;
    for pair in pairs {
        let (a, b): (i32, i32) = (pair.get("older"), pair.get("newer"));
        let (shared, different): (i64, i64) = (pair.get("shared"), pair.get("different"));
        let (Some(a), Some(b)) = (place(versions, a), place(versions, b)) else { continue };
        // Files of different deliveries are sorted out by period below.
        if different == 0 || !std::ptr::eq(a.0, b.0) {
            continue;
        }
        let fewer = i64::try_from(a.2.lines.min(b.2.lines)).unwrap_or(i64::MAX);
        if shared * 2 < fewer {
            return Err(ImportFault::Incomplete(format!(
                "{} and {} disagree about {different} lines: they belong to different versions of one report; give the files of one version, with \
                 its manifest",
                a.2.name, b.2.name
            )));
        }
        let written = |file: i32| {
            let at = a.0.files.iter().position(|(number, _)| *number == file);
            let path = at.and_then(|at| a.0.delivery.files.get(at));
            (path.and_then(|path| std::fs::metadata(path).ok()?.modified().ok()), file)
        };
        let older = if written(a.1) <= written(b.1) { a.1 } else { b.1 };
        let sql = format!("DELETE FROM staged_line WHERE file = {older}");
        run(connection, "leave out the older version", &sql).await?;
    }
    let once = "DELETE FROM staged_line WHERE ctid IN (SELECT ctid FROM (
                    SELECT s.ctid, row_number() OVER (PARTITION BY payer, period, line_id, cost, kind, used_ms ORDER BY file) AS n, file,
                           min(file) OVER (PARTITION BY payer, period, line_id, cost, kind, used_ms) AS first
                    FROM staged_line s WHERE line_id IN (SELECT line_id FROM staged_line WHERE line_id IS NOT NULL GROUP BY line_id HAVING count(*) > 1)
                ) x WHERE n > 1 AND NOT EXISTS (SELECT FROM staged_version v WHERE v.file = x.file AND v.version <> (SELECT w.version FROM staged_version w WHERE w.file = x.first)))";
    let rows: Vec<String> =
        versions.iter().enumerate().flat_map(|(n, version)| version.files.iter().map(move |(file, _)| format!("({file}, {n})"))).collect();
    let files = format!(
        "CREATE TEMPORARY TABLE staged_version ON COMMIT DROP AS SELECT * FROM (VALUES {}) AS v(file, version)",
        if rows.is_empty() { "(0, 0)".to_owned() } else { rows.join(", ") }
    );
    run(connection, "number the versions", &files).await?;
    run(connection, "leave out lines that came twice", once).await?;
    Ok(())
}

/// One line that a file has with two amounts: a report names each line once.
async fn differs_in_one_file(connection: &mut PgConnection, versions: &[Version], checks: &mut Checks) -> Result<(), ImportFault> {
    let row = sqlx::query(
        "SELECT file, split_part(line_id, ' ', 1) AS line, trim_scale(min(cost))::text AS least, trim_scale(max(cost))::text AS most, count(*) OVER () AS lines
         FROM staged_line WHERE line_id IS NOT NULL GROUP BY file, payer, period, line_id
         HAVING min(cost) <> max(cost) OR min(used_ms) <> max(used_ms) ORDER BY file, line_id LIMIT 1",
    );
    let Some(row) = row.fetch_optional(connection).await.map_err(LedgerFault::during("look for lines with two amounts"))? else {
        return Ok(());
    };
    let name = name_of(versions, row.get("file"));
    let (line, least, most, lines): (String, String, String, i64) = (row.get("line"), row.get("least"), row.get("most"), row.get("lines"));
    checks.refuse(Check::HoursTwice, || {
        format!(
            "{name} has the line {line} twice, with ${least} and with ${most}{}: a report names each line once, and both amounts \
             would be added up",
            in_all(lines, "lines")
        )
    })
}

/// Lines without an identity of which two files of one version, or two that were put together into one, have at least half alike: most likely two versions side by
/// side, which would be added up. A span of which each file has a part has another time in each.
async fn alike_in_two_parts(connection: &mut PgConnection, versions: &[Version], checks: &mut Checks) -> Result<(), ImportFault> {
    let row = sqlx::query(
        "WITH bare AS (
             SELECT s.*, (s.file::bigint << 32) + s.part AS place, v.version FROM staged_line s JOIN staged_version v USING (file)
             WHERE s.line_id IS NULL AND s.instance <> '' AND s.kind IN ('usage', 'commitment') AND s.until > s.at
         ), alike AS (
             SELECT min(file) AS first, max(file) AS last, instance, at, count(*) OVER () AS hours
             FROM bare GROUP BY version, payer, period, account, kind, instance, usage_type, operation, at, until, used_ms HAVING min(place) <> max(place)
         )
         SELECT first, last, instance, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') AS hour, hours FROM alike
         WHERE 2 * hours >= (SELECT min(n) FROM (SELECT count(*) AS n FROM bare GROUP BY place) x) ORDER BY at, instance LIMIT 1",
    );
    let Some(row) = row.fetch_optional(connection).await.map_err(LedgerFault::during("look for lines in two files"))? else {
        return Ok(());
    };
    let (first, last): (i32, i32) = (row.get("first"), row.get("last"));
    let (one, other) = (name_of(versions, first), name_of(versions, last));
    let (instance, hour, hours): (String, String, i64) = (row.get("instance"), row.get("hour"), row.get("hours"));
    let places = if first == last { format!("in two parts of {one}, each with its header") } else { format!("in {one} and in {other}") };
    checks.refuse(Check::HoursTwice, || {
        format!(
            "the use of {instance} in the span from {hour} UTC is {places}{}: they are two versions of one report; give one",
            in_all(hours, "spans")
        )
    })
}

/// Lines without an identity of which at least half come again, word for word: a file that was put behind itself, with a header in the middle or without. A few
/// such lines are nothing unusual where a report has few columns.
async fn repeated(connection: &mut PgConnection, versions: &[Version], checks: &mut Checks) -> Result<(), ImportFault> {
    let row = sqlx::query(
        "SELECT min(file) AS file, count(*) AS different, count(*) FILTER (WHERE n > 1) AS repeated
         FROM (SELECT v.version, min(s.file) AS file, count(*) AS n FROM staged_line s JOIN staged_version v USING (file)
               WHERE s.said IS NOT NULL GROUP BY v.version, s.said) x
         GROUP BY version HAVING 2 * count(*) FILTER (WHERE n > 1) >= count(*) ORDER BY 1 LIMIT 1",
    );
    let Some(row) = row.fetch_optional(connection).await.map_err(LedgerFault::during("look for lines that come again"))? else {
        return Ok(());
    };
    let (name, different, repeated): (String, i64, i64) = (name_of(versions, row.get("file")), row.get("different"), row.get("repeated"));
    checks.refuse(Check::HoursTwice, || {
        format!(
            "{repeated} of the {different} different lines of {name} come more than once, word for word, and none has an identity \
             (identity_line_item_id): it looks like a file that was put behind itself, and would be added up; give it once"
        )
    })
}

/// The name of a file by its number.
fn name_of(versions: &[Version], number: i32) -> String {
    place(versions, number).map_or_else(String::new, |(.., file)| file.name.clone())
}

/// The version, number and file of a file's number.
fn place(versions: &[Version], number: i32) -> Option<(&Version, i32, &ReadFile)> {
    versions.iter().find_map(|version| {
        let (_, file) = version.files.iter().find(|(n, _)| *n == number)?;
        Some((version, number, file))
    })
}
