//! The people of the simulated cluster: they deploy, scale, submit Jobs, make mistakes and change their minds.
//!
//! Decides: what is asked of lowtide, when, from the seed alone.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::account::Account;
use super::chance::Chance;
use super::constraints::{self, Constraints};
use super::kube::scheduler::ZONE;
use super::kube::volumes::Store;
use super::kube::{Job, Keeper, Replicated, Template};
use crate::core::fleet::NodePool;
use crate::core::market::CapacityType;
use crate::core::units::ids::{ClassName, PoolName, Region, Uid};
use crate::core::units::time::{Millis, Timestamp};

/// What somebody does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// Wants another number of replicas of one of the workloads.
    Scale,
    /// Submits a Job.
    Submit,
    /// Deletes a claim by hand.
    DeleteClaim,
    /// Deletes a workload with replicas and creates it again later.
    Redeploy,
    /// Starts a bare pod.
    StartNotebook,
}

/// Everybody.
#[derive(Debug)]
pub struct People {
    chance: Chance,
    /// Of work that asks for a part of a GPU.
    of_parts: Chance,
    /// Of StatefulSets.
    of_sets: Chance,
    /// Of bare pods.
    of_notebooks: Chance,
    constraints: Constraints,
    jobs: u64,
    notebooks: u64,
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
const EVERY: [(Deed, Millis); 5] = [
    (Deed::Scale, Millis::from_hours(9)),
    (Deed::Submit, Millis::from_hours(14)),
    (Deed::DeleteClaim, Millis::from_hours(80)),
    (Deed::Redeploy, Millis::from_hours(50)),
    (Deed::StartNotebook, Millis::from_hours(70)),
];

/// What a pod with one container asks for, before anything is added.
struct Container {
    workload: &'static str,
    gpus: i64,
    gpu_gib: i64,
    /// So little CPU and memory that four fit on the smallest machine.
    small: bool,
}

impl People {
    /// The people of a seed.
    pub fn new(seed: u64) -> People {
        let mut chance = Chance::new(seed, "people");
        let size = chance.one_of(&SIZES).copied().unwrap_or(SIZES[2]);
        People {
            chance,
            of_parts: Chance::new(seed, "parts of GPUs"),
            of_sets: Chance::new(seed, "stateful sets"),
            of_notebooks: Chance::new(seed, "notebooks"),
            constraints: Constraints::new(seed),
            jobs: 0,
            notebooks: 0,
            size,
        }
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
            spread_most_extra_per_mille: 100,
            home_region: Region::from("us-east-1"),
            return_min_saving_per_mille: 150,
            return_min_dwell: Millis::from_mins(15),
            empty_grace: Millis::from_mins(2),
            unhealthy_after: Millis::from_mins(3),
            join_timeout: Millis::from_mins(8),
            expire_after: self.chance.happens(400).then(|| self.chance.span(Millis::from_hours(12), Millis::from_hours(60))),
            cool_down_base: Millis::from_mins(3),
            cool_down_max: Millis::from_hours(1),
            quiet_hours: None,
            disruption: Default::default(),
            ends_allowed_until: None,
        }
    }

    /// The workloads with replicas there are from the start, and the volumes that they mount.
    pub fn replicated(&mut self, account: &Account, volumes: &mut Store) -> Vec<(String, Replicated)> {
        let mut all = Vec::new();
        let third = self.chance.one_of(&[("large", 1, 40), ("four", 4, 20), ("legacy", 1, 14), ("store", 1, 14)]).copied();
        for (name, gpus, gpu_gib) in [Some(("chat", 1, 20)), Some(("vision", 1, 8)), third].into_iter().flatten() {
            if name != "chat" && !self.chance.happens(self.size.others_per_mille) {
                continue;
            }
            let mut work = self.serving(name, &Container { workload: "inference", gpus, gpu_gib, small: false });
            self.constraints.of_replicated(name, &mut work, account, volumes);
            all.push((name.to_owned(), work));
        }
        all.extend(account.shares().then(|| self.embedder()));
        all
    }

    fn serving(&mut self, name: &str, container: &Container) -> Replicated {
        let regional = name == "vision" && self.chance.happens(500);
        let on_demand = name == "large" && self.chance.happens(300);
        let capped = name == "chat" && self.chance.happens(300);
        let replicas = usize::try_from(self.chance.between(0, self.size.replicas)).unwrap_or(1);
        let warm = self.chance.happens(700);
        let is_spread = name == "chat" && self.chance.happens(250);
        let spares = i64::from(name == "vision" && self.chance.happens(500));
        let has_goal = spares > 0 && self.chance.happens(500);
        let ending = self.chance.span(Millis::from_secs(1), Millis::from_secs(20));
        let start = if warm { Millis::from_secs(25) } else { Millis::from_secs(175) };
        let mut template = Template { manifest: written(container, name, &self.team(), 30), start, ending };
        let notes = [
            (regional, "regions", "us-*"),
            (on_demand, "capacity", "on-demand"),
            (capped, "max-price-per-gpu-hour", "0.90"),
            (spares > 0, "spares", "1"),
            (has_goal, "availability-goal", "99.5%"),
        ];
        notes.into_iter().filter(|(holds, ..)| *holds).for_each(|(_, key, value)| template.annotate(key, value));
        if is_spread {
            constraints::spread(&mut template, ZONE, name);
        }
        let keeper = match name {
            "legacy" => Keeper::Deployment("Recreate"),
            "store" => Keeper::StatefulSet { parallel: self.of_sets.happens(500) },
            _ => Keeper::Deployment("RollingUpdate"),
        };
        let surges = keeper == Keeper::Deployment("RollingUpdate");
        let least_available = (name != "legacy" && self.chance.happens(400)).then_some(replicas.saturating_sub(1));
        let uid = Uid::from(format!("{}-{name}", keeper.kind().to_lowercase()));
        let controller = if matches!(keeper, Keeper::Deployment(_)) { Uid::from(format!("replica-set-{name}")) } else { uid.clone() };
        let most_replicas = usize::try_from(self.size.replicas).unwrap_or(1);
        let (of_each_pod, honoured, made) = (None, true, 0);
        Replicated { keeper, uid, controller, replicas, most_replicas, template, of_each_pod, surges, honoured, least_available, made }
    }

