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
    #[arg(long)]
    serve: bool,
    #[arg(long)]
    od: Option<f64>,
    #[arg(long)]
    spot: Option<f64>,
}

/// Runs it.
pub fn run(args: BacktestArgs) -> ExitCode {
    let options = LoadOptions { zones: args.zones, on_demand: args.od.and_then(crate::backtest::load::usd_per_hour), spot: args.spot.and_then(crate::backtest::load::usd_per_hour), prefer: vec!["skynomad-v100/availability-csv"], ..LoadOptions::default() };
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
    if args.serve {
        use crate::backtest::serve::{policies::{SERVE, make}, simulate::{ServiceSpec, simulate, strict_bound}};
        let spec = ServiceSpec { replicas: 3, extra: 1, cold_start: Millis(120_000), tick: Millis(30_000), window: Millis::from_hours(24) };
        let m = &loaded.market;
        let starts = disjoint(m.ticks(), (spec.window.0 / m.tick.0) as usize);
        for (name, _) in SERVE {
            let (mut c, mut o, mut r, mut t, mut p, mut od) = (0.0, 0.0, 0u32, 0u32, 0u32, 0u64);
            for s in &starts {
                let run = simulate(m, spec, *s, make(name, m.zones.len()).unwrap().as_mut());
                assert_eq!(run.bill.total, run.bill.sum_of_rows(spec.tick));
                c += run.bill.total.to_micro_usd().0 as f64 / 1e6; o += 3.0 * 24.0 * m.cheapest_on_demand().1.0 as f64 / 1e6; r += run.ready_ticks; t += run.ticks; p += run.preemptions; od += run.on_demand_ticks;
            }
            println!("{name:16} {:.4} avail {:.4} pre {p} od {od}", c / o, r as f64 / t as f64 * 100.0);
        }
        let b: f64 = starts.iter().map(|s| strict_bound(m, &spec, *s, 0.995)).sum::<f64>() / (starts.len() as f64 * 72.0 * m.cheapest_on_demand().1.0 as f64 / 1e6);
        println!("bound {b:.4}");
        return ExitCode::SUCCESS;
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
