//! How hard GPUs worked, in dollars: asked of a real Prometheus, split over drawn histories, and two spans of time compared.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lowtide::core::accounting::gpu_use::{GpuUse, split};
use lowtide::core::fleet::EndedBy;
use lowtide::core::market::CapacityType;
use lowtide::core::units::ids::ObjectRef;
use lowtide::core::units::money::MicroUsd;
use lowtide::core::units::time::{Millis, Timestamp};
use lowtide::core::workload::need::UsageUnit;
use lowtide::lab::postgres::PrivatePostgres;
use lowtide::ledger::gpu_use::{ENGINE_ACTIVE, UTILISATION, collect};
use lowtide::ledger::import::{UsageHour, store_usage};
use lowtide::ledger::plans::figures;
use lowtide::ledger::poster::post;
use lowtide::ledger::prometheus::Prometheus;
use lowtide::ledger::report::{self, By, Days, Report, Window};
use lowtide::ledger::upkeep::{Upkeep, keep};
use lowtide::ledger::{connect, seal, verify};
use lowtide::ports::{Clock, Ledger};
use sqlx::{PgConnection, Row};
use tokio::sync::watch;

use crate::facts::{Bench, DAY, Dice, Machine, as_role, bench, stay};
use crate::imports::LATER;
use crate::rules::{random_machine, with_moves};
use crate::usage::prometheus_of;

fn july() -> Days {
    Days { from: Some("2026-07-01".into()), to: Some("2026-08-01".into()) }
}

fn rows(report: &Report, columns: &[&str]) -> Vec<String> {
    let at =
        |name: &&str| report.columns.iter().position(|column| column == name).unwrap_or_else(|| panic!("{name} of {:?}", report.columns));
    let at: Vec<usize> = columns.iter().map(at).collect();
    report.rows.iter().map(|row| at.iter().map(|n| row[*n].as_deref().unwrap_or("-")).collect::<Vec<_>>().join(" ")).collect()
}

/// A machine of two GPUs at $2 an hour for four hours; `chat-0` has one for three hours, `train-0` the other for one and a half.
fn two_pods() -> Machine {
    let mut machine = Machine::new("m", CapacityType::Spot, 2_000_000, Some(4_000_000), Millis::from_hours(4), EndedBy::Lowtide);
    machine.gpus = 2;
    let mut chat = stay("chat-0", "search", &machine, Millis::ZERO, None);
    (chat.gpus, chat.to) = (1, Some(DAY + Millis::from_hours(3)));
    let mut train = stay("train-0", "vision", &machine, Millis::ZERO, None);
    (train.gpus, train.to) = (1, Some(DAY + Millis::from_mins(90)));
    machine.stays = vec![chat, train];
    machine
}

/// What dcgm-exporter has said of them: `chat-0` at 35 % for an hour and at 78 % for half an hour, then nothing; `train-0` by its utilisation alone, with the
/// labels that Prometheus renames; and a pod of the same name in another cluster.
fn exported() -> String {
    let mut text = "# TYPE DCGM_FI_PROF_GR_ENGINE_ACTIVE gauge\n".to_owned();
    let at = |seconds: i64| DAY.0 / 1_000 + seconds;
    let chat = "cluster=\"prod\",UUID=\"GPU-1\",gpu=\"0\",Hostname=\"n\",namespace=\"ml\",pod=\"chat-0\",container=\"vllm\"";
    for n in 0..=180 {
        let active = if n <= 120 { "0.35" } else { "0.78" };
        text.push_str(&format!("DCGM_FI_PROF_GR_ENGINE_ACTIVE{{{chat}}} {active} {}\n", at(n * 30)));
    }
    for n in 0..=480 {
        text.push_str(&format!(
            "DCGM_FI_PROF_GR_ENGINE_ACTIVE{{{}}} 1 {}\n",
            chat.replace("prod", "other").replace("GPU-1", "GPU-9"),
            at(n * 30)
        ));
    }
    // An exporter that names no pods: the labels of a pod are its own.
    let node = "cluster=\"prod\",UUID=\"GPU-3\",gpu=\"0\",Hostname=\"ip-10-0-0-7.ec2.internal\",namespace=\"gpu-operator\",pod=\"dcgm-exporter-y\"";
    for n in 0..=120 {
        text.push_str(&format!("DCGM_FI_PROF_GR_ENGINE_ACTIVE{{{node}}} 0.5 {}\n", at(n * 30)));
    }
    text.push_str("# TYPE DCGM_FI_DEV_GPU_UTIL gauge\n");
    let train = "cluster=\"prod\",UUID=\"GPU-2\",gpu=\"1\",Hostname=\"n\",namespace=\"gpu-operator\",pod=\"dcgm-exporter-x\",exported_namespace=\"ml\",exported_pod=\"train-0\"";
    for n in 0..=90 {
        text.push_str(&format!("DCGM_FI_DEV_GPU_UTIL{{{train}}} 90 {}\n", at(n * 60)));
    }
    text.push_str("# TYPE DCGM_FI_DEV_FB_USED gauge\n");
    for n in 0..=180 {
        text.push_str(&format!("DCGM_FI_DEV_FB_USED{{{chat}}} {} {}\n", 70_000 + n, at(n * 30)));
    }
    text
}

