//! What AWS said an instance cost, laid over its instance-hours.
//!
//! Decides: which line is about which instance-hour, which source holds (the bill before the spot data feed before our own figure), and
//! in one word why an hour costs something other than computed; that the part of an hour that no line covers rests on no bill; that credits,
//! refunds, discounts and charges beside the use are never part of what the use cost.
//! Does not: read files (see `ledger::import`) or split an hour over pods (see [`super::statement`]).
//!
//! Sources: EC2 user guide, "Track your Spot Instance costs using the Spot Instance data feed" (one line per instance-hour, dated by the
//! start of that hour); AWS Data Exports user guide, "Cost and Usage Report (CUR) 2.0" (lines by clock hour; `bill_invoice_id` is empty
//! while the bill is not final). That instance-hours are counted from the launch is inferred from the feed's sample, not seen on a bill.

use std::collections::BTreeSet;

use super::allocation::Line;
use super::billing::{INSTANCE_HOUR, PaidInterval, PriceSegment};
use crate::core::units::money::{BilledUsd, MicroUsd};
use crate::core::units::time::{Millis, Timestamp};

/// The feed dates an hour by its start; the machine's clock and EC2's may differ by this.
const CLOCK_TOLERANCE: Millis = Millis::from_mins(5);
const DAY_MS: i64 = 86_400_000;
/// AWS bills whole seconds, the ledger counts milliseconds.
const SECOND: Millis = Millis::from_secs(1);

/// Who said an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The spot data feed.
    Feed,
    /// The Cost and Usage Report.
    Bill,
}

/// What a billed line is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LineKind {
    /// Use of the machine.
    Usage,
    /// Use of the machine, paid by a Savings Plan or a reservation at its own rate.
    Commitment,
    /// What is charged or given back beside the use, on a line of its own.
    Beside(Line),
}

impl LineKind {
    /// As the ledger writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            LineKind::Usage => "usage",
            LineKind::Commitment => "commitment",
            LineKind::Beside(line) => line.as_str(),
        }
    }

    /// The kind of this name; `None` for what is kept and not posted. Data carried to another region is transfer: what was posted for it as egress when it was
    /// carried is taken off (see `ledger::poster`).
    pub fn of(text: &str) -> Option<LineKind> {
        match text {
            CARRIED => Some(LineKind::Beside(Line::Transfer)),
            "usage" => Some(LineKind::Usage),
            "commitment" => Some(LineKind::Commitment),
            other => BESIDE.into_iter().find(|line| line.as_str() == other).map(LineKind::Beside),
        }
    }
}

/// Lines about data carried to another region, as the ledger writes them.
pub const CARRIED: &str = "egress";

/// The lines that stand beside the use of a machine.
pub const BESIDE: [Line; 8] = [Line::Credit, Line::Refund, Line::Discount, Line::Transfer, Line::Volume, Line::Nat, Line::Tax, Line::Fee];

/// One line about one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BilledLine {
    /// Who said it.
    pub source: Source,
    /// What it is for.
    pub kind: LineKind,
    /// Start of the time it is about.
    pub from: Timestamp,
    /// End of it.
    pub to: Timestamp,
    /// The amount.
    pub cost: BilledUsd,
    /// Billed use, where the line says it.
    pub used: Option<Millis>,
    /// The line belongs to the invoice of the month that it lies in: nothing more will come for that month. A line that came late, on the invoice of a
    /// month after its own, closes neither.
    pub invoiced: bool,
}

/// Why an instance-hour costs something other than computed, or that it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// Computed from recorded prices once the hour was over.
    Settled,
    /// A fact arrived after the hour was posted.
    LateFact,
    /// AWS says the same.
    Confirmed,
    /// Another price per hour.
    PriceDiffered,
    /// Another billed time.
    SecondsDiffered,
    /// Both.
    PriceAndSecondsDiffered,
    /// The month is invoiced and has no line for the hour.
    HourNotBilled,
    /// The hour was held to be free (EC2 interrupted it) and was billed.
    BilledThoughFree,
    /// A Savings Plan or reservation paid.
    Commitment,
    /// A credit, a refund, a discount, or a charge beside the use: the line says which.
    Beside,
    /// The attribution of its day was corrected.
    Retagged,
}

