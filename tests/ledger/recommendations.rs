//! Recommendations from how GPUs were used: priced, kept, and held against the two weeks after, with and without being followed.

use lowtide::core::fleet::EndedBy;
use lowtide::core::market::{Capacity, CapacityType, Market, Offer, PriceSource};
use lowtide::core::placement::PoolPolicy;
use lowtide::core::record::{Decision, LedgerRecord};
use lowtide::core::units::ids::ObjectRef;
use lowtide::core::units::money::{MicroUsd, MicroUsdPerHour};
use lowtide::core::units::time::{Millis, Timestamp};
use lowtide::core::units::{Mebibytes, Millicores};
use lowtide::core::workload::need::{CapacityPreference, Need, UsageUnit, WorkloadKind};
use lowtide::ledger::import::{UsageHour, store_usage};
use lowtide::ledger::plans::recommendations::{Asked, OnMarket, Recommendations, find, kept, market};
use lowtide::ledger::poster::post;
use lowtide::ledger::report::{Days, Only, Report};
use lowtide::ledger::{connect, seal, verify};
use lowtide::ports::Ledger;
use sqlx::PgConnection;

use crate::facts::{Bench, DAY, Machine, as_role, bench, decision, stay};
use crate::imports::LATER;

const HOUR: i64 = 3_600_000;
/// Fourteen days of use, then a day on which recommendations are made, then fourteen more.
const DAYS: i64 = 14;
const MADE: Timestamp = Timestamp(DAY.0 + DAYS * 24 * HOUR + 9 * HOUR);
const AFTER: Timestamp = Timestamp(DAY.0 + (DAYS + 1) * 24 * HOUR);

/// Active thousandths of the GPU, most memory in MiB, and whether the GPU was shared.
type Reading = (i64, Option<i64>, bool);

/// A pod of `workload` on a machine of its own with one GPU, for whole days.
struct Lived {
    machine: Machine,
    instance_type: &'static str,
    need: Option<Need>,
}

fn lived(workload: &str, replica: i64, (from, days): (Timestamp, i64), price: i64) -> Lived {
    let name = format!("{workload}-{replica}-{}", from.0 / HOUR);
    let mut machine = Machine::new(&name, CapacityType::Spot, price, None, Millis(days * 24 * HOUR), EndedBy::Lowtide);
    (machine.interval.from, machine.interval.to) = (from, from + Millis(days * 24 * HOUR));
    let mut pod = stay(&format!("{name}-pod"), "search", &machine, Millis::ZERO, None);
    pod.workload = workload.into();
    machine.stays.push(pod);
    Lived { machine, instance_type: "g6.xlarge", need: None }
}

impl Lived {
    fn records(&self) -> Vec<LedgerRecord> {
        let mut records = self.machine.records();
        if let LedgerRecord::IntervalOpened(opened) = &mut records[0] {
            opened.capacity.instance_type = self.instance_type.into();
        }
        if let Some(need) = &self.need {
            records.push(LedgerRecord::Decision(Box::new(Decision { need: Some(need.clone().into()), ..decision(&self.machine) })));
        }
        records
    }

    /// Every hour is read: how active, how much memory, and whether the GPU is shared.
    async fn is_read(&self, connection: &mut PgConnection, (per_mille, memory, shared): Reading) {
        let sql = "INSERT INTO ledger.gpu_use_hour (id, at, claim_uid, pod_uid, revision, allocated_gpu_ms, active_gpu_ms, sampled_gpu_ms, most_memory_mib, metric, shared, source)
                   SELECT gen_random_uuid(), to_timestamp(h * 3600.0), $1, $2, 0, 3600000, 3600 * $5::bigint, 3600000, $6, 'm', $7, 'prometheus' FROM generate_series($3::bigint, $4::bigint - 1) h";
        let (from, to) = (self.machine.interval.from.0 / HOUR, self.machine.interval.to.0 / HOUR);
        let query = sqlx::query(sql).bind(format!("uid-{}", self.machine.name)).bind(self.machine.stays[0].pod.clone());
        query.bind(from).bind(to).bind(per_mille).bind(memory).bind(shared).execute(connection).await.unwrap();
    }
}

fn need(gpu_memory: i64) -> Need {
    Need {
        kind: WorkloadKind::Inference,
        gpus: 1,
        gpu_memory: Mebibytes(gpu_memory),
        gpu_models: Vec::new(),
        cpu: Millicores(1_000),
        memory: Mebibytes(2_048),
        disk: Mebibytes(0),
        volumes: 0,
        architecture: None,
        regions: Vec::new(),
        zones: Vec::new(),
        instance_types: Vec::new(),
        node_terms: Vec::new(),
        capacity: CapacityPreference::SpotFirst,
        max_price_per_gpu_hour: None,
        data_gib: 0,
        data_region: None,
    }
}

