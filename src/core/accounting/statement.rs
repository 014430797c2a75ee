//! What one machine has cost so far, share by share: as computed from recorded prices, and as AWS billed it where that is known.
//!
//! Decides: which instance-hours are over and done with, and how a billed hour is split (as the computed one is, by GPU time).
//! Does not: compare with what is posted (see [`super::posting`]).

use std::collections::BTreeMap;

use uuid::Uuid;

use super::allocation::{Line, Occupied, Share, allocate, largest_remainder};
use super::bill::{BesideHour, BilledHour, BilledLine, Cause, Source, UseElsewhere, beside_hours, billed_hours};
use super::billing::{INSTANCE_HOUR, PaidInterval};
use crate::core::units::ids::Uid;
use crate::core::units::money::MicroUsd;
use crate::core::units::time::{Millis, Timestamp};

const DAY_MS: i64 = 86_400_000;

/// Facts of an hour are waited for this long after its end; what comes later is posted as a correction.
pub const SETTLING: Millis = Millis::from_mins(10);

/// Everything known of one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineFacts {
    /// GPUs of the machine.
    pub gpus: i64,
    /// Its life so far, with prices.
    pub interval: PaidInterval,
    /// The pods on it, each with who pays for it.
    pub pods: Vec<(Occupied, Option<Uuid>)>,
    /// Who pays for what no pod used: the work the machine was bought for.
    pub bought_for: Option<Uuid>,
    /// Days whose attribution people corrected, by whom it is paid usually.
    pub corrected: Vec<CorrectedOwner>,
    /// What AWS said it cost.
    pub billed: Vec<BilledLine>,
    /// The newest version of a bill or feed that reported it, and its source.
    pub said_by: BTreeMap<Source, Uuid>,
}

/// Who pays for some days of work whose labels were corrected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorrectedOwner {
    /// Whose work it is by its own labels.
    pub usual: Uuid,
    /// The first UTC day, counted from 1970-01-01.
    pub from_day: i64,
    /// The day after the last.
    pub to_day: i64,
    /// Who pays.
    pub owner: Uuid,
    /// By which correction.
    pub by: Uuid,
}

/// A share apart from who pays for it: hour, day, line and pod.
pub type Place = (u32, i64, Line, Option<Uid>);

/// What a share is: a machine has one amount for each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShareKey {
    /// The instance-hour.
    pub hour: u32,
    /// The UTC day, counted from 1970-01-01.
    pub day: i64,
    /// What for.
    pub line: Line,
    /// Whose, for pod lines.
    pub pod: Option<Uid>,
    /// Who pays: an owner version.
    pub owner: Option<Uuid>,
}

impl ShareKey {
    /// The share apart from who pays for it.
    pub fn place(&self) -> Place {
        (self.hour, self.day, self.line, self.pod.clone())
    }
}

/// What a share of an hour costs by AWS's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BilledShare {
    /// Which source says so.
    pub source: Source,
    /// How much, what is open included.
    pub cost: MicroUsd,
    /// Of it, what no line covers yet: it rests on what was computed.
    pub open: MicroUsd,
    /// Against what was computed.
    pub cause: Cause,
    /// AWS's bill is final and has nothing of this time: it has no baselines either.
    pub unbilled: bool,
}

impl BilledShare {
    /// What rests on the source's word.
    pub fn confirmed(&self) -> MicroUsd {
        self.cost - self.open
    }
}

/// One share with both amounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub key: ShareKey,
    /// As computed.
    pub computed: Share,
    /// As billed, where it is.
    pub billed: Option<BilledShare>,
}

/// A machine's settled shares.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Statement {
    /// How many instance-hours are settled.
    pub hours: u32,
    /// Nothing more will come but news.
    pub complete: bool,
    /// The shares of settled hours.
    pub entries: Vec<Entry>,
    /// The hours AWS reported, with what was computed for each, its open parts included.
    pub billed_hours: Vec<(BilledHour, MicroUsd)>,
    /// The newest version of a bill or feed that reported the machine, and its source.
    pub said_by: BTreeMap<Source, Uuid>,
    /// Shares whose attribution a correction covers, and which.
    pub corrected: BTreeMap<Place, Uuid>,
}

