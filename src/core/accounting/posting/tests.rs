use super::super::allocation::{Line, Occupied};
use super::super::bill::{BilledLine, LineKind};
use super::super::billing::{HourRate, PaidInterval};
use super::super::statement::{CorrectedOwner, MachineFacts, SETTLING, statement};
use super::*;
use crate::core::fleet::EndedBy;
use crate::core::market::CapacityType;
use crate::core::units::money::MicroUsdPerHour;

const DAY: Timestamp = Timestamp(1_784_505_600_000);

fn hours(n: i64) -> Millis {
    Millis::from_hours(n)
}

/// A machine from midnight on with one pod from 00:06 on, open until `to` or ended there.
fn facts(to: Millis, ended: bool) -> MachineFacts {
    let interval = PaidInterval {
        capacity_type: CapacityType::Spot,
        from: DAY,
        to: DAY + to,
        ended_by: ended.then_some(EndedBy::Lowtide),
        bought_at: HourRate { price: MicroUsdPerHour(300_000), on_demand: Some(MicroUsdPerHour(800_000)) },
        hours: BTreeMap::new(),
    };
    let pod = Occupied {
        pod: "p".into(),
        gpus: 1,
        from: DAY + Millis::from_mins(6),
        to: DAY + to,
        doubled_from: None,
        lost_from: None,
        egress: None,
        b1_per_replica_hour: Some(MicroUsdPerHour(800_000)),
        b2_per_replica_hour: None,
    };
    MachineFacts {
        gpus: 1,
        interval,
        pods: vec![(pod, Some(Uuid::from_u128(1)))],
        bought_for: Some(Uuid::from_u128(2)),
        corrected: Vec::new(),
        billed: Vec::new(),
        said_by: BTreeMap::new(),
    }
}

/// The rows so far, as the database would add them up.
#[derive(Default)]
struct Book {
    rows: Vec<Posting>,
}

impl Book {
    fn posted(&self) -> BTreeMap<ShareKey, Posted> {
        let mut posted: BTreeMap<ShareKey, Posted> = BTreeMap::new();
        for row in &self.rows {
            let (from, span) = (row.from, row.span);
            let of = posted.entry(row.key.clone()).or_insert_with(|| Posted {
                from,
                span,
                computed: BTreeMap::new(),
                billed: BTreeMap::new(),
                rows: 0,
            });
            of.rows += 1;
            let layer = if matches!(row.kind, PostingKind::Estimate | PostingKind::Correction) { &mut of.computed } else { &mut of.billed };
            let sum = layer.entry(row.amounts.known()).or_insert(Amounts::nothing(row.amounts.known()));
            *sum = sum.less(&Amounts::nothing(row.amounts.known()).less(&row.amounts));
        }
        posted
    }

    /// Posts what is missing and says which kinds and causes that were.
    fn post(&mut self, facts: &MachineFacts, now: Timestamp) -> Vec<(&'static str, &'static str, u32, Line, i64)> {
        let rows = missing(&"m".into(), &statement(facts, now), &self.posted(), Timestamp(i64::MIN));
        self.rows.extend(rows.clone());
        let ids: BTreeSet<Uuid> = self.rows.iter().map(|row| row.id).collect();
        assert_eq!(ids.len(), self.rows.len(), "an id stands for two rows");
        assert_eq!(missing(&"m".into(), &statement(facts, now), &self.posted(), Timestamp(i64::MIN)), [], "posting twice posts nothing");
        rows.iter().map(|r| (r.kind.as_str(), r.cause.as_str(), r.key.hour, r.key.line, r.amounts.cost.0)).collect()
    }

    fn cost(&self) -> i64 {
        self.rows.iter().map(|row| row.amounts.cost.0).sum()
    }
}

