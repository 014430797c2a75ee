//! `lowtide ledger`: create the ledger's schema, import what AWS and others report, and read its reports.

mod args;
pub(super) mod fetch;
mod gpu_use;
mod import;
mod plans;
mod recommendations;
mod retag;
mod upkeep;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

pub use args::{AsOfArgs, DatabaseArgs};
use args::{DayArgs, FormatArgs, OnlyArgs, ReportArgs, TrustArgs};

use super::answer::tell;
use super::explain::ExplainArgs;
use crate::core::workload::need::UsageUnit;
use crate::ledger::report::{
    self, By, EconomicsBy, EconomicsOnly, Month, Only, RefusalsBy, RefusalsOnly, ReliabilityBy, ReliabilityOnly, VarianceBy, VarianceKey,
    View,
};
use crate::ledger::table_file::Format;
use crate::ledger::{focus, migrate, reconcile};

/// A subcommand's answer: text for people or machines, or why there is none.
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
    #[command(flatten)]
    as_of: AsOfArgs,
    /// New file to write to instead of printing: required for Parquet. Only for focus-1-2.
    #[arg(long)]
    output: Option<PathBuf>,
    /// Format of the file.
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

/// Which month to reconcile with the bill.
#[derive(Debug, Clone, Args)]
pub struct ReconcileArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Calendar month (UTC), e.g. 2026-07; several consecutive ones, separated by commas.
    #[arg(long, value_delimiter = ',', required = true)]
    month: Vec<Month>,
    #[command(flatten)]
    as_of: AsOfArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Cost of what, and for whom.
#[derive(Debug, Clone, Args)]
pub struct UnitCostArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    days: DayArgs,
    /// Of what: requests, transactions, tokens, tokens_in, tokens_out or users (user-hours).
    #[arg(long, default_value = "requests", value_parser = unit_of)]
    unit: UsageUnit,
    /// What to group by: workload, day, month or labels; several, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [By::Workload])]
    by: Vec<By>,
    #[command(flatten)]
    only: OnlyArgs,
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
    /// By endpoint or model, or percentiles over endpoints and hours; by month, or by month and one of them, separated by a comma.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [EconomicsBy::Endpoint])]
    by: Vec<EconomicsBy>,
    /// Only what has this label, workload or model, e.g. team=search; may be repeated: several values of one key are alternatives, several keys must all match.
    #[arg(long)]
    only: Vec<EconomicsOnly>,
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

/// Which days, and how machines are grouped.
#[derive(Debug, Clone, Args)]
pub struct ReliabilityArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    days: DayArgs,
    /// By capacity pool (zone, type and market), or by some of these, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [ReliabilityBy::Pool])]
    by: Vec<ReliabilityBy>,
    /// Only machines with this value, e.g. region=us-east-1; may be repeated: several values of one key are alternatives, several keys must all match.
    #[arg(long)]
    only: Vec<ReliabilityOnly>,
    #[command(flatten)]
    as_of: AsOfArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Which refused offers, and how they are grouped.
#[derive(Debug, Clone, Args)]
pub struct RefusalsArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    days: DayArgs,
    /// By reason, instance-type, zone, region, capacity-type or day; several, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [RefusalsBy::Reason])]
    by: Vec<RefusalsBy>,
    /// Only offers with this value, e.g. reason=cooling-down; may be repeated: several values of one key are alternatives, several keys must all match.
    #[arg(long)]
    only: Vec<RefusalsOnly>,
    #[command(flatten)]
    as_of: AsOfArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Which months to compare.
