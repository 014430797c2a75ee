//! What only some passes ask of the index: each is found when it is first asked for.
//!
//! Decides: nothing.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use super::{Index, Lookup, Machine, lookup};
use crate::core::fleet::{Claim, Instance, tags};
use crate::core::snapshot::seen;
use crate::core::units::ids::{ClaimName, Uid};
use crate::core::workload::{Mobility, Pod, PodPhase, Replaces, Workload};

/// The answers so far.
#[derive(Default)]
pub(super) struct Asked<'a> {
    let_go_by: OnceCell<Lookup<&'a str, Vec<&'a Pod>>>,
    by_workload: OnceCell<BTreeMap<&'a Workload, Vec<&'a Pod>>>,
    by_job: OnceCell<Lookup<&'a str, Vec<&'a Pod>>>,
    by_gang: OnceCell<BTreeMap<&'a str, BTreeMap<&'a str, Vec<&'a Pod>>>>,
    bought_for: OnceCell<Lookup<&'a str, Vec<&'a ClaimName>>>,
    promised: OnceCell<Lookup<&'a str, ()>>,
    successors: OnceCell<Lookup<&'a str, Vec<&'a Claim>>>,
    by_claim_uid: OnceCell<Lookup<&'a str, &'a Instance>>,
    claim_uids: OnceCell<Lookup<&'a str, ()>>,
    deleted_at_work: OnceCell<u64>,
}

impl<'a> Index<'a> {
    /// How many claims with work on them are being deleted and have not been left yet.
    pub(in crate::core::plan) fn deleted_at_work(&self) -> u64 {
        *self.asked.deleted_at_work.get_or_init(|| {
            let waits = |m: &&Machine| m.claim.deleting && m.claim.status.moving.is_none() && !m.pods_among(&self.placed).is_empty();
            u64::try_from(self.machines.iter().filter(waits).count()).unwrap_or(u64::MAX)
        })
    }

    /// Pods that this controller has let go, the first to be let go first.
    pub(in crate::core::plan) fn let_go_by(&self, controller: &Uid) -> &[&'a Pod] {
        let made = self.asked.let_go_by.get_or_init(|| {
            let mut found: Lookup<&str, Vec<&Pod>> = lookup(0);
            let mut in_order = self.let_go.clone();
            in_order.sort_by_key(|pod| (pod.let_go.as_ref().map(|mark| mark.at), &pod.identity.uid));
            for pod in in_order {
                if let Some(mark) = &pod.let_go {
                    found.entry(mark.controller.as_str()).or_default().push(pod);
                }
            }
            found
        });
        made.get(controller.as_str()).map_or(&[], Vec::as_slice)
    }

    /// All pods of a workload.
    pub(in crate::core::plan) fn of_workload(&self, workload: &Workload) -> &[&'a Pod] {
        let made = self.asked.by_workload.get_or_init(|| {
            let mut found: BTreeMap<&Workload, Vec<&Pod>> = BTreeMap::new();
            for pod in self.world.pods.values() {
                found.entry(&pod.workload).or_default().push(pod);
            }
            found
        });
        made.get(workload).map_or(&[], Vec::as_slice)
    }

    /// All pods that a Job made, those that it has let go included.
    pub(in crate::core::plan) fn of_job(&self, job: &Uid) -> &[&'a Pod] {
        let made = self.asked.by_job.get_or_init(|| {
            let mut found: Lookup<&str, Vec<&Pod>> = lookup(0);
            for pod in self.world.pods.values() {
                let own = if let Mobility::Job { job_uid, .. } = &*pod.mobility { Some(job_uid) } else { None };
                let former = pod.let_go.as_ref().map(|mark| &mark.controller).filter(|controller| Some(*controller) != own);
                for job in own.into_iter().chain(former) {
                    found.entry(job.as_str()).or_default().push(pod);
                }
            }
            found
        });
        made.get(job.as_str()).map_or(&[], Vec::as_slice)
    }

