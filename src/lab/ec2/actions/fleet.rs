//! CreateFleet with type `instant`: one attempt, an answer per override, HTTP 200 even when nothing was launched.

use std::collections::BTreeMap;

use crate::core::units::ids::{InstanceId, InstanceType, ZoneId};
use crate::core::units::money::MicroUsdPerHour;

use super::super::account::capacity::ZoneCapacity;
use super::super::account::instance::{CapacityType, LaunchDetails};
use super::super::account::launch::{LaunchOrder, Launcher};
use super::super::account::{Account, Remembered};
use super::super::fault::Fault;
use super::super::query::Params;
use super::super::xml::Xml;
use super::run::{details_from, zone_of};
use super::{Call, answered, tags_for};

/// EC2's limit for `instant`.
const MOST_TEMPLATE_CONFIGS: usize = 50;
const MOST_CAPACITY: i64 = 10_000;

/// One override in one zone, ready to be tried.
#[derive(Clone)]
struct Candidate {
    template: Params,
    over: Params,
    zone: ZoneId,
    instance_type: InstanceType,
    details: LaunchDetails,
    max_price: Option<MicroUsdPerHour>,
    priority: Option<i64>,
}

/// What became of one override.
struct Outcome {
    candidate: Candidate,
    capacity_type: CapacityType,
    result: Result<Vec<InstanceId>, Fault>,
}

pub(super) fn create_fleet(account: &mut Account, call: Call<'_>) -> Result<String, Fault> {
    let params = call.params;
    if params.get("Type") != Some("instant") {
        let given = params.get("Type").unwrap_or("maintain");
        return Err(Fault::value(given, "Type", "This simulator knows fleets of type instant only."));
    }
    let frozen = params.without(&["ClientToken"]);
    let key = params.get("ClientToken").map(|token| (call.region.clone(), call.action.to_owned(), token.to_owned()));
    if let Some(key) = &key
        && let Some(answer) = account.recall(key, &frozen)?
    {
        return Ok(answer);
    }
    let (spot, on_demand) = target(params)?;
    let configs = params.members("LaunchTemplateConfigs");
    if configs.is_empty() || configs.len() > MOST_TEMPLATE_CONFIGS {
        return Err(Fault::value(&configs.len().to_string(), "LaunchTemplateConfigs", "Expected 1 to 50 launch template configurations."));
    }
    let fleet = account.new_id("fleet");
    let (candidates, mut outcomes) =
        candidates(account, call, &configs, &fleet, if spot > 0 { CapacityType::Spot } else { CapacityType::OnDemand })?;
    for (capacity_type, wanted, options) in
        [(CapacityType::OnDemand, on_demand, params.under("OnDemandOptions")), (CapacityType::Spot, spot, params.under("SpotOptions"))]
    {
        if wanted > 0 {
            outcomes.extend(fill(account, call, &fleet, candidates.clone(), (capacity_type, wanted, &options))?);
        }
    }
    let answer = answered(|xml| write_fleet(xml, account, &fleet, &outcomes))?;
    if let Some(key) = key {
        let instances = outcomes.iter().filter_map(|outcome| outcome.result.as_ref().ok()).flatten().cloned().collect();
        account.tokens.insert(key, Remembered { params: frozen, answer: answer.clone(), instances });
    }
    Ok(answer)
}

/// How many spot and on-demand instances are wanted.
fn target(params: &Params) -> Result<(i64, i64), Fault> {
    let spec = params.under("TargetCapacitySpecification");
    let total = spec.number("TotalTargetCapacity")?.ok_or_else(|| Fault::missing("TargetCapacitySpecification.TotalTargetCapacity"))?;
    if !(1..=MOST_CAPACITY).contains(&total) {
        return Err(Fault::value(&total.to_string(), "TotalTargetCapacity", "Expected 1 to 10000."));
    }
    let (spot, on_demand) = (spec.number("SpotTargetCapacity")?, spec.number("OnDemandTargetCapacity")?);
    match (spec.get("DefaultTargetCapacityType").unwrap_or("on-demand"), spot, on_demand) {
        (_, Some(spot), Some(on_demand)) if spot + on_demand <= total => Ok((spot, on_demand)),
        ("spot", _, on_demand) => Ok((total - on_demand.unwrap_or(0), on_demand.unwrap_or(0))),
        ("on-demand", spot, _) => Ok((spot.unwrap_or(0), total - spot.unwrap_or(0))),
        (other, ..) => Err(Fault::value(other, "DefaultTargetCapacityType", "This simulator knows spot and on-demand.")),
    }
}

