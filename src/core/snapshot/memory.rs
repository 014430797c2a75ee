//! What lowtide itself has learnt of each pool of capacity: refusals, launches, interruptions, and machines that ran on.
//!
//! Decides: how a sighting changes the memory, how it fades, how often a pool is expected to interrupt, and what of it is kept over a restart.
//! Does not: read prices (they say nothing of capacity: measured correlation -0.2 to 0.2), or store itself (see the `kube` adapter).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::core::fleet::{Bindings, TAKEN_FOR, TAKEN_FOR_AT_MOST, Warning};
use crate::core::market::availability::CapacityMemory;
use crate::core::market::quota::QuotaKey;
use crate::core::market::{Capacity, CapacityType, CoolDown, CoolDownCause};
use crate::core::units::ids::Region;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::service_memory::ServiceMemory;

/// Time after which a sighting counts half.
pub const HALF_LIFE: Millis = Millis::from_hours(336);
/// The advisor's band counts as much as this many instance-hours of our own: two weeks of one machine.
pub const ADVISOR_WEIGHT: Millis = Millis::from_hours(336);
/// At most this many pools are kept over a restart, those of the latest sightings: below 300 kB of text, a ConfigMap holds 1 MiB.
pub const MOST_CAPACITIES_KEPT: usize = 600;
/// At most this many bindings are kept over a restart: below 400 kB of text.
const MOST_BINDINGS_KEPT: usize = 800;
/// A pool not seen for this long is forgotten.
const FORGET_AFTER: Millis = Millis::from_hours(60 * 24);
/// A cool-down that ends later than this from now was not written by us: a pool's `coolDown.maxSeconds` is at most a day.
const LONGEST_COOL_DOWN: Millis = Millis::from_hours(24);
/// The five minutes within which 83 to 97 % of second losses follow the first (SpotHedge, EuroSys'25, section 2).
const SAME_EVENT: Millis = Millis::from_mins(5);
const HOUR: i128 = 3_600_000;

/// Something that was seen of a pool of capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sighting {
    /// EC2 gave a machine.
    Launched,
    /// The pool is to be left alone.
    Refused {
        /// Why.
        cause: CoolDownCause,
        /// vCPUs of the machine that was asked for: after a refusal for quota less than these are left.
        vcpus: i64,
        /// First cool-down.
        base: Millis,
        /// Longest cool-down.
        max: Millis,
    },
    /// Our machines ran there, for this long in all, and none was announced to go.
    Ran(Millis),
    /// EC2 announced that it takes one of our machines.
    Interrupted,
    /// EC2 said that one of our machines is at risk, or what came of that.
    Warned(Warning),
}

/// Rebalance recommendations of which it is known what came of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Warnings {
    /// How many.
    pub given: u32,
    /// How many of them a notice followed.
    pub followed: u32,
}

impl Warnings {
    /// Older ones count half once there are this many.
    const MOST: u32 = 64;
    /// Where nothing was seen, one in four is taken to be followed, as if four had been seen. EC2 publishes no figure.
    const PRIOR: (u32, u32) = (1, 4);

    fn count(&mut self, followed: bool) {
        if self.given >= Self::MOST {
            (self.given, self.followed) = (self.given / 2, self.followed / 2);
        }
        (self.given, self.followed) = (self.given + 1, self.followed + u32::from(followed));
    }

    fn is_empty(&self) -> bool {
        self.given == 0
    }

    /// How likely a warning is followed by a notice, in thousandths.
    pub fn followed_per_mille(&self) -> i64 {
        let (followed, given) = (self.followed + Self::PRIOR.0, self.given + Self::PRIOR.1);
        i64::from(followed) * 1_000 / i64::from(given)
    }
}

/// Our instance-hours and interruptions among them; both fade by half every [`HALF_LIFE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Exposure {
    /// Time that our machines ran, summed over machines.
    pub ran: Millis,
    /// Interruptions, in thousandths (they fade too).
    pub interruptions: i64,
    /// Up to when the sums have faded.
    faded_to: Timestamp,
}

impl Exposure {
    /// As it counts at `at`.
    fn faded(mut self, at: Timestamp) -> Exposure {
        let halvings = at.since(self.faded_to).0.max(0) / HALF_LIFE.0;
        let by = u32::try_from(halvings).unwrap_or(62).min(62);
        (self.ran, self.interruptions) = (Millis(self.ran.0 >> by), self.interruptions >> by);
        self.faded_to = self.faded_to + Millis(halvings.saturating_mul(HALF_LIFE.0));
        self
    }

