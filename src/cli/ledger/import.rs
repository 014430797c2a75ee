//! `lowtide ledger import`, `statements` and `retract`: external statements, into the ledger and out of it again.
//!
//! Decides: the wording. Each import is posted at once, in the same transaction, so that its effect is shown by team.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use uuid::Uuid;

use super::args::{AsOfArgs, FormatArgs};
use super::upkeep::{now, working};
use super::{Answer, DatabaseArgs};
use crate::ledger::connect;
use crate::ledger::import::{
    Check, Checks, Format, Imported, Kind, Mapping, OfWorkload, Options, Projects, Rates, dry_run, dry_run_of_retraction, import, retract,
};
use crate::ledger::report::{self, Listed, Month};

/// Arguments of `lowtide ledger import`.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// What the files are.
    #[command(subcommand)]
    kind: What,
}

/// Files to import.
#[derive(Debug, Clone, Args)]
pub struct FileArgs {
    /// Files or folders of files: CSV or Parquet, plain or in gzip or zip. A command imports everything or nothing.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Show what would change, by team, without changing anything.
    #[arg(long)]
    dry_run: bool,
    /// Import despite this failed check; may be repeated.
    #[arg(long, value_enum)]
    accept: Vec<Check>,
    /// A file of rates for other currencies: day,currency,usd_per_unit.
    #[arg(long)]
    rates: Option<PathBuf>,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Files that do not name their source.
#[derive(Debug, Clone, Args)]
pub struct SourceArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Name of the source. A newer version of a period replaces the older one from the same source.
    #[arg(long)]
    source: Option<String>,
}

/// What files can be.
#[derive(Debug, Clone, Subcommand)]
enum What {
    /// The spot data feed: what each instance-hour cost. Differences are posted with their cause.
    Feed(FileArgs),
    /// A Cost and Usage Report (CUR 2.0 or older, also from Athena). A newer version of a month replaces the whole older one.
    Cur {
        #[command(flatten)]
        files: FileArgs,
        /// The files are the complete month, although no manifest says so.
        #[arg(long)]
        complete: bool,
    },
    /// CSV with `hour,workload` and any of `model,requests,transactions,tokens,tokens_in,tokens_out,users,monthly_users`; workload is namespace/name;
    /// monthly_users belongs in the first hour of a month. A version is a UTC day.
    Usage(SourceArgs),
    /// Usage of AI vendors by model: OpenAI's (pages of its usage API, or the CSV of its dashboard) and Anthropic's (pages of its usage report, or the CSV of
    /// its console). Requests, and tokens in and out. A version is a UTC day.
    VendorUsage {
        #[command(flatten)]
        files: SourceArgs,
        /// Whose usage it is: CSV with `field,value,workload`, where field is project, workspace, api_key, user or model; the first line that matches applies.
        /// Usage that matches none belongs to the workload VENDOR/PROJECT, as in openai/proj_a1.
        #[arg(long)]
        projects: Option<PathBuf>,
    },
    /// CSV with `period,workload,revenue_usd`; period is a day or a month, which is spread over its days. A version is a month.
    Revenue(SourceArgs),
    /// CSV with `period,item,cost_usd` and any of `currency,workload,team,service,environment,cost_center,product_area,component,model`: what
    /// lowtide itself runs on, purchased APIs. A version is a month. Posted on line `overhead`.
    Costs(SourceArgs),
    /// FOCUS 1.0 to 1.3 from any provider, as other costs. A version is a billing period of a billing account.
    Focus {
        #[command(flatten)]
        files: SourceArgs,
        /// Which of their tags corresponds to which of our labels: CSV with `label,tag`, the more important first. Default: tags with our
        /// names.
        #[arg(long)]
        mapping: Option<PathBuf>,
    },
}

/// Runs one import.
pub async fn answer(args: ImportArgs) -> Answer {
    let mapping = match &args.kind {
        What::Focus { mapping: Some(file), .. } => Mapping::read(file)?,
        _ => Mapping::default(),
    };
    let projects = match &args.kind {
        What::VendorUsage { projects: Some(file), .. } => Projects::read(file)?,
        _ => Projects::default(),
    };
    let (format, files, source, complete) = match &args.kind {
        What::Feed(files) => (Format::Feed, files, None, false),
        What::Cur { files, complete } => (Format::Cur, files, None, *complete),
        What::Usage(args) => (Format::Usage, &args.files, args.source.clone(), false),
        What::VendorUsage { files, .. } => (Format::VendorUsage(&projects), &files.files, files.source.clone(), false),
        What::Revenue(args) => (Format::Revenue, &args.files, args.source.clone(), false),
        What::Costs(args) => (Format::Costs, &args.files, args.source.clone(), false),
        What::Focus { files, .. } => (Format::Focus(&mapping), &files.files, files.source.clone(), false),
    };
    let rates = files.rates.as_deref().map(Rates::read).transpose()?.unwrap_or_default();
    let options = Options { checks: Checks::accepting(files.accept.iter().copied()), complete, source, rates };
    let mut connection = connect(&files.database.database_url).await?;
    let _progress = working(if files.dry_run { "computing what would change" } else { "importing" });
    if files.dry_run {
        let would = dry_run(&mut connection, format, &files.files, options, now()).await?;
        return Ok(format!("Nothing was written. This would happen:\n{}", summary(&would)));
    }
    Ok(summary(&import(&mut connection, format, &files.files, options, now()).await?))
}

