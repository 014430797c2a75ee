//! From the relaxation to whole bins: buy what is whole, relax the rest again.

use super::exact;
use super::relax::{Effort, Relaxed, alone, relax};
use super::simplex::parts;
use super::{Bought, Content, Problem};

/// Fractions from here up (two thirds, in 2^-32ths) count as one while rounding.
const NEARLY_ONE: i64 = (1 << 32) / 3 * 2;

/// Buys bins for all `left` items. Every item of `left` fits into some bin.
pub fn round(problem: &Problem, mut left: Vec<i64>, mut relaxed: Relaxed) -> Vec<Bought> {
    let mut bought = Vec::new();
    while left.iter().any(|n| *n > 0) {
        let mut whole = false;
        let mut fractions = Vec::new();
        for (column, level) in &relaxed.used {
            let (count, fraction) = parts(*level);
            for _ in 0..count {
                whole |= buy(problem, &mut left, &column.covers, &mut bought);
            }
            fractions.push((fraction, column));
        }
        if !whole {
            fractions.sort_by(|(a, x), (b, y)| b.cmp(a).then_with(|| (x.bin, &x.covers).cmp(&(y.bin, &y.covers))));
            for (rank, (fraction, column)) in fractions.iter().enumerate() {
                if rank == 0 || *fraction >= NEARLY_ONE {
                    whole |= buy(problem, &mut left, &column.covers, &mut bought);
                }
            }
        }
        if !whole {
            break;
        }
        if let Some(rest) = exact::exact(problem, &left, exact::PART) {
            bought.extend(rest);
            left.fill(0);
            break;
        }
        relaxed = relax(problem, &left, relaxed.columns, Effort::QUICK);
    }
    // Only if the simplex gave up for lack of precision: the rest is bought for kind by kind.
    for item in 0..left.len() {
        while let Some(column) = (left[item] > 0).then(|| alone(problem, item, left[item])).flatten() {
            if !buy(problem, &mut left, &column.covers, &mut bought) {
                break;
            }
        }
    }
    bought
}

/// Buys the cheapest bin for what of `content` is still `left`; says whether there was anything.
fn buy(problem: &Problem, left: &mut [i64], content: &Content, bought: &mut Vec<Bought>) -> bool {
    let content: Content = content.iter().map(|(item, n)| (*item, (*n).min(left[*item]))).filter(|(_, n)| *n > 0).collect();
    let Some((_, bin)) = (!content.is_empty()).then(|| problem.cheapest_bin(&content)).flatten() else { return false };
    for (item, n) in &content {
        left[*item] -= n;
    }
    bought.push(Bought { bin, content });
    true
}