    /// Expected interruptions per million instance-hours: what was seen, with `prior` counting as [`ADVISOR_WEIGHT`] of running time.
    fn per_million_hours(&self, prior: i64) -> i64 {
        let weight = i128::from(ADVISOR_WEIGHT.0);
        // A thousandth of an interruption, times a million, is a thousand.
        let seen = i128::from(self.interruptions) * 1_000 * HOUR;
        let over = weight + i128::from(self.ran.0);
        i64::try_from((i128::from(prior) * weight + seen + over - 1) / over).unwrap_or(i64::MAX)
    }
}

/// What is known of one capacity.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CapacityRecord {
    /// It refused us, and until when it is left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cool_down: Option<CoolDown>,
    /// Whether it had capacity, and for how long at a time.
    pub capacity: CapacityMemory,
    /// Machines that ran, and interruptions.
    pub exposure: Exposure,
    /// Rebalance recommendations, and what came of them.
    #[serde(default, skip_serializing_if = "Warnings::is_empty")]
    pub warnings: Warnings,
    /// The last sighting.
    pub seen_at: Timestamp,
}

/// EC2 refused a machine for want of quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct QuotaRefusal {
    /// vCPUs of that machine: less are left.
    vcpus: i64,
    /// For how long this is believed.
    until: Timestamp,
}

/// What was learnt of all pools.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MarketMemory {
    capacities: BTreeMap<Capacity, CapacityRecord>,
    quota_refusals: BTreeMap<QuotaKey, QuotaRefusal>,
    /// Regions in which EC2 lets the account launch nothing.
    closed_regions: BTreeMap<Region, CoolDown>,
    /// How long services were short of ready replicas.
    pub services: ServiceMemory,
    /// What was decided about pods that may outlive their claims.
    pub bindings: Bindings,
    /// When machines were ended lately without anybody's asking: the next leader counts on.
    pub unasked_ends: Vec<Timestamp>,
}

/// The cool-down of capacity from which EC2 takes a machine at `at`, after `known`. It takes a capacity back as a whole: what follows within
/// minutes is the same event. A refusal or a warning that holds longer stays.
fn taken_back(known: Option<CoolDown>, at: Timestamp) -> CoolDown {
    let taken = known.filter(|known| known.cause == CoolDownCause::TakenBack);
    let same = taken.filter(|taken| at.since(taken.since) < SAME_EVENT);
    let next = same.unwrap_or_else(|| CoolDown::after(taken, CoolDownCause::TakenBack, at, TAKEN_FOR, TAKEN_FOR_AT_MOST));
    known.filter(|known| known.cause != CoolDownCause::TakenBack && known.until >= next.until).unwrap_or(next)
}

/// Expected interruptions of a spot pool per million instance-hours, where `advised` is the advisor's rate.
fn seen_or(record: Option<&CapacityRecord>, capacity: &Capacity, advised: i64, now: Timestamp) -> i64 {
    let seen = record.filter(|_| capacity.capacity_type == CapacityType::Spot);
    seen.map_or(advised, |record| record.exposure.faded(now).per_million_hours(advised))
}

/// A stored memory that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the stored market memory cannot be read ({fault}); lowtide starts without it, and dry pools may be asked once more")]
pub struct UnreadableMemory {
    /// What was wrong.
    pub fault: String,
}

/// The form that is stored. Lists, because JSON keys are text.
#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    #[serde(rename = "pools")]
    capacities: Vec<(Capacity, CapacityRecord)>,
    quota_refusals: Vec<(QuotaKey, QuotaRefusal)>,
    #[serde(default)]
    closed_regions: Vec<(Region, CoolDown)>,
    #[serde(default)]
    services: ServiceMemory,
    #[serde(default, skip_serializing_if = "Bindings::is_empty")]
    bindings: Bindings,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unasked_ends: Vec<Timestamp>,
}
/// Ends that nobody asked for count for machines that were unwell then, for a day.
pub const ENDS_KEPT: Millis = Millis::from_hours(24);
/// The most that are kept, the newest: no limit is that large.
const MOST_ENDS_KEPT: usize = 1_000;
const VERSION: u32 = 1;

