//! The objects of one watch, and which of them have changed since somebody last looked.
//!
//! Decides: nothing. An object that the watch no longer shows is gone.
//!
//! Objects are held as they are where they are read again and again, and as JSON ([`Packed`]) where they are read once, when a watch shows them: the types of the
//! API have a field for everything that an object may say, and a pod of which three kilobytes are kept takes twelve.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::error_boundary::InvalidObject;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Which object of a kind: its namespace (empty for kinds without one) and its name.
pub type Key = (String, String);

/// Where an object is held.
pub fn key_of<K: Resource>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// The objects of one watch, each in the form `F`. Clones hold the same objects.
#[derive(Debug)]
pub struct Held<F>(Arc<Mutex<Inside<F>>>);

#[derive(Debug)]
struct Inside<F> {
    objects: BTreeMap<Key, Arc<F>>,
    /// The objects of a list that has not ended yet.
    arriving: BTreeMap<Key, Arc<F>>,
    listed: bool,
    news: News,
}

/// A form in which objects are held.
pub trait Form: Sized {
    /// What the watch shows.
    type Object: Resource<DynamicType = ()>;
    /// In this form.
    fn of(object: Self::Object) -> Self;
}

impl<K: Resource<DynamicType = ()>> Form for DeserializeGuard<K> {
    type Object = Self;
    fn of(object: Self) -> Self {
        object
    }
}

impl<K: Resource<DynamicType = ()>> Form for PartialObjectMeta<K> {
    type Object = Self;
    fn of(object: Self) -> Self {
        object
    }
}

impl<K: Pack> Form for Packed<K> {
    type Object = K;
    fn of(object: K) -> Self {
        Packed(object.pack(), PhantomData)
    }
}

/// An object as JSON.
#[derive(Debug)]
pub struct Packed<K>(Content, PhantomData<fn() -> K>);

/// What is held of a packed object.
#[derive(Debug)]
pub enum Content {
    /// The object, as JSON.
    Json(Box<[u8]>),
    /// Why it cannot be read.
    Unreadable(Box<InvalidObject>),
}

impl<K: Pack> Packed<K> {
    /// The object.
    pub fn unpack(&self) -> K {
        K::unpack(&self.0)
    }
}

/// Objects that can be packed: those that say of themselves whether they can be read.
pub trait Pack: Resource<DynamicType = ()> {
    /// As it is held.
    fn pack(self) -> Content;
    /// As it was; the reverse of [`Pack::pack`].
    fn unpack(content: &Content) -> Self;
}

/// Objects that are unpacked one by one.
pub type Unpacking<K> =
    std::iter::Map<std::vec::IntoIter<(Key, Option<Arc<Packed<K>>>)>, fn((Key, Option<Arc<Packed<K>>>)) -> (Key, Option<K>)>;

fn json_of(object: &impl Serialize, meta: impl FnOnce() -> ObjectMeta) -> Content {
    match serde_json::to_vec(object) {
        Ok(json) => Content::Json(json.into_boxed_slice()),
        Err(fault) => Content::Unreadable(Box::new(InvalidObject { error: fault.to_string(), metadata: meta() })),
    }
}

impl<K: Resource<DynamicType = ()> + Serialize + DeserializeOwned> Pack for DeserializeGuard<K> {
    fn pack(self) -> Content {
        match self.0 {
            Ok(object) => json_of(&object, || object.meta().clone()),
            Err(unreadable) => Content::Unreadable(Box::new(unreadable)),
        }
    }

    fn unpack(content: &Content) -> Self {
        DeserializeGuard(match content {
            Content::Json(json) => serde_json::from_slice(json).map_err(|fault| {
                let metadata = serde_json::from_slice(json).map(|named: PartialObjectMeta<K>| named.metadata).unwrap_or_default();
                InvalidObject { error: fault.to_string(), metadata }
            }),
            Content::Unreadable(unreadable) => Err((**unreadable).clone()),
        })
    }
}

impl<K: Resource<DynamicType = ()>> Pack for PartialObjectMeta<K> {
    fn pack(self) -> Content {
        json_of(&self.metadata, || self.metadata.clone())
    }

    fn unpack(content: &Content) -> Self {
        let metadata = match content {
            Content::Json(json) => serde_json::from_slice(json).unwrap_or_default(),
            Content::Unreadable(unreadable) => unreadable.metadata.clone(),
        };
        PartialObjectMeta { types: None, metadata, _phantom: PhantomData }
    }
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

impl<F> Clone for Held<F> {
    fn clone(&self) -> Self {
        Held(Arc::clone(&self.0))
    }
}

impl<F> Default for Held<F> {
    fn default() -> Self {
        let inside = Inside { objects: BTreeMap::new(), arriving: BTreeMap::new(), listed: false, news: News::default() };
        Held(Arc::new(Mutex::new(inside)))
    }
}

impl<F> Held<F> {
    fn inside(&self) -> MutexGuard<'_, Inside<F>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the watch has listed once.
    pub fn listed(&self) -> bool {
        self.inside().listed
    }

