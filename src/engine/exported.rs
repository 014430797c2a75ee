//! The page of `/metrics`: the operator's memory and the cluster's view as figures.
//!
//! Decides: how each figure follows from memory. Does not: name metrics (see [`crate::metrics::register`]) or serve them (see `health`).

use std::collections::{BTreeMap, BTreeSet};

use super::driver::Engine;
use super::state::State;
use crate::core::fleet::Claim;
use crate::core::fleet::Ownership;
use crate::core::invariant::SEEN_IN_A_SNAPSHOT;
use crate::core::market::quota::vcpus_left;
use crate::core::market::{Capacity, CapacityType};
use crate::core::snapshot::memory::Warnings;
use crate::core::snapshot::seen;
use crate::core::units::ids::{PoolName, Region};
use crate::core::units::time::{Millis as Span, Timestamp};
use crate::core::workload::{Pod, PodPhase};
use crate::metrics::page::Figure::{Micro, Millis, Nano, Number};
use crate::metrics::page::{Figure, Page};
use crate::metrics::register as metric;
use crate::ports::{Clock, Cloud, Cluster, ClusterView, Ledger};

/// The team of GPUs that no pod holds.
const IDLE: &str = "(idle)";
/// The team of pods without a team's label.
const UNTAGGED: &str = "(untagged)";

impl<C: Cloud, K: Cluster, L: Ledger, T: Clock + 'static> Engine<C, K, L, T> {
    /// All metrics, as text.
    pub fn metrics(&self, leading: bool) -> String {
        let now = self.clock.now();
        let view = self.cluster.view().unwrap_or_default();
        let state = self.state();
        let mut page = Page::default();
        process(&mut page, &state, leading);
        safety(&mut page, &state, &view, (&self.cluster.uid(), self.cluster.ahead()));
        machines(&mut page, &state, &view, now);
        counted(&mut page, &state);
        market(&mut page, &state, now);
        account(&mut page, &state, &view, now);
        money_now(&mut page, &state, &view);
        ledger(&mut page, &state, now);
        finance(&mut page, &state);
        page.into_text()
    }
}

fn count(n: usize) -> Figure {
    Number(i64::try_from(n).unwrap_or(i64::MAX))
}

fn process(page: &mut Page, state: &State, leading: bool) {
    page.each(&metric::BUILD, [(vec![env!("CARGO_PKG_VERSION")], Number(1))]);
    page.one(&metric::LEADING, Number(i64::from(leading)));
    page.one(&metric::PASSES, Number(i64::try_from(state.passes).unwrap_or(i64::MAX)));
    page.counted(&metric::PASS_DURATION, &state.counts);
    page.one(&metric::STEPS, count(state.in_flight.len()));
    page.counted(&metric::STEPS_STOPPED, &state.counts);
    let broken = SEEN_IN_A_SNAPSHOT.iter().map(|invariant| {
        let passes = state.invariant_faults.get(invariant).copied().unwrap_or(0);
        (vec![invariant.to_string()], Number(i64::try_from(passes).unwrap_or(i64::MAX)))
    });
    page.each(&metric::FAULTS, broken);
}

/// The safeguards against terminating a wrong machine: whose machines there are, claims that cannot be read, the breaker, clocks.
fn safety(page: &mut Page, state: &State, view: &ClusterView, (uid, api_ahead): (&str, Option<Span>)) {
    let owned =
        |wanted: fn(&Ownership) -> bool| count(seen(&state.instances).filter(|i| i.is_alive() && wanted(&i.ownership(uid))).count());
    page.one(&metric::FOREIGN, owned(|o| matches!(o, Ownership::Foreign(_))));
    page.one(&metric::UNMARKED, owned(|o| *o == Ownership::Unmarked));
    page.one(&metric::UNCLAIMED, count(state.unclaimed_since.len()));
    page.one(&metric::UNREADABLE, count(view.unreadable_claims.len()));
    let undefined = |claim: &&Claim| !view.pools.contains_key(&claim.spec.node_pool) && !claim.is_of_definition(&view.pools_defined);
    let kept: BTreeSet<&PoolName> =
        view.claims.values().filter(undefined).map(|claim| &claim.spec.node_pool).chain(view.unreadable_pools.iter()).collect();
    page.one(&metric::UNREADABLE_POOLS, count(kept.len()));
    page.one(&metric::ABSENT_POLICIES, count(state.absent_policies));
    page.one(&metric::HELD_ENDS, Number(i64::try_from(state.held_ends).unwrap_or(i64::MAX)));
    page.one(&metric::DOUBTFUL, count(state.doubtful_nodes().values().filter(|doubt| doubt.is_alarming()).count()));
    let clocks = [("ec2", state.ec2_ahead), ("api-server", api_ahead)];
    let known: Vec<(&str, i64)> = clocks.into_iter().filter_map(|(whose, ahead)| Some((whose, ahead?.0))).collect();
    page.each(&metric::CLOCK_AHEAD, known.iter().map(|(whose, ahead)| (vec![*whose], Millis(*ahead))));
    page.each(&metric::OLD_CLOCK_AHEAD, known.iter().map(|(whose, ahead)| (vec![*whose], Number(*ahead))));
}

