//! Names of things, each its own type, so that a zone can never be mistaken for a region.

use serde::{Deserialize, Serialize};
use sha1::{Digest as _, Sha1};
use std::fmt;
use std::sync::Arc;

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Eq, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        #[allow(clippy::derived_hash_with_manual_eq, reason = "names that share their text have equal text")]
        pub struct $name(Arc<str>);
        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
            }
        }
        impl Ord for $name {
            // Maps compare a name mostly with copies of itself, and those share their text.
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                if Arc::ptr_eq(&self.0, &other.0) { std::cmp::Ordering::Equal } else { self.0.cmp(&other.0) }
            }
        }
        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }
        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
            /// The name as text that others may hold, too.
            pub fn text(&self) -> Arc<str> {
                Arc::clone(&self.0)
            }
        }
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                $name(text.into())
            }
        }
        impl From<String> for $name {
            fn from(text: String) -> Self {
                $name(text.into())
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name_type!(/// An AWS region, e.g. `us-east-1`.
    Region);
name_type!(/// An availability or local zone **id**, e.g. `use1-az4`. Zone names differ per account; ids do not.
    ZoneId);
name_type!(/// An EC2 instance type, e.g. `g6.xlarge`.
    InstanceType);
impl InstanceType {
    /// The part before the dot: `g6` of `g6.xlarge`.
    pub fn family(&self) -> &str {
        self.as_str().split('.').next().unwrap_or_default()
    }
}
impl ZoneId {
    /// A Local Zone or Wavelength Zone, e.g. `use1-atl2-az1`: its id has a location between region and zone.
    pub fn is_local(&self) -> bool {
        self.as_str().matches('-').count() > 1
    }
}
name_type!(/// A GPU model in lower case without the maker, e.g. `l4`, `a10g`, `h100`.
    GpuModel);
name_type!(/// An EC2 instance id, e.g. `i-0123456789abcdef0`.
    InstanceId);
name_type!(/// An EC2 capacity reservation's id, e.g. `cr-0123456789abcdef0`.
    ReservationId);
name_type!(/// The name of a `GpuNodePool`.
    PoolName);
name_type!(/// The name of a `GpuNodeClass`.
    ClassName);
name_type!(/// The name of a `GpuNodeClaim`.
    ClaimName);
name_type!(/// The uid Kubernetes gave an object.
    Uid);
name_type!(/// The name of a Kubernetes Node.
    NodeName);

/// A namespaced Kubernetes object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The identity of a decision: UUIDv5 of what it is about and which attempt it is, so writing twice is harmless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DecisionId(pub uuid::Uuid);

/// The namespace of every UUIDv5 that lowtide derives.
const LOWTIDE_NAMESPACE: uuid::Uuid = uuid::Uuid::from_u128(0x6c6f_7774_6964_6500_8000_6465_7600_0001);

/// A UUIDv5 over `parts`, separated so that ("ab","c") and ("a","bc") differ.
///
/// Like `Uuid::new_v5`, with a SHA-1 that uses the processor's instructions: ids are derived so often that it matters.
pub fn derive_uuid(parts: &[&str]) -> uuid::Uuid {
    let mut hash = Sha1::new_with_prefix(LOWTIDE_NAMESPACE.as_bytes());
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            hash.update("\u{1f}");
        }
        hash.update(part);
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    uuid::Builder::from_sha1_bytes(bytes).into_uuid()
}

impl ClaimName {
    /// The name that follows from `parts`: whoever decides the same gives the same name.
    pub fn derive(parts: &[&str]) -> Self {
        ClaimName::from(format!("lt-{}", &derive_uuid(parts).simple().to_string()[..12]))
    }
}

impl DecisionId {
    /// The id of the `attempt`-th decision of kind `kind` about `subject` in `cluster`.
    pub fn derive(cluster: &str, kind: &str, subject: &str, attempt: u64) -> Self {
        DecisionId(derive_uuid(&["decision", cluster, kind, subject, &attempt.to_string()]))
    }
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The idempotency token of one launch attempt of one claim: EC2 returns the same instance for the same token.
///
/// Source: "Ensuring idempotency in Amazon EC2 API requests"; at most 64 ASCII characters.
pub fn client_token(claim: &Uid, attempt: u32) -> String {
    derive_uuid(&["client-token", claim.as_str(), &attempt.to_string()]).to_string()
}

#[cfg(test)]
mod tests {
    use crate::core::units::ids::*;

    #[test]
    fn derived_ids_are_stable_and_do_not_collide_over_the_separator() {
        assert_eq!(derive_uuid(&["ab", "c"]), uuid::Uuid::new_v5(&LOWTIDE_NAMESPACE, b"ab\x1fc"));
        assert_eq!(derive_uuid(&["ab", "c"]).to_string(), "1fe02eb0-2c73-52de-a931-00bcc49225a7", "written down in ledgers");
        assert_ne!(derive_uuid(&["ab", "c"]), derive_uuid(&["a", "bc"]));
        let token = client_token(&"uid-1".into(), 1);
        assert!(token.len() <= 64 && token.is_ascii());
        assert_ne!(token, client_token(&"uid-1".into(), 2));
    }
}
