//! What EC2 schedules for machines in the simulated world: retirements, stops, reboots, maintenance.
//!
//! Decides: when, for which machine, how long ahead, and what comes of it: one in five is called off.
//! Does not: say what an operator must have done by the date (see [`super::check`]).

use super::chance::Chance;
use super::ec2::Later;
use super::event::Event;
use super::world::World;
use crate::core::fleet::{ScheduledEvent, ScheduledKind};
use crate::core::units::ids::InstanceId;
use crate::core::units::quiet_hours::QuietHours;
use crate::core::units::time::{Millis, Timestamp};

/// `StateReason.Code` of an instance that EC2 stopped on a date it had announced.
const SCHEDULED_STOP: &str = "Server.ScheduledStop";
/// Something is scheduled this often, on average: more often than in the real account, where it is a few times a year.
const EVERY: Millis = Millis::from_hours(12);

/// What is drawn of maintenance.
#[derive(Debug)]
pub struct Maintenance {
    chance: Chance,
}

impl Maintenance {
    /// Of a seed.
    pub fn new(seed: u64) -> Maintenance {
        Maintenance { chance: Chance::new(seed, "maintenance") }
    }

    /// When something is scheduled next.
    pub fn next(&mut self, now: Timestamp) -> Timestamp {
        now + self.chance.waiting(EVERY)
    }

    /// The quiet hours of the pool, in half of all worlds.
    pub fn quiet_hours(&mut self) -> Option<QuietHours> {
        let named = ["22:00-06:00", "01:00-03:00 +02:00", "12:00-12:30 -05:30"];
        self.chance.happens(500).then(|| self.chance.one_of(&named).copied()).flatten()?.parse().ok()
    }
}

impl World {
    pub(super) fn ec2_schedules(&mut self, now: Timestamp, later: &mut Later) {
        if self.faults.quiet {
            return;
        }
        later.push((self.maintenance.next(now), Event::EventScheduled));
        let alive: Vec<InstanceId> = self.ec2.alive().filter(|m| m.doomed_at.is_none()).map(|m| m.instance.id.clone()).collect();
        let chance = &mut self.maintenance.chance;
        let Some(id) = chance.one_of(&alive).cloned() else { return };
        let kind = chance.one_of(&ScheduledKind::ALL).copied().unwrap_or(ScheduledKind::InstanceRetirement);
        // Sooner than days: machines of the simulated weeks seldom live that long.
        let ahead = chance.span(Millis::from_mins(210), Millis::from_hours(12));
        let called_off = chance.happens(200).then(|| Millis(chance.below(ahead.0)));
        self.say(&format!("EC2 schedules {kind} of {id} in {ahead}"));
        self.ec2.schedule(&id, ScheduledEvent { kind, not_before: now + ahead }, now, later);
        if let Some(after) = called_off {
            later.push((now + after, Event::CalledOff(id)));
        }
    }

    /// The date has come: what is still there ends with the machine, or waits until it is back.
    pub(super) fn scheduled_comes(&mut self, id: &InstanceId, now: Timestamp, later: &mut Later) {
        let Some(machine) = self.ec2.machines.get(id).filter(|m| m.alive()) else { return };
        let Some((event, _)) = machine.scheduled.filter(|(event, _)| event.not_before <= now) else { return };
        super::check::at_the_date(self, id, now);
        self.say(&format!("the {} of {id} comes", event.kind));
        match event.kind {
            ScheduledKind::InstanceRetirement | ScheduledKind::InstanceStop => self.ec2.end(id, SCHEDULED_STOP, now, later),
            // It is back within minutes, and what ran there is started again by its kubelet.
            _ => self.ec2.call_off(id, now, later),
        }
    }
}
