//! Postgres dies under load, again and again: nothing is lost, nothing is there twice, and the operator says how much waits.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use lowtide::core::fleet::EndedBy;
use lowtide::core::market::CapacityType;
use lowtide::core::plan::Settings;
use lowtide::core::record::LedgerRecord;
use lowtide::core::units::money::MicroUsd;
use lowtide::core::units::time::Millis;
use lowtide::engine::driver::{Engine, Intervals};
use lowtide::engine::state::State;
use lowtide::engine::wall_clock::WallClock;
use lowtide::lab::memory_outbox::{EmptyCloud, MemoryOutbox};
use lowtide::ledger::verify::verify;
use lowtide::ledger::{PgLedger, connect, poster, seal};
use tokio::sync::watch;

use crate::facts::{Bench, DAY, Machine, bench, decision, stay};

/// Machines of the load, each with a decision, a pod and its whole life.
const MACHINES: usize = 400;

fn machine(n: usize) -> Machine {
    let mut machine = Machine::new(&format!("m{n}"), CapacityType::Spot, 302_000, Some(804_800), Millis::from_mins(90), EndedBy::Lowtide);
    machine.stays.push(stay(&format!("p{n}"), "search", &machine, Millis::from_mins(3), Some(804_800)));
    machine
}

/// An engine that writes what `outbox` holds to a ledger, until it is stopped.
struct Running {
    engine: Arc<Engine<EmptyCloud, MemoryOutbox, PgLedger, WallClock>>,
    stop: watch::Sender<bool>,
    _lead: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    fn start(ledger: PgLedger, outbox: &MemoryOutbox) -> Running {
        let ports = (EmptyCloud, outbox.clone(), ledger, WallClock);
        let engine = Engine::with_planner(ports, "test".into(), Settings::default(), Intervals::default(), outbox.planner());
        let ((lead, leading), (stop, stopped)) = (watch::channel(true), watch::channel(false));
        let task = tokio::spawn(Arc::clone(&engine).run(leading, stopped));
        Running { engine, stop, _lead: lead, task }
    }

    async fn end(self) {
        self.stop.send_replace(true);
        self.task.await.unwrap();
    }
}

/// A ledger whose server has just gone away.
async fn away() -> (Bench, Running, MemoryOutbox) {
    let mut bench = bench().await;
    let ledger = PgLedger::connect_lazy(&bench.url).unwrap();
    bench.server.stop();
    let outbox = MemoryOutbox::default();
    let running = Running::start(ledger, &outbox);
    (bench, running, outbox)
}

async fn come(outbox: MemoryOutbox, machines: Range<usize>) {
    for machine in machines.map(machine) {
        outbox.decide([LedgerRecord::Decision(Box::new(decision(&machine)))]);
        outbox.decide(machine.records());
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_killed_under_load_loses_nothing_and_doubles_nothing() {
    let Bench { url, mut server, .. } = bench().await;
    let ledger = PgLedger::connect_lazy(&url).unwrap();
    let outbox = MemoryOutbox::default();
    let running = Running::start(ledger, &outbox);

    // Records come all the time, whether Postgres is there or not: it dies in the middle of three quarters of them.
    for quarter in 0..4 {
        let load = tokio::spawn(come(outbox.clone(), quarter * MACHINES / 4..(quarter + 1) * MACHINES / 4));
        if quarter < 3 {
            tokio::time::sleep(Duration::from_millis(700)).await;
            server.stop();
        }
        load.await.unwrap();
        if quarter < 3 {
            assert!(outbox.len() + outbox.undecided() > 50, "the load was no load: {} records wait", outbox.len());
            let noticed = async {
                let noticed = |state: &State| !state.ledger_available && state.outbox_size > 0 && state.outbox_oldest.is_some();
                while !noticed(&running.engine.state()) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(30), noticed).await.expect("the operator says that Postgres is away and what waits");
            tokio::task::block_in_place(|| server.start_again()).unwrap();
        }
    }
    let emptied = async {
        while !outbox.is_empty() || outbox.undecided() > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), emptied).await.expect("the outbox empties once Postgres is back");
    running.end().await;

    for (table, per_machine) in
        [("decision", 1), ("candidate_set", 1), ("interval_opened", 1), ("interval_closed", 1), ("occupancy_opened", 1)]
    {
        let counted = server.psql("postgres", &format!("SELECT count(*), count(DISTINCT id) FROM ledger.{table}")).unwrap();
        assert_eq!(counted.trim(), format!("{0}|{0}", MACHINES * per_machine), "{table}");
    }
    let mut connection = connect(&url).await.unwrap();
    poster::post(&mut connection, DAY + Millis::from_hours(48)).await.unwrap();
    let posted = server.psql("postgres", "SELECT round(sum(cost_usd) * 1000000)::bigint FROM ledger.posting").unwrap();
    let expected: MicroUsd = (0..MACHINES).map(|n| machine(n).interval.cost()).fold(MicroUsd(0), |sum, cost| sum + cost);
    assert_eq!(posted.trim(), expected.0.to_string());
    seal::seal(&mut connection).await.unwrap();
    let verified = verify(&mut connection).await.unwrap();
    assert!(verified.findings.is_empty() && verified.unsealed_rows == 0, "{verified:?}");
}

/// A batch is 200 records: more than that wait while Postgres is away, and all are counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_that_waits_is_counted() {
    let (Bench { server: _server, .. }, running, outbox) = away().await;
    (0..100).for_each(|n| outbox.decide(machine(n).records()));
    let counted = async {
        while outbox.undecided() > 0 || outbox.len() <= 200 || running.engine.state().outbox_size != outbox.len() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(30), counted).await;
    let (counted, waiting) = (running.engine.state().outbox_size, outbox.len());
    assert!(in_time.is_ok(), "{counted} counted of {waiting} that wait");
    running.end().await;
}

/// Postgres is away for long: what waits is put together, and all of it arrives once it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_packed_in_a_long_outage_arrives_whole() {
    let (Bench { mut server, .. }, running, outbox) = away().await;
    (0..600).for_each(|n| outbox.put(machine(n).records()));
    let (waiting, expected) = (outbox.len(), 600);
    assert!(waiting > 2_000, "{waiting} records");
    let packed = async {
        while outbox.packed() == 0 || running.engine.state().outbox_size != waiting {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), packed).await.expect("what waits is packed and counted as before");
    tokio::task::block_in_place(|| server.start_again()).unwrap();
    let emptied = async {
        while !outbox.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), emptied).await.expect("the outbox empties once Postgres is back");
    running.end().await;
    for table in ["interval_opened", "interval_closed", "occupancy_opened"] {
        let counted = server.psql("postgres", &format!("SELECT count(*), count(DISTINCT id) FROM ledger.{table}")).unwrap();
        assert_eq!(counted.trim(), format!("{expected}|{expected}"), "{table}");
    }
}
