//! What is written can be read, writing twice is harmless, and nothing can be changed.

use std::time::{Duration, Instant};

use lowtide::core::fleet::EndedBy;
use lowtide::core::market::CapacityType;
use lowtide::core::record::LedgerRecord;
use lowtide::core::units::time::{Millis, Timestamp};
use lowtide::ledger::report::{By, Days};
use lowtide::ledger::{PgLedger, connect, explain, migrate, report};
use lowtide::ports::Ledger;

use crate::facts::{Bench, DAY, Machine, bench, decision, stay};

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
    assert!(report::trust(&mut connection, &Days::default(), &[]).await.unwrap().rows.len() >= 9);
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

/// Decisions are copied as lines of text: nothing in them may end a value or a line early.
#[tokio::test]
async fn whatever_stands_in_a_decision_is_read_as_it_was_written() {
    let Bench { ledger, server, .. } = bench().await;
    let hard = "tab\there, line\nthere\r\n, \\N and \\. and \\x41, \"quotes\" and 'these', \u{1}, \u{7f}, GPU → 東京, a comma at the end,";
    let mut machine = Machine::new("m", CapacityType::Spot, 302_000, Some(804_800), Millis::from_mins(90), EndedBy::Lowtide);
    machine.stays.push(stay("p", "search", &machine, Millis::ZERO, None));
    let mut written = decision(&machine);
    written.text = format!("{hard}\0").into();
    written.attribution.service = Some(hard.into());
    written.attribution.environment = Some("\\N".into());
    written.attribution.cost_center = Some(String::new());
    written.pods[0].object.name = format!("{hard}\0");
    ledger.write(&[LedgerRecord::Decision(Box::new(written.clone()))]).await.unwrap();
    let read = server.psql("postgres", "SELECT to_jsonb(d) FROM ledger.decision d").unwrap();
    let read: serde_json::Value = serde_json::from_str(&read).unwrap();
    assert_eq!(read["text"], format!("{hard}\u{fffd}"));
    assert_eq!(read["service"], hard);
    assert_eq!(read["environment"], "\\N");
    assert_eq!(read["cost_center"], "");
    assert_eq!(read["product_area"], serde_json::Value::Null);
    assert_eq!(read["pods"][0]["name"], format!("{hard}\u{fffd}"));
    // Every other column, by what the decision says as JSON.
    let said = serde_json::to_value(&written).unwrap();
    for column in ["id", "cluster", "trigger", "outcome", "node_pool", "claim", "from_claim", "instance", "policy_hash", "code_version"] {
        assert_eq!(read[column], said[column], "{column}");
    }
    let chosen = &said["judgement"]["chosen"];
    for column in ["replicas", "interruptions_per_million_hours", "placement_score"] {
        assert_eq!(read[column], chosen[column], "{column}");
    }
    for column in ["region", "zone", "instance_type", "capacity_type"] {
        assert_eq!(read[column], chosen["pool"][column], "{column}");
    }
    assert_eq!(read["refused_counts"], said["judgement"]["refused"]);
    assert_eq!(read["offers_hash"], said["judgement"]["offers_hash"]);
    assert_eq!(
        server.psql("postgres", "SET timezone = 'UTC'; SELECT bool_and(ledger.intact(d)) FROM ledger.decision d").unwrap().trim(),
        "t"
    );
}

/// A batch that comes again with something new in it, as after a lost answer: the new is added, the old is left as it is.
#[tokio::test]
async fn of_a_batch_that_is_there_in_part_the_rest_is_added() {
    let Bench { ledger, server, .. } = bench().await;
    let made = |name: &str| {
        let machine = Machine::new(name, CapacityType::Spot, 302_000, Some(804_800), Millis::from_mins(90), EndedBy::Lowtide);
        [LedgerRecord::Decision(Box::new(decision(&machine))), machine.opened()]
    };
    ledger.write(&made("a")).await.unwrap();
    ledger.write(&[made("b"), made("a"), made("c")].concat()).await.unwrap();
    for table in ["decision", "candidate_set", "interval_opened"] {
        assert_eq!(server.psql("postgres", &format!("SELECT count(*) FROM ledger.{table}")).unwrap().trim(), "3", "{table}");
    }
}

#[tokio::test]
async fn postgres_away_is_said_soon_and_being_back_is_enough() {
    let Bench { url, mut server, .. } = bench().await;
    let ledger = PgLedger::connect_lazy(&url).unwrap();
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
            "CREATE ROLE op LOGIN PASSWORD 'pw-of-op-1ab5' IN ROLE lowtide_writer; CREATE ROLE fin LOGIN PASSWORD 'pw-of-fin-1ab5' IN ROLE lowtide_reader",
        )
        .unwrap();
    let writer = PgLedger::connect_lazy(&server.url_for("op", "postgres")).unwrap();
    let mut machine = Machine::new("m", CapacityType::Spot, 302_000, None, Millis::from_mins(90), EndedBy::Lowtide);
    machine.stays.push(stay("p", "search", &machine, Millis::ZERO, None));
    let mut records = machine.records();
    records.push(LedgerRecord::Decision(Box::new(decision(&machine))));
    writer.write(&records).await.unwrap();
    writer.write(&records).await.unwrap();

    let refused = async |user: &str, sql: &'static str| {
        let url = if user == "postgres" { url.clone() } else { server.url_for(user, "postgres") };
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
    let mut reader = connect(&server.url_for("fin", "postgres")).await.unwrap();
    let days = Days { from: Some("2026-07-20".into()), to: Some("2026-07-21".into()) };
    assert_eq!(report::savings(&mut reader, &days, By::Team, &[]).await.unwrap().rows.len(), 2);
    assert!(explain::decision(&mut reader, machine.decision().0).await.unwrap().is_some());
    // Every partition of every table carries the guards; plans of people are written once as well, but not sealed.
    let bare = "SELECT c.oid::regclass FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname = 'ledger' AND c.relkind IN ('r', 'p') AND c.relname NOT IN ('applied_migration', 'seal', 'posting_queue', 'posted_machine', 'rollup_queue', 'cost_rollup',
                    'budget', 'anomaly_mark', 'forecast') AND
                (SELECT count(*) FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname IN ('stamp', 'refuse_change', 'refuse_truncate')) <> 3";
    assert_eq!(server.psql("postgres", bare).unwrap(), "");
}
