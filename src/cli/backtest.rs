//! `lowtide backtest batch`, `serve` and `spread`: policies on recorded spot markets.

use crate::backtest::job::BatchJob;
use crate::backtest::load::{LoadOptions, Loaded, Polarity, load, usd_per_hour};
use crate::backtest::market::Market;
use crate::backtest::report::{Report, Row, summarise, table};
use crate::backtest::run::{BATCH, Known, batch_bound, batch_rows, disjoint, serve_bound, serve_rows};
use crate::backtest::serve::policies::SERVE;
use crate::backtest::serve::simulate::ServiceSpec;
use crate::backtest::serve::spread::{self, spread_row, with_room};
use crate::core::units::money::MicroUsd;
use crate::core::units::time::Millis;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

/// Policies on recorded spot markets: what each would have paid.
#[derive(Debug, clap::Args)]
pub struct BacktestArgs {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, clap::Subcommand)]
enum Kind {
    /// One deadline job per window: how cheaply each policy gets it done.
    Batch(BatchArgs),
    /// A service of identical replicas per window: cost and availability.
    Serve(ServeArgs),
    /// A service whose owner asks for nothing, replicas together and apart: what the spread costs and what it saves.
    Spread(SpreadArgs),
}

#[derive(Debug, clap::Args)]
struct MarketArgs {
    /// A folder of recorded zones (JSON or CSV, one file each), or a folder of such folders.
    #[arg(long, default_value = "../shared/data/traces")]
    traces: PathBuf,
    /// What a 1 means in the recordings.
    #[arg(long, value_enum, default_value_t = Polarity::Available)]
    polarity: Polarity,
    /// Only these zones.
    #[arg(long, value_delimiter = ',')]
    zones: Vec<String>,
    /// Only these policies (default: all).
    #[arg(long, value_delimiter = ',')]
    policies: Vec<String>,
    /// Windows start at these hours (default: all disjoint windows).
    #[arg(long, value_delimiter = ',')]
    starts: Vec<f64>,
    /// At most this many windows.
    #[arg(long)]
    windows: Option<usize>,
    /// On-demand price in $/h, overriding the recordings.
    #[arg(long)]
    on_demand_price: Option<f64>,
    /// Spot price in $/h for zones without one.
    #[arg(long)]
    spot_price: Option<f64>,
    /// Ratio of on-demand to spot price, for zones without a spot price.
    #[arg(long)]
    on_demand_ratio: Option<f64>,
    /// Price of moving a GiB to another region, in $ (default: AWS's list).
    #[arg(long)]
    egress_per_gib: Option<f64>,
    /// `common`: cut all zones to the shortest; `longest`: shorter zones have no capacity after their end.
    #[arg(long, value_parser = ["common", "longest"], default_value = "common")]
    span: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Also write a chart to this file.
    #[arg(long)]
    svg: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct BatchArgs {
    #[command(flatten)]
    market: MarketArgs,
    /// Work in hours on one instance.
    #[arg(long, default_value_t = 143_780.0 / 3600.0)]
    work: f64,
    /// Hours from start to deadline.
    #[arg(long, conflicts_with = "deadline_ratio")]
    deadline: Option<f64>,
    /// The deadline as a multiple of the work.
    #[arg(long, default_value_t = 1.5)]
    deadline_ratio: f64,
    /// Time lost per launch, in hours.
    #[arg(long, default_value_t = 0.2)]
    changeover: f64,
    /// Data moved to another region, in GiB.
    #[arg(long, default_value_t = 50)]
    checkpoint: i64,
}

#[derive(Debug, clap::Args)]
struct ServeArgs {
    #[command(flatten)]
    market: MarketArgs,
    /// Replicas that must be ready.
    #[arg(long, default_value_t = 3)]
    replicas: u32,
    /// Extra replicas.
    #[arg(long, default_value_t = 1)]
    extra: u32,
    /// Seconds from launch to ready.
    #[arg(long, default_value_t = 120.0)]
    cold_start: f64,
    /// Seconds between decisions.
    #[arg(long, default_value_t = 30.0)]
    tick: f64,
    /// Length of a window in hours.
    #[arg(long, default_value_t = 24.0)]
    window_hours: f64,
    /// The availability goal: ours spends what is left of its error budget over 24 hours, and the lower bound may use it up.
    #[arg(long, default_value_t = 0.995)]
    target: f64,
}

#[derive(Debug, clap::Args)]
struct SpreadArgs {
    #[command(flatten)]
    market: MarketArgs,
    /// Replicas of the service, one row each.
    #[arg(long, value_delimiter = ',', default_value = "2,4,10")]
    replicas: Vec<u32>,
    /// What a replica may cost more for standing apart, in percent (a node pool's `spread.mostExtraPercent`), one row each; 0 is all together.
    #[arg(long, value_delimiter = ',', default_value = "0,5,10,20")]
    most_extra_percent: Vec<f64>,
    /// Seconds from launch to ready: boot and start of the model.
    #[arg(long, default_value_t = 240.0)]
    cold_start: f64,
    /// Seconds between decisions.
    #[arg(long, default_value_t = 30.0)]
    tick: f64,
    /// Length of a window in hours.
    #[arg(long, default_value_t = 24.0)]
    window_hours: f64,
}

fn millis(name: &str, value: f64, unit: f64) -> Result<Millis, String> {
    let ms = (value * unit).round();
    if value.is_finite() && (0.0..1.0e13).contains(&ms) {
        Ok(Millis(ms as i64))
    } else {
        Err(format!("--{name} {value} is not a duration"))
    }
}

const HOUR: f64 = 3.6e6;

impl MarketArgs {
    fn load(&self, prefer: Vec<&'static str>, ratio: Option<f64>) -> Result<Loaded, String> {
        let price = |name: &str, p: Option<f64>| p.map(|p| usd_per_hour(p).ok_or(format!("--{name} {p} is not a price"))).transpose();
        let options = LoadOptions {
            polarity: self.polarity,
            zones: self.zones.clone(),
            on_demand: price("on-demand-price", self.on_demand_price)?,
            spot: price("spot-price", self.spot_price)?,
            on_demand_ratio: self.on_demand_ratio.or(ratio).filter(|r| *r > 0.0),
            egress_per_gib: self.egress_per_gib.map(|p| MicroUsd((p * 1e6).round() as i64)),
            prefer,
            longest: self.span == "longest",
        };
        load(&self.traces, &options).map_err(|e| e.to_string())
    }
    fn starts(&self, market: &Market, span: Millis) -> Result<Vec<usize>, String> {
        let ticks = ((span.0 + market.tick.0 - 1) / market.tick.0).max(1) as usize;
        let at = |h: &f64| (h * HOUR / market.tick.0 as f64).round() as usize;
        let mut starts = if self.starts.is_empty() { disjoint(market.ticks(), ticks) } else { self.starts.iter().map(at).collect() };
        if let Some(bad) = starts.iter().find(|s| **s + ticks > market.ticks()) {
            return Err(format!(
                "a window at {:.2} h of {span} does not fit in {:.2} h",
                hours(*bad, market.tick),
                hours(market.ticks(), market.tick)
            ));
        }
        starts.truncate(self.windows.unwrap_or(usize::MAX));
        if starts.is_empty() {
            return Err(format!(
                "no window of {span} fits in the {:.2} h that all zones cover; try --span longest, other --zones or a shorter window",
                hours(market.ticks(), market.tick)
            ));
        }
        Ok(starts)
    }
    fn wanted<'n>(&self, known: impl Iterator<Item = &'n str> + Clone) -> Result<Vec<&'n str>, String> {
        if let Some(bad) = self.policies.iter().find(|p| !known.clone().any(|k| k == p.as_str())) {
            return Err(format!("unknown policy {bad:?}; known: {}", known.collect::<Vec<_>>().join(", ")));
        }
        Ok(known.filter(|k| self.policies.is_empty() || self.policies.iter().any(|p| p == k)).collect())
    }
    fn show(
        &self,
        loaded: &Loaded,
        title: &str,
        (rows, bound_usd): (Vec<Row>, f64),
        service: bool,
        parameters: BTreeMap<String, String>,
    ) -> Result<(), String> {
        let zones: Vec<&str> = loaded.market.zones.iter().map(|z| z.zone.as_str()).collect();
        let mut notes = vec![format!(
            "{}: {} zones ({}), {} ticks of {}",
            loaded.from.display(),
            zones.len(),
            zones.join(", "),
            loaded.market.ticks(),
            loaded.market.tick
        )];
        notes.extend(loaded.notes.iter().cloned());
        let summary = summarise(&rows);
        if let Some(file) = &self.svg {
            fs::write(file, crate::backtest::chart::svg(title, &summary)).map_err(|e| format!("{}: {e}", file.display()))?;
        }
        let text = if self.json {
            let report = Report { notes, parameters, bound_usd, results: rows, summary };
            serde_json::to_string_pretty(&report).map_err(|e| e.to_string())? + "\n"
        } else {
            format!(
                "{title}\n{}\nstrict lower bound of these windows, all zones: ${bound_usd:.2}\n\n{}",
                notes.join("\n"),
                table(&summary, service)
            )
        };
        use std::io::Write;
        // A reader that has seen enough closes the pipe: not an error.
        let _closed = std::io::stdout().write_all(text.as_bytes());
        Ok(())
    }
}

