//! A point in time in the API's format: RFC 3339 in UTC with milliseconds.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::core::units::time::Timestamp;

/// A point in time in an object. Kubernetes' own `Time` has whole seconds only; phases of a migration are milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub Timestamp);

impl From<Timestamp> for Moment {
    fn from(at: Timestamp) -> Self {
        Moment(at)
    }
}

impl From<Moment> for Timestamp {
    fn from(moment: Moment) -> Self {
        moment.0
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let at: jiff::Timestamp =
            text.parse().map_err(|e| de::Error::custom(format!("{text:?} is not a point in time, e.g. 2026-07-20T13:44:30.000Z: {e}")))?;
        Ok(Moment(Timestamp(at.as_millisecond())))
    }
}

impl JsonSchema for Moment {
    fn schema_name() -> Cow<'static, str> {
        "Moment".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_survive_and_other_offsets_are_read() {
        let moment = Moment(Timestamp(1_784_555_070_123));
        let text = serde_json::to_string(&moment).unwrap();
        assert_eq!(text, "\"2026-07-20T13:44:30.123Z\"");
        assert_eq!(serde_json::from_str::<Moment>(&text).unwrap(), moment);
        assert_eq!(serde_json::from_str::<Moment>("\"2026-07-20T15:44:30.123456+02:00\"").unwrap(), moment);
        let fault = serde_json::from_str::<Moment>("\"yesterday\"").unwrap_err().to_string();
        assert!(fault.contains("\"yesterday\" is not a point in time"), "{fault}");
    }
}
