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

/// A number of nodes or a share of them, as [`super::Nodes`] reads it.
pub(super) fn nodes(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "maxLength": 6, "x-kubernetes-validations": [
        { "rule": "self.matches('^((100|[0-9]{1,2})%|[0-9]{1,5})$')",
          "message": "nodes must be a number such as \"5\" or a share from \"0%\" to \"100%\"" }
    ] })
}

/// A set of reasons to leave a node by choice, as [`super::DisruptionReason`] reads them.
pub(super) fn optional_reasons(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "nullable": true, "minItems": 1, "maxItems": 4, "x-kubernetes-list-type": "set",
        "items": { "type": "string", "enum": ["SavingsMove", "Consolidation", "Drift", "Expiry"] } })
}

/// A cron expression as [`crate::core::units::recurrence::Recurrence`] reads it. A range that ends before it begins is let through, and reported on
/// the pool.
pub(super) fn optional_schedule(_: &mut SchemaGenerator) -> Schema {
    let field = |number: &str| {
        let item = format!("([*?]|({number})(-({number}))?)(/[1-9][0-9]?)?");
        format!("{item}(,{item})*")
    };
    let fields = [
        field("[0-5]?[0-9]"),
        field("[01]?[0-9]|2[0-3]"),
        field("0?[1-9]|[12][0-9]|3[01]"),
        field("0?[1-9]|1[0-2]|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"),
        field("[0-6]|sun|mon|tue|wed|thu|fri|sat"),
    ];
    let rule = format!("self.matches('^(@(yearly|annually|monthly|weekly|daily|midnight|hourly)|(?i:{}))$')", fields.join(" +"));
    let message = "schedule must be a cron expression (minute, hour, day of the month, month, day of the week), e.g. 0 9 * * mon-fri, or a word such as @daily";
    json_schema!({ "type": "string", "nullable": true, "maxLength": 128, "x-kubernetes-validations": [{ "rule": rule, "message": message }] })
}

/// How long a window stays open: days, hours and minutes.
pub(super) fn optional_span(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "nullable": true, "maxLength": 16, "x-kubernetes-validations": [
        { "rule": "self.matches('^([0-9]{1,3}d)?([0-9]{1,4}h)?([0-9]{1,5}m)?$') && self.matches('[1-9]')",
          "message": "duration must be above 0, in days, hours and minutes, e.g. 8h or 1h30m" }
    ] })
}

/// A time zone of the IANA database. The API server knows them as well (it has its own copy for CronJobs); one that it does not know fails the rule.
pub(super) fn optional_zone(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "nullable": true, "maxLength": 64, "x-kubernetes-validations": [
        { "rule": "self.matches('^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$') && timestamp('2026-01-01T00:00:00Z').getHours(self) >= 0",
          "message": "timeZone must be a name of the IANA database such as Europe/Berlin or UTC" }
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