fn hours(ticks: usize, tick: Millis) -> f64 {
    ticks as f64 * tick.0 as f64 / HOUR
}

fn run_batch(args: &BatchArgs) -> Result<(), String> {
    let loaded = args.market.load(vec!["skynomad-v100/availability-csv"], None)?;
    let job = BatchJob {
        work: millis("work", args.work, HOUR)?,
        deadline: millis("deadline", args.deadline.unwrap_or(args.work * args.deadline_ratio), HOUR)?,
        changeover: millis("changeover", args.changeover, HOUR)?,
        checkpoint_gib: args.checkpoint,
    };
    if job.deadline.0 < job.work.0 {
        return Err(format!("a deadline of {} is shorter than the work of {}", job.deadline, job.work));
    }
    let starts = args.market.starts(&loaded.market, job.deadline)?;
    let names = args.market.wanted(BATCH.iter().map(|k| k.name))?;
    let policies: Vec<Known> = BATCH.iter().filter(|k| names.contains(&k.name)).copied().collect();
    let rows = batch_rows(&loaded.market, job, &starts, &policies);
    let bound = batch_bound(&loaded.market, job, &starts);
    let title = format!("batch: {} of work, deadline {}, changeover {}, {} windows", job.work, job.deadline, job.changeover, starts.len());
    let parameters = [
        ("work_hours", args.work),
        ("deadline_hours", job.deadline.0 as f64 / HOUR),
        ("changeover_hours", args.changeover),
        ("checkpoint_gib", args.checkpoint as f64),
    ];
    args.market.show(&loaded, &title, (rows, bound), false, parameters.map(|(k, v)| (k.to_owned(), v.to_string())).into())
}

