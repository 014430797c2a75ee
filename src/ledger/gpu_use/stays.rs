//! Which pods held GPUs in a span of time, as the ledger knows it.
//!
//! Decides: that a pod holds its GPUs from when it ran to when it ended, within its machine's life, and when several pods hold one GPU.
//! Does not: ask how they were used.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use crate::core::units::ids::ObjectRef;
use crate::core::units::time::Timestamp;
use crate::ledger::store::LedgerFault;

/// A pod on a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stay {
    pub claim_uid: String,
    pub pod_uid: String,
    pub pod: ObjectRef,
    pub gpus: i64,
    pub from: Timestamp,
    /// None while it runs.
    pub to: Option<Timestamp>,
    /// At some time more GPUs were promised on its machine than there are: one is shared, and readings of it are of all who share it.
    pub shares: bool,
    /// It holds all GPUs of its machine: whatever is read there is its.
    pub alone: bool,
}

/// Of several facts about one thing the first that was posted holds, as in `views/rules.sql`. Machines that run are those that are not posted to their end.
const STAYS: &str = "
    WITH machines AS (
        SELECT claim_uid FROM ledger.posted_machine WHERE NOT complete
        UNION SELECT claim_uid FROM ledger.interval_closed WHERE at > to_timestamp($1::bigint / 1000.0)
        UNION SELECT claim_uid FROM ledger.interval_opened WHERE at > to_timestamp($1::bigint / 1000.0) AND at < to_timestamp($2::bigint / 1000.0)
    )
    SELECT m.claim_uid, i.gpus, o.pod_uid, o.pod_namespace, o.pod_name, o.gpus, ledger.ms(greatest(o.at, i.at)), ledger.ms(least(c.at, e.at))
    FROM machines m
    CROSS JOIN LATERAL (SELECT x.at, x.gpus FROM ledger.interval_opened x WHERE x.claim_uid = m.claim_uid ORDER BY x.posted_at, x.at LIMIT 1) i
    CROSS JOIN LATERAL (SELECT DISTINCT ON (x.pod_uid) * FROM ledger.occupancy_opened x WHERE x.claim_uid = m.claim_uid
                        ORDER BY x.pod_uid, x.posted_at, x.at) o
    LEFT JOIN LATERAL (SELECT x.at FROM ledger.occupancy_closed x WHERE x.claim_uid = m.claim_uid AND x.pod_uid = o.pod_uid
                       ORDER BY x.posted_at, x.at LIMIT 1) c ON true
    LEFT JOIN LATERAL (SELECT x.at FROM ledger.interval_closed x WHERE x.claim_uid = m.claim_uid ORDER BY x.posted_at, x.at LIMIT 1) e ON true
    WHERE o.gpus > 0 AND o.at < to_timestamp($2::bigint / 1000.0) AND coalesce(least(c.at, e.at), 'infinity') > to_timestamp($1::bigint / 1000.0)
    ORDER BY 1, 3";

type Row = (String, i64, String, String, String, i64, i64, Option<i64>);

/// The pods that held GPUs between two points in time.
pub(super) async fn between(connection: &mut PgConnection, from: Timestamp, to: Timestamp) -> Result<Vec<Stay>, LedgerFault> {
    let rows = sqlx::query_as::<_, Row>(STAYS).bind(from.0).bind(to.0).fetch_all(connection).await;
    let mut machines: BTreeMap<String, (i64, Vec<Stay>)> = BTreeMap::new();
    for (claim_uid, there, pod_uid, namespace, name, gpus, from_ms, to_ms) in
        rows.map_err(LedgerFault::during("read which pods held GPUs"))?
    {
        let pod = ObjectRef { namespace, name };
        let (from, to) = (Timestamp(from_ms), to_ms.map(Timestamp));
        let stay = Stay { claim_uid: claim_uid.clone(), pod_uid, pod, gpus, from, to, shares: false, alone: false };
        machines.entry(claim_uid).or_insert((there, Vec::new())).1.push(stay);
    }
    Ok(machines.into_values().flat_map(|(gpus, stays)| with_sharing(gpus, stays)).collect())
}

/// Marks who shares a GPU (more are promised than there are when one of the pods begins) and who has all of them alone.
fn with_sharing(gpus: i64, mut stays: Vec<Stay>) -> Vec<Stay> {
    let at = |stay: &Stay, time: Timestamp| stay.from <= time && stay.to.is_none_or(|to| time < to);
    let full: Vec<Timestamp> = stays
        .iter()
        .map(|stay| stay.from)
        .filter(|begins| stays.iter().filter(|stay| at(stay, *begins)).map(|stay| stay.gpus).sum::<i64>() > gpus)
        .collect();
    for stay in &mut stays {
        stay.shares = full.iter().any(|begins| at(stay, *begins));
        stay.alone = !stay.shares && stay.gpus == gpus;
    }
    stays
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_more_than_there_is_shares_it() {
        let stay = |pod: &str, gpus, from, to: Option<i64>| Stay {
            claim_uid: "c".into(),
            pod_uid: pod.into(),
            pod: ObjectRef { namespace: "ml".into(), name: pod.into() },
            gpus,
            from: Timestamp(from),
            to: to.map(Timestamp),
            shares: false,
            alone: false,
        };
        let all = vec![
            stay("a", 1, 0, Some(50)),
            stay("b", 1, 10, None),
            stay("c", 1, 50, None),
            stay("d", 1, 60, Some(70)),
            stay("e", 2, 100, None),
        ];
        let shares: Vec<bool> = with_sharing(2, all.clone()).iter().map(|stay| stay.shares).collect();
        assert_eq!(shares, [false, true, true, true, true]);
        assert!(with_sharing(4, all).iter().all(|stay| !stay.shares && !stay.alone));
        let after_one_another = vec![stay("a", 2, 0, Some(50)), stay("b", 2, 50, None)];
        assert!(with_sharing(2, after_one_another).iter().all(|stay| stay.alone));
    }
}
