//! Schemas of fields whose Rust type belongs to the core, which knows nothing of Kubernetes.

use schemars::{Schema, SchemaGenerator, json_schema};

/// A decimal number of US dollars, at most six decimals, as a string.
pub fn usd(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "maxLength": 24, "pattern": r"^-?[0-9]{1,12}(\.[0-9]{1,6})?$" })
}

/// As [`usd`], or absent.
pub fn optional_usd(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "nullable": true, "maxLength": 24, "pattern": r"^-?[0-9]{1,12}(\.[0-9]{1,6})?$" })
}

/// A price that may be zero, at most six decimals.
pub fn sunk_price(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "maxLength": 24, "default": "0.0000", "pattern": r"^[0-9]{1,6}(\.[0-9]{1,6})?$" })
}

/// A price cap: above zero, at most six decimals.
pub fn optional_price_cap(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "nullable": true, "maxLength": 24, "pattern": r"^[0-9]{1,6}(\.[0-9]{1,6})?$",
        "x-kubernetes-validations": [
            { "rule": "self.matches('[1-9]')", "message": "a price cap must be above 0, in US dollars per GPU-hour, as in \"1.20\"" }
        ] })
}

/// A budget: not negative, at most six decimals.
pub fn optional_budget(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "nullable": true, "maxLength": 24, "pattern": r"^[0-9]{1,12}(\.[0-9]{1,6})?$" })
}

fn capacity_type_enum() -> serde_json::Value {
    serde_json::json!(["reserved", "spot", "on-demand"])
}

/// How capacity is bought.
pub fn capacity_type(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": capacity_type_enum() })
}

/// A set of ways to buy capacity.
pub fn capacity_types(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "minItems": 1, "maxItems": 3, "x-kubernetes-list-type": "set",
        "items": { "type": "string", "enum": capacity_type_enum() } })
}

fn names(pattern: &str, max_items: u32) -> Schema {
    json_schema!({ "type": "array", "maxItems": max_items, "x-kubernetes-list-type": "set",
        "items": { "type": "string", "maxLength": 64, "pattern": pattern } })
}

/// GPU models in lower case without the maker, as in `l4`.
pub fn gpu_models(_: &mut SchemaGenerator) -> Schema {
    names("^[a-z0-9]+(-[a-z0-9]+)*$", 64)
}

/// EC2 instance types, as in `g6.xlarge`.
pub fn instance_types(_: &mut SchemaGenerator) -> Schema {
    names(r"^[a-z0-9-]+\.[a-z0-9-]+$", 128)
}

/// Region patterns, as in `us-*`.
pub fn regions(_: &mut SchemaGenerator) -> Schema {
    names("^[a-z0-9*]+(-[a-z0-9*]+)*$", 64)
}

/// Names of node classes: at least one.
pub fn class_names(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "minItems": 1, "maxItems": 64, "x-kubernetes-list-type": "set",
        "items": { "type": "string", "maxLength": 63, "pattern": "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$" } })
}

/// A region, as in `us-east-1`.
pub fn region(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "maxLength": 32, "pattern": "^[a-z]{2}(-[a-z]+)+-[0-9]{1,2}$" })
}

/// A trigger, as `core::decision::Trigger` writes it.
pub fn trigger(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "maxLength": 40, "pattern": "^[a-z]+(-[a-z]+)*$" })
}

/// Who ended an instance, as `core::record::EndedBy` writes it.
pub fn ended_by(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["ec2-interruption", "lowtide", "unknown"] })
}

/// A label selector, as Kubernetes writes it.
pub fn label_selector(_: &mut SchemaGenerator) -> Schema {
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

/// Any object, kept as it is.
pub fn raw_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}
