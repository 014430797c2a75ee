//! Laying lines of the bill and the feed over instance-hours.
//!
//! Decides: which line is about which instance-hour, how an amount is split over several, and which time a line confirms. A line of a clock hour speaks of
//! that hour. One that is longer (reports by the day or the month) confirms the time in which the machine ran within its span where its use is
//! that time. Where it says less use, nobody can tell which part it is about: its amount and its use are spread over the running time, and the rest is
//! confirmed by nothing. Where it says more, all of its amount is posted and no more time is confirmed than the machine is known to have run. A line beside the
//! billed time is of the nearest hour, and in another month of its own day: the end that is recorded moves no money from one month's bill to another month's books.
//! Does not: know what is open or closed (see [`super`]).

use std::collections::BTreeMap;

use super::{BilledLine, DAY_MS, LineKind, SECOND, Source, month};
use crate::core::accounting::billing::{INSTANCE_HOUR, PaidInterval};
use crate::core::units::time::{Millis, Timestamp};

/// The feed dates an hour by its start; the machine's clock and EC2's may differ by this.
const CLOCK_TOLERANCE: Millis = Millis::from_mins(5);
/// EC2 bills whole seconds and the ledger has milliseconds: a machine's time in a span may differ by a second where it begins, and by one where it ends. The
/// minimum of a minute is in the time that is compared.
const ENDS: Millis = Millis(2 * SECOND.0);

/// An instance-hour; one that lies in two months is two, cut at midnight of the 1st.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// Which instance-hour.
    pub hour: u32,
    /// Start of its billed time, in milliseconds.
    pub from: i64,
    /// End of it.
    pub to: i64,
    /// Micro-dollars per hour.
    pub price: i64,
}

impl Piece {
    fn shared(&self, line: &BilledLine) -> i64 {
        (self.to.min(line.to.0) - self.from.max(line.from.0)).max(0)
    }

    /// The line lies beside this time, and in another month.
    pub(super) fn is_in_another_month(&self, line: &BilledLine) -> bool {
        let lies_within = (self.from..self.to).contains(&line.from.0) || self.shared(line) > 0;
        !lies_within && month(line.from) != month(Timestamp(self.from))
    }
}

/// The billed time of an interval, hour by hour.
pub(super) fn pieces(interval: &PaidInterval) -> Vec<Piece> {
    let of_hour = |segment: &crate::core::accounting::billing::PriceSegment| {
        let (from, to) = (segment.from.0, segment.from.0 + segment.billed.0);
        let midnight = (to - 1).div_euclid(DAY_MS) * DAY_MS;
        let two = midnight > from && month(Timestamp(from)) != month(Timestamp(midnight));
        let parts = if two { vec![(from, midnight), (midnight, to)] } else { vec![(from, to)] };
        let (hour, price) = (segment.hour, segment.price.0);
        parts.into_iter().map(move |(from, to)| Piece { hour, from, to, price })
    };
    interval.segments().iter().flat_map(of_hour).collect()
}

/// What the lines add up to for one piece.
#[derive(Debug, Default, Clone)]
pub(super) struct Laid {
    /// The amount.
    pub usage: i128,
    /// Billed use, where lines say it.
    pub used: Option<i64>,
    /// A commitment paid some of it.
    pub commitment: bool,
    /// There is a line.
    pub any: bool,
    /// The time that lines speak of.
    spans: Vec<(i64, i64)>,
    /// Time of which a longer line says that it was used, and not when.
    partly: i64,
    /// What lines beside this time say of days in another month.
    pub away: BTreeMap<i64, Away>,
}

/// Use on a day of another month than the billed time.
#[derive(Debug, Clone)]
pub(super) struct Away {
    /// The time that its lines speak of, in milliseconds.
    pub from: i64,
    /// Its end.
    pub to: i64,
    /// What they add up to.
    pub laid: Laid,
}

impl Laid {
    fn take(&mut self, line: &BilledLine, amount: i128, used: Option<i64>, span: Option<(i64, i64)>) {
        self.any = true;
        self.usage += amount;
        self.commitment |= line.kind == LineKind::Commitment;
        self.spans.extend(span);
        self.used = used.map(|ms| ms + self.used.unwrap_or(0)).or(self.used);
    }

