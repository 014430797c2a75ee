//! `lowtide place` and the operator agree: for any pods, pool, classes and market, both buy the same machines for the same pods and refuse
//! the same ones.
//!
//! What a file cannot express for `place` (DaemonSets, quotas, how classes share GPUs) is given to both. Only deadlines that leave the
//! purchase open are drawn; pods that could still wait, and spares of a service, are only the operator's concern.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::cli::pool_file::filed;
use crate::core::action::{Action, ClusterAction};
use crate::core::fleet::{NodeClass, NodePoolSpec};
use crate::core::market::quota::{QuotaFamily, VcpuQuota, vcpus_left};
use crate::core::market::{Capacity, Offer, PriceSource};
use crate::core::plan::plan;
use crate::core::plan::tests::toy::{Toy, deployment, job};
use crate::core::units::ids::{ClassName, ObjectRef, Region, Uid, ZoneId};
use crate::core::units::time::Timestamp;
use crate::core::units::{Mebibytes, Millicores, Resources};
use crate::core::workload::Workload;
use crate::core::workload::daemonsets::{self, DaemonSet};
use crate::core::workload::need::{Toleration, WorkloadKind};
use crate::core::workload::sharing::{GpuSharing, Sharing};

const PLACES: [(&str, &str); 5] = [
    ("us-east-1", "use1-az1"),
    ("us-east-1", "use1-az4"),
    ("us-west-2", "usw2-az1"),
    ("eu-south-2", "eus2-az1"),
    ("eu-south-2", "eus2-az3"),
];
const TYPES: [&str; 6] = ["g4dn.xlarge", "g5.xlarge", "g6.xlarge", "g6.2xlarge", "g6.12xlarge", "g5.12xlarge"];
const KINDS: [CapacityType; 2] = [CapacityType::Spot, CapacityType::OnDemand];

/// What is drawn, in its owners' notation.
#[derive(Debug, Clone)]
struct Drawn {
    workloads: Vec<ManifestWorkload>,
    pool: NodePoolSpec,
    market: Market,
    sharing: Vec<GpuSharing>,
    daemonset: Option<Resources>,
    quotas: Vec<(usize, i64)>,
}

fn workload(index: usize) -> impl Strategy<Value = ManifestWorkload> {
    let text = |options: &'static [&'static str]| prop::sample::select(options);
    let sizes = (1_i64..6, 1_i64..3, text(&["", "4Gi", "20Gi", "40Gi"]), text(&["500m", "2", "6"]), text(&["2Gi", "8Gi", "40Gi"]));
    let asks = (
        text(&["", "spot-first", "spot-only", "on-demand"]),
        text(&["", "", "0.30", "0.80"]),
        text(&["", "", "us-*"]),
        text(&["", "", "50%"]),
        text(&["", "", "", "g"]),
    );
    (any::<bool>(), sizes, asks, any::<bool>(), any::<bool>()).prop_map(
        move |(is_job, (replicas, gpus, gpu_memory, cpu, memory), (capacity, cap, regions, share, gang), spread, deadline)| {
            let kind = if is_job { "batch" } else { "inference" };
            let deadline = if is_job && deadline { "2026-09-20T00:00:00Z" } else { "" };
            let written = [
                ("workload", kind),
                ("gpu-memory", gpu_memory),
                ("capacity", capacity),
                ("max-price-per-gpu-hour", cap),
                ("regions", regions),
                ("max-pool-share", share),
                ("gang", gang),
                ("deadline", deadline),
            ];
            let annotations: BTreeMap<String, &str> =
                written.into_iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| (format!("lowtide.dev/{k}"), v)).collect();
            let spread = if spread {
                json!([{ "maxSkew": 1, "topologyKey": "topology.k8s.aws/zone-id", "whenUnsatisfiable": "DoNotSchedule",
                         "labelSelector": { "matchLabels": { "app": format!("w{index}") } } }])
            } else {
                json!([])
            };
            let pod = json!({
                "metadata": { "labels": { "app": format!("w{index}") }, "annotations": annotations },
                "spec": { "topologySpreadConstraints": spread, "containers": [{ "name": "c", "resources": {
                    "requests": { "cpu": cpu, "memory": memory }, "limits": { "nvidia.com/gpu": gpus } } }] },
            });
            ManifestWorkload {
                kind: if is_job { "Job" } else { "Deployment" }.to_owned(),
                namespace: "default".to_owned(),
                name: format!("w{index}"),
                part: String::new(),
                strategy: "RollingUpdate".to_owned(),
                replicas,
                pod: serde_json::from_value(pod).unwrap(),
            }
        },
    )
}

