//! Whether figures still follow from facts: the definitions that derive them, and the postings that were derived.
//!
//! Decides: what belongs to a definition (text, rights, whether a trigger is on, what a session begins with), and that every posting of a machine that ended must follow from its facts.
//! Does not: check rows themselves (see [`super::verify`]), or change anything but the record of definitions that a migration leaves.

use sqlx::{AssertSqlSafe, PgConnection};

use super::poster;
use super::store::LedgerFault;
use crate::core::units::time::Timestamp;

/// Every definition of the schema with its digest. Asked by lowtide and not by a function of the schema, which could be replaced as well. Partitions come and
/// go with the months: their parents stand for them.
const CURRENT: &str = r#"
    SELECT 'view' AS kind, c.relname::text AS object, encode(sha256(convert_to(concat_ws(' ', pg_get_viewdef(c.oid), c.reloptions::text), 'UTF8')), 'hex') AS digest
    FROM pg_class c WHERE c.relnamespace = 'ledger'::regnamespace AND c.relkind = 'v'
    UNION ALL
    SELECT 'function', p.oid::regprocedure::text, encode(sha256(convert_to(pg_get_functiondef(p.oid), 'UTF8')), 'hex')
    FROM pg_proc p WHERE p.pronamespace = 'ledger'::regnamespace AND p.prokind = 'f'
    UNION ALL
    SELECT 'rights on', c.relname::text, encode(sha256(convert_to(coalesce((
               SELECT string_agg(concat_ws(' ', coalesce(r.rolname, 'public'), a.privilege_type, a.is_grantable), ',' ORDER BY r.rolname, a.privilege_type, a.is_grantable)
               FROM aclexplode(c.relacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee), '') || ' ' || c.relowner::regrole::text || coalesce((
               SELECT string_agg(concat_ws(' ', t.attname, coalesce(r.rolname, 'public'), a.privilege_type, a.is_grantable), ',' ORDER BY t.attname, r.rolname, a.privilege_type)
               FROM pg_attribute t CROSS JOIN aclexplode(t.attacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
               WHERE t.attrelid = c.oid AND NOT t.attisdropped), ''), 'UTF8')), 'hex')
    FROM pg_class c WHERE c.relnamespace = 'ledger'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
    UNION ALL
    SELECT 'rights on function', p.oid::regprocedure::text, encode(sha256(convert_to(coalesce((
               SELECT string_agg(concat_ws(' ', coalesce(r.rolname, 'public'), a.privilege_type, a.is_grantable), ',' ORDER BY r.rolname, a.privilege_type, a.is_grantable)
               FROM aclexplode(p.proacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee), '') || ' ' || p.proowner::regrole::text, 'UTF8')), 'hex')
    FROM pg_proc p WHERE p.pronamespace = 'ledger'::regnamespace AND p.prokind = 'f'
    UNION ALL
    -- Partitions have the triggers of their parents, on where those are on: whatever else stands there was put there.
    SELECT 'trigger', c.relname || '.' || t.tgname, encode(sha256(convert_to(pg_get_triggerdef(t.oid) || ' ' || t.tgenabled::text, 'UTF8')), 'hex')
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    WHERE c.relnamespace = 'ledger'::regnamespace AND NOT t.tgisinternal
      AND NOT EXISTS (SELECT FROM pg_inherits i JOIN pg_trigger o ON o.tgrelid = i.inhparent
                      WHERE i.inhrelid = c.oid AND o.tgname = t.tgname
                        AND (o.tgenabled, o.tgfoid, o.tgtype, coalesce(o.tgqual::text, '')) = (t.tgenabled, t.tgfoid, t.tgtype, coalesce(t.tgqual::text, '')))
    UNION ALL
    SELECT 'columns of', c.relname::text, encode(sha256(convert_to((
               SELECT string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated, a.attidentity,
                                           pg_get_expr(d.adbin, d.adrelid)), ',' ORDER BY a.attnum)
               FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
               WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), 'UTF8')), 'hex')
    FROM pg_class c WHERE c.relnamespace = 'ledger'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    UNION ALL
    SELECT 'constraint', c.relname || '.' || k.conname, encode(sha256(convert_to(pg_get_constraintdef(k.oid) || ' ' || k.convalidated::text, 'UTF8')), 'hex')
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
    WHERE c.relnamespace = 'ledger'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND k.conparentid = 0
    UNION ALL
    SELECT 'rule', c.relname || '.' || r.rulename, encode(sha256(convert_to(pg_get_ruledef(r.oid) || ' ' || r.ev_enabled::text, 'UTF8')), 'hex')
    FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class WHERE c.relnamespace = 'ledger'::regnamespace AND c.relkind <> 'v'
    UNION ALL
    SELECT 'row security of', c.relname::text, encode(sha256(convert_to(c.relrowsecurity::text || ' ' || coalesce((
               SELECT string_agg(concat_ws(' ', p.polname, p.polcmd, pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)), ',' ORDER BY p.polname)
               FROM pg_policy p WHERE p.polrelid = c.oid), ''), 'UTF8')), 'hex')
    FROM pg_class c WHERE c.relnamespace = 'ledger'::regnamespace AND c.relkind IN ('r', 'p')
      AND (c.relrowsecurity OR EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid))
    UNION ALL
    -- What a session begins with, by its database or its role: the day that views stop at, or no triggers at all.
    SELECT 'setting', concat_ws(' of ', split_part(set, '=', 1), CASE s.setrole WHEN 0 THEN 'the database' ELSE s.setrole::regrole::text END), encode(sha256(convert_to(set, 'UTF8')), 'hex')
    FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) set
    WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
      AND (set LIKE 'lowtide.%' OR set LIKE 'session_replication_role=%')
