//! A record of what became of pods, with the milliseconds at which it was seen.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{Event, watcher};
use kube::{Api, ResourceExt};

use crate::core::units::time::Timestamp;
use crate::lab::error::LabError;
use crate::lab::{kubeconfig, wall_clock};

/// Before a watch that failed is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// What was seen of one pod.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// First seen.
    pub made_at: Timestamp,
    /// First seen Ready.
    pub ready_at: Option<Timestamp>,
    /// First seen with a deletion time.
    pub deleting_at: Option<Timestamp>,
    /// Seen to be gone.
    pub gone_at: Option<Timestamp>,
    /// The claim it is bound to.
    pub claim: Option<String>,
    /// The uid of the pod it replaces.
    pub replaces: Option<String>,
    /// Its uid.
    pub uid: String,
    /// Label `app`.
    pub app: String,
    /// Ready now.
    pub ready: bool,
    /// Running or waiting, not ended.
    pub alive: bool,
}

/// Watches the pods of a namespace until dropped.
#[derive(Debug)]
pub struct PodWatch {
    seen: Arc<Mutex<BTreeMap<String, Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

impl PodWatch {
    /// Begins to watch.
    pub async fn start(admin_kubeconfig: &Path, namespace: &str) -> Result<PodWatch, LabError> {
        let pods: Api<Pod> = Api::namespaced(kubeconfig::client(admin_kubeconfig, None).await?, namespace);
        let seen = Arc::new(Mutex::new(BTreeMap::new()));
        let shared = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut events = std::pin::pin!(watcher(pods, Default::default()));
            while let Some(event) = events.next().await {
                match event {
                    Ok(Event::Apply(pod) | Event::InitApply(pod)) => note(&shared, &pod, false),
                    Ok(Event::Delete(pod)) => note(&shared, &pod, true),
                    Ok(Event::Init | Event::InitDone) => {}
                    // The watcher comes back by itself. At the end its client fails at once and for ever: without a pause the task would
                    // never give way to being ended, nor the process to its end.
                    Err(_) => tokio::time::sleep(AGAIN).await,
                }
            }
        });
        Ok(PodWatch { seen, task })
    }

    /// What was seen, by pod name.
    pub fn all(&self) -> BTreeMap<String, Seen> {
        self.seen.lock().map(|seen| seen.clone()).unwrap_or_default()
    }

    /// Pods of an app that are there now and not let go of, by name.
    pub fn of(&self, app: &str) -> BTreeMap<String, Seen> {
        self.all().into_iter().filter(|(_, pod)| pod.app == app && pod.gone_at.is_none() && pod.alive).collect()
    }
}

impl Drop for PodWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn note(seen: &Mutex<BTreeMap<String, Seen>>, pod: &Pod, gone: bool) {
    let now = wall_clock();
    let Ok(mut seen) = seen.lock() else { return };
    let entry = seen.entry(pod.name_any()).or_insert_with(|| Seen { made_at: now, ..Seen::default() });
    let status = pod.status.clone().unwrap_or_default();
    entry.ready = status.conditions.unwrap_or_default().iter().any(|c| c.type_ == "Ready" && c.status == "True");
    entry.alive = !matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    if entry.ready {
        entry.ready_at.get_or_insert(now);
    }
    if pod.metadata.deletion_timestamp.is_some() {
        entry.deleting_at.get_or_insert(now);
    }
    if gone {
        entry.gone_at.get_or_insert(now);
    }
    entry.uid = pod.uid().unwrap_or_default();
    entry.app = pod.labels().get("app").cloned().unwrap_or_default();
    entry.claim = pod.annotations().get("lowtide.dev/claim").cloned();
    let replaces = pod.annotations().get("lowtide.dev/replaces");
    let uid = replaces.and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
    entry.replaces = uid.and_then(|value| value.get("uid").and_then(|u| u.as_str()).map(str::to_owned));
}
