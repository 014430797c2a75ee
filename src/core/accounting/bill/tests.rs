use std::collections::BTreeMap;

use super::super::billing::HourRate;
use super::*;
use crate::core::fleet::EndedBy;
use crate::core::market::CapacityType;
use crate::core::units::money::MicroUsdPerHour;

/// Runs from 07:13:47 for `minutes` at $0.0913 an hour.
fn interval(minutes: i64) -> PaidInterval {
    let from = Timestamp::from_date(2026, 7, 20) + Millis(26_027_000);
    PaidInterval {
        capacity_type: CapacityType::Spot,
        from,
        to: from + Millis::from_mins(minutes),
        ended_by: Some(EndedBy::Lowtide),
        bought_at: HourRate { price: MicroUsdPerHour(91_300), on_demand: None },
        hours: BTreeMap::new(),
    }
}

fn feed(from: Timestamp, cost: &str, used: i64) -> BilledLine {
    let (source, kind) = (Source::Feed, LineKind::Usage);
    BilledLine { source, kind, from, to: from + INSTANCE_HOUR, cost: cost.parse().unwrap(), used: Some(Millis(used)), invoiced: false }
}

/// Clock hour `hour` of 2026-07-20.
fn bill(hour: i64, cost: &str, used_mins: i64) -> BilledLine {
    let from = Timestamp::from_date(2026, 7, 20) + Millis::from_hours(hour);
    BilledLine { source: Source::Bill, ..feed(from, cost, used_mins * 60_000) }
}

fn said(hours: &[BilledHour]) -> Vec<(u32, i64, &'static str)> {
    hours.iter().map(|h| (h.hour, h.cost.0, h.cause.as_str())).collect()
}

#[test]
fn the_feed_dates_hours_by_their_start_and_says_why_they_differ() {
    let machine = interval(150);
    let at = |minutes: i64| machine.from + Millis::from_mins(minutes);
    let lines = [
        feed(at(0) - Millis::from_secs(20), "0.0913", 3_600_000),
        feed(at(60), "0.1", 3_600_000),
        feed(at(120) + Millis::from_secs(40), "0.0304333333", 1_200_000),
    ];
    let expected = [(0, 91_300, "confirmed"), (1, 100_000, "price-differed"), (2, 30_433, "seconds-differed")];
    assert_eq!(said(&billed_hours(&machine, &lines)), expected);
    let both = [feed(at(120), "0.06", 1_200_000)];
    assert_eq!(said(&billed_hours(&machine, &both)), [(2, 60_000, "price-and-seconds-differed")], "hours without a line stay computed");
    assert_eq!(said(&billed_hours(&machine, &[])), []);
}

#[test]
fn clock_hours_of_the_bill_are_laid_over_instance_hours_and_add_up() {
    let machine = interval(150);
    // 07:13:47 to 09:43:47: parts of three clock hours.
    let cost = |ms: i64| BilledUsd(91_300 * i128::from(ms) * 10_000 / 3_600_000).to_string();
    let ms = [2_773_000, 3_600_000, 2_627_000];
    let lines: Vec<BilledLine> =
        ms.iter().zip(7..).map(|(ms, hour)| BilledLine { used: Some(Millis(*ms)), ..bill(hour, &cost(*ms), 0) }).collect();
    let hours = billed_hours(&machine, &lines);
    assert_eq!(said(&hours), [(0, 91_300, "confirmed"), (1, 91_300, "confirmed"), (2, 45_650, "confirmed")]);
    let higher =
        billed_hours(&machine, &[lines[0].clone(), BilledLine { cost: "0.2".parse().unwrap(), ..lines[1].clone() }, lines[2].clone()]);
    let exact: BilledUsd = ["0.2", &cost(ms[0]), &cost(ms[2])].iter().map(|t| t.parse::<BilledUsd>().unwrap()).sum();
    assert_eq!(higher.iter().map(|h| h.cost).sum::<MicroUsd>(), exact.to_micro_usd());
}

