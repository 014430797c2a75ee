//! The simulated EC2: machines, tokens, interruptions and the queues that tell of them.
//!
//! Decides: what EC2 does with a launch, when a machine runs, joins and ends, and what is said about it, by the rules that the real
//! service documents (token idempotency, one notice two minutes ahead at best, the request's status before the instance's).
//! Does not: fail on purpose (see [`super::faults`]) or compute the bill (see [`super::bill`]).

use std::collections::{BTreeMap, BTreeSet};

use super::account::Account;
use super::chance::Chance;
use super::event::Event;
use crate::core::fleet::{Instance, InstanceState, Launch, Notice, NoticeKind, ScheduledEvent, TagList, tags};
use crate::core::market::catalog::Catalog;
use crate::core::market::quota::QuotaKey;
use crate::core::market::{Capacity, CapacityType};
use crate::core::units::ids::{InstanceId, Region, Uid};
use crate::core::units::time::{Millis, Timestamp};
use crate::ports::CloudError;

use super::market::SimMarket;

/// EC2 takes a machine this long after it said so.
pub const NOTICE: Millis = Millis::from_mins(2);
/// A message that was received and not deleted comes again after this.
const VISIBILITY: Millis = Millis::from_secs(30);
/// `StateReason.Code` of an instance that EC2 took back.
pub const TAKEN_BACK: &str = "Server.SpotInstanceTermination";

/// What becomes of a machine after its launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boot {
    /// It joins the cluster at this moment.
    Joins(Timestamp),
    /// It joins without its GPUs.
    WithoutGpus(Timestamp),
    /// It never joins.
    Never,
}

/// An instance and what only the world knows about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// As EC2 describes it.
    pub instance: Instance,
    /// The claim it carries in its tags.
    pub claim_uid: Uid,
    /// Not shown before.
    pub shown_from: Timestamp,
    /// What becomes of it.
    pub boot: Boot,
    /// Since when EC2 has meant to take it, if it does.
    pub doomed_at: Option<Timestamp>,
    /// EC2 has said that it is at risk.
    pub at_risk: bool,
    /// What EC2 has scheduled for it, and since when it says so.
    pub scheduled: Option<(ScheduledEvent, Timestamp)>,
    /// EC2 had once scheduled something for it.
    pub was_scheduled: bool,
    /// Whether a notice was sent in time for two minutes.
    pub warned: bool,
    /// Since when no claim has stood for it.
    pub unclaimed_since: Option<Timestamp>,
    /// Since when no pod has wanted it.
    pub unwanted_since: Option<Timestamp>,
}

/// A message on a region's queue.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Message {
    notice: Notice,
    visible_from: Timestamp,
    received: u32,
}

/// EC2 and its queues.
#[derive(Debug)]
pub struct Ec2 {
    /// All machines there ever were.
    pub machines: BTreeMap<InstanceId, Machine>,
    /// Machines that carry our name and are none of ours: of another cluster, and of nobody who says so. They must never end.
    pub neighbours: BTreeMap<InstanceId, Instance>,
    /// Those that EC2 still shows: alive, or ended within the hour.
    present: BTreeSet<InstanceId>,
    tokens: BTreeMap<String, (InstanceId, Launch)>,
    by_claim: BTreeMap<Uid, InstanceId>,
    queues: BTreeMap<Region, BTreeMap<u64, Message>>,
    next: u64,
    /// Launches and ends so far.
    changes: u64,
    of_boot: Chance,
    of_notices: Chance,
    of_notices_of_health: Chance,
}

/// What EC2 has to give.
#[derive(Clone, Copy)]
pub struct Has<'a> {
    /// The market.
    pub market: &'a SimMarket,
    /// The account's limits and its reservation.
    pub account: &'a Account,
    /// Machine types.
    pub catalog: &'a Catalog,
}

/// The private address of the machine of this number.
fn address_of(number: u64) -> String {
    format!("10.{}.{}.{}", number >> 16 & 255, number >> 8 & 255, number & 255)
}

/// What the world must do later because of what EC2 did now.
pub type Later = Vec<(Timestamp, Event)>;

impl Machine {
    /// The uid under which the ledger keeps its books.
    pub fn books(&self) -> Uid {
        self.instance.books().map_or_else(|| self.claim_uid.clone(), Uid::from)
    }