fn offers() -> impl Strategy<Value = Market> {
    vec(prop::option::weighted(0.6, 50_000_i64..1_500_000), PLACES.len() * TYPES.len() * KINDS.len()).prop_map(|prices| {
        let mut market = Market::default();
        let kinds = PLACES.iter().flat_map(|place| TYPES.iter().flat_map(move |t| KINDS.iter().map(move |kind| (place, t, kind))));
        for (((region, zone), instance_type, capacity_type), price) in kinds.zip(prices) {
            let Some(price) = price else { continue };
            let capacity = Capacity {
                region: (*region).into(),
                zone: (*zone).into(),
                instance_type: (*instance_type).into(),
                capacity_type: *capacity_type,
            };
            let offer = Offer {
                capacity: capacity.clone(),
                price_per_hour: MicroUsdPerHour(price),
                observed_at: SNAPSHOT_DATE,
                source: PriceSource::File,
                interruptions_per_million_hours: 0,
            };
            market.offers.insert(capacity, offer);
        }
        market
    })
}

fn pool() -> impl Strategy<Value = NodePoolSpec> {
    let either = |value: Value| prop::option::weighted(0.3, Just(value));
    let capacity = prop::sample::select(vec![json!(["spot", "on-demand"]), json!(["spot"]), json!(["on-demand"])]);
    let fields = (
        either(json!(["l4"])),
        either(json!(["us-*"])),
        either(json!("0.90")),
        prop::option::weighted(0.4, 50_i64..2_000),
        prop::option::weighted(0.4, 1_i64..8),
        prop::option::weighted(0.3, 1_i64..12),
        either(json!(50)),
    );
    (capacity, any::<bool>(), fields).prop_map(|(capacity, on_demand, (models, regions, cap, budget, nodes, gpus, share))| {
        let mut spec = json!({
            "namespaceSelector": {}, "nodeClasses": ["class-us-east-1", "class-us-west-2", "class-eu-south-2"], "homeRegion": "us-east-1",
            "capacityTypes": capacity, "fallback": { "onDemand": on_demand }, "limits": { "nodes": nodes, "gpus": gpus },
            "monthlyBudgetUsd": budget.map(|dollars| dollars.to_string()),
        });
        let given = [("gpuModels", models), ("regions", regions), ("maxPricePerGpuHour", cap), ("maxPoolSharePercent", share)];
        for (key, value) in given.into_iter().filter_map(|(key, value)| Some((key, value?))) {
            spec[key] = value;
        }
        serde_json::from_value(spec).unwrap()
    })
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let workloads =
        (workload(0), workload(1), workload(2), 1_usize..4).prop_map(|(a, b, c, n)| vec![a, b, c].into_iter().take(n).collect());
    let sharing = prop::sample::select(vec![
        GpuSharing::default(),
        GpuSharing { sharing: Sharing::TimeSlicing { replicas: 2 }, context_reserve: Mebibytes(500) },
        GpuSharing { sharing: Sharing::Mps { replicas: 4 }, context_reserve: Mebibytes(500) },
    ]);
    let daemonset = prop::option::of(Just(Resources { cpu: Millicores(300), memory: Mebibytes(700), ..Resources::default() }));
    let quotas = vec((0..PLACES.len(), 0_i64..64), 0..3);
    (workloads, pool(), offers(), vec(sharing, 3), daemonset, quotas)
        .prop_map(|(workloads, pool, market, sharing, daemonset, quotas)| Drawn { workloads, pool, market, sharing, daemonset, quotas })
}

/// Machines with the pods they are bought for, and the pods that get none.
type Purchase = (BTreeMap<(Capacity, BTreeSet<String>), usize>, BTreeSet<String>);

impl Drawn {
    fn regions(&self) -> Vec<Region> {
        ["us-east-1", "us-west-2", "eu-south-2"].map(Region::from).to_vec()
    }

