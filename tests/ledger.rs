//! The ledger on a real Postgres: what is written can be read, nothing can be changed, and both statements of the billing rules agree.
#![cfg(all(feature = "live", feature = "lab"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ledger_facts;

use std::time::{Duration, Instant};

use lowtide::core::accounting::allocation::allocate;
use lowtide::core::accounting::billing::HourRate;
use lowtide::core::market::CapacityType;
use lowtide::core::need::WorkloadKind;
use lowtide::core::record::{EndedBy, LedgerRecord};
use lowtide::core::time::{Millis, Timestamp};
use lowtide::engine::ports::Ledger;
use lowtide::ledger::report::{By, Days, View};
use lowtide::ledger::seal::{Finding, seal, verify};
use lowtide::ledger::{PgLedger, connect, explain, migrate, report};
use sqlx::Row;

use ledger_facts::{Bench, DAY, Dice, Machine, Stay, bench, decision, moved, stay};

fn random_machine(n: usize, dice: &mut Dice) -> Machine {
    let capacity_type = if dice.one_in(4) { CapacityType::OnDemand } else { CapacityType::Spot };
    let longest = [90_000, 3_600_000, 3_600_001, 20_000_000][usize::try_from(dice.between(0, 3)).unwrap()];
    let ended_by = [EndedBy::Ec2Interruption, EndedBy::Lowtide, EndedBy::Unknown][usize::try_from(dice.between(0, 2)).unwrap()];
    let on_demand = dice.maybe(1, 60_000_000).map(|rate| rate.0);
    let ran = Millis(dice.between(0, longest));
    let mut machine = Machine::new(&format!("m{n}"), capacity_type, dice.between(1, 50_000_000), on_demand, ran, ended_by);
    machine.gpus = dice.between(1, 8);
    machine.interval.from = DAY + Millis(dice.between(0, 3 * 86_400_000));
    machine.interval.to = machine.interval.from + ran;
    for hour in 0..u32::try_from(ran.0 / 3_600_000 + 1).unwrap() {
        if !dice.one_in(3) {
            let rate = HourRate {
                price: dice.maybe(1, 50_000_000).unwrap_or(machine.interval.bought_at.price),
                on_demand: dice.maybe(1, 60_000_000),
            };
            machine.interval.hours.insert(hour, rate);
        }
    }
    for pod in 0..dice.between(0, 4) {
        let from = machine.interval.from + Millis(dice.between(-5_000, ran.0));
        let length = if dice.one_in(3) { 2 * ran.0 } else { dice.between(0, ran.0) };
        machine.stays.push(Stay {
            pod: format!("pod-{n}-{pod}"),
            workload: format!("w-{n}-{pod}"),
            team: ["search", "vision"].get(usize::try_from(dice.between(0, 2)).unwrap()).copied(),
            kind: if dice.one_in(2) { WorkloadKind::Batch } else { WorkloadKind::Inference },
            gpus: dice.between(1, machine.gpus),
            from,
            to: (!dice.one_in(5)).then_some(from + Millis(length)),
            b1: dice.maybe(1, 9_000_000),
            b2: dice.maybe(1, 9_000_000),
            doubled_from: None,
        });
    }
    machine
}

/// For some pods, a replacement on a machine of its own that begins before they end.
fn with_moves(machines: &mut Vec<Machine>, dice: &mut Dice) -> Vec<LedgerRecord> {
    let (mut moves, mut new_machines) = (Vec::new(), Vec::new());
    for machine in machines.iter_mut() {
        let (from, to) = (machine.interval.from, machine.interval.to);
        let original = machine.clone();
        for stay in &mut machine.stays {
            let (begins, ends) = (stay.from.clamp(from, to), stay.to.unwrap_or(to).clamp(from, to));
            if !dice.one_in(4) || ends <= begins {
                continue;
            }
            let doubled = begins + Millis(dice.between(0, ends.since(begins).0 + 1_000));
            let mut target = random_machine(1_000 + new_machines.len(), dice);
            target.interval.from = doubled - Millis(10_000);
            target.interval.to = doubled + Millis(100_000);
            target.interval.hours.clear();
            target.stays =
                vec![Stay { pod: format!("{}-new", stay.pod), from: doubled, to: None, gpus: 1, doubled_from: None, ..stay.clone() }];
            moves.push(moved(stay, &original, &target, doubled - Millis(5_000)));
            stay.doubled_from = (doubled < ends).then_some(doubled);
            new_machines.push(target);
        }
    }
    machines.extend(new_machines);
    moves
}

