//! Arguments of the subcommands of `lowtide ledger`: where the ledger is, which days, how to print.
//!
//! Decides: their syntax, and what is refused.

use clap::{Args, ValueEnum};

use crate::core::units::time::{Millis, Timestamp};
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
    /// A calendar month instead, e.g. 2026-07; several consecutive ones, separated by commas.
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["from", "to"])]
    month: Vec<Month>,
}

impl DayArgs {
    /// In the form the reports take.
    ///
    /// # Errors
    /// When a month is missing between those given, or the days end before they begin.
    pub fn days(&self) -> Result<Days, String> {
        if !self.month.is_empty() {
            return Month::days_of(&self.month);
        }
        if let (Some(from), Some(to)) = (&self.from, &self.to)
            && to <= from
        {
            return Err(format!("--to is the day after the last, and {to} is not after {from}"));
        }
        Ok(Days { from: self.from.clone(), to: self.to.clone() })
    }
}

/// Which rows, of reports that know some of the keys.
#[derive(Debug, Clone, Default, Args)]
pub struct OnlyArgs {
    /// Only what has this value, e.g. team=search; may be repeated: several values of one key are alternatives, several keys must all match.
    #[arg(long)]
    only: Vec<Only>,
}

impl OnlyArgs {
    /// The filters, for reports that know every key.
    pub fn all(&self) -> &[Only] {
        &self.only
    }

    /// The filters, each by one of `keys`.
    ///
    /// # Errors
    /// Names the keys that `what` knows, where another is asked for.
    pub fn of(&self, keys: &[By], what: &str) -> Result<&[Only], String> {
        match self.only.iter().find(|only| !keys.contains(&only.by())) {
            None => Ok(&self.only),
            Some(_) => {
                let names: Vec<String> = keys.iter().filter_map(|key| Some(key.to_possible_value()?.get_name().to_owned())).collect();
                Err(format!("{what} know only {}: choose of these for --only", names.join(", ")))
            }
        }
    }
}

/// As of which day.
#[derive(Debug, Clone, Args)]
pub struct AsOfArgs {
    /// Only what was known at the end of this UTC day, e.g. 2026-08-10: statements, corrections, decisions and late facts that came after it are left
    /// out, and so are machines that are not posted yet.
    #[arg(long, value_parser = utc_day)]
    pub as_of: Option<String>,
}

impl AsOfArgs {
    /// The moment that is asked about: the end of the day, else `now`.
    pub fn now(&self, now: Timestamp) -> Timestamp {
        let day = self.as_of.as_deref().and_then(|day| day.parse::<jiff::civil::Date>().ok());
        day.map_or(now, |day| {
            Timestamp::from_date(i64::from(day.year()), i64::from(day.month()), i64::from(day.day())) + Millis::from_hours(24)
        })
    }

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
    /// Which rows.
    #[command(flatten)]
    pub only: OnlyArgs,
    /// As of which day.
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
    /// Of which spend.
    #[command(flatten)]
    pub only: OnlyArgs,
    /// As of which day.
    #[command(flatten)]
    pub as_of: AsOfArgs,
    /// How to print.
    #[command(flatten)]
    pub format: FormatArgs,
}

/// Rejects anything that is not a calendar day before Postgres has to.
pub(super) fn utc_day(text: &str) -> Result<String, String> {
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
