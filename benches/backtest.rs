//! A year of nine zones under every batch policy, on one core: `cargo bench --bench backtest` prints one line.
//!
//! The year is the V100 recordings of `../shared/data/traces`, one after the other until 365 days are full. CPU time is the process's own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::Path;
use std::time::Instant;

use lowtide::backtest::job::BatchJob;
use lowtide::backtest::load::{LoadOptions, load};
use lowtide::backtest::market::{Market, Zone};
use lowtide::backtest::report::summarise;
use lowtide::backtest::run::{BATCH, batch_rows, disjoint};
use lowtide::core::units::time::Millis;

/// Seconds this process has been on a CPU.
fn cpu_seconds() -> Option<f64> {
    let schedstat = std::fs::read_to_string("/proc/self/schedstat").ok()?;
    Some(schedstat.split_whitespace().next()?.parse::<f64>().ok()? / 1e9)
}

fn main() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Some(traces) = ["../shared/data/traces", "../../shared/data/traces"].map(|p| here.join(p)).into_iter().find(|p| p.is_dir()) else {
        println!("no ../shared/data/traces beside the repository: nothing to measure");
        return;
    };
    let options = LoadOptions { prefer: vec!["skynomad-v100/availability-csv"], ..LoadOptions::default() };
    let recorded = load(&traces, &options).unwrap().market;
    let ticks = usize::try_from(Millis::from_hours(365 * 24).0 / recorded.tick.0).unwrap();
    let again = |zone: &Zone| Zone {
        capacity: zone.capacity.iter().copied().cycle().take(ticks).collect(),
        spot: zone.spot.iter().copied().cycle().take(ticks).collect(),
        ..zone.clone()
    };
    let egress = |a: &_, b: &_| lowtide::backtest::load::aws_egress(a, b);
    let year = Market::new(recorded.zones.iter().map(again).collect(), recorded.tick, ticks, egress);
    let job = BatchJob { work: Millis(143_780_000), deadline: Millis(215_670_000), changeover: Millis::from_mins(12), checkpoint_gib: 50 };
    let starts = disjoint(ticks, usize::try_from(job.deadline.0 / year.tick.0).unwrap());
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let summary = summarise(&batch_rows(&year, job, &starts, BATCH));
    let spent = cpu.zip(cpu_seconds()).map_or(began.elapsed().as_secs_f64(), |(before, after)| after - before);
    let ours = summary.iter().find(|s| s.policy == "lowtide").unwrap();
    println!(
        "farm-bench backtest: {ticks} ticks x {} zones, {} policies, {} windows: {spent:.2} s of CPU; lowtide ${:.2} mean, {} late",
        year.zones.len(),
        BATCH.len(),
        starts.len(),
        ours.cost_usd,
        ours.late
    );
}