    /// It costs money, or soon will.
    pub fn alive(&self) -> bool {
        matches!(self.instance.state, InstanceState::Pending | InstanceState::Running)
    }
}

impl Ec2 {
    /// The machine that carries this claim's uid, whether anybody wrote it down or not.
    pub fn machine_of(&self, claim_uid: &Uid) -> Option<&Machine> {
        self.by_claim.get(claim_uid).and_then(|id| self.machines.get(id))
    }

    /// Writes on a machine which claim holds it from now on.
    pub fn adopt(&mut self, id: &InstanceId, claim_uid: &Uid, words: &[(&str, &str)]) {
        let Some(machine) = self.machines.get_mut(id) else { return };
        let all = &mut machine.instance.tags;
        *all = words.iter().fold(all.clone(), |tags, (key, value)| tags.with(key, Some(value)));
        machine.claim_uid = claim_uid.clone();
        self.by_claim.insert(claim_uid.clone(), id.clone());
        self.changes += 1;
    }

    /// How many launches and ends there were: while it stays the same, the same machines are alive.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// An account without machines.
    pub fn new(seed: u64) -> Ec2 {
        Ec2 {
            machines: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            present: BTreeSet::new(),
            tokens: BTreeMap::new(),
            by_claim: BTreeMap::new(),
            queues: BTreeMap::new(),
            next: 1,
            changes: 0,
            of_boot: Chance::new(seed, "boot"),
            of_notices: Chance::new(seed, "notices"),
            of_notices_of_health: Chance::new(seed, "notices of AWS Health"),
        }
    }

    /// CreateFleet `instant` with one override: the same token gives the same machine.
    pub fn launch(&mut self, launch: &Launch, has: &Has, now: Timestamp, later: &mut Later) -> Result<InstanceId, CloudError> {
        if let Some((id, first)) = self.tokens.get(&launch.client_token) {
            if first != launch {
                return Err(CloudError::TokenUsed { message: format!("{id} was launched with other parameters") });
            }
            return match self.machines.get(id) {
                Some(machine) if machine.alive() => Ok(id.clone()),
                _ => Err(CloudError::TokenEnded { message: format!("{id} has ended") }),
            };
        }
        self.gives(launch, has, now)?;
        self.changes += 1;
        let (number, id) = (self.next, InstanceId::from(format!("i-{:017x}", self.next)));
        self.next += 1;
        // EC2 says its times in whole seconds.
        let launched_at = Timestamp(now.0 / 1_000 * 1_000);
        let machine = Machine {
            instance: Instance {
                id: id.clone(),
                capacity: launch.capacity.clone(),
                state: InstanceState::Pending,
                launched_at,
                ended_at: None,
                state_reason: None,
                spot_request_status: None,
                addresses: [address_of(number), format!("ip-{}", address_of(number).replace('.', "-"))].into(),
                tags: TagList::from(launch.tags.clone()).with(tags::FLEET, Some("fleet-of-the-simulated-ec2")),
            },
            claim_uid: launch.tags.get(tags::CLAIM_UID).map_or_else(|| launch.claim_uid.clone(), |uid| Uid::from(uid.as_str())),
            shown_from: now + self.of_boot.span(Millis(50), Millis::from_secs(4)),
            boot: self.draw_boot(now),
            doomed_at: None,
            at_risk: false,
            scheduled: None,
            was_scheduled: false,
            warned: false,
            unclaimed_since: None,
            unwanted_since: None,
        };
        later.push((now + self.of_boot.span(Millis::from_secs(2), Millis::from_secs(8)), Event::Runs(id.clone())));
        if let Boot::Joins(at) | Boot::WithoutGpus(at) = machine.boot {
            later.push((at, Event::Joins(id.clone())));
        }
        self.by_claim.insert(machine.claim_uid.clone(), id.clone());
        self.machines.insert(id.clone(), machine);
        self.present.insert(id.clone());
        self.tokens.insert(launch.client_token.clone(), (id.clone(), launch.clone()));
        Ok(id)
    }

