//! The linear relaxation over whole fillings, by column generation, and the proof of its bound.

use std::collections::BTreeSet;

use super::fill::fill;
use super::simplex::{Column, Simplex};
use super::{NEVER, Problem, RESOURCES};

/// How much work a relaxation may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// Rounds of column generation.
    pub rounds: usize,
    /// Nodes of each filling's search.
    pub nodes: u32,
    /// Stop when the bound is this near to the relaxation's cost, in millionths.
    pub gap_ppm: i64,
}

impl Effort {
    /// For the bound that is reported.
    pub const THOROUGH: Effort = Effort { rounds: 60, nodes: 4_000, gap_ppm: 20 };
    /// For what is left while rounding.
    pub const QUICK: Effort = Effort { rounds: 8, nodes: 600, gap_ppm: 500 };
}

/// A relaxation that was solved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Relaxed {
    /// What an item is worth, such that no filling of any bin is worth more than the bin costs.
    pub values: Vec<i64>,
    /// Fillings in use, in whole items, with their level in 2^-32ths.
    pub used: Vec<(Column, i64)>,
    /// All fillings made.
    pub columns: Vec<Column>,
    /// Items that fit into some bin.
    pub packable: Vec<bool>,
}

/// The best bin for one kind of item alone, of which there are `most`: least cost per piece.
pub fn alone(problem: &Problem, item: usize, most: i64) -> Option<Column> {
    let size = problem.items[item].size;
    let mut best: Option<(i128, i64, Column)> = None;
    for (bin, kind) in problem.bins.iter().enumerate() {
        if kind.extra[item] == NEVER {
            continue;
        }
        let fits = (0..RESOURCES)
            .filter(|r| size[*r] > 0)
            .map(|r| kind.capacity[r] / size[r])
            .min()
            .unwrap_or(0)
            .min(most)
            .min(problem.items[item].most);
        if fits < 1 {
            continue;
        }
        let cost = problem.cost(bin, &[(item, fits)]);
        let better = best.as_ref().is_none_or(|(c, n, _)| i128::from(cost) * i128::from(*n) < c * i128::from(fits));
        if better {
            best = Some((i128::from(cost), fits, Column { bin, covers: vec![(item, fits)], cost }));
        }
    }
    best.map(|(_, _, column)| column)
}

/// Relaxes `problem` for `counts` items, starting from `known` fillings.
pub fn relax(problem: &Problem, counts: &[i64], known: Vec<Column>, effort: Effort) -> Relaxed {
    let items = problem.items.len();
    let mut row_of = vec![None; items];
    let mut rows = Vec::new();
    let mut start = Vec::new();
    let mut packable = vec![false; items];
    for item in 0..items {
        // A kind of which none is left may still fit; only what is asked gets a row.
        let Some(mut column) = alone(problem, item, counts[item].max(1)) else { continue };
        packable[item] = true;
        if counts[item] < 1 {
            continue;
        }
        column.covers[0].0 = rows.len();
        row_of[item] = Some(rows.len());
        rows.push(item);
        start.push(column);
    }
    let demand: Vec<i64> = rows.iter().map(|item| counts[*item]).collect();
    let mut simplex = Simplex::new(&demand, start);
    let mut seen: BTreeSet<(usize, Vec<(usize, i64)>)> = BTreeSet::new();
    for mut column in known {
        column.covers.retain_mut(|(item, n)| {
            *n = (*n).min(counts[*item]);
            row_of[*item].is_some() && *n > 0
        });
        if !column.covers.is_empty() && seen.insert((column.bin, column.covers.clone())) {
            column.cost = problem.cost(column.bin, &column.covers);
            to_rows(&mut column, &row_of);
            simplex.add(column);
        }
    }
    let mut values = vec![0; items];
    let mut best_bound = 0;
    for _ in 0..effort.rounds {
        simplex.optimise(40 + 12 * rows.len());
        let mut prices = vec![0; items];
        for (row, value) in simplex.values().into_iter().enumerate() {
            prices[rows[row]] = value;
        }
        let (fresh, scaled) = price_out(problem, counts, &prices, effort);
        let bound: i64 = counts.iter().zip(&scaled).map(|(n, v)| n * v).sum();
        let cost: i64 = counts.iter().zip(&prices).map(|(n, v)| n * v).sum();
        if bound > best_bound {
            (best_bound, values) = (bound, scaled);
        }
        let near = i128::from(cost - best_bound) * 1_000_000 <= i128::from(cost) * i128::from(effort.gap_ppm);
        let mut added = false;
        for mut column in fresh {
            if seen.insert((column.bin, column.covers.clone())) {
                to_rows(&mut column, &row_of);
                simplex.add(column);
                added = true;
            }
        }
        if near || !added {
            break;
        }
    }
    simplex.optimise(40 + 12 * rows.len());
    let (used, mut columns) = simplex.solution();
    for column in &mut columns {
        for (row, _) in &mut column.covers {
            *row = rows[*row];
        }
    }
    let used = used.into_iter().map(|(index, level)| (columns[index].clone(), level)).collect();
    Relaxed { values, used, columns, packable }
}

fn to_rows(column: &mut Column, row_of: &[Option<usize>]) {
    for (item, _) in &mut column.covers {
        *item = row_of[*item].unwrap_or(*item);
    }
}

/// Fillings worth more than their bin at `prices`, and the prices scaled down until there is none.
fn price_out(problem: &Problem, counts: &[i64], prices: &[i64], effort: Effort) -> (Vec<Column>, Vec<i64>) {
    let mut fresh = Vec::new();
    let (mut cost, mut worth) = (1_i64, 1_i64);
    for bin in 0..problem.bins.len() {
        let best = fill(problem, bin, prices, counts, effort.nodes);
        let price = problem.bins[bin].cost;
        if best.value > price + price / 1_000_000 {
            let cost = problem.cost(bin, &best.content);
            fresh.push(Column { bin, covers: best.content, cost });
        }
        if i128::from(price) * i128::from(worth) < i128::from(cost) * i128::from(best.upper) {
            (cost, worth) = (price, best.upper);
        }
    }
    (fresh, scaled(prices, cost, worth))
}

fn scaled(prices: &[i64], cost: i64, worth: i64) -> Vec<i64> {
    let scale = |p: &i64| i64::try_from(i128::from(*p) * i128::from(cost) / i128::from(worth.max(1))).unwrap_or(*p);
    prices.iter().map(scale).collect()
}

/// `values` scaled until no filling of any bin of `problem` is worth more than the bin: a bound for another set of costs.
pub fn feasible_values(problem: &Problem, counts: &[i64], values: &[i64]) -> Vec<i64> {
    price_out(problem, counts, values, Effort::THOROUGH).1
}
