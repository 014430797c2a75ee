//! Reading what is known of machines, as the pure rules take it.
//!
//! Decides: which of several facts about one thing holds (the first that was posted: history does not change), and which machines a
//! portion of the queue is about.
//! Does not: compute anything.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;
use uuid::Uuid;

use super::said;
use crate::core::accounting::allocation::{Occupied, lost_from};
use crate::core::accounting::billing::{HourRate, PaidInterval};
use crate::core::accounting::owners::{OwnerVersion, Owners, Retag, corrected};
use crate::core::accounting::statement::{CorrectedOwner, MachineFacts};
use crate::core::record::{interval_closed_id, interval_opened_id, occupancy_opened_id};
use crate::core::units::ids::{ObjectRef, Uid};
use crate::core::units::money::{MicroUsd, MicroUsdPerHour};
use crate::core::units::time::Timestamp;
use crate::core::workload::{Attribution, Workload};
use crate::ledger::store::LedgerFault;

/// Machines to look at, and the entries of the queue that are then done with.
#[derive(Debug, Default)]
pub(super) struct Portion {
    pub machines: Vec<String>,
    pub taken: Vec<i64>,
}

impl Portion {
    pub(super) fn is_empty(&self) -> bool {
        self.machines.is_empty() && self.taken.is_empty()
    }
}