    /// Whether a machine of that pool is to be had: within the quota, within the pool, within the reservation.
    fn gives(&self, launch: &Launch, has: &Has, now: Timestamp) -> Result<(), CloudError> {
        let capacity = &launch.capacity;
        if capacity.capacity_type == CapacityType::Reserved {
            let reservation =
                has.account.reservation.as_ref().filter(|r| Some(&r.id) == launch.reservation.as_ref() && r.capacity == *capacity);
            return match reservation {
                Some(r) if now < r.ends_at && self.used_of(capacity) < r.machines => Ok(()),
                Some(r) => {
                    let message = format!("The requested reservation {} does not have sufficient compatible capacity", r.id);
                    Err(CloudError::NoCapacity { code: "ReservationCapacityExceeded".into(), message })
                }
                None => {
                    let message = format!("no reservation of {capacity} is called {:?}", launch.reservation);
                    Err(CloudError::Refused { code: "InvalidCapacityReservationId.NotFound".into(), message })
                }
            };
        }
        let Some(index) = has.market.index_of(capacity) else {
            return Err(CloudError::Refused { code: "Unsupported".into(), message: format!("{capacity} is not sold") });
        };
        let vcpus = |capacity: &Capacity| has.catalog.types.get(&capacity.instance_type).map_or(0, |machine| machine.vcpus);
        let key = QuotaKey::of(capacity);
        let ours = self.alive().map(|m| &m.instance.capacity).filter(|other| key.is_some() && QuotaKey::of(other) == key);
        if has.account.vcpus_left(capacity, ours.map(vcpus).sum()).is_some_and(|left| left < vcpus(capacity)) {
            let spot = capacity.capacity_type == CapacityType::Spot;
            let code = if spot { "MaxSpotInstanceCountExceeded" } else { "VcpuLimitExceeded" };
            let message = format!("You have requested more vCPU capacity than your current limit allows for {capacity}");
            return Err(CloudError::Quota { code: code.into(), message });
        }
        if self.used_of(capacity) >= i64::from(has.market.size(index)) {
            let message = format!("There is no Spot capacity available for {capacity}");
            return Err(CloudError::NoCapacity { code: "InsufficientInstanceCapacity".into(), message });
        }
        Ok(())
    }

    /// How many machines of a pool are alive.
    pub fn used_of(&self, capacity: &Capacity) -> i64 {
        i64::try_from(self.alive().filter(|m| m.instance.capacity == *capacity).count()).unwrap_or(i64::MAX)
    }

    /// Boot takes 60 to 90 s mostly (published for GPU nodes: 60 to 120 s); 2 % never join, 1 % without their GPUs.
    fn draw_boot(&mut self, now: Timestamp) -> Boot {
        let at = now + Millis(self.of_boot.heavy_tailed(Millis::from_secs(70), Millis::from_secs(78)).0.clamp(30_000, 600_000));
        match self.of_boot.below(100) {
            0 | 1 => Boot::Never,
            2 => Boot::WithoutGpus(at),
            _ => Boot::Joins(at),
        }
    }

    /// The machines that run or are about to.
    pub fn alive(&self) -> impl Iterator<Item = &Machine> {
        self.present.iter().filter_map(|id| self.machines.get(id)).filter(|m| m.alive())
    }

    /// Changes each machine that runs or is about to.
    pub fn for_each_alive(&mut self, mut change: impl FnMut(&mut Machine)) {
        for id in &self.present {
            if let Some(machine) = self.machines.get_mut(id).filter(|m| m.alive()) {
                change(machine);
            }
        }
    }

    /// What DescribeInstances shows of `region`: ended instances linger for an hour.
    pub fn describe(&mut self, region: &Region, now: Timestamp) -> Vec<Instance> {
        let lingers = |m: &Machine| m.instance.ended_at.is_none_or(|at| now.since(at) < Millis::from_hours(1));
        let machines = &self.machines;
        self.present.retain(|id| machines.get(id).is_some_and(lingers));
        let present = self.present.iter().filter_map(|id| self.machines.get(id));
        let ours = present.filter(|m| m.instance.capacity.region == *region && m.shown_from <= now).map(|m| m.instance.clone());
        ours.chain(self.neighbours.values().filter(|i| i.capacity.region == *region).cloned()).collect()
    }