/// An L4 at 90 cents, half of one at 40, and an L40S at $2.
fn on_market() -> OnMarket {
    let mut market = Market::default();
    for (of, micros) in [("g6.xlarge", 900_000), ("g6f.4xlarge", 400_000), ("g6e.xlarge", 2_000_000)] {
        let capacity =
            Capacity { region: "us-east-1".into(), zone: "use1-az4".into(), instance_type: of.into(), capacity_type: CapacityType::Spot };
        let offer = Offer {
            capacity: capacity.clone(),
            price_per_hour: MicroUsdPerHour(micros),
            observed_at: DAY,
            source: PriceSource::File,
            interruptions_per_million_hours: 0,
        };
        market.offers.insert(capacity, offer);
    }
    let pool = PoolPolicy::open("default", ["use1-az4".into()].into());
    OnMarket { market, pool, said: "offers.csv".into() }
}

fn asked(market: Option<&OnMarket>) -> Asked<'_> {
    Asked { now: MADE, days: DAYS, market, sharing: None }
}

/// Workload, what is recommended and what it saves, of all; then those that get none, with the reason.
fn found(recommendations: &Recommendations) -> (Vec<String>, Vec<String>) {
    let found = recommendations
        .found
        .iter()
        .map(|found| format!("{} {} {}", found.workload.name, found.recommendation.change.what().as_str(), found.saving));
    (found.collect(), recommendations.without.iter().map(|without| format!("{}: {}", without.workload.name, without.because)).collect())
}

fn cells(report: &Report, workload: &str, columns: &[&str]) -> Vec<String> {
    let at =
        |name: &&str| report.columns.iter().position(|column| column == name).unwrap_or_else(|| panic!("{name} of {:?}", report.columns));
    let of_it = at(&"workload");
    let row =
        report.rows.iter().find(|row| row[of_it].as_deref() == Some(&format!("ml/{workload}"))).unwrap_or_else(|| panic!("{workload}"));
    columns.iter().map(|name| row[at(name)].clone().unwrap_or_else(|| "-".into())).collect()
}

async fn requests(connection: &mut PgConnection, workload: &str, (from, days): (Timestamp, i64), each_hour: impl Fn(i64) -> i64) {
    let hour = |n: i64| UsageHour {
        workload: ObjectRef { namespace: "ml".into(), name: workload.into() },
        hour: from + Millis(n * HOUR),
        unit: UsageUnit::Requests,
        micro_units: i128::from(each_hour(n)) * 1_000_000,
    };
    store_usage(connection, &(0..days * 24).map(hour).collect::<Vec<_>>(), "prometheus").await.unwrap();
}

/// Six workloads before: a service of four at 10 %, two jobs that could share, a pod on too large a GPU, a service that is asked at noon, one whose engine takes
/// all memory, and one that began late.
fn before() -> Vec<(Lived, Reading)> {
    let whole = (DAY, DAYS);
    let mut lives = Vec::new();
    for replica in 0..4 {
        lives.push((lived("chat", replica, whole, 1_000_000), (100, Some(20_600), false)));
    }
    for replica in 0..2 {
        let mut job = lived("embed", replica, whole, 1_000_000);
        (job.machine.stays[0].kind, job.need) = (WorkloadKind::Batch, Some(need(20_000)));
        lives.push((job, (250, Some(6_000), false)));
    }
    let mut large = lived("rank", 0, whole, 1_000_000);
    large.need = Some(need(20_000));
    lives.push((large, (250, Some(6_000), false)));
    lives.push((lived("noon", 0, whole, 1_000_000), (100, Some(20_600), false)));
    lives.push((lived("whole", 0, whole, 1_000_000), (20, Some(20_600), false)));
    lives.push((lived("young", 0, (DAY + Millis(24 * HOUR), DAYS - 1), 1_000_000), (20, Some(4_000), false)));
    lives
}

async fn write(ledger: &impl Ledger, connection: &mut PgConnection, lives: &[(Lived, Reading)]) {
    let records: Vec<LedgerRecord> = lives.iter().flat_map(|(lived, _)| lived.records()).collect();
    ledger.write(&records).await.unwrap();
    post(connection, LATER).await.unwrap();
    for (lived, read) in lives {
        lived.is_read(connection, *read).await;
    }
}

