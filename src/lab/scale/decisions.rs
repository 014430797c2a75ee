//! From EC2's notice to the decision to move the work, machine by machine.
//!
//! Decides: what counts as the decision: the first one that moves work off the machine because of the notice. `decided` is the moment the plan was
//! made; `durable` is when this watch of the outbox saw it, which includes writing it and the API server's own delay.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use kube::Api;
use kube::runtime::watcher::{Event, watcher};
use serde::Serialize;
use serde_json::Value;

use crate::core::units::time::Timestamp;
use crate::kube::api::GpuDecision;
use crate::lab::error::LabError;
use crate::lab::{kubeconfig, wall_clock};

/// Before a watch that failed is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// Which notices are sent.
#[derive(Debug, Clone, Copy)]
pub struct Notices {
    /// To how many machines.
    pub machines: usize,
    /// Between two.
    pub pause: Duration,
}

/// When work was decided to leave a machine.
#[derive(Debug, Clone, Copy)]
struct Decided {
    at: Timestamp,
    seen_at: Timestamp,
}

/// A spread of times, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Half took no longer.
    pub p50_ms: i64,
    /// 99 of 100 took no longer.
    pub p99_ms: i64,
    /// The longest.
    pub most_ms: i64,
}

/// Notices and the decisions about them.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Latency {
    /// Notices sent.
    pub notices: usize,
    /// Machines about which nothing was decided in time.
    pub undecided: usize,
    /// From the notice to the plan.
    pub decided: Spread,
    /// From the notice to the record, durable and seen.
    pub durable: Spread,
}

/// Watches the outbox until dropped.
#[derive(Debug)]
pub struct Decisions {
    first: Arc<Mutex<BTreeMap<String, Decided>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Decisions {
    /// Begins to watch.
    pub async fn watch(admin_kubeconfig: &Path) -> Result<Decisions, LabError> {
        let api: Api<GpuDecision> = Api::all(kubeconfig::client(admin_kubeconfig, None).await?);
        let first = Arc::new(Mutex::new(BTreeMap::new()));
        let shared = Arc::clone(&first);
        let task = tokio::spawn(async move {
            let mut events = std::pin::pin!(watcher(api, Default::default()));
            while let Some(event) = events.next().await {
                match event {
                    Ok(Event::Apply(object) | Event::InitApply(object)) => note(&shared, &object.spec.record),
                    Ok(Event::Init | Event::InitDone | Event::Delete(_)) => {}
                    Err(_) => tokio::time::sleep(AGAIN).await,
                }
            }
        });
        Ok(Decisions { first, task })
    }

    /// Of these machines (claim, and when its notice was sent), how long each took; `None` for one not decided yet.
    pub fn about(&self, noticed: &BTreeMap<String, Timestamp>) -> Latency {
        let Ok(first) = self.first.lock() else { return Latency::default() };
        let known: Vec<_> = noticed.iter().filter_map(|(claim, at)| Some((*at, first.get(claim)?))).collect();
        let spread = |of: fn(&Decided) -> Timestamp| spread(known.iter().map(|(at, decided)| of(decided).since(*at).0).collect());
        Latency {
            notices: noticed.len(),
            undecided: noticed.len() - known.len(),
            decided: spread(|d| d.at),
            durable: spread(|d| d.seen_at),
        }
    }
}

impl Drop for Decisions {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The claim that a record moves work off because of a notice, and when that was decided.
fn leaves(record: &Value) -> Option<(String, Timestamp)> {
    let is = |key: &str, value: &str| record.get(key).and_then(Value::as_str) == Some(value);
    if !(is("record", "decision") && is("trigger", "interruption-notice")) {
        return None;
    }
    let claim = record.get("from_claim").and_then(Value::as_str)?;
    Some((claim.to_owned(), Timestamp(record.get("decided_at").and_then(Value::as_i64)?)))
}

fn note(first: &Mutex<BTreeMap<String, Decided>>, record: &Value) {
    let Some((claim, at)) = leaves(record) else { return };
    let seen = Decided { at, seen_at: wall_clock() };
    if let Ok(mut first) = first.lock() {
        let known = first.entry(claim).or_insert(seen);
        if at < known.at {
            *known = seen;
        }
    }
}

fn spread(mut all: Vec<i64>) -> Spread {
    all.sort_unstable();
    // The smallest value that this share of all does not exceed.
    let share = |percent: usize| all.get((all.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0);
    Spread { p50_ms: share(50), p99_ms: share(99), most_ms: share(100) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn shares_are_of_all_that_was_seen() {
        assert_eq!(spread((1..=200).rev().collect()), Spread { p50_ms: 100, p99_ms: 198, most_ms: 200 });
        assert_eq!((spread(vec![7]), spread(Vec::new())), (Spread { p50_ms: 7, p99_ms: 7, most_ms: 7 }, Spread::default()));
    }

    #[test]
    fn the_first_decision_that_leaves_a_machine_for_its_notice_counts() {
        let record = |trigger: &str, at: i64| json!({"record": "decision", "trigger": trigger, "from_claim": "lt-1", "decided_at": at});
        assert_eq!(leaves(&record("interruption-notice", 5)), Some(("lt-1".to_owned(), Timestamp(5))));
        assert_eq!(leaves(&record("cheaper-offer", 5)), None);
        let first = Mutex::default();
        [9, 5, 7].iter().for_each(|at| note(&first, &record("interruption-notice", *at)));
        assert_eq!(first.lock().unwrap()["lt-1"].at, Timestamp(5));
    }
}
