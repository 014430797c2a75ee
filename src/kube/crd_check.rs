//! The CRDs that the API server serves, compared with those of this version.
//!
//! Decides: which fields that this version writes the API server would silently drop, because its CRDs are older.
//! Does not: install or change a CRD (the chart does), or object to fields that it does not know (a newer version's).
//!
//! Read from the published OpenAPI, which every authenticated client may read: no permission to read CRDs is needed.

use kube::Client;
use serde_json::Value;

use super::api::{self, GROUP, VERSION};
use super::errors::call;
use crate::ports::ClusterError;

/// The fields that the served CRDs lack, e.g. `GpuNodeClaim: spec.adoptedInstance`; empty if they are sufficient.
///
/// # Errors
/// When the API server does not answer, or refuses.
pub async fn missing(client: &Client) -> Result<Vec<String>, ClusterError> {
    let path = format!("/openapi/v3/apis/{GROUP}/{VERSION}");
    let unwritable = |e: axum::http::Error| ClusterError::Refused(format!("ask for the definitions served: {e}"));
    let request = axum::http::Request::get(path).body(Vec::new()).map_err(unwritable)?;
    let served: Value = call("read the definitions served", client.request(request)).await?;
    let mut lacking = Vec::new();
    for (_, crd) in api::definitions() {
        let kind = &crd.spec.names.kind;
        let found = &served["components"]["schemas"][format!("dev.lowtide.{VERSION}.{kind}")];
        let schema = crd.spec.versions.first().and_then(|version| version.schema.as_ref()).and_then(|s| s.open_api_v3_schema.as_ref());
        let wanted = serde_json::to_value(schema).unwrap_or_default();
        for part in ["spec", "status"] {
            compare(&wanted["properties"][part], &found["properties"][part], &format!("{kind}: {part}"), &mut lacking);
        }
    }
    Ok(lacking)
}

/// Adds every property of `wanted` that `found` lacks.
fn compare(wanted: &Value, found: &Value, path: &str, lacking: &mut Vec<String>) {
    for (name, schema) in wanted["properties"].as_object().into_iter().flatten() {
        let here = format!("{path}.{name}");
        match found["properties"].get(name) {
            None => lacking.push(here),
            Some(served) => compare(schema, served, &here, lacking),
        }
    }
    if wanted.get("items").is_some_and(Value::is_object) {
        compare(&wanted["items"], &found["items"], path, lacking);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_field_that_the_served_definition_lacks_is_named_wherever_it_is() {
        let of = |value: Value| json!({ "properties": value });
        let wanted = of(json!({ "a": {}, "b": of(json!({ "c": {} })), "d": { "items": of(json!({ "e": {}, "f": {} })) } }));
        let served = of(json!({ "a": {}, "b": of(json!({})), "d": { "items": of(json!({ "e": {} })) }, "newer": {} }));
        let mut lacking = Vec::new();
        compare(&wanted, &served, "GpuNodeClaim: spec", &mut lacking);
        assert_eq!(lacking, ["GpuNodeClaim: spec.b.c", "GpuNodeClaim: spec.d.f"]);
        lacking.clear();
        compare(&wanted, &wanted, "x", &mut lacking);
        assert!(lacking.is_empty());
    }
}