    /// Adds what is said of another part of the hour.
    pub(super) fn add(&mut self, other: &Laid) {
        self.any |= other.any;
        self.usage += other.usage;
        self.commitment |= other.commitment;
        self.used = other.used.map(|ms| ms + self.used.unwrap_or(0)).or(self.used);
    }

    /// No line, or lines that take each other back: AWS charged nothing.
    pub(super) fn is_nothing(&self) -> bool {
        !self.any || (self.usage == 0 && self.used == Some(0))
    }

    /// Milliseconds of a piece that no line of use covers.
    pub(super) fn uncovered(&self, piece: &Piece) -> i64 {
        let mut spans: Vec<(i64, i64)> = self.spans.iter().map(|(from, to)| ((*from).max(piece.from), (*to).min(piece.to))).collect();
        spans.sort_unstable();
        let (mut covered, mut reached) = (self.partly, i64::MIN);
        for (from, to) in spans {
            covered += (to - from.max(reached)).max(0);
            reached = reached.max(to);
        }
        (piece.to - piece.from - covered).max(0)
    }
}

/// Lays the lines of use over the pieces: what the feed says, and what the bill says.
pub(super) fn lay_all(pieces: &[Piece], lines: &[BilledLine]) -> [Vec<Laid>; 2] {
    let mut laid = [vec![Laid::default(); pieces.len()], vec![Laid::default(); pieces.len()]];
    let unclear = unclear(pieces, lines);
    for line in lines.iter().filter(|line| line.kind.is_use()) {
        match line.source {
            Source::Feed => lay_feed(pieces, line, &mut laid[0]),
            Source::Bill => lay_bill(pieces, line, !unclear.contains_key(&(line.from.0, line.to.0)), &mut laid[1]),
        }
    }
    for ((from, to), used) in unclear {
        let shared: Vec<i128> = pieces.iter().map(|piece| i128::from((piece.to.min(to) - piece.from.max(from)).max(0))).collect();
        for (laid, ms) in laid[1].iter_mut().zip(running_shares(i128::from(used), &shared)) {
            laid.partly += i64::try_from(ms).unwrap_or(i64::MAX);
        }
    }
    laid
}

/// Spans of more than an hour whose lines together say less use than the machine had within them, and how much they say. One may be part on demand and part
/// under a plan: lines of one span count together. A line that does not say its use covers its span.
fn unclear(pieces: &[Piece], lines: &[BilledLine]) -> BTreeMap<(i64, i64), i64> {
    let mut used: BTreeMap<(i64, i64), Option<i64>> = BTreeMap::new();
    let is_long = |line: &&BilledLine| line.source == Source::Bill && line.kind.is_use() && line.to.since(line.from) > INSTANCE_HOUR;
    for line in lines.iter().filter(is_long) {
        let sum = used.entry((line.from.0, line.to.0)).or_insert(Some(0));
        *sum = sum.zip(line.used).map(|(sum, ms)| sum.saturating_add(ms.0));
    }
    let ran = |(from, to): (i64, i64)| pieces.iter().map(|piece| (piece.to.min(to) - piece.from.max(from)).max(0)).sum::<i64>();
    let less = |(span, used): ((i64, i64), Option<i64>)| Some((span, used?.max(0))).filter(|(span, used)| *used < ran(*span) - ENDS.0);
    used.into_iter().filter_map(less).collect()
}

/// A line of the feed is about the instance-hour that begins when it says.
fn lay_feed(pieces: &[Piece], line: &BilledLine, laid: &mut [Laid]) {
    let (Some(first), Some(last)) = (pieces.first(), pieces.last()) else { return };
    let hour = ((line.from + CLOCK_TOLERANCE).0 - first.from).max(0) / INSTANCE_HOUR.0;
    let hour = u32::try_from(hour).unwrap_or(u32::MAX).min(last.hour);
    let by_time: Vec<i128> = pieces.iter().map(|piece| if piece.hour == hour { i128::from(piece.to - piece.from) } else { 0 }).collect();
    let costs = running_shares(line.cost.0, &by_time);
    let used = line.used.map(|used| running_shares(i128::from(used.0), &by_time));
    for (n, (laid, piece)) in laid.iter_mut().zip(pieces).enumerate().filter(|(_, (_, piece))| piece.hour == hour) {
        let used = used.as_ref().and_then(|used| used.get(n)).map(|ms| i64::try_from(*ms).unwrap_or(i64::MAX));
        laid.take(line, costs.get(n).copied().unwrap_or_default(), used, Some((piece.from, piece.to)));
    }
}

