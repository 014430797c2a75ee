//! What no policy can beat: the best plan with the whole future known, and a strict lower bound.
//!
//! Decides: [`plan`] is *feasible*: work and changeover rounded up to whole ticks, egress paid; executed in the simulator it gives
//! the row `omniscient`. [`strict_bound`] is *below every schedule*: both rounded down, no egress, and the deadline's work
//! constraint relaxed by its best multiplier (the Lagrangian dual). Source of the idea: the omniscient ILP of "Can't Be Late"
//! and the DP of SkyNomad; the published DP rounds the changeover up, so it is no strict bound.

use super::job::{BatchJob, JobState, Running, Try};
use super::market::{Market, Past};
use super::simulate::BatchPolicy;

/// One machine that can be held: spot in a zone, or on-demand in a region.
struct Machine {
    runs: Running,
    zone: usize,
    region: usize,
    /// Dollars per tick, infinite where there is no capacity.
    price: Vec<f32>,
    /// Dollars of the changeover when launched at a tick.
    launch: Vec<f32>,
}

fn machines(market: &Market, start: usize, ticks: usize, overhead: usize) -> (Vec<Machine>, usize) {
    let per_tick = |rate: i64| (rate as f64 * market.tick.0 as f64 / 3.6e12) as f32;
    let mut regions: Vec<&str> = Vec::new();
    let mut list: Vec<(Running, usize, usize, Vec<f32>)> = Vec::new();
    for (z, zone) in market.zones.iter().enumerate() {
        let region = regions.iter().position(|r| *r == zone.region.as_str()).unwrap_or_else(|| {
            regions.push(zone.region.as_str());
            regions.len() - 1
        });
        let at = |t: usize| if zone.capacity[start + t] > 0 { per_tick(zone.spot[start + t].0) } else { f32::INFINITY };
        list.push((Running::Spot(z), z, region, (0..ticks).map(at).collect()));
        list.push((Running::OnDemand(z), z, region, vec![per_tick(zone.on_demand.0); ticks]));
    }
    let with_launch = |(runs, zone, region, price): (Running, usize, usize, Vec<f32>)| {
        let launch = (0..ticks).map(|t| price[t..(t + overhead).min(ticks)].iter().sum()).collect();
        Machine { runs, zone, region, price, launch }
    };
    // Of the on-demand offers of a region only the cheapest matters.
    let cheapest = |m: &(Running, usize, usize, Vec<f32>)| {
        !matches!(m.0, Running::OnDemand(z) if market.zones.iter().enumerate().any(|(o, zone)| {
            zone.region == market.zones[z].region && (zone.on_demand, o) < (market.zones[z].on_demand, z)
        }))
    };
    let kept: Vec<_> = list.into_iter().filter(cheapest).map(with_launch).collect();
    let count = regions.len();
    (kept, count)
}

/// The tables of the backward recursion: `value[tick][place][work left]`, places being the homes (none, then each region) while idle
/// and then the machines while running.
struct Tables {
    value: Vec<f32>,
    places: usize,
    row: usize,
}

impl Tables {
    fn at(&self, t: usize, place: usize) -> &[f32] {
        let from = (t * self.places + place) * self.row;
        &self.value[from..from + self.row]
    }
}

/// The cheapest feasible schedule: what runs at each tick from `start`. `None` when even on-demand cannot make the deadline.
pub fn plan(market: &Market, job: &BatchJob, start: usize) -> Option<Vec<Running>> {
    let tick = market.tick.0;
    let ticks = ((job.deadline.0 / tick) as usize).min(market.ticks() - start);
    let work = job.work.0.div_euclid(tick) as usize + usize::from(job.work.0 % tick != 0);
    let overhead = job.changeover.0.div_euclid(tick) as usize + usize::from(job.changeover.0 % tick != 0);
    if work > ticks {
        return None;
    }
    let (machines, regions) = machines(market, start, ticks, overhead);
    let egress = egress_usd(market, job, &machines, regions);
    let homes = regions + 1;
    let tables = solve(&machines, &egress, homes, ticks, work, overhead);
    let plan = tables.at(0, 0)[work].is_finite().then(|| extract(&tables, &machines, &egress, homes, (ticks, work, overhead)));
    SCRATCH.set(tables.value);
    plan
}

/// `egress[home][machine]` in dollars; home 0 is "nowhere yet".
fn egress_usd(market: &Market, job: &BatchJob, machines: &[Machine], regions: usize) -> Vec<Vec<f32>> {
    let usd = |from: usize, to: usize| market.egress(from, to).0 as f32 * job.checkpoint_gib as f32 / 1e6;
    let of = |home: usize| {
        let from = machines.iter().find(|m| home > 0 && m.region == home - 1).map(|m| m.zone);
        machines.iter().map(|m| from.map_or(0.0, |f| usd(f, m.zone))).collect()
    };
    (0..=regions).map(of).collect()
}

