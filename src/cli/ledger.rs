//! `lowtide ledger`: make the ledger's schema and read its reports.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::ledger::report::{self, By, Days, Report};
use crate::ledger::{connect, migrate};

/// Arguments of `lowtide ledger`.
#[derive(Debug, Args)]
pub struct LedgerArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: LedgerCommand,
}

/// Where the ledger is.
#[derive(Debug, Clone, Args)]
pub struct DatabaseArgs {
    /// Address of the ledger's database, as postgres://user:password@host:5432/database.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: String,
}

/// Which days, and how to print.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// First UTC day, as 2026-07-01; default: 30 days ago.
    #[arg(long)]
    from: Option<String>,
    /// Day after the last; default: tomorrow.
    #[arg(long)]
    to: Option<String>,
    /// What to group by.
    #[arg(long, value_enum, default_value_t = By::Team)]
    by: By,
    #[command(flatten)]
    format: FormatArgs,
}

/// How to print.
#[derive(Debug, Clone, Args)]
pub struct FormatArgs {
    /// Print JSON; figures are strings, exact to the last digit.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV with a header.
    #[arg(long)]
    csv: bool,
}

/// A report without days.
#[derive(Debug, Clone, Args)]
pub struct PlainReportArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// The subcommands of `lowtide ledger`.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Make or update the schema, the roles and the partitions; harmless to repeat. Run as the role that shall own the ledger.
    Migrate(DatabaseArgs),
    /// Spend, what it would have cost otherwise, and what was saved net of boot, idle, drain and moves.
    Savings(ReportArgs),
    /// What was paid, by anything.
    Cost(ReportArgs),
    /// Interruptions by pool of capacity, and how fast work recovered.
    Reliability(PlainReportArgs),
    /// How far the figures can be relied on.
    Trust(PlainReportArgs),
}

/// Runs `lowtide ledger`; prints to standard output, faults to standard error.
pub async fn run(args: LedgerArgs) -> ExitCode {
    match answer(args.command).await {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(fault) => {
            eprintln!("lowtide: {fault}");
            ExitCode::FAILURE
        }
    }
}

async fn answer(command: LedgerCommand) -> Result<String, Box<dyn std::error::Error>> {
    match command {
        LedgerCommand::Migrate(database) => {
            migrate(&database.database_url).await?;
            Ok("The ledger's schema, roles and partitions are up to date.".into())
        }
        LedgerCommand::Savings(args) => {
            let mut connection = connect(&args.database.database_url).await?;
            Ok(args.format.print(&report::savings(&mut connection, &args.days(), args.by).await?))
        }
        LedgerCommand::Cost(args) => {
            let mut connection = connect(&args.database.database_url).await?;
            Ok(args.format.print(&report::cost(&mut connection, &args.days(), args.by).await?))
        }
        LedgerCommand::Reliability(args) => {
            let mut connection = connect(&args.database.database_url).await?;
            Ok(args.format.print(&report::reliability(&mut connection).await?))
        }
        LedgerCommand::Trust(args) => {
            let mut connection = connect(&args.database.database_url).await?;
            Ok(args.format.print(&report::trust(&mut connection).await?))
        }
    }
}

impl ReportArgs {
    fn days(&self) -> Days {
        Days { from: self.from.clone(), to: self.to.clone() }
    }
}

impl FormatArgs {
    fn print(&self, report: &Report) -> String {
        if self.json {
            format!("{:#}", report.to_json())
        } else if self.csv {
            report.to_csv()
        } else {
            report.to_text()
        }
    }
}
