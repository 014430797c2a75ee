//! `lowtide ledger recommendations`: what to change about GPUs that are held and idle, what that saves on today's market, and what came of it.
//!
//! Decides: its arguments, and whose prices are taken: those of a file, else those that the operator last wrote down, else what an hour cost by the ledger.

use std::path::PathBuf;

use clap::Args;
use sqlx::PgConnection;

use super::Answer;
use super::args::{AsOfArgs, DatabaseArgs, DayArgs, FormatArgs, OnlyArgs};
use super::upkeep::{now, working};
use crate::cli::{files, pool_file};
use crate::core::units::time::Timestamp;
use crate::core::workload::sharing::Sharing;
use crate::ledger::plans::recommendations::{Asked, OnMarket, find, kept, market};
use crate::ledger::report::{By, with_day_of_knowledge};

/// What to recommend, or which recommendations to score.
#[derive(Debug, Clone, Args)]
pub struct RecommendationsArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// How many full UTC days before today to look at.
    #[arg(long = "days", default_value_t = 14, value_parser = clap::value_parser!(i64).range(7..=56))]
    look_back: i64,
    /// Offers as CSV, as for `lowtide place`; without it, the prices that the operator last wrote to the ledger.
    #[arg(long, value_name = "FILE")]
    offers: Option<PathBuf>,
    /// A GpuNodePool in YAML whose rules apply to what is bought, as for `lowtide place`.
    #[arg(long, value_name = "FILE")]
    pool: Option<PathBuf>,
    /// The only way in which your node classes share GPUs, e.g. mps-4, time-slicing-2 or mig-7; default: MPS, two to four pods on a GPU.
    #[arg(long, value_parser = sharing_of)]
    sharing: Option<Sharing>,
    /// List the workloads that get no recommendation too, with the reasons.
    #[arg(long)]
    all: bool,
    /// Keep the best recommendation of each workload in the ledger, to score it two weeks later. Run as a member of lowtide_writer and lowtide_reader.
    #[arg(long, conflicts_with = "as_of")]
    keep: bool,
    /// Show what came of the recommendations kept on these days instead; default: of the last 90.
    #[arg(long, conflicts_with_all = ["look_back", "offers", "pool", "sharing", "all", "keep"])]
    score: bool,
    #[command(flatten)]
    kept_on: DayArgs,
    #[command(flatten)]
    only: OnlyArgs,
    #[command(flatten)]
    as_of: AsOfArgs,
    #[command(flatten)]
    format: FormatArgs,
}

fn sharing_of(text: &str) -> Result<Sharing, String> {
    let expected = || "expected how GPUs are shared and by how many pods, 2 or more, as in mps-4, time-slicing-2 or mig-7".to_owned();
    let sharing: Sharing = text.parse().map_err(|()| expected())?;
    match sharing {
        Sharing::TimeSlicing { replicas } | Sharing::Mps { replicas } | Sharing::Mig { replicas } if replicas >= 2 => Ok(sharing),
        _ => Err(expected()),
    }
}

/// `lowtide ledger recommendations`.
pub(super) async fn answer(args: RecommendationsArgs) -> Answer {
    let days = args.kept_on.days()?;
    if !args.score && (days.from.is_some() || days.to.is_some()) {
        return Err("--from, --to and --month go with --score; how far to look back is --days".into());
    }
    let only = args.only.of(&[By::Team, By::Workload, By::Namespace], "recommendations")?;
    if args.score && !only.is_empty() {
        return Err("--only is for recommendations of today; --score shows all that were kept".into());
    }
    let now = args.as_of.now(now());
    let mut connection = args.as_of.connect(&args.database).await?;
    if args.score {
        return Ok(args.format.print(&kept::score(&mut connection, &days).await?));
    }
    let on_market = on_market(&mut connection, &args, now).await?;
    let progress = working("looking at how GPUs were used");
    let asked = Asked { now, days: args.look_back, market: on_market.as_ref(), sharing: args.sharing };
    let mut recommendations = find(&mut connection, asked).await?;
    recommendations.keep_only(only);
    let mut report = recommendations.report(args.all);
    if args.keep {
        let kept = kept::keep(&mut connection, &recommendations, now).await?;
        report.sentence.push_str(&format!(" {kept} were kept; workloads whose last one is not scored yet keep that."));
    }
    drop(progress);
    Ok(args.format.print(&with_day_of_knowledge(&mut connection, report).await?))
}

/// Today's market, and what may be bought there.
async fn on_market(
    connection: &mut PgConnection,
    args: &RecommendationsArgs,
    now: Timestamp,
) -> Result<Option<OnMarket>, Box<dyn std::error::Error>> {
    let (market, said) = match &args.offers {
        Some(path) => (files::market(Some(path), now)?, path.display().to_string()),
        None => match market::on_record(connection, now).await? {
            Some((market, at)) => (market, format!("prices on record at {}", at.to_rfc3339())),
            None if args.pool.is_some() => {
                return Err("--pool needs prices, and the ledger has none of the last day: add --offers FILE".into());
            }
            None => return Ok(None),
        },
    };
    let pool = pool_file::pool(args.pool.as_deref(), &market)?.policy;
    Ok(Some(OnMarket { market, pool, said }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_of_sharing_are_read_and_those_that_share_nothing_refused() {
        assert_eq!(sharing_of("mps-4"), Ok(Sharing::Mps { replicas: 4 }));
        for bad in ["exclusive", "mps-1", "mps", "slices-4", "time-slicing-0", ""] {
            assert!(sharing_of(bad).is_err(), "{bad}");
        }
    }
}