impl Cause {
    /// As the ledger writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Settled => "settled",
            Cause::LateFact => "late-fact",
            Cause::Confirmed => "confirmed",
            Cause::PriceDiffered => "price-differed",
            Cause::SecondsDiffered => "seconds-differed",
            Cause::PriceAndSecondsDiffered => "price-and-seconds-differed",
            Cause::HourNotBilled => "hour-not-billed",
            Cause::BilledThoughFree => "billed-though-free",
            Cause::Commitment => "commitment",
            Cause::Beside => "beside-the-use",
            Cause::Retagged => "re-tagged",
        }
    }
}

/// What an instance-hour costs by AWS's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BilledHour {
    /// Which instance-hour.
    pub hour: u32,
    /// Which source says so.
    pub source: Source,
    /// Its cost, open parts included. Hours add up to the exact sum of lines and open parts, rounded once.
    pub cost: MicroUsd,
    /// Of it, what no line covers yet and no invoice closes: as computed, and on nobody's word. Rounded as the cost is, so that the rest adds up to the lines.
    pub open: MicroUsd,
    /// Against what was computed.
    pub cause: Cause,
}

impl BilledHour {
    /// What rests on the source's word.
    pub fn confirmed(&self) -> MicroUsd {
        self.cost - self.open
    }
}

/// What the bill charges or gives back for an instance-hour beside its use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BesideHour {
    /// Which instance-hour.
    pub hour: u32,
    /// What for.
    pub line: Line,
    /// How much. Hours add up to the lines' exact sum rounded once.
    pub cost: MicroUsd,
}

/// What the lines add up to for one instance-hour.
#[derive(Default, Clone)]
struct Laid {
    usage: i128,
    used: Option<i64>,
    spans: Vec<(i64, i64)>,
    commitment: bool,
    any: bool,
}

/// The hours of `interval` that `lines` cover, in order. Lines outside the billed time count for the nearest hour: no cent is lost.
///
/// Part of an hour that a bill does not cover keeps its computed cost, and rests on that alone, until the month it lies in is invoiced; it costs nothing
/// from then on.
pub fn billed_hours(interval: &PaidInterval, lines: &[BilledLine]) -> Vec<BilledHour> {
    let segments = interval.segments();
    let mut laid = [vec![Laid::default(); segments.len()], vec![Laid::default(); segments.len()]];
    for line in lines.iter().filter(|line| matches!(line.kind, LineKind::Usage | LineKind::Commitment)) {
        match line.source {
            Source::Feed => lay_feed(&segments, line, &mut laid[0]),
            Source::Bill => lay_bill(&segments, line, &mut laid[1]),
        }
    }
    let invoiced: BTreeSet<_> = lines.iter().filter(|l| l.source == Source::Bill && l.invoiced).map(|l| month(l.from)).collect();
    let (mut total, mut all_open, mut hours) = (BilledUsd(0), BilledUsd(0), Vec::new());
    let [feed, bill] = laid;
    for ((segment, feed), bill) in segments.iter().zip(&feed).zip(&bill) {
        let closed = invoiced.contains(&month(segment.from));
        let (source, laid, open_ms) = if bill.any || closed {
            (Source::Bill, bill, open_ms(segment, bill, &invoiced))
        } else if feed.any {
            (Source::Feed, feed, 0)
        } else {
            continue;
        };
        let rate = if interval.waived() { 0 } else { segment.price.0 };
        let open = BilledUsd(i128::from(rate) * i128::from(open_ms) * 10_000 / i128::from(INSTANCE_HOUR.0));
        let before = (total.to_micro_usd(), all_open.to_micro_usd());
        (total, all_open) = (total + open + BilledUsd(laid.usage), all_open + open);
        let cost = total.to_micro_usd() - before.0;
        let cause = cause(interval, segment, laid, cost, open_ms);
        // Without a line nothing is confirmed, not even the micro-dollar that rounding moves.
        let open = if laid.any { all_open.to_micro_usd() - before.1 } else { cost };
        hours.push(BilledHour { hour: segment.hour, source, cost, open, cause });
    }
    hours
}

