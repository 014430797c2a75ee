//! Reports and the documented questions.

use lowtide::core::fleet::EndedBy;
use lowtide::core::market::CapacityType;
use lowtide::core::record::{LedgerRecord, Migration};
use lowtide::core::units::ids::DecisionId;
use lowtide::core::units::time::Millis;
use lowtide::ledger::report::{By, Days, ReliabilityBy, View};
use lowtide::ledger::{connect, explain, report};
use lowtide::ports::Ledger;

use crate::facts::{Bench, Machine, bench, decision, interruption, moved, stay};

#[tokio::test]
async fn savings_say_what_was_saved_net_and_call_a_loss_a_loss() {
    let Bench { url, ledger, server: _server } = bench().await;
    // A small need on a large spot machine: 27 % more expensive than the on-demand it needed.
    let mut dear = Machine::new("dear", CapacityType::Spot, 1_022_800, Some(2_330_000), Millis::from_hours(1), EndedBy::Lowtide);
    dear.stays.push(stay("big", "vision", &dear, Millis::ZERO, Some(804_800)));
    let mut good = Machine::new("good", CapacityType::Spot, 100_000, Some(804_800), Millis::from_hours(10), EndedBy::Lowtide);
    good.stays.push(stay("small", "search", &good, Millis::from_mins(6), Some(804_800)));
    // The last six minutes of `small` run beside its replacement.
    let mut next = Machine::new("next", CapacityType::Spot, 200_000, Some(804_800), Millis::from_mins(60), EndedBy::Lowtide);
    next.interval.from = good.interval.to - Millis::from_mins(12);
    next.interval.to = next.interval.from + Millis::from_mins(60);
    next.stays.push(stay("small-new", "search", &next, Millis::from_mins(6), Some(804_800)));
    let mut records: Vec<LedgerRecord> = [&dear, &good, &next].into_iter().flat_map(|m| m.records()).collect();
    records.extend([&dear, &good, &next].map(|m| LedgerRecord::Decision(Box::new(decision(m)))));
    records.push(moved(&good.stays[0], &good, &next, good.interval.to - Millis::from_mins(8)));
    ledger.write(&records).await.unwrap();

    let mut connection = connect(&url).await.unwrap();
    let days = Days { from: Some("2026-07-20".into()), to: Some("2026-07-21".into()) };
    let by_team = report::savings(&mut connection, &days, By::Team, &[]).await.unwrap();
    let value = |row: usize, name: &str| by_team.rows[row][by_team.columns.iter().position(|c| c == name).unwrap()].clone().unwrap();
    let row = |row: usize| {
        ["team", "spend_usd", "b1_usd", "boot_usd", "moves_usd", "net_saving_usd", "net_saving_percent"].map(|n| value(row, n))
    };
    // vision: 1.0228 spent, 0.8048 needed.
    assert_eq!(row(0).join(" "), "search 1.200000 8.611360 0.030000 0.010000 7.411360 86.1");
    assert_eq!(row(1).join(" "), "vision 1.022800 0.804800 0.000000 0.000000 -0.218000 -27.1");
    assert_eq!(row(2)[0], "total");
    assert_eq!(by_team.sentence, "Spot saved $7.19 net (76.4 %) against the on-demand you would have bought; moves cost $0.01.");
    assert!(by_team.to_text().lines().nth(2).unwrap().starts_with("team "));
    assert_eq!(by_team.to_json()["rows"][1]["net_saving_usd"], "-0.218000");
    let nothing = report::savings(&mut connection, &Days { from: Some("2020-01-01".into()), to: Some("2020-01-02".into()) }, By::Day, &[])
        .await
        .unwrap();
    assert_eq!((nothing.sentence.as_str(), nothing.rows.len()), ("No spend is recorded for these days.", 0));
    for by in [
        By::Workload,
        By::Line,
        By::Region,
        By::InstanceType,
        By::CapacityType,
        By::Service,
        By::CostCenter,
        By::Environment,
        By::ProductArea,
    ] {
        assert!(report::cost(&mut connection, &days, by, &[]).await.unwrap().sentence.starts_with("Machines cost $2.22"), "{by:?}");
        report::savings(&mut connection, &days, by, &[]).await.unwrap();
    }
    let focus = report::export(&mut connection, View::Focus12, &days).await.unwrap();
    let column = |name: &str| focus.columns.iter().position(|c| c == name).unwrap();
    let sum: f64 = focus.rows.iter().map(|row| row[column("EffectiveCost")].as_ref().unwrap().parse::<f64>().unwrap()).sum();
    assert!((sum - 2.2228).abs() < 1e-9, "{sum}");
    assert!(
        focus
            .rows
            .iter()
            .all(|row| row[column("BilledCost")].as_deref() == Some("0") && row[column("PricingCategory")].as_deref() == Some("Dynamic"))
    );
    for view in [View::CostDaily, View::SavingsDaily, View::UnitCostHourly] {
        assert!(!report::export(&mut connection, view, &days).await.unwrap().rows.is_empty());
    }
}

