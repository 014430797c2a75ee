//! How workloads used their GPUs, as the ledger knows it.
//!
//! Decides: which rows are one workload's use. Does not: judge it.

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row};

use crate::core::accounting::recommendation::{HourOfUse, MeasuredUse};
use crate::core::units::Mebibytes;
use crate::core::units::ids::ObjectRef;
use crate::core::units::money::MicroUsd;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::need::{Need, WorkloadKind};
use crate::ledger::store::LedgerFault;

/// A workload that had not run for so long before the first day is as good as new.
const BEFORE: Millis = Millis::from_hours(7 * 24);

/// What is known of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Observed {
    /// Its use.
    pub measured: MeasuredUse,
    /// Label `team`, of some of its pods.
    pub team: Option<String>,
    /// What its useful pod time cost.
    pub cost: MicroUsd,
    /// What a pod of it needs, by the last decision that says so.
    pub need: Option<Need>,
}

/// By workload, hour and type; the busiest pod by the hours of which at least half is measured.
const HOURS: &str = "
    SELECT workload_namespace, workload_name, ledger.ms(hour) / 3600000 AS hour, instance_type, max(team) AS team, bool_or(shared) AS shared,
           max(pod_namespace) AS pod_namespace, max(pod_name) AS pod_name, max(most_memory_mib) AS memory,
           coalesce(round(sum(gpu_hours) FILTER (WHERE most_memory_mib IS NOT NULL) * 3600000), 0)::bigint AS memory_read,
           round(sum(gpu_hours) * 3600000)::bigint AS held, round(sum(active_gpu_hours) * 3600000)::bigint AS active,
           round(sum(active_gpu_hours + idle_gpu_hours) * 3600000)::bigint AS sampled, round(sum(cost_usd) * 1000000)::bigint AS micro,
           max(ceil(1000 * active_gpu_hours / nullif(active_gpu_hours + idle_gpu_hours, 0)))
               FILTER (WHERE 2 * (active_gpu_hours + idle_gpu_hours) >= gpu_hours)::bigint AS busiest
    FROM ledger.gpu_use_of(to_timestamp($1::bigint / 1000.0), to_timestamp($2::bigint / 1000.0))
    WHERE workload_name IS NOT NULL AND instance_type IS NOT NULL GROUP BY 1, 2, 3, 4";

/// Workloads that ran on the first day or in the week before it.
const EARLY: &str = "
    SELECT DISTINCT workload_namespace, workload_name FROM ledger.cost_daily
    WHERE line = 'pod' AND workload_name IS NOT NULL AND day >= ledger.utc_day(to_timestamp($1::bigint / 1000.0))
          AND day <= ledger.utc_day(to_timestamp($2::bigint / 1000.0))";

/// Requests that our machines served: those at a vendor say nothing of them.
const REQUESTS: &str = "
    SELECT workload_namespace, workload_name, ledger.ms(hour) / 3600000 AS hour, least(round(quantity), 9000000000000000000)::bigint AS requests
    FROM ledger.usage_by_vendor WHERE vendor IS NULL AND unit = 'requests' AND hour >= to_timestamp($1::bigint / 1000.0) AND hour < to_timestamp($2::bigint / 1000.0)";

/// What a pod is, and what the last decision about its workload says that it needs.
const POD: &str = "
    SELECT o.kind, o.gpus, d.need::text AS need
    FROM ledger.occupancy_opened o
    LEFT JOIN LATERAL (SELECT x.need FROM ledger.decision x WHERE x.workload_namespace = o.workload_namespace AND x.workload_name = o.workload_name
                       AND x.need IS NOT NULL AND x.at < to_timestamp($3::bigint / 1000.0) AND x.posted_at < (SELECT ledger.known_before())
                       ORDER BY x.at DESC LIMIT 1) d ON true
    WHERE o.pod_namespace = $1 AND o.pod_name = $2 AND o.at < to_timestamp($3::bigint / 1000.0) AND o.gpus > 0
    ORDER BY o.at DESC LIMIT 1";

struct Gathered {
    observed: Observed,
    /// One of its pods.
    pod: (String, String),
}

fn unknown() -> Gathered {
    let measured = MeasuredUse {
        kind: WorkloadKind::Inference,
        gpus_per_pod: 1,
        ran_from_the_start: false,
        hours: BTreeMap::new(),
        busiest_pod_per_mille: None,
        types: BTreeMap::new(),
        memory_read_gpu_ms: 0,
        shared: false,
        requests: BTreeMap::new(),
    };
    Gathered { observed: Observed { measured, team: None, cost: MicroUsd(0), need: None }, pod: Default::default() }
}