fn run_serve(args: &ServeArgs) -> Result<(), String> {
    let loaded = args.market.load(vec!["skynomad-v100/spot_hedge_4node_src"], Some(3.0))?;
    let spec = ServiceSpec {
        replicas: args.replicas,
        extra: args.extra,
        cold_start: millis("cold-start", args.cold_start, 1e3)?,
        tick: millis("tick", args.tick, 1e3)?,
        window: millis("window-hours", args.window_hours, HOUR)?,
    };
    if spec.tick.0 == 0 || spec.replicas == 0 {
        return Err("--tick and --replicas must be greater than zero".to_owned());
    }
    let starts = args.market.starts(&loaded.market, spec.window)?;
    let names = args.market.wanted(SERVE.iter().map(|(n, _)| *n))?;
    let rows = serve_rows(&loaded.market, spec, args.target, &starts, &names);
    let bound = serve_bound(&loaded.market, spec, args.target, &starts);
    let title = format!(
        "serve: {} replicas, {} extra, cold start {}, {} windows of {}",
        spec.replicas,
        spec.extra,
        spec.cold_start,
        starts.len(),
        spec.window
    );
    let parameters = [
        ("replicas", f64::from(args.replicas)),
        ("extra", f64::from(args.extra)),
        ("cold_start_seconds", args.cold_start),
        ("tick_seconds", args.tick),
    ];
    args.market.show(&loaded, &title, (rows, bound), true, parameters.map(|(k, v)| (k.to_owned(), v.to_string())).into())
}

fn run_spread(args: &SpreadArgs) -> Result<(), String> {
    let loaded = args.market.load(vec!["skynomad-v100/availability-csv"], Some(3.0))?;
    let window = millis("window-hours", args.window_hours, HOUR)?;
    let (cold_start, tick) = (millis("cold-start", args.cold_start, 1e3)?, millis("tick", args.tick, 1e3)?);
    if tick.0 == 0 || args.replicas.contains(&0) {
        return Err("--tick and --replicas must be greater than zero".to_owned());
    }
    let starts = args.market.starts(&loaded.market, window)?;
    let mut rows = Vec::new();
    for replicas in &args.replicas {
        let market = with_room(&loaded.market, *replicas);
        let spec = ServiceSpec { replicas: *replicas, extra: 0, cold_start, tick, window };
        let per_mille = |percent: &f64| (percent * 10.0).round() as i64;
        rows.extend(args.most_extra_percent.iter().map(|percent| spread_row(&market, spec, per_mille(percent), &starts)));
    }
    let text = if args.market.json {
        serde_json::to_string_pretty(&rows).map_err(|e| e.to_string())? + "\n"
    } else {
        let zones: Vec<&str> = loaded.market.zones.iter().map(|z| z.zone.as_str()).collect();
        let head = format!("spread: cold start {cold_start}, {} windows of {window}", starts.len());
        let from = format!("{}: {} zones ({})", loaded.from.display(), zones.len(), zones.join(", "));
        format!("{head}\n{from}\n{}\n\n{}", loaded.notes.join("\n"), spread::table(&rows))
    };
    use std::io::Write;
    // A reader that has seen enough closes the pipe: not an error.
    let _closed = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

/// Runs the backtest. Exit code 2 when something it needs is missing or wrong.
pub fn run(args: BacktestArgs) -> ExitCode {
    let done = match &args.kind {
        Kind::Batch(batch) => run_batch(batch),
        Kind::Serve(serve) => run_serve(serve),
        Kind::Spread(spread) => run_spread(spread),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("lowtide backtest: {what}");
            ExitCode::from(2)
        }
    }
}