/// What the bill's lines charge or give back beside the use, hour by hour. Laid as use is: by what was computed for the hours that a line speaks
/// of; a line whose span is a point belongs to the hour it lies in, and one beside the billed time to the nearest hour.
pub fn beside_hours(interval: &PaidInterval, lines: &[BilledLine]) -> Vec<BesideHour> {
    let segments = interval.segments();
    let mut hours = Vec::new();
    for beside in BESIDE {
        let mut laid = vec![Laid::default(); segments.len()];
        for line in lines.iter().filter(|line| line.kind == LineKind::Beside(beside)) {
            lay_bill(&segments, line, &mut laid);
        }
        let mut total = BilledUsd(0);
        for (segment, laid) in segments.iter().zip(&laid) {
            let before = total.to_micro_usd();
            total = total + BilledUsd(laid.usage);
            let cost = total.to_micro_usd() - before;
            if cost != MicroUsd(0) {
                hours.push(BesideHour { hour: segment.hour, line: beside, cost });
            }
        }
    }
    hours
}

/// A line of the feed is about the instance-hour that begins when it says.
fn lay_feed(segments: &[PriceSegment], line: &BilledLine, laid: &mut [Laid]) {
    let Some(first) = segments.first() else { return };
    let hour = ((line.from + CLOCK_TOLERANCE).since(first.from).0 / INSTANCE_HOUR.0).max(0);
    let at = usize::try_from(hour).unwrap_or(usize::MAX).min(laid.len().saturating_sub(1));
    if let (Some(laid), Some(segment)) = (laid.get_mut(at), segments.get(at)) {
        laid.take(line, line.cost.0, line.used.map(|used| used.0), (segment.from.0, segment.from.0 + segment.billed.0));
    }
}

/// A line of the bill is about a clock hour (or a day): split over the instance-hours it overlaps by what was computed for the overlap,
/// since a clock hour holds two instance-hours with a price each; by time where nothing was computed.
fn lay_bill(segments: &[PriceSegment], line: &BilledLine, laid: &mut [Laid]) {
    let span = |s: &PriceSegment| (s.from.0, s.from.0 + s.billed.0);
    let overlaps: Vec<i64> = segments.iter().map(|s| (span(s).1.min(line.to.0) - span(s).0.max(line.from.0)).max(0)).collect();
    let time: i128 = overlaps.iter().map(|ms| i128::from(*ms)).sum();
    if time == 0 {
        let before = segments.first().is_some_and(|s| line.from < s.from);
        let within = segments.iter().position(|s| (span(s).0..span(s).1).contains(&line.from.0));
        let at = within.unwrap_or(if before { 0 } else { laid.len().saturating_sub(1) });
        if let (Some(laid), Some(segment)) = (laid.get_mut(at), segments.get(at)) {
            laid.take(line, line.cost.0, line.used.map(|used| used.0), span(segment));
        }
        return;
    }
    let computed: Vec<i128> = segments.iter().zip(&overlaps).map(|(s, ms)| i128::from(s.price.0) * i128::from(*ms)).collect();
    let by_time: Vec<i128> = overlaps.iter().map(|ms| i128::from(*ms)).collect();
    let by_cost = if computed.iter().sum::<i128>() > 0 { &computed } else { &by_time };
    let costs = running_shares(line.cost.0, by_cost);
    let used = line.used.map(|used| running_shares(i128::from(used.0), &by_time));
    for (n, (laid, segment)) in laid.iter_mut().zip(segments).enumerate().filter(|(n, _)| overlaps.get(*n).is_some_and(|ms| *ms > 0)) {
        let used = used.as_ref().and_then(|used| used.get(n)).map(|ms| i64::try_from(*ms).unwrap_or(i64::MAX));
        let part = (span(segment).0.max(line.from.0), span(segment).1.min(line.to.0));
        laid.take(line, costs.get(n).copied().unwrap_or_default(), used, part);
    }
}