/// Where a claim is in its life cycle.
fn phase(claim: &Claim) -> &'static str {
    let status = &claim.status;
    if status.failure.is_some() {
        "failed"
    } else if status.ended.is_some() {
        "ended"
    } else if claim.deleting || status.moving.is_some() || status.terminate_asked.is_some() || claim.interrupted() {
        "leaving"
    } else if status.node_ready_at.is_some() {
        "ready"
    } else if status.instance.is_some() {
        "booting"
    } else {
        "asking"
    }
}

/// Claims that have a machine, with the pods on it.
fn running(view: &ClusterView) -> impl Iterator<Item = (&Claim, Vec<&Pod>)> {
    let mut pods: BTreeMap<_, Vec<&Pod>> = BTreeMap::new();
    for pod in view.pods.values().filter(|pod| !pod.finished()) {
        if let Some(claim) = &pod.claim {
            pods.entry(claim.clone()).or_default().push(pod);
        }
    }
    let runs = |claim: &&Claim| claim.may_run() && claim.status.instance.is_some();
    view.claims.values().filter(runs).map(move |claim| {
        let on_it = pods.get(&claim.name).cloned().unwrap_or_default();
        (claim, on_it.into_iter().filter(|pod| pod.phase != PodPhase::Gated).collect())
    })
}

fn gpus_of(pod: &Pod) -> i64 {
    pod.need.as_ref().map_or(0, |(need, _)| need.gpus)
}

fn machines(page: &mut Page, state: &State, view: &ClusterView, now: Timestamp) {
    page.one(&metric::CLAIMS, count(view.claims.len()));
    let mut machines: BTreeMap<Vec<String>, i64> = BTreeMap::new();
    for claim in view.claims.values() {
        let c = &claim.spec.capacity;
        let labels = [
            claim.spec.node_pool.to_string(),
            c.region.to_string(),
            c.zone.to_string(),
            c.instance_type.to_string(),
            c.capacity_type.to_string(),
            phase(claim).to_owned(),
        ];
        *machines.entry(labels.to_vec()).or_default() += 1;
    }
    page.each(&metric::MACHINES, machines.into_iter().map(|(labels, n)| (labels, Number(n))));
    let (mut gpus, mut risk) = (BTreeMap::new(), BTreeMap::new());
    for pool in view.pools.keys() {
        risk.insert(pool.to_string(), 0);
        for state in ["allocated", "idle"] {
            gpus.insert(vec![pool.to_string(), state.to_owned()], 0);
        }
    }
    for (claim, pods) in running(view) {
        let pool = claim.spec.node_pool.to_string();
        let units = claim.spec.gpu_units(&state.catalog);
        let held = pods.iter().map(|pod| gpus_of(pod)).sum::<i64>().clamp(0, units);
        *gpus.entry(vec![pool.clone(), "allocated".to_owned()]).or_default() += held;
        *gpus.entry(vec![pool.clone(), "idle".to_owned()]).or_default() += units - held;
        let expected = state.expected_interruptions(&claim.spec.capacity, now);
        *risk.entry(pool).or_default() += expected;
    }
    page.each(&metric::GPUS, gpus.into_iter().map(|(labels, n)| (labels, Number(n))));
    page.each(&metric::RISK, risk.into_iter().map(|(pool, n)| (vec![pool], Micro(n))));
    let waiting: Vec<&Pod> = view.pods.values().filter(|p| p.phase == PodPhase::Gated && p.claim.is_none()).collect();
    let gated = view.pods.values().filter(|p| p.phase == PodPhase::Gated).count();
    page.one(&metric::GATED, count(gated));
    page.one(&metric::GATED_OLDEST, Millis(waiting.iter().map(|p| now.since(p.created_at).0).max().unwrap_or(0).max(0)));
}

fn counted(page: &mut Page, state: &State) {
    for metric in [
        &metric::POD_WAIT,
        &metric::DECISIONS,
        &metric::REFUSED,
        &metric::LAUNCHES,
        &metric::NOTICES,
        &metric::INTERRUPTIONS,
        &metric::MOVES,
        &metric::MOVE_PHASES,
        &metric::MOVE_DURATION,
        &metric::MOVES_LATE,
        &metric::CALLS,
        &metric::CALL_DURATION,
    ] {
        page.counted(metric, &state.counts);
    }
}