/// How many instance-hours are settled at `now`: all of a machine that ended, else those over for longer than [`SETTLING`].
pub fn settled_hours(interval: &PaidInterval, now: Timestamp) -> u32 {
    let hours = match interval.ended_by {
        Some(_) => interval.segments().len(),
        None => usize::try_from((now.since(interval.from) - SETTLING).0.max(0) / INSTANCE_HOUR.0).unwrap_or(0),
    };
    u32::try_from(hours).unwrap_or(u32::MAX)
}

/// The statement of a machine at `now`. An open interval must reach to `now`.
pub fn statement(facts: &MachineFacts, now: Timestamp) -> Statement {
    let hours = settled_hours(&facts.interval, now);
    let pods: Vec<Occupied> = facts.pods.iter().map(|(pod, _)| pod.clone()).collect();
    let owner_of: BTreeMap<&Uid, Option<Uuid>> = facts.pods.iter().map(|(pod, owner)| (&pod.pod, *owner)).collect();
    let mut by_hour: BTreeMap<u32, Vec<Share>> = BTreeMap::new();
    for share in allocate(facts.gpus, &facts.interval, &pods).into_iter().filter(|share| share.hour < hours) {
        by_hour.entry(share.hour).or_default().push(share);
    }
    let truths: BTreeMap<u32, BilledHour> = billed_hours(&facts.interval, &facts.billed)
        .into_iter()
        .filter(|truth| truth.hour < hours)
        .map(|truth| (truth.hour, truth))
        .collect();
    let mut beside: BTreeMap<u32, Vec<BesideHour>> = BTreeMap::new();
    for amount in beside_hours(&facts.interval, &facts.billed) {
        beside.entry(amount.hour).or_default().push(amount);
    }
    let complete = facts.interval.ended_by.is_some();
    let mut statement = Statement { hours, complete, said_by: facts.said_by.clone(), ..Statement::default() };
    for (hour, shares) in by_hour {
        let truth = truths.get(&hour);
        let machine: MicroUsd = shares.iter().filter(|s| s.line != Line::Egress).map(|s| s.cost).sum();
        statement.billed_hours.extend(truth.map(|truth| (truth.clone(), machine)));
        let mut billed = truth.map(|truth| split(truth, &shares)).unwrap_or_default().into_iter();
        let usual = |share: &Share| share.pod.as_ref().map_or(facts.bought_for, |pod| owner_of.get(pod).copied().flatten());
        let owner_of = |share: &Share, day: i64| {
            let usual = usual(share);
            correction(facts, usual, day).map_or(usual, |corrected| Some(corrected.owner))
        };
        let corrected = |share: &Share, line: Line, day: i64| {
            correction(facts, usual(share), day).map(|corrected| ((hour, day, line, share.pod.clone()), corrected.by))
        };
        for amount in beside.get(&hour).into_iter().flatten() {
            let of = users(amount, &shares);
            statement.corrected.extend(of.iter().filter_map(|share| corrected(share, amount.line, amount.dated.unwrap_or(share.day))));
            statement.entries.extend(beside_the_use(amount, &of, owner_of));
        }
        for away in truth.into_iter().flat_map(|truth| truth.elsewhere.iter().map(|away| (away, truth.cause))) {
            let (entry, by) = use_elsewhere(facts, hour, away);
            statement.corrected.extend(by.map(|by| (entry.key.place(), by)));
            statement.entries.push(entry);
        }
        statement.corrected.extend(shares.iter().filter_map(|share| corrected(share, share.line, share.day)));
        for share in shares {
            let owner = owner_of(&share, share.day);
            let key = ShareKey { hour, day: share.day, line: share.line, pod: share.pod.clone(), owner };
            let billed = if share.line == Line::Egress { None } else { billed.next() };
            statement.entries.push(Entry { key, computed: share, billed });
        }
    }
    statement
}

/// The correction that covers a day of work whose owner is `usual`.
fn correction(facts: &MachineFacts, usual: Option<Uuid>, day: i64) -> Option<&CorrectedOwner> {
    let usual = usual?;
    facts.corrected.iter().find(|of| of.usual == usual && (of.from_day..of.to_day).contains(&day))
}

