//! What the API server accepts in the fields of a node pool, as OpenAPI.

use schemars::{Schema, SchemaGenerator, json_schema};

/// A price cap: above zero, at most six decimals.
pub(super) fn optional_price_cap(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "nullable": true, "maxLength": 24, "pattern": r"^[0-9]{1,6}(\.[0-9]{1,6})?$",
        "x-kubernetes-validations": [
            { "rule": "self.matches('[1-9]')", "message": "a price cap must be above 0, in US dollars per GPU-hour, e.g. \"1.20\"" }
        ] })
}

/// A budget: not negative, at most six decimals.
pub(super) fn optional_budget(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "nullable": true, "maxLength": 24, "pattern": r"^[0-9]{1,12}(\.[0-9]{1,6})?$" })
}

/// Hours of the day, in UTC or at a fixed distance from it: as [`crate::core::units::quiet_hours::QuietHours`] reads them.
pub(super) fn optional_quiet_hours(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "nullable": true, "maxLength": 18,
        "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]( [+]((0[0-9]|1[0-3]):[0-5][0-9]|14:00)| -((0[0-9]|1[01]):[0-5][0-9]|12:00))?$",
        "x-kubernetes-validations": [
            { "rule": "self.substring(0, 5) != self.substring(6, 11)", "message": "quiet hours must not begin and end at the same minute" }
        ] })
}

/// A set of ways to buy capacity.
pub(super) fn capacity_types(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "minItems": 1, "maxItems": 3, "x-kubernetes-list-type": "set",
        "items": { "type": "string", "enum": ["reserved", "spot", "on-demand"] } })
}

fn names(pattern: &str, max_items: u32) -> Schema {
    json_schema!({ "type": "array", "maxItems": max_items, "x-kubernetes-list-type": "set",
        "items": { "type": "string", "maxLength": 64, "pattern": pattern } })
}

/// GPU models in lower case without the maker, e.g. `l4`.
pub(super) fn gpu_models(_: &mut SchemaGenerator) -> Schema {
    names("^[a-z0-9]+(-[a-z0-9]+)*$", 64)
}

/// EC2 instance types, e.g. `g6.xlarge`.
pub(super) fn instance_types(_: &mut SchemaGenerator) -> Schema {
    names(r"^[a-z0-9-]+\.[a-z0-9-]+$", 128)
}

/// Region patterns, e.g. `us-*`.
pub(super) fn regions(_: &mut SchemaGenerator) -> Schema {
    names("^[a-z0-9*]+(-[a-z0-9*]+)*$", 64)
}

/// Names of node classes: at least one.
pub(super) fn class_names(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "minItems": 1, "maxItems": 64, "x-kubernetes-list-type": "set",
        "items": { "type": "string", "maxLength": 63, "pattern": "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$" } })
}

/// A region, e.g. `us-east-1`.
pub(super) fn region(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "maxLength": 32, "pattern": "^[a-z]{2}(-[a-z]+)+-[0-9]{1,2}$" })
}

/// A label selector in Kubernetes' form.
pub(super) fn label_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-map-type": "atomic",
        "properties": {
            "matchLabels": { "type": "object", "additionalProperties": { "type": "string" } },
            "matchExpressions": { "type": "array", "items": { "type": "object", "required": ["key", "operator"],
                "properties": {
                    "key": { "type": "string" },
                    "operator": { "type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"] },
                    "values": { "type": "array", "items": { "type": "string" } }
                } } }
        } })
}
