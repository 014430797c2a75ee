//! `GpuNodePool` and the core's node pool.
//!
//! Decides: when a pool's finalizer is added and removed, and how its status is written.
//! Does not: read the policy (see [`NodePoolSpec`]) or apply it (see `core::placement` and `core::plan`).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::api::node_pool as api;
use super::api::{Condition, ConditionStatus, GpuNodePool, GpuNodePoolStatus, Moment, POOL_FINALIZER};
use super::names;
use crate::core::fleet::{MonthBooks, NodePool, NodePoolSpec, PoolStatus, UnreadableSelector};
use crate::core::units::ids::Uid;
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::time::Timestamp;

/// A selector that the API server accepted but that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("GpuNodePool {pool}: spec.namespaceSelector cannot be read ({fault}); no namespace may use the pool until it is corrected")]
pub struct UnreadablePool {
    /// The pool.
    pub pool: String,
    /// What is wrong.
    pub fault: UnreadableSelector,
}

/// The condition that no other cluster of our name has machines where the pool buys.
const ALONE: &str = "ClusterNameUnique";

/// Labels of every namespace, by its name.
pub use crate::core::workload::pod_reader::NamespaceLabels;

/// Reads a pool.
///
/// # Errors
/// When its namespace selector cannot be read; such a pool must not be open to all.
///
/// A namespace with the label `ignored` may use no pool, whatever the pool selects: nothing is bought for its pods, whoever made them and how.
pub fn read(object: &GpuNodePool, namespaces: &NamespaceLabels, ignored: &str) -> Result<NodePool, UnreadablePool> {
    let (spec, name) = (&object.spec.policy, object.metadata.name.as_deref().unwrap_or_default());
    let matched = matching(spec, namespaces, ignored).map_err(|fault| UnreadablePool { pool: name.to_owned(), fault })?;
    let (deleting, ends_allowed_until) = (object.metadata.deletion_timestamp.is_some(), ends_allowed_until(object));
    Ok(NodePool { deleting, ends_allowed_until, ..spec.pool(name, matched) })
}

/// A person's permission on the pool. A value that is not a time does not count.
fn ends_allowed_until(object: &GpuNodePool) -> Option<Timestamp> {
    let text = object.metadata.annotations.as_ref()?.get(names::ENDS_ALLOWED_UNTIL)?;
    let read = text.parse::<k8s_openapi::jiff::Timestamp>();
    let fault =
        |error: &_| tracing::warn!(text, %error, "{} is not an RFC 3339 time, e.g. 2026-11-29T01:30:00Z", names::ENDS_ALLOWED_UNTIL);
    read.inspect_err(fault).ok().map(|at| Timestamp(at.as_millisecond()))
}

fn matching(spec: &NodePoolSpec, namespaces: &NamespaceLabels, ignored: &str) -> Result<BTreeSet<String>, UnreadableSelector> {
    let mut matched = BTreeSet::new();
    for (name, labels) in namespaces {
        if spec.namespace_selector.matches(labels)? && !labels.contains_key(ignored) {
            matched.insert(name.clone());
        }
    }
    Ok(matched)
}

/// The pool's current status; `None` if it has none, or if its finalizer does not match, so that it is written again.
pub fn read_status(object: &GpuNodePool) -> Option<PoolStatus> {
    let status = object.status.as_ref().filter(|_| finalizers(object, false).is_none())?;
    let condition = |type_: &str| status.conditions.iter().find(|c| c.type_ == type_);
    // An older version's status has no second one, and has the month's books: they must not be taken for none.
    let (ready, alone) = (condition("Ready")?, condition(ALONE));
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
        namesake: alone.filter(|alone| alone.status != ConditionStatus::True).map(|alone| alone.message.clone()),
        let_go: object.metadata.deletion_timestamp.is_some() && !object.metadata.finalizers.iter().flatten().any(|f| f == POOL_FINALIZER),
    })
}

