//! Unpacking the most wasteful bins, in twos and threes, and repacking their content exactly.

use std::collections::BTreeMap;

use super::exact::{exact, work};
use super::{Bought, Problem};

/// How many of the most wasteful kinds of bins are paired with every other.
const WORST: usize = 24;
/// How many of them are tried in threes.
const WORST_IN_THREES: usize = 12;
/// The work (see [`work`]) that may be spent on few items, where the bound is loose, and on many.
const WORK_ON_FEW: u64 = 120_000_000;
const WORK_ON_MANY: u64 = 3_000_000;
/// The most work for one set of bins: larger sets pay where items are few.
const SET_OF_FEW: u64 = 400_000;
const SET_OF_MANY: u64 = 60_000;
/// Up to how many items are few.
const FEW: i64 = 400;
/// Near enough to the bound, in millionths: nothing more is tried.
const ENOUGH_PPM: i64 = 500;

/// Improves `bought` until nothing helps, the `bound` is near, or the work is used up. `values` say what each item is worth.
pub fn improve(problem: &Problem, bought: Vec<Bought>, values: &[i64], bound: i64) -> Vec<Bought> {
    let mut plan = Plan::new(problem, bought);
    let items: i64 = plan.kinds.iter().map(|(b, n)| n * b.content.iter().map(|(_, n)| n).sum::<i64>()).sum();
    let mut effort =
        if items <= FEW { Effort { left: WORK_ON_FEW, set: SET_OF_FEW } } else { Effort { left: WORK_ON_MANY, set: SET_OF_MANY } };
    for size in [2, 3, 2] {
        while effort.left > 0 && !near(plan.cost, bound) && plan.step(problem, values, size, &mut effort) {}
    }
    plan.into_bought()
}

fn near(cost: i64, bound: i64) -> bool {
    i128::from(cost - bound) * 1_000_000 <= i128::from(bound) * i128::from(ENOUGH_PPM)
}

/// Work that is left, and the most for one set.
struct Effort {
    left: u64,
    set: u64,
}

/// A purchase with equal bins counted.
struct Plan {
    kinds: BTreeMap<Bought, i64>,
    cost: i64,
}

impl Plan {
    fn new(problem: &Problem, bought: Vec<Bought>) -> Plan {
        let cost = problem.total(&bought);
        let mut kinds = BTreeMap::new();
        for one in bought {
            *kinds.entry(one).or_insert(0) += 1;
        }
        Plan { kinds, cost }
    }

    fn into_bought(self) -> Vec<Bought> {
        self.kinds.into_iter().flat_map(|(kind, n)| (0..n).map(move |_| kind.clone())).collect()
    }

    /// Tries sets of `size` bins, the most wasteful first; says whether one was improved.
    fn step(&mut self, problem: &Problem, values: &[i64], size: usize, effort: &mut Effort) -> bool {
        let waste = |b: &Bought| problem.cost(b.bin, &b.content) - b.content.iter().map(|(i, n)| values[*i] * n).sum::<i64>();
        let mut ranked: Vec<(i64, Bought, i64)> = self.kinds.iter().map(|(b, n)| (-waste(b), b.clone(), *n)).collect();
        ranked.sort();
        let (worst, others) = if size == 2 { (WORST, ranked.len()) } else { (WORST_IN_THREES, WORST_IN_THREES.min(ranked.len())) };
        for first in 0..ranked.len().min(worst) {
            for second in first..others {
                if size == 2 {
                    if self.repack(problem, &[&ranked[first], &ranked[second]], effort) {
                        return true;
                    }
                    continue;
                }
                for third in second..others {
                    if self.repack(problem, &[&ranked[first], &ranked[second], &ranked[third]], effort) {
                        return true;
                    }
                }
            }
        }
        false
    }

    /// Packs the contents of `set` again; keeps the result when it costs less.
    fn repack(&mut self, problem: &Problem, set: &[&(i64, Bought, i64)], effort: &mut Effort) -> bool {
        let mut wanted: BTreeMap<&Bought, i64> = BTreeMap::new();
        for (_, kind, _) in set {
            *wanted.entry(kind).or_insert(0) += 1;
        }
        // Nothing can be gained from bins without waste.
        if effort.left == 0
            || wanted.iter().any(|(kind, n)| self.kinds.get(*kind).is_none_or(|have| have < n))
            || set.iter().all(|s| s.0 >= 0)
        {
            return false;
        }
        let mut counts = vec![0; problem.items.len()];
        let mut before = 0;
        for (_, kind, _) in set {
            before += problem.cost(kind.bin, &kind.content);
            kind.content.iter().for_each(|(item, n)| counts[*item] += n);
        }
        let Some(needed) = work(problem, &counts).filter(|w| *w <= effort.set) else { return false };
        effort.left = effort.left.saturating_sub(needed);
        let Some(after) = exact(problem, &counts, effort.set) else { return false };
        let cost = problem.total(&after);
        if cost >= before {
            return false;
        }
        for (kind, n) in wanted {
            if let Some(have) = self.kinds.get_mut(kind) {
                *have -= n;
            }
        }
        self.kinds.retain(|_, n| *n > 0);
        for one in after {
            *self.kinds.entry(one).or_insert(0) += 1;
        }
        self.cost += cost - before;
        true
    }
}