/// Every workload that held GPUs between two midnights.
pub(super) async fn read(
    connection: &mut PgConnection,
    (from, to): (Timestamp, Timestamp),
) -> Result<BTreeMap<ObjectRef, Observed>, LedgerFault> {
    let mut gathered: BTreeMap<ObjectRef, Gathered> = BTreeMap::new();
    let rows = sqlx::query(HOURS).bind(from.0).bind(to.0).fetch_all(&mut *connection).await;
    for row in rows.map_err(LedgerFault::during("read the use of GPUs by hour"))? {
        let into = gathered.entry(workload_of(&row)?).or_insert_with(unknown);
        add(into, &row).map_err(LedgerFault::during("read an hour of GPUs"))?;
    }
    let rows = sqlx::query(EARLY).bind((from - BEFORE).0).bind(from.0).fetch_all(&mut *connection).await;
    for row in rows.map_err(LedgerFault::during("read which workloads ran before"))? {
        if let Some(of) = gathered.get_mut(&workload_of(&row)?) {
            of.observed.measured.ran_from_the_start = true;
        }
    }
    let rows = sqlx::query(REQUESTS).bind(from.0).bind(to.0).fetch_all(&mut *connection).await;
    for row in rows.map_err(LedgerFault::during("read requests by hour"))? {
        let Some(of) = gathered.get_mut(&workload_of(&row)?) else { continue };
        let read = || -> Result<(i64, i64), sqlx::Error> { Ok((row.try_get("hour")?, row.try_get("requests")?)) };
        let (hour, requests) = read().map_err(LedgerFault::during("read the requests of an hour"))?;
        of.observed.measured.requests.insert(hour, requests);
    }
    let mut observed = BTreeMap::new();
    for (workload, mut of) in gathered {
        describe(connection, &mut of, to).await?;
        observed.insert(workload, of.observed);
    }
    Ok(observed)
}

fn workload_of(row: &sqlx::postgres::PgRow) -> Result<ObjectRef, LedgerFault> {
    let read = || -> Result<ObjectRef, sqlx::Error> {
        let namespace: Option<String> = row.try_get("workload_namespace")?;
        Ok(ObjectRef { namespace: namespace.unwrap_or_default(), name: row.try_get("workload_name")? })
    };
    read().map_err(LedgerFault::during("read the name of a workload"))
}

fn add(into: &mut Gathered, row: &sqlx::postgres::PgRow) -> Result<(), sqlx::Error> {
    let of = &mut into.observed;
    let hour = HourOfUse { held: row.try_get("held")?, active: row.try_get("active")?, sampled: row.try_get("sampled")? };
    let so_far = of.measured.hours.entry(row.try_get("hour")?).or_default();
    *so_far = so_far.plus(hour);
    let memory = row.try_get::<Option<i64>, _>("memory")?.map(Mebibytes);
    let most = of.measured.types.entry(row.try_get::<String, _>("instance_type")?.into()).or_default();
    *most = (*most).max(memory);
    of.measured.memory_read_gpu_ms += row.try_get::<i64, _>("memory_read")?;
    of.measured.busiest_pod_per_mille = of.measured.busiest_pod_per_mille.max(row.try_get("busiest")?);
    of.measured.shared |= row.try_get::<Option<bool>, _>("shared")?.unwrap_or(false);
    of.cost = of.cost + MicroUsd(row.try_get("micro")?);
    of.team = of.team.take().max(row.try_get("team")?);
    let pod: (Option<String>, Option<String>) = (row.try_get("pod_namespace")?, row.try_get("pod_name")?);
    if let (Some(namespace), Some(name)) = pod {
        into.pod = (namespace, name);
    }
    Ok(())
}

async fn describe(connection: &mut PgConnection, of: &mut Gathered, to: Timestamp) -> Result<(), LedgerFault> {
    let row = sqlx::query(POD).bind(&of.pod.0).bind(&of.pod.1).bind(to.0).fetch_optional(&mut *connection).await;
    let Some(row) = row.map_err(LedgerFault::during("read what a workload is"))? else { return Ok(()) };
    let read =
        || -> Result<(String, i64, Option<String>), sqlx::Error> { Ok((row.try_get("kind")?, row.try_get("gpus")?, row.try_get("need")?)) };
    let (kind, gpus, need) = read().map_err(LedgerFault::during("read what a workload is"))?;
    of.observed.measured.kind =
        LedgerFault::read_word(&kind, "ledger.occupancy_opened", "kind", format!("of pod {}/{}", of.pod.0, of.pod.1))?;
    of.observed.measured.gpus_per_pod = gpus;
    // A need that an earlier release wrote in another form is not known.
    of.observed.need = need.and_then(|need| serde_json::from_str(&need).ok());
    Ok(())
}
