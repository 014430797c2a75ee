//! A month of many machines: posting it from its events, and reporting on a very large one.
//!
//! Decides: the shape of the month: machines of four GPUs with a pod each, workloads of some pods on like machines, fifty teams.

use sqlx::PgConnection;

use super::timed;
use lowtide::core::units::time::{Millis, Timestamp};
use lowtide::lab::postgres::PrivatePostgres;
use lowtide::ledger::report::{By, Month, savings};
use lowtide::ledger::{connect, poster};

const HOURS: i64 = 744;
const PODS: i64 = 4;
const WORKLOADS: i64 = 8_000;
/// Machines whose events are posted.
const POSTED_MACHINES: i64 = 1_000;

/// Posts a day of a thousand machines from their events.
pub async fn posting(url: &str, server: &PrivatePostgres) -> Result<(), Box<dyn std::error::Error>> {
    let events = format!(
        "SELECT ledger.ensure_month('2026-05-01');
         INSERT INTO ledger.interval_opened (id, at, claim_uid, claim, decision, instance, region, zone, instance_type, capacity_type, gpus, price_usd_h, on_demand_usd_h)
         SELECT gen_random_uuid(), '2026-05-04 00:13Z', gen_random_uuid(), 'posted-' || m, gen_random_uuid(), 'i-' || m, 'us-east-1', 'use1-az4', 'g6.12xlarge', 'spot', 4, 1.5, 4.6
         FROM generate_series(1, {POSTED_MACHINES}) m;
         INSERT INTO ledger.hour_priced (id, at, claim_uid, hour, price_usd_h, on_demand_usd_h)
         SELECT gen_random_uuid(), o.at + h * interval '1 hour', o.claim_uid, h, 1.5 + h * 0.001, 4.6 FROM ledger.interval_opened o, generate_series(1, 23) h WHERE o.claim LIKE 'posted-%';
         INSERT INTO ledger.occupancy_opened (id, at, claim_uid, pod_namespace, pod_name, pod_uid, workload_kind, workload_namespace, workload_name, kind, team, gpus, decision, b1_replica_usd_h)
         SELECT gen_random_uuid(), o.at + interval '4 minutes', o.claim_uid, 'ml', 'p' || p, gen_random_uuid(), 'Deployment', 'ml', 'posted-' || hashtext(o.claim_uid) % 200, 'inference',
                'team-1', 1, gen_random_uuid(), 1.1 FROM ledger.interval_opened o, generate_series(1, {PODS}) p WHERE o.claim LIKE 'posted-%';
         INSERT INTO ledger.interval_closed (id, at, claim_uid, ended_by)
         SELECT gen_random_uuid(), o.at + interval '1 day', o.claim_uid, 'lowtide' FROM ledger.interval_opened o WHERE o.claim LIKE 'posted-%'"
    );
    server.psql("postgres", &events)?;
    let mut connection = connect(url).await?;
    // What the decisions above left in the queue is no part of this.
    let now = Timestamp(super::facts::MONTH.0) + Millis::from_hours(24 * 60);
    server.psql("postgres", "DELETE FROM ledger.posting_queue WHERE claim_uid IS NULL OR claim_uid LIKE 'sealed-%'")?;
    let (done, took) = timed("posting", poster::post(&mut connection, now)).await?;
    println!(
        "post: {} machines, {} rows and {} daily sums in {:.1} s: {:.0} rows per second, hashed",
        done.machines,
        done.rows,
        done.rollups,
        took.as_secs_f64(),
        done.rows as f64 / took.as_secs_f64()
    );
    Ok(())
}

/// Reports a month per team over `rows` postings.
pub async fn report(url: &str, server: &PrivatePostgres, rows: i64) -> Result<(), Box<dyn std::error::Error>> {
    let mut connection = connect(url).await?;
    let machines = (rows / (HOURS * PODS)).max(1);
    let (_, took) = timed("making the month", make(&mut connection, machines)).await?;
    let made: i64 = sqlx::query_scalar("SELECT count(*) FROM ledger.posting_2026_07").fetch_one(&mut connection).await?;
    let size = server.psql("postgres", "SELECT pg_size_pretty(pg_total_relation_size('ledger.posting_2026_07'))")?;
    println!(
        "month: {made} shares of {machines} machines made in {:.0} s with all indexes, {} (by INSERT ... SELECT, without hashes)",
        took.as_secs_f64(),
        size.trim()
    );
    let (keys, took) = timed("rolling up", roll_up(&mut connection)).await?;
    let sums: i64 = sqlx::query_scalar("SELECT count(*) FROM ledger.cost_rollup").fetch_one(&mut connection).await?;
    println!("roll up: {keys} days of workloads into {sums} sums in {:.0} s, once", took.as_secs_f64());
    // As autovacuum does within a minute.
    sqlx::raw_sql("VACUUM (ANALYZE) ledger.cost_rollup, ledger.rollup_queue, ledger.workload_version").execute(&mut connection).await?;
    let month: Month = "2026-07".parse()?;
    for what in ["first", "second", "third"] {
        let (found, took) = timed("the report", savings(&mut connection, &month.days(), By::Team, &[])).await?;
        println!("report: July per team ({} rows) in {:.3} s ({what} time)", found.rows.len(), took.as_secs_f64());
    }
    let sql = "SELECT team, sum(spend_usd), sum(net_saving_b1_usd) FROM ledger.savings_daily WHERE day >= '2026-07-01' AND day < '2026-08-01' GROUP BY team";
    let (_, took) = timed("the query", sqlx::raw_sql(sql).execute(&mut connection)).await?;
    println!("query: the same from the view savings_daily, grouped by day and all labels first, in {:.3} s", took.as_secs_f64());
    let one_day = "INSERT INTO ledger.rollup_queue (day, workload) SELECT '2026-07-15', id FROM ledger.workload_version WHERE workload_name LIKE 'w%' LIMIT 100";
    sqlx::raw_sql(one_day).execute(&mut connection).await?;
    let (keys, took) = timed("rebuilding", roll_up(&mut connection)).await?;
    println!("rebuild: the sums of {keys} workloads of one day in {:.2} s", took.as_secs_f64());
    Ok(())
}

