//! `GpuNodePool` and the core's node pool.
//!
//! Decides: which namespaces a selector matches, and how a pool's status is spelt.
//! Does not: apply the policy (see `core::placement` and `core::plan`).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};
use serde_json::{Value, json};

use super::api::node_pool as api;
use super::api::{Condition, ConditionStatus, GpuNodePool, GpuNodePoolStatus, Moment, POOL_FINALIZER};
use crate::core::fleet::{MonthBooks, NodePool, PoolStatus};
use crate::core::market::CapacityType;
use crate::core::units::ids::{ClassName, GpuModel, InstanceType, PoolName, Region, Uid};
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::time::Millis;

/// A selector that the API server accepted but that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("GpuNodePool {pool}: spec.namespaceSelector cannot be read ({fault}); no namespace may use the pool until it is corrected")]
pub struct UnreadableSelector {
    /// The pool.
    pub pool: String,
    /// What is wrong.
    pub fault: String,
}

/// Labels of every namespace, by its name.
pub type NamespaceLabels = BTreeMap<String, BTreeMap<String, String>>;

/// Reads a pool.
///
/// # Errors
/// When its namespace selector cannot be read; such a pool must not be open to all.
pub fn read(object: &GpuNodePool, namespaces: &NamespaceLabels) -> Result<NodePool, UnreadableSelector> {
    let spec = &object.spec;
    let name = object.metadata.name.clone().unwrap_or_default();
    let matched = matching(&spec.namespace_selector, namespaces).map_err(|fault| UnreadableSelector { pool: name.clone(), fault })?;
    let seconds = |s: u32| Millis::from_secs(i64::from(s));
    Ok(NodePool {
        name: PoolName::from(name),
        deleting: object.metadata.deletion_timestamp.is_some(),
        namespaces: matched,
        gpu_models: spec.gpu_models.iter().map(|m| GpuModel::from(m.as_str())).collect(),
        instance_types: spec.instance_types.iter().map(|t| InstanceType::from(t.as_str())).collect(),
        regions: spec.regions.clone(),
        classes: spec.node_classes.iter().map(|c| ClassName::from(c.as_str())).collect(),
        capacity_types: capacity_types(object),
        max_price_per_gpu_hour: spec.max_price_per_gpu_hour,
        monthly_budget: spec.monthly_budget_usd,
        max_gpus: spec.limits.gpus.map(i64::from),
        max_nodes: spec.limits.nodes.map(i64::from),
        launches_per_minute: spec.limits.launches_per_minute.map(i64::from),
        max_share_per_mille: spec.max_pool_share_percent.map(|percent| i64::from(percent) * 10),
        home_region: Region::from(spec.home_region.as_str()),
        return_min_saving_per_mille: i64::from(spec.return_.min_saving_percent) * 10,
        return_min_dwell: seconds(spec.return_.min_dwell_seconds),
        empty_grace: seconds(spec.empty_grace_seconds),
        unhealthy_after: seconds(spec.unhealthy_after_seconds),
        join_timeout: seconds(spec.join_timeout_seconds),
        expire_after: spec.expire_after_seconds.map(seconds),
        cool_down_base: seconds(spec.cool_down.base_seconds),
        cool_down_max: seconds(spec.cool_down.max_seconds),
    })
}

fn capacity_types(object: &GpuNodePool) -> BTreeSet<CapacityType> {
    object.spec.capacity_types.iter().copied().collect()
}

fn matching(selector: &LabelSelector, namespaces: &NamespaceLabels) -> Result<BTreeSet<String>, String> {
    let selector = Selector::try_from(selector.clone()).map_err(|e| e.to_string())?;
    Ok(namespaces.iter().filter(|(_, labels)| selector.matches(labels)).map(|(name, _)| name.clone()).collect())
}

/// The status a pool has now; `None` while it has none, or while its finalizer does not fit, so that it is written again.
pub fn read_status(object: &GpuNodePool) -> Option<PoolStatus> {
    let status = object.status.as_ref().filter(|_| finalizers(object, object.status.as_ref().map_or(0, |s| s.claims)).is_none())?;
    let ready = status.conditions.iter().find(|c| c.type_ == "Ready")?;
    Some(PoolStatus {
        claims: status.claims,
        gpus: status.gpus,
        price_per_hour: status.price_per_hour.unwrap_or(MicroUsdPerHour(0)),
        saved_per_hour: status.saved_per_hour.unwrap_or(MicroUsdPerHour(0)),
        books: status.month.as_ref().map(read_books).unwrap_or_default(),
        ready: match ready.status {
            ConditionStatus::True => Ok(()),
            ConditionStatus::False | ConditionStatus::Unknown => Err((ready.reason.clone(), ready.message.clone())),
        },
    })
}