/// A machine of one GPU at $1 an hour, for an hour.
fn alone() -> Machine {
    let mut machine = Machine::new("solo", CapacityType::Spot, 1_000_000, None, Millis::from_hours(1), EndedBy::Lowtide);
    machine.stays.push(stay("batch-0", "batch", &machine, Millis::ZERO, None));
    machine
}

struct At(Timestamp);

impl Clock for At {
    fn now(&self) -> Timestamp {
        self.0
    }
}

/// What the operator does every hour, with its rights: until it has asked.
async fn operator_asks(server: &PrivatePostgres, url: &str) {
    server.psql("postgres", "CREATE ROLE operator LOGIN PASSWORD 'pw-of-operator-1ab5'; GRANT lowtide_writer TO operator").unwrap();
    let (asked, done) = watch::channel(false);
    let upkeep = Upkeep {
        url: server.url_for("operator", "postgres"),
        every: Duration::from_millis(50),
        prometheus: Some(Prometheus::new(url)),
        queries: Arc::new(BTreeMap::new),
        gpu_use: Some("cluster=\"prod\"".into()),
        nodes: Arc::new(nodes),
        clock: Arc::new(At(NOW)),
        after_round: Arc::new(move |_| {
            asked.send_replace(true);
        }),
    };
    let (_leads, leading) = watch::channel(true);
    let kept = tokio::spawn(keep(upkeep, leading));
    tokio::time::timeout(Duration::from_secs(60), done.clone().wait_for(|asked| *asked)).await.unwrap().unwrap();
    kept.abort();
}

/// When everything is over and read.
const NOW: Timestamp = Timestamp(DAY.0 + (4 * 60 + 6) * 60_000);

fn nodes() -> BTreeMap<String, String> {
    BTreeMap::from([("uid-solo".to_owned(), "ip-10-0-0-7.ec2.internal".to_owned())])
}

