//! Packing items into bins that are bought: a bin packing problem with several sizes, three resources and a price per bin.
//!
//! Decides: how many of which bin to buy and what goes into each, and a lower bound that no purchase can beat.
//! Does not: know what a pod or an offer is.
//!
//! The method, all of it in integers:
//! 1. [`relax`]: the linear relaxation over whole fillings of bins (Gilmore and Gomory's column generation). Its duals price each item,
//!    and scaled until no filling of any bin is worth more than the bin, they prove the lower bound (Farley).
//! 2. [`round`]: whole fillings are bought, the rest is relaxed again, until nothing is left.
//! 3. [`improve`]: the fillings that waste most are taken apart in twos and threes and packed anew, exactly ([`exact`]).
//!
//! The simplex works in 2^-32ths, so the same problem gives the same packing on every machine; its rounding can cost quality, never
//! truth: bound and costs are computed again in whole micro-dollars.

pub mod exact;
pub mod fill;
pub mod improve;
pub mod relax;
pub mod round;
mod simplex;

/// How many resources a size has: schedulable GPU units, CPU and memory.
pub const RESOURCES: usize = 3;

/// An extra cost that says: this item may not go into this bin.
pub const NEVER: i64 = i64::MAX;

/// Equal items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What one takes; the first resource is at least 1.
    pub size: [i64; RESOURCES],
    /// How many there are.
    pub count: i64,
}

/// A kind of bin, of which any number can be bought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bin {
    /// What it holds.
    pub capacity: [i64; RESOURCES],
    /// What one costs, in micro-dollars per hour, above 0.
    pub cost: i64,
    /// What each item costs extra in it, per piece; [`NEVER`] where it may not go.
    pub extra: Vec<i64>,
}

/// The problem.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Problem {
    /// The items.
    pub items: Vec<Item>,
    /// The bins.
    pub bins: Vec<Bin>,
}

/// What a bin holds: items ascending, with how many, at least 1 of each.
pub type Content = Vec<(usize, i64)>;

/// A bin that is bought.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bought {
    /// Which kind.
    pub bin: usize,
    /// What is in it.
    pub content: Content,
}

impl Problem {
    /// What `bin` with `content` costs.
    pub fn cost(&self, bin: usize, content: &[(usize, i64)]) -> i64 {
        let bin = &self.bins[bin];
        bin.cost + content.iter().map(|(item, count)| bin.extra[*item] * count).sum::<i64>()
    }

    /// Whether `content` may go into `bin` and fits.
    pub fn holds(&self, bin: usize, content: &[(usize, i64)]) -> bool {
        let bin = &self.bins[bin];
        let mut left = bin.capacity;
        for (item, count) in content {
            if bin.extra[*item] == NEVER {
                return false;
            }
            for (have, size) in left.iter_mut().zip(self.items[*item].size) {
                *have -= size * count;
            }
        }
        left.iter().all(|have| *have >= 0)
    }

    /// The bin that holds `content` at the least cost; the first of equals.
    pub fn cheapest_bin(&self, content: &[(usize, i64)]) -> Option<(i64, usize)> {
        (0..self.bins.len()).filter(|bin| self.holds(*bin, content)).map(|bin| (self.cost(bin, content), bin)).min()
    }

    /// The cost of all that is bought.
    pub fn total(&self, bought: &[Bought]) -> i64 {
        bought.iter().map(|b| self.cost(b.bin, &b.content)).sum()
    }
}

/// A packing and what is known about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Packing {
    /// The bins bought; every item that fits into some bin is in one.
    pub bought: Vec<Bought>,
    /// What an item is worth: no filling of any bin is worth more than it costs. So the sum over any items bounds their cost.
    pub values: Vec<i64>,
}

/// Packs all items that fit into some bin. The same problem gives the same packing.
pub fn pack(problem: &Problem) -> Packing {
    let counts: Vec<i64> = problem.items.iter().map(|i| i.count).collect();
    let relaxed = relax::relax(problem, &counts, Vec::new(), relax::Effort::THOROUGH);
    let bound: i64 = counts.iter().zip(&relaxed.values).map(|(n, v)| n * v).sum();
    let packable: Vec<i64> = counts.iter().enumerate().map(|(i, n)| if relaxed.packable[i] { *n } else { 0 }).collect();
    if let Some(bought) = exact::exact(problem, &packable, exact::WHOLE) {
        return Packing { bought, values: relaxed.values };
    }
    let values = relaxed.values.clone();
    let rounded = round::round(problem, packable, relaxed);
    Packing { bought: improve::improve(problem, rounded, &values, bound), values }
}