"#;

const ON_RECORD: &str =
    "SELECT DISTINCT ON (kind, object) kind, object, digest FROM ledger.definition ORDER BY kind, object, posted_at DESC";

/// A definition that is not what the last migration left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Changed {
    pub kind: String,
    pub object: String,
    pub how: &'static str,
}

/// Puts on record what changed since the last time; for migrations.
pub(super) async fn put_on_record(connection: &mut PgConnection) -> Result<(), LedgerFault> {
    let sql = format!(
        "INSERT INTO ledger.definition (id, at, kind, object, digest, code_version)
         SELECT gen_random_uuid(), now(), coalesce(c.kind, r.kind), coalesce(c.object, r.object), coalesce(c.digest, ''), $1
         FROM ({CURRENT}) c FULL JOIN ({ON_RECORD}) r ON r.kind = c.kind AND r.object = c.object
         WHERE coalesce(c.digest, '') <> coalesce(r.digest, '')"
    );
    let query = sqlx::query(AssertSqlSafe(sql)).bind(env!("CARGO_PKG_VERSION"));
    query.execute(connection).await.map_err(LedgerFault::during("put the definitions on record"))?;
    Ok(())
}

/// Definitions that were replaced, dropped or added since the last migration. A view, a table or a function of somebody else's is no part of ours, unless
/// the function has the name of one of ours: a call with other types of arguments would find it.
pub(super) async fn changed(connection: &mut PgConnection) -> Result<Vec<Changed>, LedgerFault> {
    let sql = format!(
        "SELECT coalesce(c.kind, r.kind), coalesce(c.object, r.object), c.digest IS NULL, r.digest IS NULL OR r.digest = ''
         FROM ({CURRENT}) c FULL JOIN ({ON_RECORD}) r ON r.kind = c.kind AND r.object = c.object
         WHERE coalesce(c.digest, '') <> coalesce(r.digest, '')
           AND (coalesce(r.digest, '') <> '' OR c.kind IN ('trigger', 'rule', 'row security of', 'setting')
                OR c.kind = 'constraint' AND EXISTS (SELECT FROM ({ON_RECORD}) o WHERE o.kind = 'columns of' AND o.object = split_part(c.object, '.', 1) AND o.digest <> '')
                OR c.kind = 'function' AND EXISTS (SELECT FROM ({ON_RECORD}) o WHERE o.kind = 'function' AND o.digest <> ''
                                                   AND split_part(o.object, '(', 1) = split_part(c.object, '(', 1)))
         ORDER BY 1, 2"
    );
    let rows: Vec<(String, String, bool, bool)> =
        sqlx::query_as(AssertSqlSafe(sql)).fetch_all(connection).await.map_err(LedgerFault::during("compare the definitions"))?;
    let how = |gone, added| match (gone, added) {
        (true, _) => "dropped",
        (_, true) => "added",
        _ => "replaced",
    };
    Ok(rows.into_iter().map(|(kind, object, gone, added)| Changed { kind, object, how: how(gone, added) }).collect())
}

