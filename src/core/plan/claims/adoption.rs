//! Taking machines over: from a control plane that was built again, a restored backup, or a version without cluster UIDs.
//!
//! Decides: for each machine that carries our name and that no claim of ours stands for, the claim that would stand for it, or why none can.
//! Does not: do it (`lowtide adopt` does, on a person's word), or judge whether the other cluster is gone: only that person knows.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::fleet::{Claim, ClaimSpec, FrozenLaunch, Instance, NodeClass, NodePool, Ownership, Trigger, UnreadableClaim, tags};
use crate::core::market::CapacityType;
use crate::core::market::catalog::Catalog;
use crate::core::market::reservation::NamedReservation;
use crate::core::units::ids::{ClaimName, ClassName, DecisionId, PoolName, Uid};
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::shared::Shared;

/// What a person lets be taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allowed {
    /// Machines of the clusters with these UIDs.
    pub from_uids: BTreeSet<String>,
    /// Machines without a UID.
    pub unmarked: bool,
    /// Machines that have ended, as long as EC2 shows them: their books are closed. A claim that was lost may not have done it.
    pub ended: bool,
}

/// What this cluster has.
#[derive(Debug, Clone, Copy)]
pub struct Ours<'a> {
    /// Its name.
    pub cluster: &'a str,
    /// Its UID.
    pub uid: &'a str,
    /// Its claims.
    pub claims: &'a BTreeMap<ClaimName, Claim>,
    /// Claims that cannot be read.
    pub unreadable: &'a BTreeMap<ClaimName, UnreadableClaim>,
    /// Its pools.
    pub pools: &'a BTreeMap<PoolName, NodePool>,
    /// Its classes.
    pub classes: &'a BTreeMap<ClassName, NodeClass>,
    /// Machine types.
    pub catalog: &'a Catalog,
}

/// What would be done with one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proposal {
    /// A claim is made for it, under its old name, so that the pods that are pinned to it stay.
    Adopt {
        /// The claim's name.
        name: ClaimName,
        /// What it says.
        spec: Box<ClaimSpec>,
        /// The claim is there already, from an adoption that did not come to its end: only the machine's tags are left to write.
        claimed: bool,
    },
    /// It is left alone.
    Leave {
        /// Why.
        because: String,
    },
}

/// What a machine costs, as far as EC2 says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AdoptedPrices {
    /// What it cost when it was launched.
    pub at_launch: Option<MicroUsdPerHour>,
    /// What its type costs on-demand in its region.
    pub on_demand: Option<MicroUsdPerHour>,
}

/// What would be done with `machine`. `None` for a machine that is ours already, or has ended and is not to be closed.
pub fn propose(ours: &Ours, allowed: &Allowed, machine: &Instance, prices: AdoptedPrices) -> Option<Proposal> {
    if !machine.is_alive() && !allowed.ended {
        return None;
    }
    let by_claim = ours.claims.values().find(|c| c.status.instance.as_ref().or(c.spec.adopted.as_ref()) == Some(&machine.id));
    let owner = machine.ownership(ours.uid);
    let stands = |c: &Claim| !matches!(owner, Ownership::Foreign(_)) && machine.claim_uid() == Some(c.uid.as_str());
    if by_claim.is_some_and(stands) || ours.claims.values().any(stands) {
        return None;
    }
    let leave = |because: String| Some(Proposal::Leave { because });
    if !machine.is_of_a_fleet() {
        return leave(
            "no fleet launched it: somebody made a copy of one of ours by hand, with its tags. End it in EC2, or take the tags off"
                .to_owned(),
        );
    }
    match &owner {
        Ownership::Ours => {}
        Ownership::Foreign(uid) if allowed.from_uids.contains(*uid) => {}
        Ownership::Foreign(uid) => {
            return leave(format!("it is of the cluster with UID {uid}: name that with --from-uid, if that cluster is gone"));
        }
        Ownership::Unmarked if by_claim.is_some() => return None,
        Ownership::Unmarked if allowed.unmarked => {}
        Ownership::Unmarked => {
            return leave("it carries no cluster UID: say --unmarked, if no other cluster of this name has it".to_owned());
        }
    }
    if let Some(claim) =
        ours.unreadable.values().find(|c| c.instance.as_ref() == Some(&machine.id) || machine.claim_uid() == Some(c.uid.as_str()))
    {
        return leave(format!("claim {} stands for it and cannot be read: {}", claim.name, claim.fault));
    }
    if let Some(claim) = by_claim {
        let (name, spec) = (claim.name.clone(), Box::new(claim.spec.clone()));
        return Some(Proposal::Adopt { name, spec, claimed: true });
    }
    match spec_for(ours, machine, prices) {
        Ok((name, spec)) => Some(Proposal::Adopt { name, spec: Box::new(spec), claimed: false }),
        Err(because) => leave(because),
    }
}

