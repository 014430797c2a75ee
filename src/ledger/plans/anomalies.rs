//! Services whose cost is out of the ordinary, each explained as price, quantity or mix by the ledger's own bridge.
//!
//! Decides: which costs are one service, which hours are looked at, what is left out as planned, and the cause that is named.
//! Does not: decide what is ordinary (see [`crate::core::accounting::anomaly`]).

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row};

use super::two_decimals;
use crate::core::accounting::anomaly::{Hours, WEEK, anomaly};
use crate::core::accounting::variance::{Driver, Drivers, Use, bridge};
use crate::core::market::CapacityType;
use crate::core::units::money::MicroUsd;
use crate::core::units::time::{Millis, Timestamp};
use crate::ledger::report::{By, Only, Report, fits};
use crate::ledger::store::LedgerFault;

const HOUR: i64 = Millis::from_hours(1).0;
/// Hours of history that the ordinary is taken from: six weeks, and the week before for its level.
const HISTORY: i64 = 8 * WEEK;

/// What moved the cost most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The same GPUs cost more.
    Price,
    /// More GPU-hours, useful or not.
    Quantity,
    /// Other types, or another market.
    Mix,
}

impl Cause {
    /// As metrics and reports write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Price => "price",
            Cause::Quantity => "quantity",
            Cause::Mix => "mix",
        }
    }

    fn of(driver: Driver) -> Cause {
        match driver {
            Driver::SpotPrice | Driver::Coverage | Driver::Other => Cause::Price,
            Driver::InstanceMix | Driver::MarketMix => Cause::Mix,
            Driver::Volume | Driver::Efficiency | Driver::MovesAndWaste | Driver::Idle | Driver::Egress => Cause::Quantity,
        }
    }
}

/// A service out of the ordinary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Label `team`, or `(untagged)`.
    pub team: String,
    /// Label `service`, else the workload's name.
    pub service: String,
    /// The end of the second of the two hours.
    pub until: Timestamp,
    /// What that hour cost, and what is ordinary.
    pub cost: MicroUsd,
    /// The ordinary.
    pub ordinary: MicroUsd,
    /// What moved it most against the same two hours a week before.
    pub cause: Cause,
    /// What each driver of the bridge moved; those that moved nothing are left out.
    pub moved: Vec<(&'static str, MicroUsd)>,
    /// Machines bought for it in the three hours before the end, by decision.
    pub decisions: Vec<String>,
}

/// `(untagged)` stands for a team that is not known.
const OWNER: &str = "coalesce(team, '(untagged)') AS team, coalesce(service, workload_name, '(none)') AS service";

/// What anomalies are looked for in: costs by owner and hour from `$1` to `$2`, in micro-dollars.
pub fn hourly_sql() -> String {
    format!(
        "SELECT {OWNER}, ledger.ms(hour) / {HOUR} AS hour, (sum(cost_usd) * 1000000)::bigint AS micro
         FROM ledger.hourly_cost($1::text::timestamptz, $2::text::timestamptz) GROUP BY 1, 2, 3"
    )
}

/// Costs by owner and hour, in micro-dollars.
async fn hourly(connection: &mut PgConnection, from: Timestamp, to: Timestamp) -> Result<BTreeMap<(String, String), Hours>, LedgerFault> {
    let query = sqlx::query(sqlx::AssertSqlSafe(hourly_sql())).bind(from.to_rfc3339()).bind(to.to_rfc3339());
    let rows = query.fetch_all(connection).await.map_err(LedgerFault::during("read costs by hour"))?;
    let mut costs: BTreeMap<(String, String), Hours> = BTreeMap::new();
    for row in rows {
        let read = || -> Result<_, sqlx::Error> {
            Ok((row.try_get("team")?, row.try_get("service")?, row.try_get("hour")?, row.try_get("micro")?))
        };
        let (team, service, hour, micro) = read().map_err(LedgerFault::during("read a cost by hour"))?;
        costs.entry((team, service)).or_default().insert(hour, MicroUsd(micro));
    }
    Ok(costs)
}