#[test]
fn an_hour_is_posted_once_it_is_over_and_its_facts_had_time_to_come() {
    let mut book = Book::default();
    let after = |minutes: i64| DAY + Millis::from_mins(minutes);
    assert_eq!(book.post(&facts(Millis::from_mins(69), false), after(69)), []);
    let first = book.post(&facts(Millis::from_mins(70), false), after(70));
    assert_eq!(SETTLING, Millis::from_mins(10));
    assert_eq!(first, [("estimate", "settled", 0, Line::Pod, 270_000), ("estimate", "settled", 0, Line::Boot, 30_000)]);
    let rest = book.post(&facts(Millis::from_mins(90), true), after(90));
    assert_eq!(rest, [("estimate", "settled", 1, Line::Pod, 150_000)], "an ended machine has no hour that is not over");
}

#[test]
fn a_late_fact_posts_the_difference_and_edits_nothing() {
    let mut book = Book::default();
    book.post(&facts(hours(3), true), DAY + hours(3));
    assert_eq!((book.rows.len(), book.cost()), (4, 900_000));
    // It had ended after two hours and six minutes, and the second hour was more expensive.
    let mut late = facts(hours(2) + Millis::from_mins(6), true);
    late.interval.hours.insert(1, HourRate { price: MicroUsdPerHour(400_000), on_demand: None });
    let rows = book.post(&late, DAY + hours(3));
    assert_eq!(
        rows,
        [
            ("correction", "late-fact", 1, Line::Pod, 100_000),
            // The higher price is carried on: 6 min of it instead of an hour of the old.
            ("correction", "late-fact", 2, Line::Pod, -260_000),
        ]
    );
    assert_eq!(book.cost(), late.interval.cost().0);
    let gpu_ms: i64 = book.rows.iter().map(|row| row.amounts.gpu_ms).sum();
    assert_eq!(gpu_ms, late.interval.ran().0);
}

#[test]
fn a_baseline_that_becomes_known_moves_the_spend_out_of_the_unknown() {
    let mut book = Book::default();
    let mut unknown = facts(hours(1), true);
    unknown.pods[0].0.b1_per_replica_hour = None;
    book.post(&unknown, DAY + hours(1));
    let without_b1 = |book: &Book| -> i64 {
        book.rows.iter().filter(|r| r.key.line == Line::Pod && r.amounts.b1.is_none()).map(|r| r.amounts.cost.0).sum()
    };
    assert_eq!(without_b1(&book), 270_000);
    let rows = book.post(&facts(hours(1), true), DAY + hours(1));
    assert_eq!(rows.iter().map(|r| r.4).collect::<Vec<_>>(), [270_000, -270_000]);
    assert_eq!((without_b1(&book), book.cost()), (0, 300_000));
    assert_eq!(book.rows.iter().filter_map(|r| r.amounts.b1).map(|b1| b1.0).sum::<i64>(), 720_000);
}

fn feed_line(from: Timestamp, cost: &str) -> BilledLine {
    BilledLine {
        source: Source::Feed,
        kind: LineKind::Usage,
        from,
        to: from + hours(1),
        cost: cost.parse().unwrap(),
        used: Some(hours(1)),
        invoiced: false,
    }
}

#[test]
fn the_feed_then_the_bill_true_up_what_was_estimated() {
    let mut book = Book::default();
    let mut machine = facts(hours(2), true);
    book.post(&machine, DAY + hours(2));
    machine.billed = vec![feed_line(DAY, "0.3"), feed_line(DAY + hours(1), "0.29")];
    assert_eq!(
        book.post(&machine, DAY + hours(2)),
        [
            ("feed", "confirmed", 0, Line::Pod, 0),
            ("feed", "confirmed", 0, Line::Boot, 0),
            ("feed", "price-differed", 1, Line::Pod, -10_000),
        ]
    );
    assert_eq!(book.rows.iter().map(|r| r.amounts.feed.0).sum::<i64>(), 590_000);
    machine.billed.push(BilledLine { source: Source::Bill, ..feed_line(DAY + hours(1), "0.31") });
    assert_eq!(book.post(&machine, DAY + hours(2)), [("bill", "price-differed", 1, Line::Pod, 20_000)]);
    let sums = book.rows.iter().fold((0, 0), |sums, r| (sums.0 + r.amounts.feed.0, sums.1 + r.amounts.bill.0));
    assert_eq!((sums, book.cost()), ((300_000, 310_000), 610_000), "the hour rests on the bill, no longer on the feed");
    // A late fact gives part of the hour to idle: AWS's amount follows the shares.
    machine.pods[0].0.to = DAY + Millis::from_mins(90);
    let rows = book.post(&machine, DAY + hours(2));
    assert_eq!(
        rows,
        [
            ("correction", "late-fact", 1, Line::Pod, -150_000),
            ("bill", "price-differed", 1, Line::Pod, -5_000),
            ("correction", "late-fact", 1, Line::Drain, 150_000),
            ("bill", "price-differed", 1, Line::Drain, 5_000),
        ]
    );
    assert_eq!(book.cost(), 610_000);
}