#[tokio::test]
async fn what_is_recommended_is_kept_and_held_against_the_two_weeks_after() {
    let Bench { url, ledger, server } = bench().await;
    let mut connection = connect(&url).await.unwrap();
    write(&ledger, &mut connection, &before()).await;
    requests(&mut connection, "noon", (DAY, DAYS), |n| if n % 24 == 12 { 50 } else { 0 }).await;
    requests(&mut connection, "chat", (DAY, DAYS), |_| 1_000).await;
    let mut planner = as_role(&url, "lowtide_reader").await;
    let on = on_market();
    let recommendations = find(&mut planner, asked(Some(&on))).await.unwrap();
    // chat: two of four L4s for 336 hours at the ledger's dollar, as no decision says what it needs: 672 of 14 days, 1,440 of 30. noon: an hour and one to start of
    // 24. rank: 720 hours at 50 cents less. embed: on one L4 instead of two, or on halves of one.
    let (with, without) = found(&recommendations);
    assert_eq!(
        with,
        ["chat fewer-replicas 1440.00", "embed smaller-gpu 720.00", "embed sharing 648.00", "noon batch 660.00", "rank smaller-gpu 360.00",]
    );
    assert_eq!(without[1], "young: too young");
    assert!(
        without[0].starts_with("whole: ") && without[0].contains("smaller-gpu: its engine takes the GPU's memory whatever it needs"),
        "{without:?}"
    );
    let report = recommendations.report(true);
    assert_eq!(
        report.sentence,
        "By the use of GPUs from 2026-07-20 to 2026-08-02, the best recommendations for 4 workloads would save $3180.00 in 30 days. 2 of 6 workloads get none: \
         1 too young, 1 with nothing to change."
    );
    assert_eq!(
        cells(&report, "chat", &["rank", "change", "use_percent", "replicas", "cost_usd_per_month"]),
        ["1", "at most 2 replicas instead of 4", "10.0", "4", "2880.00"]
    );
    let only = |texts: &[&str]| {
        let (mut some, only) = (recommendations.clone(), texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Only>>());
        some.keep_only(&only);
        found(&some)
    };
    assert_eq!(
        only(&["workload=ml/chat", "workload=ml/young"]),
        (vec!["chat fewer-replicas 1440.00".to_owned()], vec!["young: too young".to_owned()])
    );
    assert_eq!(only(&["namespace=ml", "team=nobody"]), (vec![], vec![]));
    let basis = cells(&report, "chat", &["basis"]);
    assert_eq!(basis, ["the ledger: $1.00 for each GPU-hour in these days, as no decision says what it needs"]);
    assert_eq!(
        cells(&report, "rank", &["basis"]),
        ["offers.csv: 1 g6.xlarge at $0.9000/h (replicas: 1), then 1 g6f.4xlarge at $0.4000/h (replicas: 1)"]
    );
    // Without a market the ledger's hours are the price; a smaller GPU then has none.
    let (by_ledger, _) = found(&find(&mut planner, asked(None)).await.unwrap());
    assert_eq!(by_ledger, ["chat fewer-replicas 1440.00", "embed sharing 720.00", "noon batch 660.00"]);

    // Kept by whoever may write and read; of each workload the best, and none while one is open.
    let mut both = {
        server.psql("postgres", "CREATE ROLE planner; GRANT lowtide_writer, lowtide_reader TO planner").unwrap();
        as_role(&url, "planner").await
    };
    assert_eq!(kept::keep(&mut both, &recommendations, MADE).await.unwrap(), 4);
    assert_eq!(kept::keep(&mut both, &recommendations, MADE + Millis(13 * 24 * HOUR)).await.unwrap(), 0);
    assert!(kept::keep(&mut planner, &recommendations, MADE + Millis(20 * 24 * HOUR)).await.is_err(), "readers keep nothing");
    let refused = sqlx::query("UPDATE ledger.recommendation SET predicted_usd_per_month = 1").execute(&mut connection).await.unwrap_err();
    assert!(refused.to_string().contains("append-only"), "{refused}");

    // Two weeks: chat has two replicas and more requests, at a higher price; embed stays; rank moves to half of an L4; noon is stopped.
    let span = (AFTER, DAYS);
    let mut after = Vec::new();
    for replica in 0..2 {
        after.push((lived("chat", replica, span, 1_100_003), (250, Some(20_600), false)));
        after.push((lived("embed", replica, span, 1_000_000), (250, Some(6_000), false)));
    }
    let mut rank = lived("rank", 0, span, 450_001);
    rank.instance_type = "g6f.4xlarge";
    after.push((rank, (500, Some(6_000), false)));
    write(&ledger, &mut connection, &after).await;
    requests(&mut connection, "chat", span, |_| 1_500).await;
    let august = Days { from: Some("2026-08-01".into()), to: Some("2026-08-31".into()) };
    let score = kept::score(&mut planner, &august).await.unwrap();
    let outcome = |workload: &str| cells(&score, workload, &["state", "saved_usd", "saved_by", "predicted_usd"]);
    // chat: what 336,000 requests cost for 504,000, 2,016, less two machines of 336 hours.
    let chat = MicroUsd(2_016_000_000 - 2 * 336 * 1_100_003);
    assert_eq!(outcome("chat"), ["followed", &format!("{:.6}", chat.0 as f64 / 1e6), "requests", "672.000000"]);
    assert_eq!(outcome("rank"), ["followed", "184.799664", "days", "168.000000"]);
    assert_eq!(outcome("embed"), ["not-followed", "-", "-", "336.000000"]);
    assert_eq!(outcome("noon"), ["gone", "-", "-", "308.000000"]);
    assert_eq!(cells(&score, "chat", &["outcome"]), ["followed: saved 1276.80 of 672.00 predicted"]);
    assert_eq!(
        cells(&score, "chat", &["usd_per_1000_requests_before", "usd_per_1000_requests_after", "scored_from", "scored_to"]),
        ["4.000000", "1.466671", "2026-08-04", "2026-08-18"]
    );
    assert_eq!(
        score.sentence,
        "4 recommendations were kept: 2 followed, which saved $1461.60 in 14 days of $840.00 predicted, 1 not followed, 1 for work that no longer ran."
    );
    // What it cost before and after is what the ledger's own sums say.
    let differs = "SELECT count(*) FROM ledger.recommendation_score s WHERE
        usd_before IS DISTINCT FROM (SELECT sum(cost_usd) FROM ledger.cost_daily c WHERE c.line = 'pod' AND c.workload_name = s.workload_name AND day >= '2026-07-20' AND day < '2026-08-03')
        OR usd_after IS DISTINCT FROM (SELECT coalesce(sum(cost_usd), 0) FROM ledger.cost_daily c WHERE c.line = 'pod' AND c.workload_name = s.workload_name AND day >= '2026-08-04' AND day < '2026-08-18')";
    assert_eq!(server.psql("postgres", differs).unwrap().trim(), "0");
    // Sealed, and found when it is changed.
    seal::seal(&mut connection).await.unwrap();
    assert!(verify::verify(&mut connection).await.unwrap().findings.is_empty());
    server.psql("postgres", "SET session_replication_role = replica; UPDATE ledger.recommendation SET predicted_usd_per_month = 1 WHERE workload_name = 'chat'").unwrap();
    let findings = format!("{:?}", verify::verify(&mut connection).await.unwrap().findings);
    assert!(findings.contains("recommendation"), "{findings}");
}

