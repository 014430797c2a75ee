//! A control plane that is restored from an old backup: claims are missing that the ledger and EC2 know of, and a person has `lowtide adopt`
//! take their machines over.
//!
//! Decides: when it happens, which claims are missing, and when somebody comes, from the seed alone. What is adopted, and as what, is decided by
//! the operator's own rules ([`crate::core::plan::claims::adoption`]).
//! Does not: restore pods, nodes or records to what they were: those are as they are.

use std::collections::BTreeMap;

use super::chance::Chance;
use super::ec2::Later;
use super::event::Event;
use super::faults::{Level, Trouble};
use super::market::CapacityMarket;
use super::world::{CLUSTER, World};
use crate::core::fleet::{Claim, ClaimStatus, Instance, Ownership, UnreadableClaim, tags};
use crate::core::market::CapacityType;
use crate::core::plan::claims::adoption::{AdoptedPrices, Allowed, Ours, Proposal, propose};
use crate::core::snapshot::Lane;
use crate::core::units::ids::{ClaimName, Region};
use crate::core::units::time::{Millis, Timestamp};

/// When the backup is restored, in one history of four.
pub fn first(seed: u64, level: Level, epoch: Timestamp) -> Option<Timestamp> {
    let mut chance = Chance::new(seed, "who restores a backup");
    let happens = level != Level::None && chance.happens(250);
    happens.then(|| epoch + chance.span(Millis::from_hours(4), Millis::from_hours(150)))
}

/// Somebody looks again for what was not shown before: launches that were under way.
const LOOKS: u32 = 3;

impl World {
    /// The claims that are younger than the backup are gone, whatever their finalizers say, and the operator starts again.
    pub(super) fn backup_is_restored(&mut self, now: Timestamp, later: &mut Later) {
        if self.faults.quiet {
            return;
        }
        let age = self.of_restores.span(Millis::from_mins(30), Millis::from_hours(72));
        let lost: Vec<ClaimName> =
            self.kube.claims.values().filter(|c| now.since(c.object.created_at) < age).map(|c| c.object.name.clone()).collect();
        self.say(&format!("a backup that is {age} old is restored: {} claims are gone", lost.len()));
        lost.iter().for_each(|name| self.kube.lose_claim(name, now));
        self.checks.restored = true;
        self.troubles.push(Trouble::Crash);
        self.stirred.notify_one();
        let comes = self.of_restores.span(Millis::from_mins(1), Millis::from_mins(25));
        later.push((now + comes, Event::Adopts(LOOKS)));
    }

    /// What `lowtide adopt --yes` does: a claim for each machine of ours that has none, then the machine's tags.
    pub(super) fn somebody_adopts(&mut self, looks: u32, now: Timestamp, later: &mut Later) {
        let regions: Vec<Region> = self.market.regions().to_vec();
        let machines: Vec<Instance> = regions.iter().flat_map(|region| self.ec2.describe(region, now)).collect();
        // What is left alone for now, because another claim has its name, is closed once it has ended: they come again for it.
        let mut left = false;
        for machine in machines {
            let Some(Proposal::Adopt { name, spec, .. }) = self.proposed(&machine) else {
                let ours = machine.is_alive() && machine.ownership(&self.kube.uid) == Ownership::Ours;
                left |= ours && !self.kube.claims.values().any(|c| machine.claim_uid() == Some(c.object.uid.as_str()));
                continue;
            };
            self.say(&format!("somebody adopts {} as {name}", machine.id));
            let (uid, books) = (self.kube.claim_uid(), spec.books.clone());
            let (version, created_at, deleting, status) = (0, Timestamp(now.0 / 1_000 * 1_000), false, ClaimStatus::default());
            self.kube.put_claim(Claim { name, uid: uid.clone(), version, created_at, deleting, spec: *spec, status });
            let books = books.unwrap_or_else(|| uid.clone());
            self.checks.adopted.insert(books.clone());
            if !machine.is_alive() {
                continue;
            }
            self.ec2.adopt(
                &machine.id,
                &uid,
                &[(tags::CLUSTER_UID, &self.kube.uid), (tags::CLAIM_UID, uid.as_str()), (tags::BOOKS, books.as_str())],
            );
        }
        if looks > 1 || left {
            later.push((now + Millis::from_mins(4), Event::Adopts(looks.saturating_sub(1).max(1))));
        }
    }

    fn proposed(&self, machine: &Instance) -> Option<Proposal> {
        let kube = &self.kube;
        let (mut claims, mut unreadable) = (BTreeMap::new(), BTreeMap::new());
        for claim in kube.claims.values().map(|c| &c.object) {
            let (name, uid, instance) = (claim.name.clone(), claim.uid.clone(), claim.status.instance.clone());
            if kube.unreadable.contains(&name) {
                unreadable.insert(name.clone(), UnreadableClaim { name, uid, instance, fault: "a word of another version".to_owned() });
            } else {
                claims.insert(name, claim.clone());
            }
        }
        let pools = kube.pools.values().map(|p| (p.object.name.clone(), p.object.clone())).collect();
        let classes = kube.classes.values().map(|c| (c.object.name.clone(), c.object.clone())).collect();
        let ours = Ours {
            cluster: CLUSTER,
            uid: &kube.uid,
            claims: &claims,
            unreadable: &unreadable,
            pools: &pools,
            classes: &classes,
            catalog: &self.catalog,
        };
        let sold = self.market.pools.iter().find(|p| p.capacity == machine.capacity);
        let at = |p: &CapacityMarket| p.prices.iter().rev().find(|(from, _)| *from <= machine.launched_at).map(|(_, price)| *price);
        let reserved = machine.capacity.capacity_type == CapacityType::Reserved;
        let on_demand = sold.map(|p| p.on_demand);
        let prices = AdoptedPrices { at_launch: if reserved { Some(Default::default()) } else { sold.and_then(at) }, on_demand };
        propose(&ours, &Allowed { ended: true, ..Allowed::default() }, machine, prices)
    }
}

impl super::kube::Kube {
    /// A claim is gone from one moment to the next.
    fn lose_claim(&mut self, name: &ClaimName, now: Timestamp) {
        self.claims.remove(name);
        self.unreadable.remove(name);
        self.removed_claims.insert(name.clone(), now);
        self.bump(Lane::Claim(name.clone()));
    }
}
