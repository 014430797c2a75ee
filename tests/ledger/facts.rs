//! Facts for the ledger's tests: machines, the pods on them, and the decisions behind both.

use std::collections::BTreeMap;

use lowtide::core::accounting::allocation::{Occupied, lost_from};
use lowtide::core::accounting::billing::{HourRate, PaidInterval};
use lowtide::core::fleet::{EndedBy, Trigger};
use lowtide::core::market::{Capacity, CapacityType, PriceSource};
use lowtide::core::record::{
    CarriedData, Checkpoint, CounterfactualRate, Counterfactuals, Decision, HourPriced, Interruption, IntervalClosed, IntervalOpened,
    JudgedOffer, Judgement, LedgerRecord, Migration, OccupancyClosed, OccupancyOpened, Outcome, Refusal,
};
use lowtide::core::units::ids::{DecisionId, ObjectRef};
use lowtide::core::units::money::{MicroUsd, MicroUsdPerHour};
use lowtide::core::units::time::{Millis, Timestamp};
use lowtide::core::workload::need::WorkloadKind;
use lowtide::core::workload::{Attribution, PodIdentity, Workload};
use lowtide::lab::postgres::PrivatePostgres;
use lowtide::ledger::report::Report;
use lowtide::ledger::{PgLedger, migrate};
use lowtide::ports::Ledger as _;

/// 2026-07-20, a Monday in the past: nothing here depends on the clock.
pub const DAY: Timestamp = Timestamp(1_784_505_600_000);

/// A server with a migrated ledger; gone when dropped.
pub struct Bench {
    pub server: PrivatePostgres,
    pub url: String,
    pub ledger: PgLedger,
}

pub async fn bench() -> Bench {
    let server = PrivatePostgres::start_temporary().expect("a Postgres server for the test");
    // Whoever looks from Kolkata sees the same days.
    server.psql("postgres", "ALTER DATABASE postgres SET timezone = 'Asia/Kolkata'").unwrap();
    let url = server.url();
    migrate(&url).await.unwrap();
    // Two servers, two tests and their histories share two cores: how long a write takes is not what is tested here.
    let ledger = PgLedger::with_patience(&url, std::time::Duration::from_secs(60)).unwrap();
    Bench { server, url, ledger }
}

/// A ledger in which `chat` ran for a day on a machine of ours at $1 an hour, posted.
pub async fn chat_bench() -> (Bench, sqlx::PgConnection) {
    let bench = bench().await;
    bench.ledger.write(&chat_for_a_day().records()).await.unwrap();
    let mut connection = lowtide::ledger::connect(&bench.url).await.unwrap();
    lowtide::ledger::poster::post(&mut connection, crate::imports::LATER).await.unwrap();
    (bench, connection)
}

/// A connection that may do what `role` may, and no more.
pub async fn as_role(url: &str, role: &str) -> sqlx::PgConnection {
    let mut connection = lowtide::ledger::connect(url).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(format!("SET ROLE {role}"))).execute(&mut connection).await.unwrap();
    connection
}

/// One pod on a machine.
#[derive(Debug, Clone)]
pub struct Stay {
    pub pod: String,
    pub workload: String,
    pub team: Option<&'static str>,
    pub kind: WorkloadKind,
    pub gpus: i64,
    pub from: Timestamp,
    pub to: Option<Timestamp>,
    pub b1: Option<MicroUsdPerHour>,
    pub b2: Option<MicroUsdPerHour>,
    /// When its replacement began to run elsewhere.
    pub doubled_from: Option<Timestamp>,
    /// Data carried for it to run here.
    pub carried: Option<CarriedData>,
    /// When it wrote checkpoints.
    pub checkpoints: Vec<Timestamp>,
}

/// One machine with its pods.
#[derive(Debug, Clone)]
pub struct Machine {
    pub name: String,
    pub gpus: i64,
    pub interval: PaidInterval,
    pub stays: Vec<Stay>,
}

pub fn pool(instance_type: &str, zone: &str, region: &str, capacity_type: CapacityType) -> Capacity {
    Capacity { region: region.into(), zone: zone.into(), instance_type: instance_type.into(), capacity_type }
}

impl Machine {
    pub fn new(name: &str, capacity_type: CapacityType, price: i64, on_demand: Option<i64>, ran: Millis, ended_by: EndedBy) -> Self {
        let bought_at = HourRate { price: MicroUsdPerHour(price), on_demand: on_demand.map(MicroUsdPerHour) };
        let interval =
            PaidInterval { capacity_type, from: DAY, to: DAY + ran, ended_by: Some(ended_by), bought_at, hours: BTreeMap::new() };
        Machine { name: name.into(), gpus: 1, interval, stays: Vec::new() }
    }

    pub fn decision(&self) -> DecisionId {
        DecisionId::derive("test", "launch", &self.name, 0)
    }