#[tokio::test]
async fn a_real_prometheus_says_how_hard_gpus_worked_and_a_gap_stays_unmeasured() {
    let Some((_prometheus, url)) = prometheus_of("dcgm", &exported()) else { return };
    let Bench { url: database, ledger, server } = bench().await;
    ledger.write(&[two_pods().records(), alone().records()].concat()).await.unwrap();
    let mut connection = connect(&database).await.unwrap();
    post(&mut connection, LATER).await.unwrap();
    let prometheus = Prometheus::new(&url);
    let begun = Instant::now();
    // It answers 503 while it loads its blocks.
    while let Err(fault) = prometheus.ask("vector(1)", NOW).await {
        assert!(begun.elapsed() < Duration::from_secs(20), "{fault}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    operator_asks(&server, &url).await;
    // The operator asks for three hours; the first one is asked for by hand.
    let asked = "SELECT count(*), min(ledger.ms(at) / 3600000 % 24) FROM ledger.gpu_use_hour";
    assert_eq!(server.psql("postgres", asked).unwrap().trim(), "2|1");
    let prod = "cluster=\"prod\"";
    let first = collect(&mut connection, (&prometheus, prod), &nodes(), NOW, 6).await.unwrap();
    assert_eq!((first.held, first.known, first.taken.new, first.taken.same), (6, 5, 3, 2), "{first:?}");
    let again = collect(&mut connection, (&prometheus, prod), &BTreeMap::new(), NOW, 6).await.unwrap();
    assert_eq!((again.known, again.taken.new, again.taken.changed, again.taken.same), (4, 0, 0, 4), "the same answer is no new version");

    let stored = "SELECT string_agg(concat_ws(' ', pod_uid, ledger.ms(at) / 3600000 % 24, allocated_gpu_ms / 1000, active_gpu_ms / 1000, sampled_gpu_ms / 1000,
                         coalesce(most_memory_mib::text, '-'), metric, shared), E'\\n' ORDER BY pod_uid, at) FROM ledger.gpu_use_hour";
    assert_eq!(
        server.psql("postgres", stored).unwrap().trim(),
        format!(
            "batch-0 0 3600 1800 3600 - {ENGINE_ACTIVE} f\nchat-0 0 3600 1260 3600 70119 {ENGINE_ACTIVE} f\nchat-0 1 3600 1404 1800 70180 {ENGINE_ACTIVE} f\n\
             train-0 0 3600 3240 3600 - {UTILISATION} f\ntrain-0 1 1800 1620 1800 - {UTILISATION} f"
        )
    );
    let mut reader = as_role(&database, "lowtide_reader").await;
    let split = report::gpu_use(&mut reader, &july(), By::Team, &[]).await.unwrap();
    // chat-0: $1 at 35 %, 50 cents at 78 % and $1.50 of which nobody knows. A GPU without a pod is another line.
    let columns =
        ["team", "use_percent", "measured_percent", "cost_usd", "active_usd", "idle_usd", "unmeasured_usd", "most_memory_mib", "metric"];
    assert_eq!(
        rows(&split, &columns),
        [
            format!("search 49.3 50.0 3.000000 0.740000 0.760000 1.500000 70180 {ENGINE_ACTIVE}"),
            format!("batch 50.0 100.0 1.000000 0.500000 0.500000 0.000000 - {ENGINE_ACTIVE}"),
            format!("vision 90.0 100.0 1.500000 1.350000 0.150000 0.000000 - {UTILISATION}"),
            format!("total 64.8 72.7 5.500000 2.590000 1.410000 1.500000 70180 {UTILISATION} {ENGINE_ACTIVE}"),
        ]
    );
    assert_eq!(
        split.sentence,
        "Useful pod time cost $5.50: $2.59 while its GPUs were active, $1.41 while they were held and idle, $1.50 unmeasured. GPUs were active in 64.8 % of the measured time."
    );
    // The same as `/metrics` and the alert have it.
    let metrics = figures::read(&mut reader, NOW).await.unwrap().gpu_use;
    let of = |team: &str| ["active", "idle", "unmeasured"].map(|part| metrics[&(team.to_owned(), part)].0);
    assert_eq!((of("search"), of("vision")), ([740_000, 760_000, 1_500_000], [1_350_000, 150_000, 0]));
    let hours =
        report::gpu_use(&mut reader, &july(), vec![By::Workload, By::InstanceType], &["team=vision".parse().unwrap()]).await.unwrap();
    assert_eq!(rows(&hours, &["workload", "instance_type", "gpu_hours"]), ["ml/of-vision g6.xlarge 1.500", "total - 1.500"]);
    // Kept like everything else: append-only, sealed, and found when it is changed.
    let refused = sqlx::query("UPDATE ledger.gpu_use_hour SET active_gpu_ms = 0").execute(&mut connection).await.unwrap_err();
    assert!(refused.to_string().contains("append-only"), "{refused}");
    seal::seal(&mut connection).await.unwrap();
    assert!(verify::verify(&mut connection).await.unwrap().findings.is_empty());
    server
        .psql(
            "postgres",
            "SET session_replication_role = replica; UPDATE ledger.gpu_use_hour SET active_gpu_ms = 0 WHERE pod_uid = 'chat-0'",
        )
        .unwrap();
    let findings = verify::verify(&mut connection).await.unwrap().findings;
    assert!(findings.len() >= 2 && format!("{findings:?}").contains("gpu_use_hour"), "{findings:?}");
}

