//! The bridge between two months: exact, the same in SQL and in Rust, and in words.

use std::collections::BTreeMap;

use lowtide::core::fleet::EndedBy;
use lowtide::core::market::CapacityType;
use lowtide::core::record::LedgerRecord;
use lowtide::core::units::ids::ObjectRef;
use lowtide::core::units::time::{Millis, Timestamp};
use lowtide::core::workload::need::UsageUnit;
use lowtide::ledger::connect;
use lowtide::ledger::import::{Format, UsageHour, store_usage};
use lowtide::ledger::poster::post;
use lowtide::ledger::report::{Month, Report, VarianceBy, variance};
use lowtide::ports::Ledger;

use crate::facts::{Bench, DAY, Dice, Machine, bench, decision, stay};
use crate::imports::{Folder, taken};
use crate::rules::random_machine;
use crate::statements::{HEADER, line};

const MONTH: i64 = 31 * 86_400_000;
const LATER: Timestamp = Timestamp(DAY.0 + 2 * MONTH);

/// Long after every month of these tests.
const NOW: lowtide::core::units::time::Timestamp = lowtide::core::units::time::Timestamp(1_900_000_000_000);

fn month(text: &str) -> Month {
    text.parse().unwrap()
}

fn step(report: &Report, name: &str) -> (String, String) {
    let row = report.rows.iter().find(|row| row[0].as_deref() == Some(name)).unwrap();
    (row[1].clone().unwrap(), row[2].clone().unwrap_or_default())
}

fn usage(workload: &str, at: Timestamp, requests: i128) -> UsageHour {
    let workload = ObjectRef { namespace: "ml".into(), name: workload.into() };
    UsageHour { workload, hour: at, unit: UsageUnit::Requests, micro_units: requests * 1_000_000 }
}

#[tokio::test]
async fn both_statements_of_the_bridge_agree_and_leave_nothing_over() {
    let Bench { url, ledger, server: _server } = bench().await;
    let mut dice = Dice(21);
    let mut connection = connect(&url).await.unwrap();
    let mut hours = Vec::new();
    for n in 0..120 {
        let mut machine = random_machine(n, &mut dice);
        let shift = Millis(if dice.one_in(2) { MONTH } else { 0 });
        (machine.interval.from, machine.interval.to) = (machine.interval.from + shift, machine.interval.to + shift);
        for (k, stay) in machine.stays.iter_mut().enumerate() {
            (stay.from, stay.to) = (stay.from + shift, stay.to.map(|to| to + shift));
            stay.workload = format!("w{}", (n + k) % 9);
            stay.checkpoints.clear();
        }
        ledger.write(&machine.records()).await.unwrap();
        ledger.write(&[LedgerRecord::Decision(Box::new(decision(&machine)))]).await.unwrap();
    }
    for workload in 0..5 {
        for at in [DAY, DAY + Millis(MONTH)] {
            hours.push(usage(&format!("w{workload}"), at, i128::from(dice.between(1, 5_000))));
        }
    }
    store_usage(&mut connection, &hours, "test").await.unwrap();
    post(&mut connection, LATER).await.unwrap();
    for (from, to) in [("2026-07", "2026-08"), ("2026-08", "2026-09"), ("2026-06", "2026-07")] {
        let report = variance(&mut connection, &month(from), &month(to), VarianceBy::Step, &[], NOW).await.unwrap();
        let micro = |text: &str| text.replace('.', "").parse::<i64>().unwrap();
        let amounts: Vec<i64> = report.rows.iter().map(|row| micro(row[1].as_deref().unwrap())).collect();
        let (first, last) = (amounts[0], amounts[amounts.len() - 1]);
        assert_eq!(amounts[1..amounts.len() - 1].iter().sum::<i64>(), last - first, "{from} to {to}");
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "SELECT step, (sum(difference_usd) * 1000000)::bigint FROM ledger.variance_month WHERE month = ($1 || '-01')::date GROUP BY step",
        )
        .bind(to)
        .fetch_all(&mut connection)
        .await
        .unwrap();
        let in_sql: BTreeMap<String, i64> = rows.into_iter().filter(|(_, amount)| *amount != 0).collect();
        let in_rust: BTreeMap<String, i64> = report.rows[1..report.rows.len() - 1]
            .iter()
            .map(|row| (row[0].clone().unwrap(), micro(row[1].as_deref().unwrap())))
            .filter(|(_, amount)| *amount != 0)
            .collect();
        assert_eq!(in_rust, in_sql, "{from} to {to}");
        assert!(from != "2026-07" || in_rust.len() >= 7, "too little happened to mean anything: {in_rust:?}");
        let by_workload = variance(&mut connection, &month(from), &month(to), VarianceBy::Workload, &[], NOW).await.unwrap();
        let sum: i64 = by_workload.rows.iter().map(|row| micro(row[3].as_deref().unwrap())).sum();
        assert_eq!((sum, by_workload.sentence), (last - first, report.sentence));
    }
}

