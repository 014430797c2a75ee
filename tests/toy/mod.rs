//! A world of a few lines that does what actions say, at once, so that many passes can be looked at in a test or timed by a benchmark.
//!
//! The core's own tests and `benches/pass.rs` include this file: one toy world for all.
#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod carrying_out;

use std::collections::{BTreeMap, BTreeSet};

use lowtide::core::action::{Action, ClusterAction, Plan, RemovalReason};
use lowtide::core::fleet::*;
use lowtide::core::market::catalog::Catalog;
use lowtide::core::market::{Capacity, CapacityType, CoolDownCause, Offer, PriceSource};
use lowtide::core::plan::{Notes, Settings, plan, plan_asking_about_each, plan_with};
use lowtide::core::record::{Decision, LedgerRecord};
use lowtide::core::snapshot::memory::Sighting;
use lowtide::core::snapshot::*;
use lowtide::core::units::ids::{ClassName, InstanceId, NodeName, ObjectRef, PoolName, Region, Uid, ZoneId};
use lowtide::core::units::time::{Millis, Timestamp};
use lowtide::core::units::{Mebibytes, Millicores, Resources};
use lowtide::core::workload::alike_pods::AlikePods;
use lowtide::core::workload::need::{CapacityPreference, Need, Schedule, WorkloadKind};
use lowtide::core::workload::*;

/// The world, its time, and everything that was recorded or done.
pub struct Toy {
    pub world: Snapshot,
    pub now: Timestamp,
    pub settings: Settings,
    pub ledger: Vec<LedgerRecord>,
    pub events: Vec<(&'static str, String)>,
    pub removals: Vec<(String, RemovalReason)>,
    /// Pools of capacity that have nothing to give.
    pub dry: BTreeSet<Capacity>,
    /// Machines from these never join.
    pub duds: BTreeSet<Capacity>,
    /// Nodes that somebody deleted: their kubelets do not register again.
    pub lost_nodes: BTreeSet<NodeName>,
    /// What the next pods need of a GPU, of CPU and of memory.
    pub gpu_memory: Mebibytes,
    pub cpu: Millicores,
    pub memory: Mebibytes,
    /// Classes that were prepared in EC2.
    pub prepared: BTreeSet<ClassName>,
    /// A quota or a policy keeps every pod from being made.
    pub admits_nothing: bool,
    /// How often that was the answer.
    pub refusals: usize,
    /// Machines that the breaker kept in the last pass.
    pub held_ends: u64,
    /// What the last pass noted of the world.
    pub notes: Notes,
    next: u64,
    /// What pods share, as the reader of real pods lets them.
    alike: AlikePods,
    pub starts: BTreeMap<Uid, Timestamp>,
    /// The instance that each claim's token stands for.
    launched: BTreeMap<Uid, InstanceId>,
}

pub const SPOT_A: (&str, &str, i64) = ("eu-south-2", "eus2-az3", 91_300);
pub const SPOT_B: (&str, &str, i64) = ("us-east-1", "use1-az4", 349_000);
pub const ON_DEMAND: i64 = 804_800;
/// How long a machine takes to join, and a pod to be Ready.
pub const BOOT: Millis = Millis(40_000);
pub const START: Millis = Millis(30_000);

pub fn capacity(region: &str, zone: &str, capacity_type: CapacityType) -> Capacity {
    Capacity { region: region.into(), zone: zone.into(), instance_type: "g6.xlarge".into(), capacity_type }
}

impl Toy {
    pub fn new() -> Self {
        let mut world = Snapshot {
            cluster: "toy".into(),
            cluster_uid: "toy-uid".into(),
            pools_defined: PoolsDefined::By("toy-definition".into()),
            ledger_available: true,
            market_surveyed: true,
            catalog: Catalog::snapshot().into(),
            ..Snapshot::default()
        };
        for (region, zone, price) in [SPOT_A, SPOT_B] {
            let class = ClassName::from(format!("class-{region}"));
            let template = (format!("lowtide-{region}"), "1".to_owned());
            world.classes.insert(
                class.clone(),
                NodeClass {
                    name: class.clone(),
                    region: region.into(),
                    subnets: vec![format!("subnet-{zone}")],
                    zones: BTreeMap::from([(ZoneId::from(zone), format!("subnet-{zone}"))]),
                    problem: None,
                    interruption_queue: Some("q".into()),
                    launch_template: Some(template.clone()),
                    tags: BTreeMap::new(),
                    sharing: Default::default(),
                    reservations: Vec::new(),
                    node_labels: BTreeMap::new(),
                    zone_names: BTreeMap::from([(ZoneId::from(zone), format!("{region}a"))]),
                    taints: Vec::new(),
                    root_volume: None,
                    reserve: Default::default(),
                    images: Default::default(),
                    startup_taints: Vec::new(),
                },
            );
            world.templates.insert(class.clone(), template_of(&class, region, &template.0));
            for (capacity_type, price) in [(CapacityType::Spot, price), (CapacityType::OnDemand, ON_DEMAND)] {
                let pool = capacity(region, zone, capacity_type);
                let price_per_hour = lowtide::core::units::money::MicroUsdPerHour(price);
                let source = PriceSource::SpotPriceHistory;
                let (observed_at, interruptions_per_million_hours) = (Timestamp(0), 0);
                let offer = Offer { capacity: pool, price_per_hour, observed_at, source, interruptions_per_million_hours };
                world.market.offers.insert(offer.capacity.clone(), offer);
            }
            world.instances.insert(Region::from(region), Observed::Known { at: Timestamp(0), value: BTreeMap::new().into() });
        }
        let pool = pool(world.classes.keys().cloned().collect());
        world.pools.insert(pool.name.clone(), pool);
        Toy {
            world,
            now: Timestamp(1_000_000_000),
            settings: Settings::default(),
            ledger: Vec::new(),
            events: Vec::new(),
            removals: Vec::new(),
            dry: BTreeSet::new(),
            duds: BTreeSet::new(),
            lost_nodes: BTreeSet::new(),
            gpu_memory: Mebibytes(20 * 1024),
            cpu: Millicores(2_000),
            memory: Mebibytes(8 * 1024),
            prepared: BTreeSet::new(),
            admits_nothing: false,
            refusals: 0,
            held_ends: 0,
            notes: Notes::default(),
            next: 0,
            alike: AlikePods::default(),
            starts: BTreeMap::new(),
            launched: BTreeMap::new(),
        }
    }