#[test]
fn what_the_bill_does_not_speak_of_is_open_until_the_invoice_and_free_after_it() {
    let machine = interval(150);
    // Only the clock hour 08:00 to 09:00 has arrived: 46 min of hour 0 and 14 min of hour 1 stay computed.
    let part = bill(8, "0.0913", 60);
    let first = billed_hours(&machine, std::slice::from_ref(&part));
    assert_eq!(said(&first), [(0, 91_300, "confirmed"), (1, 91_300, "confirmed")]);
    // 827 s of hour 0 are on the bill, and 2,773 s of hour 1; the rest rests on what was computed, and the parts add up.
    let parts: Vec<_> = first.iter().map(|hour| (hour.confirmed().0, hour.open.0)).collect();
    assert_eq!(parts, [(20_974, 70_326), (70_326, 20_974)]);
    let whole = BilledLine { invoiced: true, ..part };
    let hours = billed_hours(&machine, &[whole]);
    assert_eq!(hours.iter().map(|h| h.cost.0).sum::<i64>(), 91_300);
    assert_eq!(hours[2].cause, Cause::HourNotBilled);
    assert!(hours.iter().all(|hour| hour.open == MicroUsd(0)), "an invoice leaves nothing open: {hours:?}");
}

#[test]
fn the_bill_holds_before_the_feed() {
    let machine = interval(46);
    let lines = [feed(machine.from, "0.05", 2_760_000), bill(7, "0.07", 46)];
    let hours = billed_hours(&machine, &lines);
    assert_eq!((hours.len(), hours[0].source, hours[0].cost), (1, Source::Bill, MicroUsd(70_000)));
}

#[test]
fn credits_commitments_and_hours_billed_though_free_are_named() {
    let machine = interval(46);
    let beside = |line, amount| BilledLine { kind: LineKind::Beside(line), used: None, ..bill(7, amount, 0) };
    let lines = [bill(7, "0.0699966667", 46), beside(Line::Credit, "-0.01"), beside(Line::Refund, "-0.02"), beside(Line::Tax, "0.0133")];
    assert_eq!(said(&billed_hours(&machine, &lines)), [(0, 69_997, "confirmed")], "a credit is no part of what the use cost");
    let found: Vec<_> = beside_hours(&machine, &lines).iter().map(|h| (h.line, h.cost.0)).collect();
    assert_eq!(found, [(Line::Credit, -10_000), (Line::Refund, -20_000), (Line::Tax, 13_300)]);
    let plan = BilledLine { kind: LineKind::Commitment, ..bill(7, "0.02", 46) };
    assert_eq!(said(&billed_hours(&machine, &[plan])), [(0, 20_000, "commitment")]);
    let mut free = interval(30);
    free.ended_by = Some(EndedBy::Ec2Interruption);
    assert_eq!(said(&billed_hours(&free, &[feed(free.from, "0", 0)])), [(0, 0, "confirmed")]);
    assert_eq!(said(&billed_hours(&free, &[feed(free.from, "0.04565", 1_800_000)])), [(0, 45_650, "billed-though-free")]);
}

#[test]
fn a_line_beside_the_billed_time_counts_for_the_nearest_hour() {
    let machine = interval(70);
    assert_eq!(billed_hours(&machine, &[bill(5, "0.01", 5)])[0].hour, 0);
    let late = billed_hours(&machine, &[bill(15, "0.01", 5)]);
    assert_eq!((late.len(), late[0].hour, late[0].cost.0), (1, 1, 10_000));
}

/// Half of the clock hour 08:00 to 09:00 is at another price; AWS has two lines for it, or one.
#[test]
fn a_clock_hour_with_two_prices_is_confirmed() {
    let mut machine = interval(120);
    machine.hours.insert(1, HourRate { price: MicroUsdPerHour(200_003), on_demand: None });
    let cost = |price: i128, ms: i128| price * ms * 10_000 / 3_600_000;
    let amounts = [(7, cost(91_300, 2_773_000)), (8, cost(91_300, 827_000) + cost(200_003, 2_773_000)), (9, cost(200_003, 827_000))];
    let lines: Vec<BilledLine> = amounts.iter().map(|(hour, cost)| bill(*hour, &BilledUsd(*cost).to_string(), 60)).collect();
    let causes: Vec<_> = billed_hours(&machine, &lines).iter().map(|hour| hour.cause.as_str()).collect();
    assert_eq!(causes, ["confirmed", "confirmed"]);
}

