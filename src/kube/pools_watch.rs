//! The watch of node pools, and which definition (CRD) defines them.
//!
//! Decides: by what definition the pools that are shown are defined; none while that is gone, is being deleted, or cannot be read.
//! Does not: decide what follows for the machines of pools that are gone (see `core::plan`).
//!
//! A definition that is deleted takes its objects with it, and a watch shows them go one by one, as if somebody had deleted each. The API server marks the
//! definition first. So it is read after a pool has gone and before that is shown, and at both ends of a list: what is shown of pools and of their definition
//! is never of two definitions.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use tokio::sync::Notify;

use super::api::GpuNodePool;
use super::errors::{call, gone_is_done};
use super::held::{Held, Packed};
use crate::core::fleet::PoolsDefined;
use crate::core::units::ids::Uid;
use crate::ports::ClusterError;

/// Whose definition is read. The role of the chart names it.
const DEFINITION: &str = "gpunodepools.lowtide.dev";
/// After this time a list is made again, where the definition could not be read.
const READ_AGAIN: Duration = Duration::from_secs(15);

/// By what node pools are defined.
#[derive(Debug, Clone, Default)]
pub struct Defined(Arc<Mutex<PoolsDefined>>);

impl Defined {
    /// As it is known now.
    pub fn now(&self) -> PoolsDefined {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, defined: PoolsDefined) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = defined;
    }
}

/// What is shown.
pub(super) type Shown = (Held<Packed<DeserializeGuard<GpuNodePool>>>, Defined);

/// Watches node pools for ever. `keep` drops what nobody needs of one, and logs one that cannot be read.
pub(super) async fn watch(
    client: Client,
    shown: Shown,
    changed: Arc<Notify>,
    config: watcher::Config,
    keep: impl Fn(&mut DeserializeGuard<GpuNodePool>) + Clone,
) {
    loop {
        let events = watcher(Api::all(client.clone()), config.clone()).default_backoff().modify(keep.clone());
        futures::pin_mut!(events);
        // As it was when the list began.
        let mut at_first = PoolsDefined::Unread;
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => match take_in(&client, &shown, event, &mut at_first).await {
                    Ok(true) => changed.notify_one(),
                    Ok(false) => {}
                    Err(fault) => {
                        tracing::error!(%fault, "until the definition (CRD) of node pools can be read, nothing ends because its node pool is gone");
                        break;
                    }
                },
                Err(error) => tracing::warn!(kind = "GpuNodePool", %error, "a watch failed and is restarted"),
            }
        }
        changed.notify_one();
        tokio::time::sleep(READ_AGAIN).await;
    }
}

/// Takes in what the watch says, and reads the definition where that may be another now. True if what is held has changed; an error where all must be listed
/// again.
async fn take_in(
    client: &Client,
    (held, defined): &Shown,
    event: Event<DeserializeGuard<GpuNodePool>>,
    at_first: &mut PoolsDefined,
) -> Result<bool, ClusterError> {
    let goes = match &event {
        Event::InitApply(_) => false,
        Event::Apply(pool) => pool.meta().deletion_timestamp.is_some(),
        Event::Init | Event::InitDone | Event::Delete(_) => true,
    };
    if !goes {
        return Ok(held.take_in(event));
    }
    let (begins, ends) = (matches!(event, Event::Init), matches!(event, Event::InitDone));
    // Nothing is known while it is looked up: whoever reads the pools now sees that they may be of another definition.
    defined.set(PoolsDefined::Unread);
    let now = read(client).await;
    held.take_in(event);
    let now = now?;
    if begins {
        *at_first = now.clone();
    }
    if ends && *at_first != now {
        return Err(ClusterError::Conflict("it was made again while the pools were listed".to_owned()));
    }
    // A list that has begun shows nothing yet; what is held is what was held before.
    if !begins {
        defined.set(now);
    }
    Ok(true)
}

/// The definition that is there to stay.
async fn read(client: &Client) -> Result<PoolsDefined, ClusterError> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let found = gone_is_done(call("read the definition of node pools", api.get_metadata(DEFINITION)).await)?;
    let stays = found.filter(|object| object.metadata.deletion_timestamp.is_none());
    Ok(stays.and_then(|object| object.metadata.uid).map_or(PoolsDefined::Going, |uid| PoolsDefined::By(Uid::from(uid))))
}