#[test]
fn labels_known_late_move_a_share_to_its_owner() {
    let mut book = Book::default();
    let mut machine = facts(hours(1), true);
    machine.bought_for = None;
    book.post(&machine, DAY + hours(1));
    machine.bought_for = Some(Uuid::from_u128(2));
    let rows = book.post(&machine, DAY + hours(1));
    assert_eq!(rows.iter().map(|r| (r.3, r.4)).collect::<Vec<_>>(), [(Line::Boot, -30_000), (Line::Boot, 30_000)]);
    assert_eq!(book.cost(), 300_000);
}

#[test]
fn what_is_archived_is_left_alone() {
    let rows = missing(&"m".into(), &statement(&facts(hours(3), true), DAY + hours(3)), &BTreeMap::new(), DAY + hours(2));
    assert_eq!(rows.iter().map(|row| row.key.hour).collect::<Vec<_>>(), [2]);
}

/// A credit is a row of its own, split as the hour is; taking it back leaves nothing.
#[test]
fn what_stands_beside_the_use_is_posted_on_a_line_of_its_own() {
    let mut book = Book::default();
    let mut machine = facts(hours(1), true);
    book.post(&machine, DAY + hours(2));
    let version = Uuid::from_u128(9);
    machine.said_by.insert(Source::Bill, version);
    let credit = BilledLine { source: Source::Bill, kind: LineKind::Beside(Line::Credit), used: None, ..feed_line(DAY, "-1") };
    machine.billed.push(credit);
    let rows = book.post(&machine, DAY + hours(2));
    // Six minutes of boot and 54 of a pod.
    assert_eq!(rows, [("bill", "beside-the-use", 0, Line::Credit, -100_000), ("bill", "beside-the-use", 0, Line::Credit, -900_000)]);
    assert_eq!(book.rows.last().unwrap().said_by, Some(version));
    machine.billed.clear();
    let back: i64 = book.post(&machine, DAY + hours(2)).iter().map(|row| row.4).sum();
    assert_eq!(back, 1_000_000);
}

/// A correction moves a share from one owner to the other, with itself as the cause; taking it back moves it back. Nothing is left behind.
#[test]
fn a_correction_of_labels_moves_shares_and_nothing_else() {
    let now = DAY + hours(30);
    let machine = Uid::from("m");
    let mut book = Book::default();
    let mut facts = facts(hours(2), true);
    let mut post = |facts: &MachineFacts| {
        let rows = missing(&machine, &statement(facts, now), &book.posted(), Timestamp(0));
        book.rows.extend(rows.clone());
        rows
    };
    post(&facts);
    let (usual, owner, by, back) = (Uuid::from_u128(1), Uuid::from_u128(3), Uuid::from_u128(4), Uuid::from_u128(5));
    let day = DAY.0 / 86_400_000;
    facts.corrected = vec![CorrectedOwner { usual, from_day: day, to_day: day + 1, owner, by }];
    let rows = post(&facts);
    let said: Vec<_> = rows.iter().map(|row| (row.key.owner, row.cause, row.said_by, row.amounts.cost.0)).collect();
    // Both hours of the pod; what no pod used is somebody else's.
    assert_eq!(
        said,
        [
            (Some(usual), Cause::Retagged, Some(by), -270_000),
            (Some(owner), Cause::Retagged, Some(by), 270_000),
            (Some(usual), Cause::Retagged, Some(by), -300_000),
            (Some(owner), Cause::Retagged, Some(by), 300_000)
        ]
    );
    assert_eq!(post(&facts), [], "once");
    facts.corrected = vec![CorrectedOwner { usual, from_day: day, to_day: day + 1, owner: usual, by: back }];
    let rows = post(&facts);
    assert!(rows.len() == 4 && rows.iter().all(|row| (row.cause, row.said_by) == (Cause::Retagged, Some(back))), "{rows:?}");
    facts.corrected.clear();
    assert_eq!(post(&facts), [], "as if it had never been");
}

