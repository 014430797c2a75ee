//! The rows that bring the ledger from what is posted to what a machine's statement says. Nothing posted is ever changed: a difference
//! is a row of its own, with a cause.
//!
//! Decides: which differences there are, their kind and cause, and their identity (posting twice is harmless).
//! Does not: store rows, or choose when to look.
//!
//! Two layers add up to a share. Kinds `estimate` and `correction` add up to what was computed from recorded facts; kinds `feed` and
//! `bill` to what AWS says on top of it. `feed` and `bill` amounts say how much of the cost rests on which of them.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::bill::{Cause, Source};
use super::statement::{Entry, Place, ShareKey, Statement};
use crate::core::units::ids::{Uid, derive_uuid};
use crate::core::units::money::MicroUsd;
use crate::core::units::time::{Millis, Timestamp};

/// What a posting is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PostingKind {
    /// The first computed amount of an hour.
    Estimate,
    /// The difference that late facts make.
    Correction,
    /// The difference that the spot data feed makes.
    Feed,
    /// The difference that the bill makes.
    Bill,
}

impl PostingKind {
    /// As the ledger writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            PostingKind::Estimate => "estimate",
            PostingKind::Correction => "correction",
            PostingKind::Feed => "feed",
            PostingKind::Bill => "bill",
        }
    }
}

/// Amounts of a posting; those of all postings of a share add up to the share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amounts {
    /// GPU milliseconds.
    pub gpu_ms: i64,
    /// Cost.
    pub cost: MicroUsd,
    /// B0, where known. Rows in which it is known and rows in which it is not add up apart.
    pub b0: Option<MicroUsd>,
    /// B1, likewise.
    pub b1: Option<MicroUsd>,
    /// B2, likewise.
    pub b2: Option<MicroUsd>,
    /// Cost that rests on the spot data feed.
    pub feed: MicroUsd,
    /// Cost that rests on the bill.
    pub bill: MicroUsd,
}

/// Which of the baselines are known.
pub type Known = (bool, bool, bool);

impl Amounts {
    fn known(&self) -> Known {
        (self.b0.is_some(), self.b1.is_some(), self.b2.is_some())
    }

    /// `self - other`, for amounts of which the same are known.
    fn less(&self, other: &Amounts) -> Amounts {
        let minus = |a: Option<MicroUsd>, b: Option<MicroUsd>| a.map(|a| a - b.unwrap_or_default());
        Amounts {
            gpu_ms: self.gpu_ms - other.gpu_ms,
            cost: self.cost - other.cost,
            b0: minus(self.b0, other.b0),
            b1: minus(self.b1, other.b1),
            b2: minus(self.b2, other.b2),
            feed: self.feed - other.feed,
            bill: self.bill - other.bill,
        }
    }

    fn nothing(known: Known) -> Amounts {
        let zero = |known: bool| known.then_some(MicroUsd(0));
        Amounts { b0: zero(known.0), b1: zero(known.1), b2: zero(known.2), ..Amounts::default() }
    }

    fn is_nothing(&self) -> bool {
        *self == Amounts::nothing(self.known())
    }
}

/// What is posted for one share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    /// Where its rows are: `at` and length of the first.
    pub from: Timestamp,
    /// The length.
    pub span: Millis,
    /// Kinds `estimate` and `correction`, by which baselines are known.
    pub computed: BTreeMap<Known, Amounts>,
    /// Kinds `feed` and `bill`, likewise.
    pub billed: BTreeMap<Known, Amounts>,
    /// How many rows there are: names the next.
    pub rows: u32,
}

impl Posted {
    /// Its rows do not add up to nothing.
    fn is_there(&self) -> bool {
        self.computed.values().chain(self.billed.values()).any(|amounts| !amounts.is_nothing())
    }
}

/// A row to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posting {
    /// UUIDv5 over machine, share and count of its rows.
    pub id: Uuid,
    /// The share.
    pub key: ShareKey,
    /// Start of the part of the instance-hour that lies in the day: decides the partition.
    pub from: Timestamp,
    /// Length of that part.
    pub span: Millis,
    /// Its kind.
    pub kind: PostingKind,
    /// Why.
    pub cause: Cause,
    /// The version of a bill or feed, or the correction of labels, that it comes of.
    pub said_by: Option<Uuid>,
    /// How much.
    pub amounts: Amounts,
}