fn candidates(
    account: &Account,
    call: Call<'_>,
    configs: &[Params],
    fleet: &str,
    market: CapacityType,
) -> Result<(Vec<Candidate>, Vec<Outcome>), Fault> {
    let (mut found, mut refused) = (Vec::new(), Vec::new());
    let fleet_tags = tags_for(call.params, "TagSpecification", "instance");
    for config in configs {
        let spec = config.under("LaunchTemplateSpecification");
        let template = account.template_of(call.region, &spec)?;
        let version = template.version(spec.get("Version"))?;
        let overrides = config.members("Overrides");
        for over in if overrides.is_empty() { vec![Params::default()] } else { overrides } {
            let mut details = details_from(&version.data.overlaid(&over))?;
            details.template = Some((template.id.clone(), version.number));
            details.client_token = call.params.get("ClientToken").map(str::to_owned);
            details.tags = tags_for(&version.data, "TagSpecification", "instance");
            details.tags.extend(fleet_tags.clone());
            details.tags.insert("aws:ec2:fleet-id".into(), fleet.to_owned());
            details.tags.insert("aws:ec2launchtemplate:id".into(), template.id.clone());
            details.tags.insert("aws:ec2launchtemplate:version".into(), version.number.to_string());
            let instance_type =
                over.get("InstanceType").or(version.data.get("InstanceType")).ok_or_else(|| Fault::missing("InstanceType"))?;
            let candidate = Candidate {
                template: spec.clone().overlaid(&Params::parse(&format!("Id={}&Number={}", template.id, version.number))),
                zone: ZoneId::from(""),
                instance_type: instance_type.into(),
                max_price: max_price(&over, "MaxPrice")?,
                priority: over.get("Priority").and_then(|text| text.split('.').next()).and_then(|text| text.parse().ok()),
                details,
                over: over.clone(),
            };
            match zone_of(account, call.region, &over) {
                Ok(Some(zone)) => found.push(Candidate { zone, ..candidate }),
                Ok(None) => {
                    let zones = account.places.zones_of(call.region).into_iter().filter(|zone| !zone.is_local);
                    let offering = zones.filter(|zone| account.facts.is_offered(&zone.id, &candidate.instance_type));
                    found.extend(offering.map(|zone| Candidate { zone: zone.id.clone(), ..candidate.clone() }));
                }
                Err(fault) => refused.push(Outcome { candidate, capacity_type: market, result: Err(fault) }),
            }
        }
    }
    Ok((found, refused))
}

/// A cap on the spot price, which must be above $0.001.
pub(super) fn max_price(params: &Params, key: &str) -> Result<Option<MicroUsdPerHour>, Fault> {
    let Some(text) = params.get(key) else { return Ok(None) };
    let price: MicroUsdPerHour = text.parse().map_err(|_| Fault::value(text, key, "Expected dollars per hour."))?;
    if price.0 <= 1_000 {
        return Err(Fault::value(text, key, "The price must be greater than 0.001."));
    }
    Ok(Some(price))
}

/// The order in which a strategy tries capacities. `price-capacity-optimized` filters by capacity first, then goes by price.
fn ordered(
    account: &Account,
    call: Call<'_>,
    mut candidates: Vec<Candidate>,
    capacity_type: CapacityType,
    strategy: &str,
) -> Result<Vec<Candidate>, Fault> {
    let price = |candidate: &Candidate| {
        let price = match capacity_type {
            CapacityType::Spot => account.spot_price_at(&candidate.zone, &candidate.instance_type, call.now),
            CapacityType::OnDemand => account.on_demand_price(call.region, &candidate.instance_type),
        };
        price.map_or(i64::MAX, |price| price.0)
    };
    let room = |candidate: &Candidate| account.capacity_left(&capacity_of(call, candidate, capacity_type)).unwrap_or(u64::MAX);
    match (capacity_type, strategy) {
        (_, "lowest-price" | "lowestPrice") => candidates.sort_by_key(price),
        (CapacityType::OnDemand, "prioritized") => candidates.sort_by_key(|candidate| candidate.priority.unwrap_or(i64::MAX)),
        (CapacityType::Spot, "price-capacity-optimized") => candidates.sort_by_key(|candidate| (room(candidate) == 0, price(candidate))),
        (CapacityType::Spot, "capacity-optimized") => candidates.sort_by_key(|candidate| std::cmp::Reverse(room(candidate))),
        (CapacityType::Spot, "capacity-optimized-prioritized") => {
            candidates.sort_by_key(|candidate| (room(candidate) == 0, candidate.priority.unwrap_or(i64::MAX)));
        }
        (CapacityType::Spot, "diversified") => {}
        (_, other) => return Err(Fault::value(other, "AllocationStrategy", "Unknown allocation strategy.")),
    }
    Ok(candidates)
}

fn capacity_of(call: Call<'_>, candidate: &Candidate, capacity_type: CapacityType) -> ZoneCapacity {
    ZoneCapacity {
        region: call.region.clone(),
        zone: candidate.zone.clone(),
        instance_type: candidate.instance_type.clone(),
        capacity_type,
    }
}

/// What one market gave: launched instances and refusals, by the candidate's place in the order tried.
#[derive(Default)]
struct Attempt {
    launched: BTreeMap<usize, Vec<InstanceId>>,
    refused: BTreeMap<usize, Fault>,
}

