//! Arguments of the subcommands of `lowtide ledger`: where the ledger is, which days, how to print.
//!
//! Decides: their syntax, and what is refused.

use clap::Args;

use crate::ledger::report::{By, Days, Month, Only, Report};

/// The ledger's database.
#[derive(Debug, Clone, Args)]
pub struct DatabaseArgs {
    /// URL of the ledger's database, e.g. postgres://user:password@host:5432/database.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: String,
}

/// Which days.
#[derive(Debug, Clone, Args)]
pub struct DayArgs {
    /// First UTC day, e.g. 2026-07-01; default: 30 days ago.
    #[arg(long, value_parser = utc_day)]
    from: Option<String>,
    /// Day after the last; default: tomorrow.
    #[arg(long, value_parser = utc_day)]
    to: Option<String>,
    /// A calendar month instead, e.g. 2026-07.
    #[arg(long, conflicts_with_all = ["from", "to"])]
    month: Option<Month>,
}

impl DayArgs {
    /// In the form the reports take.
    pub fn days(&self) -> Days {
        self.month.map_or_else(|| Days { from: self.from.clone(), to: self.to.clone() }, |month| month.days())
    }
}

/// Whose knowledge.
#[derive(Debug, Clone, Args)]
pub struct AsOfArgs {
    /// By what was known at the end of this UTC day, as 2026-08-10: statements, corrections and late facts that came after it are left out, and so
    /// are machines that are not posted yet.
    #[arg(long, value_parser = utc_day)]
    pub as_of: Option<String>,
}

impl AsOfArgs {
    /// A connection that sees what was known then.
    pub async fn connect(&self, database: &DatabaseArgs) -> Result<sqlx::PgConnection, crate::ledger::LedgerFault> {
        let mut connection = crate::ledger::connect(&database.database_url).await?;
        crate::ledger::report::as_of(&mut connection, self.as_of.as_deref()).await?;
        Ok(connection)
    }
}

/// How to print.
#[derive(Debug, Clone, Args)]
pub struct FormatArgs {
    /// Print JSON; figures are strings, exact to the last digit.
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// Print CSV with a header.
    #[arg(long)]
    pub csv: bool,
}

impl FormatArgs {
    /// A report.
    pub fn print(&self, report: &Report) -> String {
        if self.json {
            format!("{:#}", report.to_json())
        } else if self.csv {
            report.to_csv().trim_end().to_owned()
        } else {
            report.to_text()
        }
    }
}

/// A report over days, grouped.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// The ledger's database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Which days.
    #[command(flatten)]
    pub days: DayArgs,
    /// What to group by; several, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [By::Team])]
    pub by: Vec<By>,
    /// Only rows with this value, e.g. team=search or line=idle; may be repeated.
    #[arg(long)]
    pub only: Vec<Only>,
    /// Whose knowledge.
    #[command(flatten)]
    pub as_of: AsOfArgs,
    /// How to print.
    #[command(flatten)]
    pub format: FormatArgs,
}

/// A report over days.
#[derive(Debug, Clone, Args)]
pub struct TrustArgs {
    /// The ledger's database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Which days.
    #[command(flatten)]
    pub days: DayArgs,
    /// How to print.
    #[command(flatten)]
    pub format: FormatArgs,
}

/// Rejects anything that is not a calendar day before Postgres has to.
fn utc_day(text: &str) -> Result<String, String> {
    let day: jiff::civil::Date = text.parse().map_err(|_| "expected a calendar day, e.g. 2026-07-01".to_owned())?;
    Ok(day.to_string())
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
