//! Between the SDK's types and ours: times, tags, filters.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{Filter, ResourceType, Tag, TagSpecification};
use aws_smithy_types::DateTime;

use crate::core::units::time::Timestamp;
use crate::ports::CloudError;

/// A point in time from AWS, in milliseconds; `None` if out of range.
pub fn timestamp(time: &DateTime) -> Option<Timestamp> {
    time.to_millis().ok().map(Timestamp)
}

/// The reverse of [`timestamp`].
pub fn date_time(time: Timestamp) -> DateTime {
    DateTime::from_millis(time.0)
}

/// A point in time from RFC 3339 text, the format of EventBridge and instance metadata.
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    text.parse::<jiff::Timestamp>().ok().map(|time| Timestamp(time.as_millisecond()))
}

/// A field that EC2 always sends; an answer without it is unusable.
///
/// # Errors
/// [`CloudError::Unknown`], naming the call and the field.
pub fn needed<T>(value: Option<T>, call: &str, field: &str) -> Result<T, CloudError> {
    value.ok_or_else(|| CloudError::Unknown { message: format!("{call} answered without {field}") })
}

/// A name, if it is one: an answer may hold an empty one, which names nothing.
pub fn named(name: Option<&str>) -> Option<&str> {
    name.filter(|name| !name.is_empty())
}

/// `tag:KEY = VALUE` and the like.
pub fn filter(name: impl Into<String>, values: impl IntoIterator<Item = String>) -> Filter {
    Filter::builder().name(name).set_values(Some(values.into_iter().collect())).build()
}

/// The tags of a resource, by key.
pub fn tag_map(tags: &[Tag]) -> BTreeMap<String, String> {
    tags.iter().filter_map(|tag| Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned()))).collect()
}

/// The same tags for a resource to be created.
pub fn tag_specification(kind: ResourceType, tags: &BTreeMap<String, String>) -> TagSpecification {
    let tags = tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect();
    TagSpecification::builder().resource_type(kind).set_tags(Some(tags)).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_milliseconds_both_ways() {
        let time = Timestamp(1_784_555_070_123);
        assert_eq!(timestamp(&date_time(time)), Some(time));
        assert_eq!(parse_rfc3339("2026-07-20T13:44:30.123Z"), Some(time));
        assert_eq!(parse_rfc3339("2026-07-20T15:44:30.123+02:00"), Some(time));
        assert_eq!(parse_rfc3339("2026-07-20 13:44"), None);
    }
}
