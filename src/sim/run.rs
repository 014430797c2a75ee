//! One history from its seed: operators live, end and are started again while time passes.
//!
//! Decides: when an operator is started or ended, and when a history is over. Time is tokio's test clock: it jumps to the next event.
//! Does not: judge (see [`super::check`]) or print (see [`super::report`]).

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::ValueEnum as _;
use tokio::sync::{Notify, mpsc, watch};

use super::chance::Chance;
use super::check;
use super::faults::{Faults, Level, Trouble};
use super::planted::PlantedBug;
use super::ports::{Hold, Shared, lock};
use super::report::Outcome;
use super::world::{CLUSTER, World};
use crate::core::plan::{Planner, Settings, planner};
use crate::core::units::time::{Millis, Timestamp};
use crate::engine::driver::{Engine, Intervals};

/// What is played.
#[derive(Clone)]
pub struct Scenario {
    /// Everything that is left to chance.
    pub seed: u64,
    /// For how long.
    pub span: Millis,
    /// How hostile the world is.
    pub level: Level,
    /// Ends the operator at this changing call, before its effect or after.
    pub crash_point: Option<(u64, bool)>,
    /// What decides.
    pub planner: Planner,
    /// The mistake that calls to the ports make.
    pub planted: Option<PlantedBug>,
    /// Print every step.
    pub loud: bool,
    /// How far apart the operator's metrics are read; never by default.
    pub metrics_every: Option<Millis>,
}

impl Scenario {
    /// `days` of `seed` under the operator's own plan.
    pub fn new(seed: u64, days: i64, level: Level) -> Scenario {
        Scenario {
            seed,
            span: Millis::from_hours(24 * days),
            level,
            crash_point: None,
            planner: planner(),
            planted: None,
            loud: false,
            metrics_every: None,
        }
    }

    /// The command that plays it again, step by step.
    pub fn command(&self) -> String {
        let named = |value: Option<clap::builder::PossibleValue>| value.map_or_else(String::new, |value| value.get_name().to_owned());
        let hours = self.span.0 / Millis::from_hours(1).0;
        let span = if hours % 24 == 0 { format!("--days {}", hours / 24) } else { format!("--hours {hours}") };
        let crash = match self.crash_point {
            Some((at, before)) => format!(" --crash-at {at}{}", if before { " --before" } else { "" }),
            None => String::new(),
        };
        let plant = self.planted.map_or_else(String::new, |bug| format!(" --plant {}", named(bug.to_possible_value())));
        let faults = named(self.level.to_possible_value());
        format!("lowtide simulate --seed {} {span} --faults {faults}{crash}{plant} --trace", self.seed)
    }

    /// The same with a mistake planted.
    pub fn planted(self, bug: PlantedBug) -> Scenario {
        Scenario { planner: bug.planner(), planted: Some(bug), ..self }
    }
}

/// After the last fault, with market and people at rest, everything must have found its place within this.
const QUIET: Millis = Millis::from_mins(120);

/// Plays a history from beginning to end; on a thread of its own clock.
///
/// # Errors
/// When the runtime cannot be made.
pub fn play(scenario: &Scenario) -> std::io::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    let outcome = runtime.block_on(history(scenario));
    runtime.shutdown_background();
    Ok(outcome)
}

async fn history(scenario: &Scenario) -> Outcome {
    let faults = Faults::new(scenario.seed, scenario.level, scenario.crash_point);
    let world: Shared = Arc::new(Mutex::new(World::open(scenario.seed, faults, scenario.loud)));
    let stirred = Arc::clone(&lock(&world).stirred);
    let (deaths, mut dead) = mpsc::unbounded_channel();
    let mut stage =
        Stage { world: Arc::clone(&world), scenario, deaths, operators: Vec::new(), strangers: Vec::new(), next: 1, due: Vec::new() };
    let began = lock(&world).now();
    stage.start();
    let quiet_from = began + scenario.span;
    let ends = quiet_from + QUIET;
    let (mut metrics, mut read_next) = (Vec::new(), began);
    loop {
        let (now, wake) = {
            let mut world = lock(&world);
            world.run_due();
            let now = world.now();
            if now >= quiet_from {
                world.faults.quiet = true;
            }
            let due = stage.due.iter().map(|(at, _)| *at).min().unwrap_or(ends);
            let looks_again = if now < quiet_from { quiet_from } else { now + Millis::from_mins(1) };
            let next = world.next_event().unwrap_or(ends).min(due).min(looks_again);
            (now, world.instant(next))
        };
        stage.bring_about(now);
        if let (Some(every), Some(operator), true) = (scenario.metrics_every, stage.operators.first(), now >= read_next) {
            metrics.push(operator.engine.metrics(true));
            read_next = now + every;
        }
        let over = now >= ends || (now > quiet_from && check::unsettled(&lock(&world)).is_empty());
        if over || !lock(&world).broken.is_empty() {
            break;
        }
        tokio::select! {
            biased;
            Some(operator) = dead.recv() => stage.ended(operator),
            () = stirred.notified() => {}
            () = tokio::time::sleep_until(wake) => {}
        }
    }
    stage.operators.drain(..).chain(stage.strangers.drain(..)).for_each(|operator| operator.end());
    let mut world = lock(&world);
    if world.broken.is_empty() {
        world.must_have_settled();
        check::final_books(&mut world);
    }
    Outcome { metrics, ..Outcome::of(scenario, &world, stage.next - 1) }
}

