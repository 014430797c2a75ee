//! Who owns a machine: from the cluster UID in its tags, and from claims for it.
//!
//! Decides: which machines are ours, which belong to another cluster of the same name, and whether there is a claim for one.
//! Does not: terminate or adopt anything (see `core::plan::claims::sweeping`).

use std::collections::{BTreeMap, BTreeSet};

use super::claim::Claim;
use super::instance::{Instance, InstanceState, tags};
use super::tag_list::TagList;
use crate::core::units::ids::{ClaimName, InstanceId, Uid};
use crate::core::units::time::Timestamp;

/// Owner of a machine that carries our cluster's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ownership<'a> {
    /// It carries this cluster's UID.
    Ours,
    /// It carries no UID: launched by lowtide 0.1, or by hand. It is ours if there is a claim of ours for it (a claim's uid comes from one
    /// API server only), otherwise its owner is unknown: left alone until someone runs `lowtide adopt`.
    Unmarked,
    /// It carries another cluster's UID: never used, terminated or adopted without a person.
    Foreign(&'a str),
}

/// The owner of the machine with these tags. While our own UID is not known (empty), nothing is ours.
pub fn ownership<'a>(tags: &'a TagList, cluster_uid: &str) -> Ownership<'a> {
    match tags.get(tags::CLUSTER_UID).filter(|uid| !uid.is_empty()) {
        Some(uid) if uid == cluster_uid => Ownership::Ours,
        Some(other) => Ownership::Foreign(other),
        None => Ownership::Unmarked,
    }
}

impl Instance {
    /// Its owner.
    pub fn ownership(&self, cluster_uid: &str) -> Ownership<'_> {
        ownership(&self.tags, cluster_uid)
    }

    /// It carries the UID of another cluster.
    pub fn is_of_another(&self, cluster_uid: &str) -> bool {
        matches!(self.ownership(cluster_uid), Ownership::Foreign(_))
    }

    /// It costs money, or soon will.
    pub fn is_alive(&self) -> bool {
        matches!(self.state, InstanceState::Pending | InstanceState::Running)
    }

    /// A fleet launched it. One that nobody's fleet did was launched by hand, with our tags on it.
    pub fn is_of_a_fleet(&self) -> bool {
        self.tags.get(tags::FLEET).is_some()
    }

    /// The uid of the claim that holds it: the one it was launched for, or that adopted it.
    pub fn claim_uid(&self) -> Option<&str> {
        self.tags.get(tags::CLAIM_UID)
    }

    /// The uid under which the ledger keeps its books: of the claim it was launched for, however often it was adopted since.
    pub fn books(&self) -> Option<&str> {
        self.tags.get(tags::BOOKS).filter(|uid| !uid.is_empty()).or_else(|| self.claim_uid()).filter(|uid| !uid.is_empty())
    }
}

/// An existing claim that cannot be read: another version wrote a value that this one does not know. It still owns its machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableClaim {
    /// Its name.
    pub name: ClaimName,
    /// Its uid.
    pub uid: Uid,
    /// Its instance, if that could be read.
    pub instance: Option<InstanceId>,
    /// What could not be read.
    pub fault: String,
}

/// The claims for machines according to the API server right now (a quorum read, not the watch's cache).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClaimsNow {
    /// Uid and, if known, instance of every claim, readable or not.
    pub claims: BTreeMap<Uid, Option<InstanceId>>,
    /// Names of the claims that could not be read.
    pub unreadable: Vec<ClaimName>,
}

impl ClaimsNow {
    /// Why a machine must be kept whatever the watch says; `None` if there is no claim for it.
    pub fn keeps(&self, instance: &InstanceId, claim_uid: Option<&str>) -> Option<String> {
        if let Some(name) = self.unreadable.first() {
            return Some(format!("claim {name} cannot be read, and may be for it"));
        }
        let stands = |(uid, of): (&Uid, &Option<InstanceId>)| Some(uid.as_str()) == claim_uid || of.as_ref() == Some(instance);
        let uid = self.claims.iter().find(|claim| stands(*claim)).map(|(uid, _)| uid);
        uid.map(|uid| format!("there is a claim for it with uid {uid} that the watch does not show"))
    }
}

/// Since when each running machine of ours has had no claim, as seen by one leader: `before` is what the same leader knew at its last pass.
/// A machine that has a claim again, or is gone, is dropped. One that carries the uid of a claim which stands for another machine, as a copy of that one
/// does, has none.
pub fn unclaimed_since<'a>(
    cluster_uid: &str,
    claims: &BTreeMap<ClaimName, Claim>,
    unreadable: &BTreeMap<ClaimName, UnreadableClaim>,
    seen: impl Iterator<Item = &'a Instance>,
    before: &BTreeMap<InstanceId, Timestamp>,
    now: Timestamp,
) -> BTreeMap<InstanceId, Timestamp> {
    let readable = claims.values().map(|c| (c.uid.as_str(), c.status.instance.as_ref().or(c.spec.adopted.as_ref())));
    let machines: BTreeMap<&str, Option<&InstanceId>> =
        readable.chain(unreadable.values().map(|c| (c.uid.as_str(), c.instance.as_ref()))).collect();
    let ids: BTreeSet<&InstanceId> = machines.values().filter_map(|id| *id).collect();
    let claimed = |i: &Instance| i.claim_uid().and_then(|uid| machines.get(uid)).is_some_and(Option::is_none);
    let stray = |i: &&Instance| !ids.contains(&i.id) && !claimed(i);
    let ours = seen.filter(|i| i.is_alive() && !i.is_of_another(cluster_uid));
    ours.filter(stray).map(|i| (i.id.clone(), before.get(&i.id).copied().unwrap_or(now))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_ours_by_the_uid_and_by_nothing_else() {
        let tagged = |uid: Option<&str>| TagList::default().with(tags::CLUSTER, Some("prod")).with(tags::CLUSTER_UID, uid);
        assert_eq!(ownership(&tagged(Some("a")), "a"), Ownership::Ours);
        assert_eq!(ownership(&tagged(Some("b")), "a"), Ownership::Foreign("b"));
        assert_eq!(ownership(&tagged(None), "a"), Ownership::Unmarked);
        assert_eq!(ownership(&tagged(Some("")), "a"), Ownership::Unmarked, "an empty tag says nothing");
        assert_eq!(ownership(&tagged(Some("b")), ""), Ownership::Foreign("b"), "not known who we are: nothing is ours");
    }

    #[test]
    fn what_the_api_server_says_now_overrules_the_watch() {
        let id = InstanceId::from("i-1");
        let mut now = ClaimsNow::default();
        assert_eq!(now.keeps(&id, Some("uid-1")), None);
        now.claims.insert("uid-1".into(), None);
        assert!(now.keeps(&id, Some("uid-1")).unwrap().contains("uid-1"));
        assert_eq!(now.keeps(&id, Some("uid-2")), None);
        now.claims.insert("uid-3".into(), Some(id.clone()));
        assert!(now.keeps(&id, None).unwrap().contains("uid-3"), "found by the instance");
        now = ClaimsNow { unreadable: vec!["lt-9".into()], ..ClaimsNow::default() };
        assert!(now.keeps(&id, Some("uid-2")).unwrap().contains("lt-9"), "one that cannot be read may be anybody's");
    }
}
