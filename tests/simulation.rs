//! The simulated world: hundreds of histories hold every invariant, a seed is a history, every crash point is survived, and every planted
//! mistake is noticed.

// Built without AWS and Kubernetes, and optimised: a debug build of the whole operator would take an hour for the same histories.
#![cfg(not(feature = "live"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use clap::ValueEnum as _;
use lowtide::core::invariant::Invariant;
use lowtide::core::plan::{Planner, plan, plan_asking_about_each, planner};
use lowtide::core::units::time::Millis;
use lowtide::sim::faults::Level;
use lowtide::sim::planted::PlantedBug;
use lowtide::sim::report::Outcome;
use lowtide::sim::run::{Scenario, play};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LEVELS: [Level; 4] = [Level::None, Level::Calm, Level::Rough, Level::Hostile];

/// Plays all of `scenarios` on every core; gives what came of those that `keep` wants.
fn play_all<R: Send>(scenarios: &[Scenario], keep: impl Fn(&Scenario, Outcome) -> Option<R> + Sync) -> Vec<R> {
    let (next, kept) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    let outcome = play(scenario).unwrap();
                    kept.lock().unwrap().extend(keep(scenario, outcome));
                }
            });
        }
    });
    kept.into_inner().unwrap()
}

fn all_hold(scenarios: &[Scenario]) {
    all_hold_and(scenarios, |_| {});
}

fn all_hold_and(scenarios: &[Scenario], look: impl Fn(&Outcome) + Sync) {
    let broken = play_all(scenarios, |scenario, outcome| {
        look(&outcome);
        let fault = outcome.broken.first()?.clone();
        Some(format!("{fault}\n{}\nsee it again: {}", outcome.trace.join("\n"), scenario.command()))
    });
    assert!(broken.is_empty(), "{} of {} histories broke an invariant; the first:\n{}", broken.len(), scenarios.len(), broken[0]);
}

/// `LOWTIDE_SIMULATED_SEEDS` histories (500 unless it is set), a week each, every level of faults in turn. Each holds by itself; and of the machines
/// that are bought before work moves, few may stay without it (they never join, a notice comes in between).
#[test]
fn hundreds_of_weeks_hold_every_invariant() {
    let seeds = std::env::var("LOWTIDE_SIMULATED_SEEDS").map_or(500, |text| text.parse().unwrap());
    let scenarios: Vec<Scenario> = (0..seeds).map(|seed| Scenario::new(seed, 7, LEVELS[seed as usize % LEVELS.len()])).collect();
    let (ahead, in_vain) = (AtomicU64::new(0), AtomicU64::new(0));
    all_hold_and(&scenarios, |outcome| {
        ahead.fetch_add(outcome.bought_ahead as u64, Ordering::Relaxed);
        in_vain.fetch_add(outcome.bought_in_vain as u64, Ordering::Relaxed);
    });
    let (ahead, in_vain) = (ahead.into_inner(), in_vain.into_inner());
    println!("{ahead} machines bought ahead, {in_vain} in vain");
    assert!(in_vain * 10 < ahead, "{in_vain} of {ahead} machines that were bought before work moved never got work");
}

/// A pass leaves out machines at rest, and takes from the last one what was noted of parts of the world that have not changed; asking the rules about each
/// machine, and making all notes again, gives the same plan, in whatever world.
#[test]
fn machines_at_rest_have_nothing_to_say() {
    let with_notes = planner();
    let both: Planner = Arc::new(move |settings, world, now| {
        let planned = plan(settings, world, now);
        assert_eq!(planned, with_notes(settings, world, now), "what was noted before no longer held");
        assert_eq!(planned, plan_asking_about_each(settings, world, now), "a machine at rest had something to say");
        planned
    });
    let weeks = (300..312).zip(LEVELS.into_iter().cycle());
    all_hold(&weeks.map(|(seed, level)| Scenario { planner: Arc::clone(&both), ..Scenario::new(seed, 2, level) }).collect::<Vec<_>>());
}

/// INV-8.
#[test]
fn the_same_seed_gives_the_same_bytes() {
    for (seed, level) in (40..52).zip(LEVELS.into_iter().cycle()) {
        let [first, second] = [(), ()].map(|()| play(&Scenario::new(seed, 2, level)).unwrap());
        assert_eq!((&first.fingerprint, first.lines), (&second.fingerprint, second.lines), "seed {seed}, {level:?}");
        assert_eq!(serde_json::to_string(&first).unwrap(), serde_json::to_string(&second).unwrap());
    }
    let other = play(&Scenario::new(41, 2, Level::Calm)).unwrap();
    assert_ne!(other.fingerprint, play(&Scenario::new(42, 2, Level::Calm)).unwrap().fingerprint, "seeds differ");
}

/// The process ends before, and after, every single changing call of six hours.
#[test]
fn every_crash_point_is_survived() {
    let hours = || Scenario { span: Millis::from_hours(6), ..Scenario::new(11, 1, Level::None) };
    let calls = play(&hours()).unwrap().changing_calls;
    assert!(calls > 200, "{calls} changing calls: hours without work");
    let points = (0..calls).flat_map(|at| [(at, true), (at, false)]);
    all_hold(&points.map(|point| Scenario { crash_point: Some(point), ..hours() }).collect::<Vec<_>>());
}

/// Each planted mistake breaks an invariant that is there to notice it, within a few seeds; without it the same seeds hold.
#[test]
fn every_planted_mistake_is_noticed() {
    // What calls that fail hide, shows where none does.
    let seeds = || [Level::Hostile, Level::None].into_iter().flat_map(|level| (0..12).map(move |seed| Scenario::new(seed, 1, level)));
    all_hold(&seeds().collect::<Vec<_>>());
    // A backup is restored, a definition deleted and kubelets fall silent together on few days, and a machine seldom lives to see its maintenance: weeks that hold by themselves,
    // as the hundreds above show.
    let weeks = |first: u64, level| (first..200).step_by(4).map(move |seed| Scenario::new(seed, 7, level));
    let played = |bug| -> Box<dyn Iterator<Item = Scenario>> {
        match bug {
            PlantedBug::OrphansSwept | PlantedBug::BreakerLifted | PlantedBug::DefinitionForgotten => Box::new(weeks(3, Level::Hostile)),
            PlantedBug::ScheduleForgotten => Box::new(weeks(0, Level::None)),
            _ => Box::new(seeds()),
        }
    };
    for bug in PlantedBug::value_variants().iter().copied() {
        let expected: Vec<String> = bug.noticed_by().iter().map(|invariant| invariant.number()).collect();
        let noticed = match bug.noticed_by() {
            [Invariant::SameSeedSameHistory] => seeds().any(|scenario| {
                let [first, second] = [(), ()].map(|()| play(&scenario.clone().planted(bug)).unwrap().fingerprint);
                first != second
            }),
            _ => played(bug).any(|scenario| {
                let broken = play(&scenario.planted(bug)).unwrap().broken;
                broken.iter().any(|fault| expected.iter().any(|number| fault.starts_with(&format!("{number} "))))
            }),
        };
        assert!(noticed, "{bug:?} was not noticed by {expected:?}");
    }
}