type Line = (i64, i64, String, Option<String>, i64, i64, Option<i64>, Option<i64>, Option<i64>);

fn expected(machine: &Machine) -> Vec<Line> {
    let mut lines: Vec<Line> = allocate(machine.gpus, &machine.interval, &machine.occupied())
        .into_iter()
        .map(|s| {
            let pod = s.pod.map(|pod| pod.as_str().to_owned());
            let money = |amount: Option<lowtide::core::money::MicroUsd>| amount.map(|m| m.0);
            (i64::from(s.hour), s.day, s.line.as_str().to_owned(), pod, s.gpu_ms, s.cost.0, money(s.b0), money(s.b1), money(s.b2))
        })
        .collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn the_views_and_the_pure_rules_agree_to_the_micro_dollar() {
    let Bench { url, ledger, server: _server } = bench().await;
    let mut dice = Dice(6);
    let mut machines: Vec<Machine> = (0..300).map(|n| random_machine(n, &mut dice)).collect();
    let mut records = with_moves(&mut machines, &mut dice);
    assert!(records.len() > 30, "too few moves to mean anything: {}", records.len());
    records.extend(machines.iter().flat_map(Machine::records));
    records.reverse();
    for chunk in records.chunks(97) {
        ledger.write(chunk).await.unwrap();
    }
    let sql = "SELECT claim, hour::bigint, (day - date '1970-01-01')::bigint, line, pod_uid, gpu_ms::bigint, cost_micro::bigint, b0_micro::bigint,
                      b1_micro::bigint, b2_micro::bigint FROM ledger.allocation";
    let mut connection = connect(&url).await.unwrap();
    let rows = sqlx::query(sql).fetch_all(&mut connection).await.unwrap();
    let mut found: std::collections::BTreeMap<String, Vec<Line>> = std::collections::BTreeMap::new();
    for r in rows {
        let line = (r.get(1), r.get(2), r.get(3), r.get(4), r.get(5), r.get(6), r.get(7), r.get(8), r.get(9));
        found.entry(r.get(0)).or_default().push(line);
    }
    for machine in &machines {
        let mut lines = found.remove(&machine.name).unwrap_or_default();
        lines.sort();
        assert_eq!(lines, expected(machine), "{machine:#?}");
        assert_eq!(
            lines.iter().map(|line| line.5).sum::<i64>(),
            machine.interval.cost().0,
            "the split of {} does not add up",
            machine.name
        );
    }
    assert!(found.is_empty());
    let unbalanced: i64 = sqlx::query_scalar("SELECT count FROM ledger.trust WHERE item = 'machines whose split does not add up'")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(unbalanced, 0);
}

#[tokio::test]
async fn writing_twice_and_out_of_order_changes_nothing_and_a_bad_batch_leaves_nothing() {
    let Bench { url, ledger, server } = bench().await;
    let mut machine = Machine::new("m", CapacityType::Spot, 302_000, Some(804_800), Millis::from_mins(90), EndedBy::Lowtide);
    machine.stays.push(stay("p", "search", &machine, Millis::from_mins(3), Some(804_800)));
    let mut records = machine.records();
    records.push(LedgerRecord::Decision(Box::new(decision(&machine))));
    ledger.write(&[machine.closed(), machine.closed()]).await.unwrap();
    records.reverse();
    for _ in 0..3 {
        ledger.write(&records).await.unwrap();
    }
    let count = |table: &str| server.psql("postgres", &format!("SELECT count(*) FROM ledger.{table}")).unwrap().trim().to_owned();
    for table in ["decision", "candidate_set", "interval_opened", "interval_closed", "occupancy_opened", "occupancy_closed"] {
        assert_eq!(count(table), "1", "{table}");
    }
    assert_eq!(count("candidate"), "2");
    assert_eq!(server.psql("postgres", "SELECT sum(cost_usd) FROM ledger.cost_daily").unwrap().trim().trim_end_matches('0'), "0.453");

    // A fact that arrives later with another end does not rewrite history.
    let mut later = machine.clone();
    later.interval.to = later.interval.to + Millis::from_hours(40 * 24);
    ledger.write(&[later.closed()]).await.unwrap();
    assert_eq!(server.psql("postgres", "SELECT sum(cost_usd) FROM ledger.cost_daily").unwrap().trim().trim_end_matches('0'), "0.453");

    // All or none: a table that refuses keeps the whole batch out.
    server.psql("postgres", "ALTER TABLE ledger.occupancy_opened ADD CONSTRAINT broken CHECK (pod_name <> 'q') NOT VALID").unwrap();
    let mut other = Machine::new("n", CapacityType::Spot, 302_000, None, Millis::from_mins(9), EndedBy::Lowtide);
    other.stays.push(stay("q", "search", &other, Millis::ZERO, None));
    assert!(ledger.write(&other.records()).await.unwrap_err().message.contains("broken"));
    assert_eq!(count("interval_opened"), "1");
    let mut connection = connect(&url).await.unwrap();
    assert!(report::trust(&mut connection).await.unwrap().rows.len() >= 9);
}

#[tokio::test]
async fn a_row_that_no_partition_expects_is_kept_and_a_character_postgres_cannot_hold_is_replaced() {
    let Bench { ledger, server, .. } = bench().await;
    let mut machine = Machine::new("late\0", CapacityType::Spot, 302_000, None, Millis::from_mins(90), EndedBy::Lowtide);
    machine.interval.from = Timestamp::from_date(2_345, 6, 7);
    ledger.write(&[machine.opened()]).await.unwrap();
    machine.interval.from = DAY;
    machine.name = "usual".into();
    ledger.write(&[machine.opened()]).await.unwrap();
    let places = server.psql("postgres", "SELECT tableoid::regclass, claim FROM ledger.interval_opened ORDER BY at").unwrap();
    assert_eq!(places, "ledger.interval_opened_2026_07|usual\nledger.interval_opened_default|late\u{fffd}\n");
}

#[tokio::test]
async fn postgres_away_is_said_soon_and_being_back_is_enough() {
    let Bench { ledger, mut server, .. } = bench().await;
    let machine = Machine::new("m", CapacityType::Spot, 302_000, None, Millis::from_mins(90), EndedBy::Lowtide);
    ledger.write(&[machine.opened()]).await.unwrap();
    server.stop();
    let asked = Instant::now();
    ledger.write(&[machine.closed()]).await.unwrap_err();
    assert!(asked.elapsed() < Duration::from_secs(5), "it took {:?}", asked.elapsed());
    server.start_again().unwrap();
    ledger.write(&[machine.closed()]).await.unwrap();
    assert_eq!(server.psql("postgres", "SELECT count(*) FROM ledger.interval_closed").unwrap().trim(), "1");
    assert!(PgLedger::connect_lazy("no address").is_err());
}

#[tokio::test]
async fn a_writer_can_only_add_a_reader_only_look_and_the_owner_cannot_change_rows_either() {
    let Bench { server, url, .. } = bench().await;
    migrate(&url).await.unwrap();
    server
        .psql(
            "postgres",
            "CREATE ROLE op LOGIN PASSWORD 'op' IN ROLE lowtide_writer; CREATE ROLE fin LOGIN PASSWORD 'fin' IN ROLE lowtide_reader",
        )
        .unwrap();
    let writer = PgLedger::connect_lazy(&server.url_as("op", "op", "postgres")).unwrap();
    let mut machine = Machine::new("m", CapacityType::Spot, 302_000, None, Millis::from_mins(90), EndedBy::Lowtide);
    machine.stays.push(stay("p", "search", &machine, Millis::ZERO, None));
    let mut records = machine.records();
    records.push(LedgerRecord::Decision(Box::new(decision(&machine))));
    writer.write(&records).await.unwrap();
    writer.write(&records).await.unwrap();

    let refused = async |user: &str, sql: &'static str| {
        let url = if user == "postgres" { url.clone() } else { server.url_as(user, user, "postgres") };
        let mut connection = connect(&url).await.unwrap();
        let answer = sqlx::raw_sql(sql).execute(&mut connection).await;
        assert!(
            matches!(&answer, Err(sqlx::Error::Database(fault)) if fault.code().as_deref() == Some("42501")),
            "{user}: {sql}: {answer:?}"
        );
    };
    for user in ["op", "fin", "postgres"] {
        for sql in [
            "UPDATE ledger.interval_opened SET price_usd_h = 0",
            "DELETE FROM ledger.decision",
            "TRUNCATE ledger.decision",
            "UPDATE ledger.interval_opened_2026_07 SET price_usd_h = 0",
            "DELETE FROM ledger.interval_opened_2026_07",
            "TRUNCATE ledger.interval_opened_2026_07",
            "TRUNCATE ledger.interval_opened_default",
            "TRUNCATE ledger.seal",
        ] {
            refused(user, sql).await;
        }
    }
    refused("fin", "INSERT INTO ledger.occupancy_closed (id, at, claim_uid, pod_uid) VALUES (gen_random_uuid(), now(), 'a', 'b')").await;
    refused("op", "DROP TABLE ledger.decision_2026_07").await;
    refused("op", "ALTER TABLE ledger.decision DETACH PARTITION ledger.decision_2026_07").await;
    refused("op", "SELECT * FROM ledger.decision").await;
    let mut reader = connect(&server.url_as("fin", "fin", "postgres")).await.unwrap();
    let days = Days { from: Some("2026-07-20".into()), to: Some("2026-07-21".into()) };
    assert_eq!(report::savings(&mut reader, &days, By::Team).await.unwrap().rows.len(), 2);
    assert!(explain::decision(&mut reader, machine.decision().0).await.unwrap().is_some());
    // Every partition of every table carries the guards.
    let bare = "SELECT c.oid::regclass FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname = 'ledger' AND c.relkind IN ('r', 'p') AND c.relname NOT IN ('applied_migration', 'seal') AND
                (SELECT count(*) FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname IN ('stamp', 'refuse_change', 'refuse_truncate')) <> 3";
    assert_eq!(server.psql("postgres", bare).unwrap(), "");
}

