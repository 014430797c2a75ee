//! `lowtide ledger retag`: labels of past days, corrected.
//!
//! Decides: how a correction is written on the command line, and the words.

use std::collections::BTreeMap;

use clap::Args;
use uuid::Uuid;

use super::Answer;
use super::args::{AsOfArgs, DatabaseArgs, FormatArgs};
use super::import::changed;
use super::upkeep::{now, working};
use crate::core::accounting::owners::Label;
use crate::core::units::ids::ObjectRef;
use crate::core::units::time::Timestamp;
use crate::ledger::connect;
use crate::ledger::report::{self, Month};
use crate::ledger::retag::{NewRetag, retag, withdraw};

const DAY_MS: i64 = 86_400_000;

/// What to correct.
#[derive(Debug, Clone, Args)]
pub struct RetagArgs {
    /// The workload, as namespace/name.
    #[arg(long, value_parser = workload_of, required_unless_present_any = ["list", "withdraw"], requires_all = ["from", "set", "reason"])]
    workload: Option<ObjectRef>,
    /// First UTC day, as 2026-07-01.
    #[arg(long, value_parser = day_of)]
    from: Option<i64>,
    /// Day after the last; default: today, so that the last day is yesterday. Future days are not corrected: set the label on the pod template.
    #[arg(long, value_parser = day_of)]
    to: Option<i64>,
    /// A label and what it should have been, as team=search; team= removes it. May be repeated. Labels: team, service, environment,
    /// cost_center, product_area, component.
    #[arg(long, value_parser = label_of)]
    set: Vec<(Label, Option<String>)>,
    /// Why: kept with the correction.
    #[arg(long)]
    reason: Option<String>,
    /// Withdraw a correction instead, by its id.
    #[arg(long, conflicts_with_all = ["workload", "from", "to", "set", "list"], requires = "reason")]
    withdraw: Option<Uuid>,
    /// List the corrections instead.
    #[arg(long, conflicts_with_all = ["workload", "from", "to", "set", "reason", "dry_run"])]
    list: bool,
    /// Show what would move, by team, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// With --list, only corrections of days of this calendar month, e.g. 2026-07; several consecutive ones, separated by commas.
    #[arg(long, value_delimiter = ',', requires = "list")]
    month: Vec<Month>,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    as_of: AsOfArgs,
    #[command(flatten)]
    format: FormatArgs,
}

fn workload_of(text: &str) -> Result<ObjectRef, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(ObjectRef { namespace: namespace.into(), name: name.into() })
        }
        _ => Err("expected a workload as namespace/name, as in ml/chat".into()),
    }
}

fn day_of(text: &str) -> Result<i64, String> {
    let day: jiff::civil::Date = text.parse().map_err(|_| "expected a calendar day as 2026-07-01".to_owned())?;
    Ok(Timestamp::from_date(i64::from(day.year()), i64::from(day.month()), i64::from(day.day())).0.div_euclid(DAY_MS))
}

fn label_of(text: &str) -> Result<(Label, Option<String>), String> {
    let expected =
        || "expected a label and its value, as in team=search; labels are team, service, environment, cost_center, product_area, component";
    let (name, value) = text.split_once('=').ok_or_else(expected)?;
    Ok((Label::of(name).ok_or_else(expected)?, Some(value.to_owned()).filter(|value| !value.is_empty())))
}

/// `lowtide ledger retag`.
pub(super) async fn answer(args: RetagArgs) -> Answer {
    if args.list {
        let mut connection = args.as_of.connect(&args.database).await?;
        return Ok(args.format.print(&report::retags(&mut connection, &Month::days_of(&args.month)?).await?));
    }
    if args.as_of.as_of.is_some() {
        return Err("--as-of goes with --list: a correction is made today".into());
    }
    let mut connection = connect(&args.database.database_url).await?;
    let _progress = working("moving postings");
    let (reason, keep) = (args.reason.unwrap_or_default(), !args.dry_run);
    let done = match (args.withdraw, args.workload, args.from) {
        (Some(id), ..) => withdraw(&mut connection, id, &reason, now(), keep).await?,
        (None, Some(workload), Some(from_day)) => {
            let to_day = args.to.unwrap_or_else(|| now().0.div_euclid(DAY_MS));
            let new = NewRetag { workload, from_day, to_day, labels: BTreeMap::from_iter(args.set), reason };
            retag(&mut connection, &new, now(), keep).await?
        }
        _ => return Err("expected --workload with --from, --set and --reason, or --withdraw with --reason, or --list".into()),
    };
    let moved = changed(&done.by_team, done.posted.rows);
    if args.dry_run {
        return Ok(format!("Nothing was written. This would happen:\n{moved}"));
    }
    Ok(format!("Correction {} is on record, and postings moved.\n{moved}", done.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_days_are_read_and_slips_refused() {
        assert_eq!(label_of("cost-center=7"), Ok((Label::CostCenter, Some("7".into()))));
        assert_eq!(label_of("team="), Ok((Label::Team, None)));
        assert_eq!(day_of("1970-01-02"), Ok(1));
        assert!(label_of("teem=x").is_err() && label_of("team").is_err() && day_of("2026-02-30").is_err() && workload_of("chat").is_err());
    }
}