/// `amount` by weight: differences of the running total's share, so that the parts add up to it.
fn running_shares(amount: i128, weights: &[i128]) -> Vec<i128> {
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

impl Laid {
    fn take(&mut self, line: &BilledLine, amount: i128, used: Option<i64>, span: (i64, i64)) {
        self.any = true;
        self.usage += amount;
        self.commitment |= line.kind == LineKind::Commitment;
        self.spans.push(span);
        self.used = used.map(|ms| ms + self.used.unwrap_or(0)).or(self.used);
    }
}

/// Milliseconds of a segment that no usage line covers and that lie in a month without an invoice: the bill of the month after may still speak of the
/// end of an hour across midnight of the 1st.
fn open_ms(segment: &PriceSegment, laid: &Laid, invoiced: &BTreeSet<String>) -> i64 {
    let (from, to) = (segment.from.0, segment.from.0 + segment.billed.0);
    let midnight = (to - 1).div_euclid(DAY_MS) * DAY_MS;
    let parts = if midnight > from { vec![(from, midnight), (midnight, to)] } else { vec![(from, to)] };
    let open = parts.into_iter().filter(|(from, _)| !invoiced.contains(&month(Timestamp(*from))));
    open.map(|part| uncovered(part, laid)).sum()
}

/// Milliseconds of a span that no usage line covers.
fn uncovered((start, end): (i64, i64), laid: &Laid) -> i64 {
    let mut spans: Vec<(i64, i64)> = laid.spans.iter().map(|(from, to)| ((*from).max(start), (*to).min(end))).collect();
    spans.sort_unstable();
    let (mut covered, mut reached) = (0, i64::MIN);
    for (from, to) in spans {
        covered += (to - from.max(reached)).max(0);
        reached = reached.max(to);
    }
    (end - start - covered).max(0)
}

fn cause(interval: &PaidInterval, segment: &PriceSegment, laid: &Laid, cost: MicroUsd, open_ms: i64) -> Cause {
    // AWS rounds each line to ten decimals: the same amount may differ by a micro-dollar.
    if (cost - segment.cost).0.abs() <= 1 {
        return Cause::Confirmed;
    }
    if laid.spans.is_empty() {
        return Cause::HourNotBilled;
    }
    if laid.commitment {
        return Cause::Commitment;
    }
    if interval.waived() {
        return Cause::BilledThoughFree;
    }
    let Some(used) = laid.used else { return Cause::PriceDiffered };
    let seconds_differ = (used + open_ms - segment.billed.0).abs() > SECOND.0;
    // What the billed time costs at our price, within half a micro-dollar per line and the second that AWS rounds to.
    let at_our_price = i128::from(segment.price.0) * i128::from(used) * 10_000 / i128::from(INSTANCE_HOUR.0);
    let slack = i128::from(segment.price.0) * i128::from(SECOND.0) * 10_000 / i128::from(INSTANCE_HOUR.0) + 10_000;
    let price_differs = (at_our_price - laid.usage).abs() > slack;
    match (price_differs, seconds_differ) {
        (true, true) => Cause::PriceAndSecondsDiffered,
        (true, false) => Cause::PriceDiffered,
        (false, _) => Cause::SecondsDiffered,
    }
}

/// Calendar month, as in 2026-07: bills close by it.
fn month(at: Timestamp) -> String {
    at.to_rfc3339().chars().take(7).collect()
}

#[cfg(test)]
mod tests;