/// The finalizers the pool should have, let go or not; `None` when it has them. A pool stays until its last claim is gone, because its policy determines how
/// that one ends.
pub fn finalizers(object: &GpuNodePool, let_go: bool) -> Option<Vec<String>> {
    let now = object.metadata.finalizers.clone().unwrap_or_default();
    let held = now.iter().any(|f| f == POOL_FINALIZER);
    match (object.metadata.deletion_timestamp.is_some(), held) {
        (false, false) => Some(now.into_iter().chain([POOL_FINALIZER.to_owned()]).collect()),
        (true, true) if let_go => Some(now.into_iter().filter(|f| f != POOL_FINALIZER).collect()),
        _ => None,
    }
}

/// The merge patch of the status subresource.
pub fn status_patch(observed: Option<&GpuNodePoolStatus>, generation: Option<i64>, status: &PoolStatus, now: Moment) -> Value {
    let previous = observed.map(|s| s.conditions.as_slice()).unwrap_or_default();
    let ready = ready_condition(previous, &status.ready, "CanBuy", generation, now);
    let alone = match &status.namesake {
        None => Condition::next(previous, ALONE, ConditionStatus::True, "NoOtherCluster", "", now),
        Some(others) => Condition::next(previous, ALONE, ConditionStatus::False, "OtherCluster", others, now),
    };
    let alone = Condition { observed_generation: generation, ..alone };
    let month = write_books(&status.books);
    json!({ "status": {
        "conditions": [ready, alone],
        "claims": status.claims,
        "gpus": status.gpus,
        "pricePerHour": status.price_per_hour,
        "savedPerHour": status.saved_per_hour,
        // Empty or not: a merge patch keeps what it does not mention, and what is kept is added to what is settled once more.
        "month": { "month": month.month, "settledUsd": month.settled_usd, "closing": month.closing },
        "observedGeneration": generation,
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

/// The condition `Ready`, keeping its time as long as it does not change.
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
    use std::collections::BTreeMap;

    fn pool(metadata: Value, selector: Value) -> GpuNodePool {
        let spec = json!({ "namespaceSelector": selector, "nodeClasses": ["us"], "homeRegion": "us-east-1" });
        serde_json::from_value(json!({ "apiVersion": "lowtide.dev/v1", "kind": "GpuNodePool", "metadata": metadata, "spec": spec }))
            .unwrap()
    }

    /// They were added to what the month cost once a pass, 25 times a second.
    #[test]
    fn claims_that_are_gone_are_taken_out_of_the_books() {
        let closing = BTreeMap::from([(Uid::from("a"), crate::core::units::money::MicroUsd(11_719))]);
        let written = |closing| {
            let status = PoolStatus {
                claims: 0,
                gpus: 0,
                price_per_hour: MicroUsdPerHour(0),
                saved_per_hour: MicroUsdPerHour(0),
                ready: Ok(()),
                namesake: None,
                let_go: false,
                books: MonthBooks { month: Timestamp(0), settled: crate::core::units::money::MicroUsd(1), closing },
            };
            status_patch(None, None, &status, Moment(Timestamp(0)))["status"]["month"]["closing"].clone()
        };
        assert_eq!(written(closing), json!([{ "claimUid": "a", "costUsd": "0.011719" }]));
        assert_eq!(written(BTreeMap::new()), json!([]), "null or nothing would leave the ones before");
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
            let read = read(&pool(json!({ "name": "p" }), selector), &namespaces, "off").unwrap();
            assert_eq!(read.namespaces.iter().map(String::as_str).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn an_ignored_namespace_may_use_no_pool() {
        let label = |value: &str| BTreeMap::from([("off".to_owned(), value.to_owned())]);
        let namespaces = NamespaceLabels::from([("a".into(), label("")), ("b".into(), label("no")), ("c".into(), BTreeMap::new())]);
        for selector in [json!({}), json!({ "matchExpressions": [{ "key": "off", "operator": "NotIn", "values": ["x"] }] })] {
            let read = read(&pool(json!({ "name": "p" }), selector), &namespaces, "off").unwrap();
            assert_eq!(read.namespaces.iter().map(String::as_str).collect::<Vec<_>>(), ["c"]);
        }
    }

    #[test]
    fn a_pool_that_forbids_falling_back_is_read_so() {
        let namespaces = NamespaceLabels::from([("a".into(), BTreeMap::new())]);
        let with = |fallback: Value| {
            let mut object = serde_json::to_value(pool(json!({ "name": "p" }), json!({}))).unwrap();
            object["spec"]["fallback"] = fallback;
            read(&serde_json::from_value(object).unwrap(), &namespaces, "off").unwrap()
        };
        assert!(!with(json!({ "onDemand": false })).may_fall_back());
        assert!(with(json!({ "onDemand": true })).may_fall_back() && with(json!({})).may_fall_back());
    }

    #[test]
    fn a_selector_that_cannot_be_read_opens_the_pool_to_nobody() {
        let namespaces = NamespaceLabels::from([("a".into(), BTreeMap::new())]);
        let selector = json!({ "matchExpressions": [{ "key": "team", "operator": "Like", "values": ["ml"] }] });
        let fault = read(&pool(json!({ "name": "p" }), selector), &namespaces, "off").unwrap_err().to_string();
        assert!(fault.contains("GpuNodePool p") && fault.contains("\"Like\" on team"), "{fault}");
    }

    #[test]
    fn the_finalizer_comes_with_the_first_status_and_goes_with_the_last_claim() {
        let held = json!(["example.com/x", POOL_FINALIZER]);
        let fresh = pool(json!({ "name": "p", "finalizers": ["example.com/x"] }), json!({}));
        assert_eq!(finalizers(&fresh, false).unwrap(), ["example.com/x", POOL_FINALIZER]);
        assert_eq!(finalizers(&pool(json!({ "name": "p", "finalizers": held }), json!({})), false), None);
        let deleting = pool(json!({ "name": "p", "finalizers": held, "deletionTimestamp": "2026-07-20T13:44:30Z" }), json!({}));
        assert_eq!(finalizers(&deleting, false), None);
        assert_eq!(finalizers(&deleting, true).unwrap(), ["example.com/x"]);
    }

    fn released() -> Value {
        crate::released::objects("0.1.0", "pool-").remove(0).1
    }

    #[test]
    fn a_pool_that_0_1_0_held_is_read_with_its_policy_and_its_books() {
        let object: GpuNodePool = serde_json::from_value(released()).unwrap();
        let labels = BTreeMap::from([("lowtide.dev/may-buy".to_owned(), "true".to_owned())]);
        let pool = read(&object, &NamespaceLabels::from([("ml".into(), labels)]), "off").unwrap();
        assert_eq!((pool.max_gpus, pool.max_nodes, pool.monthly_budget.map(|b| b.0)), (Some(64), Some(48), Some(25_000_000_000)));
        assert!(pool.may_fall_back() && pool.namespaces.contains("ml") && !pool.deleting);
        let status = read_status(&object).unwrap();
        assert_eq!((status.claims, status.books.settled.0, status.books.closing.len(), status.ready), (1, 12_345_678, 1, Ok(())));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::mutation::CASES))]

        #[test]
        fn whatever_a_pool_holds_a_namespace_may_buy_only_if_the_selector_says_so(object in crate::mutation::json(vec![released()])) {
            // What the API server's schema would not let in is no object of this type.
            if let Ok(object) = serde_json::from_value::<GpuNodePool>(object) {
                let namespaces = NamespaceLabels::from([("others".into(), BTreeMap::new())]);
                let open = json!(object.spec.policy.namespace_selector);
                if let Ok(pool) = read(&object, &namespaces, "off") {
                    assert!(pool.namespaces.is_empty() || open != json!({ "matchLabels": { "lowtide.dev/may-buy": "true" } }), "{open}");
                }
                read_status(&object);
            }
        }
    }
}
