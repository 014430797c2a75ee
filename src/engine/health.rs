//! `/livez`, `/readyz`, `/metrics`.
//!
//! Decides: when the operator is ready (its watches have listed) and which figures are exported; labels are regions, pools and markets only.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State as Held;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::sync::watch;

use super::driver::Engine;
use super::state::State;
use crate::core::fleet::Ownership;
use crate::core::invariant::SEEN_IN_A_SNAPSHOT;
use crate::core::market::CapacityType;
use crate::core::snapshot::seen;
use crate::core::units::ids::Region;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::PodPhase;
use crate::ports::{Clock, Cloud, Cluster, ClusterView, Ledger};

/// What the handlers ask.
trait Probe: Send + Sync {
    fn ready(&self) -> bool;
    fn metrics(&self) -> String;
}

struct Probed<C, K, L, T> {
    engine: Arc<Engine<C, K, L, T>>,
    leading: watch::Receiver<bool>,
}

/// Serves until `stop` says so.
pub async fn serve<C: Cloud, K: Cluster, L: Ledger, T: Clock + 'static>(
    listener: tokio::net::TcpListener,
    engine: Arc<Engine<C, K, L, T>>,
    leading: watch::Receiver<bool>,
    mut stop: watch::Receiver<bool>,
) {
    let probe: Arc<dyn Probe> = Arc::new(Probed { engine, leading });
    let routes = axum::Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(|Held(probe): Held<Arc<dyn Probe>>| async move { probe.metrics() }))
        .with_state(probe);
    let ended = async move {
        let _ = stop.changed().await;
    };
    if let Err(fault) = axum::serve(listener, routes).with_graceful_shutdown(ended).await {
        tracing::warn!("health and metrics are not served any more: {fault}");
    }
}

async fn readyz(Held(probe): Held<Arc<dyn Probe>>) -> (StatusCode, &'static str) {
    match probe.ready() {
        true => (StatusCode::OK, "ok\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "the watches have not listed yet\n"),
    }
}

impl<C: Cloud, K: Cluster, L: Ledger, T: Clock + 'static> Probe for Probed<C, K, L, T> {
    fn ready(&self) -> bool {
        self.engine.cluster.view().is_some()
    }

    fn metrics(&self) -> String {
        let now = self.engine.clock.now();
        let view = self.engine.cluster.view().unwrap_or_default();
        let state = self.engine.state();
        let mut text = process(&state, &view, *self.leading.borrow(), now);
        text.push_str(&safety(&state, &view, (&self.engine.cluster.uid(), self.engine.cluster.ahead())));
        text.push_str(&market(&state, now));
        text.push_str(&account(&state, &view, now));
        text
    }
}

/// One metric: its help, and a value per set of labels, as in `region="us-east-1"`.
fn write(text: &mut String, name: &str, help: &str, values: impl IntoIterator<Item = (String, i64)>) {
    let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in values {
        let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
        let _ = writeln!(text, "{name}{labels} {value}");
    }
}

fn one(value: i64) -> [(String, i64); 1] {
    [(String::new(), value)]
}

fn process(state: &State, view: &ClusterView, leading: bool, now: Timestamp) -> String {
    let outbox_age = state.outbox_oldest.map_or(0, |at| now.since(at).0);
    let gated = view.pods.values().filter(|p| p.phase == PodPhase::Gated).count();
    let since = |at: Option<Timestamp>| at.map_or(0, |at| now.since(at).0);
    let figures: [(&str, &str, i64); 10] = [
        ("lowtide_leading", "1 while this replica leads.", i64::from(leading)),
        ("lowtide_passes_total", "Passes since the start.", i64::try_from(state.passes).unwrap_or(i64::MAX)),
        ("lowtide_claims", "Node claims.", count(view.claims.len())),
        ("lowtide_gated_pods", "Pods that wait for a machine.", count(gated)),
        ("lowtide_steps_in_flight", "Steps being carried out.", count(state.in_flight.len())),
        ("lowtide_outbox_records", "Records that wait for the ledger.", count(state.outbox_size)),
        ("lowtide_outbox_age_milliseconds", "Age of the oldest waiting record.", outbox_age),
        (
            "lowtide_posting_age_milliseconds",
            "Since everything settled was posted; 0 before the first time.",
            since(state.ledger_posted_at),
        ),
        ("lowtide_seal_age_milliseconds", "Since everything settled was sealed; 0 before the first time.", since(state.ledger_sealed_at)),
        ("lowtide_ledger_available", "1 while Postgres takes records.", i64::from(state.ledger_available)),
    ];
    let mut text = String::new();
    figures.into_iter().for_each(|(name, help, value)| write(&mut text, name, help, one(value)));
    let broken = SEEN_IN_A_SNAPSHOT.iter().map(|invariant| {
        let passes = state.invariant_faults.get(invariant).copied().unwrap_or(0);
        (format!("invariant=\"{invariant}\""), i64::try_from(passes).unwrap_or(i64::MAX))
    });
    write(&mut text, "lowtide_invariant_faults_total", "Passes that saw an invariant broken; anything but 0 is a bug of lowtide.", broken);
    text
}