/// A version of what is said of an hour.
async fn says(connection: &mut PgConnection, pod: &str, claim: &str, hour: i64, revision: i32, [allocated, active, sampled]: [i64; 3]) {
    let sql = "INSERT INTO ledger.gpu_use_hour (id, at, claim_uid, pod_uid, revision, allocated_gpu_ms, active_gpu_ms, sampled_gpu_ms, most_memory_mib, metric, shared, source)
               VALUES (gen_random_uuid(), to_timestamp($1 * 3600.0), $2, $3, $4, $5, $6, $7, 80000, CASE WHEN $7 > 0 THEN 'm' END, false, 'prometheus')";
    let query = sqlx::query(sql).bind(hour).bind(claim).bind(pod).bind(revision).bind(allocated).bind(active).bind(sampled);
    query.execute(connection).await.unwrap();
}

/// Whatever happened to machines and whatever was read of them: the three parts are line pod of every owner and day, to the micro-dollar.
#[tokio::test]
async fn active_idle_and_unmeasured_are_the_useful_cost_of_drawn_histories() {
    let Bench { url, ledger, server: _server } = bench().await;
    let mut connection = connect(&url).await.unwrap();
    let mut dice = Dice(41);
    let mut machines: Vec<Machine> = (0..120).map(|n| random_machine(n, &mut dice)).collect();
    let mut records = with_moves(&mut machines, &mut dice);
    records.extend(machines.iter().flat_map(Machine::records));
    // Half of it comes late: what was posted until then is corrected.
    let late = records.split_off(records.len() / 2);
    for part in [records, late] {
        ledger.write(&part).await.unwrap();
        post(&mut connection, LATER).await.unwrap();
    }
    // What is read of an hour that begins within a pod's time, or within an hour of it, in up to three versions.
    let mut measured = BTreeMap::new();
    for machine in &machines {
        for stay in &machine.stays {
            let hours = stay.from.0.div_euclid(3_600_000)..=stay.to.unwrap_or(machine.interval.to).0.div_euclid(3_600_000);
            for hour in hours.filter(|_| !dice.one_in(3)).collect::<Vec<_>>() {
                let claim = format!("uid-{}", machine.name);
                for revision in 0..i32::try_from(dice.between(1, 3)).unwrap() {
                    let allocated = dice.between(1, stay.gpus * 3_600_000);
                    let sampled = if dice.one_in(4) {
                        [0, allocated][usize::try_from(dice.between(0, 1)).unwrap()]
                    } else {
                        dice.between(0, allocated)
                    };
                    let said = [allocated, dice.between(0, sampled), sampled];
                    says(&mut connection, &stay.pod, &claim, hour, revision, said).await;
                    measured.insert((machine.name.clone(), stay.pod.clone(), hour), said);
                }
            }
        }
    }
    let differs = "SELECT concat_ws(' ', day, team, ns, name, u.usd, u.parts, u.h, u.hours, 'instead of', c.usd, c.h) FROM (SELECT day, coalesce(team, '-') AS team, workload_namespace AS ns, workload_name AS name, sum(cost_usd) AS usd, sum(gpu_hours) AS h,
                          sum(active_usd + idle_usd + unmeasured_usd) AS parts, sum(active_gpu_hours + idle_gpu_hours + unmeasured_gpu_hours) AS hours FROM ledger.gpu_use GROUP BY 1, 2, 3, 4) u
                   FULL JOIN (SELECT day, coalesce(team, '-') AS team, workload_namespace AS ns, workload_name AS name, sum(cost_usd) AS usd, sum(gpu_hours) AS h FROM ledger.cost_daily
                              WHERE line = 'pod' GROUP BY 1, 2, 3, 4 HAVING sum(cost_usd) <> 0 OR sum(gpu_hours) <> 0) c USING (day, team, ns, name)
                   WHERE u.usd IS DISTINCT FROM c.usd OR u.parts IS DISTINCT FROM c.usd OR round(u.h * 3600000) IS DISTINCT FROM round(c.h * 3600000) OR round(u.hours * 3600000) <> round(u.h * 3600000)";
    let differs: Vec<String> = sqlx::query_scalar(differs).fetch_all(&mut connection).await.unwrap();
    assert!(differs.is_empty(), "{differs:#?}");
    // Hour by hour by the pure rule: an hour of a pod is one amount unless two instance-hours lie in it, each of which is rounded.
    let each = "SELECT claim, pod_uid, ledger.ms(hour) / 3600000, round(cost_usd * 1000000)::bigint, round(active_usd * 1000000)::bigint, round(idle_usd * 1000000)::bigint,
                       round(unmeasured_usd * 1000000)::bigint FROM ledger.gpu_use";
    let (mut with, mut without) = (0, 0);
    for row in sqlx::query(each).fetch_all(&mut connection).await.unwrap() {
        let (claim, pod, hour): (String, String, i64) = (row.get(0), row.get(1), row.get(2));
        let [cost, active, idle, unmeasured] = [3, 4, 5, 6].map(|at| row.get::<i64, _>(at));
        let said = measured.get(&(claim.clone(), pod.clone(), hour));
        let expected = split(
            MicroUsd(cost),
            said.map(|[allocated, active, sampled]| GpuUse { allocated: *allocated, active: *active, sampled: *sampled }),
        );
        let near = |found: i64, expected: MicroUsd| (found - expected.0).abs() <= 2 && found >= 0;
        assert!(
            near(active, expected.active) && near(idle, expected.idle) && near(unmeasured, expected.unmeasured),
            "{claim} {pod} {hour} {said:?}: {cost} as {active} {idle} {unmeasured} instead of {expected:?}"
        );
        if said.is_some() { with += 1 } else { without += 1 }
    }
    assert!(with > 200 && without > 100, "{with} measured hours and {without} others");
}

