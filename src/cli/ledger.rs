//! `lowtide ledger`: make the ledger's schema and read its reports.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::answer::tell;
use crate::ledger::report::{self, By, Days, Report, View};
use crate::ledger::{connect, migrate, seal};

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
    #[arg(long, value_parser = utc_day)]
    from: Option<String>,
    /// Day after the last; default: tomorrow.
    #[arg(long, value_parser = utc_day)]
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

/// What to export.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Which view.
    #[arg(long, value_enum, default_value_t = View::Focus12)]
    view: View,
    /// First UTC day, as 2026-07-01; default: 30 days ago.
    #[arg(long, value_parser = utc_day)]
    from: Option<String>,
    /// Day after the last; default: tomorrow.
    #[arg(long, value_parser = utc_day)]
    to: Option<String>,
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
    /// Print a view as CSV, FOCUS 1.2 by default.
    Export(ExportArgs),
    /// Seal the rows that settled since the last seal. Run as a member of lowtide_sealer, often; the root is worth keeping elsewhere.
    Seal(DatabaseArgs),
    /// Recompute every hash and seal; fails and names the rows when one was altered, is missing or was added.
    Verify(DatabaseArgs),
}

/// Runs `lowtide ledger`; prints to standard output, faults to standard error.
pub async fn run(args: LedgerArgs) -> ExitCode {
    tell(answer(args.command).await)
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
        LedgerCommand::Export(args) => {
            let mut connection = connect(&args.database.database_url).await?;
            let days = Days { from: args.from, to: args.to };
            Ok(report::export(&mut connection, args.view, &days).await?.to_csv().trim_end().to_owned())
        }
        LedgerCommand::Seal(database) => {
            let rows = seal::seal(&mut connect(&database.database_url).await?).await?;
            Ok(if rows == 0 { "Nothing has settled since the last seal.".into() } else { format!("Sealed {rows} rows.") })
        }
        LedgerCommand::Verify(database) => verified(&seal::verify(&mut connect(&database.database_url).await?).await?),
    }
}

/// Refuses what is no calendar day before Postgres has to.
fn utc_day(text: &str) -> Result<String, String> {
    let day: jiff::civil::Date = text.parse().map_err(|_| "expected a calendar day as 2026-07-01".to_owned())?;
    Ok(day.to_string())
}

fn verified(outcome: &seal::Verification) -> Result<String, Box<dyn std::error::Error>> {
    let seal::Verification { seals, sealed_rows, unsealed_rows, last_root, findings } = outcome;
    if findings.is_empty() {
        return Ok(format!(
            "Nothing was altered, removed or added: {sealed_rows} rows under {seals} seals, {unsealed_rows} not sealed yet.\nLast root: {last_root}"
        ));
    }
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    Err(format!("the ledger is not what was written; {} findings:\n{}", lines.len(), lines.join("\n")).into())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_that_is_none_is_refused_before_postgres_is_asked() {
        assert_eq!(utc_day("2026-07-01").as_deref(), Ok("2026-07-01"));
        for bad in ["2026-99-01", "2026-02-30", "yesterday", ""] {
            assert!(utc_day(bad).is_err(), "{bad}");
        }
    }
}
