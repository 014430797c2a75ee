//! What the API server's answers mean to the engine.
//!
//! Decides: which answers mean "decide again", "gone", "held by a budget", "refused for good" and "try again".
//! Source: every case was provoked on a 1.36.3 API server. A `uid` in a patch that differs is a 422, not a 409; two
//! PodDisruptionBudgets on one pod answer 500; a refused eviction is a 429 with cause `DisruptionBudget`.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use kube::core::Status;

use super::turns::TURNS;
use crate::ports::ClusterError;

/// Longest wait for one answer of the API server.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Waits for a turn (see [`super::turns`]), and then for the answer as [`call_at_once`] does. A turn may be waited for as long as it takes: what waits is not on its way,
/// and would only be decided again.
///
/// # Errors
/// Every [`ClusterError`].
pub async fn call<T>(what: impl Display, request: impl Future<Output = kube::Result<T>>) -> Result<T, ClusterError> {
    let _turn = TURNS.take().await;
    call_at_once(what, request).await
}

/// Waits for `request`, at most [`CALL_TIMEOUT`], and classifies its failure. `what` says what was tried, e.g. `bind pod ml/chat-0`.
///
/// # Errors
/// Every [`ClusterError`].
pub async fn call_at_once<T>(what: impl Display, request: impl Future<Output = kube::Result<T>>) -> Result<T, ClusterError> {
    match tokio::time::timeout(CALL_TIMEOUT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(sort(&what.to_string(), error)),
        Err(_) => Err(ClusterError::Unreachable(format!("{what}: no answer within {} s", CALL_TIMEOUT.as_secs()))),
    }
}

/// Treats "it is gone" as success: what was to be deleted does not exist.
///
/// # Errors
/// Every other [`ClusterError`].
pub fn gone_is_done<T>(answer: Result<T, ClusterError>) -> Result<Option<T>, ClusterError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(ClusterError::Gone(_)) => Ok(None),
        Err(other) => Err(other),
    }
}

fn sort(what: &str, error: kube::Error) -> ClusterError {
    match error {
        kube::Error::Api(status) => sort_status(what, &status),
        kube::Error::SerdeError(e) => ClusterError::Refused(format!("{what}: the answer could not be read: {e}")),
        kube::Error::BuildRequest(e) => ClusterError::Refused(format!("{what}: the request could not be built: {e}")),
        other => ClusterError::Unreachable(format!("{what}: {other}")),
    }
}

fn sort_status(what: &str, status: &Status) -> ClusterError {
    let causes = status.details.as_ref().map(|d| d.causes.as_slice()).unwrap_or_default();
    // The message of a refused eviction says only that a budget holds it; its cause says which.
    let budget: String = causes.iter().filter(|c| c.reason == "DisruptionBudget").map(|c| format!(" {}", c.message)).collect();
    let text = format!("{what}: {}{budget} ({} {})", status.message, status.code, status.reason);
    match status.code {
        409 => ClusterError::Conflict(text),
        404 | 410 => ClusterError::Gone(text),
        422 if causes.iter().any(|c| c.field == "metadata.uid") => ClusterError::Conflict(text),
        429 if causes.iter().any(|c| c.reason == "DisruptionBudget") => ClusterError::HeldByBudget(text),
        // The eviction subresource does not support two budgets on one pod; it is retried, as with one that refuses.
        500 if status.message.contains("more than one PodDisruptionBudget") => ClusterError::HeldByBudget(text),
        408 | 429 => ClusterError::Unreachable(text),
        400..=499 => ClusterError::Refused(text),
        _ => ClusterError::Unreachable(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::response::{StatusCause, StatusDetails};

    fn answer(code: u16, reason: &str, message: &str, cause: (&str, &str)) -> ClusterError {
        let cause = StatusCause { reason: cause.0.into(), field: cause.1.into(), message: String::new() };
        let details = StatusDetails {
            name: String::new(),
            group: String::new(),
            kind: String::new(),
            uid: String::new(),
            causes: vec![cause],
            retry_after_seconds: 0,
        };
        let status = Status::failure(message, reason).with_code(code).with_details(details);
        sort_status("patch pod ml/a", &status)
    }

    #[test]
    fn answers_are_sorted_by_what_we_do_next() {
        assert!(matches!(answer(409, "Conflict", "stale", ("", "")), ClusterError::Conflict(_)));
        assert!(matches!(answer(422, "Invalid", "uid differs", ("FieldValueInvalid", "metadata.uid")), ClusterError::Conflict(_)));
        assert!(matches!(answer(422, "Invalid", "bad", ("FieldValueInvalid", "spec.nodeSelector")), ClusterError::Refused(_)));
        assert!(matches!(answer(404, "NotFound", "no", ("", "")), ClusterError::Gone(_)));
        assert!(matches!(answer(429, "TooManyRequests", "budget", ("DisruptionBudget", "")), ClusterError::HeldByBudget(_)));
        assert!(matches!(answer(429, "TooManyRequests", "slow down", ("", "")), ClusterError::Unreachable(_)));
        let two = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        assert!(matches!(answer(500, "InternalError", two, ("", "")), ClusterError::HeldByBudget(_)));
        assert!(matches!(answer(500, "InternalError", "etcd", ("", "")), ClusterError::Unreachable(_)));
        let refused = answer(403, "Forbidden", "may not", ("", ""));
        assert_eq!(refused, ClusterError::Refused("patch pod ml/a: may not (403 Forbidden)".into()));
    }
}
