//! Postings: what they add up to, whatever arrives when.

use std::collections::BTreeMap;

use lowtide::core::accounting::allocation::{Line, allocate};
use lowtide::core::fleet::EndedBy;
use lowtide::core::market::CapacityType;
use lowtide::core::record::{LedgerRecord, interval_closed_id, interval_opened_id, occupancy_opened_id};
use lowtide::core::units::time::{Millis, Timestamp};
use lowtide::ledger::connect;
use lowtide::ledger::poster::{Posted, post};
use lowtide::ports::Ledger;

use crate::facts::{Bench, DAY, Dice, Machine, bench, decision, stay};
use crate::rules::{random_machine, with_moves};

const LATER: Timestamp = Timestamp(DAY.0 + 30 * 86_400_000);

/// Sums by machine: cost, B0, B1, B2 and GPU time, in whole micro-dollars and milliseconds.
type Sums = BTreeMap<String, (i64, i64, i64, i64, i64)>;

async fn posted_sums(connection: &mut sqlx::PgConnection, of: &str) -> Sums {
    let micro = |column: &str| format!("(coalesce(sum({column}_usd), 0) * 1000000)::bigint");
    let sql = format!(
        "SELECT claim_uid, {}, {}, {}, {}, sum(gpu_ms)::bigint FROM ledger.{of} GROUP BY claim_uid",
        micro("cost"),
        micro("b0"),
        micro("b1"),
        micro("b2")
    );
    let rows: Vec<(String, i64, i64, i64, i64, i64)> = sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(connection).await.unwrap();
    rows.into_iter().map(|(uid, cost, b0, b1, b2, ms)| (uid, (cost, b0, b1, b2, ms))).collect()
}

fn computed_sums(machines: &[Machine]) -> Sums {
    let mut sums = Sums::new();
    for machine in machines {
        let sum = sums.entry(format!("uid-{}", machine.name)).or_default();
        for share in allocate(machine.gpus, &machine.interval, &machine.occupied()) {
            let known = |amount: Option<lowtide::core::units::money::MicroUsd>| amount.unwrap_or_default().0;
            *sum = (sum.0 + share.cost.0, sum.1 + known(share.b0), sum.2 + known(share.b1), sum.3 + known(share.b2), sum.4 + share.gpu_ms);
        }
    }
    sums
}

#[tokio::test]
async fn a_word_that_this_version_does_not_know_is_an_error_that_names_the_row() {
    for (column, table, id) in [
        ("ended_by", "interval_closed", interval_closed_id(&"uid-m".into())),
        ("capacity_type", "interval_opened", interval_opened_id(&"uid-m".into())),
        ("kind", "occupancy_opened", occupancy_opened_id(&"uid-m".into(), &"p".into())),
    ] {
        let Bench { url, ledger, server } = bench().await;
        let mut machine = Machine::new("m", CapacityType::Spot, 302_000, None, Millis::from_hours(2), EndedBy::Lowtide);
        machine.stays.push(stay("p", "search", &machine, Millis::from_mins(4), None));
        ledger.write(&machine.records()).await.unwrap();
        let sql = format!("SET session_replication_role = replica; UPDATE ledger.{table} SET {column} = 'sideways'");
        server.psql("postgres", &sql).unwrap();
        let mut connection = connect(&url).await.unwrap();
        let fault = post(&mut connection, LATER).await.unwrap_err().to_string();
        let expected = format!("ledger.{table}, row {id}: {column} is \"sideways\"");
        assert!(fault.starts_with(&expected), "{fault}");
        let posted: (i64,) = sqlx::query_as("SELECT count(*) FROM ledger.posting").fetch_one(&mut connection).await.unwrap();
        assert_eq!(posted.0, 0, "nothing is posted by a guess");
    }
}

