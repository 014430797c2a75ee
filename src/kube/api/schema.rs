//! Schemas of fields whose Rust type belongs to the core, which knows nothing about Kubernetes.

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

/// How capacity is bought.
pub fn capacity_type(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["reserved", "spot", "on-demand"] })
}

/// Source of a price, in `core::market::PriceSource`'s notation, or absent.
pub fn optional_price_source(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "nullable": true, "maxLength": 40, "pattern": "^[a-z]+(-[a-z]+)*$" })
}

/// A region, e.g. `us-east-1`.
pub fn region(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "maxLength": 32, "pattern": "^[a-z]{2}(-[a-z]+)+-[0-9]{1,2}$" })
}

/// A trigger, in `core::fleet::Trigger`'s notation.
pub fn trigger(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "maxLength": 40, "pattern": "^[a-z]+(-[a-z]+)*$" })
}

/// Who ended an instance, in `core::fleet::EndedBy`'s notation.
pub fn ended_by(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["ec2-interruption", "lowtide", "unknown"] })
}

/// Any object, kept as it is.
pub fn raw_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}
