//! Where each of many things stands, found by its name.
//!
//! Decides: nothing. The table holds no names, only eight bytes for each, so that it fits the processor's caches where the world does not.

use std::hash::Hasher;

use rustc_hash::FxHasher;

/// The hash that a name is looked up by. Whoever looks for many hashes them all first: each waits for its text to come from memory, and they wait together.
pub(super) fn hash_of(name: &str) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(name.as_bytes());
    hasher.finish()
}

/// Copies of one name share its text, and that need not be read.
pub(super) fn same(a: &str, b: &str) -> bool {
    std::ptr::eq(a, b) || a == b
}

/// Positions by name. Of several things of one name the first counts.
#[derive(Debug)]
pub(super) struct Places {
    /// A part of the hash, and the position; a power of two of them, at most half of them taken.
    slots: Vec<(u32, u32)>,
}

/// No thing stands here.
const FREE: u32 = u32::MAX;

/// The part of a hash that is compared before the names are: not the part that says where to look.
fn part(hash: u64) -> u32 {
    (hash >> 32) as u32
}

impl Places {
    /// For this number of things, and no more.
    pub(super) fn for_many(things: usize) -> Self {
        Places { slots: vec![(0, FREE); (things * 2).next_power_of_two()] }
    }

    /// Puts a thing at this position, unless another of its name has one.
    pub(super) fn put<'a>(&mut self, hash: u64, name: &str, at: u32, name_at: impl Fn(u32) -> &'a str) {
        if let Err(free) = self.find(hash, name, name_at) {
            self.slots[free] = (part(hash), at);
        }
    }

    /// Where the thing of this name and hash stands; `name_at` says what the thing at a position is called.
    pub(super) fn at<'a>(&self, hash: u64, name: &str, name_at: impl Fn(u32) -> &'a str) -> Option<u32> {
        self.find(hash, name, name_at).ok()
    }

    /// The position, or the slot that is free for it.
    fn find<'a>(&self, hash: u64, name: &str, name_at: impl Fn(u32) -> &'a str) -> Result<u32, usize> {
        let last = self.slots.len() - 1;
        let mut slot = hash as usize & last;
        loop {
            match self.slots[slot] {
                (_, FREE) => return Err(slot),
                (known, at) if known == part(hash) && same(name_at(at), name) => return Ok(at),
                _ => slot = (slot + 1) & last,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_where_it_was_put_first() {
        let names: Vec<String> = (0..1_000).map(|n| format!("lt-{}", n % 700)).collect();
        let name_at = |at: u32| names[at as usize].as_str();
        let mut places = Places::for_many(names.len());
        (0..).zip(&names).for_each(|(at, name)| places.put(hash_of(name), name, at, name_at));
        for (at, name) in (0..).zip(names.iter().take(700)) {
            assert_eq!(places.at(hash_of(name), &name.clone(), name_at), Some(at), "{name}");
        }
        assert_eq!(["lt-700", "lt-", ""].map(|name| places.at(hash_of(name), name, name_at)), [None; 3]);
        assert_eq!(Places::for_many(0).at(hash_of("any"), "any", name_at), None);
    }

    #[test]
    fn names_of_one_hash_are_told_apart_by_their_text() {
        let name_at = |at: u32| ["a", "b"][at as usize];
        let mut places = Places::for_many(2);
        let hash = hash_of("a");
        [("a", 0), ("b", 1)].into_iter().for_each(|(name, at)| places.put(hash, name, at, name_at));
        assert_eq!(["a", "b", "c"].map(|name| places.at(hash, name, name_at)), [Some(0), Some(1), None]);
    }
}