/// The rule in SQL is the rule in Rust.
#[tokio::test]
async fn both_statements_of_the_split_agree() {
    let Bench { url, server: _server, .. } = bench().await;
    let mut connection = connect(&url).await.unwrap();
    let mut dice = Dice(5);
    for _ in 0..2_000 {
        let allocated = dice.between(1, 30_000_000);
        let sampled = if dice.one_in(5) { allocated } else { dice.between(0, allocated) };
        let (active, amount) = (dice.between(0, sampled), dice.between(-1_000_000, 90_000_000));
        let sql = "SELECT round(1000000 * a)::bigint, round(1000000 * (s - a))::bigint, round(1000000 * (usd - s))::bigint
                   FROM (SELECT usd, ledger.part_of(usd, $2, $4, 6) AS a, ledger.part_of(usd, $3, $4, 6) AS s FROM (SELECT $1::numeric / 1000000 AS usd) x) y";
        let row = sqlx::query(sql).bind(amount).bind(active).bind(sampled).bind(allocated).fetch_one(&mut connection).await.unwrap();
        let expected = split(MicroUsd(amount), Some(GpuUse { allocated, active, sampled }));
        let found = [0, 1, 2].map(|at| row.get::<i64, _>(at));
        assert_eq!(found, [expected.active.0, expected.idle.0, expected.unmeasured.0], "{amount} {active} {sampled} {allocated}");
    }
}

