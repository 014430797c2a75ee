//! How far the API server's clock is ahead of ours, from the time in its answers.
//!
//! Decides: nothing. Its version is requested once a minute; a clock that is far off is logged and exported, but stops nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use k8s_openapi::jiff::fmt::rfc2822;
use kube::Client;
use kube::client::Body;
use tokio::task::AbortHandle;

use crate::core::units::time::{Millis, Timestamp};
use crate::ports::Clock;

/// Interval between two checks.
const EVERY: Duration = Duration::from_secs(60);
/// Differences from here on are logged: leases, deadlines and prices are good for seconds.
const FAR: Millis = Millis::from_secs(5);
/// Not known yet.
const UNKNOWN: i64 = i64::MIN;

/// Keeps measuring the difference until dropped.
#[derive(Debug)]
pub struct ApiClock {
    ahead: Arc<AtomicI64>,
    task: AbortHandle,
}

impl ApiClock {
    /// Starts measuring.
    pub fn start(client: Client, clock: Arc<dyn Clock>) -> Self {
        let ahead = Arc::new(AtomicI64::new(UNKNOWN));
        let kept = Arc::clone(&ahead);
        let looking = async move {
            loop {
                if let Some(seen) = look(&client, &*clock).await {
                    kept.store(seen.0, Ordering::Relaxed);
                    if seen.0.abs() > FAR.0 {
                        tracing::warn!(ahead_milliseconds = seen.0, "the API server's clock and ours differ: synchronise both with NTP");
                    }
                }
                tokio::time::sleep(EVERY).await;
            }
        };
        ApiClock { ahead, task: tokio::spawn(looking).abort_handle() }
    }

    /// The difference, once it is known. Answers carry whole seconds.
    pub fn ahead(&self) -> Option<Millis> {
        Some(self.ahead.load(Ordering::Relaxed)).filter(|at| *at != UNKNOWN).map(Millis)
    }
}

impl Drop for ApiClock {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn look(client: &Client, clock: &dyn Clock) -> Option<Millis> {
    let request = axum::http::Request::get("/version").body(Body::empty()).ok()?;
    let asked = clock.now();
    let answer = tokio::time::timeout(Duration::from_secs(10), client.send(request)).await.ok()?.ok()?;
    let answered = clock.now();
    difference(answer.headers().get(axum::http::header::DATE)?.to_str().ok()?, asked, answered)
}

/// The time in a `Date` header less the middle of the call. The header is truncated to whole seconds, so half a second is added.
fn difference(date: &str, asked: Timestamp, answered: Timestamp) -> Option<Millis> {
    let theirs = rfc2822::parse(date).ok()?.timestamp().as_millisecond();
    Some(Millis(theirs + 500 - (asked.0 + answered.0) / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_an_answer_is_held_against_the_middle_of_the_call() {
        let at = |ms: i64| Timestamp(1_795_910_400_000 + ms);
        let date = "Sun, 29 Nov 2026 00:00:10 GMT";
        assert_eq!(difference(date, at(10_400), at(10_600)), Some(Millis(0)));
        assert_eq!(difference(date, at(250_400), at(250_600)), Some(Millis(-240_000)), "ours is four minutes ahead");
        assert_eq!(difference("yesterday", at(0), at(0)), None);
    }
}