    pub fn opened(&self) -> LedgerRecord {
        LedgerRecord::IntervalOpened(Box::new(IntervalOpened {
            claim: self.name.as_str().into(),
            claim_uid: format!("uid-{}", self.name).into(),
            decision: self.decision(),
            instance: format!("i-{}", self.name).into(),
            capacity: pool("g6.xlarge", "use1-az4", "us-east-1", self.interval.capacity_type),
            gpus: self.gpus,
            price_per_hour: self.interval.bought_at.price,
            on_demand_per_hour: self.interval.bought_at.on_demand,
            running_from: self.interval.from,
        }))
    }

    pub fn closed(&self) -> LedgerRecord {
        LedgerRecord::IntervalClosed(IntervalClosed {
            claim_uid: format!("uid-{}", self.name).into(),
            running_to: self.interval.to,
            ended_by: self.interval.ended_by.unwrap(),
            decision: None,
        })
    }

    /// Everything about the machine, in the order it happened.
    pub fn records(&self) -> Vec<LedgerRecord> {
        let claim_uid = || format!("uid-{}", self.name).into();
        let mut records = vec![self.opened()];
        records.extend(self.interval.hours.iter().map(|(hour, rate)| {
            LedgerRecord::HourPriced(HourPriced {
                claim_uid: claim_uid(),
                hour: *hour,
                from: self.interval.from + Millis::from_hours(i64::from(*hour)),
                price_per_hour: rate.price,
                on_demand_per_hour: rate.on_demand,
            })
        }));
        for stay in &self.stays {
            records.push(LedgerRecord::OccupancyOpened(Box::new(OccupancyOpened {
                claim_uid: claim_uid(),
                pod: ObjectRef { namespace: "ml".into(), name: stay.pod.clone() },
                pod_uid: stay.pod.as_str().into(),
                workload: workload(&stay.workload).into(),
                kind: stay.kind,
                attribution: Attribution { team: stay.team.map(String::from), ..Attribution::default() }.into(),
                gpus: stay.gpus,
                decision: self.decision(),
                b1_per_replica_hour: stay.b1,
                b2_per_replica_hour: stay.b2,
                from: stay.from,
                carried: stay.carried.clone(),
            })));
            records.extend(
                stay.checkpoints
                    .iter()
                    .map(|at| LedgerRecord::Checkpoint(Checkpoint { claim_uid: claim_uid(), pod_uid: stay.pod.as_str().into(), at: *at })),
            );
            if let Some(to) = stay.to {
                records.push(LedgerRecord::OccupancyClosed(OccupancyClosed {
                    claim_uid: claim_uid(),
                    pod_uid: stay.pod.as_str().into(),
                    to,
                }));
            }
        }
        records.push(self.closed());
        records
    }

    /// The same pods as the pure module takes them.
    pub fn occupied(&self) -> Vec<Occupied> {
        let within = |at: Timestamp| at.clamp(self.interval.from, self.interval.to);
        let occupied = |stay: &Stay| {
            let (from, to) = (within(stay.from), within(stay.to.unwrap_or(self.interval.to)));
            Occupied {
                pod: stay.pod.as_str().into(),
                gpus: stay.gpus,
                from,
                to,
                doubled_from: stay.doubled_from,
                lost_from: lost_from(stay.kind, self.interval.ended_by, self.interval.to, (from, to), &stay.checkpoints),
                egress: stay.carried.as_ref().map(|data| MicroUsd(data.gib * data.price_per_gib.0)),
                b1_per_replica_hour: stay.b1,
                b2_per_replica_hour: stay.b2,
            }
        };
        self.stays.iter().map(occupied).collect()
    }
}

pub fn workload(name: &str) -> Workload {
    Workload { kind: "Deployment".into(), object: ObjectRef { namespace: "ml".into(), name: name.into() } }
}

/// `chat` on a machine of ours for a day at $1 an hour; on demand it costs $3.
pub fn chat_for_a_day() -> Machine {
    let mut machine = Machine::new("m", CapacityType::Spot, 1_000_000, Some(3_000_000), Millis::from_hours(24), EndedBy::Lowtide);
    let pod = stay("p", "search", &machine, Millis::ZERO, Some(3_000_000));
    machine.stays.push(Stay { workload: "chat".into(), ..pod });
    machine
}

/// The rows of a report in words; `-` is no value.
pub fn rows_of(report: &Report) -> Vec<String> {
    report.rows.iter().map(|row| row.iter().map(|value| value.as_deref().unwrap_or("-")).collect::<Vec<_>>().join(" ")).collect()
}

/// A stay over the machine's whole life but `boot`.
pub fn stay(pod: &str, team: &'static str, machine: &Machine, boot: Millis, b1: Option<i64>) -> Stay {
    Stay {
        pod: pod.into(),
        workload: format!("of-{team}"),
        team: Some(team),
        kind: WorkloadKind::Inference,
        gpus: machine.gpus,
        from: machine.interval.from + boot,
        to: Some(machine.interval.to),
        b1: b1.map(MicroUsdPerHour),
        b2: None,
        doubled_from: None,
        carried: None,
        checkpoints: Vec::new(),
    }
}

