//! What a pass has marked of the claims, and reads instead of what it was given.
//!
//! Decides: nothing.

use std::collections::BTreeMap;

use crate::core::fleet::Claim;
use crate::core::snapshot::Snapshot;
use crate::core::units::ids::ClaimName;

/// The claims of a snapshot with the marks of this pass: a claim that is doomed in this pass takes no new work in this pass.
#[derive(Clone)]
pub(in crate::core::plan) struct Claims<'a> {
    world: &'a BTreeMap<ClaimName, Claim>,
    marked: BTreeMap<ClaimName, Claim>,
}

impl<'a> Claims<'a> {
    pub(super) fn of(world: &'a Snapshot) -> Self {
        Claims { world: &world.claims, marked: BTreeMap::new() }
    }

    /// The claim as this pass has marked it.
    pub(in crate::core::plan) fn get(&self, name: &ClaimName) -> Option<&Claim> {
        self.marked.get(name).or_else(|| self.world.get(name))
    }

    /// All of them, by name.
    pub(in crate::core::plan) fn values(&self) -> impl Iterator<Item = &Claim> + Clone {
        let none = self.marked.is_empty();
        self.world.iter().map(move |(name, claim)| if none { claim } else { self.marked.get(name).unwrap_or(claim) })
    }

    /// How many there are.
    pub(in crate::core::plan) fn len(&self) -> usize {
        self.world.len()
    }

    /// Those that this pass has marked.
    pub(in crate::core::plan) fn marked(&self) -> impl Iterator<Item = &ClaimName> {
        self.marked.keys()
    }

    /// Changes what this pass sees of a claim.
    pub(in crate::core::plan) fn mark(&mut self, name: &ClaimName, change: impl FnOnce(&mut Claim)) {
        if let Some(claim) = self.get(name).cloned() {
            change(self.marked.entry(name.clone()).or_insert(claim));
        }
    }
}
