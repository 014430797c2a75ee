//! Today's market as the operator last wrote it down: the ledger keeps every change of a price.
//!
//! Decides: which of the prices on record are today's, and where on-demand capacity is assumed to be sold.
//! Does not: buy: an offer of this market may be gone, which is good enough for a forecast of weeks.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{PgConnection, Row};

use crate::core::market::{Capacity, CapacityType, Market, Offer, PriceSource};
use crate::core::units::ids::{InstanceType, Region, ZoneId};
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::time::{Millis, Timestamp};
use crate::ledger::store::LedgerFault;

/// Somewhere in a market a spot price changes every hour: when none did for a day, nobody looked.
const TODAY: Millis = Millis::from_hours(24);
/// EC2 itself knows spot prices for no longer.
const REMEMBERED: Millis = Millis::from_hours(90 * 24);

/// Region, zone (of spot), instance type, capacity type, price per hour, and milliseconds since 1970.
type Quote = (String, Option<String>, String, String, String, i64);

const LAST: &str = "
    SELECT DISTINCT ON (region, zone, instance_type, capacity_type) region, zone, instance_type, capacity_type, price_usd_h::text AS price, ledger.ms(at) AS at
    FROM ledger.price_quote
    WHERE at > to_timestamp($1::bigint / 1000.0) AND at <= to_timestamp($2::bigint / 1000.0) AND posted_at < (SELECT ledger.known_before())
    ORDER BY region, zone, instance_type, capacity_type, at DESC, posted_at DESC";

/// The last price of each capacity, and when the newest of them began; `None` where no price is of the last day. On-demand prices are those of a region: such
/// capacity is taken to be sold in the zones that have the type on spot.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn on_record(connection: &mut PgConnection, now: Timestamp) -> Result<Option<(Market, Timestamp)>, LedgerFault> {
    let rows = sqlx::query(LAST).bind((now - REMEMBERED).0).bind(now.0).fetch_all(connection).await;
    let (mut market, mut newest) = (Market::default(), Timestamp(0));
    let mut of_regions: Vec<(Region, InstanceType, MicroUsdPerHour, Timestamp)> = Vec::new();
    let mut zones: BTreeMap<(Region, InstanceType), BTreeSet<ZoneId>> = BTreeMap::new();
    let mut sell = |capacity: Capacity, price_per_hour: MicroUsdPerHour, observed_at: Timestamp| {
        // As prices from a file: they are planned with, whatever their age.
        let offer = Offer {
            capacity: capacity.clone(),
            price_per_hour,
            observed_at,
            source: PriceSource::File,
            interruptions_per_million_hours: 0,
        };
        market.offers.insert(capacity, offer);
    };
    for row in rows.map_err(LedgerFault::during("read today's prices"))? {
        let read = || -> Result<Quote, sqlx::Error> {
            Ok((
                row.try_get("region")?,
                row.try_get("zone")?,
                row.try_get("instance_type")?,
                row.try_get("capacity_type")?,
                row.try_get("price")?,
                row.try_get("at")?,
            ))
        };
        let (region, zone, instance_type, capacity_type, price, at) = read().map_err(LedgerFault::during("read a price"))?;
        let capacity_type: CapacityType = LedgerFault::read_word(&capacity_type, "ledger.price_quote", "capacity_type", &instance_type)?;
        let (region, instance_type, at) = (Region::from(region), InstanceType::from(instance_type), Timestamp(at));
        // A price below a micro-dollar is none that anybody could pay.
        let Ok(price) = price.parse::<MicroUsdPerHour>() else { continue };
        newest = newest.max(at);
        match zone {
            Some(zone) => {
                let zone = ZoneId::from(zone);
                zones.entry((region.clone(), instance_type.clone())).or_default().insert(zone.clone());
                sell(Capacity { region, zone, instance_type, capacity_type }, price, at);
            }
            None => of_regions.push((region, instance_type, price, at)),
        }
    }
    for (region, instance_type, price, at) in of_regions {
        for zone in zones.get(&(region.clone(), instance_type.clone())).into_iter().flatten() {
            let capacity = Capacity {
                region: region.clone(),
                zone: zone.clone(),
                instance_type: instance_type.clone(),
                capacity_type: CapacityType::OnDemand,
            };
            sell(capacity, price, at);
        }
    }
    Ok((now.since(newest) <= TODAY && !market.offers.is_empty()).then_some((market, newest)))
}