/// A billed hour over its shares, what is open of it likewise, as the computed cost was: by GPU time, largest remainder. Of an hour that lies in two months each
/// month's shares have what its bill says.
fn split(truth: &BilledHour, shares: &[Share]) -> Vec<BilledShare> {
    let machine: Vec<&Share> = shares.iter().filter(|share| share.line != Line::Egress).collect();
    let mut split: Vec<BilledShare> = Vec::new();
    for (n, part) in truth.parts.iter().enumerate() {
        let first = if n == 0 { i64::MIN } else { part.from_day };
        let next = truth.parts.get(n + 1).map_or(i64::MAX, |next| next.from_day);
        // In the order of days, as the shares are.
        let of_part: Vec<&Share> = machine.iter().filter(|share| (first..next).contains(&share.day)).copied().collect();
        let weights: Vec<i64> = of_part.iter().map(|share| share.gpu_ms).collect();
        let keys: Vec<_> = of_part.iter().map(|share| (share.day, share.line, share.pod.as_ref())).collect();
        let costs = largest_remainder(part.cost, &weights, &keys);
        let open = largest_remainder(part.open, &weights, &keys);
        let of_share = |(cost, open)| BilledShare { source: truth.source, cost, open, cause: truth.cause, unbilled: part.unbilled };
        split.extend(costs.into_iter().zip(open).map(of_share));
    }
    split
}

/// Use that the bill has in another month than the machine is known to have run in: no pod's, so it is boot or drain, paid by the work the machine was bought for.
/// Also the correction of labels that covers it.
fn use_elsewhere(facts: &MachineFacts, hour: u32, (away, cause): (&UseElsewhere, Cause)) -> (Entry, Option<Uuid>) {
    let (line, day, none) = (if away.is_before { Line::Boot } else { Line::Drain }, away.from.0.div_euclid(DAY_MS), MicroUsd(0));
    let corrected = correction(facts, facts.bought_for, day);
    let key = ShareKey { hour, day, line, pod: None, owner: corrected.map_or(facts.bought_for, |corrected| Some(corrected.owner)) };
    let (from, span, baseline) = (away.from, away.span, Some(none));
    let computed = Share { hour, day, line, pod: None, from, span, gpu_ms: 0, cost: none, b0: baseline, b1: baseline, b2: baseline };
    let billed = BilledShare { source: Source::Bill, cost: away.cost, open: none, cause, unbilled: false };
    (Entry { key, computed, billed: Some(billed) }, corrected.map(|corrected| corrected.by))
}

/// Who used the machine in the part of the hour that an amount is of.
fn users<'a>(amount: &BesideHour, shares: &'a [Share]) -> Vec<&'a Share> {
    let of_days = |share: &&Share| share.line != Line::Egress && (amount.days.0..amount.days.1).contains(&share.day);
    shares.iter().filter(of_days).collect()
}

/// An amount beside the use, over those who used the machine in that hour: split as the hour is, one entry for each day and pod. What is dated is at the start
/// of its own day.
fn beside_the_use(amount: &BesideHour, shares: &[&Share], owner_of: impl Fn(&Share, i64) -> Option<Uuid>) -> Vec<Entry> {
    let weights: Vec<i64> = shares.iter().map(|share| share.gpu_ms).collect();
    let keys: Vec<_> = shares.iter().map(|share| (share.day, share.line, share.pod.as_ref())).collect();
    let mut entries: BTreeMap<ShareKey, Entry> = BTreeMap::new();
    for (share, cost) in shares.iter().zip(largest_remainder(amount.cost, &weights, &keys)) {
        let line = amount.line;
        let (day, from, span) = match amount.dated {
            Some(day) => (day, Timestamp(0) + Millis(day * DAY_MS), Millis::ZERO),
            None => (share.day, share.from, share.span),
        };
        let key = ShareKey { hour: share.hour, day, line, pod: share.pod.clone(), owner: owner_of(share, day) };
        let zero = MicroUsd(0);
        let entry = entries.entry(key.clone()).or_insert_with(|| {
            let none = Some(zero);
            let nothing = Share { line, day, from, span, gpu_ms: 0, cost: zero, b0: none, b1: none, b2: none, ..(*share).clone() };
            let billed = BilledShare { source: Source::Bill, cost: zero, open: zero, cause: Cause::Beside, unbilled: false };
            Entry { key, computed: nothing, billed: Some(billed) }
        });
        if let Some(billed) = &mut entry.billed {
            billed.cost = billed.cost + cost;
        }
    }
    entries.into_values().collect()
}
