//! `lowtide ledger`: make the ledger's schema, bring in what AWS and others say, and read its reports.

mod args;
mod import;
mod plans;
mod retag;
mod upkeep;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

pub use args::DatabaseArgs;
use args::{AsOfArgs, DayArgs, FormatArgs, ReportArgs, TrustArgs};

use super::answer::tell;
use super::explain::ExplainArgs;
use crate::core::workload::need::UsageUnit;
use crate::ledger::report::{self, By, EconomicsBy, Month, ReliabilityBy, VarianceBy, View};
use crate::ledger::table_file::Format;
use crate::ledger::{connect, focus, migrate, reconcile};

/// What a subcommand answers: text for people or machines, or why there is none.
type Answer = Result<String, Box<dyn std::error::Error>>;

/// Arguments of `lowtide ledger`.
#[derive(Debug, Args)]
pub struct LedgerArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: LedgerCommand,
}

/// What to export.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Which view.
    #[arg(long, value_enum, default_value_t = View::Focus12)]
    view: View,
    #[command(flatten)]
    days: DayArgs,
    /// A new file to write instead of printing: needed for Parquet. Only for focus-1-2.
    #[arg(long)]
    output: Option<PathBuf>,
    /// How the file is written.
    #[arg(long, value_enum, default_value_t = Format::Csv, requires = "output")]
    format: Format,
    /// The AWS account of rows whose bill is not imported, for FOCUS' BillingAccountId.
    #[arg(long)]
    billing_account: Option<String>,
}

/// What to check.
#[derive(Debug, Clone, Args)]
pub struct ValidateFocusArgs {
    /// A CSV or Parquet file.
    file: PathBuf,
}

/// Which month to hold against the bill.
#[derive(Debug, Clone, Args)]
pub struct ReconcileArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Calendar month (UTC), as 2026-07.
    #[arg(long)]
    month: Month,
    #[command(flatten)]
    format: FormatArgs,
}

/// What of, and by whom.
#[derive(Debug, Clone, Args)]
pub struct UnitCostArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    days: DayArgs,
    /// Of what: requests, transactions, tokens, tokens_in, tokens_out or users (user-hours).
    #[arg(long, default_value = "requests", value_parser = unit_of)]
    unit: UsageUnit,
    /// By workload, team, service or component.
    #[arg(long, value_enum, default_value_t = By::Workload)]
    by: By,
    #[command(flatten)]
    as_of: AsOfArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Of which days, by what.
#[derive(Debug, Clone, Args)]
pub struct UnitEconomicsArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    days: DayArgs,
    /// By endpoint, model or month; or percentiles over endpoints and hours.
    #[arg(long, value_enum, default_value_t = EconomicsBy::Endpoint)]
    by: EconomicsBy,
    #[command(flatten)]
    as_of: AsOfArgs,
    #[command(flatten)]
    format: FormatArgs,
}

fn unit_of(text: &str) -> Result<UsageUnit, String> {
    let unit = UsageUnit::of(text).filter(|unit| *unit != UsageUnit::MonthlyUsers);
    unit.ok_or_else(|| {
        "expected requests, transactions, tokens, tokens_in, tokens_out or users (users of a month: unit-economics)".to_owned()
    })
}

/// Which days, and how machines are put together.
#[derive(Debug, Clone, Args)]
pub struct ReliabilityArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    days: DayArgs,
    /// By pool of capacity (zone, type and market), or by one of these.
    #[arg(long, value_enum, default_value_t = ReliabilityBy::Pool)]
    by: ReliabilityBy,
    #[command(flatten)]
    format: FormatArgs,
}