/// The feed's own example of a refund: its span is a point.
#[test]
fn a_line_whose_span_is_a_point_belongs_to_the_hour_it_lies_in() {
    let machine = interval(150);
    let point = |minutes: i64| {
        let from = machine.from + Millis::from_mins(minutes);
        BilledLine { kind: LineKind::Beside(Line::Refund), from, to: from, used: None, ..bill(7, "-0.844161", 0) }
    };
    for (minutes, hour) in [(-100, 0), (0, 0), (61, 1), (149, 2), (1_000, 2)] {
        let found = beside_hours(&machine, &[point(minutes)]);
        assert_eq!((found[0].hour, found[0].cost.0, found.len()), (hour, -844_161, 1), "{minutes}");
    }
    // Over the whole life: by what was computed for each hour, to the micro-dollar.
    let whole = BilledLine { from: machine.from, to: machine.to, ..point(0) };
    let found = beside_hours(&machine, &[whole]);
    assert_eq!(found.iter().map(|h| h.cost.0).sum::<i64>(), -844_161);
    assert_eq!(found.len(), 3);
}

/// The bill of July is final before that of August is there: what lies in August of an hour across midnight is not free.
#[test]
fn an_invoice_closes_its_own_part_of_an_hour_across_the_end_of_a_month() {
    let first = Timestamp::from_date(2026, 8, 1);
    let machine = PaidInterval { from: first - Millis::from_mins(90), to: first + Millis::from_mins(90), ..interval(180) };
    let clock = |from: Timestamp, mins: i64, invoiced| {
        let cost = BilledUsd(91_300 * i128::from(mins) * 10_000 / 60).to_string();
        BilledLine { to: from + INSTANCE_HOUR, source: Source::Bill, invoiced, ..feed(from, &cost, mins * 60_000) }
    };
    let july = |invoiced| [clock(first - Millis::from_hours(2), 30, invoiced), clock(first - Millis::from_hours(1), 60, invoiced)];
    let august = |invoiced| [clock(first, 60, invoiced), clock(first + Millis::from_hours(1), 30, invoiced)];
    let all = [(0, 91_300, "confirmed"), (1, 91_300, "confirmed"), (2, 91_300, "confirmed")];
    assert_eq!(said(&billed_hours(&machine, &july(true))), all[..2], "hour 1 is half in August");
    assert_eq!(said(&billed_hours(&machine, &august(true))), all[1..], "and half in July");
    assert_eq!(said(&billed_hours(&machine, &[july(true), august(true)].concat())), all);
    // August is final and has no line for its first hour: that part is free, and July's is not.
    let late = [&july(true)[..], &august(true)[1..]].concat();
    assert_eq!(
        said(&billed_hours(&machine, &late)),
        [(0, 91_300, "confirmed"), (1, 45_650, "seconds-differed"), (2, 45_650, "seconds-differed")]
    );
    // And the other way round.
    let early = [&july(true)[..1], &august(true)[..]].concat();
    assert_eq!(
        said(&billed_hours(&machine, &early)),
        [(0, 45_650, "seconds-differed"), (1, 45_650, "seconds-differed"), (2, 91_300, "confirmed")]
    );
}

