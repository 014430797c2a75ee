//! Packing items into bins that are bought: a bin packing problem with several sizes, three resources and a price per bin.
//!
//! Decides: how many of which bin to buy and what goes into each, and a lower bound that no purchase can beat.
//! Does not: know what a pod or an offer is.
//!
//! The method, all of it in integers:
//! 1. [`relax`]: the linear relaxation over whole fillings of bins (Gilmore and Gomory's column generation). Its duals price each item,
//!    and scaled until no filling of any bin is worth more than the bin, they prove the lower bound (Farley).
//! 2. [`round`]: whole fillings are bought, the rest is relaxed again, until nothing is left.
//! 3. [`improve`]: the fillings that waste most are taken apart in twos and threes and packed again, exactly ([`exact`]).
//!
//! The simplex works in 2^-32ths, so the same problem gives the same packing on every machine; its rounding can cost quality, never
//! truth: bound and costs are computed again in whole micro-dollars.

pub mod exact;
pub mod fill;
pub mod improve;
pub mod relax;
pub mod round;
mod simplex;

/// How many resources a size has: schedulable GPU units, CPU, memory, disk and attached volumes.
pub const RESOURCES: usize = 5;

/// An extra cost that says: this item may not go into this bin.
pub const NEVER: i64 = i64::MAX;

/// Equal items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What one takes; the first resource is at least 1.
    pub size: [i64; RESOURCES],
    /// How many there are.
    pub count: i64,
    /// At most this many in one bin.
    pub most: i64,
    /// Marks it carries, one bit each.
    pub has: u64,
    /// Marks that nothing else in its bin may carry.
    pub avoids: u64,
}

impl Item {
    /// An item that may stand beside any other.
    pub fn plain(size: [i64; RESOURCES], count: i64) -> Item {
        Item { size, count, most: i64::MAX, has: 0, avoids: 0 }
    }
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

    /// Whether the items of `content` may stand together: none more often than it may, none beside what it avoids.
    pub fn agrees(&self, content: &[(usize, i64)]) -> bool {
        let (mut has, mut avoids) = (0, 0);
        content.iter().all(|(at, count)| {
            let item = &self.items[*at];
            let ok = *count <= item.most && item.avoids & has == 0 && item.has & avoids == 0;
            (has, avoids) = (has | item.has, avoids | item.avoids);
            ok
        })
    }