/// Which months to compare.
#[derive(Debug, Clone, Args)]
pub struct VarianceArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// The month that is explained (UTC), as 2026-07.
    #[arg(long)]
    to: Month,
    /// The month it is compared with; default: the month before.
    #[arg(long)]
    from: Option<Month>,
    /// Steps over all workloads, or workloads.
    #[arg(long, value_enum, default_value_t = VarianceBy::Step)]
    by: VarianceBy,
    #[command(flatten)]
    as_of: AsOfArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// The subcommands of `lowtide ledger`.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Make or update the schema, the roles and the partitions; harmless to repeat. Run as the role that shall own the ledger.
    Migrate(DatabaseArgs),
    /// Spend, what it would have cost otherwise, and what was saved net of boot, idle, drain, moves, lost work and egress.
    Savings(ReportArgs),
    /// What was paid, by anything.
    Cost(ReportArgs),
    /// Why a machine was bought or work moved, as `lowtide explain`.
    Explain(ExplainArgs),
    /// Why a month cost other than another, in ten steps that add up, each with its reasons.
    Variance(VarianceArgs),
    /// What a request, transaction, token or user-hour cost: mean, percentiles by units, trend, and margin where revenue is known.
    UnitCost(UnitCostArgs),
    /// What AI costs by endpoint, model or month: per request, per 1,000 tokens in and out, per active user; machines, vendors' APIs, transfer and storage
    /// apart; as a share of revenue, and what is left.
    UnitEconomics(UnitEconomicsArgs),
    /// Interruptions by pool of capacity, and how fast work recovered.
    Reliability(ReliabilityArgs),
    /// Budgets: enters them, and holds what was spent against them; says when one will be used up.
    Budget(plans::BudgetArgs),
    /// What the next months will cost, as ranges by scenario and component, with how often such ranges held.
    Forecast(plans::ForecastArgs),
    /// Services whose cost is out of the ordinary, and why; or marks a span as planned.
    Anomalies(plans::AnomaliesArgs),
    /// How far the figures of these days can be relied on: whose word they rest on, what is not attributed, what is missing.
    Trust(TrustArgs),
    /// Print a view as CSV, FOCUS 1.2 by default.
    Export(ExportArgs),
    /// Check a FOCUS 1.2 file (CSV or Parquet): columns, nulls, formats, closed lists, exact products, and what our columns promise. Needs
    /// no database.
    ValidateFocus(ValidateFocusArgs),
    /// Bring in what AWS billed, what workloads produced and earned, and other costs. Harmless to repeat.
    Import(import::ImportArgs),
    /// What was taken from outside: versions of bills, feeds, usage, revenue and other costs, by whom, and from which files.
    Statements(import::StatementsArgs),
    /// Take a statement back: what held before it holds again, and the difference is posted.
    Retract(import::RetractArgs),
    /// Correct labels of past days: cost, savings and revenue of a workload move to the team that should have had them, by postings that say why.
    Retag(retag::RetagArgs),
    /// Ask Prometheus what workloads produced in the last hours; the operator does so every hour where it has Prometheus' address.
    CollectUsage(upkeep::CollectUsageArgs),
    /// Hold a month against what AWS said: what is confirmed, what was trued up and why, what is unexplained.
    Reconcile(ReconcileArgs),
    /// Post what settled since the last time; the operator does so every minute. Run as a member of lowtide_writer.
    Post(DatabaseArgs),
    /// Seal the rows that settled since the last seal, and print the root, which is worth keeping elsewhere. Run as a member of
    /// lowtide_sealer.
    Seal(DatabaseArgs),
    /// Export months that are older than what is kept, with their seals, read the files back, then drop the months. Run as the owner.
    Archive(upkeep::ArchiveArgs),
    /// Recompute every hash, seal and posting, and compare views, functions and rights with what the last migration left; fails and names what was altered,
    /// is missing or was added.
    Verify(upkeep::VerifyArgs),
}

/// Runs `lowtide ledger`; prints to standard output, faults to standard error.
pub async fn run(args: LedgerArgs) -> ExitCode {
    tell(answer(args.command).await)
}