    fn need(&self, kind: WorkloadKind) -> Need {
        Need {
            kind,
            gpus: 1,
            gpu_memory: self.gpu_memory,
            gpu_models: Vec::new(),
            instance_types: Vec::new(),
            cpu: self.cpu,
            memory: self.memory,
            architecture: None,
            regions: Vec::new(),
            zones: Vec::new(),
            node_terms: Vec::new(),
            disk: Mebibytes(0),
            volumes: 0,
            capacity: CapacityPreference::SpotFirst,
            max_price_per_gpu_hour: None,
            data_gib: 0,
            data_region: None,
        }
    }

    pub fn add_pod(&mut self, mobility: Mobility, kind: WorkloadKind) -> Uid {
        self.next += 1;
        let uid = Uid::from(format!("pod-{:03}", self.next));
        let name = uid.as_str().to_owned();
        let workload = match &mobility {
            Mobility::Surge { deployment, .. } => ("Deployment", deployment.clone()),
            Mobility::Job { job, .. } => ("Job", job.clone()),
            _ => ("Pod", name.clone()),
        };
        let (need, schedule) = (self.need(kind), Schedule { checkpoint_grace: Some(Millis::from_secs(20)), ..Schedule::default() });
        let object = |name: String| ObjectRef { namespace: "default".into(), name };
        let mut pod = Pod {
            identity: PodIdentity { object: object(name).into(), uid: uid.clone() },
            resource_version: "1".into(),
            created_at: self.now,
            workload: Workload { kind: workload.0.into(), object: object(workload.1) }.into(),
            mobility: mobility.into(),
            need: Ok((need.into(), schedule.into())),
            rules: Default::default(),
            attribution: Default::default(),
            phase: PodPhase::Gated,
            started_at: None,
            ready_since: None,
            stuck: None,
            deleting_until: None,
            termination_grace: Millis::from_secs(30),
            claim: None,
            placed_by: None,
            baseline: Default::default(),
            attempt: 0,
            node: None,
            replaces: None,
            let_go: None,
            services: BTreeSet::from(["web".to_owned()]).into(),
            ready_in: Default::default(),
        };
        self.alike.share(&mut pod);
        self.world.pods.insert(uid.clone(), pod);
        uid
    }

    /// Passes and their effects, a second at a time.
    pub fn run(&mut self, seconds: i64) {
        for _ in 0..seconds {
            self.now = self.now + Millis::from_secs(1);
            self.live();
            self.look();
            let decided = plan(&self.settings, &self.world, self.now);
            let asked = plan_asking_about_each(&self.settings, &self.world, self.now);
            assert_eq!(decided, asked, "the same inputs gave two plans, or a machine at rest had something to say");
            let noted = plan_with(&mut self.notes, &self.settings, &self.world, self.now);
            assert_eq!(decided, noted, "what the last pass noted no longer held");
            self.still_holds(&decided);
            if decided.unasked_ends > 0 {
                self.world.memory.unasked_ends.extend((0..decided.unasked_ends).map(|_| self.now));
            }
            self.held_ends = decided.held_ends;
            self.take(decided);
            let faults = lowtide::core::invariant::check(&self.world);
            assert_eq!(faults, Vec::new());
        }
    }

