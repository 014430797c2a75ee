//! What came from outside: which versions were taken, by whom, from which files.
//!
//! Decides: the columns and the sentence.

use sqlx::PgConnection;

use super::{Report, with_columns, with_day_of_knowledge};
use crate::ledger::import::Kind;
use crate::ledger::store::LedgerFault;

const COLUMNS: [&str; 13] =
    ["kind", "source", "from", "to", "version", "state", "lines", "total", "changed_usd", "taken_at", "taken_by", "files", "statement"];

/// Versions of bills, feeds, usage, revenue and other costs, the newest first.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn statements(connection: &mut PgConnection, kind: Option<Kind>, held: bool) -> Result<Report, LedgerFault> {
    let rows = sqlx::query!(
        r#"SELECT kind AS "kind!", source AS "source!", to_char(period_from AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS "from!",
                  to_char(period_to AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS "to!", version AS "version!", state AS "state!", lines AS "lines!", total::text AS "total!",
                  to_char(taken_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS "taken_at!", taken_by AS "taken_by!", accepted AS "accepted!",
                  (SELECT string_agg((f ->> 'name') || ' sha256:' || (f ->> 'sha256'), ' ') FROM jsonb_array_elements(files) f) AS files, id AS "id!",
                  (SELECT coalesce(sum(p.cost_usd), 0)::numeric(24,6)::text FROM ledger.posting p
                   WHERE p.statement = s.id AND p.posted_at < (SELECT ledger.known_before())) AS "changed!"
           FROM ledger.statements s WHERE ($1::text IS NULL OR kind = $1) AND (NOT $2 OR state = 'holds') ORDER BY taken_at DESC, kind, source, period_from"#,
        kind.map(Kind::as_str),
        held
    );
    let rows = rows.fetch_all(&mut *connection).await.map_err(LedgerFault::during("read the statements"))?;
    let holds = rows.iter().filter(|row| row.state == "holds").count();
    let sentence = match rows.len() {
        0 => "Nothing has been imported.".to_owned(),
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
        values.into_iter().map(Some).chain([row.files, Some(row.id.to_string())]).collect()
    });
    let report = with_columns(sentence, &COLUMNS, rows.collect());
    with_day_of_knowledge(connection, report).await
}
