//! Whole simulated histories, with everything that goes wrong in them, on a real Postgres: postings are the bill.

use std::collections::{BTreeMap, BTreeSet};

use lowtide::core::record::LedgerRecord;
use lowtide::core::units::ids::Uid;
use lowtide::core::units::time::{Millis, Timestamp};
use lowtide::ledger::{PgLedger, connect, migrate, poster};
use lowtide::ports::Ledger;
use lowtide::sim::faults::Level;
use lowtide::sim::run::{Scenario, play};

use crate::facts::{Bench, bench};

/// Histories of a day each; `LOWTIDE_HISTORIES=100` plays more.
const HISTORIES: u64 = 8;

#[tokio::test]
async fn the_sum_of_postings_is_the_bill_of_each_machine_to_the_micro_dollar() {
    let Bench { server, .. } = bench().await;
    let histories = std::env::var("LOWTIDE_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(HISTORIES);
    let mut machines = 0;
    for seed in 0..histories {
        let level = [Level::None, Level::Calm, Level::Rough, Level::Hostile][usize::try_from(seed % 4).unwrap()];
        let outcome = std::thread::spawn(move || play(&Scenario::new(seed, 1, level)).unwrap()).join().unwrap();
        // A database of its own: histories know the same names.
        let database = format!("seed_{seed}");
        server.psql("template1", &format!("CREATE DATABASE {database}")).unwrap();
        let url = server.url_of(&database);
        migrate(&url).await.unwrap();
        let ledger = PgLedger::connect_lazy(&url).unwrap();
        // As the outbox delivers them, and some of them twice.
        for batch in outcome.rows.chunks(200) {
            ledger.write(batch).await.unwrap();
        }
        ledger.write(outcome.rows.get(..50).unwrap_or(&outcome.rows)).await.unwrap();
        let last = outcome.rows.iter().map(LedgerRecord::happened_at).max().unwrap_or(Timestamp(0));
        let mut connection = connect(&url).await.unwrap();
        poster::post(&mut connection, last + Millis::from_hours(48)).await.unwrap();
        let sql = "SELECT claim_uid, round(sum(cost_usd) * 1000000)::bigint FROM ledger.posting
                   WHERE line <> 'egress' AND claim_uid IS NOT NULL GROUP BY claim_uid";
        let posted: BTreeMap<String, i64> =
            sqlx::query_as::<_, (String, i64)>(sql).fetch_all(&mut connection).await.unwrap().into_iter().collect();
        // Whether every machine was recorded is for the invariants of the simulated world to say; what was recorded must be worth the bill.
        let recorded = |record: &LedgerRecord| if let LedgerRecord::IntervalOpened(o) = record { Some(o.claim_uid.clone()) } else { None };
        let recorded: BTreeSet<Uid> = outcome.rows.iter().filter_map(recorded).collect();
        for (claim, billed) in outcome.bill.iter().filter(|(claim, _)| recorded.contains(*claim)) {
            let sum = posted.get(claim.as_str()).copied().unwrap_or(0);
            assert_eq!(sum, billed.0, "seed {seed}: {claim} by its postings and on the bill");
        }
        machines += recorded.len();
    }
    assert!(machines > 10, "only {machines} machines");
    println!("{histories} histories, {machines} machines: postings are the bill");
}