async fn answer(command: LedgerCommand) -> Answer {
    match command {
        LedgerCommand::Migrate(database) => {
            migrate(&database.database_url).await?;
            Ok("The ledger's schema, roles and partitions are up to date.".into())
        }
        LedgerCommand::Savings(args) => {
            let mut connection = args.as_of.connect(&args.database).await?;
            Ok(args.format.print(&report::savings(&mut connection, &args.days.days(), args.by, &args.only).await?))
        }
        LedgerCommand::Cost(args) => {
            let mut connection = args.as_of.connect(&args.database).await?;
            Ok(args.format.print(&report::cost(&mut connection, &args.days.days(), args.by, &args.only).await?))
        }
        LedgerCommand::Explain(args) => super::explain::answer(args.subject).await,
        LedgerCommand::Variance(args) => {
            let mut connection = args.as_of.connect(&args.database).await?;
            let from = args.from.unwrap_or_else(|| args.to.previous());
            Ok(args.format.print(&report::variance(&mut connection, &from, &args.to, args.by, upkeep::now()).await?))
        }
        LedgerCommand::UnitCost(args) => {
            if !report::groups_unit_costs(args.by) {
                return Err("cost per unit is known by workload, team, service or component: choose one of these for --by".into());
            }
            let mut connection = args.as_of.connect(&args.database).await?;
            Ok(args.format.print(&report::unit_costs(&mut connection, &args.days.days(), args.unit, args.by).await?))
        }
        LedgerCommand::UnitEconomics(args) => {
            let mut connection = args.as_of.connect(&args.database).await?;
            Ok(args.format.print(&report::unit_economics(&mut connection, &args.days.days(), args.by).await?))
        }
        LedgerCommand::Reliability(args) => {
            let mut connection = connect(&args.database.database_url).await?;
            Ok(args.format.print(&report::reliability(&mut connection, &args.days.days(), args.by).await?))
        }
        LedgerCommand::Budget(args) => plans::budget(args).await,
        LedgerCommand::Forecast(args) => plans::forecast(args).await,
        LedgerCommand::Anomalies(args) => plans::anomalies(args).await,
        LedgerCommand::Trust(args) => {
            let mut connection = connect(&args.database.database_url).await?;
            Ok(args.format.print(&report::trust(&mut connection, &args.days.days()).await?))
        }
        LedgerCommand::Export(args) => export(args).await,
        LedgerCommand::ValidateFocus(args) => validate_focus(&args),
        LedgerCommand::Import(args) => import::answer(args).await,
        LedgerCommand::Statements(args) => import::statements(args).await,
        LedgerCommand::Retract(args) => import::take_back(args).await,
        LedgerCommand::Retag(args) => retag::answer(args).await,
        LedgerCommand::CollectUsage(args) => upkeep::collect_usage(args).await,
        LedgerCommand::Reconcile(args) => {
            let mut connection = connect(&args.database.database_url).await?;
            Ok(args.format.print(&reconcile::reconcile(&mut connection, &args.month).await?))
        }
        LedgerCommand::Post(database) => upkeep::post(&database).await,
        LedgerCommand::Seal(database) => upkeep::seal(&database).await,
        LedgerCommand::Archive(args) => upkeep::archive(args).await,
        LedgerCommand::Verify(args) => upkeep::verify(&args).await,
    }
}

async fn export(args: ExportArgs) -> Answer {
    let mut connection = connect(&args.database.database_url).await?;
    let Some(path) = &args.output else {
        return Ok(report::export(&mut connection, args.view, &args.days.days()).await?.to_csv().trim_end().to_owned());
    };
    if args.view != View::Focus12 {
        return Err("only focus-1-2 is written to files; print the others (--view ...) and redirect".into());
    }
    let _progress = upkeep::working("exporting");
    let rows = focus::export(&mut connection, &args.days.days(), args.billing_account.as_deref(), path, args.format).await?;
    Ok(format!("Wrote {rows} rows to {}.", path.display()))
}

fn validate_focus(args: &ValidateFocusArgs) -> Answer {
    let (rows, findings) = focus::validate(&args.file)?;
    if findings.is_empty() {
        return Ok(format!("{}: {rows} rows, all as FOCUS 1.2 and lowtide's own columns ask.", args.file.display()));
    }
    let line = |finding: &focus::Finding| match finding.rows {
        0 => finding.what.clone(),
        n => format!("{}: {n} rows, the first is {} ({:?})", finding.what, finding.first, finding.example),
    };
    let lines: Vec<String> = findings.iter().map(line).collect();
    Err(format!("{}: {rows} rows break {} rules:\n{}", args.file.display(), findings.len(), lines.join("\n")).into())
}
