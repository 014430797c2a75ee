//! DescribeSpotPriceHistory and GetSpotPlacementScores: what the spot market says of itself.

use std::collections::BTreeMap;

use crate::core::units::ids::{InstanceType, Region, ZoneId};
use crate::core::units::time::{Millis, Timestamp};

use super::super::account::capacity::ZoneCapacity;
use super::super::account::instance::CapacityType;
use super::super::account::{Account, PricePoint, places::Zone};
use super::super::fault::Fault;
use super::super::query::{Filter, Params, page};
use super::{Call, answered};

/// The one product the catalog has prices of.
const PRODUCT: &str = "Linux/UNIX";
/// How far back the history goes.
const HISTORY: Millis = Millis::from_hours(90 * 24);

#[derive(Clone)]
struct PriceRow {
    zone: Zone,
    it: InstanceType,
    point: PricePoint,
}

fn time_of(params: &Params, key: &str) -> Result<Option<Timestamp>, Fault> {
    let Some(text) = params.get(key) else { return Ok(None) };
    let instant: jiff::Timestamp = text.parse().map_err(|_| Fault::value(text, key, "Expected a timestamp."))?;
    Ok(Some(Timestamp(instant.as_millisecond())))
}

pub(super) fn describe_spot_price_history(account: &mut Account, call: Call<'_>) -> Result<String, Fault> {
    let params = call.params;
    if params.get("AvailabilityZone").is_some() && params.get("AvailabilityZoneId").is_some() {
        return Err(Fault::bad("InvalidParameterCombination", "AvailabilityZone and AvailabilityZoneId may not be used together."));
    }
    let (start, end) = (time_of(params, "StartTime")?, time_of(params, "EndTime")?);
    let (types, products) = (params.list("InstanceType"), params.list("ProductDescription"));
    let filters = params.filters();
    let mut rows = Vec::new();
    for ((zone_id, it), points) in &account.spot_prices {
        let Some(zone) = account.places.zone(zone_id).filter(|zone| zone.region == *call.region) else { continue };
        let named = |key: &str, value: &str| params.get(key).is_none_or(|wanted| wanted == value);
        let wanted = (types.is_empty() || types.iter().any(|name| name == it.as_str()))
            && (products.is_empty() || products.iter().any(|product| product == PRODUCT))
            && named("AvailabilityZone", &zone.name)
            && named("AvailabilityZoneId", zone.id.as_str());
        if !wanted {
            continue;
        }
        for point in points_between(points, start.unwrap_or(call.now - HISTORY), end.unwrap_or(call.now)) {
            let row = PriceRow { zone: zone.clone(), it: it.clone(), point };
            if row_matches(&row, &filters)? {
                rows.push(row);
            }
        }
    }
    let (rows, next) = page(&rows, params, 1_000)?;
    answered(|xml| {
        xml.list("spotPriceHistorySet", rows, |xml, row| {
            xml.text("instanceType", row.it).text("productDescription", PRODUCT).text("spotPrice", price_text(row.point));
            xml.text("timestamp", row.point.since).text("availabilityZone", row.zone.name).text("availabilityZoneId", row.zone.id);
        });
        // The last page carries an empty token, not none.
        xml.text("nextToken", next.unwrap_or_default());
    })
}

/// The changes within a span, newest first, and the last one before it: so `StartTime=now` gives the price that holds.
fn points_between(points: &[PricePoint], start: Timestamp, end: Timestamp) -> Vec<PricePoint> {
    let before = points.iter().rev().find(|point| point.since <= start);
    let within = points.iter().rev().filter(|point| point.since > start && point.since <= end);
    within.chain(before).copied().collect()
}

/// Six decimals, as EC2 prints spot prices.
fn price_text(point: PricePoint) -> String {
    format!("{}.{:06}", point.price.0 / 1_000_000, point.price.0 % 1_000_000)
}

fn row_matches(row: &PriceRow, filters: &[Filter]) -> Result<bool, Fault> {
    for filter in filters {
        let fits = match filter.name.as_str() {
            "availability-zone" => filter.matches(&row.zone.name),
            "availability-zone-id" => filter.matches(row.zone.id.as_str()),
            "instance-type" => filter.matches(row.it.as_str()),
            "product-description" => filter.matches(PRODUCT),
            "spot-price" => filter.matches(&price_text(row.point)) || filter.matches(&row.point.price.to_string()),
            "timestamp" => filter.matches(&row.point.since.to_string()),
            other => return Err(Fault::value(other, "Filter", "The filter does not exist.")),
        };
        if !fits {
            return Ok(false);
        }
    }
    Ok(true)
}