    /// Records and carries out everything that was decided.
    pub fn take(&mut self, decided: Plan) {
        if decided.considered_moves {
            self.world.moves_considered_at = Some(self.now);
        }
        for step in decided.steps {
            self.world.recent_refusals.note(&step.records, self.now);
            for record in &step.records {
                self.world.recorded.insert(record.id(), self.now);
                match record {
                    LedgerRecord::IntervalOpened(opened) => self.world.reported.of(&opened.claim_uid).opened = true,
                    LedgerRecord::Interruption(seen) => self.world.memory.record(&seen.capacity, Sighting::Interrupted, self.now),
                    LedgerRecord::HourPriced(priced) => self.world.reported.of(&priced.claim_uid).hours = priced.hour + 1,
                    _ => {}
                }
                self.ledger.push(record.clone());
            }
            for action in step.actions {
                if let (true, Action::Cluster(ClusterAction::Rehearse { pod, .. })) = (self.admits_nothing, &action) {
                    let times = self.world.refused_replacements.get(&pod.uid).map_or(0, |before| before.times) + 1;
                    let again_at = self.now + Millis::from_secs(5 << times.min(6));
                    let refused = RefusedReplacement { asked_at: self.now, again_at, times };
                    self.world.refused_replacements.insert(pod.uid.clone(), refused);
                    self.refusals += 1;
                    break;
                }
                self.carry_out(action);
            }
        }
    }

    /// Another operator leads, or this one starts again: what was seen is forgotten; how many were ended is in what was kept.
    pub fn another_leads(&mut self) {
        let world = &mut self.world;
        (world.unclaimed_since, world.first_sights) = Default::default();
    }

    /// Since when machines have had no claim, what was first seen when, and what pods were bound by, as the engine keeps it.
    pub fn look(&mut self) {
        let (world, now) = (&mut self.world, self.now);
        let before = world.unclaimed_since.clone();
        let seen = seen(&world.instances);
        let after = unclaimed_since(&world.cluster_uid, &world.claims, &world.unreadable_claims, seen, &before, now);
        world.unclaimed_since = after.into();
        if let Some(after) = world.first_sights.after_look(&world.claims, &world.pods, now) {
            world.first_sights = after.into();
        }
        if let Some(after) = world.memory.bindings.after_look(&world.pods, &world.claims) {
            world.memory.bindings = after;
        }
    }

    /// As long as a plan says that it holds, the same world gives it again.
    fn still_holds(&self, decided: &Plan) {
        if decided.holds_until <= self.now {
            return;
        }
        let last = decided.holds_until - Millis(1);
        for at in [Timestamp(self.now.0 + (last.0 - self.now.0) / 2), last] {
            let later = plan(&self.settings, &self.world, at);
            assert_eq!(
                (&later.steps, later.wake_at, &later.notes),
                (&decided.steps, decided.wake_at, &decided.notes),
                "from {} to {at}",
                self.now
            );
        }
    }

    /// Machines boot, nodes join, pods start and end.
    pub fn live(&mut self) {
        let mut wanted = BTreeMap::new();
        for pod in self.world.pods.values().filter(|p| p.let_go.is_none()) {
            if let Mobility::Surge { deployment_uid, .. } = &*pod.mobility {
                *wanted.entry(deployment_uid.clone()).or_insert(0) += 1;
            }
        }
        // Toy Deployments want what they have.
        wanted.entry(Uid::from("dep-1")).or_insert(0);
        self.world.replicas_wanted = wanted.into();
        for observed in self.world.instances.values_mut() {
            if let Observed::Known { at, .. } = observed {
                *at = self.now;
            }
        }
        let (now, market) = (self.now, &mut *self.world.market);
        for (pool, offer) in &mut market.offers {
            offer.observed_at = now;
            market.past_prices.entry(pool.clone()).or_default().learn([(now, offer.price_per_hour)], now + Millis(1));
        }
        let instances: Vec<Instance> = self.all_instances();
        let units: BTreeMap<String, i64> =
            self.world.claims.values().map(|c| (c.uid.as_str().to_owned(), c.spec.gpu_units(&self.world.catalog))).collect();
        for instance in instances.iter().filter(|i| i.state == InstanceState::Running && !self.duds.contains(&i.capacity)) {
            let name = NodeName::from(format!("node-{}", instance.id));
            if self.now >= instance.launched_at + BOOT && !self.world.nodes.contains_key(&name) && !self.lost_nodes.contains(&name) {
                let machine = &self.world.catalog.types[&instance.capacity.instance_type];
                let units = instance.tags.get(tags::CLAIM_UID).and_then(|uid| units.get(uid)).copied().unwrap_or(machine.gpus);
                let allocatable = Resources { gpus: units, ..machine.allocatable() };
                let (ready, labelled, tainted, guarded) = (true, false, false, false);
                let (instance, addresses) = (instance.id.clone(), Vec::new());
                let node = Node {
                    name: name.clone(),
                    instance,
                    addresses,
                    ready,
                    allocatable,
                    labelled,
                    tainted,
                    guarded,
                    state: Default::default(),
                };
                self.world.nodes.insert(name, node);
            }
        }
        let (now, starts) = (self.now, &mut self.starts);
        for pod in self.world.pods.values_mut() {
            match pod.phase {
                PodPhase::Pending if now >= *starts.entry(pod.identity.uid.clone()).or_insert(now) + START => {
                    (pod.phase, pod.ready_since, pod.started_at) = (PodPhase::Running, Some(now), Some(now));
                    pod.ready_in = pod.services.clone();
                }
                _ => {}
            }
        }
        self.world.pods.retain(|_, pod| pod.deleting_until.is_none_or(|until| now < until));
    }

