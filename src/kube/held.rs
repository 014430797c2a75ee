//! The objects of one watch, and which of them have changed since somebody last looked.
//!
//! Decides: nothing. An object that the watch no longer shows is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};

/// Which object of a kind: its namespace (empty for kinds without one) and its name.
pub type Key = (String, String);

/// Where an object is held.
pub fn key_of<K: Resource>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// The objects of one watch. Clones hold the same objects.
#[derive(Debug)]
pub struct Held<K>(Arc<Mutex<Inside<K>>>);

#[derive(Debug)]
struct Inside<K> {
    objects: BTreeMap<Key, Arc<K>>,
    /// The objects of a list that has not ended yet.
    arriving: BTreeMap<Key, Arc<K>>,
    listed: bool,
    news: News,
}

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct News {
    /// The watch has listed everything again.
    pub everything: bool,
    /// Objects that appeared, changed or went.
    pub keys: BTreeSet<Key>,
}

impl News {
    /// Whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        !self.everything && self.keys.is_empty()
    }
}

impl<K> Clone for Held<K> {
    fn clone(&self) -> Self {
        Held(Arc::clone(&self.0))
    }
}

impl<K> Default for Held<K> {
    fn default() -> Self {
        let inside = Inside { objects: BTreeMap::new(), arriving: BTreeMap::new(), listed: false, news: News::default() };
        Held(Arc::new(Mutex::new(inside)))
    }
}

impl<K> Held<K> {
    fn inside(&self) -> MutexGuard<'_, Inside<K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the watch has listed once.
    pub fn listed(&self) -> bool {
        self.inside().listed
    }

    /// The object of this key.
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.inside().objects.get(key).cloned()
    }

    /// Every object.
    pub fn all(&self) -> Vec<(Key, Arc<K>)> {
        self.inside().objects.iter().map(|(key, object)| (key.clone(), Arc::clone(object))).collect()
    }

    /// What has changed since the last call.
    pub fn news(&self) -> News {
        std::mem::take(&mut self.inside().news)
    }

    /// Every object that has changed since the last call, as it is now; `None` if it is gone. Where there is no knowing what has changed, that
    /// is every object, and every one that was `known`.
    pub fn changes(&self, from_nothing: bool, known: impl Iterator<Item = Key>) -> Vec<(Key, Option<Arc<K>>)> {
        let mut inside = self.inside();
        let news = std::mem::take(&mut inside.news);
        let mut keys = news.keys;
        if from_nothing || news.everything {
            keys.extend(inside.objects.keys().cloned().chain(known));
        }
        keys.into_iter().map(|key| (inside.objects.get(&key).cloned(), key)).map(|(object, key)| (key, object)).collect()
    }
}

impl<K: Resource> Held<K> {
    /// Takes in what the watch says; true if what is held has changed.
    pub fn take_in(&self, event: Event<K>) -> bool {
        let mut inside = self.inside();
        match event {
            Event::Init => inside.arriving.clear(),
            Event::InitApply(object) => {
                inside.arriving.insert(key_of(&object), Arc::new(object));
            }
            Event::InitDone => {
                inside.objects = std::mem::take(&mut inside.arriving);
                (inside.listed, inside.news.everything) = (true, true);
                return true;
            }
            Event::Apply(object) => {
                let key = key_of(&object);
                inside.news.keys.insert(key.clone());
                inside.objects.insert(key, Arc::new(object));
                return true;
            }
            Event::Delete(object) => {
                let key = key_of(&object);
                inside.objects.remove(&key);
                inside.news.keys.insert(key);
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Namespace;

    fn object(name: &str) -> Namespace {
        let mut object = Namespace::default();
        object.metadata.name = Some(name.to_owned());
        object
    }

    fn key(name: &str) -> Key {
        (String::new(), name.to_owned())
    }

    #[test]
    fn what_changed_is_reported_once_and_a_list_replaces_everything_at_its_end() {
        let held = Held::default();
        assert!(!held.take_in(Event::Init) && !held.take_in(Event::InitApply(object("a"))));
        assert!(!held.listed() && held.all().is_empty(), "the list has not ended");
        assert!(held.take_in(Event::InitDone) && held.listed());
        assert!(held.news().everything && held.news().is_empty());

        assert!(held.take_in(Event::Apply(object("b"))) && held.take_in(Event::Delete(object("a"))));
        assert_eq!(held.news(), News { everything: false, keys: [key("a"), key("b")].into() });
        assert!(held.get(&key("a")).is_none() && held.get(&key("b")).is_some());

        held.take_in(Event::Init);
        held.take_in(Event::InitApply(object("c")));
        assert!(held.get(&key("b")).is_some(), "the old list holds until the new one has ended");
        held.take_in(Event::InitDone);
        assert!(held.get(&key("b")).is_none() && held.get(&key("c")).is_some() && held.news().everything);
    }
}
