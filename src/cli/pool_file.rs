//! A `GpuNodePool` in a YAML file, for answers without a cluster.
//!
//! Decides: that a key unknown to the API server is refused here too: a misspelt budget would be no budget.
//! Does not: read its policy (the operator and this file have one reader, [`NodePoolSpec`]), or require what only a cluster needs
//! (namespaces, node classes, a home region).

use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

use super::files::{FileError, documents, malformed, without_nulls};
use crate::core::fleet::{NodePool, NodePoolSpec};
use crate::core::market::Market;
use crate::core::placement::{Held, NodeTerms, PoolPolicy};
use crate::core::units::ids::ZoneId;

/// The CRD that clusters have, so that both refuse the same keys.
const DEFINITION: &str = include_str!("../../crds/gpunodepools.yaml");

/// The schema of a pool's `spec`. A test reads it, so it exists.
fn spec_schema() -> Option<Value> {
    let definition: Value = serde_saphyr::from_str(DEFINITION).ok()?;
    definition.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec").cloned()
}

/// The first thing in `value` that does not match `schema`: an unknown key, or a value of another type.
fn against(schema: &Value, value: &Value, path: &str) -> Option<String> {
    let expected = schema.get("type").and_then(Value::as_str).unwrap_or("any");
    match (expected, value) {
        ("object", Value::Object(fields)) => {
            let known = schema.get("properties").and_then(Value::as_object)?;
            fields.iter().find_map(|(key, value)| match known.get(key) {
                Some(schema) => against(schema, value, &format!("{path}.{key}")),
                None => {
                    let known = known.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                    Some(format!("{path}.{key} is not known; known are {known}"))
                }
            })
        }
        ("array", Value::Array(items)) => {
            let schema = schema.get("items")?;
            items.iter().enumerate().find_map(|(at, item)| against(schema, item, &format!("{path}[{at}]")))
        }
        ("string", Value::String(_)) | ("boolean", Value::Bool(_)) | ("any", _) => None,
        ("object", Value::Null) if path == "spec" => None,
        ("integer", Value::Number(number)) => {
            let least = schema.get("minimum").and_then(Value::as_f64).unwrap_or(f64::from(i32::MIN));
            let most = schema.get("maximum").and_then(Value::as_f64).unwrap_or(f64::from(i32::MAX));
            let fits = number.as_i64().is_some() && number.as_f64().is_some_and(|n| (least..=most).contains(&n));
            (!fits).then(|| format!("{path} is {number}; expected a whole number from {least} to {most}"))
        }
        ("string", Value::Number(number)) => Some(format!("{path} is {number}; expected text, e.g. \"{number}\"")),
        (_, other) => Some(format!("{path} is {other}; expected a value of type {expected}")),
    }
}

