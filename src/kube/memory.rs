//! The ConfigMap that keeps the market memory across restarts.
//!
//! The chart creates it, empty, so that the operator only needs permission to read and change this one object and none to create any.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use super::errors::call;
use super::names;
use crate::ports::ClusterError;

/// Its name, in lowtide's namespace. The chart's Role lists it too; a test compares them.
pub const CONFIG_MAP: &str = "lowtide-market-memory";
const KEY: &str = "memory.json";

/// The stored text; `None` if there is none.
///
/// # Errors
/// [`ClusterError::Gone`] when the ConfigMap is missing.
pub async fn read(client: &Client, namespace: &str) -> Result<Option<String>, ClusterError> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let found = call(format!("read ConfigMap {namespace}/{CONFIG_MAP} (helm upgrade creates it)"), api.get(CONFIG_MAP)).await?;
    Ok(found.data.and_then(|mut data| data.remove(KEY)))
}

/// Stores `text`.
///
/// # Errors
/// As [`read`].
pub async fn keep(client: &Client, namespace: &str, text: &str) -> Result<(), ClusterError> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let params = PatchParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let body = Patch::Merge(json!({ "data": { KEY: text } }));
    call(format!("write ConfigMap {namespace}/{CONFIG_MAP} (helm upgrade creates it)"), api.patch(CONFIG_MAP, &params, &body))
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::market::{Capacity, CapacityType};
    use crate::core::snapshot::memory::MarketMemory;
    use crate::core::units::time::{Millis, Timestamp};

    /// Which capacity is left alone, and what was seen of each, outlives an upgrade.
    #[test]
    fn the_market_memory_of_0_1_0_is_read_whole() {
        let (_, object) = crate::released::objects("0.1.0", "memory-").remove(0);
        let kept: ConfigMap = serde_json::from_value(object).unwrap();
        assert_eq!(kept.metadata.name.as_deref(), Some(CONFIG_MAP));
        let memory = MarketMemory::from_text(&kept.data.unwrap()[KEY], Timestamp(1_795_600_000_000)).unwrap();
        let of = |zone: &str, capacity_type| {
            let capacity = Capacity { region: "us-east-1".into(), zone: zone.into(), instance_type: "g6.xlarge".into(), capacity_type };
            memory.of(&capacity).cloned().unwrap()
        };
        let (ran, dry) = (of("use1-az4", CapacityType::Spot), of("use1-az6", CapacityType::Spot));
        assert_eq!((ran.exposure.ran, ran.exposure.interruptions, ran.cool_down), (Millis::from_hours(39), 1_000, None));
        assert_eq!(dry.cool_down.map(|cool_down| (cool_down.refusals, cool_down.until)), Some((2, Timestamp(1_795_600_360_000))));
        assert!(of("use1-az4", CapacityType::OnDemand).cool_down.is_some(), "refused for quota");
    }
}
