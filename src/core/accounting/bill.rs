//! What AWS said an instance cost, laid over its instance-hours.
//!
//! Decides: which source holds (the bill before the spot data feed before our own figure), and in one word why an hour costs something other
//! than computed; that the part of an hour that no line covers rests on no bill; that each month of an hour across midnight of the 1st costs what that
//! month's bill says; that credits, refunds, discounts and charges beside the use are never part of what the use cost.
//! Does not: lay lines over hours (see [`laid`]), read files (see `ledger::import`) or split an hour over pods (see [`super::statement`]).
//!
//! Sources: EC2 user guide, "Track your Spot Instance costs using the Spot Instance data feed" (one line per instance-hour, dated by the
//! start of that hour); AWS Data Exports user guide, "Cost and Usage Report (CUR) 2.0" (lines by clock hour; `bill_invoice_id` is empty
//! while the bill is not final). That instance-hours are counted from the launch is inferred from the feed's sample, not seen on a bill.

mod carried;
mod laid;

use std::collections::{BTreeMap, BTreeSet};

pub use self::carried::{CarriedAway, taken_off};
use self::laid::{Laid, Piece, lay_all, parts_of, pieces};
use super::allocation::Line;
use super::billing::{INSTANCE_HOUR, PaidInterval, PriceSegment};
use crate::core::units::money::{BilledUsd, MicroUsd};
use crate::core::units::time::{Millis, Timestamp};

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

    /// It is about the use of the machine.
    pub fn is_use(self) -> bool {
        matches!(self, LineKind::Usage | LineKind::Commitment)
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

/// Of an instance-hour what lies in one month: the whole, or one side of midnight of the 1st.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MonthPart {
    /// The first UTC day of it, counted from 1970-01-01.
    pub from_day: i64,
    /// What it costs, open parts included.
    pub cost: MicroUsd,
    /// Of it, what no line covers yet.
    pub open: MicroUsd,
    /// AWS's bill is final and has nothing of it: no price is compared with what was not bought.
    pub unbilled: bool,
}

/// What an instance-hour costs by AWS's word.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Month by month.
    pub parts: Vec<MonthPart>,
    /// What the bill has of the machine's use in another month than its billed time, counted to the nearest hour. With the parts they add up to the hour.
    pub elsewhere: Vec<UseElsewhere>,
}

/// Use that the bill has beside the billed time, in another month: of the month that it is billed in, whatever end of the machine is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UseElsewhere {
    /// The start of the first line of the day.
    pub from: Timestamp,
    /// The time that the day's lines speak of, an hour at most: an amount belongs to where it begins.
    pub span: Millis,
    /// How much.
    pub cost: MicroUsd,
    /// It lies before the machine is known to have run, and not after.
    pub is_before: bool,
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
    /// The UTC days of the hour that it is of, the first and the one after the last.
    pub days: (i64, i64),
    /// The day of the lines, where they lie in another month than the billed time: what a volume costs after its machine is of the month that it is billed in,
    /// and moves no month that is closed.
    pub dated: Option<i64>,
}

