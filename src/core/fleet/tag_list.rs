//! The tags of a machine and the labels of its node, each in one piece of memory: there are as many lists of them as machines, and a map of one label
//! takes as much as a map of eleven.
//!
//! Decides: nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Separates keys and values. EC2 takes no tag that contains it.
const END: char = '\0';

/// What is looked up by a key, as labels are.
pub trait Labelled {
    /// The value of this key.
    fn label(&self, key: &str) -> Option<&str>;
}

impl Labelled for BTreeMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl Labelled for TagList {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key)
    }
}

/// Tags or labels by key.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct TagList(Box<str>);

impl TagList {
    /// The value of this key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut parts = self.0.split_terminator(END);
        std::iter::from_fn(move || Some((parts.next()?, parts.next().unwrap_or_default())))
    }

    /// The same tags, and `key` with this value, or without it.
    #[must_use]
    pub fn with(&self, key: &str, value: Option<&str>) -> TagList {
        let mut tags = BTreeMap::from(self.clone());
        tags.remove(key);
        tags.extend(value.map(|value| (key.to_owned(), value.to_owned())));
        tags.into()
    }
}

impl Extend<(String, String)> for TagList {
    fn extend<T: IntoIterator<Item = (String, String)>>(&mut self, more: T) {
        let mut tags = BTreeMap::from(self.clone());
        tags.extend(more);
        *self = tags.into();
    }
}

impl From<BTreeMap<String, String>> for TagList {
    fn from(tags: BTreeMap<String, String>) -> Self {
        let mut text = String::with_capacity(tags.iter().map(|(key, value)| key.len() + value.len() + 2).sum());
        // The owner first: every pass asks for it, of every machine.
        let (owner, others): (Vec<_>, Vec<_>) = tags.iter().partition(|(key, _)| *key == super::tags::CLUSTER_UID);
        for part in owner.into_iter().chain(others).flat_map(|(key, value)| [key, value]) {
            text.extend(part.chars().filter(|c| *c != END));
            text.push(END);
        }
        TagList(text.into())
    }
}

impl From<TagList> for BTreeMap<String, String> {
    fn from(tags: TagList) -> Self {
        tags.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_tags_is_a_map() {
        let map: BTreeMap<String, String> = [("a", "1"), ("b", ""), ("c", "x y")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let list = TagList::from(map.clone());
        assert_eq!([list.get("a"), list.get("b"), list.get("c"), list.get("d")], [Some("1"), Some(""), Some("x y"), None]);
        assert_eq!(BTreeMap::from(list.clone()), map);
        assert_eq!(list.with("b", None).iter().collect::<Vec<_>>(), [("a", "1"), ("c", "x y")]);
        assert_eq!(list.with("a", Some("2")).get("a"), Some("2"));
        let mut more = list.clone();
        more.extend([("a".to_owned(), "2".to_owned()), ("d".to_owned(), "3".to_owned())]);
        assert_eq!(["a", "b", "d", "e"].map(|key| more.label(key)), [Some("2"), Some(""), Some("3"), None]);
        assert_eq!(serde_json::to_value(&list).unwrap(), serde_json::json!({"a": "1", "b": "", "c": "x y"}));
        assert_eq!(TagList::default().iter().count(), 0);
        let owned = list.with(crate::core::fleet::tags::CLUSTER_UID, Some("u"));
        assert_eq!((owned.iter().next(), owned.get("a")), (Some((crate::core::fleet::tags::CLUSTER_UID, "u")), Some("1")));
    }
}