thread_local! {
    /// The memory of the tables: tens of megabytes that would else be asked from the system for every window.
    static SCRATCH: std::cell::Cell<Vec<f32>> = const { std::cell::Cell::new(Vec::new()) };
}

/// The smaller of two costs; neither is ever NaN, and without that case it is one instruction.
fn less(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

fn solve(machines: &[Machine], egress: &[Vec<f32>], homes: usize, ticks: usize, work: usize, overhead: usize) -> Tables {
    let (places, row) = (homes + machines.len(), work + 1);
    let mut tables = Tables { value: SCRATCH.take(), places, row };
    let mut landed = vec![vec![f32::INFINITY; row]; homes - 1];
    // What an earlier plan left there is never read: every cell read below is written first.
    tables.value.resize((ticks + 1) * places * row, f32::INFINITY);
    for t in (0..=ticks).rev() {
        let reachable = work.min(ticks - t);
        for p in 0..places {
            let of = &mut tables.value[(t * places + p) * row..(t * places + p + 1) * row];
            of[0] = 0.0;
            // Rows up to one launch before t look this far beyond what can still be done.
            of[reachable + 1..(reachable + overhead + 2).min(row)].fill(f32::INFINITY);
        }
        // Only this much work can be left at t, and only this much can still be done.
        let (least, most) = (work.saturating_sub(t).max(1), work.min(ticks - t));
        if t == ticks || least > most {
            continue;
        }
        let (now, later) = tables.value.split_at_mut((t + 1) * places * row);
        let now = &mut now[t * places * row..];
        let may_launch = t + overhead < ticks;
        if may_launch {
            land(machines, &mut landed, later, t, (homes, overhead, row), (least, most));
        }
        for h in 0..homes {
            // Before the first launch all the work is left.
            let from = if h == 0 { work } else { least };
            if from > most {
                continue;
            }
            let idle = &mut now[h * row + from..=h * row + most];
            idle.copy_from_slice(&later[h * row + from..=h * row + most]);
            for (region, landed) in landed.iter().enumerate().filter(|_| may_launch) {
                let carried = machines.iter().position(|m| m.region == region).map_or(0.0, |m| egress[h][m]);
                for (v, there) in idle.iter_mut().zip(&landed[from..=most]) {
                    *v = less(*v, there + carried);
                }
            }
        }
        for (m, machine) in machines.iter().enumerate() {
            let (idles, runs) = now.split_at_mut(homes * row);
            let idle = &idles[(machine.region + 1) * row + least..=(machine.region + 1) * row + most];
            let run = &mut runs[m * row + least..=m * row + most];
            let price = machine.price[t];
            if price.is_infinite() {
                run.copy_from_slice(idle);
                continue;
            }
            let after = &later[(homes + m) * row + least - 1..(homes + m) * row + most];
            for ((run, idle), after) in run.iter_mut().zip(idle).zip(after) {
                *run = less(*idle, price + after);
            }
        }
    }
    tables
}

/// For each region, what launching its best machine at `t` comes to without egress, for each amount of work left from `least` to `most`.
fn land(
    machines: &[Machine],
    landed: &mut [Vec<f32>],
    later: &[f32],
    t: usize,
    (homes, overhead, row): (usize, usize, usize),
    (least, most): (usize, usize),
) {
    let places = homes + machines.len();
    landed.iter_mut().for_each(|l| l[least..=most].fill(f32::INFINITY));
    for (m, machine) in machines.iter().enumerate().filter(|(_, machine)| machine.launch[t].is_finite()) {
        // A launch of no overhead works in this very tick.
        let (from, cost, back) = match overhead {
            0 => ((homes + m) * row, machine.launch[t] + machine.price[t], 1),
            n => (((n - 1) * places + homes + m) * row, machine.launch[t], 0),
        };
        let after = &later[from + least - back..=from + most - back];
        for (best, after) in landed[machine.region][least..=most].iter_mut().zip(after) {
            *best = less(*best, cost + after);
        }
    }
}

/// Follows the tables forwards.
fn extract(tables: &Tables, machines: &[Machine], egress: &[Vec<f32>], homes: usize, size: (usize, usize, usize)) -> Vec<Running> {
    let (ticks, work, overhead) = size;
    let (mut t, mut left, mut place) = (0, work, 0);
    let mut plan = Vec::with_capacity(ticks);
    while t < ticks && left > 0 {
        if place >= homes {
            let m = &machines[place - homes];
            let stay = m.price[t] + tables.at(t + 1, place)[left - 1];
            if stay <= tables.at(t, m.region + 1)[left] {
                plan.push(m.runs);
                (t, left) = (t + 1, left - 1);
            } else {
                place = m.region + 1;
            }
            continue;
        }
        let worth = |m: usize| match overhead {
            0 => machines[m].launch[t] + machines[m].price[t] + tables.at(t + 1, homes + m)[left - 1] + egress[place][m],
            n if t + n < ticks => machines[m].launch[t] + tables.at(t + n, homes + m)[left] + egress[place][m],
            _ => f32::INFINITY,
        };
        let best = (0..machines.len()).min_by(|a, b| worth(*a).total_cmp(&worth(*b)));
        match best.filter(|m| worth(*m) < tables.at(t + 1, place)[left]) {
            Some(m) => {
                plan.extend(std::iter::repeat_n(machines[m].runs, overhead));
                (t, place) = (t + overhead, homes + m);
                if overhead == 0 {
                    plan.push(machines[m].runs);
                    (t, left) = (t + 1, left - 1);
                }
            }
            None => {
                plan.push(Running::Idle);
                t += 1;
            }
        }
    }
    plan
}

/// Executes a plan. Sees the future, so it is no policy.
pub struct Omniscient {
    plan: Option<Vec<Running>>,
}

impl Omniscient {
    /// Plans for a job that starts at tick `start`.
    pub fn new(market: &Market, job: &BatchJob, start: usize) -> Self {
        Omniscient { plan: plan(market, job, start) }
    }
}

impl BatchPolicy for Omniscient {
    fn decide(&mut self, past: &Past<'_>, s: &JobState, wish: &mut Vec<Try>) {
        let planned = self.plan.as_ref().and_then(|p| p.get(past.elapsed_ticks()));
        wish.push(match planned {
            Some(Running::Idle) => Try::Idle,
            Some(Running::Spot(z)) => Try::Spot(*z),
            Some(Running::OnDemand(z)) => Try::OnDemand(*z),
            None if s.running != Running::Idle => Try::Keep,
            None => Try::OnDemand(s.home.unwrap_or(0)),
        });
    }
}

/// A cost in dollars below that of every schedule that meets the deadline.
pub fn strict_bound(market: &Market, job: &BatchJob, start: usize) -> f64 {
    let tick = market.tick.0;
    let ticks = ((job.deadline.0 + tick - 1).div_euclid(tick) as usize).min(market.ticks() - start);
    let work = (job.work.0 / tick) as usize;
    let overhead = (job.changeover.0 / tick) as usize;
    let (machines, _) = machines(market, start, ticks, overhead);
    // A tick of work worth more than any schedule costs: as much is done as can be.
    let dearest =
        machines.iter().filter_map(|m| m.price.first()).fold(0.0_f64, |a, p| if p.is_finite() { a.max(f64::from(*p)) } else { a });
    let mut state = vec![(0.0_f64, 0_u32); (overhead.max(1) + 1) * (machines.len() + 1)];
    // The dual is concave in the multiplier and made of lines, one per schedule: what it costs, and how much of the work it does. A line
    // that does too little and one that does enough meet where the next one is looked for, until no line is below.
    let mut line = |price: f64| {
        let (value, done) = relaxed(&machines, ticks, overhead, price, &mut state);
        (value + price * f64::from(done), f64::from(done))
    };
    let work = work as f64;
    let (mut little, mut enough) = ((0.0, 0.0), line((dearest + 1e-9) * (ticks + 1) as f64));
    let mut best = 0.0_f64;
    for _ in 0..64 {
        if enough.1 < work || enough.1 <= little.1 {
            break;
        }
        let price = (enough.0 - little.0) / (enough.1 - little.1);
        let met = little.0 + price * (work - little.1);
        let next = line(price);
        best = best.max(next.0 + price * (work - next.1));
        if best >= met - 1e-9 {
            break;
        }
        if next.1 < work { little = next } else { enough = next }
    }
    best
}

/// The best of cost minus `price` times work, with no work demanded; and the work it does.
/// `ring` holds the last `overhead` ticks of (value, work) for idle (first) and every machine.
fn relaxed(machines: &[Machine], ticks: usize, overhead: usize, price: f64, ring: &mut [(f64, u32)]) -> (f64, u32) {
    let places = machines.len() + 1;
    let depth = overhead.max(1) + 1;
    ring.fill((0.0, 0));
    for t in (0..ticks).rev() {
        let (now, next, landed) = (t % depth * places, (t + 1) % depth * places, (t + overhead) % depth * places);
        let mut idle = ring[next];
        for (m, machine) in machines.iter().enumerate() {
            let launch = f64::from(machine.launch[t]);
            if launch.is_infinite() {
                continue;
            }
            let (v, w) = if overhead > 0 {
                if t + overhead >= ticks {
                    continue;
                }
                ring[landed + 1 + m]
            } else {
                let (v, w) = ring[next + 1 + m];
                (v + f64::from(machine.price[t]) - price, w + 1)
            };
            if launch + v < idle.0 {
                idle = (launch + v, w);
            }
        }
        ring[now] = idle;
        for (m, machine) in machines.iter().enumerate() {
            let (v, w) = ring[next + 1 + m];
            let stay = (f64::from(machine.price[t]) - price + v, w + 1);
            ring[now + 1 + m] = if stay.0 < idle.0 { stay } else { idle };
        }
    }
    ring[0]
}
