//! Equal values, kept once: ten thousand replicas of one template need the same.
//!
//! Decides: nothing. What nobody else holds any more is forgotten now and then.

use std::collections::BTreeSet;

use super::shared::Shared;

/// The values in use.
#[derive(Debug)]
pub struct Alike<T> {
    known: BTreeSet<Shared<T>>,
    /// Forgets when there are this many.
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
    /// Lets `value` be the one that all others equal to it share.
    pub fn share(&mut self, value: &mut Shared<T>) {
        if let Some(known) = self.known.get(value) {
            *value = known.clone();
            return;
        }
        if self.known.len() >= self.forget_at {
            self.known.retain(|known| !known.is_held_once());
            self.forget_at = FEW.max(self.known.len() * 2);
        }
        self.known.insert(value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_unused_ones_are_forgotten() {
        let mut alike = Alike::default();
        let mut shared = |text: &str| {
            let mut value = Shared::from(text.to_owned());
            alike.share(&mut value);
            value
        };
        let first = shared("a");
        assert!(first.is(&shared("a").mark()) && !first.is(&shared("b").mark()));
        (0..1_000).for_each(|at| drop(shared(&at.to_string())));
        assert!(first.is(&shared("a").mark()), "what is held is kept");
        assert!(alike.known.len() < 2 * FEW, "{}", alike.known.len());
    }
}