/// The rows that are missing. `posted` is what is there for this machine; what lies before `since` is left alone (its partitions are
/// archived).
pub fn missing(machine: &Uid, statement: &Statement, posted: &BTreeMap<ShareKey, Posted>, since: Timestamp) -> Vec<Posting> {
    let hours_posted: BTreeSet<u32> = posted.keys().map(|key| key.hour).collect();
    let entries: BTreeMap<&ShareKey, &Entry> = statement.entries.iter().map(|entry| (&entry.key, entry)).collect();
    let keys: BTreeSet<&ShareKey> = entries.keys().copied().chain(posted.keys()).collect();
    let wanted: BTreeSet<Place> = entries.keys().map(|key| key.place()).collect();
    let held_somewhere: BTreeSet<Place> = posted.iter().filter(|(_, share)| share.is_there()).map(|(key, _)| key.place()).collect();
    let mut rows = Vec::new();
    for key in keys {
        let (entry, before) = (entries.get(key).copied(), posted.get(key));
        let place = before.map(|before| (before.from, before.span)).or(entry.map(|entry| (entry.computed.from, entry.computed.span)));
        let Some((from, span)) = place.filter(|(from, _)| *from >= since) else { continue };
        let first = before.is_none() && !hours_posted.contains(&key.hour);
        let (kind, cause) = if first { (PostingKind::Estimate, Cause::Settled) } else { (PostingKind::Correction, Cause::LateFact) };
        let held = before.map(|before| &before.computed);
        let mut found: Vec<_> = differences(entry.map(computed), held).into_iter().map(|amounts| (kind, cause, amounts)).collect();
        let held = before.map(|before| &before.billed);
        let (kind, cause) = entry.and_then(|entry| entry.billed).map_or_else(
            // The share is gone (a late fact moved it elsewhere), and AWS's word with it.
            || (kind_held(held), Cause::LateFact),
            |billed| (kind_of(billed.source), billed.cause),
        );
        found.extend(differences(entry.and_then(billed), held).into_iter().map(|amounts| (kind, cause, amounts)));
        // The share is wanted and held, by one owner and by another: a correction moved it, if one covers it.
        let moved = entry.is_some() != before.is_some_and(Posted::is_there)
            && wanted.contains(&key.place())
            && held_somewhere.contains(&key.place());
        let retag = statement.corrected.get(&key.place()).filter(|_| moved).copied();
        for (n, (kind, cause, amounts)) in (before.map_or(0, |before| before.rows)..).zip(found) {
            let cause = if retag.is_some() { Cause::Retagged } else { cause };
            let said_by = match kind {
                _ if retag.is_some() => retag,
                PostingKind::Feed => statement.said_by.get(&Source::Feed).copied(),
                PostingKind::Bill => statement.said_by.get(&Source::Bill).copied(),
                PostingKind::Estimate | PostingKind::Correction => None,
            };
            rows.push(Posting { id: posting_id(machine, key, n), key: key.clone(), from, span, kind, cause, said_by, amounts });
        }
    }
    rows
}

/// What the first layer of a share must add up to.
fn computed(entry: &Entry) -> Amounts {
    let share = &entry.computed;
    Amounts { gpu_ms: share.gpu_ms, cost: share.cost, b0: share.b0, b1: share.b1, b2: share.b2, ..Amounts::default() }
}

/// What the second layer must add up to: the difference AWS's word makes, and how much of the cost rests on it; what is open of an hour does not. What AWS's final bill
/// has nothing of has no baselines left: nothing is saved by what was not bought.
fn billed(entry: &Entry) -> Option<Amounts> {
    let (billed, computed) = (entry.billed?, computed(entry));
    let nothing = Amounts::nothing(computed.known());
    let baselines = if billed.unbilled { Amounts { gpu_ms: 0, cost: MicroUsd(0), ..nothing.less(&computed) } } else { nothing };
    let amounts = Amounts { cost: billed.cost - computed.cost, ..baselines };
    Some(match billed.source {
        Source::Feed => Amounts { feed: billed.confirmed(), ..amounts },
        Source::Bill => Amounts { bill: billed.confirmed(), ..amounts },
    })
}

fn kind_of(source: Source) -> PostingKind {
    match source {
        Source::Feed => PostingKind::Feed,
        Source::Bill => PostingKind::Bill,
    }
}

fn kind_held(held: Option<&BTreeMap<Known, Amounts>>) -> PostingKind {
    let on_bill = held.is_some_and(|held| held.values().any(|amounts| amounts.bill != MicroUsd(0)));
    kind_of(if on_bill { Source::Bill } else { Source::Feed })
}

/// What is missing from `held` to `wanted`. A baseline that became known moves the whole amount from one kind of row to the other.
fn differences(wanted: Option<Amounts>, held: Option<&BTreeMap<Known, Amounts>>) -> Vec<Amounts> {
    let mut held = held.cloned().unwrap_or_default();
    let missing = wanted.map(|wanted| wanted.less(&held.remove(&wanted.known()).unwrap_or(Amounts::nothing(wanted.known()))));
    let taken_back = held.into_iter().map(|(known, amounts)| Amounts::nothing(known).less(&amounts));
    missing.into_iter().chain(taken_back).filter(|amounts| !amounts.is_nothing()).collect()
}

fn posting_id(machine: &Uid, key: &ShareKey, n: u32) -> Uuid {
    let (hour, day, n) = (key.hour.to_string(), key.day.to_string(), n.to_string());
    let owner = key.owner.map(|owner| owner.to_string()).unwrap_or_default();
    let pod = key.pod.as_ref().map_or("", Uid::as_str);
    derive_uuid(&["posting", machine.as_str(), &hour, &day, key.line.as_str(), pod, &owner, &n])
}

#[cfg(test)]
mod tests;
