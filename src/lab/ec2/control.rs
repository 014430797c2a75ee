//! `/_sim/…`: how tests and the demo steer the account and look into it. Every order is strict: unknown fields are refused.

use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::time::Duration;

use crate::core::units::ids::{InstanceId, InstanceType, Region, ZoneId};
use crate::core::units::money::{MicroUsd, MicroUsdPerHour};
use crate::core::units::time::{Millis, Timestamp};

use super::account::Account;
use super::account::capacity::{BootRule, CapacityMatch, ZoneCapacity};
use super::account::instance::{CapacityType, Instance};
use super::account::interruption::{Announcement, Interruption};
use super::fault::Fault;
use super::imds::base64_decoded;
use super::server::{Simulator, seconds};

/// Orders about the way calls are answered, which the account itself knows nothing of.
#[derive(Debug, Default)]
pub(super) struct HttpOrders {
    stalls: Vec<Stall>,
    denials: Vec<Denial>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stall {
    action: String,
    seconds: f64,
    /// `before` the effect (the default) or `after` it.
    when: Option<String>,
    /// How many calls; absent is all.
    times: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Denial {
    service: String,
    action: Option<String>,
    region: Option<String>,
    on: bool,
}

impl HttpOrders {
    /// How long a call waits before and after its effect.
    pub(super) fn stall(&mut self, action: &str) -> (Duration, Duration) {
        let (mut before, mut after) = (Duration::ZERO, Duration::ZERO);
        for stall in self.stalls.iter_mut().filter(|stall| stall.action == action && stall.times != Some(0)) {
            stall.times = stall.times.map(|times| times - 1);
            let side = if stall.when.as_deref() == Some("after") { &mut after } else { &mut before };
            *side += seconds(stall.seconds);
        }
        (before, after)
    }

    /// Whether a call is refused for want of permission.
    pub(super) fn denies(&self, service: &str, action: &str, region: &Region) -> bool {
        self.denials.iter().any(|denial| {
            denial.service == service
                && denial.action.as_ref().is_none_or(|denied| denied == action)
                && denial.region.as_ref().is_none_or(|denied| denied == region.as_str())
        })
    }

    fn set_stall(&mut self, stall: Stall) {
        self.stalls.retain(|known| known.action != stall.action || known.when != stall.when);
        if stall.seconds > 0.0 {
            self.stalls.push(stall);
        }
    }

    fn set_denial(&mut self, denial: Denial) {
        self.denials.retain(|known| known.service != denial.service || known.action != denial.action || known.region != denial.region);
        if denial.on {
            self.denials.push(denial);
        }
    }
}

pub(super) fn answer(simulator: &Simulator, method: &Method, path: &str, body: &[u8]) -> Response {
    if let Some(id) = path.strip_prefix("instances/").and_then(|rest| rest.strip_suffix("/user-data")) {
        return user_data(simulator, id);
    }
    let result = match (method.as_str(), path) {
        ("GET", "state") => Ok(state(simulator)),
        ("GET", "bill") => Ok(bill(simulator)),
        ("POST", "interrupt") => parsed(body).and_then(|order| interrupt(simulator, order)),
        ("POST", "schedule") => parsed(body).and_then(|order| schedule(simulator, order)),
        ("POST", "capacity") => parsed(body).and_then(|order| capacity(simulator, order)),
        ("POST", "quota") => parsed(body).map(|order| quota(simulator, order)),
        ("POST", "reservation") => parsed(body).and_then(|order| reservation(simulator, &order)),
        ("POST", "region") => parsed(body).map(|order| region(simulator, order)),
        ("POST", "price") => parsed(body).and_then(|order| price(simulator, &order)),
        ("POST", "stall") => parsed(body).map(|order| stall(simulator, order)),
        ("POST", "deny") => parsed(body).map(|order| deny(simulator, order)),
        ("POST", "boot") => parsed(body).and_then(|order| boot(simulator, order)),
        ("POST", "sqs") => parsed(body).map(|order| message(simulator, order)),
        ("POST", "tick") => parsed(body).map(|order| tick(simulator, &order)),
        _ => Err(Fault::new(404, "NotFound", format!("{method} /_sim/{path} is not a control of this simulator"))),
    };
    match result {
        Ok(body) => json_answer(StatusCode::OK, &body),
        Err(fault) => {
            let status = StatusCode::from_u16(fault.status).unwrap_or(StatusCode::BAD_REQUEST);
            json_answer(status, &json!({"error": fault.code, "message": fault.message}))
        }
    }
}

fn json_answer(status: StatusCode, body: &Value) -> Response {
    (status, [("content-type", "application/json")], body.to_string()).into_response()
}

fn done() -> Value {
    json!({"ok": true})
}

fn stall(simulator: &Simulator, order: Stall) -> Value {
    simulator.orders().set_stall(order);
    done()
}

fn deny(simulator: &Simulator, order: Denial) -> Value {
    simulator.orders().set_denial(order);
    done()
}

/// An absent body is an empty order.
fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| Fault::bad("BadOrder", format!("the order does not read: {error}")))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InterruptOrder {
    instance_id: String,
    notice_seconds: Option<f64>,
    #[serde(default)]
    rebalance_first: bool,
    rebalance_lead_seconds: Option<f64>,
    message: Option<String>,
}

fn millis(value: f64) -> Millis {
    Millis(i64::try_from(seconds(value).as_millis()).unwrap_or(i64::MAX))
}

fn interrupt(simulator: &Simulator, order: InterruptOrder) -> Result<Value, Fault> {
    let announcement = match order.message.as_deref() {
        None | Some("sqs") => Announcement::Sqs,
        Some("none") => Announcement::None,
        Some("duplicate") => Announcement::Duplicate,
        Some("late") => Announcement::Late,
        Some(other) => return Err(Fault::value(other, "message", "Expected sqs, none, duplicate or late.")),
    };
    let (mut account, now) = simulator.account();
    let notice = order.notice_seconds.map_or(account.settings.notice, millis);
    let lead = order.rebalance_lead_seconds.map_or(account.settings.rebalance_lead, millis);
    let rebalance_lead = order.rebalance_first.then_some(lead);
    account.interrupt(&InstanceId::from(order.instance_id), Interruption { notice, rebalance_lead, announcement }, now)?;
    let noticed_at = now + rebalance_lead.unwrap_or(Millis::ZERO);
    Ok(json!({"ok": true, "noticed_at_ms": noticed_at.0, "ends_at_ms": (noticed_at + notice).0}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScheduleOrder {
    instance_id: String,
    /// EC2's code; absent calls off what is scheduled.
    code: Option<String>,
    in_seconds: Option<f64>,
    /// Whether AWS Health says so, too.
    #[serde(default)]
    health: bool,
}

fn schedule(simulator: &Simulator, order: ScheduleOrder) -> Result<Value, Fault> {
    let (mut account, now) = simulator.account();
    let id = InstanceId::from(order.instance_id);
    let Some(code) = order.code else {
        account.call_off_events(&id, order.health, now);
        return Ok(done());
    };
    let not_before = now + millis(order.in_seconds.unwrap_or(0.0));
    let event = account.schedule_event(&id, &code, not_before, order.health, now)?;
    Ok(json!({"instance_event_id": event, "not_before_ms": not_before.0}))
}

fn capacity_type(text: Option<String>) -> Result<Option<CapacityType>, Fault> {
    let known =
        |text: String| CapacityType::named(&text).ok_or_else(|| Fault::value(&text, "capacity_type", "Expected spot or on-demand."));
    text.map(known).transpose()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CapacityOrder {
    region: Option<Region>,
    zone: Option<ZoneId>,
    instance_type: Option<InstanceType>,
    capacity_type: Option<String>,
    available: Option<u64>,
}

fn capacity(simulator: &Simulator, order: CapacityOrder) -> Result<Value, Fault> {
    let capacity_type = capacity_type(order.capacity_type)?;
    let capacities = CapacityMatch { region: order.region, zone: order.zone, instance_type: order.instance_type, capacity_type };
    simulator.account().0.order_capacity(capacities, order.available);
    Ok(done())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QuotaOrder {
    region: Region,
    code: String,
    vcpus: i64,
}

fn quota(simulator: &Simulator, order: QuotaOrder) -> Value {
    simulator.account().0.quotas.insert((order.region, order.code), order.vcpus);
    done()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReservationOrder {
    region: Region,
    zone: ZoneId,
    instance_type: InstanceType,
    count: u64,
    /// Absent: it does not end by itself.
    ends_in_seconds: Option<f64>,
}

fn reservation(simulator: &Simulator, order: &ReservationOrder) -> Result<Value, Fault> {
    let (mut account, now) = simulator.account();
    if !account.facts.is_offered(&order.zone, &order.instance_type) {
        return Err(Fault::value(order.instance_type.as_str(), "instance_type", &format!("{} does not offer it.", order.zone)));
    }
    let (zone, instance_type, capacity_type) = (order.zone.clone(), order.instance_type.clone(), CapacityType::OnDemand);
    let zone_capacity = ZoneCapacity { region: order.region.clone(), zone, instance_type, capacity_type };
    let id = account.reserve(&zone_capacity, order.count, order.ends_in_seconds.map(|seconds| now + millis(seconds)), now);
    Ok(json!({ "capacity_reservation_id": id }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RegionOrder {
    region: Region,
    /// Whether the account may use it.
    on: bool,
}

fn region(simulator: &Simulator, order: RegionOrder) -> Value {
    let (mut account, _) = simulator.account();
    match order.on {
        true => account.closed_regions.remove(&order.region),
        false => account.closed_regions.insert(order.region),
    };
    done()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PriceOrder {
    region: Region,
    zone: ZoneId,
    instance_type: InstanceType,
    price_per_hour: MicroUsdPerHour,
}

fn price(simulator: &Simulator, order: &PriceOrder) -> Result<Value, Fault> {
    let (mut account, now) = simulator.account();
    if account.places.zone(&order.zone).is_none_or(|zone| zone.region != order.region) {
        return Err(Fault::value(order.zone.as_str(), "zone", &format!("{} has no zone of that id.", order.region)));
    }
    if !account.facts.is_offered(&order.zone, &order.instance_type) {
        return Err(Fault::value(order.instance_type.as_str(), "instance_type", &format!("{} does not offer it.", order.zone)));
    }
    account.set_spot_price(&order.zone, &order.instance_type, order.price_per_hour, now);
    Ok(done())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BootOrder {
    seconds: Option<f64>,
    outcome: Option<String>,
    region: Option<Region>,
    zone: Option<ZoneId>,
    instance_type: Option<InstanceType>,
    capacity_type: Option<String>,
    next: Option<u64>,
}

fn boot(simulator: &Simulator, order: BootOrder) -> Result<Value, Fault> {
    let outcome = order.outcome.unwrap_or_else(|| "ok".to_owned());
    if !["ok", "never-joins", "no-gpus"].contains(&outcome.as_str()) {
        return Err(Fault::value(&outcome, "outcome", "Expected ok, never-joins or no-gpus."));
    }
    let capacity_type = capacity_type(order.capacity_type)?;
    let capacities = CapacityMatch { region: order.region, zone: order.zone, instance_type: order.instance_type, capacity_type };
    let (mut account, _) = simulator.account();
    let delay = order.seconds.map_or(account.settings.boot, millis);
    account.boot_rules.push(BootRule { capacities, delay, outcome, left: order.next });
    Ok(done())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MessageOrder {
    region: Region,
    /// Text is sent as it is; anything else as its JSON.
    body: Value,
}

fn message(simulator: &Simulator, order: MessageOrder) -> Value {
    let body = order.body.as_str().map_or_else(|| order.body.to_string(), str::to_owned);
    let (mut account, now) = simulator.account();
    json!({"message_id": account.send_message(&order.region, body, now)})
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TickOrder {
    /// Move the account's clock ahead by this much; absent is not at all.
    seconds: Option<f64>,
}

fn tick(simulator: &Simulator, order: &TickOrder) -> Value {
    simulator.move_clock(millis(order.seconds.unwrap_or(0.0)).0);
    json!({"now_ms": simulator.account().1.0})
}

fn user_data(simulator: &Simulator, id: &str) -> Response {
    let (account, _) = simulator.account();
    let Some(instance) = account.instances.get(&InstanceId::from(id)) else {
        return json_answer(StatusCode::NOT_FOUND, &json!({"error": "NotFound", "message": format!("no instance {id}")}));
    };
    let text = instance.details.user_data.as_deref().map(base64_decoded).unwrap_or_default();
    (StatusCode::OK, [("content-type", "text/plain; charset=utf-8")], text).into_response()
}

fn ms(at: Option<Timestamp>) -> Option<i64> {
    at.map(|at| at.0)
}

fn instance_json(account: &Account, instance: &Instance) -> Value {
    let zone = account.places.zone(&instance.zone);
    let details = &instance.details;
    json!({
        "instance_id": instance.id.as_str(), "region": instance.region.as_str(), "zone": instance.zone.as_str(),
        "zone_name": zone.map(|zone| zone.name.as_str()), "subnet_id": zone.map(|zone| zone.subnet.as_str()),
        "instance_type": instance.instance_type.as_str(), "capacity_type": instance.capacity_type.as_str(),
        "state": instance.state.as_str(), "state_reason": instance.state_reason.map(|reason| reason.code),
        "launched_at_ms": instance.launched_at.0, "running_at_ms": ms(instance.running_at),
        "shutting_down_at_ms": ms(instance.shutting_down_at), "terminated_at_ms": ms(instance.terminated_at),
        "rebalance_at_ms": ms(instance.rebalance_at), "noticed_at_ms": ms(instance.noticed_at), "ends_at_ms": ms(instance.ends_at),
        "spot_request": instance.spot_request.as_ref().map(|request| json!({
            "id": request.id, "state": request.state, "status_code": request.status_code, "updated_at_ms": request.updated_at.0,
            "max_price": request.max_price,
        })),
        "tags": instance.tags, "private_ip": instance.private_ip, "fleet_id": instance.fleet, "reservation_id": instance.reservation,
        "client_token": details.client_token, "image_id": details.image_id, "user_data_base64": details.user_data,
        "capacity_reservation_id": details.capacity_reservation,
        "launch_template_id": details.template.as_ref().map(|(id, _)| id), "launch_template_version": details.template.as_ref().map(|(_, n)| n),
        "instance_profile": details.instance_profile, "security_groups": details.security_groups, "boot_outcome": instance.boot_outcome,
    })
}

/// Instances in the order of their launch.
fn by_launch(account: &Account) -> Vec<&Instance> {
    let mut instances: Vec<&Instance> = account.instances.values().collect();
    instances.sort_by_key(|instance| (instance.launched_at, instance.id.clone()));
    instances
}

fn state(simulator: &Simulator) -> Value {
    let (account, now) = simulator.account();
    let calls = |action: &str| account.calls.get(action).copied().unwrap_or(0);
    let queues: serde_json::Map<String, Value> =
        account.queues.iter().map(|(region, queue)| (region.to_string(), queue.depth().into())).collect();
    json!({
        "now_ms": now.0,
        "instances": by_launch(&account).into_iter().map(|instance| instance_json(&account, instance)).collect::<Vec<_>>(),
        "launch_templates": account.templates.values().map(|template| json!({
            "id": template.id, "name": template.name, "region": template.region.as_str(), "latest_version": template.latest(),
        })).collect::<Vec<_>>(),
        "client_tokens": account.tokens.keys().map(|(region, action, token)| json!({
            "region": region.as_str(), "action": action, "token": token,
        })).collect::<Vec<_>>(),
        "calls": account.calls,
        "run_instances_calls": calls("RunInstances"), "create_fleet_calls": calls("CreateFleet"),
        "queue_depths": queues,
    })
}

fn bill(simulator: &Simulator) -> Value {
    let (account, now) = simulator.account();
    let mut known = MicroUsd(0);
    let mut unknown = 0;
    let mut lines = Vec::new();
    for instance in by_launch(&account) {
        let line = account.bill_line(instance, now);
        match line.amount {
            Some(amount) => known = known + amount,
            None => unknown += 1,
        }
        let segments: Vec<Value> = line
            .segments
            .iter()
            .map(|segment| json!({"from_ms": segment.from.0, "billed_ms": segment.billed.0, "micro_usd_per_hour": segment.price.map(|price| price.0)}))
            .collect();
        lines.push(json!({
            "instance_id": instance.id.as_str(), "region": instance.region.as_str(), "zone": instance.zone.as_str(),
            "instance_type": instance.instance_type.as_str(), "capacity_type": instance.capacity_type.as_str(), "tags": instance.tags,
            "launched_at_ms": instance.launch_time().0, "ended_at_ms": ms(instance.end_time()),
            "segments": segments, "waived": line.waived, "amount_micro_usd": line.amount.map(|amount| amount.0),
        }));
    }
    json!({"now_ms": now.0, "lines": lines, "known_total_micro_usd": known.0, "lines_of_unknown_price": unknown})
}
