//! What came from outside: which versions were taken, by whom, from which files.
//!
//! Decides: the columns and the sentence.

use sqlx::PgConnection;

use super::{Days, Report, with_columns, with_day_of_knowledge};
use crate::ledger::import::Kind;
use crate::ledger::store::LedgerFault;

const COLUMNS: [&str; 16] = [
    "kind",
    "source",
    "from",
    "to",
    "version",
    "state",
    "lines",
    "total",
    "changed_usd",
    "taken_at",
    "taken_by",
    "files",
    "statement",
    "invoiced",
    "invoices",
    "reason",
];

/// Which statements.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    /// Of this kind; `None` is all.
    pub kind: Option<Kind>,
    /// Only versions that hold.
    pub held: bool,
    /// Whose period overlaps these days; without either end all.
    pub of: Days,
}

/// Versions of bills, feeds, usage, revenue and other costs, the newest first.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn statements(connection: &mut PgConnection, listed: &Listed) -> Result<Report, LedgerFault> {
    let rows = sqlx::query!(
        r#"SELECT kind AS "kind!", source AS "source!", to_char(period_from AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS "from!",
                  to_char(period_to AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS "to!", version AS "version!", state AS "state!", lines AS "lines!", total::text AS "total!",
                  to_char(taken_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS "taken_at!", taken_by AS "taken_by!", accepted AS "accepted!",
                  (SELECT string_agg(CASE WHEN f ->> 'role' IN ('rates', 'mapping', 'projects') THEN (f ->> 'role') || '=' ELSE '' END || (f ->> 'name') || ' sha256:' || (f ->> 'sha256'), ' ') FROM jsonb_array_elements(files) f) AS files, id AS "id!",
                  CASE WHEN kind = 'bill' AND retracts IS NULL THEN CASE WHEN invoiced THEN 'yes' ELSE 'no' END END AS invoiced, reason,
                  (SELECT string_agg(concat_ws(' ', coalesce(nullif(i ->> 'invoice', ''), 'on no invoice yet'), i ->> 'charged', i ->> 'currency'), '; ')
                   FROM jsonb_array_elements(invoices) i) AS invoices,
                  (SELECT coalesce(sum(p.cost_usd), 0)::numeric(24,6)::text FROM ledger.posting p
                   WHERE p.statement = s.id AND p.posted_at < (SELECT ledger.known_before())) AS "changed!"
           FROM ledger.statements s WHERE ($1::text IS NULL OR kind = $1) AND (NOT $2 OR state = 'holds')
             AND ($3::text IS NULL OR period_to > ($3::text)::timestamp AT TIME ZONE 'UTC')
             AND ($4::text IS NULL OR period_from < ($4::text)::timestamp AT TIME ZONE 'UTC')
           ORDER BY taken_at DESC, kind, source, period_from"#,
        listed.kind.map(Kind::as_str),
        listed.held,
        listed.of.from,
        listed.of.to
    );
    let rows = rows.fetch_all(&mut *connection).await.map_err(LedgerFault::during("read the statements"))?;
    let holds = rows.iter().filter(|row| row.state == "holds").count();
    let sentence = match rows.len() {
        0 if *listed == Listed::default() => "Nothing has been imported.".to_owned(),
        0 => "Nothing of that has been imported.".to_owned(),
        all => format!("{all} versions were imported; {holds} hold."),
    };
    let rows = rows.into_iter().map(|row| {
        let state = if row.accepted.is_empty() { row.state } else { format!("{} (accepted: {})", row.state, row.accepted.join(", ")) };
        let version = row.version.to_string();
        let values = [
            row.kind,
            row.source,
            row.from,
            row.to,
            version,
            state,
            row.lines.to_string(),
            row.total,
            row.changed,
            row.taken_at,
            row.taken_by,
        ];
        values.into_iter().map(Some).chain([row.files, Some(row.id.to_string()), row.invoiced, row.invoices, row.reason]).collect()
    });
    let report = with_columns(sentence, &COLUMNS, rows.collect());
    with_day_of_knowledge(connection, report).await
}
