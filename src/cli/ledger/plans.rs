//! `lowtide ledger budget`, `forecast` and `anomalies`.
//!
//! Decides: their arguments. Does not:
//! compute anything (see [`crate::ledger::plans`]).

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Answer;
use super::args::{AsOfArgs, DatabaseArgs, FormatArgs, OnlyArgs};
use crate::core::accounting::forecast::Scenario;
use crate::core::units::time::{Millis, Timestamp};
use crate::engine::wall_clock::WallClock;
use crate::ledger::plans::{anomalies, budget, forecast};
use crate::ledger::report::{By, Month, with_day_of_knowledge};
use crate::ports::Clock;

/// The labels that a budget may be for.
const LABELS: [By; 6] = [By::Team, By::Service, By::Environment, By::CostCenter, By::ProductArea, By::Component];

/// Which budgets.
#[derive(Debug, Clone, Args)]
pub struct BudgetArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Calendar month (UTC), e.g. 2026-07; default: this one.
    #[arg(long)]
    month: Option<Month>,
    /// First enter the budgets from a YAML file (docs/ledger.md, "Budgets"). Run as a member of lowtide_writer and lowtide_reader.
    #[arg(long, conflicts_with = "as_of")]
    enter: Option<PathBuf>,
    #[command(flatten)]
    only: OnlyArgs,
    #[command(flatten)]
    as_of: AsOfArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// What to forecast.
#[derive(Debug, Clone, Args)]
pub struct ForecastArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Number of calendar months after this one.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=24))]
    months: u8,
    /// A YAML file of scenarios (docs/ledger.md, "Forecast"); default: base, optimised, growth, new-feature and pessimistic.
    #[arg(long)]
    scenario: Option<PathBuf>,
    /// Store the forecast in the ledger, to compare it with the outcome later. Run as a member of lowtide_writer and lowtide_reader.
    #[arg(long, conflicts_with = "as_of")]
    keep: bool,
    /// Show how stored forecasts of past months came out, instead of forecasting.
    #[arg(long, conflicts_with_all = ["keep", "scenario"])]
    outcome: bool,
    #[command(flatten)]
    only: OnlyArgs,
    #[command(flatten)]
    as_of: AsOfArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// A person's verdict on an anomaly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mark {
    /// It was or is planned.
    Planned,
    /// It was not planned but is acceptable.
    Expected,
    /// It should not have been reported.
    Wrong,
}

/// Which anomalies, or a mark for some of them.
#[derive(Debug, Clone, Args)]
pub struct AnomaliesArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// How many hours back.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(i64).range(1..=24 * 31))]
    hours: i64,
    /// Mark a time range instead, so that it is not reported.
    #[arg(long, value_enum, requires_all = ["from", "to"], conflicts_with = "as_of")]
    mark: Option<Mark>,
    /// Only this team.
    #[arg(long, requires = "mark")]
    team: Option<String>,
    /// Only this service.
    #[arg(long, requires = "mark")]
    service: Option<String>,
    /// Start of the time range, e.g. 2026-07-20T07:00:00Z.
    #[arg(long, requires = "mark", value_parser = point_in_time)]
    from: Option<Timestamp>,
    /// Its end.
    #[arg(long, requires = "mark", value_parser = point_in_time)]
    to: Option<Timestamp>,
    /// Why.
    #[arg(long, default_value = "", requires = "mark")]
    note: String,
    #[command(flatten)]
    only: OnlyArgs,
    #[command(flatten)]
    as_of: AsOfArgs,
    #[command(flatten)]
    format: FormatArgs,
}

fn point_in_time(text: &str) -> Result<Timestamp, String> {
    let at: jiff::Timestamp = text.parse().map_err(|_| "expected a point in time, e.g. 2026-07-20T07:00:00Z".to_owned())?;
    Ok(Timestamp(at.as_millisecond()))
}

fn text_of(path: &PathBuf) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|fault| format!("{} cannot be read: {fault}", path.display()))
}

/// `lowtide ledger budget`.
pub(super) async fn budget(args: BudgetArgs) -> Answer {
    let now = args.as_of.now(WallClock.now());
    let only = args.only.of(&LABELS, "budgets")?;
    // A wrong file is rejected before Postgres is contacted.
    let entered = match &args.enter {
        Some(path) => budget::read(&path.display().to_string(), &text_of(path)?)?,
        None => Vec::new(),
    };
    let month = match args.month {
        Some(month) => month,
        None => now.to_rfc3339().chars().take(7).collect::<String>().parse()?,
    };
    let mut connection = args.as_of.connect(&args.database).await?;
    budget::enter(&mut connection, &entered).await?;
    Ok(args.format.print(&budget::report(&mut connection, &month, now, only).await?))
}

/// `lowtide ledger forecast`.
pub(super) async fn forecast(args: ForecastArgs) -> Answer {
    let now = args.as_of.now(WallClock.now());
    if (args.keep || args.outcome) && !args.only.all().is_empty() {
        return Err("forecasts are kept of all spend, so that --outcome compares like with like: leave out --only".into());
    }
    let scenarios = match &args.scenario {
        Some(path) => forecast::read(&path.display().to_string(), &text_of(path)?)?,
        None => Scenario::usual(),
    };
    let mut connection = args.as_of.connect(&args.database).await?;
    if args.outcome {
        let report = forecast::outcome(&mut connection, now).await?;
        return Ok(args.format.print(&with_day_of_knowledge(&mut connection, report).await?));
    }
    let made = forecast::make(&mut connection, now, usize::from(args.months), &scenarios, args.only.all()).await?;
    if args.keep {
        forecast::keep(&mut connection, &made).await?;
    }
    Ok(args.format.print(&with_day_of_knowledge(&mut connection, forecast::report(&made)).await?))
}

/// `lowtide ledger anomalies`.
pub(super) async fn anomalies(args: AnomaliesArgs) -> Answer {
    let only = args.only.of(&[By::Team, By::Service], "anomalies")?;
    if args.mark.is_some() && !only.is_empty() {
        return Err("a mark is for a --team or a --service; --only is for the list".into());
    }
    let mut connection = args.as_of.connect(&args.database).await?;
    let (Some(mark), Some(from), Some(to)) = (args.mark, args.from, args.to) else {
        let found = anomalies::find(&mut connection, args.as_of.now(WallClock.now()), args.hours, only).await?;
        return Ok(args.format.print(&with_day_of_knowledge(&mut connection, anomalies::report(&found)).await?));
    };
    if to <= from || to.since(from) > Millis::from_hours(24 * 366) {
        return Err("--to must be after --from, and at most a year after it".into());
    }
    let word = match mark {
        Mark::Planned => "planned",
        Mark::Expected => "expected",
        Mark::Wrong => "wrong",
    };
    anomalies::mark(&mut connection, (args.team.as_deref(), args.service.as_deref()), (from, to), (word, &args.note)).await?;
    Ok(format!("Marked as {word}: from {} to {}.", from.to_rfc3339(), to.to_rfc3339()))
}
