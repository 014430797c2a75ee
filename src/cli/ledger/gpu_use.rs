//! `lowtide ledger gpu-use`: how hard the GPUs that were paid for worked, and two spans of time compared.
//!
//! Decides: its syntax, and which keys can be asked for.

use clap::Args;

use super::args::{AsOfArgs, DatabaseArgs, DayArgs, FormatArgs};
use super::upkeep::now;
use super::{Answer, unit_of};
use crate::core::workload::need::UsageUnit;
use crate::ledger::report::{self, By, Only, Window};

/// Which days, by what; or which two spans of time.
#[derive(Debug, Clone, Args)]
pub struct GpuUseArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    days: DayArgs,
    /// What to group by; several, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [By::Team])]
    by: Vec<By>,
    /// Only what has this value, e.g. team=search; may be repeated: several values of one key are alternatives, several keys must all match.
    #[arg(long)]
    only: Vec<Only>,
    /// Two spans to compare, e.g. 2026-06 2026-07: a month, a day as 2026-07-20, or days as 2026-07-20..2026-07-27 (the day after the last).
    #[arg(long, num_args = 2, value_names = ["BEFORE", "AFTER"], conflicts_with_all = ["from", "to", "month"])]
    compare: Vec<Window>,
    /// With --compare: cost of 1,000 of what: requests, transactions, tokens, tokens_in, tokens_out or users (user-hours).
    #[arg(long, default_value = "requests", value_parser = unit_of)]
    unit: UsageUnit,
    #[command(flatten)]
    as_of: AsOfArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// `lowtide ledger gpu-use`.
pub(super) async fn answer(args: GpuUseArgs) -> Answer {
    let mut keys = args.by.iter().copied().chain(args.only.iter().map(Only::by));
    let [before, after] = match args.compare.as_slice() {
        [before, after] => [before, after],
        _ => {
            if !keys.all(report::groups_gpu_use) {
                return Err("the use of GPUs is that of line pod: choose another key than line for --by and --only".into());
            }
            let mut connection = args.as_of.connect(&args.database).await?;
            return Ok(args.format.print(&report::gpu_use(&mut connection, &args.days.days()?, args.by, &args.only).await?));
        }
    };
    if !keys.all(report::compares_gpu_use) {
        let keys = "workload, namespace, day, month, team, service, environment, cost-center, product-area and component";
        return Err(format!("what units cost is known by {keys}: choose of these for --by and --only").into());
    }
    let mut connection = args.as_of.connect(&args.database).await?;
    let now = args.as_of.now(now());
    let report = report::compare_gpu_use(&mut connection, [before, after], args.unit, args.by, &args.only, now).await?;
    Ok(args.format.print(&report))
}
