//! Every SQL panel asked of a real Postgres that holds the ledger of a simulated history, as the role that Grafana has.

use lowtide::core::record::LedgerRecord;
use lowtide::core::units::time::{Millis, Timestamp};
use lowtide::core::workload::need::UsageUnit;
use lowtide::lab::postgres::PrivatePostgres;
use lowtide::ledger::import::{UsageHour, store_usage};
use lowtide::ledger::{PgLedger, connect, migrate, poster, seal};
use lowtide::monitoring::dashboard::{Source, all};
use lowtide::ports::Ledger;
use lowtide::sim::faults::Level;
use lowtide::sim::run::{Scenario, play};

#[tokio::test]
async fn every_panel_on_the_ledger_gives_data_or_says_why_not() {
    let server = PrivatePostgres::start_temporary().expect("a Postgres server for the test");
    let url = server.url();
    migrate(&url).await.unwrap();
    let outcome = std::thread::spawn(|| play(&Scenario::new(3, 2, Level::Calm)).unwrap()).join().unwrap();
    let ledger = PgLedger::connect_lazy(&url).unwrap();
    for batch in outcome.rows.chunks(200) {
        ledger.write(batch).await.unwrap();
    }
    let first = outcome.rows.iter().map(LedgerRecord::happened_at).min().unwrap();
    let last = outcome.rows.iter().map(LedgerRecord::happened_at).max().unwrap();
    let mut connection = connect(&url).await.unwrap();
    poster::post(&mut connection, last + Millis::from_hours(48)).await.unwrap();
    // What a service produced, hour by hour.
    let served = outcome
        .rows
        .iter()
        .find_map(|record| if let LedgerRecord::OccupancyOpened(o) = record { Some(o.workload.object.clone()) } else { None });
    let hour = Millis::from_hours(1);
    let begin = Timestamp(first.0 - first.0.rem_euclid(hour.0));
    let usage: Vec<UsageHour> = (0..48)
        .map(|n| UsageHour {
            workload: served.clone().unwrap(),
            hour: begin + Millis(n * hour.0),
            unit: UsageUnit::Requests,
            micro_units: 1_000_000_000,
        })
        .collect();
    store_usage(&mut connection, &usage, "prometheus").await.unwrap();
    // How hard GPUs worked, of every other hour of a pod.
    let used = "INSERT INTO ledger.gpu_use_hour (id, at, claim_uid, pod_uid, revision, allocated_gpu_ms, active_gpu_ms, sampled_gpu_ms, metric, shared, source)
        SELECT gen_random_uuid(), h, o.claim_uid, o.pod_uid, 0, 3600000 * o.gpus, 1260000 * o.gpus, 3600000 * o.gpus, 'DCGM_FI_PROF_GR_ENGINE_ACTIVE', false, 'prometheus'
        FROM ledger.occupancy_opened o, generate_series(date_trunc('hour', o.at), o.at + interval '1 day', interval '2 hours') h WHERE o.gpus > 0";
    sqlx::query(used).execute(&mut connection).await.unwrap();
    seal::seal(&mut connection).await.unwrap();

    sqlx::query("SET ROLE lowtide_reader").execute(&mut connection).await.unwrap();
    let quoted = |at: Timestamp| format!("'{}'", at.to_rfc3339());
    let (mut asked, mut empty, mut wrong) = (0, Vec::new(), Vec::new());
    for dashboard in all() {
        for panel in dashboard.panels().filter(|panel| panel.source == Source::Ledger) {
            for query in &panel.queries {
                asked += 1;
                let sql = query.expression().replace("$__timeFrom()", &quoted(first)).replace("$__timeTo()", &quoted(last));
                let what = format!("{}: {}", dashboard.title, panel.title);
                match (sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut connection).await, panel.may_be_empty) {
                    (Err(fault), _) => wrong.push(format!("{what}: {fault}")),
                    (Ok(rows), None) if rows.is_empty() => wrong.push(format!("{what}: no rows")),
                    (Ok(rows), Some(_)) if rows.is_empty() => empty.push(panel.title),
                    _ => {}
                }
            }
        }
    }
    // What a unit costs is reported here, so these have something to show.
    for shown in ["Cost per unit by day", "Percentiles"] {
        assert!(!empty.contains(&shown), "{shown} is empty although a workload reports what it produced");
    }
    assert!(wrong.is_empty(), "{} of {asked} queries:\n{}", wrong.len(), wrong.join("\n"));
    let split = "SELECT sum(active_usd) > 0 AND sum(idle_usd) > sum(active_usd) AND sum(unmeasured_usd) > 0 AND sum(active_usd + idle_usd + unmeasured_usd)
                        = (SELECT sum(cost_usd) FROM ledger.cost_daily WHERE line = 'pod') FROM ledger.gpu_use";
    assert!(sqlx::query_scalar::<_, bool>(split).fetch_one(&mut connection).await.unwrap(), "the split of the whole history");
    println!("{asked} queries answered by Postgres, declared empty and empty here: {empty:?}");
}