pub fn moved(stay: &Stay, from: &Machine, to: &Machine, decided_at: Timestamp) -> LedgerRecord {
    LedgerRecord::Migration(Box::new(Migration {
        decision: DecisionId::derive("test", "migrate", &stay.pod, 0),
        pod: ObjectRef { namespace: "ml".into(), name: stay.pod.clone() },
        pod_uid: stay.pod.as_str().into(),
        from_claim: from.name.as_str().into(),
        to_claim: Some(to.name.as_str().into()),
        noticed_at: decided_at,
        deadline: Some(decided_at + Millis::from_secs(120)),
        decided_at,
        launched_at: Some(decided_at + Millis::from_secs(3)),
        node_ready_at: Some(decided_at + Millis::from_secs(40)),
        pod_ready_at: Some(decided_at + Millis::from_secs(50)),
        old_gone_at: None,
        egress_gib: 0,
    }))
}

pub fn interruption(machine: &Machine, noticed_at: Timestamp) -> Interruption {
    Interruption {
        claim_uid: format!("uid-{}", machine.name).into(),
        instance: format!("i-{}", machine.name).into(),
        capacity: pool("g6.xlarge", "use1-az4", "us-east-1", machine.interval.capacity_type),
        noticed_at,
        deadline: noticed_at + Millis::from_secs(120),
        source: "sqs".into(),
        ran_for: noticed_at.since(machine.interval.from),
    }
}

/// The decision that bought `machine` for the first pod on it, with two offers it beat.
pub fn decision(machine: &Machine) -> Decision {
    let judged = |zone: &str, price: i64, refusal: Option<Refusal>| JudgedOffer {
        capacity: pool("g6.xlarge", zone, "us-east-1", machine.interval.capacity_type),
        price_per_hour: MicroUsdPerHour(price),
        cost_per_replica_hour: Some(MicroUsdPerHour(price + 1_000)),
        replicas: 1,
        price_age: Millis::from_mins(2),
        source: PriceSource::SpotPriceHistory,
        interruptions_per_million_hours: 151,
        placement_score: Some(7),
        unmet_preferences: 0,
        refusal,
    };
    let price = machine.interval.bought_at.price.0;
    let rate = |capacity_type, micros| CounterfactualRate {
        capacity: pool("g6.xlarge", "use1-az1", "us-east-1", capacity_type),
        price_per_hour: MicroUsdPerHour(micros),
        replicas: 1,
    };
    Decision {
        id: machine.decision(),
        cluster: "test".into(),
        decided_at: machine.interval.from - Millis::from_secs(60),
        trigger: Trigger::PendingPod,
        outcome: Outcome::Launch,
        text: format!("bought g6.xlarge spot in use1-az4 for {}", machine.name).into(),
        node_pool: Some("default".into()),
        workload: machine.stays.first().map(|stay| workload(&stay.workload).into()),
        attribution: Attribution { team: machine.stays.first().and_then(|stay| stay.team.map(String::from)), ..Attribution::default() }
            .into(),
        pods: machine
            .stays
            .iter()
            .map(|stay| {
                let object = ObjectRef { namespace: "ml".into(), name: stay.pod.clone() };
                PodIdentity { object: object.into(), uid: stay.pod.as_str().into() }
            })
            .collect(),
        need: None,
        judgement: Judgement {
            chosen: Some(judged("use1-az4", price, None)),
            best_refused: vec![
                judged("use1-az1", price + 10_000, Some(Refusal::MoreExpensive)),
                judged("use1-az2", price - 9_000, Some(Refusal::CoolingDown)),
            ],
            refused: BTreeMap::from([(Refusal::MoreExpensive, 40), (Refusal::CoolingDown, 1), (Refusal::GpuMemory, 7)]),
            offers_hash: "ab".repeat(32),
        }
        .into(),
        counterfactuals: Counterfactuals {
            b0_on_demand_same: Some(rate(CapacityType::OnDemand, 804_800)),
            b1_on_demand_home: Some(rate(CapacityType::OnDemand, 804_800)),
            b2_spot_home: Some(rate(CapacityType::Spot, 350_000)),
        }
        .into(),
        claim: Some(machine.name.as_str().into()),
        from_claim: None,
        instance: None,
        policy_hash: "cd".repeat(32).into(),
        code_version: "0.1.0".into(),
    }
}

/// Numbers that look random and are the same each time.
pub struct Dice(pub u64);

impl Dice {
    /// SplitMix64, Steele et al. 2014.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        low + i64::try_from(self.next() % u64::try_from(high - low + 1).unwrap()).unwrap()
    }

    pub fn one_in(&mut self, n: i64) -> bool {
        self.between(1, n) == 1
    }

    pub fn maybe(&mut self, low: i64, high: i64) -> Option<MicroUsdPerHour> {
        (!self.one_in(4)).then(|| MicroUsdPerHour(self.between(low, high)))
    }
}
