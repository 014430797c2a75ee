//! `lowtide ledger import`: files of AWS and of others into the ledger.
//!
//! Decides: the words. Each import is followed by posting, so that what it changes is seen at once.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::upkeep::{now, working};
use super::{Answer, DatabaseArgs};
use crate::ledger::connect;
use crate::ledger::import::{BillImport, Taken, import_costs, import_cur, import_feed, import_revenue, import_usage};
use crate::ledger::poster::{self, Posted};

/// Arguments of `lowtide ledger import`.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// What the files are.
    #[command(subcommand)]
    kind: Kind,
}

/// Files to take.
#[derive(Debug, Clone, Args)]
pub struct FileArgs {
    /// Files, plain or gzip. A file is taken whole or not at all.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// What files can be.
#[derive(Debug, Clone, Subcommand)]
enum Kind {
    /// The spot data feed: what each instance-hour cost. Differences are posted with their cause.
    Feed(FileArgs),
    /// A Cost and Usage Report (CUR 2.0) as CSV, all files of a month at once. Differences are posted with their cause.
    Cur(FileArgs),
    /// CSV with `hour,workload` and any of `requests,transactions,tokens,users`; workload is namespace/name.
    Usage(FileArgs),
    /// CSV with `period,workload,revenue_usd`; period is a day or a month, which is spread over its days.
    Revenue(FileArgs),
    /// CSV with `period,item,cost_usd` and any of `team,service,environment,cost_center,product_area,component`: what lowtide itself
    /// runs on, APIs that are bought. Posted on line `overhead`.
    Costs(FileArgs),
}

/// Runs one import.
pub async fn answer(args: ImportArgs) -> Answer {
    let (Kind::Feed(files) | Kind::Cur(files) | Kind::Usage(files) | Kind::Revenue(files) | Kind::Costs(files)) = &args.kind;
    let mut connection = connect(&files.database.database_url).await?;
    let _progress = working("importing");
    match &args.kind {
        Kind::Feed(files) => {
            let (import, taken) = import_feed(&mut connection, &files.files).await?;
            Ok(billed(&import, taken, poster::post(&mut connection, now()).await?))
        }
        Kind::Cur(files) => {
            let (import, taken) = import_cur(&mut connection, &files.files).await?;
            Ok(billed(&import, taken, poster::post(&mut connection, now()).await?))
        }
        Kind::Usage(files) => Ok(format!("Hours of usage: {}.", import_usage(&mut connection, &files.files).await?)),
        Kind::Revenue(files) => Ok(format!("Days of revenue: {}.", import_revenue(&mut connection, &files.files).await?)),
        Kind::Costs(files) => {
            let taken = import_costs(&mut connection, &files.files).await?;
            poster::post(&mut connection, now()).await?;
            Ok(format!("Days of other costs: {taken}."))
        }
    }
}

fn billed(import: &BillImport, taken: Taken, posted: Posted) -> String {
    let left_out = match import.left_out {
        0 => String::new(),
        n => format!(" {n} lines are not about an instance's use and were left out."),
    };
    let posted = match posted.rows {
        0 => "Nothing had to be posted.".to_owned(),
        rows => format!("Posted {rows} rows about {} machines.", posted.machines),
    };
    format!("Lines about instances: {taken}.{left_out} {posted}")
}
