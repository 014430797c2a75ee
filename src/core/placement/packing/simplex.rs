//! The simplex method for covering rows by columns, in fixed point: numbers are whole 2^-32ths.
//!
//! Minimises the cost of columns such that row `i` is covered `demand[i]` times. Costs are dollars, so that a micro-dollar is 4,295 units.

use super::Content;

/// One.
const ONE: i64 = 1 << 32;
/// Below this a pivot is numerically worthless: 2^-20.
const PIVOT: i64 = 1 << 12;
/// A reduced cost above minus this (a millionth of a dollar) counts as zero.
const OPTIMAL: i64 = ONE / 1_000_000;

fn mul(a: i64, b: i64) -> i64 {
    i64::try_from((i128::from(a) * i128::from(b)) >> 32).unwrap_or(i64::MAX)
}
fn div(a: i64, b: i64) -> i64 {
    i64::try_from((i128::from(a) << 32) / i128::from(b)).unwrap_or(i64::MAX)
}

/// A filling as a column: what it covers (rows ascending), and its cost in micro-dollars.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The bin it fills.
    pub bin: usize,
    /// Rows covered, and how often.
    pub covers: Content,
    /// Micro-dollars per hour.
    pub cost: i64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Basic {
    Column(usize),
    Surplus,
}

/// What comes into the basis.
#[derive(Clone, Copy)]
enum Entering {
    Column(usize),
    /// The surplus of a row.
    Surplus(usize),
}

/// The tableau: basis, its inverse, levels and duals.
pub struct Simplex {
    rows: usize,
    columns: Vec<Column>,
    costs: Vec<i64>,
    basis: Vec<Basic>,
    inverse: Vec<i64>,
    levels: Vec<i64>,
    duals: Vec<i64>,
}

impl Simplex {
    /// Starts from one column per row that covers that row alone: `start[i]` covers row `i`.
    pub fn new(demand: &[i64], start: Vec<Column>) -> Simplex {
        let rows = demand.len();
        let mut simplex = Simplex {
            rows,
            columns: Vec::new(),
            costs: Vec::new(),
            basis: Vec::new(),
            inverse: vec![0; rows * rows],
            levels: Vec::new(),
            duals: Vec::new(),
        };
        for (row, column) in start.into_iter().enumerate() {
            let each = column.covers.first().map_or(1, |(_, n)| *n);
            simplex.basis.push(Basic::Column(row));
            simplex.inverse[row * rows + row] = ONE / each;
            simplex.levels.push(div(demand[row], each));
            simplex.add(column);
            simplex.duals.push(simplex.costs[row] / each);
        }
        simplex
    }

    /// Offers one more column.
    pub fn add(&mut self, column: Column) {
        self.costs.push(i64::try_from((i128::from(column.cost) << 32) / 1_000_000).unwrap_or(i64::MAX));
        self.columns.push(column);
    }

    /// Improves until no column helps, or `most` steps are made.
    pub fn optimise(&mut self, most: usize) {
        for _ in 0..most {
            let Some((entering, reduced)) = self.entering() else { return };
            if !self.pivot(entering, reduced) {
                return;
            }
        }
    }

    /// What has the most negative reduced cost; the first of equals, columns before surpluses.
    fn entering(&self) -> Option<(Entering, i64)> {
        let mut best = None;
        let mut least = -OPTIMAL;
        for (index, column) in self.columns.iter().enumerate() {
            let worth: i64 = column.covers.iter().map(|(row, n)| self.duals[*row] * n).sum();
            let reduced = self.costs[index] - worth;
            if reduced < least {
                (least, best) = (reduced, Some((Entering::Column(index), reduced)));
            }
        }
        // A row whose dual is negative is covered too often for its price.
        let surplus = || self.duals.iter().enumerate().filter(|(_, d)| **d < -OPTIMAL).min_by_key(|(row, d)| (**d, *row));
        best.or_else(|| surplus().map(|(row, d)| (Entering::Surplus(row), *d)))
    }

    /// Brings `entering` in; `false` when no basic column leaves.
    fn pivot(&mut self, entering: Entering, reduced: i64) -> bool {
        let rows = self.rows;
        let mut direction = vec![0_i64; rows];
        for (row, out) in direction.iter_mut().enumerate() {
            let line = &self.inverse[row * rows..(row + 1) * rows];
            *out = match entering {
                Entering::Column(index) => self.columns[index].covers.iter().map(|(r, n)| line[*r] * n).sum(),
                Entering::Surplus(r) => -line[r],
            };
        }
        // Among the smallest ratios the largest pivot is the safest.
        let mut leaving: Option<(i64, i64, usize)> = None;
        for (row, d) in direction.iter().enumerate().filter(|(_, d)| **d > PIVOT) {
            let key = (div(self.levels[row].max(0), *d), -*d, row);
            if leaving.is_none_or(|l| key < l) {
                leaving = Some(key);
            }
        }
        let Some((step, _, out)) = leaving else { return false };
        let pivot = direction[out];
        let line: Vec<i64> = self.inverse[out * rows..(out + 1) * rows].iter().map(|v| div(*v, pivot)).collect();
        for (row, d) in direction.iter().enumerate() {
            if row == out || *d == 0 {
                continue;
            }
            for (cell, by) in self.inverse[row * rows..(row + 1) * rows].iter_mut().zip(&line) {
                *cell -= mul(*d, *by);
            }
            self.levels[row] -= mul(*d, step);
        }
        self.inverse[out * rows..(out + 1) * rows].copy_from_slice(&line);
        self.levels[out] = step;
        self.basis[out] = match entering {
            Entering::Column(index) => Basic::Column(index),
            Entering::Surplus(_) => Basic::Surplus,
        };
        for (dual, by) in self.duals.iter_mut().zip(&line) {
            *dual += mul(reduced, *by);
        }
        true
    }

    /// What covering each row once more is worth, in whole micro-dollars, never negative.
    pub fn values(&self) -> Vec<i64> {
        let micro = |d: &i64| i64::try_from((i128::from(*d) * 1_000_000) >> 32).unwrap_or(0).max(0);
        self.duals.iter().map(micro).collect()
    }

    /// The columns in use with their levels in 2^-32ths, and all columns.
    pub fn solution(self) -> (Vec<(usize, i64)>, Vec<Column>) {
        let used = self.basis.iter().zip(&self.levels).filter_map(|(basic, level)| match basic {
            Basic::Column(index) if *level > 0 => Some((*index, *level)),
            _ => None,
        });
        (used.collect(), self.columns)
    }
}

/// A level's whole part and its fraction in 2^-32ths; a level just below a whole number counts as that number.
pub fn parts(level: i64) -> (i64, i64) {
    let level = level + PIVOT;
    (level >> 32, level & (ONE - 1))
}