#[derive(Debug, Clone, Args)]
pub struct VarianceArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// The month to explain (UTC), e.g. 2026-07.
    #[arg(long)]
    to: Month,
    /// The month to compare it with; default: the month before.
    #[arg(long)]
    from: Option<Month>,
    /// By step, or by workload, labels, region, instance-type or capacity-type; several of the latter, separated by commas. Default: step.
    #[arg(long, value_delimiter = ',')]
    by: Vec<VarianceKey>,
    #[command(flatten)]
    only: OnlyArgs,
    #[command(flatten)]
    as_of: AsOfArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// The subcommands of `lowtide ledger`.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Create or update the schema, the roles and the partitions; safe to repeat. Run as the role that will own the ledger.
    Migrate(DatabaseArgs),
    /// Spend, what it would have cost otherwise, and what was saved net of boot, idle, drain, moves, lost work and egress.
    Savings(ReportArgs),
    /// What was paid, by any grouping.
    Cost(ReportArgs),
    /// Why a machine was bought or work moved, like `lowtide explain`.
    Explain(ExplainArgs),
    /// Why a month's cost differs from another's, in ten steps that add up, each with its reasons.
    Variance(VarianceArgs),
    /// What a request, transaction, token or user-hour cost: mean, percentiles by units, trend, and margin where revenue is known.
    UnitCost(UnitCostArgs),
    /// What AI costs by endpoint, model or month: per request, per 1,000 tokens in and out, per active user; machines, vendors' APIs, transfer and storage
    /// apart; as a share of revenue, and what is left.
    UnitEconomics(UnitEconomicsArgs),
    /// What useful pod time cost while its GPUs were active, while they were held and idle, and while nobody read them; or two spans of time compared.
    GpuUse(gpu_use::GpuUseArgs),
    /// Fewer replicas, a smaller or shared GPU, or batch instead of serving, by how GPUs were used: what each saves on today's market; or what came of those
    /// that were kept two weeks before.
    Recommendations(recommendations::RecommendationsArgs),
    /// Interruptions by pool of capacity, and how fast work recovered.
    Reliability(ReliabilityArgs),
    /// Which offers were refused, and why, of those that decisions kept.
    Refusals(RefusalsArgs),
    /// Budgets: enter them, compare spend with them, and see when one will be used up.
    Budget(plans::BudgetArgs),
    /// What the next months will cost, as ranges by scenario and component, with how often such ranges were right.
    Forecast(plans::ForecastArgs),
    /// Services whose cost is unusual, and why; or mark a time range as planned.
    Anomalies(plans::AnomaliesArgs),
    /// How far the figures of these days can be trusted: what they rest on, what is not attributed, what is missing.
    Trust(TrustArgs),
    /// Print a view as CSV, FOCUS 1.2 by default.
    Export(ExportArgs),
    /// Check a FOCUS 1.2 file (CSV or Parquet): columns, nulls, formats, closed lists, exact products, and what our columns promise. Needs
    /// no database.
    ValidateFocus(ValidateFocusArgs),
    /// Import what AWS billed, what workloads produced and earned, and other costs. Safe to repeat.
    Import(import::ImportArgs),
    /// Fetch new versions of a Cost and Usage Report, or new files of the spot data feed, from the bucket that AWS writes them to, and import them. A version
    /// is fetched once; the operator does so every hour where the chart asks for it.
    Fetch(fetch::FetchArgs),
    /// What was imported: versions of bills, feeds, usage, revenue and other costs, by whom, and from which files.
    Statements(import::StatementsArgs),
    /// Retract a statement: the previous one is in force again, and the difference is posted.
    Retract(import::RetractArgs),
    /// Correct labels of past days: cost, savings and revenue of a workload move to the team that should have had them, by postings that say why.
    Retag(retag::RetagArgs),
    /// Ask Prometheus what workloads produced in the last hours; the operator does so every hour where it has Prometheus' address.
    CollectUsage(upkeep::CollectUsageArgs),
    /// Reconcile a month with what AWS reported: what is confirmed, what was trued up and why, what is unexplained.
    Reconcile(ReconcileArgs),
    /// Post what has settled since the last time; the operator does so every minute. Run as a member of lowtide_writer.
    Post(DatabaseArgs),
    /// Seal the rows that have settled since the last seal, and print the root: keep it somewhere else. Run as a member of lowtide_sealer.
    Seal(DatabaseArgs),
    /// Export months older than the retention, with their seals, read the files back, then drop the months. Run as the owner.
    Archive(upkeep::ArchiveArgs),
    /// Recompute every hash, seal and posting, and compare views, functions and privileges with the state after the last migration; fails
    /// and lists what was altered, is missing or was added.
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
            Ok(args.format.print(&report::savings(&mut connection, &args.days.days()?, args.by, args.only.all()).await?))
        }
        LedgerCommand::Cost(args) => {
            let mut connection = args.as_of.connect(&args.database).await?;
            Ok(args.format.print(&report::cost(&mut connection, &args.days.days()?, args.by, args.only.all()).await?))
        }
        LedgerCommand::Explain(args) => super::explain::answer(args.subject).await,
        LedgerCommand::Variance(args) => {
            let mut connection = args.as_of.connect(&args.database).await?;
            let from = args.from.unwrap_or_else(|| args.to.previous());
            Ok(args.format.print(
                &report::variance(
                    &mut connection,
                    &from,
                    &args.to,
                    VarianceBy::of(&args.by)?,
                    args.only.all(),
                    args.as_of.now(upkeep::now()),
                )
                .await?,
            ))
        }
        LedgerCommand::UnitCost(args) => {
            if !args.by.iter().copied().chain(args.only.all().iter().map(Only::by)).all(report::groups_unit_costs) {
                let keys = "workload, namespace, day, month, team, service, environment, cost-center, product-area and component";
                return Err(format!("cost per unit is known by {keys}: choose of these for --by and --only").into());
            }
            let mut connection = args.as_of.connect(&args.database).await?;
            Ok(args.format.print(&report::unit_costs(&mut connection, &args.days.days()?, args.unit, args.by, args.only.all()).await?))
        }
        LedgerCommand::UnitEconomics(args) => {
            let mut connection = args.as_of.connect(&args.database).await?;
            Ok(args.format.print(&report::unit_economics(&mut connection, &args.days.days()?, &args.by, &args.only).await?))
        }
        LedgerCommand::GpuUse(args) => gpu_use::answer(args).await,
        LedgerCommand::Recommendations(args) => recommendations::answer(args).await,
        LedgerCommand::Reliability(args) => {
            let mut connection = args.as_of.connect(&args.database).await?;
            Ok(args.format.print(&report::reliability(&mut connection, &args.days.days()?, &args.by, &args.only).await?))
        }
        LedgerCommand::Refusals(args) => {
            let mut connection = args.as_of.connect(&args.database).await?;
            Ok(args.format.print(&report::refusals(&mut connection, &args.days.days()?, &args.by, &args.only).await?))
        }
        LedgerCommand::Budget(args) => plans::budget(args).await,
        LedgerCommand::Forecast(args) => plans::forecast(args).await,
        LedgerCommand::Anomalies(args) => plans::anomalies(args).await,
        LedgerCommand::Trust(args) => {
            let mut connection = args.as_of.connect(&args.database).await?;
            Ok(args.format.print(&report::trust(&mut connection, &args.days.days()?, args.only.all()).await?))
        }
        LedgerCommand::Export(args) => export(args).await,
        LedgerCommand::ValidateFocus(args) => validate_focus(&args),
        LedgerCommand::Import(args) => import::answer(args).await,
        LedgerCommand::Fetch(args) => fetch::answer(args).await,
        LedgerCommand::Statements(args) => import::statements(args).await,
        LedgerCommand::Retract(args) => import::take_back(args).await,
        LedgerCommand::Retag(args) => retag::answer(args).await,
        LedgerCommand::CollectUsage(args) => upkeep::collect_usage(args).await,
        LedgerCommand::Reconcile(args) => {
            let mut connection = args.as_of.connect(&args.database).await?;
            Ok(args.format.print(&reconcile::of_months(&mut connection, &args.month).await?))
        }
        LedgerCommand::Post(database) => upkeep::post(&database).await,
        LedgerCommand::Seal(database) => upkeep::seal(&database).await,
        LedgerCommand::Archive(args) => upkeep::archive(args).await,
        LedgerCommand::Verify(args) => upkeep::verify(&args).await,
    }
}

