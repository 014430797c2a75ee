//! An old backup in the place of etcd: the claims of the last hours are gone, their machines run on with their work, and later a person has
//! `lowtide adopt` take them over.
//!
//! Decides: which claims are gone, and when they are taken over. What is taken over, and how, is what `lowtide adopt` proposes.
//! Does not: take back what happened to pods and nodes meanwhile: their kubelets report them again.

use std::collections::BTreeMap;

use super::bill;
use super::ec2::{Later, Machine};
use super::world::{CLUSTER, Event, World};
use crate::core::fleet::{Claim, ClaimStatus};
use crate::core::market::CapacityType;
use crate::core::plan::claims::adoption::{Allowed, Ours, Proposal, propose};
use crate::core::snapshot::Lane;
use crate::core::units::ids::ClaimName;
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::time::{Millis, Timestamp};

impl World {
    /// Somebody restores etcd.
    pub(super) fn etcd_is_restored(&mut self, now: Timestamp, later: &mut Later) {
        if self.faults.quiet {
            return;
        }
        let (again, from, adopted_at) = self.restorers.draw(now);
        later.push((again, Event::EtcdRestored));
        let young = |claim: &&Claim| claim.created_at > from && claim.spec.capacity.capacity_type != CapacityType::Reserved;
        let claims = self.kube.claims.values().map(|stored| &stored.object);
        let gone: Vec<ClaimName> = claims.filter(young).map(|claim| claim.name.clone()).collect();
        self.say(&format!("somebody restores etcd as of {from}: {} claims are gone", gone.len()));
        for name in gone {
            self.kube.lose_claim(&name, now);
        }
        later.push((adopted_at, Event::MachinesAdopted));
    }

    /// Somebody runs `lowtide adopt --yes`.
    pub(super) fn somebody_adopts(&mut self, now: Timestamp) {
        let claims: BTreeMap<ClaimName, Claim> = self.kube.claims.values().map(|c| (c.object.name.clone(), c.object.clone())).collect();
        let pools = self.kube.pools.values().map(|p| (p.object.name.clone(), p.object.clone())).collect();
        let classes = self.kube.classes.values().map(|c| (c.object.name.clone(), c.object.clone())).collect();
        let (uid, unreadable, catalog) = (self.kube.uid.clone(), BTreeMap::new(), self.catalog.clone());
        let ours = Ours {
            cluster: CLUSTER,
            uid: &uid,
            claims: &claims,
            unreadable: &unreadable,
            pools: &pools,
            classes: &classes,
            catalog: &catalog,
        };
        let machines: Vec<Machine> = self.ec2.alive().filter(|m| !claims.values().any(|claim| claim.uid == m.claim_uid)).cloned().collect();
        for machine in machines {
            let price = self.price_when_launched(&machine);
            let Some(Proposal::Adopt { name, spec, claimed: false }) = propose(&ours, &Allowed::default(), &machine.instance, price) else {
                continue;
            };
            self.say(&format!("somebody adopts {} as {name}", machine.instance.id));
            let (uid, status) = (self.kube.new_uid("claim"), ClaimStatus::default());
            self.ec2.retag(&machine.instance.id, &uid);
            self.kube.put_claim(Claim { name, uid, version: 0, created_at: now, deleting: false, spec: *spec, status });
        }
    }

    fn price_when_launched(&self, machine: &Machine) -> Option<MicroUsdPerHour> {
        let capacity = &machine.instance.capacity;
        match capacity.capacity_type {
            CapacityType::Spot => {
                self.market.index_of(capacity).map(|index| self.market.pools[index].price_at(machine.instance.launched_at))
            }
            _ => Some(bill::on_demand(capacity, &self.market)),
        }
    }
}

/// Who restores etcd in a history, and when.
#[derive(Debug, Clone)]
pub struct Restorers {
    of_backups: super::chance::Chance,
    /// Somebody does.
    pub any: bool,
}

impl Restorers {
    /// Those of a seed: in one of five histories with faults.
    pub fn new(seed: u64, level: super::faults::Level) -> Restorers {
        let mut of_backups = super::chance::Chance::new(seed, "backups of etcd");
        let any = of_backups.happens(200) && level != super::faults::Level::None;
        Restorers { of_backups, any }
    }

    /// When it is done first.
    pub fn first(&mut self, now: Timestamp) -> Timestamp {
        now + self.of_backups.waiting(Millis::from_hours(14))
    }

    /// When it is done again, from when the backup is, and when machines are taken over.
    fn draw(&mut self, now: Timestamp) -> (Timestamp, Timestamp, Timestamp) {
        let chance = &mut self.of_backups;
        let again = now + Millis::from_hours(6) + chance.waiting(Millis::from_hours(30));
        let back = chance.span(Millis::from_mins(20), Millis::from_hours(8));
        (again, now - back, now + chance.span(Millis::from_mins(14), Millis::from_mins(40)))
    }
}

impl super::kube::Kube {
    /// A claim is not there any more, and nobody removed it.
    fn lose_claim(&mut self, name: &ClaimName, now: Timestamp) {
        if self.claims.remove(name).is_some() {
            self.touch(Lane::Claim(name.clone()));
            self.removed_claims.insert(name.clone(), now);
        }
    }
}