    /// The object of this key.
    pub fn get(&self, key: &Key) -> Option<Arc<F>> {
        self.inside().objects.get(key).cloned()
    }

    /// Every object.
    pub fn all(&self) -> Vec<(Key, Arc<F>)> {
        self.inside().objects.iter().map(|(key, object)| (key.clone(), Arc::clone(object))).collect()
    }

    /// What has changed since the last call.
    pub fn news(&self) -> News {
        std::mem::take(&mut self.inside().news)
    }

    /// Every object that has changed since the last call, as it is now; `None` if it is gone. Where there is no knowing what has changed, that
    /// is every object, and every one that was `known`.
    pub fn changed(&self, from_nothing: bool, known: impl Iterator<Item = Key>) -> Vec<(Key, Option<Arc<F>>)> {
        let mut inside = self.inside();
        let news = std::mem::take(&mut inside.news);
        let mut keys = news.keys;
        if from_nothing || news.everything {
            keys.extend(inside.objects.keys().cloned().chain(known));
        }
        keys.into_iter().map(|key| (inside.objects.get(&key).cloned(), key)).map(|(object, key)| (key, object)).collect()
    }
}

impl<K: Pack> Held<Packed<K>> {
    /// As [`Held::changed`], each unpacked when it is its turn: of five thousand pods one is there at a time.
    pub fn changes(&self, from_nothing: bool, known: impl Iterator<Item = Key>) -> Unpacking<K> {
        self.changed(from_nothing, known).into_iter().map(|(key, object)| (key, object.map(|object| object.unpack())))
    }
}

impl<F: Form> Held<F> {
    /// Takes in what the watch says; true if what is held has changed.
    pub fn take_in(&self, event: Event<F::Object>) -> bool {
        let mut inside = self.inside();
        match event {
            Event::Init => inside.arriving.clear(),
            Event::InitApply(object) => {
                inside.arriving.insert(key_of(&object), Arc::new(F::of(object)));
            }
            Event::InitDone => {
                inside.objects = std::mem::take(&mut inside.arriving);
                (inside.listed, inside.news.everything) = (true, true);
                return true;
            }
            Event::Apply(object) => {
                let key = key_of(&object);
                inside.news.keys.insert(key.clone());
                inside.objects.insert(key, Arc::new(F::of(object)));
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
    use k8s_openapi::api::core::v1::{Namespace, Pod};
    use serde_json::json;

    type Guarded<K> = DeserializeGuard<K>;

    fn object(name: &str) -> Guarded<Namespace> {
        let mut object = Namespace::default();
        object.metadata.name = Some(name.to_owned());
        DeserializeGuard(Ok(object))
    }

    fn key(name: &str) -> Key {
        (String::new(), name.to_owned())
    }

    #[test]
    fn what_changed_is_reported_once_and_a_list_replaces_everything_at_its_end() {
        let held: Held<Packed<Guarded<Namespace>>> = Held::default();
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

    /// As the API server writes a pod (its times are of whole seconds), with an amount and a port that is a name.
    #[test]
    fn an_object_is_the_same_after_it_was_held() {
        let written = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "chat-0", "namespace": "ml", "uid": "u-1", "creationTimestamp": "2026-12-01T10:00:00Z", "labels": { "app": "chat" } },
            "spec": { "containers": [{
                "name": "main", "resources": { "requests": { "cpu": "1500m", "nvidia.com/gpu": "1" } },
                "readinessProbe": { "httpGet": { "port": "http", "path": "/" } },
            }] },
            "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": "2026-12-01T10:00:01Z" }] },
        });
        let pod: Guarded<Pod> = serde_json::from_value(written).unwrap();
        let unpacked = Packed::of(pod.clone()).unpack();
        assert_eq!(unpacked.0.unwrap(), pod.0.unwrap());

        let unreadable: Guarded<Pod> = serde_json::from_value(json!({ "metadata": { "name": "odd" }, "spec": 7 })).unwrap();
        let fault = unreadable.0.as_ref().unwrap_err().error.clone();
        let unpacked = Packed::of(unreadable).unpack().0.unwrap_err();
        assert_eq!((unpacked.error, unpacked.metadata.name.as_deref()), (fault, Some("odd")));

        let named = json!({ "metadata": { "name": "chat-7d9f", "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "chat", "uid": "d-1", "controller": true }] } });
        let meta: PartialObjectMeta<Pod> = serde_json::from_value(named).unwrap();
        assert_eq!(Packed::of(meta.clone()).unpack().metadata, meta.metadata);
    }
}