impl MarketMemory {
    /// The clock that it was read from has jumped ahead by so much: what is left alone for a while is left alone as long as before, and what has ended ended no
    /// longer ago.
    pub fn clock_jumped(&mut self, ahead: Millis) {
        let cool_downs = self.capacities.values_mut().filter_map(|record| record.cool_down.as_mut());
        let until = cool_downs.chain(self.closed_regions.values_mut()).map(|cool_down| &mut cool_down.until);
        let until = until.chain(self.quota_refusals.values_mut().map(|refusal| &mut refusal.until));
        until.chain(&mut self.unasked_ends).for_each(|at| *at = *at + ahead);
    }

    /// Takes in what was seen of `pool` at `at`. A refusal that was taken in already changes nothing.
    pub fn record(&mut self, capacity: &Capacity, sighting: Sighting, at: Timestamp) {
        if let Sighting::Refused { cause: CoolDownCause::Quota, vcpus, base, .. } = sighting
            && let Some(key) = QuotaKey::of(capacity).filter(|_| vcpus > 0)
        {
            self.quota_refusals.insert(key, QuotaRefusal { vcpus, until: at + base });
        }
        let record = self.capacities.entry(capacity.clone()).or_default();
        if let (Sighting::Refused { cause, .. }, Some(known)) = (sighting, record.cool_down)
            && (known.cause, known.since) == (cause, at)
        {
            return;
        }
        record.seen_at = record.seen_at.max(at);
        record.exposure = if record.exposure == Exposure::default() {
            Exposure { faded_to: at, ..Exposure::default() }
        } else {
            record.exposure.faded(at)
        };
        match sighting {
            Sighting::Launched => {
                record.cool_down = None;
                self.closed_regions.remove(&capacity.region);
                record.capacity.observe(at, true);
            }
            Sighting::Refused { cause, base, max, .. } => {
                let taken = record.cool_down.filter(|known| known.cause == CoolDownCause::TakenBack);
                let refused = CoolDown::after(record.cool_down.filter(|_| taken.is_none()), cause, at, base, max);
                // What was taken back and is refused now is left alone at least as long as before.
                record.cool_down = Some(CoolDown { until: taken.map_or(refused.until, |taken| taken.until.max(refused.until)), ..refused });
                if cause == CoolDownCause::NoCapacity {
                    record.capacity.observe(at, false);
                }
            }
            Sighting::Warned(Warning::Given { base, max }) => {
                // Many machines are warned of at once: one warning.
                let known = record.cool_down.filter(|known| known.cause == CoolDownCause::Interrupted && at < known.until);
                let again = CoolDown::after(record.cool_down, CoolDownCause::Interrupted, at, base, max);
                record.cool_down = Some(known.unwrap_or(again));
            }
            Sighting::Warned(warning) => record.warnings.count(warning == Warning::Followed),
            Sighting::Ran(span) => {
                record.exposure.ran = record.exposure.ran + span;
                record.capacity.observe(at, true);
            }
            Sighting::Interrupted => {
                record.exposure.interruptions += 1_000;
                record.cool_down = Some(taken_back(record.cool_down, at));
                record.capacity.observe(at, false);
                record.capacity.note_loss(at);
            }
        }
    }

