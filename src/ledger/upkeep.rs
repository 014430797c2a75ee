//! What the operator does for the ledger beside delivering records: it posts what settled, seals, makes partitions ahead of time, and
//! collects usage and the use of GPUs.
//!
//! Decides: how often each is done. One replica at a time does it (the one that leads), on a connection of its own.
//! Does not: hold anything up: when Postgres is away it is tried again a minute later, and nothing is lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::gpu_use::{self, GpuUseFault};
use super::import::store_usage;
use super::plans::figures;
use super::poster;
use super::prometheus::Prometheus;
use super::rows::month_of;
use super::seal;
use super::store::{LedgerFault, ensure_month};
use crate::core::units::ids::ObjectRef;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::need::UsageQuery;
use crate::metrics::finance::FinanceFigures;
use crate::ports::Clock;

/// Rows wait this long for their seal.
const SEAL_EVERY: Millis = Millis::from_mins(10);
/// Hours of usage that are asked for each time: an hour of Prometheus away is made up for.
const USAGE_HOURS: u32 = 3;
/// The figures of money for metrics are read again after this.
const FIGURES_EVERY: Millis = Millis::from_mins(5);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// What is to be done, and where.
pub struct Upkeep {
    /// The ledger's Postgres, as the writer role; sealing needs the sealer role as well.
    pub url: String,
    /// Time between two postings.
    pub every: Duration,
    /// Where usage is asked for, if anywhere.
    pub prometheus: Option<Prometheus>,
    /// Whose usage is asked for, and how.
    pub queries: Arc<dyn Fn() -> BTreeMap<ObjectRef, UsageQuery> + Send + Sync>,
    /// Which series of NVIDIA's DCGM exporter are this cluster's, as in `cluster="prod"`, empty for all; none: the use of GPUs is not asked for.
    pub gpu_use: Option<String>,
    /// Which node each machine is now, by uid of its claim: for exporters that name no pods.
    pub nodes: Arc<dyn Fn() -> BTreeMap<String, String> + Send + Sync>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Called after each round.
    pub after_round: Arc<dyn Fn(UpkeepFigures) + Send + Sync>,
}

/// How far the upkeep is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UpkeepFigures {
    /// When everything that had settled was posted.
    pub posted_at: Option<Timestamp>,
    /// When everything that had settled was sealed; never, when the role may not.
    pub sealed_at: Option<Timestamp>,
    /// What the ledger says of money, and when it was read; never, when the role may not.
    pub finance: Option<(Timestamp, Arc<FinanceFigures>)>,
}

/// Runs for as long as the operator lives; works only while it leads.
pub async fn keep(upkeep: Upkeep, leading: watch::Receiver<bool>) {
    let mut figures = UpkeepFigures::default();
    let mut asked = Asked::default();
    let mut failing = false;
    loop {
        tokio::time::sleep(upkeep.every).await;
        if !*leading.borrow() {
            continue;
        }
        let outcome = round(&upkeep, &mut figures, &mut asked).await;
        match &outcome {
            Err(fault) if !failing => warn!("the ledger's upkeep waits: {fault}"),
            Ok(()) if failing => info!("the ledger's upkeep goes on"),
            _ => {}
        }
        failing = outcome.is_err();
        (upkeep.after_round)(figures.clone());
    }
}

/// The last hours that Prometheus was asked for.
#[derive(Default)]
struct Asked {
    usage: Option<i64>,
    gpu_use: Option<Timestamp>,
    /// Machines' nodes, and when each was last seen: what ended within the hours that are asked for is still known.
    nodes: BTreeMap<String, (String, Timestamp)>,
}