/// The final bill has the first hour and not the second: neither its cost nor what it is compared with is left.
#[test]
fn what_aws_did_not_bill_saves_nothing() {
    let mut book = Book::default();
    let mut machine = facts(hours(2), true);
    book.post(&machine, DAY + hours(2));
    machine.billed = vec![BilledLine { source: Source::Bill, invoiced: true, ..feed_line(DAY, "0.3") }];
    book.post(&machine, DAY + hours(2));
    let second = |of: fn(&Amounts) -> Option<MicroUsd>| -> i64 {
        book.rows.iter().filter(|row| row.key.hour == 1).filter_map(|row| of(&row.amounts)).map(|amount| amount.0).sum()
    };
    assert_eq!((second(|a| Some(a.cost)), second(|a| a.b0), second(|a| a.b1)), (0, 0, 0));
    assert_eq!(book.rows.iter().filter_map(|row| row.amounts.b1).map(|b1| b1.0).sum::<i64>(), 720_000, "54 minutes of the first");
    // EC2 took the machine within its first hour: free by its own rule, and its work counts.
    let mut free = facts(Millis::from_mins(30), true);
    free.interval.ended_by = Some(EndedBy::Ec2Interruption);
    free.billed = vec![BilledLine { invoiced: true, source: Source::Bill, used: Some(Millis::ZERO), ..feed_line(DAY, "0") }];
    let mut book = Book::default();
    book.post(&free, DAY + hours(2));
    assert_eq!(book.rows.iter().filter_map(|row| row.amounts.b1).map(|b1| b1.0).sum::<i64>(), 320_000);
}

/// Of an hour across midnight of the 1st each day has what its own month's bill says, and a volume's days after the machine are in their month.
#[test]
fn each_month_of_an_hour_has_its_own_amount() {
    let first = Timestamp::from_date(2026, 8, 1);
    let mut machine = facts(hours(1), true);
    machine.interval.from = first - Millis::from_mins(30);
    machine.interval.to = first + Millis::from_mins(30);
    (machine.pods[0].0.from, machine.pods[0].0.to) = (machine.interval.from, machine.interval.to);
    let line = |from: Timestamp, cost| BilledLine { source: Source::Bill, used: Some(Millis::from_mins(30)), ..feed_line(from, cost) };
    let volume = BilledLine { kind: LineKind::Beside(Line::Volume), used: None, ..line(Timestamp::from_date(2026, 9, 3), "0.5") };
    machine.billed = vec![line(first - hours(1), "0.01"), line(first, "0.08"), volume];
    let mut book = Book::default();
    book.post(&machine, first + hours(2));
    let day = |from: Timestamp| first.0.max(from.0).div_euclid(86_400_000);
    let of = |d: i64| -> i64 { book.rows.iter().filter(|row| row.key.day == d).map(|row| row.amounts.cost.0).sum() };
    let september = Timestamp::from_date(2026, 9, 3);
    assert_eq!((of(day(first) - 1), of(day(first)), of(day(september))), (10_000, 80_000, 500_000));
    let dated = book.rows.iter().find(|row| row.key.line == Line::Volume).unwrap();
    assert_eq!((dated.from, dated.span, dated.cause, dated.key.owner), (september, Millis::ZERO, Cause::Beside, Some(Uuid::from_u128(1))));
}