/// Covers the spans of the parts of a line where `is_clear`.
fn lay_bill(pieces: &[Piece], line: &BilledLine, is_clear: bool, laid: &mut [Laid]) {
    for part in parts_of(pieces, line) {
        let (Some(laid), Some(piece)) = (laid.get_mut(part.piece), pieces.get(part.piece)) else { continue };
        if piece.is_in_another_month(line) {
            let (from, to) = (line.from.0, line.to.0);
            let away = laid.away.entry(from.div_euclid(DAY_MS)).or_insert_with(|| Away { from, to, laid: Laid::default() });
            (away.from, away.to) = (away.from.min(from), away.to.max(to));
            away.laid.take(line, part.cost, part.used, None);
        } else {
            laid.take(line, part.cost, part.used, is_clear.then_some(part.span));
        }
    }
}

/// What a line of the bill says of one piece.
pub(super) struct Part {
    /// Which, by its place.
    pub piece: usize,
    /// The amount.
    pub cost: i128,
    used: Option<i64>,
    span: (i64, i64),
}

/// A line of the bill is about a clock hour (or a day): split over the instance-hours it overlaps by what was computed for the overlap,
/// since a clock hour holds two instance-hours with a price each; by time where nothing was computed.
pub(super) fn parts_of(pieces: &[Piece], line: &BilledLine) -> Vec<Part> {
    let overlaps: Vec<i64> = pieces.iter().map(|piece| piece.shared(line)).collect();
    let by_time: Vec<i128> = overlaps.iter().map(|ms| i128::from(*ms)).collect();
    if by_time.iter().sum::<i128>() == 0 {
        let before = pieces.first().is_some_and(|piece| line.from.0 < piece.from);
        let within = pieces.iter().position(|piece| (piece.from..piece.to).contains(&line.from.0));
        let at = within.unwrap_or(if before { 0 } else { pieces.len().saturating_sub(1) });
        let whole = |piece: &Piece| Part { piece: at, cost: line.cost.0, used: line.used.map(|used| used.0), span: (piece.from, piece.to) };
        return pieces.get(at).map(whole).into_iter().collect();
    }
    let computed: Vec<i128> = pieces.iter().zip(&overlaps).map(|(piece, ms)| i128::from(piece.price) * i128::from(*ms)).collect();
    let by_cost = if computed.iter().sum::<i128>() > 0 { &computed } else { &by_time };
    let costs = running_shares(line.cost.0, by_cost);
    let used = line.used.map(|used| running_shares(i128::from(used.0), &by_time));
    let part = |(n, (piece, cost)): (usize, (&Piece, i128))| Part {
        piece: n,
        cost,
        used: used.as_ref().and_then(|used| used.get(n)).map(|ms| i64::try_from(*ms).unwrap_or(i64::MAX)),
        span: (piece.from.max(line.from.0), piece.to.min(line.to.0)),
    };
    let parts = pieces.iter().zip(costs).enumerate().filter(|(n, _)| overlaps.get(*n).is_some_and(|ms| *ms > 0));
    parts.map(part).collect()
}

/// `amount` by weight: differences of the running total's share, so that the parts add up to it.
pub(super) fn running_shares(amount: i128, weights: &[i128]) -> Vec<i128> {
    let whole: i128 = weights.iter().sum::<i128>().max(1);
    let upto = |weight: i128| {
        // Half up, so that an amount that is a rounded product goes back to its factors.
        let (q, r) = (amount / whole, amount % whole);
        q * weight + (r * weight * 2 + whole * amount.signum()) / (whole * 2)
    };
    let mut seen = 0;
    let share = |weight: &i128| {
        let before = seen;
        seen += weight;
        upto(seen) - upto(before)
    };
    weights.iter().map(share).collect()
}
