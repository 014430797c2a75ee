//! The people of the simulated cluster: they deploy, scale, submit Jobs, make mistakes and change their minds.
//!
//! Decides: what is asked of lowtide, when, from the seed alone.

use std::collections::BTreeSet;

use super::chance::Chance;
use super::kube::{Deployment, Job, Template};
use crate::core::fleet::NodePool;
use crate::core::market::CapacityType;
use crate::core::units::ids::{ClassName, PoolName, Region, Uid};
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::shared::Shared;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::units::{Mebibytes, Millicores};
use crate::core::workload::need::{CapacityPreference, Deadline, Need, Schedule, WorkloadKind};

/// What somebody does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// Wants another number of replicas of one of the Deployments.
    Scale,
    /// Submits a Job.
    Submit,
    /// Deletes a claim by hand.
    DeleteClaim,
    /// Deletes a Deployment and creates it again later.
    Redeploy,
}

/// Everybody.
#[derive(Debug)]
pub struct People {
    chance: Chance,
    /// Of work that asks for a part of a GPU.
    of_parts: Chance,
    jobs: u64,
    size: Size,
}

/// How much work there is: most clusters of a year of histories are small, some are busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    /// Replicas of a Deployment, at most.
    replicas: i64,
    /// A Deployment beside the first is there in this many of a thousand clusters.
    others_per_mille: i64,
    /// How far apart deeds are, in thousandths of what they are in a medium-sized cluster.
    pace_per_mille: i64,
}

const SIZES: [Size; 4] = [
    Size { replicas: 1, others_per_mille: 200, pace_per_mille: 1_800 },
    Size { replicas: 1, others_per_mille: 400, pace_per_mille: 1_500 },
    Size { replicas: 2, others_per_mille: 500, pace_per_mille: 1_200 },
    Size { replicas: 4, others_per_mille: 900, pace_per_mille: 700 },
];

/// How often each deed is done, on average.
const EVERY: [(Deed, Millis); 4] = [
    (Deed::Scale, Millis::from_hours(9)),
    (Deed::Submit, Millis::from_hours(14)),
    (Deed::DeleteClaim, Millis::from_hours(80)),
    (Deed::Redeploy, Millis::from_hours(50)),
];

fn need(kind: WorkloadKind, gpus: i64, gpu_gib: i64) -> Need {
    Need {
        kind,
        gpus,
        gpu_memory: Mebibytes(gpu_gib * 1_024),
        gpu_models: Vec::new(),
        instance_types: Vec::new(),
        cpu: Millicores(2_500 * gpus),
        memory: Mebibytes(10 * 1_024 * gpus),
        architecture: None,
        regions: Vec::new(),
        zones: Vec::new(),
        node_terms: Vec::new(),
        disk: Mebibytes(0),
        capacity: CapacityPreference::SpotFirst,
        max_price_per_gpu_hour: None,
        data_gib: 0,
        data_region: None,
    }
}

/// The same with so little CPU and memory that four fit on the smallest machine.
fn part_of_a_gpu(need: Need) -> Need {
    Need { cpu: Millicores(900), memory: Mebibytes(3 * 1_024), ..need }
}

impl People {
    /// The people of a seed.
    pub fn new(seed: u64) -> People {
        let mut chance = Chance::new(seed, "people");
        let size = chance.one_of(&SIZES).copied().unwrap_or(SIZES[2]);
        People { chance, of_parts: Chance::new(seed, "parts of GPUs"), jobs: 0, size }
    }

    /// Everybody's first deed.
    pub fn first_deeds(&mut self, now: Timestamp) -> Vec<(Timestamp, Deed)> {
        EVERY.iter().map(|(deed, _)| (self.again(deed, now), deed.clone())).collect()
    }

    /// When this deed is done again.
    pub fn again(&mut self, deed: &Deed, now: Timestamp) -> Timestamp {
        let every = EVERY.iter().find(|(d, _)| d == deed).map_or(Millis::from_hours(24), |(_, every)| *every);
        now + self.chance.waiting(Millis(every.0 * self.size.pace_per_mille / 1_000))
    }

    /// A node pool over all classes.
    pub fn pool(&mut self, classes: Vec<ClassName>) -> NodePool {
        NodePool {
            name: PoolName::from("gpu"),
            deleting: false,
            namespaces: BTreeSet::from(["gpu-work".to_owned()]),
            gpu_models: Vec::new(),
            instance_types: Vec::new(),
            regions: Vec::new(),
            classes,
            capacity_types: BTreeSet::from([CapacityType::Spot, CapacityType::OnDemand]),
            fallback_on_demand: true,
            max_price_per_gpu_hour: None,
            monthly_budget: None,
            max_gpus: None,
            max_nodes: Some(40),
            launches_per_minute: None,
            max_share_per_mille: None,
            home_region: Region::from("us-east-1"),
            return_min_saving_per_mille: 150,
            return_min_dwell: Millis::from_mins(15),
            empty_grace: Millis::from_mins(2),
            unhealthy_after: Millis::from_mins(3),
            join_timeout: Millis::from_mins(8),
            expire_after: self.chance.happens(400).then(|| self.chance.span(Millis::from_hours(12), Millis::from_hours(60))),
            cool_down_base: Millis::from_mins(3),
            cool_down_max: Millis::from_hours(1),
            ends_allowed_until: None,
        }
    }

