//! `make bench-ledger`, `make bench-bill`: what the ledger does on a plain Postgres on this machine, measured and printed.
//!
//! Decides: what is measured, and says with each figure what it was measured on. Nothing is asserted: a slow machine is not a fault.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod bill;
mod facts;
mod month;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser as _;
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgConnection, PgPool};
use tokio::sync::watch;

use lowtide::core::plan::Settings;
use lowtide::core::record::LedgerRecord;
use lowtide::engine::driver::{Engine, Intervals};
use lowtide::engine::wall_clock::WallClock;
use lowtide::lab::memory_outbox::{EmptyCloud, MemoryOutbox};
use lowtide::lab::postgres::PrivatePostgres;
use lowtide::lab::progress::{Wait, say};
use lowtide::ledger::rows::{Row, Rows};
use lowtide::ledger::{PgLedger, connect, migrate, seal};
use lowtide::ports::{Clock, Ledger};

/// Records of one write. The operator delivers up to 200 at once.
const BATCH: usize = 500;

/// Measures the ledger on a plain Postgres.
#[derive(Debug, clap::Parser)]
struct BenchArguments {
    /// Shares of instance-hours in the month whose report is timed. A hundred million need about 40 GB below the temporary folder.
    #[arg(long, default_value_t = 10_000_000)]
    rows: i64,
    /// Decisions that are written, each with twenty refused offers.
    #[arg(long, default_value_t = 100_000)]
    decisions: usize,
    /// Writers at once.
    #[arg(long, default_value_t = 4)]
    writers: usize,
    /// Measures the import of a bill of this many lines, in each of its forms, and nothing else.
    #[arg(long)]
    bill: Option<i64>,
    /// What cargo passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match measure(&BenchArguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("bench-ledger: {fault}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(arguments: &BenchArguments) -> Result<(), Box<dyn std::error::Error>> {
    // As Postgres comes, fsync included; bulk loading into new tables writes no WAL.
    let settings = ["wal_level=minimal", "max_wal_senders=0", "max_wal_size=4GB", "maintenance_work_mem=512MB", "shared_buffers=128MB"];
    let server = PrivatePostgres::start_temporary_with(&settings)?;
    let url = server.url();
    migrate(&url).await?;
    let version = server.psql("postgres", "SHOW server_version")?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("Postgres {}, {cores} cores, fsync on, shared_buffers 128 MB\n", version.trim());
    if let Some(lines) = arguments.bill {
        return bill::import_in_each_form(&server, lines).await;
    }
    ingest(&url, arguments).await?;
    sealing(&url).await?;
    visibility(&url).await?;
    month::posting(&url, &server).await?;
    month::report(&url, &server, arguments.rows).await?;
    Ok(())
}

/// Decisions with their candidates, in batches, by several writers; and the same batches as Postgres alone takes them.
async fn ingest(url: &str, arguments: &BenchArguments) -> Result<(), Box<dyn std::error::Error>> {
    let wait = Wait::begin(format!("write {} decisions", arguments.decisions));
    let ledger = Arc::new(PgLedger::connect_lazy(url)?);
    let batches = |first: usize| -> Vec<Vec<LedgerRecord>> {
        let ids: Vec<usize> = (first..first + arguments.decisions).collect();
        let batch = |ids: &[usize]| ids.iter().map(|n| LedgerRecord::Decision(Box::new(facts::decision(*n)))).collect();
        ids.chunks(BATCH).map(batch).collect()
    };
    // The month's partitions are made by the first write.
    ledger.write(&[LedgerRecord::Decision(Box::new(facts::decision(2 * arguments.decisions)))]).await?;
    let writing = |batch: Vec<LedgerRecord>| {
        let ledger = Arc::clone(&ledger);
        async move { ledger.write(&batch).await.map_err(|fault| fault.to_string()) }
    };
    let whole = at_once(batches(0), arguments.writers, writing).await?;
    let prepared: Vec<Vec<(String, String)>> = batches(arguments.decisions).iter().map(|batch| copy_statements(batch)).collect();
    let pool = PgPoolOptions::new().max_connections(u32::try_from(arguments.writers.max(1))?).connect(url).await?;
    let copying = |statements: Vec<(String, String)>| {
        let pool = pool.clone();
        async move { copy_prepared(&pool, statements).await.map_err(|fault| fault.to_string()) }
    };
    let alone = at_once(prepared, arguments.writers, copying).await?;
    wait.done("");
    let rate = |took: Duration| arguments.decisions as f64 / took.as_secs_f64();
    println!(
        "ingest: {} decisions with 20 candidates each in {:.2} s: {:.0} per second ({} writers, batches of {BATCH}, hashed)",
        arguments.decisions,
        whole.as_secs_f64(),
        rate(whole),
        arguments.writers
    );
    println!(
        "ingest: the same number, made into rows beforehand, in {:.2} s: {:.0} per second is what Postgres takes",
        alone.as_secs_f64(),
        rate(alone)
    );
    Ok(())
}

