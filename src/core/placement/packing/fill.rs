//! The most valuable filling of one bin: a bounded knapsack with four resources and marks, by branch and bound.

use super::{Content, NEVER, Problem, RESOURCES};

/// Fractional bits of a density.
const BITS: u32 = 12;

/// The best filling found, and a bound on all fillings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fill {
    /// Its value, less what its items cost extra.
    pub value: i64,
    /// The filling.
    pub content: Content,
    /// No filling is worth more; equals `value` when the search was complete.
    pub upper: i64,
}

struct Entry {
    item: usize,
    value: i64,
    size: [i64; RESOURCES],
    most: i64,
    has: u64,
    avoids: u64,
    /// The greatest value per unit of each resource, in 2^-BITS, of this entry and those after it.
    density: [i64; RESOURCES],
}

struct Search<'a> {
    entries: &'a [Entry],
    best: i64,
    best_take: Vec<i64>,
    take: Vec<i64>,
    nodes: u32,
}

/// Fills `bin` with items worth `values`, at most `most` of each, looking at no more than `nodes` nodes.
pub fn fill(problem: &Problem, bin: usize, values: &[i64], most: &[i64], nodes: u32) -> Fill {
    let entries = entries(problem, bin, values, most);
    let capacity = problem.bins[bin].capacity;
    let mut search = Search { entries: &entries, best: 0, best_take: vec![0; entries.len()], take: vec![0; entries.len()], nodes };
    search.descend(0, capacity, 0, (0, 0));
    let complete = search.nodes > 0;
    let upper = if complete { search.best } else { search.bound(0, &capacity).max(search.best) };
    let mut content: Content = entries.iter().zip(&search.best_take).filter(|(_, n)| **n > 0).map(|(e, n)| (e.item, *n)).collect();
    content.sort_unstable();
    Fill { value: search.best, content, upper }
}

fn entries(problem: &Problem, bin: usize, values: &[i64], most: &[i64]) -> Vec<Entry> {
    let kind = &problem.bins[bin];
    let mut entries: Vec<(i64, Entry)> = Vec::new();
    for (item, spec) in problem.items.iter().enumerate() {
        let extra = kind.extra[item];
        if extra == NEVER || values[item] <= extra || most[item] < 1 {
            continue;
        }
        let value = values[item] - extra;
        let fits = (0..RESOURCES).filter(|r| spec.size[*r] > 0).map(|r| kind.capacity[r] / spec.size[r]).min().unwrap_or(0);
        if fits < 1 {
            continue;
        }
        // Value per share of the scarcest resource puts good fillings first.
        let share = (0..RESOURCES).map(|r| (spec.size[r] << 20) / kind.capacity[r].max(1)).max().unwrap_or(1).max(1);
        let density = spec.size.map(|s| if s > 0 { ((value << BITS) + s - 1) / s } else { i64::MAX });
        entries.push((
            (value << 16) / share,
            Entry { item, value, size: spec.size, most: most[item].min(fits).min(spec.most), has: spec.has, avoids: spec.avoids, density },
        ));
    }
    entries.sort_by(|(a, x), (b, y)| b.cmp(a).then(x.item.cmp(&y.item)));
    let mut entries: Vec<Entry> = entries.into_iter().map(|(_, e)| e).collect();
    for at in (1..entries.len()).rev() {
        let after = entries[at].density;
        for (mine, next) in entries[at - 1].density.iter_mut().zip(after) {
            *mine = (*mine).max(next);
        }
    }
    entries
}

impl Search<'_> {
    /// No filling of what is `left` with entries from `at` on is worth more.
    fn bound(&self, at: usize, left: &[i64; RESOURCES]) -> i64 {
        let Some(entry) = self.entries.get(at) else { return 0 };
        let worth = |r: usize| if entry.density[r] == i64::MAX { i64::MAX } else { shifted(left[r], entry.density[r]) };
        (0..RESOURCES).map(worth).min().unwrap_or(0)
    }

    fn descend(&mut self, at: usize, left: [i64; RESOURCES], value: i64, (has, avoids): (u64, u64)) {
        if value > self.best {
            self.best = value;
            self.best_take.copy_from_slice(&self.take);
        }
        if self.nodes == 0 || at == self.entries.len() || value.saturating_add(self.bound(at, &left)) <= self.best {
            return;
        }
        self.nodes -= 1;
        let entry = &self.entries[at];
        let (size, worth) = (entry.size, entry.value);
        let fits = (0..RESOURCES).filter(|r| size[*r] > 0).map(|r| left[r] / size[r]).min().unwrap_or(0).min(entry.most);
        let agrees = entry.avoids & has == 0 && entry.has & avoids == 0;
        let (mine, fits) = ((has | entry.has, avoids | entry.avoids), if agrees { fits } else { 0 });
        for count in (0..=fits).rev() {
            self.take[at] = count;
            let marks = if count > 0 { mine } else { (has, avoids) };
            self.descend(at + 1, std::array::from_fn(|r| left[r] - size[r] * count), value + worth * count, marks);
        }
        self.take[at] = 0;
    }
}

fn shifted(left: i64, density: i64) -> i64 {
    i64::try_from((i128::from(left) * i128::from(density)) >> BITS).unwrap_or(i64::MAX)
}