#[tokio::test]
async fn each_step_says_what_stands_behind_it() {
    let Bench { url, ledger, server: _server } = bench().await;
    let mut connection = connect(&url).await.unwrap();
    let machine = |name: &str, capacity, price, shift: i64, hours| {
        let mut machine = Machine::new(name, capacity, price, Some(804_800), Millis::from_hours(hours), EndedBy::Lowtide);
        (machine.interval.from, machine.interval.to) = (machine.interval.from + Millis(shift), machine.interval.to + Millis(shift));
        let mut pod = stay(&format!("pod-{name}"), "search", &machine, Millis::ZERO, Some(804_800));
        pod.workload = "chat".into();
        machine.stays.push(pod);
        machine
    };
    // July: 10 h of spot. August: 8 h of more expensive spot and 4 h on demand, for half as many requests again.
    let machines = [
        machine("a", CapacityType::Spot, 100_000, 0, 10),
        machine("b", CapacityType::Spot, 150_000, MONTH, 8),
        machine("c", CapacityType::OnDemand, 804_800, MONTH, 4),
    ];
    for machine in &machines {
        let mut bought = decision(machine);
        for offer in &mut bought.judgement.best_refused {
            offer.capacity.capacity_type = CapacityType::Spot;
        }
        if let Some(chosen) = &mut bought.judgement.chosen {
            chosen.capacity.capacity_type = machine.interval.capacity_type;
        }
        let mut records = machine.records();
        records.push(LedgerRecord::Decision(Box::new(bought)));
        ledger.write(&records).await.unwrap();
    }
    store_usage(&mut connection, &[usage("chat", DAY, 1_000), usage("chat", DAY + Millis(MONTH), 1_500)], "test").await.unwrap();
    post(&mut connection, LATER).await.unwrap();
    let report = variance(&mut connection, &month("2026-07"), &month("2026-08"), VarianceBy::Step, &[], NOW).await.unwrap();
    assert_eq!(report.sentence, "2026-08 cost $4.42, $3.42 more than 2026-07 (+341.9 %); mostly market mix (+$2.62).");
    for (name, amount, why) in [
        // 1,000 requests cost $1.
        ("volume", "0.500000", "requests 1000 -> 1500"),
        // 10 GPU-hours for 1,000, 12 for 1,500.
        ("efficiency", "-0.300000", "GPU-seconds per request 36.000 -> 28.800"),
        ("instance mix", "0.000000", "the same machines"),
        ("spot price", "0.600000", "spot cost $0.10 -> $0.15 per GPU-hour"),
        (
            "market mix",
            "2.619200",
            "0.0 of 10.0 -> 4.0 of 12.0 GPU-hours on demand; 2 spot offers refused there: 1 cooling down after a refusal, 1 more expensive",
        ),
        ("moves and waste", "0.000000", "0 -> 0 moves, 0 -> 0 interruptions"),
        ("coverage", "0.000000", "AWS's bill has not been imported, or says the same"),
    ] {
        assert_eq!(step(&report, name), (amount.to_owned(), why.to_owned()), "{name}");
    }
    let by_workload = variance(&mut connection, &month("2026-07"), &month("2026-08"), VarianceBy::Workload, &[], NOW).await.unwrap();
    assert_eq!(
        by_workload.rows[0].iter().flatten().map(String::as_str).collect::<Vec<_>>(),
        [
            "ml/chat",
            "1.000000",
            "4.419200",
            "3.419200",
            "market mix +$2.62",
            "0.0 of 10.0 -> 4.0 of 12.0 GPU-hours on demand; 2 spot offers refused there: 1 cooling down after a refusal, 1 more expensive"
        ]
    );
    let nothing = variance(&mut connection, &month("2020-01"), &month("2020-02"), VarianceBy::Step, &[], NOW).await.unwrap();
    assert_eq!(nothing.sentence, "Neither 2020-01 nor 2020-02 has any spend.");
    assert!("2026-13".parse::<Month>().is_err() && "july".parse::<Month>().is_err() && "2026-7".parse::<Month>().is_err());
}