#[tokio::test]
async fn savings_say_what_was_saved_net_and_call_a_loss_a_loss() {
    let Bench { url, ledger, server: _server } = bench().await;
    // A small need on a large spot machine: 27 % dearer than the on-demand it needed.
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
    let by_team = report::savings(&mut connection, &days, By::Team).await.unwrap();
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
    let nothing =
        report::savings(&mut connection, &Days { from: Some("2020-01-01".into()), to: Some("2020-01-02".into()) }, By::Day).await.unwrap();
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
        assert!(report::cost(&mut connection, &days, by).await.unwrap().sentence.starts_with("Machines cost $2.22"), "{by:?}");
        report::savings(&mut connection, &days, by).await.unwrap();
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
    let reliability = report::reliability(&mut connection).await.unwrap();
    assert!(reliability.sentence.starts_with("1 pods were moved: Ready again 50.0s"), "{}", reliability.sentence);
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
        "48 offers were refused: 40 dearer, 7 gpu-memory, 1 cooling-down.",
        "2  g6.xlarge  spot      use1-az2         0.293        0.294  cooling-down",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in:\n{text}");
    }
    assert!(explain::decision(&mut connection, uuid::Uuid::nil()).await.unwrap().is_none());
}

#[tokio::test]
async fn verify_names_the_row_that_was_altered_removed_or_slipped_in() {
    let Bench { url, ledger, server } = bench().await;
    let machines: Vec<Machine> = (0..5)
        .map(|n| Machine::new(&format!("m{n}"), CapacityType::Spot, 302_000, Some(804_800), Millis::from_mins(90), EndedBy::Lowtide))
        .collect();
    let mut connection = connect(&url).await.unwrap();
    assert_eq!(seal(&mut connection).await.unwrap(), 0);
    ledger.write(&machines[0].records()).await.unwrap();
    assert_eq!(seal(&mut connection).await.unwrap(), 2);
    ledger.write(&[machines[1].records(), machines[2].records()].concat()).await.unwrap();
    assert_eq!(seal(&mut connection).await.unwrap(), 4);
    ledger.write(&machines[3].records()).await.unwrap();
    let clean = verify(&mut connection).await.unwrap();
    assert_eq!((clean.seals, clean.sealed_rows, clean.unsealed_rows, clean.findings.len()), (2, 6, 2, 0), "{clean:?}");

    // What only a superuser can do, behind the triggers' back.
    let behind = |sql: &str| server.psql("postgres", &format!("SET session_replication_role = replica; {sql}")).unwrap();
    let id = |record: LedgerRecord| record.id();
    behind("UPDATE ledger.interval_opened SET price_usd_h = 0.1 WHERE claim IN ('m0', 'm3')");
    behind("DELETE FROM ledger.interval_closed WHERE claim_uid = 'uid-m1'");
    let slipped = "INSERT INTO ledger.occupancy_closed (id, at, claim_uid, pod_uid, posted_at, xid, content_hash)
                   SELECT '00000000-0000-0000-0000-000000000001', at, claim_uid, 'p', posted_at, xid, content_hash FROM ledger.interval_opened WHERE claim = 'm2'";
    behind(slipped);
    let found = verify(&mut connection).await.unwrap().findings;
    let expected = [
        Finding::Altered("interval_opened".into(), id(machines[0].opened())),
        Finding::Altered("interval_opened".into(), id(machines[3].opened())),
        Finding::Missing("interval_closed".into(), id(machines[1].closed())),
        Finding::Added("occupancy_closed".into(), "00000000-0000-0000-0000-000000000001".parse().unwrap()),
    ];
    assert_eq!(found, expected.into_iter().collect());
    // A forger who recomputes the row's own hash still breaks the seal's.
    behind(
        "SET timezone = 'UTC'; UPDATE ledger.interval_opened t SET content_hash = sha256(convert_to(ledger.canonical_v1(to_jsonb(t)), 'UTF8'))",
    );
    assert!(
        verify(&mut connection).await.unwrap().findings.contains(&Finding::Altered("interval_opened".into(), id(machines[0].opened())))
    );
    behind("UPDATE ledger.seal SET rows = rows + 1 WHERE number = 1");
    assert!(verify(&mut connection).await.unwrap().findings.contains(&Finding::BrokenSeal(1)));
}

#[tokio::test]
async fn every_column_is_described_and_the_documented_questions_can_be_asked() {
    let Bench { server, .. } = bench().await;
    let columns = "SELECT c.relname || ' ' || a.attname || ' ' || (col_description(c.oid, a.attnum) IS NOT NULL)
                   FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
                   WHERE c.relnamespace = 'ledger'::regnamespace AND c.relkind = 'v' AND a.attnum > 0";
    let manual = include_str!("../docs/ledger.md");
    for line in server.psql("postgres", columns).unwrap().lines() {
        let [view, column, described] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        assert_eq!(described, "true", "{view}.{column} has no comment");
        let section = manual
            .split("### ")
            .find(|part| part.starts_with(&format!("`{view}`")))
            .unwrap_or_else(|| panic!("{view} is not in the manual"));
        assert!(section.contains(&format!("| `{column}` |")), "{view}.{column} is not in the manual");
    }
    let questions = manual.split("```sql").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(questions.matches(';').count(), 10);
    server.psql("postgres", questions).unwrap();
}
