//! AWS's current market, for `lowtide offers --live`.
//!
//! Does not: buy, or need a cluster: a role with EC2 describe permissions and `pricing:GetProducts` is enough.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::endpoints::EndpointArgs;
use crate::aws::{AwsCloud, AwsSettings};
use crate::core::market::Market;
use crate::core::market::catalog::Catalog;
use crate::core::market::scores::{ScoreBoard, questions};
use crate::core::units::ids::Region;
use crate::engine::observe::market::read_market;
use crate::ports::{Clock, Cloud, CloudError};

use crate::engine::wall_clock::WallClock;

/// After this long a line reports progress.
const TELL_AFTER: Duration = Duration::from_secs(2);

/// What was read.
pub struct LiveMarket {
    /// Types, as EC2 describes them.
    pub catalog: Catalog,
    /// Offers with their prices.
    pub market: Market,
    /// Placement scores, when they were asked for.
    pub scores: ScoreBoard,
}

/// Reads `regions`, all at once. A region that cannot be read is reported and left out.
///
/// # Errors
/// With the reason of each region when none could be read.
pub async fn read(regions: BTreeSet<Region>, with_scores: bool, endpoint: &EndpointArgs) -> Result<LiveMarket, Vec<String>> {
    let clock: Arc<dyn Clock> = Arc::new(WallClock);
    let settings = endpoint.of(AwsSettings::new("lowtide-offers", Arc::clone(&clock)));
    let cloud = Arc::new(AwsCloud::new(settings).await);
    let mut reading = tokio::task::JoinSet::new();
    for region in regions.iter().cloned() {
        let cloud = Arc::clone(&cloud);
        reading.spawn(async move {
            let read = read_market(&*cloud, &WallClock, &region).await;
            (region, read)
        });
    }
    let mut live = LiveMarket { catalog: Catalog::default(), market: Market::default(), scores: ScoreBoard::default() };
    let (mut faults, mut open) = (Vec::new(), BTreeSet::new());
    loop {
        let ended = match tokio::time::timeout(TELL_AFTER, reading.join_next()).await {
            Ok(None) => break,
            Ok(Some(Ok(ended))) => ended,
            Ok(Some(Err(fault))) => {
                faults.push(fault.to_string());
                continue;
            }
            Err(_) => {
                eprintln!("{} of {} regions read ...", regions.len() - reading.len(), regions.len());
                continue;
            }
        };
        match ended {
            (region, Ok(read)) => {
                live.catalog.types.extend(read.machines.into_iter().map(|m| (m.instance_type.clone(), m)));
                live.market.offers.extend(read.offers.into_iter().map(|offer| (offer.capacity.clone(), offer)));
                open.insert(region);
            }
            (region, Err(error)) => faults.push(format!("{region} is skipped: {error}")),
        }
    }
    if open.is_empty() {
        return Err(faults);
    }
    faults.iter().for_each(|fault| eprintln!("{fault}"));
    if with_scores {
        ask_scores(&cloud, &mut live, &open).await;
    }
    Ok(live)
}

async fn ask_scores(cloud: &AwsCloud, live: &mut LiveMarket, regions: &BTreeSet<Region>) {
    let Some(asked_in) = regions.first() else { return };
    let mut board = ScoreBoard::default();
    for (family, question) in questions(&live.catalog, &live.market, regions) {
        match cloud.placement_scores(asked_in, &question).await {
            Ok(answer) => board.keep(&family, &answer, WallClock.now()),
            Err(error) if CloudError::ends_new_questions(&error) => {
                eprintln!("EC2 accepts no new placement score requests today: from family {family} on, offers have no score");
                break;
            }
            Err(error) => eprintln!("no placement score for family {family}: {error}"),
        }
    }
    live.scores = board;
}
