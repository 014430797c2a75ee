//! One deadline job on one market under one policy, tick by tick.
//!
//! Decides: what a tick of the world does (work, pre-emption, launch, billing). The order is that of the simulator behind
//! "Can't Be Late" and SkyNomad: work of the last tick, pre-emption, decision, billing of whole ticks; a launch into another
//! region carries the checkpoint. So published results can be met to the cent.

use super::bill::{Bill, Charge};
use super::job::{BatchJob, JobState, Running, Try};
use super::market::{Market, Past};
use crate::core::units::money::{MicroUsd, MicroUsdMillis};
use crate::core::units::time::Millis;

/// A policy for one deadline job. A fresh one is made for every run.
pub trait BatchPolicy {
    /// What to try at this tick, best first, written into `wish` (which comes empty). If nothing succeeds, nothing runs.
    fn decide(&mut self, past: &Past<'_>, state: &JobState, wish: &mut Vec<Try>);
    /// A launch or a running instance showed at this tick whether `zone` had capacity.
    fn saw(&mut self, _past: &Past<'_>, _zone: usize, _up: bool) {}
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchRun {
    /// What it cost, with its rows.
    pub bill: Bill,
    /// When the work was done after the start; when the recording ended before that, the end plus the work left.
    pub finished: Millis,
    /// Work left when the recording ended; zero for a finished job.
    pub unfinished: Millis,
    /// Spot instances taken away.
    pub preemptions: u32,
    /// Launches into another zone than the last one.
    pub moves: u32,
    /// Launches refused for want of capacity.
    pub refused: u32,
    /// Time paid for that did no work.
    pub changeover: Millis,
    /// Ticks on spot.
    pub spot_ticks: u32,
    /// Ticks on on-demand.
    pub on_demand_ticks: u32,
    /// What ran, tick by tick.
    pub history: Vec<Running>,
}

impl BatchRun {
    /// By how much the deadline was missed.
    pub fn late(&self, job: &BatchJob) -> Millis {
        Millis((self.finished.0 - job.deadline.0).max(0))
    }
}

struct Playback<'a> {
    market: &'a Market,
    state: JobState,
    run: BatchRun,
}

impl Playback<'_> {
    /// What the last tick's instance did.
    fn work(&mut self) -> Option<Millis> {
        let gap = self.market.tick.0;
        if self.state.running == Running::Idle {
            return None;
        }
        let overhead = self.state.changeover_left.0.min(gap);
        let done = (gap - overhead).min(self.state.remaining.0);
        self.state.changeover_left = Millis(self.state.changeover_left.0 - overhead);
        self.run.changeover = Millis(self.run.changeover.0 + overhead);
        self.state.remaining = Millis(self.state.remaining.0 - done);
        (self.state.remaining.0 == 0).then_some(Millis(overhead + done))
    }
    fn start(&mut self, zone: usize, now: usize, as_what: Running) {
        if let Some(home) = self.state.home {
            let carried = MicroUsd(self.market.egress(home, zone).0 * self.state.job.checkpoint_gib);
            self.run.bill.transfer(zone, now, carried);
            self.run.moves += u32::from(home != zone);
        }
        self.state.running = as_what;
        self.state.changeover_left = self.state.job.changeover;
        self.state.home = Some(zone);
    }
    fn bill(&mut self, now: usize) {
        let tick = self.market.tick;
        match self.state.running {
            Running::Idle => {}
            Running::Spot(z) => {
                self.run.spot_ticks += 1;
                self.run.bill.hold(Charge::Spot, z, now, 1, self.market.zones[z].spot[now], tick);
            }
            Running::OnDemand(z) => {
                self.run.on_demand_ticks += 1;
                self.run.bill.hold(Charge::OnDemand, z, now, 1, self.market.zones[z].on_demand, tick);
            }
        }
    }
}

/// Runs `job` from tick `start` under `policy` until it is done or the recording ends.
pub fn simulate(market: &Market, job: BatchJob, start: usize, policy: &mut dyn BatchPolicy) -> BatchRun {
    let state = JobState { job, remaining: job.work, running: Running::Idle, changeover_left: Millis(0), preempted: None, home: None };
    let run = BatchRun {
        bill: Bill::default(),
        finished: Millis(0),
        unfinished: Millis(0),
        preemptions: 0,
        moves: 0,
        refused: 0,
        changeover: Millis(0),
        spot_ticks: 0,
        on_demand_ticks: 0,
        history: Vec::new(),
    };
    let mut playback = Playback { market, state, run };
    let mut wish = Vec::new();
    let gap = market.tick.0;
    for now in start..market.ticks() {
        let began = Millis(gap * (now - start) as i64);
        if let Some(used) = playback.work() {
            playback.run.finished = Millis(began.0 - gap + used.0);
            return playback.run;
        }
        step(&mut playback, &market.past(start, now), now, policy, &mut wish);
        playback.bill(now);
        playback.run.history.push(playback.state.running);
    }
    let end = Millis(gap * (market.ticks() - start) as i64);
    let used = playback.work();
    playback.run.unfinished = playback.state.remaining;
    playback.run.finished = used.map_or(Millis(end.0 + playback.state.remaining.0), |u| Millis(end.0 - gap + u.0));
    playback.run
}

/// Pre-emption, decision and launches of one tick.
fn step(playback: &mut Playback<'_>, past: &Past<'_>, now: usize, policy: &mut dyn BatchPolicy, wish: &mut Vec<Try>) {
    playback.state.preempted = None;
    if let Running::Spot(z) = playback.state.running {
        let up = playback.market.zones[z].capacity[now] > 0;
        policy.saw(past, z, up);
        if !up {
            playback.run.preemptions += 1;
            playback.state.preempted = Some(z);
            playback.state.running = Running::Idle;
            playback.state.changeover_left = Millis(0);
        }
    }
    wish.clear();
    policy.decide(past, &playback.state, wish);
    for w in wish.iter() {
        match *w {
            Try::Keep => return,
            Try::Idle => break,
            Try::Spot(z) if playback.state.running == Running::Spot(z) => return,
            Try::OnDemand(z) if playback.state.running == Running::OnDemand(z) => return,
            Try::Spot(z) => {
                let up = playback.market.zones[z].capacity[now] > 0;
                policy.saw(past, z, up);
                if up {
                    return playback.start(z, now, Running::Spot(z));
                }
                playback.run.refused += 1;
            }
            Try::OnDemand(z) => return playback.start(z, now, Running::OnDemand(z)),
        }
    }
    playback.state.running = Running::Idle;
    playback.state.changeover_left = Millis(0);
}

/// What the same job costs on on-demand alone: work and one changeover at the cheapest on-demand price, to the second.
pub fn on_demand_cost(market: &Market, job: &BatchJob) -> MicroUsdMillis {
    market.cheapest_on_demand().1.over(Millis(job.work.0 + job.changeover.0))
}