/// The finalizers the pool should have with this many claims; `None` when it has them. A pool stays until its last claim is gone,
/// because its policy says how that one ends.
pub fn finalizers(object: &GpuNodePool, claims: i64) -> Option<Vec<String>> {
    let now = object.metadata.finalizers.clone().unwrap_or_default();
    let held = now.iter().any(|f| f == POOL_FINALIZER);
    match (object.metadata.deletion_timestamp.is_some(), held) {
        (false, false) => Some(now.into_iter().chain([POOL_FINALIZER.to_owned()]).collect()),
        (true, true) if claims == 0 => Some(now.into_iter().filter(|f| f != POOL_FINALIZER).collect()),
        _ => None,
    }
}

/// The merge patch of the status subresource.
pub fn status_patch(observed: Option<&GpuNodePoolStatus>, generation: Option<i64>, status: &PoolStatus, now: Moment) -> Value {
    let previous = observed.map(|s| s.conditions.as_slice()).unwrap_or_default();
    let ready = ready_condition(previous, &status.ready, "CanBuy", generation, now);
    json!({ "status": GpuNodePoolStatus {
        conditions: vec![ready],
        claims: status.claims,
        gpus: status.gpus,
        price_per_hour: Some(status.price_per_hour),
        saved_per_hour: Some(status.saved_per_hour),
        month: Some(write_books(&status.books)),
        observed_generation: generation,
    } })
}

fn read_books(month: &api::MonthBooks) -> MonthBooks {
    let closing = month.closing.iter().map(|c| (Uid::from(c.claim_uid.as_str()), c.cost_usd)).collect();
    MonthBooks { month: month.month.0, settled: month.settled_usd, closing }
}

fn write_books(books: &MonthBooks) -> api::MonthBooks {
    let closing = books.closing.iter().map(|(uid, cost)| api::ClosingClaim { claim_uid: uid.to_string(), cost_usd: *cost });
    api::MonthBooks { month: Moment(books.month), settled_usd: books.settled, closing: closing.collect() }
}

/// The condition `Ready`, keeping its time while it does not change.
pub fn ready_condition(
    previous: &[Condition],
    ready: &Result<(), (String, String)>,
    ok_reason: &str,
    generation: Option<i64>,
    now: Moment,
) -> Condition {
    let (status, reason, message) = match ready {
        Ok(()) => (ConditionStatus::True, ok_reason, ""),
        Err((reason, message)) => (ConditionStatus::False, reason.as_str(), message.as_str()),
    };
    Condition { observed_generation: generation, ..Condition::next(previous, "Ready", status, reason, message, now) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(metadata: Value, selector: Value) -> GpuNodePool {
        let spec = json!({ "namespaceSelector": selector, "nodeClasses": ["us"], "homeRegion": "us-east-1" });
        serde_json::from_value(json!({ "apiVersion": "lowtide.dev/v1", "kind": "GpuNodePool", "metadata": metadata, "spec": spec }))
            .unwrap()
    }

    #[test]
    fn only_namespaces_that_the_selector_matches_may_buy() {
        let labels = |team: &str| BTreeMap::from([("team".to_owned(), team.to_owned())]);
        let namespaces = NamespaceLabels::from([("a".into(), labels("ml")), ("b".into(), labels("web")), ("c".into(), BTreeMap::new())]);
        for (selector, expected) in [
            (json!({}), vec!["a", "b", "c"]),
            (json!({ "matchLabels": { "team": "ml" } }), vec!["a"]),
            (json!({ "matchExpressions": [{ "key": "team", "operator": "NotIn", "values": ["ml"] }] }), vec!["b", "c"]),
            (json!({ "matchExpressions": [{ "key": "team", "operator": "Exists" }] }), vec!["a", "b"]),
        ] {
            let read = read(&pool(json!({ "name": "p" }), selector), &namespaces).unwrap();
            assert_eq!(read.namespaces.iter().map(String::as_str).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn the_finalizer_comes_with_the_first_status_and_goes_with_the_last_claim() {
        let held = json!(["example.com/x", POOL_FINALIZER]);
        let fresh = pool(json!({ "name": "p", "finalizers": ["example.com/x"] }), json!({}));
        assert_eq!(finalizers(&fresh, 0).unwrap(), ["example.com/x", POOL_FINALIZER]);
        assert_eq!(finalizers(&pool(json!({ "name": "p", "finalizers": held }), json!({})), 0), None);
        let deleting = pool(json!({ "name": "p", "finalizers": held, "deletionTimestamp": "2026-07-20T13:44:30Z" }), json!({}));
        assert_eq!(finalizers(&deleting, 2), None);
        assert_eq!(finalizers(&deleting, 0).unwrap(), ["example.com/x"]);
    }
}