/// What is not ours, what cannot be read, what is held back, and clocks.
fn safety(state: &State, view: &ClusterView, (uid, api_ahead): (&str, Option<Millis>)) -> String {
    let alive = || seen(&state.instances).filter(|i| i.is_alive());
    let owned = |wanted: fn(&Ownership) -> bool| count(alive().filter(|i| wanted(&i.ownership(uid))).count());
    let figures: [(&str, &str, i64); 5] = [
        (
            "lowtide_foreign_instances",
            "Machines that carry this cluster's name and another cluster's UID: left alone.",
            owned(|o| matches!(o, Ownership::Foreign(_))),
        ),
        (
            "lowtide_unmarked_instances",
            "Machines that carry this cluster's name and no UID: made before lowtide wrote one.",
            owned(|o| *o == Ownership::Unmarked),
        ),
        ("lowtide_unclaimed_instances", "Machines that no claim stands for.", count(state.unclaimed_since.len())),
        (
            "lowtide_unreadable_claims",
            "Claims that this version cannot read: their machines are kept, and nothing is swept.",
            count(view.unreadable_claims.len()),
        ),
        (
            "lowtide_held_ends",
            "Machines that would be ended and are kept by the breaker until a person says so.",
            i64::try_from(state.held_ends).unwrap_or(i64::MAX),
        ),
    ];
    let mut text = String::new();
    figures.into_iter().for_each(|(name, help, value)| write(&mut text, name, help, one(value)));
    let doubtful = count(state.doubtful_nodes().values().filter(|doubt| doubt.is_alarming()).count());
    write(&mut text, "lowtide_doubtful_nodes", "Nodes that pass for a machine and are not used.", one(doubtful));
    let clocks = [("ec2", state.ec2_ahead), ("api-server", api_ahead)];
    let known = clocks.into_iter().filter_map(|(whose, ahead)| Some((format!("clock=\"{whose}\""), ahead?.0)));
    write(&mut text, "lowtide_clock_ahead_milliseconds", "How far another clock is ahead of ours.", known);
    text
}

/// Prices, their age by region and market, and what was learnt of pools.
fn market(state: &State, now: Timestamp) -> String {
    let mut oldest: BTreeMap<(&Region, CapacityType), i64> = BTreeMap::new();
    let mut offers: BTreeMap<&Region, i64> = state.surveys.keys().map(|region| (region, 0)).collect();
    for (pool, offer) in &state.market.offers {
        let age = oldest.entry((&pool.region, pool.capacity_type)).or_default();
        *age = (*age).max(now.since(offer.observed_at).0);
        *offers.entry(&pool.region).or_default() += 1;
    }
    let spot = oldest.iter().filter(|((_, market), _)| *market == CapacityType::Spot).map(|(_, age)| *age).max().unwrap_or(0);
    let cooling = state.memory.pools().filter(|(_, record)| record.cool_down.is_some_and(|c| c.until > now)).count();
    let regions = |value: &dyn Fn(&Region) -> i64| -> Vec<(String, i64)> {
        state.surveys.keys().map(|region| (format!("region=\"{region}\""), value(region))).collect()
    };
    let mut text = String::new();
    write(&mut text, "lowtide_offers", "Offers with a price.", one(count(state.market.offers.len())));
    write(&mut text, "lowtide_price_age_milliseconds", "Age of the oldest spot price.", one(spot));
    let ages = oldest.iter().map(|((region, market), age)| (format!("region=\"{region}\",capacity_type=\"{market}\""), *age));
    write(&mut text, "lowtide_region_price_age_milliseconds", "Age of the oldest price of a region.", ages);
    write(&mut text, "lowtide_region_offers", "Offers of a region.", regions(&|region| offers.get(region).copied().unwrap_or(0)));
    let closed = regions(&|region| i64::from(state.closed_regions.contains_key(region)));
    write(&mut text, "lowtide_region_closed", "1 while EC2 does not let the account use a region.", closed);
    write(&mut text, "lowtide_cool_downs", "Pools of capacity left alone now.", one(count(cooling)));
    write(
        &mut text,
        "lowtide_pools_remembered",
        "Pools of capacity of which something was learnt.",
        one(count(state.memory.pools().count())),
    );
    write(&mut text, "lowtide_placement_scores", "Spot placement scores known.", one(count(state.scores.len())));
    write(&mut text, "lowtide_prices_waiting", "Price changes that wait for the ledger.", one(count(state.price_changes.waiting())));
    text
}

/// Quotas and budgets.
fn account(state: &State, view: &ClusterView, now: Timestamp) -> String {
    let quotas = state.quotas.iter().flat_map(|(region, quotas)| {
        quotas.iter().map(move |q| {
            let labels = format!("region=\"{region}\",family=\"{}\",capacity_type=\"{}\"", q.family.label(), q.capacity_type);
            (labels, q.vcpus)
        })
    });
    let spend = state.month_spend(view, now).into_iter().map(|(pool, spend)| (format!("pool=\"{pool}\""), spend.0));
    let mut text = String::new();
    write(&mut text, "lowtide_quota_vcpus", "vCPUs that a quota lets the account run.", quotas);
    let help = "What counts against a pool's budget of this month: settled, accrued and committed.";
    write(&mut text, "lowtide_pool_month_spend_micro_usd", help, spend);
    text
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