    /// Takes in a look at running machines: their pools and when they were launched. They ran since the look `before`.
    pub fn saw_running<'a>(&mut self, running: impl IntoIterator<Item = (&'a Capacity, Timestamp)>, before: Timestamp, at: Timestamp) {
        let mut spans: BTreeMap<&Capacity, Millis> = BTreeMap::new();
        for (capacity, launched) in running {
            let span = spans.entry(capacity).or_default();
            *span = *span + at.since(launched.max(before)).max(Millis::ZERO);
        }
        for (capacity, span) in spans {
            self.record(capacity, Sighting::Ran(span), at);
        }
    }

    /// What is known of a pool; `None` when it was never seen.
    pub fn of(&self, capacity: &Capacity) -> Option<&CapacityRecord> {
        self.capacities.get(capacity)
    }

    /// What came of EC2's warnings of a pool so far.
    pub fn warnings(&self, capacity: &Capacity) -> Warnings {
        self.capacities.get(capacity).map(|record| record.warnings).unwrap_or_default()
    }

    /// Every pool that was seen.
    pub fn capacities(&self) -> impl Iterator<Item = (&Capacity, &CapacityRecord)> {
        self.capacities.iter()
    }

    /// Expected interruptions of a spot pool per million instance-hours, where `advised` is the advisor's rate.
    pub fn interruptions_per_million_hours(&self, capacity: &Capacity, advised: i64, now: Timestamp) -> i64 {
        seen_or(self.capacities.get(capacity), capacity, advised, now)
    }

    /// How likely a spot pool has capacity, in parts per million: what was seen, with EC2's placement score as the prior where there is
    /// one (a score of 7 is taken for 700,000) and even odds where there is none.
    pub fn availability_ppm(&self, capacity: &Capacity, placement_score: Option<u8>) -> i64 {
        let prior = placement_score.map_or(500_000, |score| i64::from(score.clamp(1, 10)) * 100_000);
        self.capacities.get(capacity).map_or(prior, |record| record.capacity.availability_ppm_from(prior))
    }

    /// Until when capacity is left alone, and why; over or not. A region that is closed to the account closes all of its capacity.
    pub fn cool_down(&self, capacity: &Capacity) -> Option<CoolDown> {
        let closed = self.closed_regions.get(&capacity.region).copied();
        let own = self.capacities.get(capacity).and_then(|record| record.cool_down);
        // One that holds whatever else is sold counts before one that does not.
        closed.into_iter().chain(own).max_by_key(|cool_down| (cool_down.cause != CoolDownCause::TakenBack, cool_down.until))
    }

    /// EC2 said at `at` that the account may launch nothing in `region`: it is left alone, for longer each time. The same answer, reported
    /// twice, counts once.
    pub fn close_region(&mut self, region: &Region, at: Timestamp, base: Millis, max: Millis) {
        let known = self.closed_regions.get(region).copied();
        // Launches that were under way together are refused together.
        if known.is_none_or(|known| at >= known.until) {
            self.closed_regions.insert(region.clone(), CoolDown::after(known, CoolDownCause::Refused, at, base, max));
        }
    }

    /// Lowers what is `left` of each quota to what EC2's last refusal says: it knows what others run in the account.
    pub fn bound_quotas(&self, left: &mut BTreeMap<QuotaKey, i64>, now: Timestamp) {
        for (key, refusal) in self.quota_refusals.iter().filter(|(_, refusal)| refusal.until > now) {
            let most = refusal.vcpus - 1;
            let known = left.entry(key.clone()).or_insert(most);
            *known = most.min(*known);
        }
    }

    /// The memory as text, bounded in size: at most [`MOST_CAPACITIES_KEPT`] pools, those of the latest sightings.
    pub fn to_text(&self, now: Timestamp) -> String {
        let mut capacities: Vec<(Capacity, CapacityRecord)> =
            self.capacities.iter().map(|(capacity, record)| (capacity.clone(), record.clone())).collect();
        capacities.retain(|(_, record)| now.since(record.seen_at) <= FORGET_AFTER);
        capacities.sort_by(|(a, x), (b, y)| y.seen_at.cmp(&x.seen_at).then_with(|| a.cmp(b)));
        capacities.truncate(MOST_CAPACITIES_KEPT);
        let live = self.quota_refusals.iter().filter(|(_, refusal)| refusal.until > now);
        let quota_refusals = live.map(|(key, refusal)| (key.clone(), *refusal)).collect();
        let closed_regions = self.closed_regions.iter().filter(|(_, c)| c.until > now).map(|(region, c)| (region.clone(), *c)).collect();
        let stored = Stored {
            version: VERSION,
            capacities,
            quota_refusals,
            closed_regions,
            services: self.services.clone(),
            bindings: self.bindings.bounded(MOST_BINDINGS_KEPT),
            unasked_ends: {
                let kept: Vec<Timestamp> = self.unasked_ends.iter().copied().filter(|at| now.since(*at) < ENDS_KEPT).collect();
                kept[kept.len().saturating_sub(MOST_ENDS_KEPT)..].to_vec()
            },
        };
        serde_json::to_string(&stored).unwrap_or_default()
    }

    /// Reads what [`MarketMemory::to_text`] wrote. Cool-downs that end further ahead than any can are dropped.
    ///
    /// # Errors
    /// When the text is not a memory of this version.
    pub fn from_text(text: &str, now: Timestamp) -> Result<MarketMemory, UnreadableMemory> {
        let unreadable = |fault: String| UnreadableMemory { fault };
        let stored: Stored = serde_json::from_str(text).map_err(|e| unreadable(e.to_string()))?;
        if stored.version != VERSION {
            return Err(unreadable(format!("version {}, expected {VERSION}", stored.version)));
        }
        let horizon = now + LONGEST_COOL_DOWN;
        let possible = |(capacity, mut record): (Capacity, CapacityRecord)| {
            record.cool_down = record.cool_down.filter(|c| c.until <= horizon);
            (capacity, record)
        };
        let refusals = stored.quota_refusals.into_iter().filter(|(_, refusal)| refusal.until <= horizon);
        let (capacities, quota_refusals) = (stored.capacities.into_iter().map(possible).collect(), refusals.collect());
        let closed_regions = stored.closed_regions.into_iter().filter(|(_, c)| c.until <= horizon).collect();
        // By the clock of whoever wrote it: it was not after now.
        let unasked_ends = stored.unasked_ends.into_iter().map(|at| at.min(now)).collect();
        let (services, bindings) = (stored.services, stored.bindings);
        Ok(MarketMemory { capacities, quota_refusals, closed_regions, services, bindings, unasked_ends })
    }
}