/// The hours of `interval` that `lines` cover, in order. Lines outside the billed time count for the nearest hour: no cent is lost. The bill's lines of another month
/// stay there.
///
/// Part of an hour that a bill does not cover keeps its computed cost, and rests on that alone, until the month it lies in is invoiced; it costs nothing
/// from then on. A line longer than an hour confirms its use and no more: see [`laid`].
pub fn billed_hours(interval: &PaidInterval, lines: &[BilledLine]) -> Vec<BilledHour> {
    let (segments, whole) = (interval.segments(), pieces(interval));
    let [feed, bill] = lay_all(&whole, lines);
    // A refund or a tax alone says nothing of the use: it closes no month.
    let closes = |line: &&BilledLine| line.source == Source::Bill && line.invoiced && line.kind.is_use();
    let invoiced: BTreeSet<_> = lines.iter().filter(closes).map(|line| month(line.from)).collect();
    let all: Vec<_> = whole.iter().zip(&feed).zip(&bill).map(|((piece, feed), bill)| (piece, feed, bill)).collect();
    let (mut totals, mut hours) = (Totals::default(), Vec::new());
    for (segment, of_hour) in segments.iter().zip(all.chunk_by(|a, b| a.0.hour == b.0.hour)) {
        let closed = |piece: &Piece| invoiced.contains(&month(Timestamp(piece.from)));
        let source = if of_hour.iter().any(|(piece, _, bill)| bill.any || closed(piece)) {
            Source::Bill
        } else if of_hour.iter().any(|(_, feed, _)| feed.any) {
            Source::Feed
        } else if of_hour.iter().any(|(_, _, bill)| !bill.away.is_empty()) {
            Source::Bill
        } else {
            continue;
        };
        let (mut laid, mut open_ms, mut parts, mut elsewhere) = (Laid::default(), 0, Vec::new(), Vec::new());
        for (piece, feed, bill) in of_hour {
            let said = if source == Source::Bill { bill } else { feed };
            let open = if source == Source::Bill && !closed(piece) { said.uncovered(piece) } else { 0 };
            let rate = if interval.waived() { 0 } else { piece.price };
            let (cost, open_cost) = totals.add(said, BilledUsd(i128::from(rate) * i128::from(open) * 10_000 / i128::from(INSTANCE_HOUR.0)));
            let unbilled = source == Source::Bill && !interval.waived() && open == 0 && said.is_nothing();
            parts.push(MonthPart { from_day: piece.from.div_euclid(DAY_MS), cost, open: open_cost, unbilled });
            laid.add(said);
            open_ms += open;
            for away in bill.away.values() {
                let (cost, _) = totals.add(&away.laid, BilledUsd(0));
                let span = Millis(away.to - away.from).min(INSTANCE_HOUR);
                elsewhere.push(UseElsewhere { from: Timestamp(away.from), span, cost, is_before: away.from < piece.from });
                laid.add(&away.laid);
            }
        }
        let cost = parts.iter().map(|part| part.cost).chain(elsewhere.iter().map(|away| away.cost)).sum();
        let cause = cause(interval, segment, &laid, cost, open_ms);
        let open = parts.iter().map(|part| part.open).sum();
        hours.push(BilledHour { hour: segment.hour, source, cost, open, cause, parts, elsewhere });
    }
    hours
}

/// Running totals, so that parts add up to the exact sum rounded once.
#[derive(Default)]
struct Totals {
    cost: BilledUsd,
    open: BilledUsd,
}

impl Totals {
    /// Of lines and what is open beside them, their shares of the rounded totals: the cost, and of it what is open.
    fn add(&mut self, said: &Laid, open: BilledUsd) -> (MicroUsd, MicroUsd) {
        let before = (self.cost.to_micro_usd(), self.open.to_micro_usd());
        (self.cost, self.open) = (self.cost + open + BilledUsd(said.usage), self.open + open);
        let cost = self.cost.to_micro_usd() - before.0;
        // Without a line nothing is confirmed, not even the micro-dollar that rounding moves.
        (cost, if said.any { self.open.to_micro_usd() - before.1 } else { cost })
    }
}

/// What the bill's lines charge or give back beside the use, hour by hour. Laid as use is: by what was computed for the hours that a line speaks
/// of; a line whose span is a point belongs to the hour it lies in, and one beside the billed time to the nearest hour, with its own date where it lies in
/// another month.
pub fn beside_hours(interval: &PaidInterval, lines: &[BilledLine]) -> Vec<BesideHour> {
    let whole = pieces(interval);
    let mut hours = Vec::new();
    for beside in BESIDE {
        // By piece and the day that it is dated by.
        let mut amounts: BTreeMap<(usize, Option<i64>), i128> = BTreeMap::new();
        for line in lines.iter().filter(|line| line.kind == LineKind::Beside(beside)) {
            for part in parts_of(&whole, line) {
                let is_elsewhere = whole.get(part.piece).is_some_and(|piece| piece.is_in_another_month(line));
                *amounts.entry((part.piece, is_elsewhere.then(|| line.from.0.div_euclid(DAY_MS)))).or_default() += part.cost;
            }
        }
        let mut total = BilledUsd(0);
        for ((n, dated), amount) in amounts {
            let before = total.to_micro_usd();
            total = total + BilledUsd(amount);
            let cost = total.to_micro_usd() - before;
            let Some(piece) = whole.get(n).filter(|_| cost != MicroUsd(0)) else { continue };
            let days = (piece.from.div_euclid(DAY_MS), (piece.to - 1).div_euclid(DAY_MS) + 1);
            hours.push(BesideHour { hour: piece.hour, line: beside, cost, days, dated });
        }
    }
    hours
}

fn cause(interval: &PaidInterval, segment: &PriceSegment, laid: &Laid, cost: MicroUsd, open_ms: i64) -> Cause {
    // AWS rounds each line to ten decimals: the same amount may differ by a micro-dollar.
    if (cost - segment.cost).0.abs() <= 1 {
        return Cause::Confirmed;
    }
    if !laid.any {
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
