//! Equal values, kept once: ten thousand replicas of one template need the same.
//!
//! Decides: nothing. What nobody else holds any more is forgotten now and then.

use std::borrow::Borrow;
use std::collections::BTreeSet;

use super::shared::Shared;

/// The values in use.
#[derive(Debug)]
pub struct Alike<T> {
    known: BTreeSet<Shared<T>>,
    /// Forgets when there are as many.
    forget_at: usize,
}

/// Fewer values than this are kept whether anybody holds them or not.
const FEW: usize = 64;

impl<T> Default for Alike<T> {
    fn default() -> Self {
        Alike { known: BTreeSet::new(), forget_at: FEW }
    }
}

impl<T: Ord> Alike<T> {
    /// `value`, shared with all others that are equal to it.
    pub fn share(&mut self, value: T) -> Shared<T>
    where
        Shared<T>: Borrow<T>,
    {
        if let Some(known) = self.known.get(&value) {
            return known.clone();
        }
        if self.known.len() >= self.forget_at {
            self.known.retain(|known| !known.is_held_once());
            self.forget_at = FEW.max(self.known.len() * 2);
        }
        let new = Shared::from(value);
        self.known.insert(new.clone());
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_unused_ones_are_forgotten() {
        let mut alike = Alike::default();
        let first = alike.share("a".to_owned());
        assert!(first.is(&alike.share("a".to_owned()).mark()) && !first.is(&alike.share("b".to_owned()).mark()));
        (0..1_000).for_each(|at| drop(alike.share(at.to_string())));
        assert!(alike.known.len() < 2 * FEW, "{}", alike.known.len());
        assert!(first.is(&alike.share("a".to_owned()).mark()), "what is held is kept");
    }
}