    /// Whether `content` may go into `bin` and fits.
    pub fn holds(&self, bin: usize, content: &[(usize, i64)]) -> bool {
        let bin = &self.bins[bin];
        if !self.agrees(content) {
            return false;
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A fixed sequence of small numbers.
    struct Sequence(u64);
    impl Sequence {
        fn below(&mut self, limit: i64) -> i64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as i64 % limit
        }
    }

    fn drawn(sequence: &mut Sequence, kinds: usize, most: i64) -> Problem {
        let items: Vec<Item> = (0..kinds)
            .map(|_| {
                let size =
                    [1 + sequence.below(4), 1 + sequence.below(40), 1 + sequence.below(60), sequence.below(2) * 10, sequence.below(2)];
                Item::plain(size, 1 + sequence.below(most))
            })
            .collect();
        let bin = |units: i64, cost: i64, sequence: &mut Sequence| Bin {
            capacity: [units, units * 20 + 10, units * 30 + 10, units * 100, units],
            cost: cost * units + sequence.below(300),
            extra: (0..kinds).map(|_| if units < 8 && sequence.below(6) == 0 { NEVER } else { sequence.below(3) * 10 }).collect(),
        };
        let bins = [(1, 900), (2, 950), (4, 800), (8, 900), (16, 850)].map(|(units, cost)| bin(units, cost, sequence));
        Problem { items, bins: bins.to_vec() }
    }

    /// The least cost by putting one item after the other into an open bin or a new one: slow, and written differently.
    fn brute(problem: &Problem, left: &mut [i64], open: &mut Vec<(usize, Vec<i64>)>, cost: i64, best: &mut i64) {
        let Some(item) = left.iter().position(|n| *n > 0).filter(|_| cost < *best) else {
            if cost < *best {
                *best = cost;
            }
            return;
        };
        left[item] -= 1;
        for at in 0..open.len() {
            open[at].1[item] += 1;
            let content: Content = open[at].1.iter().copied().enumerate().filter(|(_, n)| *n > 0).collect();
            if problem.holds(open[at].0, &content) {
                brute(problem, left, open, cost + problem.bins[open[at].0].extra[item], best);
            }
            open[at].1[item] -= 1;
        }
        for bin in 0..problem.bins.len() {
            if problem.holds(bin, &[(item, 1)]) {
                let mut content = vec![0; left.len()];
                content[item] = 1;
                open.push((bin, content));
                brute(problem, left, open, cost + problem.cost(bin, &[(item, 1)]), best);
                open.pop();
            }
        }
        left[item] += 1;
    }

    fn check(problem: &Problem, packing: &Packing) -> (i64, i64) {
        let mut counts = vec![0; problem.items.len()];
        for one in &packing.bought {
            assert!(problem.holds(one.bin, &one.content));
            one.content.iter().for_each(|(item, n)| counts[*item] += n);
        }
        assert_eq!(counts, problem.items.iter().map(|i| i.count).collect::<Vec<_>>());
        let bound = problem.items.iter().zip(&packing.values).map(|(i, v)| i.count * v).sum();
        (problem.total(&packing.bought), bound)
    }

    #[test]
    fn few_items_are_packed_at_the_least_cost_and_never_below_the_bound() {
        let mut sequence = Sequence(7);
        for _ in 0..40 {
            let problem = drawn(&mut sequence, 3, 2);
            let (cost, bound) = check(&problem, &pack(&problem));
            let mut left: Vec<i64> = problem.items.iter().map(|i| i.count).collect();
            let mut best = i64::MAX;
            brute(&problem, &mut left, &mut Vec::new(), 0, &mut best);
            assert_eq!(cost, best);
            assert!(bound <= best, "{bound} is no bound on {best}");
        }
    }

    #[test]
    fn many_items_are_packed_within_half_a_percent_of_the_bound() {
        let mut sequence = Sequence(11);
        for kinds in [6, 12, 20] {
            let problem = drawn(&mut sequence, kinds, 4_000 / kinds as i64);
            let (cost, bound) = check(&problem, &pack(&problem));
            assert!(cost >= bound && cost * 1_000 <= bound * 1_005, "{cost} against {bound} with {kinds} kinds");
        }
    }

    #[test]
    fn what_must_stand_apart_does() {
        let bins = vec![Bin { capacity: [8, 100, 100, 0, 0], cost: 5, extra: vec![0, 0, 0] }];
        let alone = Item { most: 1, has: 1, avoids: 1, ..Item::plain([1, 1, 1, 0, 0], 3) };
        let noisy = Item { has: 2, ..Item::plain([1, 1, 1, 0, 0], 4) };
        let quiet = Item { avoids: 2, ..Item::plain([1, 1, 1, 0, 0], 4) };
        let problem = Problem { items: vec![alone, noisy, quiet], bins };
        let packing = pack(&problem);
        check(&problem, &packing);
        assert_eq!(packing.bought.len(), 3, "one of the first in each; the others share, but never with each other: {:?}", packing.bought);
    }

    #[test]
    fn what_fits_nowhere_is_left_and_the_rest_is_packed() {
        let bin = Bin { capacity: [1, 10, 10, 0, 0], cost: 5, extra: vec![0, 0] };
        let items = vec![Item::plain([1, 11, 1, 0, 0], 2), Item::plain([1, 5, 5, 0, 0], 3)];
        let packing = pack(&Problem { items, bins: vec![bin] });
        assert_eq!(packing.bought, vec![Bought { bin: 0, content: vec![(1, 1)] }; 3]);
    }
}