/// What drove the cost of an owner in two hours.
async fn drivers(connection: &mut PgConnection, owner: &(String, String), end: Timestamp) -> Result<Drivers, LedgerFault> {
    let sql = format!(
        "SELECT line, coalesce(region, '') || ' ' || coalesce(instance_type, '') AS machine, coalesce(capacity_type, '') AS market,
                sum(gpu_ms)::bigint AS gpu_ms, (sum(cost_usd) * 1000000)::bigint AS micro
         FROM (SELECT {OWNER}, line, region, instance_type, capacity_type, gpu_ms, cost_usd
               FROM ledger.allocation_of($1::text::timestamptz, $2::text::timestamptz)) a
         WHERE team = $3 AND service = $4 GROUP BY 1, 2, 3"
    );
    let query = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind((end - Millis(2 * HOUR)).to_rfc3339())
        .bind(end.to_rfc3339())
        .bind(&owner.0)
        .bind(&owner.1);
    let rows = query.fetch_all(connection).await.map_err(LedgerFault::during("read what drove a cost"))?;
    let mut drivers = Drivers::default();
    for row in rows {
        let read = || -> Result<(String, String, String, i64, i64), sqlx::Error> {
            Ok((row.try_get("line")?, row.try_get("machine")?, row.try_get("market")?, row.try_get("gpu_ms")?, row.try_get("micro")?))
        };
        let (line, machine, market, gpu_ms, micro) = read().map_err(LedgerFault::during("read what drove a cost"))?;
        let cost = MicroUsd(micro);
        let market = match market.as_str() {
            "on-demand" => CapacityType::OnDemand,
            "reserved" => CapacityType::Reserved,
            _ => CapacityType::Spot,
        };
        match line.as_str() {
            "pod" => {
                let used = drivers.useful.entry((machine, market)).or_default();
                *used = Use { gpu_ms: used.gpu_ms + gpu_ms, cost: used.cost + cost };
            }
            "idle" => drivers.idle = drivers.idle + cost,
            "egress" => drivers.egress = drivers.egress + cost,
            "overhead" => drivers.overhead = drivers.overhead + cost,
            _ => drivers.moves_and_waste = drivers.moves_and_waste + cost,
        }
    }
    Ok(drivers)
}

/// Why: the drivers against the same two hours a week before, and the cause that carries most.
fn explained(was: &Drivers, is: &Drivers) -> (Cause, Vec<(&'static str, MicroUsd)>) {
    let moved: Vec<(Driver, MicroUsd)> = bridge(was, is).into_iter().filter(|(_, usd)| usd.0 != 0).collect();
    let mut by_cause: BTreeMap<Cause, i64> = BTreeMap::new();
    for (driver, usd) in &moved {
        *by_cause.entry(Cause::of(*driver)).or_default() += usd.0;
    }
    let cause =
        by_cause.into_iter().max_by_key(|(cause, usd)| (*usd, std::cmp::Reverse(*cause))).map_or(Cause::Quantity, |(cause, _)| cause);
    (cause, moved.into_iter().map(|(driver, usd)| (driver.as_str(), usd)).collect())
}

/// Whether somebody said that these hours are planned, expected or wrongly alarmed.
async fn is_marked(connection: &mut PgConnection, owner: &(String, String), at: Timestamp) -> Result<bool, LedgerFault> {
    let sql = "SELECT EXISTS (SELECT FROM ledger.anomaly_mark WHERE (team IS NULL OR team = $1) AND (service IS NULL OR service = $2)
               AND $3::text::timestamptz > from_at AND $3::text::timestamptz <= to_at AND entered_at < (SELECT ledger.known_before()))";
    let query = sqlx::query_scalar(sql).bind(&owner.0).bind(&owner.1).bind(at.to_rfc3339());
    query.fetch_one(connection).await.map_err(LedgerFault::during("read the marks of anomalies"))
}

async fn bought_for(connection: &mut PgConnection, owner: &(String, String), until: Timestamp) -> Result<Vec<String>, LedgerFault> {
    let sql = format!(
        "SELECT id::text FROM (SELECT id, at, outcome, price_usd_h, {OWNER} FROM ledger.decision WHERE posted_at < (SELECT ledger.known_before())) d WHERE outcome = 'launch' AND team = $1 AND service = $2
         AND at > $3::text::timestamptz - interval '3 hours' AND at <= $3::text::timestamptz ORDER BY price_usd_h DESC NULLS LAST, id LIMIT 5"
    );
    let query = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(&owner.0).bind(&owner.1).bind(until.to_rfc3339());
    query.fetch_all(connection).await.map_err(LedgerFault::during("read the decisions behind a cost"))
}