#[tokio::test]
async fn moves_and_interruptions_count_in_the_days_they_fell_in_and_a_gap_is_one() {
    let Bench { url, ledger, server } = bench().await;
    let hours = Millis::from_hours;
    let mut left = Machine::new("left", CapacityType::Spot, 100_000, Some(804_800), hours(30), EndedBy::Ec2Interruption);
    left.stays.push(stay("web", "search", &left, Millis::from_mins(6), Some(804_800)));
    let notice = left.interval.to - Millis::from_secs(120);
    let mut next = Machine::new("next", CapacityType::Spot, 200_000, Some(804_800), hours(2), EndedBy::Lowtide);
    (next.interval.from, next.interval.to) = (notice, notice + hours(2));
    // The replacement is Ready 50 s after the notice: the old pod, gone at the machine's end, served until then.
    let LedgerRecord::Migration(mut warm) = moved(&left.stays[0], &left, &next, notice) else { panic!("no move") };
    // The cold one is Ready 100 s after its machine was gone.
    left.stays.push(stay("cold", "search", &left, Millis::from_mins(6), Some(804_800)));
    let LedgerRecord::Migration(mut cold) = moved(&left.stays[1], &left, &next, notice) else { panic!("no move") };
    cold.pod_ready_at = Some(left.interval.to + Millis::from_secs(100));
    let record_of = |migration: &Migration| LedgerRecord::Migration(Box::new(migration.clone()));
    let mut begun = left.records();
    begun.retain(|record| matches!(record, LedgerRecord::IntervalOpened(_) | LedgerRecord::OccupancyOpened(_)));
    begun.push(record_of(&warm));
    ledger.write(&begun).await.unwrap();
    let gaps = "SELECT pod_name, old_gone_at IS NULL, gap_ms FROM ledger.migration_timing ORDER BY 1";
    // While the old pod runs on, nothing is known of a gap.
    assert_eq!(server.psql("postgres", gaps).unwrap(), "web|t|\n");
    let mut records: Vec<LedgerRecord> = [&left, &next].into_iter().flat_map(|m| m.records()).collect();
    records.push(record_of(&cold));
    records.push(LedgerRecord::Interruption(Box::new(interruption(&left, notice))));
    ledger.write(&records).await.unwrap();
    assert_eq!(server.psql("postgres", gaps).unwrap(), "cold|f|100000\nweb|f|0\n");
    // A fact that says so itself is believed.
    (warm.pod_uid, warm.pod.name) = ("other".into(), "other".into());
    (warm.old_gone_at, cold.old_gone_at) = (Some(notice), None);
    ledger.write(&[record_of(&warm)]).await.unwrap();
    assert!(server.psql("postgres", gaps).unwrap().contains("other|f|50000"));

    let mut connection = connect(&url).await.unwrap();
    let days = |from: &str, to: &str| Days { from: Some(from.into()), to: Some(to.into()) };
    let mut asked = async |from: &str, to: &str, by| report::reliability(&mut connection, &days(from, to), &[by], &[]).await.unwrap();
    let cell =
        |report: &report::Report, name: &str| report.rows[0][report.columns.iter().position(|c| c == name).unwrap()].clone().unwrap();
    // 2026-07-20 has 24 of the 30 hours and no notice.
    let first = asked("2026-07-20", "2026-07-21", ReliabilityBy::Region).await;
    assert_eq!(["machines", "instance_hours", "interruptions"].map(|name| cell(&first, name)), ["1", "24.000", "0"]);
    assert_eq!(first.sentence, "EC2 took back 0 of 1 machines (0.0 %); no pod was moved.");
    let second = asked("2026-07-21", "2026-07-22", ReliabilityBy::CapacityType).await;
    assert_eq!(["machines", "instance_hours", "interruptions"].map(|name| cell(&second, name)), ["2", "8.000", "1"]);
    assert_eq!(
        second.sentence,
        "EC2 took back 1 of 2 machines (50.0 %); 3 pods were moved: Ready again 50.0s after the notice (median), 3m40s (95th percentile); serving gap 1m40s at most."
    );
    // One that is not Ready again yet is moved, and in no median.
    let LedgerRecord::Migration(mut waits) = moved(&left.stays[0], &left, &next, notice) else { panic!("no move") };
    (waits.decision, waits.pod_uid, waits.pod_ready_at) = (DecisionId::derive("test", "migrate", "waits", 0), "waits".into(), None);
    ledger.write(&[LedgerRecord::Migration(waits)]).await.unwrap();
    let second = asked("2026-07-21", "2026-07-22", ReliabilityBy::CapacityType).await;
    assert!(
        second.sentence.ends_with(
            "4 pods were moved: Ready again 50.0s after the notice (median), 3m40s (95th percentile), known of 3 of them; serving gap 1m40s at most, known of 3 of them."
        ),
        "{}",
        second.sentence
    );
    for by in [ReliabilityBy::Pool, ReliabilityBy::Zone, ReliabilityBy::InstanceType] {
        assert!(!asked("2026-07-20", "2026-07-22", by).await.rows.is_empty());
    }
    let whole = server.psql("postgres", "SELECT sum(launches), sum(instance_hours), sum(interruptions) FROM ledger.reliability").unwrap();
    assert_eq!(whole, "2|32.000|1\n");
}