    fn classes(&self) -> Vec<NodeClass> {
        let class = |(region, sharing): (Region, &GpuSharing)| {
            let name = ClassName::from(format!("class-{region}"));
            let here = PLACES.iter().filter(|(r, _)| *r == region.as_str());
            NodeClass {
                zones: here.map(|(_, zone)| (ZoneId::from(*zone), format!("subnet-{zone}"))).collect(),
                launch_template: Some((format!("lowtide-{region}"), "1".to_owned())),
                subnets: Vec::new(),
                problem: None,
                interruption_queue: None,
                tags: BTreeMap::new(),
                sharing: *sharing,
                reservations: Vec::new(),
                node_labels: BTreeMap::new(),
                zone_names: PLACES.iter().map(|(_, zone)| (ZoneId::from(*zone), format!("{zone}-name"))).collect(),
                taints: Vec::new(),
                root_volume: None,
                reserve: Default::default(),
                images: Default::default(),
                startup_taints: Vec::new(),
                region,
                name,
            }
        };
        self.regions().into_iter().zip(&self.sharing).map(class).collect()
    }

    fn daemonsets(&self) -> Vec<DaemonSet> {
        let everywhere = Toleration { operator: Some("Exists".to_owned()), ..Toleration::default() };
        let set = |requests| DaemonSet {
            name: "kube-system/agent".into(),
            requests,
            node_selector: BTreeMap::new(),
            affinity: Vec::new(),
            tolerations: vec![everywhere.clone()],
        };
        self.daemonset.map(set).into_iter().collect()
    }

    fn quotas(&self) -> BTreeMap<Region, Vec<VcpuQuota>> {
        let mut by_region: BTreeMap<Region, Vec<VcpuQuota>> = BTreeMap::new();
        for (place, vcpus) in &self.quotas {
            let quota = VcpuQuota { family: QuotaFamily::GAndVt, capacity_type: CapacityType::Spot, vcpus: *vcpus };
            by_region.insert(PLACES[*place].0.into(), vec![quota]);
        }
        by_region
    }

    /// What `lowtide place` answers.
    fn by_place(&self) -> Purchase {
        let catalog = Catalog::snapshot();
        let zones = self.market.offers.keys().map(|p| p.zone.clone()).collect();
        let mut pool = filed(&self.pool.pool("gpu", BTreeSet::new()), zones);
        for class in self.classes() {
            let terms = pool.policy.nodes.iter_mut().filter(|(zone, _)| class.zones.contains_key(*zone)).map(|(_, terms)| terms);
            for terms in terms {
                terms.sharing = class.sharing;
                terms.daemonsets = daemonsets::overhead(&self.daemonsets(), &class.node_labels, &class.taints);
            }
        }
        let settings = PlacementSettings { quota_vcpus_left: vcpus_left(&self.quotas(), []), ..settings() };
        let manifests = Manifests { workloads: self.workloads.clone(), ..Manifests::default() };
        let asked = asked(&manifests, &vocabulary(&catalog, &self.market), pool.max_share_per_mille);
        assert!(asked.faulty.is_empty(), "what is drawn can be read");
        let (placement, _) = spread((&catalog, &self.market), &pool, &asked, &settings);
        let demands = asked.demands;
        let mut machines = BTreeMap::new();
        for machine in &placement.machines {
            let pods: BTreeSet<String> = machine.demands.iter().map(|at| demands[*at].key.to_string()).collect();
            *machines.entry((machine.capacity.clone(), pods)).or_insert(0) += 1;
        }
        (machines, placement.unplaced.iter().map(|u| u.key.to_string()).collect())
    }