fn fill(
    account: &mut Account,
    call: Call<'_>,
    fleet: &str,
    candidates: Vec<Candidate>,
    (capacity_type, wanted, options): (CapacityType, i64, &Params),
) -> Result<Vec<Outcome>, Fault> {
    let least = options.number("MinTargetCapacity")?.unwrap_or(0);
    if least > 0 && !options.flag("SingleInstanceType") && !options.flag("SingleAvailabilityZone") {
        let message = "MinTargetCapacity requires SingleInstanceType or SingleAvailabilityZone.";
        return Err(Fault::bad("InvalidParameterCombination", message));
    }
    let strategy = options.get("AllocationStrategy").unwrap_or("lowest-price");
    let open = ordered(account, call, candidates, capacity_type, strategy)?;
    let before = (least > 0).then(|| account.clone());
    let mut attempt = launch_until(account, call, fleet, &open, (capacity_type, wanted, options));
    let count = attempt.launched.values().map(Vec::len).sum::<usize>();
    if let Some(before) = before.filter(|_| i64::try_from(count).is_ok_and(|count| count < least)) {
        // All or nothing: the account is as it was.
        *account = before;
        attempt.launched.clear();
        let message = "Unable to fulfill capacity due to your request configuration. Please adjust your request and try again.";
        attempt.refused = (0..open.len()).map(|index| (index, Fault::bad("UnfulfillableCapacity", message))).collect();
    }
    let mut outcomes = Vec::new();
    for (index, candidate) in open.into_iter().enumerate() {
        let launched = attempt.launched.remove(&index).map(Ok);
        let refused = attempt.refused.remove(&index).map(Err);
        outcomes.extend(launched.into_iter().chain(refused).map(|result| Outcome { candidate: candidate.clone(), capacity_type, result }));
    }
    Ok(outcomes)
}

/// Launches one instance after the other until enough run or no capacity is left; a capacity that refuses is not tried again.
fn launch_until(
    account: &mut Account,
    call: Call<'_>,
    fleet: &str,
    open: &[Candidate],
    (capacity_type, wanted, options): (CapacityType, i64, &Params),
) -> Attempt {
    let mut attempt = Attempt::default();
    let (mut count, mut turn) = (0, 0_usize);
    let mut alive: Vec<usize> = (0..open.len()).collect();
    let (one_type, one_zone) = (options.flag("SingleInstanceType"), options.flag("SingleAvailabilityZone"));
    while count < wanted && !alive.is_empty() {
        let place = if options.get("AllocationStrategy") == Some("diversified") { turn % alive.len() } else { 0 };
        let index = alive[place];
        let candidate = &open[index];
        let order = LaunchOrder {
            zone_capacity: capacity_of(call, candidate, capacity_type),
            max_price: candidate.max_price,
            details: candidate.details.clone(),
            reservation: account.new_id("r"),
            launcher: Launcher::Fleet(fleet.to_owned()),
        };
        match account.launch(order, call.now) {
            Ok(id) => {
                attempt.launched.entry(index).or_default().push(id);
                (count, turn) = (count + 1, turn + 1);
                alive.retain(|other| {
                    (!one_type || open[*other].instance_type == candidate.instance_type)
                        && (!one_zone || open[*other].zone == candidate.zone)
                });
            }
            Err(fault) => {
                attempt.refused.insert(index, fault);
                alive.remove(place);
            }
        }
    }
    attempt
}

fn write_fleet(xml: &mut Xml, account: &Account, fleet: &str, outcomes: &[Outcome]) {
    xml.text("fleetId", fleet);
    let refused = outcomes.iter().filter_map(|outcome| Some((outcome, outcome.result.as_ref().err()?)));
    xml.list("errorSet", refused, |xml, (outcome, fault)| {
        write_override(xml, outcome, account);
        xml.text("errorCode", &fault.code).text("errorMessage", &fault.message);
    });
    let launched = outcomes.iter().filter_map(|outcome| Some((outcome, outcome.result.as_ref().ok()?)));
    xml.list("fleetInstanceSet", launched, |xml, (outcome, ids)| {
        write_override(xml, outcome, account);
        xml.texts("instanceIds", ids).text("instanceType", &outcome.candidate.instance_type);
        if let Some(zone) = account.places.zone(&outcome.candidate.zone) {
            xml.text("availabilityZone", &zone.name).text("availabilityZoneId", &zone.id).text("subnetId", &zone.subnet);
        }
    });
}

fn write_override(xml: &mut Xml, outcome: &Outcome, account: &Account) {
    let candidate = &outcome.candidate;
    xml.element("launchTemplateAndOverrides", |xml| {
        xml.element("launchTemplateSpecification", |xml| {
            xml.maybe("launchTemplateId", candidate.template.get("Id")).maybe("version", candidate.template.get("Number"));
        });
        xml.element("overrides", |xml| {
            let over = &candidate.over;
            let zone = account.places.zone(&candidate.zone);
            xml.text("instanceType", &candidate.instance_type).maybe("maxPrice", over.get("MaxPrice"));
            xml.maybe("subnetId", over.get("SubnetId")).maybe("priority", over.get("Priority"));
            xml.maybe("availabilityZone", over.get("AvailabilityZone").or(zone.map(|zone| zone.name.as_str())));
            xml.maybe("availabilityZoneId", over.get("AvailabilityZoneId"));
        });
    });
    xml.text("lifecycle", outcome.capacity_type.as_str());
}
