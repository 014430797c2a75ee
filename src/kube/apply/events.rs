//! Events: what owners read with `kubectl describe`.
//!
//! An event's name is its identity in the core, so that writing it again while it exists changes nothing.

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use k8s_openapi::api::events::v1::Event as ApiEvent;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff;
use kube::api::PostParams;
use kube::core::ObjectMeta;
use kube::{Api, Resource, ResourceExt};

use super::super::api::{GpuNodeClaim, GpuNodeClass, GpuNodePool};
use super::super::cluster::LiveCluster;
use super::super::errors::call;
use super::super::names;
use super::done;
use crate::core::action::{Event, EventKind, EventSubject};
use crate::core::snapshot::Lane;
use crate::ports::{Applied, ClusterError};

/// Longest note the API server accepts, in bytes.
const NOTE_LIMIT: usize = 1024;
/// Longest part of the subject's name that goes into the event's name (at most 253 with the identity).
const NAME_LIMIT: usize = 200;
/// Namespace of events about objects without a namespace.
const CLUSTER_SCOPE: &str = "default";

/// Writes an event; one that already exists is fine.
pub async fn emit(cluster: &LiveCluster, event: &Event) -> Result<Applied, ClusterError> {
    let regarding = regarding(cluster, &event.subject);
    let namespace = regarding.namespace.clone().unwrap_or_else(|| CLUSTER_SCOPE.to_owned());
    let now = jiff::Timestamp::from_millisecond(cluster.clock.now().0).unwrap_or_default();
    let body = ApiEvent {
        metadata: ObjectMeta { name: Some(name(event, &regarding)), namespace: Some(namespace.clone()), ..ObjectMeta::default() },
        action: Some(event.reason.to_owned()),
        event_time: Some(MicroTime(now)),
        note: Some(cut(&event.note.to_string(), NOTE_LIMIT).to_owned()),
        reason: Some(event.reason.to_owned()),
        regarding: Some(regarding),
        reporting_controller: Some(names::REPORTING_CONTROLLER.to_owned()),
        reporting_instance: Some(cut(&cluster.settings.instance, 128).to_owned()),
        type_: Some(match event.kind {
            EventKind::Normal => "Normal".to_owned(),
            EventKind::Warning => "Warning".to_owned(),
        }),
        ..ApiEvent::default()
    };
    let events: Api<ApiEvent> = Api::namespaced(cluster.client.clone(), &namespace);
    let params = PostParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PostParams::default() };
    match call(format!("write event {}", event.reason), events.create(&params, &body)).await {
        Ok(_) | Err(ClusterError::Conflict(_)) => Ok(done(lane(&event.subject))),
        Err(error) => Err(error),
    }
}

fn lane(subject: &EventSubject) -> Lane {
    match subject {
        EventSubject::Pod(pod) => Lane::Pod(pod.uid.clone()),
        EventSubject::Pool(pool) => Lane::Pool(pool.clone()),
        EventSubject::Class(class) => Lane::Class(class.clone()),
        EventSubject::Claim(claim) => Lane::Claim(claim.clone()),
    }
}

/// What the event is about. `kubectl describe` looks events up by uid, so for objects known only by name it is taken from the watch.
fn regarding(cluster: &LiveCluster, subject: &EventSubject) -> ObjectReference {
    match subject {
        EventSubject::Pod(pod) => ObjectReference {
            namespace: Some(pod.object.namespace.clone()),
            uid: Some(pod.uid.to_string()),
            ..reference::<Pod>(&pod.object.name)
        },
        EventSubject::Pool(pool) => {
            let uid = cluster.watches.pool(pool.as_str()).and_then(|o| o.uid());
            ObjectReference { uid, ..reference::<GpuNodePool>(pool.as_str()) }
        }
        EventSubject::Class(class) => {
            let uid = cluster.watches.class(class.as_str()).and_then(|o| o.uid());
            ObjectReference { uid, ..reference::<GpuNodeClass>(class.as_str()) }
        }
        EventSubject::Claim(claim) => {
            let uid = cluster.watches.claim(claim.as_str()).and_then(|o| o.uid());
            ObjectReference { uid, ..reference::<GpuNodeClaim>(claim.as_str()) }
        }
    }
}

fn reference<K: Resource<DynamicType = ()>>(name: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: Some(name.to_owned()),
        ..ObjectReference::default()
    }
}

/// The subject's name, for people, and the event's own identity.
fn name(event: &Event, regarding: &ObjectReference) -> String {
    let subject = cut(regarding.name.as_deref().unwrap_or_default(), NAME_LIMIT);
    format!("{}.{}", subject.trim_end_matches(['.', '-']), event.id().simple())
}

/// At most `limit` bytes of `text`, cut between characters.
fn cut(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!((cut("abc", 10), cut("abc", 2), cut("aé", 2)), ("abc", "ab", "a"));
    }

    #[test]
    fn the_same_news_of_the_same_object_has_the_same_name_however_it_is_worded() {
        let event =
            |key: &str, note: &str| Event::new(EventSubject::Pool("gpu".into()), (EventKind::Normal, "Launched"), key, note.to_owned());
        let about = reference::<GpuNodePool>("gpu");
        assert_eq!(name(&event("a", "said so"), &about), name(&event("a", "said otherwise"), &about));
        assert_ne!(name(&event("a", "said so"), &about), name(&event("b", "said so"), &about));
        assert!(name(&event("a", ""), &about).starts_with("gpu."));
    }
}