/// A partition filled as a table of its own and then attached, so that its indexes are built once.
async fn make(connection: &mut PgConnection, machines: i64) -> Result<(), sqlx::Error> {
    let sql = format!(
        "SET session_replication_role = replica; SET work_mem = '256MB'; SET timezone = 'UTC';
         INSERT INTO ledger.workload_version (id, at, posted_at, xid, content_hash, workload_kind, workload_namespace, workload_name, team, service, component)
         SELECT md5('w' || w)::uuid, '2026-06-01', now(), 1, '', 'Deployment', 'ml', 'w' || w, 'team-' || w % 50, 'service-' || w % 400, 'inference' FROM generate_series(0, {WORKLOADS} - 1) w;
         INSERT INTO ledger.interval_opened (id, at, posted_at, xid, content_hash, claim_uid, claim, decision, instance, region, zone, instance_type, capacity_type, gpus, price_usd_h, on_demand_usd_h)
         SELECT gen_random_uuid(), '2026-07-01', now(), 1, '', md5('m' || m)::uuid::text, 'lt-' || m, gen_random_uuid(), 'i-' || m, (ARRAY['us-east-1', 'us-east-2', 'eu-south-2', 'eu-west-1', 'ap-northeast-1'])[1 + g % 5],
                'zone-' || g % 5, (ARRAY['g6.12xlarge', 'g5.12xlarge', 'g4dn.12xlarge', 'g6e.12xlarge', 'p4d.24xlarge', 'g5.48xlarge'])[1 + g % 6],
                CASE WHEN m % 10 = 0 THEN 'on-demand' ELSE 'spot' END, {PODS}, 1.5, 4.6
         FROM (SELECT m, m * {WORKLOADS} / {machines} AS g FROM generate_series(0, {machines} - 1) m) x;
         BEGIN;
         DROP TABLE IF EXISTS ledger.posting_2026_07;
         CREATE TABLE ledger.posting_2026_07 (LIKE ledger.posting INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
         INSERT INTO ledger.posting_2026_07 (id, at, posted_at, xid, content_hash, workload, gpu_ms, span_ms, hour, claim_uid, line, pod_uid, kind, cause, cost_usd, b0_usd, b1_usd, b2_usd, feed_usd, bill_usd)
         SELECT gen_random_uuid(), '2026-07-01'::timestamptz + h * interval '1 hour', now(), 1, '\\x00', x.workload, 3600000, 3600000, h, x.claim_uid, CASE WHEN p = 0 AND h % 24 = 0 THEN 'idle' ELSE 'pod' END,
                x.claim_uid || p, 'estimate', 'settled', 0.375, 1.15, 1.1, 0.5, 0, 0
         FROM generate_series(0, {HOURS} - 1) h
         CROSS JOIN (SELECT m, md5('m' || m)::uuid::text AS claim_uid, md5('w' || m * {WORKLOADS} / {machines})::uuid AS workload FROM generate_series(0, {machines} - 1) m) x
         CROSS JOIN generate_series(0, {PODS} - 1) p;
         ALTER TABLE ledger.posting ATTACH PARTITION ledger.posting_2026_07 FOR VALUES FROM ('2026-07-01') TO ('2026-08-01');
         COMMIT;
         INSERT INTO ledger.rollup_queue (day, workload) SELECT '2026-07-01'::date + d, md5('w' || w)::uuid FROM generate_series(0, 30) d, generate_series(0, {WORKLOADS} - 1) w;
         ANALYZE ledger.posting; ANALYZE ledger.interval_opened; ANALYZE ledger.rollup_queue;
         SET session_replication_role = origin"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}

async fn roll_up(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    let mut keys = 0;
    loop {
        let some: i32 = sqlx::query_scalar("SELECT ledger.rebuild_rollups($1)")
            .bind(i32::try_from(WORKLOADS).unwrap_or(i32::MAX))
            .fetch_one(&mut *connection)
            .await?;
        keys += i64::from(some);
        if some == 0 {
            return Ok(keys);
        }
    }
}