async fn round(upkeep: &Upkeep, figures: &mut UpkeepFigures, asked: &mut Asked) -> Result<(), LedgerFault> {
    let now = upkeep.clock.now();
    let address = super::address::options(&upkeep.url)?;
    let connecting = tokio::time::timeout(CONNECT_LIMIT, PgConnection::connect_with(&address));
    let mut connection =
        connecting.await.map_err(|_| LedgerFault::TimedOut(CONNECT_LIMIT))?.map_err(LedgerFault::during("connect to Postgres"))?;
    let done = poster::post(&mut connection, now).await?;
    debug!(machines = done.machines, rows = done.rows, rollups = done.rollups, "posted");
    figures.posted_at = Some(now);
    let hour = now.0 / Millis::from_hours(1).0;
    if asked.usage != Some(hour) {
        let next_month = (now + Millis::from_hours(31 * 24)).to_rfc3339();
        ensure_month(&mut connection, &month_of(&next_month)).await?;
        collect_usage(upkeep, &mut connection, now).await?;
        asked.usage = Some(hour);
    }
    // Later than usage: what is read just after the end of an hour belongs to it.
    let over = gpu_use::last_hour(now);
    asked.nodes.extend((upkeep.nodes)().into_iter().map(|(claim, node)| (claim, (node, now))));
    if asked.gpu_use != Some(over) {
        asked.nodes.retain(|_, (_, seen)| now.since(*seen) < Millis::from_hours(i64::from(USAGE_HOURS) + 2));
        collect_gpu_use(upkeep, &mut connection, &asked.nodes, now).await?;
        asked.gpu_use = Some(over);
    }
    if figures.sealed_at.is_none_or(|at| now.since(at) >= SEAL_EVERY) && may_seal(&mut connection).await? {
        let sealed = seal::seal(&mut connection).await?;
        if let Some(root) = sealed.root {
            info!(seal = sealed.number, rows = sealed.rows, root, "sealed; keep this root elsewhere");
        }
        figures.sealed_at = Some(now);
    }
    let due = figures.finance.as_ref().is_none_or(|(at, _)| now.since(*at) >= FIGURES_EVERY);
    if due && figures::may_read(&mut connection).await? {
        figures.finance = Some((now, Arc::new(figures::read(&mut connection, now).await?)));
    }
    connection.close().await.map_err(LedgerFault::during("close the connection"))
}

async fn may_seal(connection: &mut PgConnection) -> Result<bool, LedgerFault> {
    let asked = sqlx::query_scalar!(r#"SELECT pg_has_role(current_user, 'lowtide_sealer', 'member') AS "may!""#);
    asked.fetch_one(connection).await.map_err(LedgerFault::during("ask whether this role may seal"))
}

async fn collect_usage(upkeep: &Upkeep, connection: &mut PgConnection, now: Timestamp) -> Result<(), LedgerFault> {
    let Some(prometheus) = &upkeep.prometheus else { return Ok(()) };
    for (workload, query) in (upkeep.queries)() {
        match prometheus.usage(&workload, &query, now, USAGE_HOURS).await {
            Ok(usage) => {
                store_usage(connection, &usage, "prometheus").await?;
            }
            Err(fault) => warn!(%workload, "its usage is not known: {fault}"),
        }
    }
    Ok(())
}

async fn collect_gpu_use(
    upkeep: &Upkeep,
    connection: &mut PgConnection,
    nodes: &BTreeMap<String, (String, Timestamp)>,
    now: Timestamp,
) -> Result<(), LedgerFault> {
    let (Some(prometheus), Some(selector)) = (&upkeep.prometheus, &upkeep.gpu_use) else { return Ok(()) };
    let nodes = nodes.iter().map(|(claim, (node, _))| (claim.clone(), node.clone())).collect();
    match gpu_use::collect(connection, (prometheus, selector), &nodes, now, USAGE_HOURS).await {
        Ok(collected) => debug!(hours = collected.held, known = collected.known, new = collected.taken.new, "collected the use of GPUs"),
        Err(GpuUseFault::Ledger(fault)) => return Err(fault),
        Err(GpuUseFault::Prometheus(fault)) => warn!("the use of GPUs is not known: {fault}"),
    }
    Ok(())
}
