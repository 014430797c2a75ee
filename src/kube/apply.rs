//! Every action on the cluster, as one request (or as few as possible).
//!
//! Decides: the form of each request: which patch, which precondition, which answer counts as done.
//! Does not: choose actions, or retry them: a pass that finds the work not done plans it again.
//!
//! Source of every form: tested on a 1.36.3 API server. The important ones:
//! a strategic merge patch with `$patch: delete` lifts our gate and keeps all others;
//! `resourceVersion` in a patch makes a stale one a conflict; list fields without a merge key
//! (taints) are read, changed and written with their version.

mod claims;
mod events;
mod nodes;
mod pods;
mod rehearsal;
mod statuses;

use kube::api::{PatchParams, ValidationDirective};
use kube::{Resource, ResourceExt};

use super::cluster::LiveCluster;
use super::names;
use crate::core::action::ClusterAction;
use crate::core::snapshot::Lane;
use crate::ports::{Applied, ClusterError};

/// Carries out one action.
///
/// # Errors
/// See [`crate::ports::Cluster::apply`].
pub async fn apply(cluster: &LiveCluster, action: &ClusterAction) -> Result<Applied, ClusterError> {
    match action {
        ClusterAction::CreateClaim { name, spec } => claims::create(cluster, name, spec).await,
        ClusterAction::PatchClaim { claim, patch, seen } => claims::patch(cluster, claim, patch, *seen).await,
        ClusterAction::RemoveClaim { claim, seen } => claims::remove(cluster, claim, *seen).await,
        ClusterAction::Bind { target, claim, decision, attempt, baseline, replaces } => {
            let binding = pods::Binding { claim, decision, attempt: *attempt, baseline, replaces: replaces.as_deref() };
            pods::bind(cluster, target, binding).await
        }
        ClusterAction::Lift { target, claim } => pods::lift(cluster, target, claim).await,
        ClusterAction::LetGoOfDeployment { target, mark, deployment } => {
            pods::let_go_of_deployment(cluster, target, mark, deployment).await
        }
        ClusterAction::LetGoOfJob { target, mark, job } => pods::let_go_of_job(cluster, target, mark, job).await,
        ClusterAction::Rehearse { pod, ends_first } => rehearsal::ask(cluster, pod, *ends_first).await,
        ClusterAction::GiveBackToJob { target, job_uid } => pods::give_back_to_job(cluster, target, job_uid).await,
        ClusterAction::Evict { pod, grace, reason } => pods::evict(cluster, pod, *grace, *reason).await,
        ClusterAction::DeletePod { pod, grace, reason } => pods::delete(cluster, pod, *grace, *reason).await,
        ClusterAction::MarkNode { node, claim, taint, guard, labels } => {
            nodes::mark(cluster, node, claim, nodes::Keeps { new_pods_off: *taint, others_off: *guard }, labels).await
        }
        ClusterAction::DeleteNode { node } => nodes::delete(cluster, node).await,
        ClusterAction::SetPoolStatus { pool, status } => statuses::set_pool(cluster, pool, status).await,
        ClusterAction::SetClassStatus { class, status } => statuses::set_class(cluster, class, status).await,
        ClusterAction::Emit(event) => events::emit(cluster, event).await,
    }
}

/// What was changed, at the version in the answer.
fn applied<K: Resource>(lane: Lane, object: &K) -> Applied {
    Applied { lane, resource_version: object.resource_version().and_then(|v| v.parse().ok()) }
}

/// What was changed and is gone, or whose version does not matter.
fn done(lane: Lane) -> Applied {
    Applied { lane, resource_version: None }
}

/// Parameters of a patch of ours. Strict: a field that the API server does not know is an error, not silently dropped.
fn ours() -> PatchParams {
    PatchParams {
        field_manager: Some(names::FIELD_MANAGER.to_owned()),
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::default()
    }
}