    /// The Deployments there are from the start; where GPUs are `shared`, one more that asks for a part of one.
    pub fn deployments(&mut self, shared: bool) -> Vec<(String, Deployment)> {
        let mut all = Vec::new();
        let third = self.chance.one_of(&[("large", 1, 40), ("four", 4, 20), ("legacy", 1, 14)]).copied();
        for (name, gpus, gpu_gib) in [Some(("chat", 1, 20)), Some(("vision", 1, 8)), third].into_iter().flatten() {
            if name != "chat" && !self.chance.happens(self.size.others_per_mille) {
                continue;
            }
            let mut wants = need(WorkloadKind::Inference, gpus, gpu_gib);
            if name == "vision" && self.chance.happens(500) {
                wants.regions = vec!["us-*".to_owned()];
            }
            if name == "large" && self.chance.happens(300) {
                wants.capacity = CapacityPreference::OnDemand;
            }
            if name == "chat" && self.chance.happens(300) {
                wants.max_price_per_gpu_hour = Some(MicroUsdPerHour(900_000));
            }
            let replicas = usize::try_from(self.chance.between(0, self.size.replicas)).unwrap_or(1);
            let warm = self.chance.happens(700);
            let zone_max_skew = (name == "chat" && self.chance.happens(250)).then_some(1);
            let spares = u32::from(name == "vision" && self.chance.happens(500));
            let availability_goal_ppm = (spares > 0 && self.chance.happens(500)).then_some(995_000);
            let schedule = Schedule { zone_max_skew, spares, availability_goal_ppm, ..Schedule::default() };
            let template = Template {
                need: Ok((wants.into(), schedule.into())),
                start: if warm { Millis::from_secs(25) } else { Millis::from_secs(175) },
                ending: self.chance.span(Millis::from_secs(1), Millis::from_secs(20)),
                grace: Millis::from_secs(30),
                team: self.team(),
            };
            let deployment = Deployment {
                uid: Uid::from(format!("deployment-{name}")),
                replica_set: Uid::from(format!("replica-set-{name}")),
                replicas,
                template,
                breaks: (name == "legacy").then(|| "its Deployment recreates (strategy Recreate)".to_owned()),
                least_available: (name != "legacy" && self.chance.happens(400)).then_some(replicas.saturating_sub(1)),
                made: 0,
            };
            all.push((name.to_owned(), deployment));
        }
        all.extend(shared.then(|| self.embedder()));
        all
    }

    /// A small model: several of its replicas fit on one GPU that is shared.
    fn embedder(&mut self) -> (String, Deployment) {
        let replicas = usize::try_from(self.of_parts.between(1, self.size.replicas)).unwrap_or(1);
        let ending = self.of_parts.span(Millis::from_secs(1), Millis::from_secs(10));
        let need = part_of_a_gpu(need(WorkloadKind::Inference, 1, 4));
        let (need, start, grace) = (Ok((need.into(), Shared::default())), Millis::from_secs(15), Millis::from_secs(30));
        let deployment = Deployment {
            uid: Uid::from("deployment-embed"),
            replica_set: Uid::from("replica-set-embed"),
            replicas,
            template: Template { need, start, ending, grace, team: "search".to_owned() },
            breaks: None,
            least_available: None,
            made: 0,
        };
        ("embed".to_owned(), deployment)
    }

    fn team(&mut self) -> String {
        self.chance.one_of(&["search", "assistants", "research"]).map_or_else(String::new, |team| (*team).to_owned())
    }

    /// How many replicas are wanted from now on.
    pub fn replicas(&mut self, now_wanted: usize) -> usize {
        let change = self.chance.between(-2, 2);
        usize::try_from((i64::try_from(now_wanted).unwrap_or(0) + change).clamp(0, self.size.replicas)).unwrap_or(0)
    }

    /// One of them.
    pub fn choose<'a, T>(&mut self, options: &'a [T]) -> Option<&'a T> {
        self.chance.one_of(options)
    }

    /// A new Job: half an hour to some hours of work, mostly with a deadline; where GPUs are `shared`, some ask for a part of one.
    pub fn job(&mut self, now: Timestamp, shared: bool) -> (String, Job) {
        self.jobs += 1;
        let work = Millis(self.chance.heavy_tailed(Millis::from_mins(90), Millis::from_mins(150)).0.clamp(600_000, 12 * 3_600_000));
        let slack = self.chance.between(1_300, 3_000);
        let deadline = self.chance.happens(700).then(|| Millis(work.0 * slack / 1_000 + Millis::from_mins(20).0));
        let ending = self.chance.span(Millis::from_secs(5), Millis::from_secs(60));
        let schedule = Schedule {
            deadline: deadline.map(Deadline::After),
            expected_runtime: Some(work),
            checkpoint_grace: Some(ending + Millis::from_secs(5)),
            ..Schedule::default()
        };
        let gpu_gib = if self.chance.happens(500) { 14 } else { 22 };
        let small = shared && self.of_parts.happens(300);
        let need = if small { part_of_a_gpu(need(WorkloadKind::Batch, 1, 5)) } else { need(WorkloadKind::Batch, 1, gpu_gib) };
        let template = Template {
            need: Ok((need.into(), schedule.into())),
            start: Millis::from_secs(40),
            ending,
            grace: Millis::from_secs(120),
            team: self.team(),
        };
        let job = Job {
            uid: Uid::from(format!("job-{}", self.jobs)),
            template,
            created_at: now,
            work,
            saved: Millis::ZERO,
            saves_every: Millis::from_mins(30),
            deadline: deadline.map(|span| now + span),
            failures: 0,
            finished_at: None,
            lost: Millis::ZERO,
            made: 0,
            back_off_until: now,
        };
        (format!("train-{}", self.jobs), job)
    }
}