/// EC2 keeps its method to itself. Here a place's score is ten times the share of the asked types that it could launch on
/// spot now, at least 1; fewer than three types score at most 3, as EC2 says such a request scores low.
pub(super) fn get_spot_placement_scores(account: &mut Account, call: Call<'_>) -> Result<String, Fault> {
    let params = call.params;
    let capacity = params.number("TargetCapacity")?.ok_or_else(|| Fault::missing("TargetCapacity"))?;
    if capacity < 1 {
        return Err(Fault::value(&capacity.to_string(), "TargetCapacity", "Expected at least 1."));
    }
    let types: Vec<InstanceType> = params.list("InstanceType").into_iter().map(InstanceType::from).collect();
    if types.is_empty() {
        return Err(Fault::missing("InstanceTypes"));
    }
    if let Some(unknown) = types.iter().find(|it| !account.facts.types.contains_key(it)) {
        return Err(Fault::bad("InvalidInstanceType", format!("The following supplied instance types do not exist: [{unknown}]")));
    }
    count_configuration(account, call)?;
    let asked = params.list("RegionName");
    let single_zone = params.flag("SingleAvailabilityZone");
    let mut scores: Vec<(i64, Region, Option<ZoneId>)> = Vec::new();
    for region in account.places.regions().into_iter().filter(|region| asked.is_empty() || asked.iter().any(|name| name == region.as_str()))
    {
        let zones: Vec<ZoneId> =
            account.places.zones_of(&region).into_iter().filter(|zone| !zone.is_local).map(|zone| zone.id.clone()).collect();
        if single_zone {
            for zone in zones {
                scores.push((score(account, &region, std::slice::from_ref(&zone), &types, capacity), region.clone(), Some(zone)));
            }
        } else {
            scores.push((score(account, &region, &zones, &types, capacity), region, None));
        }
    }
    scores.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| (&a.1, &a.2).cmp(&(&b.1, &b.2))));
    scores.truncate(10);
    let (scores, next) = page(&scores, params, 10)?;
    answered(|xml| {
        xml.list("spotPlacementScoreSet", scores, |xml, (score, region, zone)| {
            xml.text("region", region).maybe("availabilityZoneId", zone).text("score", score);
        });
        xml.maybe("nextToken", next);
    })
}

fn score(account: &Account, region: &Region, zones: &[ZoneId], types: &[InstanceType], capacity: i64) -> i64 {
    let has_room = |zone: &ZoneId, it: &InstanceType| {
        let zone_capacity =
            ZoneCapacity { region: region.clone(), zone: zone.clone(), instance_type: it.clone(), capacity_type: CapacityType::Spot };
        account.spot_prices.contains_key(&(zone.clone(), it.clone()))
            && account.capacity_left(&zone_capacity).is_none_or(|left| i64::try_from(left).is_ok_and(|left| left >= capacity))
    };
    let open = types.iter().filter(|it| zones.iter().any(|zone| has_room(zone, it))).count();
    let share = i64::try_from(open * 10 / types.len().max(1)).unwrap_or(1);
    share.clamp(1, if types.len() < 3 { 3 } else { 10 })
}

/// New configurations per 24 hours are limited; repeats are free.
fn count_configuration(account: &mut Account, call: Call<'_>) -> Result<(), Fault> {
    let configuration = format!("{:?}", call.params.without(&["NextToken", "MaxResults", "DryRun", "Action", "Version"]));
    let recent: BTreeMap<String, Timestamp> = account
        .score_configurations
        .iter()
        .filter(|(_, at)| call.now.since(**at) < Millis::from_hours(24))
        .map(|(c, at)| (c.clone(), *at))
        .collect();
    account.score_configurations = recent;
    if account.score_configurations.contains_key(&configuration) {
        return Ok(());
    }
    if account.score_configurations.len() >= account.settings.placement_score_configurations {
        return Err(Fault::bad("MaxConfigLimitExceeded", "You have exceeded your maximum allowed Spot placement configurations."));
    }
    account.score_configurations.insert(configuration, call.now);
    Ok(())
}