#[derive(Deserialize)]
struct PoolFile {
    metadata: Named,
    spec: NodePoolSpec,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

/// What only a cluster needs from a pool, and its placeholder here.
fn with_what_a_cluster_needs(mut found: Value) -> Value {
    if let Some(found) = found.as_object_mut() {
        let spec = found.entry("spec").or_insert_with(|| json!({}));
        if spec.is_null() {
            *spec = json!({});
        }
        let absent = [("namespaceSelector", json!({})), ("nodeClasses", json!([])), ("homeRegion", json!(""))];
        if let Some(spec) = spec.as_object_mut() {
            for (key, value) in absent {
                spec.entry(key).or_insert(value);
            }
        }
    }
    found
}

/// A pool's constraints on a purchase.
#[derive(Debug)]
pub(super) struct FiledPool {
    /// What may be bought.
    pub policy: PoolPolicy,
    /// At most this share (in thousandths) of a workload's replicas in one capacity pool.
    pub max_share_per_mille: Option<i64>,
    /// What a service's replica may cost more (in thousandths) for standing apart.
    pub spread_most_extra_per_mille: i64,
}

/// The policy of a `GpuNodePool` in a YAML file (the first one there); without a file, everything is allowed and nothing is paid
/// for a spread.
///
/// Node classes are not known here, so every zone of the market counts as served. Launches per minute do not limit an offline answer.
pub(super) fn pool(path: Option<&Path>, market: &Market) -> Result<FiledPool, FileError> {
    let zones: BTreeSet<ZoneId> = market.offers.keys().map(|p| p.zone.clone()).collect();
    let Some(path) = path else {
        return Ok(FiledPool { policy: PoolPolicy::open("default", zones), max_share_per_mille: None, spread_most_extra_per_mille: 0 });
    };
    let documents = documents(path)?;
    let found = documents.into_iter().find(|d| d.get("kind").and_then(|k| k.as_str()) == Some("GpuNodePool"));
    let found = without_nulls(found.ok_or_else(|| malformed(path, "no document of kind GpuNodePool; expected one"))?);
    let spec = found.get("spec").unwrap_or(&Value::Null);
    if let Some(fault) = spec_schema().as_ref().and_then(|schema| against(schema, spec, "spec")) {
        return Err(malformed(path, fault));
    }
    let PoolFile { metadata, spec } = serde_json::from_value(with_what_a_cluster_needs(found)).map_err(|e| malformed(path, e))?;
    Ok(filed(&spec.pool(&metadata.name, BTreeSet::new()), zones))
}

/// The constraints of a still empty pool on a purchase in `zones`.
pub(super) fn filed(pool: &NodePool, zones: BTreeSet<ZoneId>) -> FiledPool {
    let nodes = zones.into_iter().map(|zone| (zone, NodeTerms::default())).collect();
    let mut policy = PoolPolicy::of(pool, nodes, BTreeSet::new(), &Held::default());
    // What takes several minutes in a cluster is answered at once here.
    policy.limits_left.launches = None;
    FiledPool {
        policy,
        max_share_per_mille: pool.max_share_per_mille,
        spread_most_extra_per_mille: if pool.max_share_per_mille.is_some() { 0 } else { pool.spread_most_extra_per_mille },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_is_held_against_the_definition_of_the_cluster() {
        let schema = spec_schema().unwrap();
        let fault = |spec: Value| against(&schema, &spec, "spec");
        assert_eq!(fault(serde_json::json!({ "monthlyBudgetUsd": "3", "limits": { "nodes": 2 }, "regions": ["us-*"] })), None);
        assert_eq!(fault(Value::Null), None);
        for (spec, said) in [
            (serde_json::json!({ "monthlyBudget": "3" }), "spec.monthlyBudget is not known; known are capacityTypes,"),
            (serde_json::json!({ "limits": { "node": 2 } }), "spec.limits.node is not known; known are gpus, launchesPerMinute, nodes"),
            (serde_json::json!({ "monthlyBudgetUsd": 200 }), "spec.monthlyBudgetUsd is 200; expected text, e.g. \"200\""),
            (serde_json::json!({ "limits": { "nodes": -1 } }), "spec.limits.nodes is -1; expected a whole number from 0 to"),
            (serde_json::json!({ "regions": "us-*" }), "spec.regions is \"us-*\"; expected a value of type array"),
            (serde_json::json!({ "fallback": { "onDemand": "no" } }), "spec.fallback.onDemand is \"no\"; expected a value of type boolean"),
        ] {
            assert!(fault(spec.clone()).is_some_and(|f| f.starts_with(said)), "{spec}: {:?}", fault(spec.clone()));
        }
    }

    /// A pool with all that a pool may say.
    fn whole() -> Value {
        json!({ "kind": "GpuNodePool", "metadata": { "name": "p" }, "spec": {
            "namespaceSelector": { "matchLabels": { "team": "ml" } }, "nodeClasses": ["c"], "homeRegion": "us-east-1", "regions": ["us-*"],
            "monthlyBudgetUsd": "3000", "maxPricePerGpuHour": "2.5", "limits": { "nodes": 2, "gpus": 16, "launchesPerMinute": 4 },
            "capacityTypes": ["spot"], "gpuModels": ["l4"], "instanceTypes": ["g6.*"], "fallback": { "onDemand": false }, "maxPoolSharePercent": 50,
            "spread": { "mostExtraPercent": 10 }, "coolDown": { "baseSeconds": 60, "maxSeconds": 3600 }, "quietHours": "22:00-06:00 +02:00",
            "disruption": { "budgets": [{ "nodes": "10%", "schedule": "0 9 * * mon-fri", "duration": "8h", "timeZone": "Europe/Berlin" }] },
            "return": { "minDwellSeconds": 600, "minSavingPercent": 10 }, "standby": { "maxSlots": 4 }, "expireAfterSeconds": 86400 } })
    }

    // Fewer cases than elsewhere: each reads the whole definition.
    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::mutation::CASES / 8))]

        #[test]
        fn whatever_a_file_of_a_pool_holds_is_a_policy_or_refused_with_a_sentence(pool in crate::mutation::json(vec![whole()])) {
            let market = crate::core::market::Market::default();
            let read = |pool: &Value| crate::mutation::read_file(pool.to_string(), |path| super::pool(Some(path), &market));
            assert_eq!(read(&whole()).unwrap().max_share_per_mille, Some(500));
            match read(&pool) {
                Ok(found) => {
                    assert!(found.max_share_per_mille.is_none_or(|share| (10..=1_000).contains(&share)), "{pool}");
                    assert!((0..=1_000).contains(&found.spread_most_extra_per_mille), "{pool}");
                }
                Err(fault) => assert!(fault.to_string().len() > 20, "{fault}"),
            }
        }
    }
}