/// The services that were out of the ordinary in any of the last `hours` full hours before `now`, of the teams and services that filters leave; marked ones are
/// left out.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn find(connection: &mut PgConnection, now: Timestamp, hours: i64, only: &[Only]) -> Result<Vec<Found>, LedgerFault> {
    let end = now.0.div_euclid(HOUR);
    let from = end - HISTORY - hours;
    let costs = hourly(connection, Timestamp(from * HOUR), Timestamp(end * HOUR)).await?;
    let mut found = Vec::new();
    let asked = |(team, service): &(String, String)| fits(only, |by| if by == By::Team { team } else { service });
    for (owner, costs) in costs.into_iter().filter(|(owner, _)| asked(owner)) {
        // The latest of an unbroken run stands for all of it.
        let mut last_hour = None;
        for unusual in (end - hours..end).rev().filter_map(|hour| anomaly(&costs, hour)) {
            if last_hour.replace(unusual.hour) == Some(unusual.hour + 1) {
                continue;
            }
            let until = Timestamp((unusual.hour + 1) * HOUR);
            if is_marked(connection, &owner, until).await? {
                continue;
            }
            let was = drivers(connection, &owner, until - Millis(WEEK * HOUR)).await?;
            let is = drivers(connection, &owner, until).await?;
            let (cause, moved) = explained(&was, &is);
            let decisions = bought_for(connection, &owner, until).await?;
            let (team, service) = owner.clone();
            found.push(Found { team, service, until, cost: unusual.cost, ordinary: unusual.ordinary, cause, moved, decisions });
        }
    }
    Ok(found)
}

/// What was found, for people.
pub fn report(found: &[Found]) -> Report {
    let columns = ["until", "team", "service", "cost_usd_h", "ordinary_usd_h", "cause", "steps", "decisions"];
    let moved = |f: &Found| f.moved.iter().map(|(driver, usd)| format!("{driver} {}", two_decimals(*usd))).collect::<Vec<_>>().join(", ");
    let rows = found.iter().map(|f| {
        let texts = [
            f.until.to_rfc3339(),
            f.team.clone(),
            f.service.clone(),
            two_decimals(f.cost),
            two_decimals(f.ordinary),
            f.cause.as_str().to_owned(),
        ];
        let mut row: Vec<Option<String>> = texts.into_iter().map(Some).collect();
        row.extend([Some(moved(f)), Some(f.decisions.join(" "))]);
        row
    });
    let sentence = match found.len() {
        0 => "No service's cost is unusual.".to_owned(),
        1 => "The cost of one service is unusual.".to_owned(),
        n => format!("The cost of a service was unusual {n} times."),
    };
    Report { sentence, columns: columns.map(String::from).to_vec(), rows: rows.collect() }
}

/// Marks a time range as planned (or expected, or a false alarm): it is not reported.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn mark(
    connection: &mut PgConnection,
    (team, service): (Option<&str>, Option<&str>),
    (from, to): (Timestamp, Timestamp),
    (mark, note): (&str, &str),
) -> Result<(), LedgerFault> {
    let sql = "INSERT INTO ledger.anomaly_mark (team, service, from_at, to_at, mark, note) VALUES ($1, $2, $3::text::timestamptz, $4::text::timestamptz, $5, $6)";
    let query = sqlx::query(sql).bind(team).bind(service).bind(from.to_rfc3339()).bind(to.to_rfc3339()).bind(mark).bind(note);
    query.execute(connection).await.map_err(LedgerFault::during("mark a span"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_what_carries_most_of_the_difference() {
        let used = |gpu_hours: i64, usd: i64, machine: &str, market| -> Drivers {
            let used = Use { gpu_ms: gpu_hours * HOUR, cost: MicroUsd(usd * 1_000_000) };
            Drivers { useful: BTreeMap::from([((machine.to_owned(), market), used)]), ..Drivers::default() }
        };
        let was = used(10, 10, "g6", CapacityType::Spot);
        for (is, cause) in [
            (used(10, 30, "g6", CapacityType::Spot), Cause::Price),
            (used(30, 30, "g6", CapacityType::Spot), Cause::Quantity),
            (used(10, 30, "g6", CapacityType::OnDemand), Cause::Mix),
            (used(10, 30, "p5", CapacityType::Spot), Cause::Mix),
        ] {
            let (found, moved) = explained(&was, &is);
            assert_eq!((found, moved.iter().map(|(_, usd)| usd.0).sum::<i64>()), (cause, 20_000_000), "{moved:?}");
        }
    }
}