/// What is kept today is not judged before its two weeks are over; a service that shares GPUs, and one that is stopped, are found to have followed.
#[tokio::test]
async fn what_is_kept_today_is_too_early_and_work_that_is_shared_or_stopped_has_followed() {
    let Bench { url, ledger, server } = bench().await;
    let mut connection = connect(&url).await.unwrap();
    let mut lives = Vec::new();
    for replica in 0..2 {
        let mut job = lived("embed", replica, (DAY, DAYS), 1_000_000);
        job.machine.stays[0].kind = WorkloadKind::Batch;
        lives.push((job, (250, Some(6_000), false)));
    }
    lives.push((lived("asleep", 0, (DAY, DAYS), 1_000_000), (10, Some(20_600), false)));
    write(&ledger, &mut connection, &lives).await;
    requests(&mut connection, "asleep", (DAY, DAYS), |_| 0).await;
    let recommendations = find(&mut connection, asked(None)).await.unwrap();
    assert_eq!(found(&recommendations).0, ["asleep batch 720.00", "embed sharing 720.00"]);
    assert_eq!(cells(&recommendations.report(false), "asleep", &["change"]), ["stop it: no request came in 14 days"]);
    kept::keep(&mut connection, &recommendations, MADE).await.unwrap();
    let mut after = Vec::new();
    for replica in 0..2 {
        let mut job = lived("embed", replica, (AFTER, DAYS), 500_000);
        job.machine.stays[0].kind = WorkloadKind::Batch;
        after.push((job, (500, Some(6_000), true)));
    }
    write(&ledger, &mut connection, &after).await;
    let now = lowtide::ports::Clock::now(&lowtide::engine::wall_clock::WallClock);
    kept::keep(&mut connection, &recommendations, now).await.unwrap();
    let all = Days { from: Some("2026-08-01".into()), to: None };
    let score = kept::score(&mut connection, &all).await.unwrap();
    let states: Vec<String> = score.rows.iter().map(|row| row[6].clone().unwrap()).collect();
    assert_eq!(states, ["followed", "followed", "early", "early"], "{:?}", score.rows);
    assert_eq!(cells(&score, "asleep", &["saved_usd", "usd_after"]), ["336.000000", "0.000000"]);
    assert_eq!(cells(&score, "embed", &["saved_usd", "usd_after"]), ["336.000000", "336.000000"]);
    let until = (now + Millis(15 * 24 * HOUR)).to_date();
    assert!(score.sentence.ends_with(&format!("2 too early, the first until {until}.")), "{}", score.sentence);
    // Of a shared GPU what is read is the use of all: nothing is recommended by it.
    let later = Asked { now: AFTER + Millis(DAYS * 24 * HOUR), ..asked(None) };
    let (with, without) = found(&find(&mut connection, later).await.unwrap());
    assert_eq!((with.len(), without), (0, vec!["embed: on shared GPUs, whose readings are of all who share them".to_owned()]));
    // What was kept after a day is not known on it.
    let then = server.psql("postgres", "SET lowtide.as_of = '2026-08-20'; SELECT count(*) FROM ledger.recommendation_score").unwrap();
    assert!(then.trim().ends_with('0'), "{then}");
}

