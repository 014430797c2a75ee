//! The console: what lowtide did, why, and what it cost, as pages for people.
//!
//! ```text
//!   request -> identity (who, and what may they see) -> page (cluster and ledger, read) -> HTML
//! ```
//!
//! Decides: who sees what ([`identity`], [`rights`]), and what a page shows ([`pages`]). Every figure stands with a link to its SQL ([`statements`]).
//! Does not: change anything, in the cluster or in the ledger. What it shows is put together by [`crate::kube::shown`] and [`crate::ledger`].

mod books;
mod charts;
mod frame;
mod identity;
mod live;
mod pages;
mod rights;
mod shapes;
mod sign_in;
mod statements;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{StatusCode, Uri};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use ipnet::IpNet;

use self::books::Books;
use self::identity::Gate;
use crate::core::units::time::Timestamp;
use crate::engine::wall_clock::WallClock;
use crate::kube::shown::Watched;
use crate::ledger::LedgerFault;
use crate::ports::Clock;

/// Nothing but what the console itself serves: no inline script or style, no other origin, no frame.
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; \
                          base-uri 'none'; frame-ancestors 'none'";
/// How long open pages may hold up the end of the process.
const FAREWELL: Duration = Duration::from_secs(2);

/// What the console must know.
#[derive(Debug, Clone)]
pub struct ConsoleSettings {
    /// The cluster's name, as people know it.
    pub cluster: String,
    /// The ledger, as a role that may only read; without it, pages about money say so.
    pub database_url: Option<String>,
    /// Networks whose headers say who somebody is. Empty: nobody's do.
    pub proxies: Vec<IpNet>,
    /// The header with the user's name.
    pub user_header: HeaderName,
    /// The header with the user's groups, separated by commas.
    pub groups_header: HeaderName,
}

/// Everything that pages read from.
pub(crate) struct Console {
    settings: ConsoleSettings,
    client: kube::Client,
    watched: Watched,
    gate: Gate,
    books: Arc<Books>,
}

impl Console {
    fn now(&self) -> Timestamp {
        WallClock.now()
    }
}

/// The state that handlers have.
type Held = axum::extract::State<Arc<Console>>;

/// Serves the console until `stop` ends.
///
/// # Errors
/// [`LedgerFault::BadUrl`] when the ledger's address cannot be read.
pub async fn serve(
    listener: tokio::net::TcpListener,
    client: kube::Client,
    settings: ConsoleSettings,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), LedgerFault> {
    let books = Arc::new(Books::open(settings.database_url.as_deref())?);
    let console =
        Arc::new(Console { watched: Watched::start(&client), gate: Gate::new(client.clone(), &settings), client, books, settings });
    let (ending, mut ended) = tokio::sync::watch::channel(false);
    let stopped = async move {
        stop.await;
        let _ = ending.send(true);
    };
    let service = router(console).into_make_service_with_connect_info::<SocketAddr>();
    let served = axum::serve(listener, service).with_graceful_shutdown(stopped);
    tokio::select! {
        outcome = served.into_future() => if let Err(fault) = outcome {
            tracing::warn!("the console is no longer served: {fault}");
        },
        // A page that is kept up to date holds its connection open.
        () = async {
            let _ = ended.changed().await;
            tokio::time::sleep(FAREWELL).await;
        } => {}
    }
    Ok(())
}

fn router(console: Arc<Console>) -> Router {
    Router::new()
        .route("/", get(|| async { Redirect::to("/market") }))
        .route("/market", get(pages::market::page))
        .route("/machines", get(pages::machines::page))
        .route("/moves", get(pages::moves::page))
        .route("/pods", get(pages::pods::list))
        .route("/pods/{namespace}/{name}", get(pages::pods::explained))
        .route("/savings", get(pages::savings::page))
        .route("/plans", get(pages::plans::page))
        .route("/anomalies", get(pages::anomalies::page))
        .route("/trust", get(pages::trust::page))
        .route("/sql/{name}", get(statements::page))
        .route("/live", get(live::stream))
        .route("/sign-in", get(sign_in::form).post(sign_in::sign_in))
        .route("/sign-out", post(sign_in::sign_out))
        .route("/assets/console.css", get(|| asset("text/css; charset=utf-8", include_str!("assets/console.css"))))
        .route("/assets/console.js", get(|| asset("text/javascript; charset=utf-8", include_str!("assets/console.js"))))
        .route("/assets/icon.svg", get(|| asset("image/svg+xml", include_str!("assets/icon.svg"))))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .fallback(nothing_here)
        .layer(map_response(guarded))
        .with_state(console)
}

async fn readyz(axum::extract::State(console): Held) -> (StatusCode, &'static str) {
    match console.watched.listed() {
        true => (StatusCode::OK, "ok\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "the watches have not listed yet\n"),
    }
}

async fn asset(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "public, max-age=300")], text)
}

async fn nothing_here(visitor: identity::Visitor, uri: Uri) -> Response {
    frame::refused(StatusCode::NOT_FOUND, true, &format!("There is no page {}.", uri.path()), Some(&visitor.person.name))
}

/// What every answer carries.
async fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