#[cfg(test)]
mod tests {
    use crate::core::snapshot::memory::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn capacity(zone: &str, capacity_type: CapacityType) -> Capacity {
        Capacity { region: "us-east-1".into(), zone: zone.into(), instance_type: "g6.xlarge".into(), capacity_type }
    }

    fn refused(cause: CoolDownCause) -> Sighting {
        Sighting::Refused { cause, vcpus: 4, base: Millis::from_mins(3), max: Millis::from_hours(1) }
    }

    #[test]
    fn a_warned_pool_is_left_alone_once_for_many_warnings_and_what_came_of_them_is_kept() {
        let spot = capacity("use1-az4", CapacityType::Spot);
        let mut memory = MarketMemory::default();
        let given = Sighting::Warned(Warning::Given { base: Millis::from_mins(15), max: Millis::from_hours(1) });
        (0..20).for_each(|second| memory.record(&spot, given, NOW + Millis::from_secs(second)));
        let until = |memory: &MarketMemory| memory.cool_down(&spot).unwrap().until.since(NOW);
        assert_eq!(until(&memory), Millis::from_mins(15), "twenty at once are one");
        memory.record(&spot, given, NOW + Millis::from_mins(16));
        assert_eq!(until(&memory), Millis::from_mins(46), "warned of again, it is left alone for longer");
        assert_eq!(memory.warnings(&spot).followed_per_mille(), 250);
        (0..6).for_each(|_| memory.record(&spot, Sighting::Warned(Warning::Over), NOW));
        memory.record(&spot, Sighting::Warned(Warning::Followed), NOW);
        assert_eq!(memory.warnings(&spot), Warnings { given: 7, followed: 1 });
        assert_eq!(memory.warnings(&spot).followed_per_mille(), 181);
        let kept = MarketMemory::from_text(&memory.to_text(NOW), NOW).unwrap();
        assert_eq!((kept.warnings(&spot), until(&kept)), (memory.warnings(&spot), until(&memory)));
        (0..200).for_each(|_| memory.record(&spot, Sighting::Warned(Warning::Over), NOW));
        assert!(memory.warnings(&spot).given <= 64 && memory.warnings(&spot).followed_per_mille() < 20, "{:?}", memory.warnings(&spot));
    }

    #[test]
    fn capacity_that_was_taken_back_is_left_alone_once_for_all_that_went_together_and_longer_the_next_time() {
        let spot = capacity("use1-az4", CapacityType::Spot);
        let mut memory = MarketMemory::default();
        (0..4).for_each(|minute| memory.record(&spot, Sighting::Interrupted, NOW + Millis::from_mins(minute)));
        let seen = |memory: &MarketMemory| memory.cool_down(&spot).map(|c| (c.cause, c.until.since(NOW))).unwrap();
        assert_eq!(seen(&memory), (CoolDownCause::TakenBack, Millis::from_mins(30)));
        memory.record(&spot, Sighting::Interrupted, NOW + Millis::from_mins(40));
        assert_eq!(seen(&memory).1, Millis::from_mins(100), "taken again, for twice as long");
        memory.record(&spot, refused(CoolDownCause::NoCapacity), NOW + Millis::from_mins(50));
        assert_eq!(seen(&memory), (CoolDownCause::NoCapacity, Millis::from_mins(100)), "refused, no sooner than before");
        let kept = MarketMemory::from_text(&memory.to_text(NOW), NOW).unwrap();
        assert_eq!(seen(&kept), seen(&memory));
        memory.record(&spot, Sighting::Launched, NOW + Millis::from_mins(60));
        assert_eq!(memory.cool_down(&spot), None, "it has capacity");
    }