/// Prices, their age by region and market, and what was learned of pools.
fn market(page: &mut Page, state: &State, now: Timestamp) {
    let mut oldest: BTreeMap<(&Region, CapacityType), i64> = BTreeMap::new();
    let mut offers: BTreeMap<&Region, i64> = state.surveys.keys().map(|region| (region, 0)).collect();
    for (capacity, offer) in &state.market.offers {
        let age = oldest.entry((&capacity.region, capacity.capacity_type)).or_default();
        *age = (*age).max(now.since(offer.observed_at).0);
        *offers.entry(&capacity.region).or_default() += 1;
    }
    let spot = oldest.iter().filter(|((_, market), _)| *market == CapacityType::Spot).map(|(_, age)| *age).max().unwrap_or(0);
    let cooling = state.memory.capacities().filter(|(_, record)| record.cool_down.is_some_and(|c| c.until > now)).count();
    page.one(&metric::OFFERS, count(state.market.offers.len()));
    let prices = state.market.offers.iter().map(|(capacity, offer)| {
        let labels = vec![
            capacity.region.to_string(),
            capacity.zone.to_string(),
            capacity.instance_type.to_string(),
            capacity.capacity_type.to_string(),
        ];
        (labels, Micro(offer.price_per_hour.0))
    });
    page.each(&metric::OFFER_PRICE, prices);
    page.one(&metric::PRICE_AGE, Millis(spot));
    page.one(&metric::OLD_PRICE_AGE, Number(spot));
    let ages = || oldest.iter().map(|((region, market), age)| (vec![region.to_string(), market.to_string()], *age));
    page.each(&metric::REGION_PRICE_AGE, ages().map(|(labels, age)| (labels, Millis(age))));
    page.each(&metric::OLD_REGION_PRICE_AGE, ages().map(|(labels, age)| (labels, Number(age))));
    page.each(&metric::REGION_OFFERS, offers.iter().map(|(region, n)| (vec![region.as_str()], Number(*n))));
    let closed = |region| Number(i64::from(state.closed_regions.contains_key(region)));
    page.each(&metric::REGION_CLOSED, state.surveys.keys().map(|region| (vec![region.as_str()], closed(region))));
    page.one(&metric::COOL_DOWNS, count(cooling));
    let warned = state.memory.capacities().filter(|(_, record)| record.warnings.given > 0);
    page.each(&metric::WARNINGS, warned.flat_map(|(at, record)| outcomes(at, record.warnings)));
    page.one(&metric::REMEMBERED, count(state.memory.capacities().count()));
    page.one(&metric::SCORES, count(state.scores.len()));
    page.one(&metric::PRICES_WAITING, count(state.price_changes.waiting()));
}

/// Quotas and the budgets of node pools.
fn account(page: &mut Page, state: &State, view: &ClusterView, now: Timestamp) {
    let ours = view.claims.values().filter(|claim| claim.may_run()).filter_map(|claim| {
        let machine = state.catalog.types.get(&claim.spec.capacity.instance_type)?;
        Some((&claim.spec.capacity, machine.vcpus))
    });
    let left = vcpus_left(&state.quotas, ours);
    let (mut limits, mut used) = (Vec::new(), Vec::new());
    for (region, quotas) in state.quotas.iter() {
        for quota in quotas {
            let labels = vec![region.to_string(), quota.family.label().to_owned(), quota.capacity_type.to_string()];
            let key =
                crate::core::market::quota::QuotaKey { region: region.clone(), family: quota.family, capacity_type: quota.capacity_type };
            used.push((labels.clone(), Number(quota.vcpus - left.get(&key).copied().unwrap_or(quota.vcpus))));
            limits.push((labels, Number(quota.vcpus)));
        }
    }
    page.each(&metric::QUOTA, limits);
    page.each(&metric::QUOTA_USED, used);
    let spend = state.month_spend(view, now);
    page.each(&metric::POOL_SPEND, spend.iter().map(|(pool, spend)| (vec![pool.as_str()], Micro(spend.0))));
    page.each(&metric::OLD_POOL_SPEND, spend.iter().map(|(pool, spend)| (vec![pool.as_str()], Number(spend.0))));
    let budgets = view.pools.iter().filter_map(|(name, pool)| Some((vec![name.as_str()], Micro(pool.monthly_budget?.0))));
    page.each(&metric::POOL_BUDGET, budgets);
}

