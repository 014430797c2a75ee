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