    pub fn all_instances(&self) -> Vec<Instance> {
        let known = self.world.instances.values().filter_map(|o| if let Observed::Known { value, .. } = o { Some(value) } else { None });
        known.flat_map(|v| v.values().cloned()).collect()
    }

    pub fn running(&self) -> Vec<Capacity> {
        self.all_instances().into_iter().filter(|i| i.state == InstanceState::Running).map(|i| i.capacity).collect()
    }

    pub fn decisions(&self) -> Vec<&Decision> {
        self.ledger.iter().filter_map(|r| if let LedgerRecord::Decision(d) = r { Some(&**d) } else { None }).collect()
    }

    fn instance_mut(&mut self, id: &InstanceId) -> &mut Instance {
        let known =
            self.world.instances.values_mut().filter_map(|o| if let Observed::Known { value, .. } = o { Some(value) } else { None });
        known.flat_map(|v| v.values_mut()).find(|i| i.id == *id).expect("an instance of this id")
    }

    pub fn end_instance(&mut self, id: &InstanceId, reason: &str) {
        let now = self.now;
        let instance = self.instance_mut(id);
        (instance.state, instance.ended_at, instance.state_reason) = (InstanceState::Terminated, Some(now), Some(reason.to_owned()));
    }

    pub fn notify(&mut self, id: &InstanceId, kind: NoticeKind) {
        let region = self.instance_mut(id).capacity.region.clone();
        let notice = Notice { instance: id.clone(), also: Vec::new(), region, kind, sent_at: self.now };
        self.next += 1;
        let pending = PendingNotice { notice, received_at: self.now, queue: Some("q".into()), receipt: format!("r{}", self.next) };
        self.world.notices.push(pending);
    }
}

pub fn template_of(class: &ClassName, region: &str, name: &str) -> LaunchTemplate {
    LaunchTemplate {
        region: region.into(),
        class: class.clone(),
        name: name.to_owned(),
        image: Some("ami-1".into()),
        security_groups: Vec::new(),
        instance_profile: None,
        settings: Default::default(),
        user_data: String::new(),
        client_token: "t".into(),
    }
}

pub fn pool(classes: Vec<ClassName>) -> NodePool {
    NodePool {
        name: PoolName::from("gpu"),
        deleting: false,
        namespaces: BTreeSet::from(["default".to_owned()]),
        gpu_models: Vec::new(),
        instance_types: Vec::new(),
        regions: Vec::new(),
        classes,
        capacity_types: BTreeSet::from([CapacityType::Spot, CapacityType::OnDemand]),
        fallback_on_demand: true,
        max_price_per_gpu_hour: None,
        monthly_budget: None,
        max_gpus: None,
        max_nodes: None,
        launches_per_minute: None,
        max_share_per_mille: None,
        spread_most_extra_per_mille: 100,
        home_region: Region::from("us-east-1"),
        return_min_saving_per_mille: 150,
        return_min_dwell: Millis::from_mins(2),
        empty_grace: Millis::from_secs(30),
        unhealthy_after: Millis::from_mins(3),
        join_timeout: Millis::from_mins(3),
        expire_after: None,
        cool_down_base: Millis::from_mins(3),
        cool_down_max: Millis::from_hours(1),
        quiet_hours: None,
        disruption: Default::default(),
        ends_allowed_until: None,
    }
}

pub fn deployment() -> Mobility {
    Mobility::Surge { replica_set: "rs-1".into(), deployment: "web".into(), deployment_uid: "dep-1".into() }
}

pub fn job() -> Mobility {
    Mobility::Job { job: "train".into(), job_uid: "job-1".into() }
}