    #[test]
    fn our_own_notices_outweigh_the_advisor_with_running_time_and_fade() {
        let spot = capacity("use1-az4", CapacityType::Spot);
        let mut memory = MarketMemory::default();
        assert_eq!(memory.interruptions_per_million_hours(&spot, 69, NOW), 69, "nothing seen: the advisor's rate");
        memory.record(&spot, Sighting::Ran(Millis::from_hours(336)), NOW);
        assert_eq!(memory.interruptions_per_million_hours(&spot, 1_370, NOW), 685, "as long without a notice as the advisor counts");
        memory.record(&spot, Sighting::Interrupted, NOW);
        // One interruption and half of the advisor's in 672 hours.
        assert_eq!(memory.interruptions_per_million_hours(&spot, 69, NOW), (69 * 336 + 1_000_000 + 671) / 672);
        let later = NOW + Millis(HALF_LIFE.0 * 20);
        assert!(memory.interruptions_per_million_hours(&spot, 69, later) < 75, "what was seen long ago counts little");
        let on_demand = capacity("use1-az4", CapacityType::OnDemand);
        memory.record(&on_demand, Sighting::Ran(Millis::from_hours(1)), NOW);
        assert_eq!(memory.interruptions_per_million_hours(&on_demand, 0, NOW), 0);
    }

    #[test]
    fn machines_that_run_add_up_since_the_last_look_or_their_launch() {
        let (spot, other) = (capacity("use1-az4", CapacityType::Spot), capacity("use1-az6", CapacityType::Spot));
        let mut memory = MarketMemory::default();
        let before = NOW - Millis::from_secs(10);
        let running = [(&spot, NOW - Millis::from_hours(5)), (&spot, NOW - Millis::from_secs(3)), (&other, NOW + Millis::from_secs(1))];
        memory.saw_running(running, before, NOW);
        assert_eq!(memory.of(&spot).unwrap().exposure.ran, Millis::from_secs(13));
        assert_eq!(memory.of(&other).unwrap().exposure.ran, Millis::ZERO);
    }

    #[test]
    fn cool_downs_back_off_and_end_with_a_launch() {
        let spot = capacity("use1-az4", CapacityType::Spot);
        let mut memory = MarketMemory::default();
        memory.record(&spot, refused(CoolDownCause::NoCapacity), NOW);
        memory.record(&spot, refused(CoolDownCause::NoCapacity), NOW + Millis::from_mins(4));
        let cool_down = memory.of(&spot).and_then(|r| r.cool_down).unwrap();
        assert_eq!((cool_down.refusals, cool_down.until), (2, NOW + Millis::from_mins(10)));
        memory.record(&spot, refused(CoolDownCause::NoCapacity), NOW + Millis::from_mins(4));
        assert_eq!(memory.of(&spot).and_then(|r| r.cool_down), Some(cool_down), "reported twice, it counts once");
        assert_eq!(memory.cool_down(&spot), Some(cool_down));
        memory.record(&spot, Sighting::Launched, NOW + Millis::from_mins(11));
        assert_eq!(memory.cool_down(&spot), None);
        memory.close_region(&spot.region, NOW, Millis::from_mins(5), Millis::from_hours(1));
        let never_seen = capacity("use1-az9", CapacityType::Spot);
        assert_eq!(memory.cool_down(&never_seen).map(|c| c.until), Some(NOW + Millis::from_mins(5)), "all of a closed region");
    }