/// Machines with news, machines they were moved to from, and machines whose next hour is settled.
pub(super) async fn take(connection: &mut PgConnection, now: Timestamp, most: i64) -> Result<Portion, LedgerFault> {
    let doing = LedgerFault::during;
    let news = sqlx::query!("SELECT n, claim_uid, claim, instance, claims FROM ledger.posting_queue ORDER BY n LIMIT $1", most)
        .fetch_all(&mut *connection)
        .await
        .map_err(doing("read the queue of machines with news"))?;
    let (mut uids, mut claims, mut instances, mut taken) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for entry in news {
        // One entry may name all machines of a statement.
        if i64::try_from(uids.len() + claims.len() + instances.len()).is_ok_and(|named| named >= most) {
            break;
        }
        taken.push(entry.n);
        uids.extend(entry.claim_uid);
        claims.extend(entry.claim.into_iter().chain(entry.claims.into_iter().flatten()));
        instances.extend(entry.instance);
    }
    let due = sqlx::query_scalar!(
        "SELECT claim_uid FROM ledger.posted_machine WHERE NOT complete AND due_at <= to_timestamp($1::bigint / 1000.0) ORDER BY due_at LIMIT $2",
        now.0,
        most
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(doing("read which hours are over"))?;
    uids.extend(due);
    let known = sqlx::query!(
        "SELECT DISTINCT claim_uid, claim FROM ledger.interval_opened WHERE claim_uid = ANY($1) OR claim = ANY($2) OR instance = ANY($3)",
        &uids,
        &claims,
        &instances
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(doing("find the machines"))?;
    // When a pod begins to run here, the pod it replaces began to run twice there.
    let names: Vec<String> = known.iter().map(|machine| machine.claim.clone()).collect();
    let left = sqlx::query_scalar!(
        "SELECT DISTINCT o.claim_uid FROM ledger.migration m JOIN ledger.interval_opened o ON o.claim = m.from_claim WHERE m.to_claim = ANY($1)",
        &names
    )
    .fetch_all(connection)
    .await
    .map_err(doing("find the machines that were left"))?;
    let machines: BTreeSet<String> = known.into_iter().map(|machine| machine.claim_uid).chain(left).collect();
    Ok(Portion { machines: machines.into_iter().collect(), taken })
}

/// A workload's labels at a point in time, for whom an owner version is wanted.
struct Wanted {
    workload: Workload,
    attribution: Attribution,
    at: Timestamp,
}

/// A pod before its owner is known.
struct Stay {
    occupied: Occupied,
    owner: Wanted,
}

/// Everything known of `machines` at `now`, and the owner versions found or begun for them.
pub(super) async fn load(
    connection: &mut PgConnection,
    machines: &[String],
    now: Timestamp,
) -> Result<(BTreeMap<Uid, MachineFacts>, Owners), LedgerFault> {
    let mut intervals = intervals(connection, machines, now).await?;
    let mut stays = stays(connection, machines, &intervals).await?;
    let mut bought = bought_for(connection, &intervals).await?;
    let instances = intervals.values().map(|opened| (opened.claim.clone(), opened.instance.clone())).collect();
    let billed = said::lines(connection, &instances).await?;
    let mut owners = known_owners(connection, stays.values().flatten().map(|stay| &stay.owner).chain(bought.values())).await?;
    // In order of time, so that no more versions are begun than needed.
    let mut all: Vec<&Wanted> = stays.values().flatten().map(|stay| &stay.owner).chain(bought.values()).collect();
    all.sort_by_key(|wanted| wanted.at);
    for wanted in all {
        owners.at(&wanted.workload, &wanted.attribution, wanted.at);
    }
    let retags = retags(connection, stays.values().flatten().map(|stay| &stay.owner).chain(bought.values())).await?;
    let mut loaded = BTreeMap::new();
    for (uid, opened) in std::mem::take(&mut intervals) {
        let mut of_machine = Vec::new();
        let mut version = |wanted: Wanted| {
            let usual = owners.at(&wanted.workload, &wanted.attribution, wanted.at);
            of_machine.extend(corrections(&mut owners, usual, &wanted, &retags));
            usual
        };
        let bought_for = bought.remove(&uid).map(&mut version);
        let pods = stays.remove(&uid).unwrap_or_default().into_iter();
        let facts = MachineFacts {
            gpus: opened.gpus,
            pods: pods.map(|stay| (stay.occupied, Some(version(stay.owner)))).collect(),
            bought_for,
            billed: billed.get(&opened.instance).map(|said| said.lines.clone()).unwrap_or_default(),
            said_by: billed.get(&opened.instance).map(|said| said.by.clone()).unwrap_or_default(),
            interval: opened.interval,
            corrected: of_machine,
        };
        loaded.insert(uid, facts);
    }
    Ok((loaded, owners))
}

/// Corrections of labels by workload, in the order they were made.
type Retags = BTreeMap<ObjectRef, Vec<Retag>>;

/// The days for which somebody else pays for work that is usually `usual`'s.
fn corrections(owners: &mut Owners, usual: Uuid, wanted: &Wanted, retags: &Retags) -> Vec<CorrectedOwner> {
    let of = retags.get(&wanted.workload.object).map_or(&[][..], Vec::as_slice);
    let spans = corrected(&wanted.attribution, of).into_iter();
    let owner = |span: crate::core::accounting::owners::Corrected| {
        let owner = if span.attribution == wanted.attribution { usual } else { owners.of_correction(&wanted.workload, &span) };
        CorrectedOwner { usual, from_day: span.from_day, to_day: span.to_day, owner, by: span.by }
    };
    spans.map(owner).collect()
}

async fn retags<'a>(connection: &mut PgConnection, wanted: impl Iterator<Item = &'a Wanted>) -> Result<Retags, LedgerFault> {
    let workloads: BTreeSet<&ObjectRef> = wanted.map(|wanted| &wanted.workload.object).collect();
    let workloads: Vec<ObjectRef> = workloads.into_iter().cloned().collect();
    crate::ledger::retag::of_workloads(connection, &workloads).await
}

struct Opened {
    claim: String,
    instance: String,
    decision: Uuid,
    gpus: i64,
    interval: PaidInterval,
}

async fn intervals(connection: &mut PgConnection, machines: &[String], now: Timestamp) -> Result<BTreeMap<Uid, Opened>, LedgerFault> {
    let doing = LedgerFault::during;
    let opened = sqlx::query!(
        r#"SELECT DISTINCT ON (claim_uid) claim_uid, claim, instance, decision, capacity_type, gpus, (price_usd_h * 1000000)::bigint AS "price!",
                  (on_demand_usd_h * 1000000)::bigint AS on_demand, ledger.ms(at) AS "from_ms!"
           FROM ledger.interval_opened WHERE claim_uid = ANY($1) ORDER BY claim_uid, posted_at, at"#,
        machines
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(doing("read the machines"))?;
    let closed = sqlx::query!(
        r#"SELECT DISTINCT ON (claim_uid) claim_uid, ended_by, ledger.ms(at) AS "to_ms!"
           FROM ledger.interval_closed WHERE claim_uid = ANY($1) ORDER BY claim_uid, posted_at, at"#,
        machines
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(doing("read which machines ended"))?;
    let ends: BTreeMap<String, (i64, String)> = closed.into_iter().map(|row| (row.claim_uid, (row.to_ms, row.ended_by))).collect();
    let priced = sqlx::query!(
        r#"SELECT DISTINCT ON (claim_uid, hour) claim_uid, hour, (price_usd_h * 1000000)::bigint AS "price!",
                  (on_demand_usd_h * 1000000)::bigint AS on_demand
           FROM ledger.hour_priced WHERE claim_uid = ANY($1) ORDER BY claim_uid, hour, posted_at, at"#,
        machines
    )
    .fetch_all(connection)
    .await
    .map_err(doing("read the prices of hours"))?;
    let mut hours: BTreeMap<String, BTreeMap<u32, HourRate>> = BTreeMap::new();
    for row in priced {
        let rate = HourRate { price: MicroUsdPerHour(row.price), on_demand: row.on_demand.map(MicroUsdPerHour) };
        hours.entry(row.claim_uid).or_default().insert(u32::try_from(row.hour).unwrap_or(u32::MAX), rate);
    }
    let read = opened.into_iter().map(|row| {
        let (uid, end) = (Uid::from(row.claim_uid.as_str()), ends.get(&row.claim_uid));
        let ended_by = |by: &String| LedgerFault::read_word(by, "ledger.interval_closed", "ended_by", interval_closed_id(&uid));
        let from = Timestamp(row.from_ms);
        let interval = PaidInterval {
            capacity_type: LedgerFault::read_word(&row.capacity_type, "ledger.interval_opened", "capacity_type", interval_opened_id(&uid))?,
            from,
            to: end.map_or(now, |(to, _)| Timestamp(*to)).max(from),
            ended_by: end.map(|(_, by)| ended_by(by)).transpose()?,
            bought_at: HourRate { price: MicroUsdPerHour(row.price), on_demand: row.on_demand.map(MicroUsdPerHour) },
            hours: hours.remove(&row.claim_uid).unwrap_or_default(),
        };
        let opened = Opened { claim: row.claim, instance: row.instance, decision: row.decision, gpus: row.gpus, interval };
        Ok((uid, opened))
    });
    read.collect()
}

async fn stays(
    connection: &mut PgConnection,
    machines: &[String],
    intervals: &BTreeMap<Uid, Opened>,
) -> Result<BTreeMap<Uid, Vec<Stay>>, LedgerFault> {
    let opened = sqlx::query!(
        r#"SELECT DISTINCT ON (o.claim_uid, o.pod_uid) o.claim_uid, o.pod_uid, o.workload_kind, o.workload_namespace, o.workload_name, o.kind,
                  o.team, o.service, o.environment, o.cost_center, o.product_area, o.component, o.gpus,
                  (o.b1_replica_usd_h * 1000000)::bigint AS b1, (o.b2_replica_usd_h * 1000000)::bigint AS b2, ledger.ms(o.at) AS "from_ms!",
                  (SELECT ledger.ms(c.at) FROM ledger.occupancy_closed c WHERE c.claim_uid = o.claim_uid AND c.pod_uid = o.pod_uid
                   ORDER BY c.posted_at, c.at LIMIT 1) AS to_ms,
                  round(o.carried_gib * o.carried_usd_per_gib * 1000000)::bigint AS egress,
                  ARRAY(SELECT ledger.ms(k.at) FROM ledger.checkpoint k WHERE k.claim_uid = o.claim_uid AND k.pod_uid = o.pod_uid) AS "checkpoints!"
           FROM ledger.occupancy_opened o WHERE o.claim_uid = ANY($1) ORDER BY o.claim_uid, o.pod_uid, o.posted_at, o.at"#,
        machines
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(LedgerFault::during("read the pods"))?;
    let doubled = replacements(connection, intervals).await?;
    let mut stays: BTreeMap<Uid, Vec<Stay>> = BTreeMap::new();
    for row in opened {
        let uid = Uid::from(row.claim_uid);
        let Some(machine) = intervals.get(&uid) else { continue };
        let PaidInterval { from: machine_from, to: machine_to, ended_by, .. } = machine.interval;
        let from = Timestamp(row.from_ms).max(machine_from);
        let to = row.to_ms.map_or(machine_to, Timestamp).min(machine_to).max(from);
        let workload =
            Workload { kind: row.workload_kind, object: ObjectRef { namespace: row.workload_namespace, name: row.workload_name } };
        let pod = Uid::from(row.pod_uid.as_str());
        let kind = LedgerFault::read_word(&row.kind, "ledger.occupancy_opened", "kind", occupancy_opened_id(&uid, &pod))?;
        let checkpoints: Vec<Timestamp> = row.checkpoints.into_iter().map(Timestamp).collect();
        let began = doubled.get(&(row.pod_uid, machine.claim.clone())).into_iter().flatten();
        let replaced = began.filter(|(of, _)| *of == workload).map(|(_, at)| *at).min();
        let occupied = Occupied {
            pod,
            gpus: row.gpus,
            from,
            to,
            doubled_from: replaced.filter(|at| *at < to).map(|at| at.max(from)),
            lost_from: lost_from(kind, ended_by, machine_to, (from, to), &checkpoints),
            egress: row.egress.map(MicroUsd),
            b1_per_replica_hour: row.b1.map(MicroUsdPerHour),
            b2_per_replica_hour: row.b2.map(MicroUsdPerHour),
        };
        let attribution = Attribution {
            team: row.team,
            service: row.service,
            environment: row.environment,
            cost_center: row.cost_center,
            product_area: row.product_area,
            component: row.component,
        };
        stays.entry(uid).or_default().push(Stay { occupied, owner: Wanted { workload, attribution, at: Timestamp(row.from_ms) } });
    }
    Ok(stays)
}

/// Since when which workloads' pods have run where a pod was moved to, by pod and the claim it left.
type Replacements = BTreeMap<(String, String), Vec<(Workload, Timestamp)>>;

async fn replacements(connection: &mut PgConnection, intervals: &BTreeMap<Uid, Opened>) -> Result<Replacements, LedgerFault> {
    let names: Vec<String> = intervals.values().map(|opened| opened.claim.clone()).collect();
    let rows = sqlx::query!(
        r#"SELECT m.pod_uid, m.from_claim, n.workload_kind, n.workload_namespace, n.workload_name, greatest(ledger.ms(n.at), ledger.ms(j.at)) AS "began!"
           FROM ledger.migration m
           CROSS JOIN LATERAL (SELECT x.claim_uid, x.at FROM ledger.interval_opened x WHERE x.claim = m.to_claim ORDER BY x.posted_at, x.at LIMIT 1) j
           CROSS JOIN LATERAL (SELECT DISTINCT ON (x.pod_uid) * FROM ledger.occupancy_opened x WHERE x.claim_uid = j.claim_uid
                               ORDER BY x.pod_uid, x.posted_at, x.at) n
           WHERE m.from_claim = ANY($1) AND n.pod_uid <> m.pod_uid AND greatest(ledger.ms(n.at), ledger.ms(j.at)) >= ledger.ms(m.decided_at)"#,
        &names
    )
    .fetch_all(connection)
    .await
    .map_err(LedgerFault::during("read the moves"))?;
    let mut found = Replacements::new();
    for row in rows {
        let workload =
            Workload { kind: row.workload_kind, object: ObjectRef { namespace: row.workload_namespace, name: row.workload_name } };
        found.entry((row.pod_uid, row.from_claim)).or_default().push((workload, Timestamp(row.began)));
    }
    Ok(found)
}

/// The work each machine was bought for, as its decision says.
async fn bought_for(connection: &mut PgConnection, intervals: &BTreeMap<Uid, Opened>) -> Result<BTreeMap<Uid, Wanted>, LedgerFault> {
    let ids: Vec<Uuid> = intervals.values().map(|opened| opened.decision).collect();
    let rows = sqlx::query!(
        r#"SELECT DISTINCT ON (id) id, ledger.ms(at) AS "at_ms!", workload_kind AS "kind!", workload_namespace AS "namespace!", workload_name AS "name!",
                  team, service, environment, cost_center, product_area, component
           FROM ledger.decision WHERE id = ANY($1) AND workload_kind IS NOT NULL AND workload_namespace IS NOT NULL AND workload_name IS NOT NULL
           ORDER BY id, posted_at, at"#,
        &ids
    )
    .fetch_all(connection)
    .await
    .map_err(LedgerFault::during("read whose work the machines were bought for"))?;
    let by_decision: BTreeMap<Uuid, _> = rows.into_iter().map(|row| (row.id, row)).collect();
    let wanted = intervals.iter().filter_map(|(uid, opened)| {
        let row = by_decision.get(&opened.decision)?;
        let object = ObjectRef { namespace: row.namespace.clone(), name: row.name.clone() };
        let attribution = Attribution {
            team: row.team.clone(),
            service: row.service.clone(),
            environment: row.environment.clone(),
            cost_center: row.cost_center.clone(),
            product_area: row.product_area.clone(),
            component: row.component.clone(),
        };
        let workload = Workload { kind: row.kind.clone(), object };
        Some((uid.clone(), Wanted { workload, attribution, at: Timestamp(row.at_ms) }))
    });
    Ok(wanted.collect())
}

/// The stored versions of the workloads that are asked for.
async fn known_owners<'a>(connection: &mut PgConnection, wanted: impl Iterator<Item = &'a Wanted>) -> Result<Owners, LedgerFault> {
    let workloads: BTreeSet<&ObjectRef> = wanted.map(|wanted| &wanted.workload.object).collect();
    let (namespaces, names): (Vec<String>, Vec<String>) = workloads.into_iter().map(|w| (w.namespace.clone(), w.name.clone())).unzip();
    let rows = sqlx::query!(
        r#"SELECT v.id, ledger.ms(v.at) AS "at_ms!", v.workload_kind, v.workload_namespace, v.workload_name, v.team, v.service, v.environment,
                  v.cost_center, v.product_area, v.component
           FROM unnest($1::text[], $2::text[]) AS w(namespace, name)
           JOIN ledger.workload_version v ON v.workload_namespace = w.namespace AND v.workload_name = w.name
           WHERE v.retag IS NULL"#,
        &namespaces,
        &names
    )
    .fetch_all(connection)
    .await
    .map_err(LedgerFault::during("read the labels of workloads"))?;
    Ok(Owners::new(rows.into_iter().map(|row| OwnerVersion {
        id: row.id,
        workload: Workload { kind: row.workload_kind, object: ObjectRef { namespace: row.workload_namespace, name: row.workload_name } },
        attribution: Attribution {
            team: row.team,
            service: row.service,
            environment: row.environment,
            cost_center: row.cost_center,
            product_area: row.product_area,
            component: row.component,
        },
        valid_from: Timestamp(row.at_ms),
        retag: None,
    })))
}