    /// What one pass of the operator buys in an empty cluster.
    fn by_operator(&self) -> Purchase {
        let mut toy = Toy::new();
        // Because the file's answer is for a whole month.
        toy.now = Timestamp::from_date(2026, 8, 1);
        toy.world.market = self.market.clone().into();
        toy.world.classes = self.classes().into_iter().map(|class| (class.name.clone(), class)).collect::<BTreeMap<_, _>>().into();
        let pool = self.pool.pool("gpu", BTreeSet::from(["default".to_owned()]));
        toy.world.pools = BTreeMap::from([(pool.name.clone(), pool)]).into();
        toy.world.daemonsets = self.daemonsets().into();
        toy.world.quotas = self.quotas().into();
        let words = vocabulary(&Catalog::snapshot(), &self.market);
        for workload in &self.workloads {
            for replica in 0..workload.replicas {
                let uid = Uid::from(format!("{}/{}-{}-{replica:06}", workload.namespace, workload.name, workload.kind));
                let is_job = workload.kind == "Job";
                let drawn = toy
                    .add_pod(if is_job { job() } else { deployment() }, if is_job { WorkloadKind::Batch } else { WorkloadKind::Inference });
                let mut pod = toy.world.pods.remove(&drawn).unwrap();
                pod.identity.uid = uid.clone();
                let object = ObjectRef { namespace: workload.namespace.clone(), name: workload.name.clone() };
                pod.workload = Workload { kind: workload.kind.clone(), object }.into();
                let (need, schedule) = parse_with(&workload.pod, &words).unwrap();
                pod.need = Ok((need.into(), schedule.into()));
                pod.rules = PodRules::read(&workload.pod, &Default::default()).0;
                toy.world.pods.insert(uid, pod);
            }
        }
        let mut bought = BTreeMap::new();
        let mut pods: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
        let mut unplaced: BTreeSet<String> = toy.world.pods.keys().map(ToString::to_string).collect();
        for action in plan(&toy.settings, &toy.world, toy.now).steps.into_iter().flat_map(|step| step.actions) {
            match action {
                Action::Cluster(ClusterAction::CreateClaim { name, spec }) => drop(bought.insert(name, spec.capacity)),
                Action::Cluster(ClusterAction::Bind { target, claim, .. }) => {
                    unplaced.remove(target.pod.uid.as_str());
                    pods.entry(claim).or_default().insert(target.pod.uid.to_string());
                }
                _ => {}
            }
        }
        let mut machines = BTreeMap::new();
        for (claim, capacity) in bought {
            *machines.entry((capacity, pods.remove(&claim).unwrap_or_default())).or_insert(0) += 1;
        }
        (machines, unplaced)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn place_and_the_operator_buy_the_same(drawn in drawn()) {
        prop_assert_eq!(drawn.by_place(), drawn.by_operator());
    }
}

/// A case that the property found, or would have, as a file: a pool that does not fall back.
#[test]
fn a_pool_that_does_not_fall_back_means_the_same_to_both() {
    let only_on_demand = |capacity: &str| {
        let pod = json!({
            "metadata": { "annotations": { "lowtide.dev/workload": "inference", "lowtide.dev/capacity": capacity } },
            "spec": { "containers": [{ "name": "c", "resources": { "requests": { "cpu": "1", "memory": "2Gi" }, "limits": { "nvidia.com/gpu": 1 } } }] },
        });
        let at = Capacity {
            region: "us-east-1".into(),
            zone: "use1-az1".into(),
            instance_type: "g6.xlarge".into(),
            capacity_type: CapacityType::OnDemand,
        };
        let offer = Offer {
            capacity: at.clone(),
            price_per_hour: MicroUsdPerHour(804_800),
            observed_at: SNAPSHOT_DATE,
            source: PriceSource::File,
            interruptions_per_million_hours: 0,
        };
        let spec = json!({
            "namespaceSelector": {}, "nodeClasses": ["class-us-east-1"], "homeRegion": "us-east-1", "fallback": { "onDemand": false },
        });
        let (kind, namespace, name) = ("Deployment".to_owned(), "default".to_owned(), "web".to_owned());
        let drawn = Drawn {
            workloads: vec![ManifestWorkload {
                kind,
                namespace,
                name,
                part: String::new(),
                strategy: "RollingUpdate".to_owned(),
                replicas: 1,
                pod: serde_json::from_value(pod).unwrap(),
            }],
            pool: serde_json::from_value(spec).unwrap(),
            market: Market { offers: BTreeMap::from([(at, offer)]), ..Market::default() },
            sharing: vec![GpuSharing::default(); 3],
            daemonset: None,
            quotas: Vec::new(),
        };
        [drawn.by_place().0.len(), drawn.by_operator().0.len()]
    };
    assert_eq!((only_on_demand("spot-first"), only_on_demand("on-demand")), ([0, 0], [1, 1]));
}