/// What machines cost at this moment by team, and what their pods save compared with B1. A machine's price is split by GPUs.
fn money_now(page: &mut Page, state: &State, view: &ClusterView) {
    let (mut spend, mut saving): (BTreeMap<Vec<String>, i64>, BTreeMap<String, i64>) = Default::default();
    for (claim, pods) in running(view) {
        let price = state.market.offers.get(&claim.spec.capacity).map_or(claim.spec.price_per_hour, |offer| offer.price_per_hour).0;
        let market = claim.spec.capacity.capacity_type.to_string();
        let units = claim.spec.gpu_units(&state.catalog).max(1);
        let mut rest = price;
        for pod in pods {
            let cost = (price * gpus_of(pod) / units).min(rest);
            rest -= cost;
            let team = pod.attribution.team.clone().unwrap_or_else(|| UNTAGGED.to_owned());
            *spend.entry(vec![team.clone(), market.clone()]).or_default() += cost;
            // Without a rate, what the pod would have cost is unknown: it then counts as saving nothing.
            let otherwise = pod.baseline.b1_per_replica_hour.map_or(cost, |rate| rate.0);
            *saving.entry(team).or_default() += otherwise - cost;
        }
        if rest > 0 {
            *spend.entry(vec![IDLE.to_owned(), market]).or_default() += rest;
            *saving.entry(IDLE.to_owned()).or_default() -= rest;
        }
    }
    page.each(&metric::SPEND, spend.into_iter().map(|(labels, usd)| (labels, Micro(usd))));
    page.each(&metric::SAVING, saving.into_iter().map(|(team, usd)| (vec![team], Micro(usd))));
}

fn ledger(page: &mut Page, state: &State, now: Timestamp) {
    let since = |at: Option<Timestamp>| at.map_or(0, |at| now.since(at).0);
    page.one(&metric::OUTBOX, count(state.outbox_size));
    page.one(&metric::OUTBOX_BOUND, count(crate::core::record::OUTBOX_BOUND));
    for (new, old, age) in [
        (&metric::OUTBOX_AGE, &metric::OLD_OUTBOX_AGE, since(state.outbox_oldest)),
        (&metric::POSTING_AGE, &metric::OLD_POSTING_AGE, since(state.ledger_posted_at)),
        (&metric::SEAL_AGE, &metric::OLD_SEAL_AGE, since(state.ledger_sealed_at)),
    ] {
        page.one(new, Millis(age));
        page.one(old, Number(age));
    }
    page.one(&metric::BILLS_AGE, Millis(since(state.bills_complete_at)));
    page.one(&metric::BILLS_REFUSED, count(state.bills_refused));
    page.one(&metric::LEDGER, Number(i64::from(state.ledger_available)));
}

/// The ledger's money figures, as of the last read.
fn finance(page: &mut Page, state: &State) {
    let reported = &state.finance;
    page.each(&metric::MONTH_SPEND, reported.months.iter().map(|(team, (spend, _))| (vec![team.as_str()], Micro(spend.0))));
    page.each(&metric::MONTH_SAVING, reported.months.iter().map(|(team, (_, saving))| (vec![team.as_str()], Micro(saving.0))));
    page.each(&metric::BUDGET, reported.budgets.iter().map(|(name, b)| (vec![name.as_str()], Micro(b.plan.0))));
    page.each(&metric::BUDGET_SPENT, reported.budgets.iter().map(|(name, b)| (vec![name.as_str()], Micro(b.spent.0))));
    page.each(&metric::BUDGET_EXPECTED, reported.budgets.iter().map(|(name, b)| (vec![name.as_str()], Micro(b.expected.0))));
    let exhausted = reported.budgets.iter().filter_map(|(name, b)| Some((vec![name.as_str()], Millis(b.exhausted_at?.0))));
    page.each(&metric::BUDGET_EXHAUSTED, exhausted);
    let anomalies =
        reported.anomalies.iter().map(|((team, service, cause), n)| (vec![team.as_str(), service.as_str(), cause.as_str()], Number(*n)));
    page.each(&metric::ANOMALIES, anomalies);
    page.each(
        &metric::UNIT_COST,
        reported.unit_costs.iter().map(|((unit, window), usd)| (vec![unit.as_str(), window.as_str()], Nano(*usd))),
    );
    page.each(&metric::GPU_USE, reported.gpu_use.iter().map(|((team, part), usd)| (vec![team.as_str(), part], Micro(usd.0))));
}

/// What came of EC2's warnings of a capacity pool.
fn outcomes(at: &Capacity, warnings: Warnings) -> [(Vec<String>, Figure); 2] {
    let labels = |outcome: &str| vec![at.region.to_string(), at.zone.to_string(), at.instance_type.to_string(), outcome.to_owned()];
    let (followed, others) = (i64::from(warnings.followed), i64::from(warnings.given - warnings.followed));
    [(labels("followed"), Number(followed)), (labels("not-followed"), Number(others))]
}