    /// All pods of a gang in a namespace.
    pub(in crate::core::plan) fn of_gang(&self, namespace: &str, gang: &str) -> &[&'a Pod] {
        let made = self.asked.by_gang.get_or_init(|| {
            let mut found: BTreeMap<&str, BTreeMap<&str, Vec<&Pod>>> = BTreeMap::new();
            for pod in self.world.pods.values() {
                if let Some(gang) = pod.need.as_ref().ok().and_then(|(_, schedule)| schedule.gang.as_deref()) {
                    found.entry(pod.object().namespace.as_str()).or_default().entry(gang).or_default().push(pod);
                }
            }
            found
        });
        made.get(namespace).and_then(|gangs| gangs.get(gang)).map_or(&[], Vec::as_slice)
    }

    /// Claims that were bought for a pod, by name.
    pub(in crate::core::plan) fn bought_for(&self, pod: &Uid) -> &[&'a ClaimName] {
        let made = self.asked.bought_for.get_or_init(|| {
            let mut found: Lookup<&str, Vec<&ClaimName>> = lookup(self.world.claims.len());
            for claim in self.world.claims.values() {
                for named in &claim.spec.bought_for {
                    found.entry(named.uid.as_str()).or_default().push(&claim.name);
                }
            }
            found
        });
        made.get(pod.as_str()).map_or(&[], Vec::as_slice)
    }

    /// Whom a pod that waits is to replace by the claim that was bought for it: decided when it was bought, and kept there before the pod is bound.
    pub(in crate::core::plan) fn promised(&self, pod: &Pod) -> Option<&'a Replaces> {
        let uid = &pod.identity.uid;
        let mut bought = self.bought_for(uid).iter().filter(|_| pod.claim.is_none());
        bought.find_map(|name| self.world.claims.get(*name)?.binding_of(uid)?.replaces.as_deref())
    }

    /// A pod that waits is to replace this one.
    pub(in crate::core::plan) fn is_promised(&self, old: &Uid) -> bool {
        let made = self.asked.promised.get_or_init(|| {
            let waiting = self.world.pods.values().filter(|pod| pod.phase == PodPhase::Gated);
            waiting.filter_map(|pod| self.promised(pod)).map(|replaces| (replaces.pod.uid.as_str(), ())).collect()
        });
        made.contains_key(old.as_str())
    }

    /// Claims that are to take over the work of `claim`, by name.
    pub(in crate::core::plan) fn successors(&self, claim: &ClaimName) -> &[&'a Claim] {
        let made = self.asked.successors.get_or_init(|| {
            let mut found: Lookup<&str, Vec<&Claim>> = lookup(0);
            for successor in self.taking_over().iter().copied() {
                if let Some(old) = &successor.spec.takes_over {
                    found.entry(old.as_str()).or_default().push(successor);
                }
            }
            found
        });
        made.get(claim.as_str()).map_or(&[], Vec::as_slice)
    }

    /// The instance that carries this claim's uid in its tags: of a launch whose answer was not written down.
    pub(in crate::core::plan) fn tagged_with(&self, claim: &Claim) -> Option<&'a Instance> {
        self.tagged_with_uid(&claim.uid).filter(|instance| instance.capacity.region == claim.spec.capacity.region)
    }

    /// The instance that carries the uid of a claim in its tags, whether that claim can be read or not.
    pub(in crate::core::plan) fn tagged_with_uid(&self, claim: &Uid) -> Option<&'a Instance> {
        let made = self.asked.by_claim_uid.get_or_init(|| {
            let mut found = lookup(self.machines.len());
            for instance in seen(&self.world.instances) {
                if let Some(uid) = instance.tags.get(tags::CLAIM_UID) {
                    found.entry(uid).or_insert(instance);
                }
            }
            found
        });
        made.get(claim.as_str()).copied()
    }

    /// Whether a claim with this uid is there.
    pub(in crate::core::plan) fn is_claim(&self, uid: &str) -> bool {
        let made = self.asked.claim_uids.get_or_init(|| {
            let mut found = lookup(self.world.claims.len());
            for claim in self.world.claims.values() {
                found.insert(claim.uid.as_str(), ());
            }
            found
        });
        made.contains_key(uid)
    }
}