/// Reports by the day have one line for it: three hours of use out of twenty-four that ran confirm three, and nobody knows which.
#[test]
fn a_line_longer_than_an_hour_confirms_its_use_and_no_more() {
    let midnight = Timestamp::from_date(2026, 7, 21);
    let machine = PaidInterval { from: midnight, to: midnight + Millis::from_hours(24), ..interval(0) };
    let day = |used: Millis, cost: &str, invoiced| BilledLine {
        to: midnight + Millis::from_hours(24),
        source: Source::Bill,
        invoiced,
        ..feed(midnight, cost, used.0)
    };
    let sums = |lines: &[BilledLine]| {
        let hours = billed_hours(&machine, lines);
        let of = |amount: fn(&BilledHour) -> MicroUsd| hours.iter().map(amount).sum::<MicroUsd>().0;
        let mut causes: Vec<_> = hours.iter().map(|hour| hour.cause.as_str()).collect();
        causes.dedup();
        (of(BilledHour::confirmed), of(|hour| hour.open), causes)
    };
    // Three hours at our price: $0.2739. The other 21 are computed, and on no bill.
    assert_eq!(sums(&[day(Millis::from_hours(3), "0.2739", false)]), (273_900, 21 * 91_300, vec!["confirmed"]));
    // At another price the difference is named, and the rest stays.
    assert_eq!(sums(&[day(Millis::from_hours(3), "0.30", false)]), (300_000, 21 * 91_300, vec!["price-differed"]));
    // Of a final bill nothing is left open: AWS charges three hours.
    assert_eq!(sums(&[day(Millis::from_hours(3), "0.2739", true)]), (273_900, 0, vec!["seconds-differed"]));
    // All of the day, to the second at either end: nothing is open.
    for short in [Millis::ZERO, Millis(1_999), SECOND + SECOND] {
        assert_eq!(sums(&[day(Millis::from_hours(24) - short, "2.1912", false)]), (2_191_200, 0, vec!["confirmed"]), "{short:?}");
    }
    let (confirmed, open, _) = sums(&[day(Millis::from_hours(24) - Millis(2_001), "2.1911492513", false)]);
    assert_eq!((confirmed, open), (2_191_149, 51), "2.001 s of it");
    // Part on demand and part under a plan: the lines of a day count together.
    let plan = BilledLine { kind: LineKind::Commitment, ..day(Millis::from_hours(14), "0.7", false) };
    let (confirmed, open, _) = sums(&[plan.clone(), day(Millis::from_hours(10), "0.913", false)]);
    assert_eq!((confirmed, open), (1_613_000, 0));
    assert_eq!(sums(&[plan]).1, 10 * 91_300);
    // More use than the machine is known to have run: every cent is posted, and no more time is confirmed.
    assert_eq!(sums(&[day(Millis::from_hours(30), "2.739", false)]), (2_739_000, 0, vec!["seconds-differed"]));
    // A month's line that takes itself back confirms nothing.
    let back = [day(Millis::from_hours(3), "0.2739", false), day(Millis::from_hours(-3), "-0.2739", false)];
    assert_eq!((sums(&back).0, sums(&back).1), (0, 24 * 91_300));
    // Beside the use an invoice closes nothing.
    let credit = BilledLine { kind: LineKind::Beside(Line::Credit), used: None, ..day(Millis::ZERO, "-1", true) };
    assert_eq!(sums(&[credit]), (0, 0, vec![]));
    // An hour at the edge of the span: only what lies within it is spread over, and what lies beside it is open.
    let late = PaidInterval { from: midnight - Millis::from_mins(30), to: midnight + Millis::from_mins(90), ..interval(0) };
    let hours = billed_hours(&late, &[day(Millis::from_mins(90), "0.13695", false)]);
    assert_eq!(hours.iter().map(|hour| (hour.confirmed().0, hour.open.0)).collect::<Vec<_>>(), [(45_650, 45_650), (91_300, 0)]);
}

/// Each side of midnight of the 1st costs what that month's bill says of it, and has no baseline where a final bill has nothing.
#[test]
fn each_month_of_an_hour_across_its_end_costs_what_its_own_bill_says() {
    let first = Timestamp::from_date(2026, 8, 1);
    let machine = PaidInterval { from: first - Millis::from_mins(30), to: first + Millis::from_mins(30), ..interval(60) };
    let clock = |from: Timestamp, cost: &str, invoiced| BilledLine {
        to: from + INSTANCE_HOUR,
        source: Source::Bill,
        invoiced,
        ..feed(from, cost, 30 * 60_000)
    };
    let (july, august) = (clock(first - INSTANCE_HOUR, "0.01", true), clock(first, "0.08", true));
    let parts = |lines: &[BilledLine]| -> Vec<_> {
        let hours = billed_hours(&machine, lines);
        hours.iter().flat_map(|hour| &hour.parts).map(|part| (part.cost.0, part.open.0, part.unbilled)).collect()
    };
    assert_eq!(parts(&[july.clone(), august.clone()]), [(10_000, 0, false), (80_000, 0, false)]);
    assert_eq!(parts(std::slice::from_ref(&july)), [(10_000, 0, false), (45_650, 45_650, false)]);
    assert_eq!(parts(std::slice::from_ref(&august)), [(45_650, 45_650, false), (80_000, 0, false)]);
    // August is final and has only another hour of the machine.
    let longer = PaidInterval { to: first + Millis::from_mins(90), ..machine };
    let hours = billed_hours(&longer, &[july, clock(first + INSTANCE_HOUR, "0.04565", true)]);
    let found: Vec<_> = hours[0].parts.iter().map(|part| (part.cost.0, part.unbilled)).collect();
    assert_eq!(found, [(10_000, false), (0, true)]);
    // One line of the feed is of both.
    let fed = billed_hours(&longer, &[feed(longer.from, "0.2", 3_600_000)]);
    assert_eq!(fed[0].parts.iter().map(|part| part.cost.0).collect::<Vec<_>>(), [100_000, 100_000]);
}