/// Postings that name a cause, or a machine, which does not exist.
pub(super) async fn postings_without_cause(connection: &mut PgConnection) -> Result<Vec<uuid::Uuid>, LedgerFault> {
    let rows = sqlx::query_scalar!(
        r#"SELECT p.id FROM ledger.posting p
           WHERE (p.statement IS NOT NULL AND NOT EXISTS (SELECT FROM ledger.statement s WHERE s.id = p.statement)
                 AND NOT EXISTS (SELECT FROM ledger.retag r WHERE r.id = p.statement))
              OR (p.claim_uid IS NULL AND p.line <> 'overhead')
              OR (p.claim_uid IS NOT NULL AND p.at >= coalesce((SELECT max(until) FROM ledger.archived_month WHERE table_name = 'interval_opened'), '-infinity')
                  AND NOT EXISTS (SELECT FROM ledger.interval_opened o WHERE o.claim_uid = p.claim_uid)
                  AND NOT EXISTS (SELECT FROM ledger.archived_month WHERE table_name = 'interval_opened'))"#
    );
    rows.fetch_all(connection).await.map_err(LedgerFault::during("look for postings without a cause"))
}

/// Days whose other costs are not posted as the imported files say: owner by owner. What earlier releases posted without a statement is part of the
/// first versions that it became.
pub(super) async fn entered_that_differ(connection: &mut PgConnection) -> Result<Vec<String>, LedgerFault> {
    let days = sqlx::query_scalar!(
        r#"SELECT DISTINCT coalesce(c.day, p.day)::text AS "day!"
           FROM (SELECT ledger.utc_day(at) AS day, workload, sum(cost_usd) AS cost FROM ledger.external_cost WHERE statement IS NOT NULL GROUP BY 1, 2) c
           FULL JOIN (SELECT ledger.utc_day(at) AS day, workload, sum(cost_usd) AS cost FROM ledger.posting WHERE line = 'overhead' GROUP BY 1, 2) p
                ON p.day = c.day AND p.workload = c.workload
           WHERE coalesce(c.cost, 0) <> coalesce(p.cost, 0)
             AND coalesce(c.day, p.day) >= coalesce((SELECT ledger.utc_day(max(until)) FROM ledger.archived_month WHERE table_name IN ('posting', 'external_cost')),
                                                    '-infinity'::date)
           ORDER BY 1"#
    );
    days.fetch_all(connection).await.map_err(LedgerFault::during("compare other costs with their postings"))
}

/// Which machines are recomputed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    /// One in so many; 0 and 1 are all.
    pub every: u32,
    /// That ran on this UTC day or after it, as `2026-07-01`.
    pub from: Option<String>,
    /// That began to run before this UTC day.
    pub to: Option<String>,
}

/// Machines whose postings do not follow from what is known of them: of the sample, and none that is about to be posted. Of a machine that runs, the hours that
/// are settled.
pub(super) async fn machines_that_differ(connection: &mut PgConnection, sample: &Sample) -> Result<Vec<String>, LedgerFault> {
    let machines = sqlx::query!(
        r#"SELECT p.claim_uid, CASE WHEN NOT p.complete THEN ledger.ms(p.due_at) END AS due_ms FROM ledger.posted_machine p
         WHERE (p.complete OR p.hours > 0) AND abs(hashtext(p.claim_uid)) % $1 = 0
           AND NOT EXISTS (SELECT FROM ledger.posting_queue q LEFT JOIN ledger.interval_opened o ON o.claim_uid = p.claim_uid
                           WHERE q.claim_uid = p.claim_uid OR q.claim = o.claim OR q.instance = o.instance OR o.claim = ANY(q.claims))
           AND (($2::text IS NULL AND $3::text IS NULL) OR EXISTS (
                SELECT FROM ledger.interval_opened o WHERE o.claim_uid = p.claim_uid AND ($3::text IS NULL OR ledger.utc_day(o.at) < $3::text::date)
                  AND ($2::text IS NULL OR NOT EXISTS (SELECT FROM ledger.interval_closed c WHERE c.claim_uid = p.claim_uid AND ledger.utc_day(c.at) < $2::text::date))))
         ORDER BY 1"#,
        i32::try_from(sample.every.max(1)).unwrap_or(i32::MAX),
        sample.from,
        sample.to
    );
    let machines = machines.fetch_all(&mut *connection).await.map_err(LedgerFault::during("choose machines to recompute"))?;
    let ended: Vec<String> = machines.iter().filter(|machine| machine.due_ms.is_none()).map(|machine| machine.claim_uid.clone()).collect();
    let mut differ = Vec::new();
    for some in ended.chunks(500) {
        differ.extend(poster::that_differ(connection, some, Timestamp(i64::MAX / 4)).await?);
    }
    for machine in machines {
        // A moment before its next hour settles, what is settled is what was posted.
        if let Some(due) = machine.due_ms {
            differ.extend(poster::that_differ(connection, &[machine.claim_uid], Timestamp(due - 1)).await?);
        }
    }
    differ.sort();
    Ok(differ)
}
