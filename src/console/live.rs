//! Tells open pages that something has changed, by server-sent events; they fetch themselves again.
//!
//! Decides: how often, and that a stream ends after a while, so that whoever lost their rights loses it, too. The events carry nothing.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::Stream;
use tokio::time::Instant;

use super::Held;
use super::identity::Visitor;

/// Between two events at least.
const PAUSE: Duration = Duration::from_secs(1);
/// A stream ends, and the browser asks again.
const LASTS: Duration = Duration::from_secs(300);

/// The stream of a page that wants to be fetched again after `every`, even if nothing has changed.
pub(super) async fn stream(
    State(console): Held,
    _visitor: Visitor,
    Query(asked): Query<BTreeMap<String, String>>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let every = asked.get("every").and_then(|seconds| seconds.parse().ok()).unwrap_or(30_u64).clamp(2, 60);
    let mut version = console.watched.version();
    version.mark_unchanged();
    let begun = Instant::now();
    let events = futures::stream::unfold(version, move |mut version| async move {
        tokio::time::sleep(PAUSE).await;
        let _ = tokio::time::timeout(Duration::from_secs(every), version.changed()).await;
        // Without data no browser dispatches it.
        (begun.elapsed() < LASTS).then(|| (Ok(Event::default().event("changed").data("page")), version))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}