#[tokio::test]
async fn postings_add_up_to_the_rules_however_late_and_in_whatever_order_facts_arrive() {
    let Bench { url, ledger, server: _server } = bench().await;
    let mut dice = Dice(11);
    let mut machines: Vec<Machine> = (0..150).map(|n| random_machine(n, &mut dice)).collect();
    let mut records = with_moves(&mut machines, &mut dice);
    records.extend(machines.iter().flat_map(Machine::records));
    records.extend(machines.iter().take(100).map(|m| LedgerRecord::Decision(Box::new(decision(m)))));
    // Shuffled: an end before its beginning, a move before the pod that moved, a decision after everything.
    for at in (1..records.len()).rev() {
        records.swap(at, usize::try_from(dice.between(0, i64::try_from(at).unwrap())).unwrap());
    }
    let mut connection = connect(&url).await.unwrap();
    let mut runs = Vec::new();
    for (n, chunk) in records.chunks(records.len() / 6 + 1).enumerate() {
        ledger.write(chunk).await.unwrap();
        // Some run while machines are still held to be running.
        let now = DAY + Millis::from_hours(12 * i64::try_from(n).unwrap() + 1);
        runs.push(post(&mut connection, now).await.unwrap());
    }
    runs.push(post(&mut connection, LATER).await.unwrap());
    assert!(runs.iter().filter(|run| run.rows > 0).count() > 3, "{runs:?}");
    assert_eq!(post(&mut connection, LATER).await.unwrap(), Posted::default(), "posting again posts nothing");
    let expected = computed_sums(&machines);
    assert_eq!(posted_sums(&mut connection, "posting").await, expected);
    assert_eq!(posted_sums(&mut connection, "allocation").await, expected);
    let kinds: Vec<(String, i64)> =
        sqlx::query_as("SELECT kind, count(*) FROM ledger.posting GROUP BY kind ORDER BY kind").fetch_all(&mut connection).await.unwrap();
    assert!(matches!(&kinds[..], [(c, corrections), (e, _)] if c == "correction" && e == "estimate" && *corrections > 100), "{kinds:?}");
    // The rollups say the same as the postings, and nothing waits.
    let sql = "SELECT (sum(cost_usd) * 1000000)::bigint, (sum(without_b1_usd) * 1000000)::bigint, sum(gpu_ms)::bigint FROM ledger.";
    let sums = async |of: &str, connection: &mut sqlx::PgConnection| -> (i64, i64, i64) {
        sqlx::query_as(sqlx::AssertSqlSafe(format!("{sql}{of}"))).fetch_one(connection).await.unwrap()
    };
    let rolled = sums("cost_rollup", &mut connection).await;
    assert_eq!(rolled, sums("share_daily", &mut connection).await);
    assert_eq!(rolled.0, expected.values().map(|sum| sum.0).sum::<i64>());
    let shares = machines.iter().flat_map(|m| allocate(m.gpus, &m.interval, &m.occupied()));
    let unknown: i64 = shares.filter(|share| share.line == Line::Pod && share.b1.is_none()).map(|share| share.cost.0).sum();
    assert_eq!(rolled.1, unknown, "spend whose on-demand price at home is unknown");
    let recomputed: i64 =
        sqlx::query_scalar("SELECT sum(cost_micro)::bigint FROM ledger.recomputed_share").fetch_one(&mut connection).await.unwrap();
    assert_eq!(rolled.0, recomputed);
    // Labels: what no pod used goes to the work the machine was bought for.
    let by_team: Vec<(Option<String>, i64)> = sqlx::query_as(
        "SELECT team, (sum(cost_usd) * 1000000)::bigint FROM ledger.cost_daily GROUP BY team
         EXCEPT SELECT team, sum(cost_micro)::bigint FROM ledger.recomputed_share GROUP BY team",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert_eq!(by_team, []);
}

#[tokio::test]
async fn an_hour_that_runs_is_reported_before_it_is_posted_and_once_after() {
    let Bench { url, ledger, server } = bench().await;
    // The database's clock is far later than the machine's life, so its one open hour reaches to now: only its cost per hour is compared.
    let mut machine = Machine::new("m", CapacityType::Spot, 360_000, Some(800_000), Millis::from_hours(2), EndedBy::Lowtide);
    machine.stays.push(stay("p", "search", &machine, Millis::from_mins(6), Some(800_000)));
    let records = machine.records();
    let (closed, open) = records.split_last().unwrap();
    ledger.write(open).await.unwrap();
    let mut connection = connect(&url).await.unwrap();
    let now = DAY + Millis::from_mins(75);
    assert_eq!(post(&mut connection, now).await.unwrap(), Posted { machines: 1, rows: 2, rollups: 2 });
    let hours = "SELECT string_agg(DISTINCT hour || ' ' || kind, ', ') FROM ledger.share WHERE hour < 3";
    assert_eq!(server.psql("postgres", hours).unwrap().trim(), "0 estimate, 1 running, 2 running", "only what is over is posted");
    ledger.write(std::slice::from_ref(closed)).await.unwrap();
    post(&mut connection, now).await.unwrap();
    let posted = "SELECT string_agg(line || ' ' || cost_usd::numeric(10,6), ', ' ORDER BY hour, line) FROM ledger.allocation";
    assert_eq!(server.psql("postgres", posted).unwrap().trim(), "boot 0.036000, pod 0.324000, pod 0.360000");
    let unposted = server.psql("postgres", "SELECT count(*) FROM ledger.unposted_share").unwrap();
    assert_eq!(unposted.trim(), "0");
}

#[tokio::test]
async fn retagging_a_workload_does_not_rewrite_what_was_posted() {
    let Bench { url, ledger, server } = bench().await;
    let mut connection = connect(&url).await.unwrap();
    for (n, team) in ["search", "search", "vision"].into_iter().enumerate() {
        let mut machine = Machine::new(&format!("m{n}"), CapacityType::Spot, 100_000, None, Millis::from_hours(1), EndedBy::Lowtide);
        machine.interval.from = DAY + Millis::from_hours(2 * i64::try_from(n).unwrap());
        machine.interval.to = machine.interval.from + Millis::from_hours(1);
        let mut pod = stay(&format!("p{n}"), team, &machine, Millis::ZERO, None);
        pod.workload = "web".into();
        machine.stays.push(pod);
        ledger.write(&machine.records()).await.unwrap();
        post(&mut connection, LATER).await.unwrap();
    }
    let by_team = "SELECT string_agg(team || ' ' || cost::numeric(10,2), ', ' ORDER BY team) FROM (SELECT team, sum(cost_usd) AS cost FROM ledger.cost_daily GROUP BY team) t";
    assert_eq!(server.psql("postgres", by_team).unwrap().trim(), "search 0.20, vision 0.10");
    let history = "SELECT string_agg(team || ' ' || to_char(valid_from AT TIME ZONE 'UTC', 'HH24') || '-' || coalesce(to_char(valid_to AT TIME ZONE 'UTC', 'HH24'), 'now'), ', ' ORDER BY valid_from)
                   FROM ledger.workload_history WHERE workload_name = 'web'";
    assert_eq!(server.psql("postgres", history).unwrap().trim(), "search 00-04, vision 04-now");
}