/// Prices as the operator wrote them down: the last of each capacity, on-demand where the type is sold, and none of a market that nobody looked at for a day.
#[tokio::test]
async fn todays_market_is_what_the_operator_last_wrote_down() {
    let Bench { url, server, .. } = bench().await;
    let mut connection = connect(&url).await.unwrap();
    let quotes = "INSERT INTO ledger.price_quote (id, at, region, zone, instance_type, capacity_type, price_usd_h, source)
        SELECT gen_random_uuid(), at::timestamptz, 'us-east-1', zone, 'g6.xlarge', capacity_type, price, 's' FROM (VALUES
            ('2026-08-01 10:00+00', 'use1-az4', 'spot', 0.3), ('2026-08-03 08:00+00', 'use1-az4', 'spot', 0.35), ('2026-07-01 00:00+00', 'use1-az1', 'spot', 0.4),
            ('2026-03-01 00:00+00', 'use1-az2', 'spot', 0.1), ('2026-08-04 00:00+00', 'use1-az4', 'spot', 0.9), ('2026-06-01 00:00+00', NULL, 'on-demand', 0.8048)
        ) AS q(at, zone, capacity_type, price)";
    server.psql("postgres", quotes).unwrap();
    let (market, newest) = market::on_record(&mut connection, MADE).await.unwrap().unwrap();
    let said: Vec<String> =
        market.offers.values().map(|o| format!("{} {} {}", o.capacity.zone, o.capacity.capacity_type, o.price_per_hour)).collect();
    assert_eq!(said, ["use1-az1 spot 0.4000", "use1-az1 on-demand 0.8048", "use1-az4 spot 0.3500", "use1-az4 on-demand 0.8048"]);
    assert_eq!(newest.to_rfc3339(), "2026-08-03T08:00:00.000Z");
    assert!(market::on_record(&mut connection, AFTER + Millis(48 * HOUR)).await.unwrap().is_none());
    // Asked for by the command: nobody held a GPU, and what cannot be is refused where the person stands.
    let said = |command: &str| crate::roles::run(&std::env::temp_dir(), &url, command);
    assert!(said("lowtide ledger recommendations").unwrap().starts_with("No pod held a GPU from "));
    for (command, because) in [
        ("lowtide ledger recommendations --from 2026-07-01", "--from, --to and --month go with --score"),
        ("lowtide ledger recommendations --sharing exclusive", "as in mps-4"),
        ("lowtide ledger recommendations --days 3", "7..=56"),
        ("lowtide ledger recommendations --pool pool.yaml", "add --offers FILE"),
    ] {
        let fault = said(command).unwrap_err();
        assert!(fault.contains(because), "{command}: {fault}");
    }
}