async fn export(args: ExportArgs) -> Answer {
    let mut connection = args.as_of.connect(&args.database).await?;
    let Some(path) = &args.output else {
        return Ok(report::export(&mut connection, args.view, &args.days.days()?).await?.to_csv().trim_end().to_owned());
    };
    if args.view != View::Focus12 {
        return Err("only focus-1-2 is written to files; print the others (--view ...) and redirect".into());
    }
    let _progress = upkeep::working("exporting");
    let rows = focus::export(&mut connection, &args.days.days()?, args.billing_account.as_deref(), path, args.format).await?;
    Ok(format!("Wrote {rows} rows to {}.", path.display()))
}

fn validate_focus(args: &ValidateFocusArgs) -> Answer {
    let (rows, findings) = focus::validate(&args.file)?;
    if findings.is_empty() {
        return Ok(format!("{}: {rows} rows, all valid FOCUS 1.2 and valid in lowtide's own columns.", args.file.display()));
    }
    let line = |finding: &focus::Finding| match finding.rows {
        0 => finding.what.clone(),
        n => format!("{}: {n} rows, the first is {} ({:?})", finding.what, finding.first, finding.example),
    };
    let lines: Vec<String> = findings.iter().map(line).collect();
    Err(format!("{}: {rows} rows break {} rules:\n{}", args.file.display(), findings.len(), lines.join("\n")).into())
}
