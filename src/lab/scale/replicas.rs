//! How many replicas are ready, as the Deployments say: one watch of a few hundred objects instead of one of thousands of pods.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use kube::runtime::watcher::{Event, watcher};
use kube::{Api, ResourceExt};

use super::workloads::NAMESPACE;
use crate::lab::error::LabError;
use crate::lab::kubeconfig;

/// Before a watch that failed is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// Watches until dropped.
#[derive(Debug)]
pub struct Replicas {
    /// Wanted and ready, by Deployment.
    seen: Arc<Mutex<BTreeMap<String, (i64, i64)>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Replicas {
    /// Begins to watch.
    pub async fn watch(admin_kubeconfig: &Path) -> Result<Replicas, LabError> {
        let api: Api<Deployment> = Api::namespaced(kubeconfig::client(admin_kubeconfig, None).await?, NAMESPACE);
        let seen = Arc::new(Mutex::new(BTreeMap::new()));
        let shared = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut events = std::pin::pin!(watcher(api, Default::default()));
            while let Some(event) = events.next().await {
                match event {
                    Ok(Event::Apply(object) | Event::InitApply(object)) => {
                        let wanted = object.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
                        let ready = object.status.as_ref().and_then(|s| s.ready_replicas).unwrap_or(0);
                        if let Ok(mut seen) = shared.lock() {
                            seen.insert(object.name_any(), (i64::from(wanted), i64::from(ready)));
                        }
                    }
                    Ok(Event::Init | Event::InitDone | Event::Delete(_)) => {}
                    // As the demo's watch of pods: without a pause a task whose client is gone never gives way.
                    Err(_) => tokio::time::sleep(AGAIN).await,
                }
            }
        });
        Ok(Replicas { seen, task })
    }

    /// Wanted and ready now.
    pub fn now(&self) -> (i64, i64) {
        let add = |(a, b): (i64, i64), (wanted, ready): &(i64, i64)| (a + wanted, b + ready);
        self.seen.lock().map(|seen| seen.values().fold((0, 0), add)).unwrap_or_default()
    }
}

impl Drop for Replicas {
    fn drop(&mut self) {
        self.task.abort();
    }
}