fn spec_for(ours: &Ours, machine: &Instance, prices: AdoptedPrices) -> Result<(ClaimName, ClaimSpec), String> {
    let tag = |key: &str| machine.tags.get(key).filter(|text| !text.is_empty());
    let tagged = ClaimName::from(tag(tags::CLAIM).ok_or_else(|| format!("it has no tag {}: lowtide did not launch it", tags::CLAIM))?);
    let name = match ours.claims.contains_key(&tagged) || ours.unreadable.contains_key(&tagged) {
        false => tagged,
        true if machine.is_alive() => return Err(format!("a claim {tagged} is there already, for another machine")),
        // The pod was bought for again under the same name. Books go by the claim's uid, so those of one that has ended are closed under any name.
        true => ClaimName::derive(&["adopted", machine.id.as_str()]),
    };
    let pool = PoolName::from(tag(tags::POOL).ok_or_else(|| format!("it has no tag {}", tags::POOL))?);
    if !ours.pools.contains_key(&pool) {
        return Err(format!("there is no GpuNodePool {pool}: create it first, its policy holds for the machine"));
    }
    let named = tag(tags::CLASS).and_then(|class| ours.classes.get(&ClassName::from(class)));
    let of_region = || ours.classes.values().find(|class| class.region == machine.capacity.region);
    let class =
        named.or_else(of_region).ok_or_else(|| format!("no GpuNodeClass makes nodes in {}: create one first", machine.capacity.region))?;
    let kind = ours
        .catalog
        .types
        .get(&machine.capacity.instance_type)
        .ok_or_else(|| format!("{} is no type that is known", machine.capacity.instance_type))?;
    let reservation = reservation_of(class, machine)?;
    let price_per_hour = reservation
        .map(|r| r.price_per_hour)
        .or(prices.at_launch)
        .ok_or("what it cost when it was launched is not known: EC2 gave no price")?;
    let (launch_template, launch_template_version) =
        class.launch_template.clone().unwrap_or_else(|| ("adopted".to_owned(), "1".to_owned()));
    let spec = ClaimSpec {
        node_pool: pool,
        node_class: class.name.clone(),
        capacity: machine.capacity.clone(),
        price_per_hour,
        on_demand_per_hour: prices.on_demand,
        gpus: kind.gpus,
        // Under the decision that bought it, which a ledger that knows the machine has.
        decision: tag(tags::DECISION)
            .and_then(|id| uuid::Uuid::parse_str(id).ok().map(DecisionId))
            .unwrap_or_else(|| DecisionId::derive(ours.cluster, "adopt", machine.id.as_str(), 0)),
        trigger: Trigger::Adopted,
        attempt: 1,
        frozen: Shared::from(FrozenLaunch {
            launch_template,
            launch_template_version,
            subnet: class.zones.get(&machine.capacity.zone).cloned().unwrap_or_else(|| "adopted".to_owned()),
            image: None,
            tags: class.tags.clone(),
        }),
        bought_for: Vec::new(),
        bindings: None,
        sharing: class.sharing,
        reservation: reservation.map(|r| r.id.clone()),
        takes_over: None,
        adopted: Some(machine.id.clone()),
        books: machine.books().map(Uid::from),
        price_origin: None,
    };
    Ok((name, spec))
}

/// The reservation a reserved machine runs in, with the price its class counts for it: the only one that the class names.
fn reservation_of<'a>(class: &'a NodeClass, machine: &Instance) -> Result<Option<&'a NamedReservation>, String> {
    if machine.capacity.capacity_type != CapacityType::Reserved {
        return Ok(None);
    }
    match class.reservations.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        several => Err(format!(
            "it runs in one of the {} capacity reservations of class {}: name only that one while it is adopted",
            several.len(),
            class.name
        )),
    }
}
