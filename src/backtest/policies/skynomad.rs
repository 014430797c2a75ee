//! SkyNomad's utility. Source: "SkyNomad", NSDI'27, arXiv 2601.06520, section 4.
//!
//! A zone is worth U = V·η − C − E/L, with η = (L − d)⁺/L, E the egress to it and L the time an instance is expected to live there;
//! idle is worth 0; V = C_od · [(P − p)/(T − t)] / [p/t], the on-demand price times how much faster work must go than it went. The
//! highest U is tried first; what runs is left only for a U higher by a margin (here, as in the artifact, $0.50 and 5 % of V).
//! L comes from a Nelson-Aalen estimate over runs seen by own instances and by probes every two hours (free here, a minute
//! of spot each there). Left out: the volatility ratio on the hazard.

use super::super::job::{JobState, Running, Try};
use super::super::market::Past;
use super::super::simulate::BatchPolicy;
use super::cant_be_late::safety_net;
use super::uniform::Ask;

#[derive(Default, Clone)]
struct Seen {
    /// Lengths of runs that ended, in hours.
    ended: Vec<f64>,
    /// Since when the zone has been seen up, in hours.
    up_since: Option<f64>,
}

/// SkyNomad's policy for one job.
pub struct SkyNomad {
    seen: Vec<Seen>,
    next_probe: usize,
    ranked: Vec<(f64, Try)>,
}

impl SkyNomad {
    /// A fresh policy.
    pub fn new(zones: usize) -> Self {
        SkyNomad { seen: vec![Seen::default(); zones], next_probe: 0, ranked: Vec::new() }
    }
    fn note(&mut self, past: &Past<'_>, zone: usize, up: bool) {
        let now = past.elapsed().0 as f64 / 3.6e6;
        let seen = &mut self.seen[zone];
        match (up, seen.up_since) {
            (true, None) => seen.up_since = Some(now),
            (false, Some(since)) => {
                let at = seen.ended.partition_point(|e| *e < now - since);
                seen.ended.insert(at, now - since);
                seen.up_since = None;
            }
            _ => {}
        }
    }
    /// Expected life of an instance there, in hours, given how long the zone has been up; at most `most`.
    fn life(&self, zone: usize, now: f64, most: f64) -> f64 {
        let seen = &self.seen[zone];
        let age = seen.up_since.map_or(0.0, |s| now - s);
        let Some(longest) = seen.ended.last() else { return most };
        let censored = usize::from(seen.up_since.is_some());
        let (mut life, mut survive, mut at) = (0.0, 1.0_f64, age);
        for (i, end) in seen.ended.iter().enumerate().filter(|(_, e)| **e > age) {
            life += survive * (end - at);
            at = *end;
            survive *= (-1.0 / (seen.ended.len() - i + censored) as f64).exp();
        }
        // Beyond what was seen, the last run's length again.
        (life + survive * longest.max(age)).min(most)
    }
}

impl BatchPolicy for SkyNomad {
    fn decide(&mut self, past: &Past<'_>, s: &JobState, wish: &mut Vec<Try>) {
        if past.elapsed_ticks() >= self.next_probe {
            for z in 0..past.zones() {
                self.note(past, z, past.capacity_before(z, 0).unwrap_or(0) > 0);
            }
            self.next_probe += (2 * 3_600_000 / past.tick().0).max(1) as usize;
        }
        let usd = |micros: i64| micros as f64 / 1e6;
        let hours = |ms: i64| ms as f64 / 3.6e6;
        let cheapest = (0..past.zones()).min_by_key(|z| (past.on_demand(*z), *z)).unwrap_or(0);
        match safety_net(past, s) {
            Some(Ask::OnDemand) if s.running == Running::Idle => return wish.push(Try::OnDemand(cheapest)),
            Some(Ask::OnDemand) => return wish.push(Try::OnDemand(s.home.unwrap_or(cheapest))),
            Some(_) => return wish.push(Try::Keep),
            None => {}
        }
        let (t, left) = (hours(past.elapsed().0), hours(s.job.deadline.0 - past.elapsed().0));
        let (done, rest, d) = (hours(s.job.work.0 - s.remaining.0), hours(s.remaining.0), hours(s.job.changeover.0));
        // Before any work is done the pace is taken as one: the first tick must not be worth infinitely much.
        let pace = if done > 0.0 && t > 0.0 { done / t } else { 1.0 };
        let value = usd(past.on_demand(cheapest).0) * (rest / left.max(1e-6)) / pace;
        self.ranked.clear();
        let egress = |z: usize| s.home.map_or(0.0, |h| usd(past.egress(h, z).0 * s.job.checkpoint_gib));
        let mut held = 0.0_f64;
        for z in 0..past.zones() {
            let life = self.life(z, t, left).max(1e-3);
            let spot_here = s.running == Running::Spot(z);
            let useful = if spot_here { 1.0 } else { ((life - d) / life).max(0.0) };
            let moving = if spot_here { 0.0 } else { egress(z) / life };
            let spot = value * useful - usd(past.price(z).0) - moving;
            let od_here = s.running == Running::OnDemand(z);
            let on_demand =
                value - usd(past.on_demand(z).0) - if od_here { 0.0 } else { egress(z) / rest.max(1e-3) + value * d / rest.max(1e-3) };
            for (worth, act, here) in [(spot, Try::Spot(z), spot_here), (on_demand, Try::OnDemand(z), od_here)] {
                if here { held = worth } else { self.ranked.push((worth, act)) }
            }
        }
        let margin = if s.running == Running::Idle { 0.0 } else { 0.5 + 0.05 * value };
        self.ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
        wish.extend(self.ranked.iter().filter(|(worth, _)| *worth > held + margin && *worth > 0.0).map(|(_, act)| *act));
        // As in the artifact, what runs is not stopped for being worth less than nothing.
        wish.push(Try::Keep);
    }
    fn saw(&mut self, past: &Past<'_>, zone: usize, up: bool) {
        self.note(past, zone, up);
    }
}