/// Batching: GPUs go from 35 % to 78 %, and so do requests.
#[tokio::test]
async fn two_spans_of_time_prove_what_batching_brought() {
    let Bench { url, ledger, server } = bench().await;
    let mut connection = connect(&url).await.unwrap();
    let mut machine = Machine::new("m", CapacityType::Spot, 1_000_000, Some(3_000_000), Millis::from_hours(48), EndedBy::Lowtide);
    let mut pod = stay("chat-0", "search", &machine, Millis::ZERO, None);
    pod.workload = "chat".into();
    machine.stays.push(pod);
    ledger.write(&machine.records()).await.unwrap();
    post(&mut connection, LATER).await.unwrap();
    let first = DAY.0 / 3_600_000;
    let mut usage = Vec::new();
    for n in 0..48 {
        let (active, requests) = if n < 24 { (1_260_000, 500) } else { (2_808_000, 1_114) };
        // Of every third hour half an hour is known: that moves no share.
        let part = if n % 3 == 0 { 2 } else { 1 };
        says(&mut connection, "chat-0", "uid-m", first + n, 0, [3_600_000, active / part, 3_600_000 / part]).await;
        usage.push(UsageHour {
            workload: ObjectRef { namespace: "ml".into(), name: "chat".into() },
            hour: DAY + Millis::from_hours(n),
            unit: UsageUnit::Requests,
            micro_units: requests * 1_000_000,
        });
    }
    store_usage(&mut connection, &usage, "prometheus").await.unwrap();
    let windows: [Window; 2] = ["2026-07-20", "2026-07-21"].map(|text| text.parse().unwrap());
    let report =
        report::compare_gpu_use(&mut connection, [&windows[0], &windows[1]], UsageUnit::Requests, By::Workload, &[], LATER).await.unwrap();
    assert_eq!(
        report.sentence,
        "GPUs were active in 35.0 % of the measured time in 2026-07-20 and in 78.0 % in 2026-07-21, 2.23 times as much. 1,000 requests cost $2.00 and $0.8977 (-55.1 %). \
         Measured were 83.3 % and 83.3 % of the GPU time."
    );
    let columns = report.columns.iter().map(String::as_str).collect::<Vec<_>>();
    let expected = "35.0 78.0 2.23 83.3 83.3 2.00 0.8977 -55.1";
    assert_eq!(rows(&report, &columns), [format!("ml/chat {expected}"), format!("total {expected}")]);
    // A span that runs is compared by its full days, and the other by as many.
    let runs: Window = "2026-07-21..2026-07-24".parse().unwrap();
    let noon = DAY + Millis::from_hours(60);
    let running =
        report::compare_gpu_use(&mut connection, [&windows[0], &runs], UsageUnit::Requests, By::Workload, &[], noon).await.unwrap();
    assert_eq!(
        running.sentence,
        format!(
            "{} 2026-07-21..2026-07-24 still runs: the first full day of each is compared.",
            report.sentence.replace("in 2026-07-21,", "in 2026-07-21..2026-07-24,")
        )
    );
    assert_eq!(running.rows, report.rows);
    let early = report::compare_gpu_use(
        &mut connection,
        [&windows[0], &runs],
        UsageUnit::Requests,
        By::Workload,
        &[],
        DAY + Millis::from_hours(30),
    );
    assert_eq!(early.await.unwrap().sentence, "2026-07-21..2026-07-24 has no full day yet: there is nothing to compare.");
    // The same by the command, on the day after as well, of which nothing is known.
    let said = |command: &str| crate::roles::run(&std::env::temp_dir(), &url, command).unwrap();
    assert!(said("lowtide ledger gpu-use --compare 2026-07-20 2026-07-21 --by workload").starts_with(&report.sentence));
    assert!(said("lowtide ledger gpu-use --compare 2026-07-21 2026-07-22").starts_with("No use of GPUs was measured in 2026-07-22"));
    assert!(said("lowtide ledger gpu-use --month 2026-06").starts_with("No pod held a GPU in these days."));
    assert!(said("lowtide ledger gpu-use --month 2026-07 --by day --csv").starts_with("day,gpu_hours,use_percent,"));
    let refused = crate::roles::run(&std::env::temp_dir(), &url, "lowtide ledger gpu-use --by line").unwrap_err();
    assert!(refused.contains("choose another key than line"), "{refused}");
    // A newer version of an hour holds; what was known before can still be seen.
    says(&mut connection, "chat-0", "uid-m", first, 1, [3_600_000, 0, 3_600_000]).await;
    let of_hour = "SELECT active_usd::numeric(10,6) || ' ' || idle_usd::numeric(10,6) FROM ledger.gpu_use ORDER BY hour LIMIT 1";
    assert_eq!(server.psql("postgres", of_hour).unwrap().trim(), "0.000000 1.000000");
    let at = "SELECT (posted_at AT TIME ZONE 'UTC')::text FROM ledger.gpu_use_hour WHERE revision = 1";
    let at: String = sqlx::query_scalar(at).fetch_one(&mut connection).await.unwrap();
    let before = server.psql("postgres", &format!("SET lowtide.as_of = '{at}'; {of_hour}")).unwrap();
    assert!(before.trim().ends_with("0.175000 0.325000"), "{before}");
    let early = server.psql("postgres", "SET lowtide.as_of = '2026-07-20'; SELECT count(*) FROM ledger.gpu_use").unwrap();
    assert!(early.trim().ends_with('0'), "{early}");
}
