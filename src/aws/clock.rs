//! How far EC2's clock is ahead of ours, from the `Date` of its answers.
//!
//! Decides: nothing. Join timeouts are spans between two readings of EC2's clock, so a wrong clock of ours terminates no machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::DateTime;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::date_time::Format;

use crate::core::units::time::{Millis, Timestamp};
use crate::ports::Clock;

/// Differences from here on are logged.
const FAR: i64 = 5_000;
/// Not known yet.
const UNKNOWN: i64 = i64::MIN;

/// Reads the time of every answer of EC2.
#[derive(Clone)]
pub(super) struct Ec2Clock {
    clock: Arc<dyn Clock>,
    ahead: Arc<AtomicI64>,
}

impl std::fmt::Debug for Ec2Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ec2Clock").field("ahead", &self.ahead()).finish_non_exhaustive()
    }
}

impl Ec2Clock {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Ec2Clock { clock, ahead: Arc::new(AtomicI64::new(UNKNOWN)) }
    }

    /// The difference, once an answer has been received.
    pub(super) fn ahead(&self) -> Option<Millis> {
        Some(self.ahead.load(Ordering::Relaxed)).filter(|at| *at != UNKNOWN).map(Millis)
    }

    fn learn(&self, date: &str) {
        let Some(seen) = difference(date, self.clock.now()) else { return };
        let before = self.ahead.swap(seen.0, Ordering::Relaxed);
        if seen.0.abs() > FAR && (before == UNKNOWN || (before - seen.0).abs() > FAR) {
            tracing::warn!(ahead_milliseconds = seen.0, "EC2's clock and ours differ: synchronise ours with NTP");
        }
    }
}

/// The time in a `Date` header less ours. The header is truncated to whole seconds, so half a second is added.
fn difference(date: &str, answered: Timestamp) -> Option<Millis> {
    let theirs = DateTime::from_str(date, Format::HttpDate).ok()?.to_millis().ok()?;
    Some(Millis(theirs + 500 - answered.0))
}

impl Intercept for Ec2Clock {
    fn name(&self) -> &'static str {
        "Ec2Clock"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(date) = context.response().headers().get("date") {
            self.learn(date);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_an_answer_is_held_against_ours() {
        let at = |ms: i64| Timestamp(1_795_910_400_000 + ms);
        let date = "Sun, 29 Nov 2026 00:00:10 GMT";
        assert_eq!(difference(date, at(10_500)), Some(Millis(0)));
        assert_eq!(difference(date, at(250_500)), Some(Millis(-240_000)), "ours is four minutes ahead");
        assert_eq!(difference("soon", at(0)), None);
    }
}