/// Does `work` on every item, by this many workers at once; how long all took.
async fn at_once<I, F>(items: Vec<I>, workers: usize, work: impl Fn(I) -> F) -> Result<Duration, Box<dyn std::error::Error>>
where
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    let waiting: Vec<F> = items.into_iter().map(work).collect();
    let queue = Arc::new(tokio::sync::Mutex::new(waiting.into_iter()));
    let begun = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..workers.max(1) {
        let queue = Arc::clone(&queue);
        running.spawn(async move {
            loop {
                let Some(next) = queue.lock().await.next() else { return Ok(()) };
                next.await?;
            }
        });
    }
    while let Some(done) = running.join_next().await {
        let outcome: Result<(), String> = done?;
        outcome?;
    }
    Ok(begun.elapsed())
}

/// The statements of one batch as [`PgLedger`] sends them, and their rows as text.
fn copy_statements(batch: &[LedgerRecord]) -> Vec<(String, String)> {
    Rows::of(batch).copied.iter().map(|(table, rows)| (table.copy(), Row::lines(rows))).collect()
}

async fn copy_prepared(pool: &PgPool, statements: Vec<(String, String)>) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    for (sql, rows) in statements {
        let mut copying = transaction.copy_in_raw(&sql).await?;
        copying.send(rows.into_bytes()).await?;
        copying.finish().await?;
    }
    transaction.commit().await
}

/// One seal over a hundred thousand rows.
async fn sealing(url: &str) -> Result<(), Box<dyn std::error::Error>> {
    let wait = Wait::begin("seal 100,000 rows");
    let mut connection = connect(url).await?;
    seal::seal(&mut connection).await?;
    let ledger = PgLedger::connect_lazy(url)?;
    for batch in facts::left(100_000).chunks(2_000) {
        ledger.write(batch).await?;
    }
    let begun = Instant::now();
    let sealed = seal::seal(&mut connection).await?;
    let took = begun.elapsed();
    wait.done("");
    println!("seal: {} rows in {:.3} s", sealed.rows, took.as_secs_f64());
    Ok(())
}

/// From the pass that takes a decision, through the outbox and the engine's delivery, until a reader sees it.
async fn visibility(url: &str) -> Result<(), Box<dyn std::error::Error>> {
    let wait = Wait::begin("one decision at a time");
    let mut connection = connect(url).await?;
    // The disk still writes what the steps before made.
    sqlx::raw_sql("CHECKPOINT").execute(&mut connection).await?;
    let outbox = MemoryOutbox::default();
    let ledger = PgLedger::connect_lazy(url)?;
    let ports = (EmptyCloud, outbox.clone(), ledger, WallClock);
    let engine = Engine::with_planner(ports, "bench".into(), Settings::default(), Intervals::default(), outbox.planner());
    let ((_lead, leading), (stop, stopped)) = (watch::channel(true), watch::channel(false));
    let running = tokio::spawn(engine.run(leading, stopped));
    let mut waits = Vec::new();
    for n in 0..30 {
        let mut decision = facts::decision(10_000_000 + n);
        decision.decided_at = WallClock.now();
        let id = decision.id.0;
        let begun = Instant::now();
        outbox.decide([LedgerRecord::Decision(Box::new(decision))]);
        while !is_visible(&mut connection, id).await? {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        waits.push(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(u64::try_from(n * 7 % 300).unwrap_or(0))).await;
    }
    stop.send_replace(true);
    running.await?;
    waits.sort();
    wait.done("");
    let ms = |at: usize| waits.get(at).map_or(0.0, |wait| wait.as_secs_f64() * 1e3);
    println!(
        "visible: a decision is read {:.0} ms after it was taken (median of {}), {:.0} ms at most",
        ms(waits.len() / 2),
        waits.len(),
        ms(waits.len() - 1)
    );
    Ok(())
}

async fn is_visible(connection: &mut PgConnection, id: uuid::Uuid) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM ledger.decision WHERE id = $1)").bind(id).fetch_one(connection).await
}

/// How long `work` took, printed.
async fn timed<T, E: std::error::Error + 'static>(
    what: &str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<(T, Duration), Box<dyn std::error::Error>> {
    let begun = Instant::now();
    let telling = tokio::spawn({
        let what = what.to_owned();
        async move {
            loop {
                tokio::time::sleep(Duration::from_secs(10)).await;
                say(&format!("  {what} ... {} s", begun.elapsed().as_secs()));
            }
        }
    });
    let outcome = work.await;
    telling.abort();
    Ok((outcome?, begun.elapsed()))
}
