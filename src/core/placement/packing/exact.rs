//! The exact optimum for a few items, by dynamic programming over what is still to be packed.

use super::{Bought, Content, NEVER, Problem, RESOURCES};

/// The most work for a whole problem: some 10 ms.
pub const WHOLE: u64 = 3_000_000;
/// The most work for a part of one.
pub const PART: u64 = 60_000;

/// How much work [`exact`] is for `counts` items: steps of the table and looks at bins. `None` if that overflows.
pub fn work(problem: &Problem, counts: &[i64]) -> Option<u64> {
    // Each state is a vector below `counts`; each step takes one bin's content out of a state.
    let (mut states, mut steps) = (1_u64, 1_u64);
    for n in counts.iter().filter(|n| **n > 0) {
        let n = u64::try_from(*n).ok()?;
        states = states.checked_mul(n + 1)?;
        steps = steps.checked_mul((n + 1).checked_mul(n + 2)? / 2)?;
    }
    steps.checked_add(states.checked_mul(problem.bins.len() as u64)?)
}

/// The cheapest purchase for `counts` items; `None` if that takes more than `most` work or an item fits nowhere.
pub fn exact(problem: &Problem, counts: &[i64], most: u64) -> Option<Vec<Bought>> {
    work(problem, counts).filter(|w| *w <= most)?;
    let kinds: Vec<usize> = (0..counts.len()).filter(|i| counts[*i] > 0).collect();
    let states = kinds.iter().map(|k| counts[*k] as usize + 1).product();
    let mut table = Table::new(&kinds, counts, states);
    table.fill_single(problem);
    table.combine();
    table.plan()
}

struct Table<'a> {
    kinds: &'a [usize],
    counts: Vec<i64>,
    /// How far apart states are that differ by one of a kind.
    stride: Vec<usize>,
    /// The cheapest single bin that holds a state, and its cost.
    single: Vec<(i64, usize)>,
    /// The cost of a state, and what its first bin takes.
    best: Vec<(i64, usize)>,
}

impl<'a> Table<'a> {
    fn new(kinds: &'a [usize], counts: &[i64], states: usize) -> Self {
        let counts: Vec<i64> = kinds.iter().map(|k| counts[*k]).collect();
        let mut stride = Vec::with_capacity(kinds.len());
        let mut at = 1;
        for n in &counts {
            stride.push(at);
            at *= *n as usize + 1;
        }
        Table { kinds, counts, stride, single: vec![(NEVER, 0); states], best: vec![(NEVER, 0); states] }
    }

    fn vector(&self, state: usize) -> Vec<i64> {
        self.stride.iter().zip(&self.counts).map(|(s, n)| (state / s) as i64 % (n + 1)).collect()
    }

    fn content(&self, state: usize) -> Content {
        self.kinds.iter().copied().zip(self.vector(state)).filter(|(_, n)| *n > 0).collect()
    }

    fn fill_single(&mut self, problem: &Problem) {
        for state in 1..self.single.len() {
            let content = self.content(state);
            if !problem.agrees(&content) {
                continue;
            }
            let mut size = [0_i64; RESOURCES];
            for (item, n) in &content {
                for (sum, one) in size.iter_mut().zip(problem.items[*item].size) {
                    *sum += one * n;
                }
            }
            for (bin, kind) in problem.bins.iter().enumerate() {
                let fits = kind.cost < self.single[state].0 && (0..RESOURCES).all(|r| size[r] <= kind.capacity[r]);
                if fits && content.iter().all(|(item, _)| kind.extra[*item] != NEVER) {
                    self.single[state] = self.single[state].min((problem.cost(bin, &content), bin));
                }
            }
        }
    }

    /// `best[state]`: some bin holds one of the state's first kind, so only contents with that kind are tried.
    fn combine(&mut self) {
        self.best[0] = (0, 0);
        for state in 1..self.best.len() {
            let vector = self.vector(state);
            let first = vector.iter().position(|n| *n > 0).unwrap_or(0);
            let mut best = (NEVER, 0);
            let mut take = vec![0_i64; vector.len()];
            take[first] = 1;
            let mut taken = self.stride[first];
            loop {
                let (alone, rest) = (self.single[taken].0, self.best[state - taken].0);
                if alone != NEVER && rest != NEVER {
                    best = best.min((alone + rest, taken));
                }
                // The next vector below `vector`, with at least one of the first kind.
                let mut digit = first;
                while digit < vector.len() && take[digit] == vector[digit] {
                    let floor = i64::from(digit == first);
                    taken -= (take[digit] - floor) as usize * self.stride[digit];
                    take[digit] = floor;
                    digit += 1;
                }
                if digit == vector.len() {
                    break;
                }
                take[digit] += 1;
                taken += self.stride[digit];
            }
            self.best[state] = best;
        }
    }

    fn plan(&self) -> Option<Vec<Bought>> {
        let mut state = self.best.len() - 1;
        let mut bought = Vec::new();
        while state > 0 {
            let (cost, taken) = self.best[state];
            if cost == NEVER {
                return None;
            }
            bought.push(Bought { bin: self.single[taken].1, content: self.content(taken) });
            state -= taken;
        }
        Some(bought)
    }
}
