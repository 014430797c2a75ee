//! Measures serving gaps: how many endpoints of a Service were ready, and when that changed, from EndpointSlices.
//!
//! Measured: every change the API server reports, stamped when it reaches us. Not measured: how fast a proxy or client would follow.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt};
use serde::Serialize;

use crate::core::units::time::{Millis, Timestamp};

use super::error::LabError;
use super::kubeconfig;
use super::progress::say;

/// From when on this many endpoints were ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Reading {
    /// When it changed to this.
    pub at: Timestamp,
    /// Ready endpoints.
    pub ready: usize,
}

/// A record of ready endpoints, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Readings(pub Vec<Reading>);

impl Readings {
    /// Adds what was seen; only changes are kept.
    fn note(&mut self, at: Timestamp, ready: usize) {
        if self.0.last().is_none_or(|last| last.ready != ready) {
            self.0.push(Reading { at, ready });
        }
    }

    /// Time between `from` and `to` with fewer than `wanted` ready endpoints. Before the first reading nothing is known to serve.
    pub fn below(&self, wanted: usize, from: Timestamp, to: Timestamp) -> Millis {
        let start = std::iter::once(Reading { at: from, ready: 0 });
        let readings: Vec<Reading> = start.chain(self.0.iter().copied()).collect();
        let ends = readings.iter().skip(1).map(|reading| reading.at).chain(std::iter::once(to));
        let spans = readings.iter().zip(ends).filter(|(reading, _)| reading.ready < wanted);
        spans.map(|(reading, end)| end.min(to).since(reading.at.max(from)).max(Millis::ZERO)).fold(Millis::ZERO, |sum, span| sum + span)
    }

    /// Time between `from` and `to` in which nothing served.
    pub fn serving_gap(&self, from: Timestamp, to: Timestamp) -> Millis {
        self.below(1, from, to)
    }
}

/// Watches one Service. Dropping it ends the watch.
#[derive(Debug)]
pub struct EndpointWatch {
    readings: Arc<Mutex<Readings>>,
    task: tokio::task::JoinHandle<()>,
}

impl EndpointWatch {
    /// Begins to watch.
    pub async fn start(kubeconfig: &Path, namespace: &str, service: &str) -> Result<EndpointWatch, LabError> {
        let slices: Api<EndpointSlice> = Api::namespaced(kubeconfig::client(kubeconfig, None).await?, namespace);
        let readings = Arc::new(Mutex::new(Readings::default()));
        let (shared, service) = (readings.clone(), service.to_owned());
        let task = tokio::spawn(async move {
            loop {
                if let Err(fault) = follow(&slices, &service, &shared).await {
                    say(&format!("  endpoint watch of {service}: {fault}"));
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        Ok(EndpointWatch { readings, task })
    }

    /// What was seen so far.
    pub fn readings(&self) -> Readings {
        self.readings.lock().map(|readings| readings.clone()).unwrap_or_default()
    }
}

impl Drop for EndpointWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(slices: &Api<EndpointSlice>, service: &str, readings: &Mutex<Readings>) -> Result<(), watcher::Error> {
    let of_service = watcher::Config::default().labels(&format!("kubernetes.io/service-name={service}"));
    let mut events = std::pin::pin!(watcher::watcher(slices.clone(), of_service));
    let mut ready: BTreeMap<String, usize> = BTreeMap::new();
    let mut listed: BTreeMap<String, usize> = BTreeMap::new();
    while let Some(event) = events.try_next().await? {
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(slice) => drop(listed.insert(slice.name_any(), ready_endpoints(&slice))),
            Event::InitDone => ready = std::mem::take(&mut listed),
            Event::Apply(slice) => drop(ready.insert(slice.name_any(), ready_endpoints(&slice))),
            Event::Delete(slice) => drop(ready.remove(&slice.name_any())),
        }
        if let (true, Ok(mut readings)) = (listed.is_empty(), readings.lock()) {
            readings.note(super::wall_clock(), ready.values().sum());
        }
    }
    Ok(())
}

/// An endpoint without the condition counts as ready, by the API's documentation.
fn ready_endpoints(slice: &EndpointSlice) -> usize {
    let ready = |conditions: &Option<k8s_openapi::api::discovery::v1::EndpointConditions>| {
        conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
    };
    slice.endpoints.iter().filter(|endpoint| ready(&endpoint.conditions)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_summed_inside_the_window_only() {
        let mut readings = Readings::default();
        for (at, ready) in [(1_000, 3), (2_000, 2), (2_500, 2), (3_000, 0), (3_400, 1), (5_000, 0), (9_000, 3)] {
            readings.note(Timestamp(at), ready);
        }
        assert_eq!(readings.0.len(), 6, "an unchanged count is no new reading");
        assert_eq!(readings.serving_gap(Timestamp(1_000), Timestamp(4_000)), Millis(400));
        assert_eq!(readings.serving_gap(Timestamp(1_000), Timestamp(6_000)), Millis(1_400));
        assert_eq!(readings.below(3, Timestamp(1_500), Timestamp(3_500)), Millis(1_500));
        assert_eq!(
            readings.serving_gap(Timestamp(0), Timestamp(1_500)),
            Millis(1_000),
            "nothing is known to serve before the first reading"
        );
        assert_eq!(Readings::default().serving_gap(Timestamp(0), Timestamp(10)), Millis(10));
    }
}