/// A reason is about the workload that moved the amount: two workloads whose figures, taken together, would say the opposite.
#[tokio::test]
async fn reasons_are_those_of_the_workload_that_moved_the_amount() {
    let Bench { url, ledger, server: _server } = bench().await;
    let mut connection = connect(&url).await.unwrap();
    // `chat` pays half as much for its spot machine; `train`, which has no usage, runs a hundred hours on a large machine instead of two, half of them
    // on reserved capacity, whose price rose.
    for (name, workload, type_, capacity, price, shift, hours) in [
        ("a", "chat", "g6.xlarge", CapacityType::Spot, 100_000, 0, 10),
        ("b", "chat", "g6.xlarge", CapacityType::Spot, 50_000, MONTH, 10),
        ("c", "train", "p4d.24xlarge", CapacityType::Spot, 2_000_000, 0, 1),
        ("d", "train", "p4d.24xlarge", CapacityType::Reserved, 3_000_000, 0, 1),
        ("e", "train", "p4d.24xlarge", CapacityType::Spot, 2_000_000, MONTH, 50),
        ("f", "train", "p4d.24xlarge", CapacityType::Reserved, 3_500_000, MONTH, 50),
    ] {
        let mut machine = Machine::new(name, capacity, price, Some(8_000_000), Millis::from_hours(hours), EndedBy::Lowtide);
        (machine.interval.from, machine.interval.to) = (machine.interval.from + Millis(shift), machine.interval.to + Millis(shift));
        let mut pod = stay(&format!("pod-{name}"), "search", &machine, Millis::ZERO, None);
        pod.workload = workload.into();
        machine.stays.push(pod);
        let mut records = machine.records();
        let LedgerRecord::IntervalOpened(opened) = &mut records[0] else { panic!("a machine begins") };
        opened.capacity.instance_type = type_.into();
        ledger.write(&records).await.unwrap();
    }
    store_usage(&mut connection, &[usage("chat", DAY, 1_000), usage("chat", DAY + Millis(MONTH), 1_000)], "test").await.unwrap();
    post(&mut connection, LATER).await.unwrap();
    let report = variance(&mut connection, &month("2026-07"), &month("2026-08"), VarianceBy::Step, &[], NOW).await.unwrap();
    for (name, amount, why) in [
        ("volume", "245.000000", "ml/train: useful GPU-hours 2.0 -> 100.0"),
        ("efficiency", "0.000000", "as before in every workload"),
        ("instance mix", "0.000000", "as before in every workload"),
        ("spot price", "-0.500000", "ml/chat: spot cost $0.10 -> $0.05 per GPU-hour"),
        ("market mix", "0.000000", "as before in every workload"),
        ("other", "25.000000", "ml/train: reserved cost $3.00 -> $3.50 per GPU-hour"),
    ] {
        assert_eq!(step(&report, name), (amount.to_owned(), why.to_owned()), "{name}");
    }
    let by_workload = variance(&mut connection, &month("2026-07"), &month("2026-08"), VarianceBy::Workload, &[], NOW).await.unwrap();
    let why: Vec<_> = by_workload.rows.iter().map(|row| row[5].as_deref().unwrap()).collect();
    assert_eq!(why, ["useful GPU-hours 2.0 -> 100.0", "spot cost $0.10 -> $0.05 per GPU-hour"]);
}

/// Usage that is not known of every day says nothing of the others: what ten days produced is not what a month did.
#[tokio::test]
async fn days_without_usage_are_no_smaller_volume() {
    let Bench { url, ledger, server: _server } = bench().await;
    let mut connection = connect(&url).await.unwrap();
    for (name, shift) in [("a", 0), ("b", MONTH)] {
        let mut machine = Machine::new(name, CapacityType::Spot, 100_000, None, Millis::from_hours(240), EndedBy::Lowtide);
        (machine.interval.from, machine.interval.to) = (machine.interval.from + Millis(shift), machine.interval.to + Millis(shift));
        let mut pod = stay(&format!("pod-{name}"), "search", &machine, Millis::ZERO, None);
        pod.workload = "chat".into();
        machine.stays.push(pod);
        ledger.write(&machine.records()).await.unwrap();
    }
    // The same work in both months; in July usage was collected on five of the ten days.
    let day = |n: i64| Millis::from_hours(24 * n);
    let mut hours: Vec<UsageHour> = (0..5).map(|n| usage("chat", DAY + day(n), 1_000)).collect();
    hours.extend((0..10).map(|n| usage("chat", DAY + Millis(MONTH) + day(n), 1_000)));
    store_usage(&mut connection, &hours, "test").await.unwrap();
    post(&mut connection, LATER).await.unwrap();
    let report = variance(&mut connection, &month("2026-07"), &month("2026-08"), VarianceBy::Step, &[], NOW).await.unwrap();
    assert_eq!(
        step(&report, "volume"),
        ("0.000000".to_owned(), "requests 10000 -> 10000, reckoned from 50.0 % -> 100.0 % of its GPU time".to_owned())
    );
    assert_eq!(step(&report, "efficiency"), ("0.000000".to_owned(), "GPU-seconds per request 86.400 -> 86.400".to_owned()));
    let steps: i64 = sqlx::query_scalar("SELECT count(*) FROM ledger.variance_month WHERE month = '2026-08-01'")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(steps, 0, "the view says the same");
}