pub(super) fn summary(imported: &Imported) -> String {
    let mut lines: Vec<String> = match imported.statements.as_slice() {
        [] => vec!["The files have no lines.".into()],
        some => some.iter().map(|statement| format!("{statement}. ({})", statement.id)).collect(),
    };
    if imported.left_out > 0 {
        lines.push(format!(
            "{} rows are, wholly or in part, about our own machines, whose bill is imported separately: that was left out.",
            imported.left_out
        ));
    }
    let only_others = imported.by_team.is_empty() && imported.posted.rows == 0 && !imported.by_workload.is_empty();
    if !only_others {
        lines.push(changed(&imported.by_team, imported.posted.rows));
    }
    if !imported.by_workload.is_empty() {
        lines.push("Usage and revenue by team and workload change by:".into());
        let widest = |of: fn(&OfWorkload) -> usize| imported.by_workload.iter().map(of).max().unwrap_or_default();
        let (team, workload) = (widest(|row| row.team.len()), widest(|row| row.workload.len()));
        let of = widest(|row| row.of.len());
        lines.extend(
            imported
                .by_workload
                .iter()
                .map(|row| format!("  {:team$}  {:workload$}  {:of$}  {:>16}", row.team, row.workload, row.of, row.change)),
        );
    }
    lines.join("\n")
}

pub(super) fn changed(by_team: &[(String, String)], rows: usize) -> String {
    if by_team.is_empty() {
        return match rows {
            0 => "No cost changes.".into(),
            rows => format!("{rows} rows are posted; no team's cost changes."),
        };
    }
    let width = by_team.iter().map(|(team, _)| team.len()).max().unwrap_or_default();
    let lines: Vec<String> = by_team.iter().map(|(team, usd)| format!("  {team:width$}  {usd:>16}")).collect();
    format!("Cost by team changes by, in dollars:\n{}", lines.join("\n"))
}

/// What to list.
#[derive(Debug, Clone, Args)]
pub struct StatementsArgs {
    /// Only those about this calendar month, e.g. 2026-07; several consecutive ones, separated by commas. Default: all.
    #[arg(long, value_delimiter = ',')]
    month: Vec<Month>,
    /// Only of this kind.
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// Only those in force.
    #[arg(long)]
    held: bool,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    as_of: AsOfArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// `lowtide ledger statements`.
pub async fn statements(args: StatementsArgs) -> Answer {
    let mut connection = args.as_of.connect(&args.database).await?;
    let listed = Listed { kind: args.kind, held: args.held, of: Month::days_of(&args.month)? };
    Ok(args.format.print(&report::statements(&mut connection, &listed).await?))
}

/// What to retract.
#[derive(Debug, Clone, Args)]
pub struct RetractArgs {
    /// Id of the statement, as `lowtide ledger statements` lists it.
    statement: Uuid,
    /// Why: kept with who and when.
    #[arg(long)]
    reason: String,
    /// Show what would change, by team, without changing anything.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// `lowtide ledger retract`.
pub async fn take_back(args: RetractArgs) -> Answer {
    let mut connection = connect(&args.database.database_url).await?;
    let _progress = working(if args.dry_run { "computing what would change" } else { "retracting" });
    let done = if args.dry_run {
        dry_run_of_retraction(&mut connection, args.statement, &args.reason, now()).await?
    } else {
        retract(&mut connection, args.statement, &args.reason, now()).await?
    };
    let holds = done.holds.map_or_else(|| "none is in force now".to_owned(), |version| format!("version {version} is in force again"));
    let heading = if args.dry_run { "Nothing was written. This would happen:\n" } else { "" };
    Ok(format!(
        "{heading}Version {} of {} of {} was retracted: {holds}.\n{}",
        done.version,
        done.cell.kind.as_str(),
        done.cell.source,
        changed(&done.by_team, done.posted.rows)
    ))
}