    /// Others live in the account: a cluster of the same name, and a machine from before clusters had UIDs.
    pub fn settle_neighbours(&mut self, cluster: &str, capacity: &Capacity, now: Timestamp) {
        for (id, uid) in [("i-of-another-cluster", Some("another-cluster")), ("i-of-nobody", None)] {
            let mut all =
                BTreeMap::from([(tags::CLUSTER.to_owned(), cluster.to_owned()), (tags::CLAIM_UID.to_owned(), format!("claim-of-{id}"))]);
            all.extend(uid.map(|uid| (tags::CLUSTER_UID.to_owned(), uid.to_owned())));
            let instance = Instance {
                id: id.into(),
                // Of a type that the catalog does not know: it takes nothing of the quotas.
                capacity: Capacity { capacity_type: CapacityType::OnDemand, instance_type: "g4.neighbour".into(), ..capacity.clone() },
                state: InstanceState::Running,
                launched_at: now,
                ended_at: None,
                state_reason: None,
                spot_request_status: None,
                addresses: [format!("address-of-{id}")].into(),
                tags: all.into(),
            };
            self.neighbours.insert(instance.id.clone(), instance);
        }
    }

    /// Ends a machine; one that has ended stays ended.
    pub fn end(&mut self, id: &InstanceId, reason: &str, now: Timestamp, later: &mut Later) {
        let Some(machine) = self.machines.get_mut(id).filter(|m| m.alive()) else { return };
        self.changes += 1;
        let instance = &mut machine.instance;
        (instance.state, instance.ended_at) = (InstanceState::Terminated, Some(Timestamp(now.0 / 1_000 * 1_000).max(instance.launched_at)));
        instance.state_reason = Some(reason.to_owned());
        let kind = NoticeKind::StateChange(InstanceState::Terminated);
        let notice = Notice { instance: id.clone(), also: Vec::new(), region: instance.capacity.region.clone(), kind, sent_at: now };
        self.send(notice, now + Millis::from_secs(1), later);
        later.push((now, Event::MachineGone(id.clone())));
    }

    /// EC2 decides to take a machine: its request says so at once, a message mostly follows, and two minutes later it is gone.
    pub fn doom(&mut self, id: &InstanceId, now: Timestamp, later: &mut Later) {
        let Some(machine) = self.machines.get_mut(id).filter(|m| m.alive() && m.doomed_at.is_none()) else { return };
        machine.doomed_at = Some(now);
        machine.instance.spot_request_status = Some(Box::new(("instance-terminated-no-capacity".to_owned(), now)));
        later.push((now + NOTICE, Event::TakenBack(id.clone())));
        let region = machine.instance.capacity.region.clone();
        let notice = |kind| Notice { instance: id.clone(), also: Vec::new(), region: region.clone(), kind, sent_at: now };
        let soon = now + self.of_notices.span(Millis(500), Millis::from_secs(3));
        let fate = self.of_notices.below(100);
        machine.warned = fate < 90;
        match fate {
            0..80 => self.send(notice(NoticeKind::Interruption), soon, later),
            80..90 => {
                self.send(notice(NoticeKind::Interruption), soon, later);
                self.send(notice(NoticeKind::Interruption), soon + Millis::from_secs(2), later);
            }
            90..95 => {
                let late = now + self.of_notices.span(Millis::from_secs(20), Millis::from_secs(150));
                self.send(notice(NoticeKind::Interruption), late, later);
            }
            // "Best effort": it never comes.
            _ => {}
        }
    }

    /// EC2 says that a machine is at risk.
    pub fn recommend_rebalance(&mut self, id: &InstanceId, now: Timestamp, later: &mut Later) {
        let Some(machine) = self.machines.get_mut(id).filter(|m| m.alive()) else { return };
        machine.at_risk = true;
        let region = machine.instance.capacity.region.clone();
        self.send(
            Notice { instance: id.clone(), also: Vec::new(), region, kind: NoticeKind::Rebalance, sent_at: now },
            now + Millis::from_secs(1),
            later,
        );
    }

    /// EC2 schedules something for a machine. AWS Health says so in one of two cases; DescribeInstanceStatus always does.
    pub fn schedule(&mut self, id: &InstanceId, event: ScheduledEvent, now: Timestamp, later: &mut Later) {
        let Some(machine) = self.machines.get_mut(id).filter(|m| m.alive() && m.scheduled.is_none()) else { return };
        (machine.scheduled, machine.was_scheduled) = (Some((event, now)), true);
        later.push((event.not_before, Event::ScheduledComes(id.clone())));
        self.say_by_health(id, NoticeKind::Scheduled(event), now, later);
    }