    /// A small model: several of its replicas fit on one GPU that is shared.
    fn embedder(&mut self) -> (String, Replicated) {
        let replicas = usize::try_from(self.of_parts.between(1, self.size.replicas)).unwrap_or(1);
        let ending = self.of_parts.span(Millis::from_secs(1), Millis::from_secs(10));
        let container = Container { workload: "inference", gpus: 1, gpu_gib: 4, small: true };
        let work = Replicated {
            keeper: Keeper::Deployment("RollingUpdate"),
            uid: Uid::from("deployment-embed"),
            controller: Uid::from("replica-set-embed"),
            replicas,
            most_replicas: usize::try_from(self.size.replicas).unwrap_or(1),
            template: Template { manifest: written(&container, "embed", "search", 30), start: Millis::from_secs(15), ending },
            of_each_pod: None,
            surges: true,
            honoured: true,
            least_available: None,
            made: 0,
        };
        ("embed".to_owned(), work)
    }

    fn team(&mut self) -> String {
        self.chance.one_of(&["search", "assistants", "research"]).map_or_else(String::new, |team| (*team).to_owned())
    }

    /// How many replicas of it are wanted from now on.
    pub fn replicas(&mut self, work: &Replicated) -> usize {
        let change = self.chance.between(-2, 2);
        let wanted = (i64::try_from(work.replicas).unwrap_or(0) + change).clamp(0, self.size.replicas);
        usize::try_from(wanted).unwrap_or(0).min(work.most_replicas)
    }

    /// One of them.
    pub fn choose<'a, T>(&mut self, options: &'a [T]) -> Option<&'a T> {
        self.chance.one_of(options)
    }

    /// A new Job: half an hour to some hours of work, mostly with a deadline; where GPUs are shared, some ask for a part of one.
    pub fn job(&mut self, now: Timestamp, account: &Account, volumes: &mut Store) -> (String, Job) {
        self.jobs += 1;
        let name = format!("train-{}", self.jobs);
        let work = Millis(self.chance.heavy_tailed(Millis::from_mins(90), Millis::from_mins(150)).0.clamp(600_000, 12 * 3_600_000));
        let slack = self.chance.between(1_300, 3_000);
        let deadline = self.chance.happens(700).then(|| Millis(work.0 * slack / 1_000 + Millis::from_mins(20).0));
        let ending = self.chance.span(Millis::from_secs(5), Millis::from_secs(60));
        let gpu_gib = if self.chance.happens(500) { 14 } else { 22 };
        let small = account.shares() && self.of_parts.happens(300);
        let container = Container { workload: "batch", gpus: 1, gpu_gib: if small { 5 } else { gpu_gib }, small };
        let mut template = Template { manifest: written(&container, "train", &self.team(), 120), start: Millis::from_secs(40), ending };
        template.annotate("expected-runtime", seconds(work));
        template.annotate("checkpoint-grace", seconds(ending + Millis::from_secs(5)));
        if let Some(deadline) = deadline {
            template.annotate("deadline", seconds(deadline));
        }
        self.constraints.of_job(&name, &mut template, account, volumes);
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
        (name, job)
    }

    /// A bare pod: somebody's notebook, for one to four hours.
    pub fn notebook(&mut self, account: &Account, volumes: &mut Store) -> (String, Template, Millis) {
        self.notebooks += 1;
        let name = format!("notebook-{}", self.notebooks);
        let work = self.of_notebooks.span(Millis::from_hours(1), Millis::from_hours(4));
        let ending = self.of_notebooks.span(Millis::from_secs(1), Millis::from_secs(20));
        let container = Container { workload: "inference", gpus: 1, gpu_gib: 14, small: false };
        let mut template = Template { manifest: written(&container, "notebook", "research", 30), start: Millis::from_secs(20), ending };
        self.constraints.of_job(&name, &mut template, account, volumes);
        (name, template, work)
    }
}

/// The template of a pod with one container.
fn written(container: &Container, app: &str, team: &str, grace_seconds: i64) -> Value {
    let Container { workload, gpus, gpu_gib, small } = container;
    let (cpu, memory) = if *small { (900, 3 * 1_024) } else { (2_500 * gpus, 10 * 1_024 * gpus) };
    let resources = json!({
        "limits": { "nvidia.com/gpu": gpus.to_string() },
        "requests": { "cpu": format!("{cpu}m"), "memory": format!("{memory}Mi") },
    });
    json!({
        "metadata": {
            "labels": { "app": app, "team": team },
            "annotations": { "lowtide.dev/workload": workload, "lowtide.dev/gpu-memory": format!("{gpu_gib}Gi") },
        },
        "spec": {
            "containers": [{ "name": "main", "resources": resources }],
            "terminationGracePeriodSeconds": grace_seconds,
        },
    })
}

/// As in an annotation, in whole seconds.
fn seconds(span: Millis) -> String {
    format!("{}s", (span.0 + 999) / 1_000)
}
