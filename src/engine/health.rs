//! `/livez`, `/readyz`, `/metrics`.
//!
//! Decides: when the operator is ready (its watches have listed) and that figures are served as [`super::exported`] writes them.

use std::sync::Arc;

use axum::extract::State as Held;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::sync::watch;

use super::driver::Engine;
use crate::ports::{Clock, Cloud, Cluster, Ledger};

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
        .route("/metrics", get(metrics))
        .with_state(probe);
    let ended = async move {
        let _ = stop.changed().await;
    };
    if let Err(fault) = axum::serve(listener, routes).with_graceful_shutdown(ended).await {
        tracing::warn!("health and metrics are no longer served: {fault}");
    }
}

async fn readyz(Held(probe): Held<Arc<dyn Probe>>) -> (StatusCode, &'static str) {
    match probe.ready() {
        true => (StatusCode::OK, "ok\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "the watches have not listed yet\n"),
    }
}

async fn metrics(Held(probe): Held<Arc<dyn Probe>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], probe.metrics())
}

impl<C: Cloud, K: Cluster, L: Ledger, T: Clock + 'static> Probe for Probed<C, K, L, T> {
    fn ready(&self) -> bool {
        self.engine.cluster.view().is_some()
    }

    fn metrics(&self) -> String {
        self.engine.metrics(*self.leading.borrow())
    }
}