/// One operator's process.
struct Operator {
    number: u32,
    engine: Arc<Engine<Hold, Hold, Hold, Hold>>,
    task: tokio::task::JoinHandle<()>,
    skew: Arc<AtomicI64>,
    watcher: Arc<Notify>,
    // Kept so that its engine is neither asked to stop nor to stand back.
    _leads: watch::Sender<bool>,
    _stops: watch::Sender<bool>,
}

impl Operator {
    /// The process ends wherever it is.
    fn end(self) {
        self.task.abort();
        self.engine.cut_steps();
    }
}

/// What is due at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Start,
    End(u32),
}

struct Stage<'a> {
    world: Shared,
    scenario: &'a Scenario,
    deaths: mpsc::UnboundedSender<u32>,
    operators: Vec<Operator>,
    /// Operators of other API servers that share the account.
    strangers: Vec<Operator>,
    next: u32,
    due: Vec<(Timestamp, Due)>,
}

impl Stage<'_> {
    fn start(&mut self) {
        let operator = self.make(false);
        self.operators.push(operator);
    }

    /// An operator of this world's API server, or a stranger of an empty one.
    fn make(&mut self, stranger: bool) -> Operator {
        let (number, watcher, skew) = (self.next, Arc::new(Notify::new()), Arc::new(AtomicI64::new(0)));
        self.next += 1;
        let lists_from = {
            let mut world = lock(&self.world);
            world.say(&format!("operator {number} starts{}", if stranger { " on an empty API server" } else { "" }));
            world.watchers.push(Arc::clone(&watcher));
            let now = world.now();
            now.max(world.faults.api_away_until) + Millis(250)
        };
        let (world, deaths) = (Arc::clone(&self.world), self.deaths.clone());
        let planted = self.scenario.planted;
        let hold =
            Hold { world, operator: number, deaths, skew: Arc::clone(&skew), watcher: Arc::clone(&watcher), lists_from, planted, stranger };
        let settings =
            Settings { max_price_age: Millis::from_mins(90), moves_considered_every: Millis::from_mins(15), ..Settings::default() };
        // Some operators are quick to plan and some slow: what comes in between differs.
        let burst = Chance::new(self.scenario.seed, &format!("burst of operator {number}")).between(20, 1_500);
        // Looked at less often than a live world, and as often as matters here: histories are long.
        let intervals = Intervals {
            burst: Duration::from_millis(burst.unsigned_abs()),
            gathering: Duration::from_secs(5),
            spot_prices: Duration::from_secs(1_800),
            catalog: Duration::from_secs(86_400),
            instances: Duration::from_secs(180),
            outbox: Duration::from_secs(600),
            heartbeat: Millis::from_mins(20),
            list_prices: Duration::from_secs(21_600),
            quotas: Duration::from_secs(21_600),
            reservations: Duration::from_secs(900),
            scheduled_events: Duration::from_secs(1_200),
            // A score is forgotten after three hours.
            scores: Duration::from_secs(10_000),
            closed_regions: Duration::from_secs(21_600),
            memory: Duration::from_secs(1_800),
            stored_prices: Duration::from_secs(3_600),
        };
        let engine = Engine::with_planner(
            (hold.clone(), hold.clone(), hold.clone(), hold),
            CLUSTER.to_owned(),
            settings,
            intervals,
            Arc::clone(&self.scenario.planner),
        );
        let ((leads, leading), (stops, stop)) = (watch::channel(true), watch::channel(false));
        let task = tokio::spawn(Arc::clone(&engine).run(leading, stop));
        Operator { number, engine, task, skew, watcher, _leads: leads, _stops: stops }
    }

    /// An operator's process has ended; somebody starts another soon.
    fn ended(&mut self, number: u32) {
        if let Some(at) = self.strangers.iter().position(|o| o.number == number) {
            let operator = self.strangers.remove(at);
            lock(&self.world).watchers.retain(|known| !Arc::ptr_eq(known, &operator.watcher));
            return operator.end();
        }
        let Some(at) = self.operators.iter().position(|o| o.number == number) else { return };
        let operator = self.operators.remove(at);
        {
            let mut world = lock(&self.world);
            world.watchers.retain(|known| !Arc::ptr_eq(known, &operator.watcher));
            if self.operators.is_empty() {
                let back = world.now() + world.faults.restart_delay();
                self.due.push((back, Due::Start));
            }
        }
        operator.end();
    }

    /// Brings about what is due, and the troubles that are the operators' own.
    fn bring_about(&mut self, now: Timestamp) {
        let due: Vec<Due> = self.due.iter().filter(|(at, _)| *at <= now).map(|(_, due)| *due).collect();
        self.due.retain(|(at, _)| *at > now);
        for one in due {
            match one {
                Due::Start if self.operators.is_empty() => self.start(),
                Due::Start => {}
                Due::End(number) => self.ended(number),
            }
        }
        let troubles = std::mem::take(&mut lock(&self.world).troubles);
        for trouble in troubles {
            match (trouble, self.operators.first().map(|o| o.number)) {
                (Trouble::Crash, Some(number)) => self.ended(number),
                (Trouble::ClockJumps(by), Some(_)) => {
                    self.operators.iter().take(1).for_each(|o| o.skew.store(by.0, Ordering::Relaxed));
                }
                (Trouble::SecondOperator(span), Some(first)) if self.operators.len() == 1 => {
                    self.start();
                    self.due.push((now + span, Due::End(first)));
                }
                (Trouble::EmptyApiServer(span), _) if self.strangers.is_empty() => {
                    let stranger = self.make(true);
                    self.due.push((now + span, Due::End(stranger.number)));
                    self.strangers.push(stranger);
                }
                _ => {}
            }
        }
    }
}
