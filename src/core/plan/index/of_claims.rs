//! The walk over all claims: what is under way with them, what their pools have, and where each stands.
//!
//! Decides: nothing.

use std::collections::BTreeMap;

use super::places::{Places, hash_of};
use super::rest::{Face, Settled, hours_of};
use super::walks::{in_blocks, position};
use crate::core::fleet::Claim;
use crate::core::snapshot::Snapshot;
use crate::core::units::ids::PoolName;
use crate::core::units::money::MicroUsdPerHour;

/// The machines that a node pool has now.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::core::plan) struct Held {
    pub(in crate::core::plan) claims: i64,
    pub(in crate::core::plan) gpus: i64,
    pub(in crate::core::plan) price_per_hour: MicroUsdPerHour,
    pub(in crate::core::plan) on_demand_per_hour: MicroUsdPerHour,
}

impl Held {
    fn add(&mut self, claim: &Claim) {
        let spec = &claim.spec;
        self.claims += 1;
        self.gpus += spec.gpus;
        self.price_per_hour = self.price_per_hour + spec.price_per_hour;
        self.on_demand_per_hour = self.on_demand_per_hour + spec.on_demand_per_hour.unwrap_or(spec.price_per_hour);
    }
}

/// What one walk over all claims finds, by their positions in the order of their names.
#[derive(Debug)]
pub(super) struct OfClaims {
    /// By the claim's name.
    pub(super) by_name: Places,
    /// By the instance that the claim's status names; the first claim counts.
    pub(super) by_instance: Places,
    /// Those whose work is being moved off.
    pub(super) leaving: Vec<u32>,
    /// Those that are to take over the work of another.
    pub(super) taking_over: Vec<u32>,
    /// Those whose machine EC2 warned of.
    pub(super) warned: Vec<u32>,
    /// Those whose machine EC2 takes back.
    pub(super) interrupted: Vec<u32>,
    /// Those for whose machine EC2 has scheduled something.
    pub(super) scheduled: Vec<u32>,
    /// With which of them nothing is under way.
    pub(super) settled: Vec<Option<Settled>>,
    /// What each node pool has.
    pub(super) held: BTreeMap<PoolName, Held>,
}

/// What the ledger has of each settled claim ([`hours_of`]), by its position. It changes with every hour of a machine, and the claim does not.
pub(super) type Books = Vec<Option<u32>>;

impl OfClaims {
    /// With what else is read of the claims on the same way.
    pub(super) fn of<'a>(world: &Snapshot, claims: &[&'a Claim]) -> (Self, Books, Vec<Face<'a>>) {
        let mut found = OfClaims {
            by_name: Places::for_many(claims.len()),
            by_instance: Places::for_many(claims.len()),
            leaving: Vec::new(),
            taking_over: Vec::new(),
            warned: Vec::new(),
            interrupted: Vec::new(),
            scheduled: Vec::new(),
            settled: Vec::with_capacity(claims.len()),
            held: BTreeMap::new(),
        };
        let (mut books, mut faces) = (Vec::with_capacity(claims.len()), Vec::with_capacity(claims.len()));
        in_blocks(claims.iter().copied(), |block| {
            let first = faces.len();
            (first..).zip(block).for_each(|(at, claim)| found.note(position(at), claim));
            found.settled.extend(block.iter().map(|claim| Settled::by_itself(world, claim)));
            faces.extend(block.iter().map(|claim| Face::of(claim)));
            for (settled, claim) in found.settled[first..].iter_mut().zip(block) {
                *settled = settled.and_then(|settled| settled.with_its_pods(claim));
            }
            found.place(first, &faces);
            books.extend(books_of(world, block, &found.settled[first..]));
        });
        (found, books, faces)
    }

    /// Puts those from `first` on where they are found.
    fn place(&mut self, first: usize, faces: &[Face]) {
        let mut hashes: Vec<(u64, u64)> = faces[first..].iter().map(|face| (hash_of(face.name), 0)).collect();
        for (face, (_, hash)) in faces[first..].iter().zip(&mut hashes) {
            *hash = face.instance.map_or(0, hash_of);
        }
        for ((at, face), (by_name, by_instance)) in (first..).zip(&faces[first..]).zip(hashes) {
            self.by_name.put(by_name, face.name, position(at), |at| faces[at as usize].name);
            if let Some(instance) = face.instance {
                self.by_instance.put(by_instance, instance, position(at), |at| faces[at as usize].instance.unwrap_or_default());
            }
        }
    }

    fn note(&mut self, at: u32, claim: &Claim) {
        if claim.status.moving.is_some() {
            self.leaving.push(at);
        }
        if claim.spec.takes_over.is_some() {
            self.taking_over.push(at);
        }
        if claim.is_warned() {
            self.warned.push(at);
        }
        if claim.interrupted() {
            self.interrupted.push(at);
        }
        if claim.status.scheduled.is_some() {
            self.scheduled.push(at);
        }
        if claim.status.instance.is_some() && claim.may_run() {
            match self.held.get_mut(&claim.spec.node_pool) {
                Some(held) => held.add(claim),
                None => self.held.entry(claim.spec.node_pool.clone()).or_default().add(claim),
            }
        }
    }
}

fn books_of<'w>(world: &'w Snapshot, claims: &'w [&Claim], settled: &'w [Option<Settled>]) -> impl Iterator<Item = Option<u32>> + 'w {
    claims.iter().zip(settled).map(|(claim, settled)| settled.and_then(|_| hours_of(world, claim)))
}

/// [`Books`] alone.
pub(super) fn books(world: &Snapshot, claims: &[&Claim], settled: &[Option<Settled>]) -> Books {
    books_of(world, claims, settled).collect()
}
