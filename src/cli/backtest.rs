//! `lowtide backtest`: policies on recorded spot markets.

use crate::backtest::job::BatchJob;
use crate::backtest::load::{LoadOptions, load};
use crate::backtest::run::{BATCH, batch, disjoint};
use crate::core::time::Millis;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct BacktestArgs {
    #[arg(long, default_value = "../shared/data/traces")]
    traces: PathBuf,
    #[arg(long, value_delimiter = ',')]
    zones: Vec<String>,
    #[arg(long, value_delimiter = ',')]
    starts: Vec<f64>,
    #[arg(long, default_value_t = 1.5)]
    ratio: f64,
    #[arg(long)]
    v: bool,
}

/// Runs it.
pub fn run(args: BacktestArgs) -> ExitCode {
    let options = LoadOptions { zones: args.zones, prefer: vec!["skynomad-v100/availability-csv"], ..LoadOptions::default() };
    let loaded = match load(&args.traces, &options) {
        Ok(l) => l,
        Err(e) => {
            eprintln!("{e}");
            return ExitCode::from(2);
        }
    };
    for n in &loaded.notes {
        eprintln!("{n}");
    }
    let work = 143_780_000;
    let job = BatchJob {
        work: Millis(work),
        deadline: Millis((work as f64 * args.ratio).round() as i64),
        changeover: Millis(720_000),
        checkpoint_gib: 50,
    };
    let m = &loaded.market;
    let span = (job.deadline.0 as usize).div_ceil(m.tick.0 as usize);
    let starts = if args.starts.is_empty() {
        disjoint(m.ticks(), span)
    } else {
        args.starts.iter().map(|h| (h * 3.6e6 / m.tick.0 as f64).round() as usize).collect()
    };
    let out = batch(m, job, &starts, BATCH);
    for k in BATCH {
        let of: Vec<_> = out.iter().filter(|o| o.policy == k.name).collect();
        let mean = of.iter().map(|o| o.run.bill.total.to_micro_usd().0 as f64 / 1e6).sum::<f64>() / of.len() as f64;
        let late = of.iter().filter(|o| o.run.late(&job).0 > 0).count();
        println!(
            "{:24} {:8.4} late {late}/{} pre {} moves {} od {} spot {}",
            k.name,
            mean,
            of.len(),
            of.iter().map(|o| o.run.preemptions).sum::<u32>(),
            of.iter().map(|o| o.run.moves).sum::<u32>(),
            of.iter().map(|o| o.run.on_demand_ticks).sum::<u32>(),
            of.iter().map(|o| o.run.spot_ticks).sum::<u32>()
        );
        if args.v {
            println!("   {:?}", of.iter().map(|o| (o.run.bill.total.to_micro_usd().0 as f64 / 1e4).round() / 100.0).collect::<Vec<_>>());
        }
    }
    let b: Vec<f64> = starts.iter().map(|s| crate::backtest::omniscient::strict_bound(m, &job, *s)).collect();
    println!("bound {:.4} {:?}", b.iter().sum::<f64>() / b.len() as f64, b);
    ExitCode::SUCCESS
}
