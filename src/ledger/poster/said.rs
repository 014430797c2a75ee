//! What AWS said of machines, as the pure rules take it.
//!
//! Decides: which lines hold, and that data carried to another region counts once: what was posted for it as egress when it was carried is taken off the lines
//! that the bill has of it (see [`crate::core::accounting::bill::taken_off`]).
//! Does not: lay lines over hours (see [`crate::core::accounting::bill`]).

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row};
use uuid::Uuid;

use crate::core::accounting::bill::{BilledLine, CARRIED, CarriedAway, LineKind, Source, taken_off};
use crate::core::units::money::BilledUsd;
use crate::core::units::time::{Millis, Timestamp};
use crate::ledger::store::LedgerFault;

/// What AWS said of an instance, and the newest version that said something of it.
#[derive(Default)]
pub(super) struct Said {
    pub lines: Vec<BilledLine>,
    pub by: BTreeMap<Source, Uuid>,
}

/// What AWS said, by instance: what the versions' differences add up to. A line that is on an invoice is so by the newest version of its period; one that lies
/// in no day of that period came late, and its own month is not closed by it. `machines` are instances by claim.
pub(super) async fn lines(
    connection: &mut PgConnection,
    machines: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, Said>, LedgerFault> {
    let instances: Vec<String> = machines.values().cloned().collect();
    let rows = sqlx::query!(
        r#"WITH holds AS MATERIALIZED (
             SELECT DISTINCT ON (kind, source, at) kind, source, at, invoiced FROM ledger.statement s
             WHERE retracts IS NULL AND NOT EXISTS (SELECT FROM ledger.statement r WHERE r.retracts = s.id) ORDER BY kind, source, at, version DESC
           ), lines AS (
             SELECT instance, source, kind, account, usage_type, operation, at, until, sum(cost_usd) AS cost, sum(used_ms)::bigint AS used_ms,
                    sum(lines) AS lines, max(posted_at) AS posted_at, (array_agg(statement ORDER BY posted_at DESC))[1] AS statement
             FROM ledger.billed_line WHERE instance = ANY($1) AND statement IS NOT NULL
             GROUP BY instance, source, kind, account, usage_type, operation, at, until
           )
           SELECT l.instance, l.source, l.kind, ledger.ms(l.at) AS "from_ms!", ledger.ms(l.until) AS "to_ms!", l.cost::text AS "cost!", l.used_ms,
                  l.lines > 0 AS "there!", l.statement AS "statement!",
                  coalesce((SELECT bool_or(h.invoiced) FROM ledger.statement s JOIN holds h ON (h.kind, h.source, h.at) = (s.kind, s.source, s.at)
                            WHERE s.id = l.statement AND l.at >= s.at AND l.at < s.until), false) AS "invoiced!"
           FROM lines l ORDER BY l.posted_at, l.instance, l.source, l.kind, l.account, l.usage_type, l.operation, l.at, l.until"#,
        &instances
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(LedgerFault::during("read what AWS billed"))?;
    let mut said: BTreeMap<String, Said> = BTreeMap::new();
    let mut carried: BTreeMap<String, Vec<BilledLine>> = BTreeMap::new();
    for row in rows {
        let source = if row.source == "bill" { Source::Bill } else { Source::Feed };
        let instance = row.instance.clone();
        let of = said.entry(row.instance).or_default();
        // In order of time: the newest is the last.
        of.by.insert(source, row.statement);
        let (Some(kind), Ok(cost), true) = (LineKind::of(&row.kind), row.cost.parse::<BilledUsd>(), row.there) else { continue };
        let (from, to) = (Timestamp(row.from_ms), Timestamp(row.to_ms));
        let line = BilledLine { source, kind, from, to, cost, used: row.used_ms.map(Millis), invoiced: row.invoiced };
        if row.kind == CARRIED {
            carried.entry(instance).or_default().push(line.clone());
        }
        of.lines.push(line);
    }
    for (instance, posted) in carried_away(connection, machines).await? {
        // Only where the bill speaks of such data: until then the estimate is all that is known.
        if let (Some(of), Some(lines)) = (said.get_mut(&instance), carried.get(&instance)) {
            of.lines.extend(taken_off(lines, &posted));
        }
    }
    Ok(said)
}

/// What was posted as egress for pods that were moved away from these machines, where they run now, by the instance that they left. The bill
/// has it with the machine that sent the data; data that came from another region than that machine's, it did not send.
async fn carried_away(
    connection: &mut PgConnection,
    machines: &BTreeMap<String, String>,
) -> Result<Vec<(String, CarriedAway)>, LedgerFault> {
    let sql = "SELECT DISTINCT m.from_claim, n.claim_uid, n.pod_uid, ledger.ms(m.decided_at) AS decided_ms, ledger.ms(n.at) AS at_ms,
                      round(n.carried_gib * n.carried_usd_per_gib, 6)::text AS usd
               FROM ledger.migration m
               CROSS JOIN LATERAL (SELECT x.region FROM ledger.interval_opened x WHERE x.claim = m.from_claim ORDER BY x.posted_at, x.at LIMIT 1) o
               CROSS JOIN LATERAL (SELECT x.claim_uid FROM ledger.interval_opened x WHERE x.claim = m.to_claim ORDER BY x.posted_at, x.at LIMIT 1) j
               CROSS JOIN LATERAL (SELECT DISTINCT ON (x.pod_uid) * FROM ledger.occupancy_opened x WHERE x.claim_uid = j.claim_uid
                                   ORDER BY x.pod_uid, x.posted_at, x.at) n
               WHERE m.from_claim = ANY($1) AND n.carried_by = m.decision AND n.carried_gib > 0 AND n.carried_from = o.region ORDER BY 1, 2, 3, 4";
    let claims: Vec<String> = machines.keys().cloned().collect();
    let doing = LedgerFault::during;
    let rows = sqlx::query(sql).bind(claims).fetch_all(connection).await.map_err(doing("read what was carried away"))?;
    let read = |row: &sqlx::postgres::PgRow| -> Result<(String, i64, i64, String), sqlx::Error> {
        Ok((row.try_get("from_claim")?, row.try_get("decided_ms")?, row.try_get("at_ms")?, row.try_get("usd")?))
    };
    let mut found = Vec::new();
    for row in &rows {
        let (claim, decided, at, usd) = read(row).map_err(doing("read what was carried away"))?;
        if let (Some(instance), Ok(cost)) = (machines.get(&claim), usd.parse::<BilledUsd>()) {
            found.push((instance.clone(), CarriedAway { decided_at: Timestamp(decided), at: Timestamp(at), cost }));
        }
    }
    Ok(found)
}