    #[test]
    fn a_refusal_for_quota_bounds_what_is_left_of_it_for_a_while() {
        let spot = capacity("use1-az4", CapacityType::Spot);
        let key = QuotaKey::of(&spot).unwrap();
        let mut memory = MarketMemory::default();
        memory.record(&spot, refused(CoolDownCause::Quota), NOW);
        let mut left = BTreeMap::from([(key.clone(), 64)]);
        memory.bound_quotas(&mut left, NOW + Millis::from_mins(1));
        assert_eq!(left, BTreeMap::from([(key.clone(), 3)]), "others use it too");
        let mut later = BTreeMap::from([(key, 64)]);
        memory.bound_quotas(&mut later, NOW + Millis::from_mins(4));
        assert_eq!(later.values().copied().collect::<Vec<_>>(), [64]);
    }

    #[test]
    fn a_placement_score_is_the_prior_of_availability_and_sightings_move_it() {
        let spot = capacity("use1-az4", CapacityType::Spot);
        let mut memory = MarketMemory::default();
        assert_eq!([None, Some(2), Some(9)].map(|score| memory.availability_ppm(&spot, score)), [500_000, 200_000, 900_000]);
        for minute in 0..600 {
            memory.record(&spot, Sighting::Ran(Millis::from_mins(1)), NOW + Millis::from_mins(minute));
        }
        let seen = memory.availability_ppm(&spot, Some(2));
        assert!((600_000..750_000).contains(&seen), "{seen}");
    }

    #[test]
    fn what_is_stored_comes_back_is_bounded_and_a_corrupt_text_is_named() {
        let mut memory = MarketMemory::default();
        for n in 0..MOST_CAPACITIES_KEPT + 200 {
            let place = Capacity {
                region: "ap-southeast-3".into(),
                zone: format!("ap-southeast-3-xyz{n}-az1").into(),
                instance_type: "p6-b200.48xlarge".into(),
                capacity_type: CapacityType::Spot,
            };
            let at = NOW + Millis(n as i64);
            memory.record(&place, Sighting::Ran(Millis::from_hours(1)), at);
            memory.record(&place, Sighting::Interrupted, at);
            memory.record(&place, refused(CoolDownCause::NoCapacity), at);
        }
        memory.record(&capacity("use1-az4", CapacityType::Spot), refused(CoolDownCause::Quota), NOW);
        let text = memory.to_text(NOW);
        assert!(text.len() < 300_000, "{} bytes", text.len());
        let back = MarketMemory::from_text(&text, NOW).unwrap();
        assert_eq!((back.capacities.len(), back.quota_refusals.len()), (MOST_CAPACITIES_KEPT, 1));
        assert!(back.capacities().all(|(capacity, record)| memory.of(capacity) == Some(record)));
        assert_eq!(MarketMemory::from_text(&back.to_text(NOW), NOW).unwrap(), back);
        let long_ago = NOW - Millis::from_hours(48);
        let wild = MarketMemory::from_text(&text, long_ago).unwrap();
        assert!(wild.capacities().all(|(_, record)| record.cool_down.is_none()), "a cool-down of two days was never set by lowtide");
        assert!(memory.to_text(NOW + Millis::from_hours(90 * 24)).len() < 100, "what was not seen for two months is forgotten");
        for (broken, why) in
            [("", "EOF"), ("{\"version\":1}", "pools"), ("{\"version\":9,\"pools\":[],\"quota_refusals\":[]}", "version 9")]
        {
            let fault = MarketMemory::from_text(broken, NOW).unwrap_err().to_string();
            assert!(fault.contains(why) && fault.contains("starts without it"), "{fault}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::mutation::CASES))]

        /// Whoever may write the ConfigMap writes it as it likes; what is read lets nothing be left alone for longer than lowtide itself would.
        #[test]
        fn whatever_the_kept_memory_holds_closes_nothing_for_ever(text in crate::mutation::text(&[&{
            let mut memory = MarketMemory::default();
            memory.record(&capacity("use1-az4", CapacityType::Spot), refused(CoolDownCause::NoCapacity), NOW);
            memory.record(&capacity("use1-az6", CapacityType::OnDemand), refused(CoolDownCause::Quota), NOW);
            memory.to_text(NOW)
        }])) {
            if let Ok(memory) = MarketMemory::from_text(&text, NOW) {
                let spots = ["use1-az4", "use1-az6"].map(|zone| capacity(zone, CapacityType::Spot));
                assert!(spots.iter().filter_map(|at| memory.cool_down(at)).all(|c| c.until <= NOW + LONGEST_COOL_DOWN));
                memory.to_text(NOW);
            }
        }
    }
}