/// A volume that outlives its machine: what it costs in August is dated in August, and July is as it was.
#[test]
fn what_a_bill_charges_beside_the_use_in_another_month_has_its_own_date() {
    let last = Timestamp::from_date(2026, 7, 31) + Millis::from_hours(20);
    let machine = PaidInterval { from: last, to: last + Millis::from_mins(90), ..interval(0) };
    let volume = |from: Timestamp, cost: &str| BilledLine {
        kind: LineKind::Beside(Line::Volume),
        used: None,
        from,
        to: from + Millis::from_hours(24),
        ..bill(0, cost, 0)
    };
    let august = |day: i64| Timestamp::from_date(2026, 8, day);
    let lines = [volume(last + Millis::from_hours(3), "0.3"), volume(august(2), "0.2"), volume(august(1), "0.1"), volume(august(2), "0.4")];
    let found: Vec<_> = beside_hours(&machine, &lines).iter().map(|h| (h.hour, h.cost.0, h.dated)).collect();
    let day = |at: Timestamp| Some(at.0 / DAY_MS);
    assert_eq!(found, [(1, 300_000, None), (1, 100_000, day(august(1))), (1, 600_000, day(august(2)))]);
    let before = beside_hours(&machine, &[volume(Timestamp::from_date(2026, 6, 30), "0.1")]);
    assert_eq!((before[0].hour, before[0].dated), (0, day(Timestamp::from_date(2026, 6, 30))));
}

/// EC2's clock and the books' differ about a machine's end, or its end was recorded late: what August's bill has of its use is August's, and July is as its own bill says.
#[test]
fn use_of_another_month_stays_in_it() {
    let start = Timestamp::from_date(2026, 7, 31) + Millis::from_hours(20);
    let machine = PaidInterval { from: start, to: start + Millis::from_mins(90), ..interval(0) };
    let line = |from: Timestamp, cost: &str, mins: i64, invoiced| BilledLine {
        to: from + INSTANCE_HOUR,
        source: Source::Bill,
        invoiced,
        ..feed(from, cost, mins * 60_000)
    };
    let july = [line(start, "0.0913", 60, true), line(start + INSTANCE_HOUR, "0.04565", 30, true)];
    let august = |hour: i64, cost: &str| line(Timestamp::from_date(2026, 8, 1) + Millis::from_hours(hour), cost, 10, true);
    let later = [august(25, "0.02"), august(0, "0.01"), august(24, "0.0000004")];
    let elsewhere =
        |hour: &BilledHour| -> Vec<_> { hour.elsewhere.iter().map(|away| (away.from, away.span, away.cost.0, away.is_before)).collect() };
    let both = [july.as_slice(), later.as_slice()].concat();
    let hours = billed_hours(&machine, &both);
    assert_eq!(said(&hours), [(0, 91_300, "confirmed"), (1, 75_650, "price-and-seconds-differed")]);
    // Two lines of a day are one, where the first begins.
    let at = |hour: i64| Timestamp::from_date(2026, 8, 1) + Millis::from_hours(hour);
    assert_eq!(elsewhere(&hours[1]), [(at(0), INSTANCE_HOUR, 10_000, false), (at(24), INSTANCE_HOUR, 20_000, false)]);
    assert_eq!(hours[1].parts.iter().map(|part| (part.cost.0, part.open.0)).collect::<Vec<_>>(), [(45_650, 0)]);
    // July's bill is not there yet: July stays as computed, on nobody's word, or on the feed's.
    let alone = billed_hours(&machine, &later);
    assert_eq!((alone.len(), alone[0].hour, alone[0].source), (1, 1, Source::Bill));
    assert_eq!((alone[0].parts[0].cost.0, alone[0].open.0, alone[0].confirmed().0), (45_650, 45_650, 30_000));
    let fed = billed_hours(&machine, &[later.as_slice(), &[feed(start + INSTANCE_HOUR, "0.05", 1_800_000)]].concat());
    assert_eq!((fed[0].source, fed[0].parts[0].cost.0, fed[0].confirmed().0), (Source::Feed, 50_000, 80_000));
    // July's final bill has nothing of the hour: it is free there, and August's use is still paid.
    let lacking = billed_hours(&machine, &[later.as_slice(), &july[..1]].concat());
    assert_eq!((lacking[1].parts[0].cost.0, lacking[1].parts[0].unbilled, elsewhere(&lacking[1]).len()), (0, true, 2));
    // Before the machine began, likewise.
    let june = Timestamp::from_date(2026, 6, 30);
    let before = billed_hours(&machine, &[line(june, "0.03", 10, false)]);
    assert_eq!((before[0].hour, elsewhere(&before[0])), (0, vec![(june, INSTANCE_HOUR, 30_000, true)]));
}