/// A workload that two teams had in turn: what is said of one of them is its own part.
#[tokio::test]
async fn what_is_said_of_a_team_is_of_its_part_of_a_workload() {
    let Bench { url, ledger, server: _server } = bench().await;
    let mut connection = connect(&url).await.unwrap();
    for (name, team, from, hours) in [("a", "search", 0, 10), ("b", "vision", 5 * 86_400_000, 40), ("c", "search", MONTH, 20)] {
        let mut machine = Machine::new(name, CapacityType::Spot, 200_000, None, Millis::from_hours(hours), EndedBy::Lowtide);
        (machine.interval.from, machine.interval.to) = (machine.interval.from + Millis(from), machine.interval.to + Millis(from));
        machine.gpus = 2;
        let mut pod = stay(&format!("pod-{name}"), team, &machine, Millis::ZERO, None);
        (pod.workload, pod.gpus) = ("chat".into(), 1);
        machine.stays.push(pod);
        let mut records = machine.records();
        records.push(LedgerRecord::Decision(Box::new(decision(&machine))));
        ledger.write(&records).await.unwrap();
    }
    post(&mut connection, LATER).await.unwrap();
    let only = ["team=search".parse().unwrap()];
    let report = variance(&mut connection, &month("2026-07"), &month("2026-08"), VarianceBy::Step, &only, NOW).await.unwrap();
    assert_eq!(step(&report, "idle"), ("1.000000".to_owned(), "10.0 -> 20.0 GPU-hours without a pod, at $1.00 -> $2.00 in all".to_owned()));
}

/// What the bill of July charges and gives back is no drop of August, whose bill is not there yet.
#[tokio::test]
async fn a_month_that_is_not_billed_yet_has_no_drop_of_what_bills_charge() {
    let Bench { url, ledger, server: _server } = bench().await;
    let mut connection = connect(&url).await.unwrap();
    for (name, shift) in [("a", 0), ("b", MONTH)] {
        let mut machine = Machine::new(name, CapacityType::Spot, 1_000_000, None, Millis::from_hours(10), EndedBy::Lowtide);
        (machine.interval.from, machine.interval.to) = (machine.interval.from + Millis(shift), machine.interval.to + Millis(shift));
        machine.stays.push(stay(&format!("pod-{name}"), "search", &machine, Millis::ZERO, None));
        ledger.write(&machine.records()).await.unwrap();
    }
    post(&mut connection, LATER).await.unwrap();
    let folder = Folder::new("variance-unbilled");
    let hours: String = (0..10).map(|n| line(&format!("a-{n}"), "Usage", "i-a", "SpotUsage:g6.xlarge", n, "1", "1.10", "")).collect();
    let credit = line("c", "Credit", "i-a", "SpotUsage:g6.xlarge", 3, "1", "-4", "");
    taken(&mut connection, Format::Cur, &[folder.file("cur.csv", &format!("{HEADER}{hours}{credit}"))]).await.unwrap();
    let report = variance(&mut connection, &month("2026-07"), &month("2026-08"), VarianceBy::Step, &[], NOW).await.unwrap();
    let (amount, why) = step(&report, "coverage");
    assert_eq!(amount, "3.000000");
    assert_eq!(why, "2026-08 is on no bill yet (0 % against 100 %); not billed yet: credit +$4.00, price-differed -$1.00");
    assert!(
        report
            .sentence
            .ends_with(" 2026-08 is on no bill yet (0 % against 100 %): what its bill will charge, give back or correct is not in it yet."),
        "{}",
        report.sentence
    );
    let by_workload = variance(&mut connection, &month("2026-07"), &month("2026-08"), VarianceBy::Workload, &[], NOW).await.unwrap();
    assert_eq!(by_workload.rows[0][5].as_deref(), Some(why.as_str()));
}