    /// What was scheduled will not be, or is done: nothing shows it any more.
    pub fn call_off(&mut self, id: &InstanceId, now: Timestamp, later: &mut Later) {
        let Some(machine) = self.machines.get_mut(id).filter(|m| m.alive()) else { return };
        if machine.scheduled.take().is_some() {
            self.say_by_health(id, NoticeKind::ScheduleOver, now, later);
        }
    }

    fn say_by_health(&mut self, id: &InstanceId, kind: NoticeKind, now: Timestamp, later: &mut Later) {
        let Some(region) = self.machines.get(id).map(|m| m.instance.capacity.region.clone()) else { return };
        if self.of_notices_of_health.happens(500) {
            // One fault of a rack names others' instances, too.
            let also = if self.of_notices_of_health.happens(300) { vec!["i-of-somebody".into()] } else { Vec::new() };
            let at = now + self.of_notices_of_health.span(Millis::from_secs(5), Millis::from_mins(20));
            self.send(Notice { instance: id.clone(), also, region, kind, sent_at: now }, at, later);
        }
    }

    /// What DescribeInstanceStatus shows of scheduled events.
    pub fn describe_status(&self, region: &Region) -> BTreeMap<InstanceId, ScheduledEvent> {
        let here = self.alive().filter(|m| m.instance.capacity.region == *region);
        here.filter_map(|m| Some((m.instance.id.clone(), m.scheduled?.0))).collect()
    }

    fn send(&mut self, notice: Notice, visible_from: Timestamp, later: &mut Later) {
        let region = notice.region.clone();
        self.queues.entry(region).or_default().insert(self.next, Message { notice, visible_from, received: 0 });
        self.next += 1;
        later.push((visible_from, Event::MessageComes));
    }

    /// What ReceiveMessage gives now, each with its receipt; until deleted they come again.
    pub fn receive(&mut self, region: &Region, now: Timestamp) -> Vec<(String, Notice)> {
        let Some(queue) = self.queues.get_mut(region) else { return Vec::new() };
        let due = queue.iter_mut().filter(|(_, m)| m.visible_from <= now).take(10);
        due.map(|(id, message)| {
            (message.visible_from, message.received) = (now + VISIBILITY, message.received + 1);
            (format!("{id}#{}", message.received), message.notice.clone())
        })
        .collect()
    }

    /// DeleteMessage.
    pub fn delete_message(&mut self, region: &Region, receipt: &str) {
        let id = receipt.split('#').next().and_then(|id| id.parse().ok());
        if let (Some(queue), Some(id)) = (self.queues.get_mut(region), id) {
            let _: Option<Message> = queue.remove::<u64>(&id);
        }
    }

    /// When the next message of `region` can be received.
    pub fn next_message(&self, region: &Region) -> Option<Timestamp> {
        self.queues.get(region)?.values().map(|m| m.visible_from).min()
    }

    /// Spot machines that run beyond what their pools have, by pool in the order of the market, the youngest first.
    pub fn beyond(&self, market: &SimMarket) -> Vec<(usize, Vec<InstanceId>)> {
        let mut held: BTreeMap<usize, Vec<&Machine>> = BTreeMap::new();
        for machine in self.alive().filter(|m| m.doomed_at.is_none() && m.instance.capacity.capacity_type == CapacityType::Spot) {
            if let Some(index) = market.index_of(&machine.instance.capacity) {
                held.entry(index).or_default().push(machine);
            }
        }
        let surplus = |(index, mut held): (usize, Vec<&Machine>)| {
            let size = usize::try_from(market.size(index)).unwrap_or(usize::MAX);
            held.sort_by(|a, b| (a.instance.launched_at, &a.instance.id).cmp(&(b.instance.launched_at, &b.instance.id)));
            let ids: Vec<InstanceId> = held.iter().skip(size).rev().map(|m| m.instance.id.clone()).collect();
            (!ids.is_empty()).then_some((index, ids))
        };
        held.into_iter().filter_map(surplus).collect()
    }
}
