//! `/livez`, `/readyz`, `/metrics`.
//!
//! Decides: when the operator is ready (its watches have listed) and which figures are exported, always with few labels.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State as Held;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::sync::watch;

use super::driver::Engine;
use super::ports::{Clock, Cloud, Cluster, Ledger};

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
        let oldest_price = state.market.offers.values().map(|o| now.since(o.observed_at).0).max().unwrap_or(0);
        let outbox_age = state.outbox_oldest.map_or(0, |at| now.since(at).0);
        let gated = view.pods.values().filter(|p| p.phase == crate::core::world::PodPhase::Gated).count();
        let since = |at: Option<crate::core::time::Timestamp>| at.map_or(0, |at| now.since(at).0);
        let figures: [(&str, &str, i64); 13] = [
            ("lowtide_leading", "1 while this replica leads.", i64::from(*self.leading.borrow())),
            ("lowtide_passes_total", "Passes since the start.", i64::try_from(state.passes).unwrap_or(i64::MAX)),
            ("lowtide_offers", "Offers with a price.", count(state.market.offers.len())),
            ("lowtide_price_age_milliseconds", "Age of the oldest price.", oldest_price),
            (
                "lowtide_cool_downs",
                "Pools of capacity left alone now.",
                count(state.market.cool_downs.values().filter(|c| c.until > now).count()),
            ),
            ("lowtide_claims", "Node claims.", count(view.claims.len())),
            ("lowtide_gated_pods", "Pods that wait for a machine.", count(gated)),
            ("lowtide_steps_in_flight", "Steps being carried out.", count(state.in_flight.len())),
            ("lowtide_outbox_records", "Records that wait for the ledger (at most one batch is counted).", count(state.outbox_size)),
            ("lowtide_outbox_age_milliseconds", "Age of the oldest waiting record.", outbox_age),
            (
                "lowtide_posting_age_milliseconds",
                "Since everything settled was posted; 0 before the first time.",
                since(state.ledger_posted_at),
            ),
            (
                "lowtide_seal_age_milliseconds",
                "Since everything settled was sealed; 0 before the first time.",
                since(state.ledger_sealed_at),
            ),
            ("lowtide_ledger_available", "1 while Postgres takes records.", i64::from(state.ledger_available)),
        ];
        let mut text = String::new();
        for (name, help, value) in figures {
            let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        }
        text
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
