//! Asking again when Postgres does not answer at once: for commands people run, never for the operator's writes (those wait in the outbox).
//!
//! Decides: how often and how long. The one module that uses `backoff`.

use std::future::Future;
use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;

/// Tries `attempt` until it works, fails for good (`lasting`), or ten seconds have passed; gives the last error.
///
/// # Errors
/// The last error of `attempt`.
pub async fn with_retries<T, E, F>(mut attempt: impl FnMut() -> F, lasting: impl Fn(&E) -> bool) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let mut pauses = ExponentialBackoff {
        initial_interval: Duration::from_millis(200),
        max_interval: Duration::from_secs(3),
        max_elapsed_time: Some(Duration::from_secs(10)),
        ..ExponentialBackoff::default()
    };
    pauses.reset();
    loop {
        match attempt().await {
            Err(fault) if !lasting(&fault) => match pauses.next_backoff() {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(fault),
            },
            done => return done,
        }
    }
}
