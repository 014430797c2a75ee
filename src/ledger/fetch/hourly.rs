//! Fetching from the operator: every hour, by the replica that leads.
//!
//! Decides: how often, and that a version which was refused is fetched again only when it changes: a person has to look at it (`lowtide ledger fetch`).
//! Does not: hold anything up. It has a connection of its own, and posting goes on beside it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection;
use tokio::sync::watch;
use tracing::{info, warn};

use super::{Access, Bucket, FetchFault, Location, Request, What, fetch};
use crate::core::units::time::{Millis, Timestamp};
use crate::ledger::import::Options;
use crate::ports::Clock;

/// How far back months and files are looked at: bills of past months are corrected for weeks.
const BACK: Millis = Millis::from_hours(24 * 92);

/// What is fetched, and from where.
pub struct Hourly {
    /// The ledger's Postgres, as the writer role.
    pub url: String,
    /// What from where.
    pub sources: Vec<(What, Location)>,
    /// How buckets are reached.
    pub access: Access,
    /// Time between two looks.
    pub every: Duration,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Called after each round.
    pub after_round: Arc<dyn Fn(Found) + Send + Sync>,
}

/// What a round came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Found {
    /// When everything that was there had last been taken, or else when this replica began to look.
    pub complete_at: Option<Timestamp>,
    /// Versions that are there and refused.
    pub refused: usize,
}

/// Runs for as long as the operator lives; works only while it leads.
pub async fn keep(hourly: Hourly, leading: watch::Receiver<bool>) {
    let mut found = Found::default();
    let mut refused: BTreeSet<(String, String)> = BTreeSet::new();
    // The first look is soon: what was written while nobody ran is waiting.
    let mut wait = hourly.every.min(Duration::from_secs(60));
    loop {
        tokio::time::sleep(wait).await;
        wait = hourly.every;
        if !*leading.borrow() {
            continue;
        }
        // Counted from here: a bucket that never answers is seen as well.
        found.complete_at.get_or_insert(hourly.clock.now());
        let mut reached = true;
        for (what, location) in &hourly.sources {
            match round(&hourly, *what, location, &mut refused).await {
                Ok(taken) if taken > 0 => info!(%location, taken, "statements were fetched"),
                Ok(_) => {}
                Err(fault) => {
                    reached = false;
                    warn!(%location, "could not be fetched from: {fault}");
                }
            }
        }
        found.refused = refused.len();
        if reached && refused.is_empty() {
            found.complete_at = Some(hourly.clock.now());
        }
        (hourly.after_round)(found);
    }
}

/// One look at one place; gives how many statements were taken.
async fn round(hourly: &Hourly, what: What, location: &Location, refused: &mut BTreeSet<(String, String)>) -> Result<usize, FetchFault> {
    let now = hourly.clock.now();
    let bucket = Bucket::new(&location.bucket, hourly.access.clone());
    let since = (now - BACK).to_date();
    let options = Options::default();
    let request = Request { what, location: location.clone(), since, again: false, options, folder: std::env::temp_dir() };
    let mut connection = crate::ledger::connect(&hourly.url).await?;
    let done = fetch(&mut connection, &bucket, &request, refused, now, false).await?;
    let mut taken = 0;
    for one in done {
        // What replaced a version that was refused is another version.
        refused.retain(|(url, _)| !one.urls.contains(url));
        match one.outcome {
            Ok(imported) => taken += imported.statements.iter().filter(|statement| !statement.same).count(),
            Err(FetchFault::Import(fault)) => {
                warn!(url = one.urls.join(" "), "fetched and refused: {fault}");
                refused.extend(one.urls.into_iter().zip(one.etags));
            }
            Err(fault) => return Err(fault),
        }
    }
    connection.close().await.map_err(crate::ledger::LedgerFault::during("close the connection"))?;
    Ok(taken)
}