#[tokio::test]
async fn a_decision_explains_itself_from_the_ledger_alone() {
    let Bench { url, ledger, server: _server } = bench().await;
    let mut machine = Machine::new("m", CapacityType::Spot, 302_000, Some(804_800), Millis::from_hours(2), EndedBy::Lowtide);
    machine.stays.push(stay("web-0", "search", &machine, Millis::from_mins(3), Some(804_800)));
    let mut records = machine.records();
    records.push(LedgerRecord::Decision(Box::new(decision(&machine))));
    ledger.write(&records).await.unwrap();
    let mut connection = connect(&url).await.unwrap();
    let ids = explain::decisions_of_pod(&mut connection, "ml", "web-0", 3).await.unwrap();
    assert_eq!(ids, [machine.decision().0]);
    assert!(explain::decisions_of_pod(&mut connection, "other", "web-0", 3).await.unwrap().is_empty());
    let text = explain::decision(&mut connection, ids[0]).await.unwrap().unwrap().to_text();
    for expected in [
        "bought g6.xlarge spot in use1-az4 for m",
        "2026-07-19T23:59:00.000Z (launch after pending-pod)",
        "g6.xlarge spot in use1-az4 at $0.302/h; one replica costs $0.303/h",
        "B1            cheapest on-demand at home: g6.xlarge in use1-az1 at $0.8048/h, $0.8048/h for one replica",
        "m; its machine cost $0.604000",
        "48 offers were refused: 40 more expensive, 7 too little GPU memory, 1 cooling down after a refusal.",
        "2  g6.xlarge  spot      use1-az2         0.293        0.294  cooling down after a refusal",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in:\n{text}");
    }
    assert!(explain::decision(&mut connection, uuid::Uuid::nil()).await.unwrap().is_none());
}

#[tokio::test]
async fn every_column_is_described() {
    let Bench { server, .. } = bench().await;
    let columns = "SELECT c.relname || ' ' || a.attname || ' ' || (col_description(c.oid, a.attnum) IS NOT NULL)
                   FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
                   WHERE c.relnamespace = 'ledger'::regnamespace AND c.relkind = 'v' AND a.attnum > 0";
    let manual = include_str!("../../docs/ledger.md");
    for line in server.psql("postgres", columns).unwrap().lines() {
        let [view, column, described] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        assert_eq!(described, "true", "{view}.{column} has no comment");
        let section = manual
            .split("### ")
            .find(|part| part.starts_with(&format!("`{view}`")))
            .unwrap_or_else(|| panic!("{view} is not in the manual"));
        assert!(section.contains(&format!("| `{column}` |")), "{view}.{column} is not in the manual");
    }
}
