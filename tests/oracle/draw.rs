//! Cases: a market, node classes, volumes and workloads with every constraint that lowtide honours, drawn from a seed.
//!
//! Names are the case's own (`k17w0`), so that rules of one case never reach another's pods in the same cluster.

mod rules;
mod volumes;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use lowtide::core::market::catalog::Catalog;
use lowtide::core::market::{Capacity, CapacityType, Market, Offer, PriceSource};
use lowtide::core::units::Mebibytes;
use lowtide::core::units::ids::{InstanceType, ZoneId};
use lowtide::core::units::money::MicroUsdPerHour;
use lowtide::core::units::time::Timestamp;
use lowtide::core::workload::sharing::{GpuSharing, Sharing};
use lowtide::sim::chance::Chance;
use serde_json::{Value, json};

/// Zones: region, id, the letter that the drawn account has for it.
pub const PLACES: [(&str, &str); 6] = [
    ("us-east-1", "use1-az1"),
    ("us-east-1", "use1-az4"),
    ("us-east-1", "use1-az6"),
    ("us-west-2", "usw2-az1"),
    ("us-west-2", "usw2-az2"),
    ("eu-south-2", "eus2-az1"),
];
pub const TYPES: [&str; 12] = [
    "g4dn.xlarge",
    "g4dn.12xlarge",
    "g5.xlarge",
    "g5.2xlarge",
    "g6.xlarge",
    "g6.4xlarge",
    "g6.12xlarge",
    "g5g.xlarge",
    "g6f.large",
    "p3.2xlarge",
    "p4d.24xlarge",
    "g6e.12xlarge",
];
/// The shipped catalogue, read once.
pub static CATALOG: LazyLock<Catalog> = LazyLock::new(Catalog::snapshot);
const KINDS: [CapacityType; 2] = [CapacityType::Spot, CapacityType::OnDemand];

pub const HOSTNAME: &str = "kubernetes.io/hostname";
pub const ZONE: &str = "topology.kubernetes.io/zone";
pub const ZONE_ID: &str = "topology.k8s.aws/zone-id";
pub const EBS_ZONE: &str = "topology.ebs.csi.aws.com/zone";
pub const REGION: &str = "topology.kubernetes.io/region";
pub const CAPACITY: &str = "lowtide.dev/capacity-type";
pub const TYPE: &str = "node.kubernetes.io/instance-type";

/// How a class's nodes come to their labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bootstrap {
    /// Labels of our user data; k3s' own controller may have written over the type.
    K3s,
    /// Labels of AWS's cloud controller.
    Eks,
}

/// A node class of one region.
#[derive(Debug, Clone)]
pub struct Class {
    pub region: &'static str,
    pub bootstrap: Bootstrap,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<(String, String, String)>,
    pub sharing: GpuSharing,
    pub root_volume: Option<i64>,
    /// GPU feature discovery runs on its nodes.
    pub discovery: bool,
}

/// Replicas of one pod template.
#[derive(Debug, Clone)]
pub struct Work {
    pub name: String,
    pub namespace: String,
    pub job: bool,
    /// How many come in the first and in the second wave.
    pub waves: [i64; 2],
    /// The second wave is another revision.
    pub rolls: bool,
    pub pod: Value,
}

/// One case.
#[derive(Debug, Clone)]
pub struct Case {
    pub seed: u64,
    pub classes: Vec<Class>,
    pub zone_names: BTreeMap<ZoneId, String>,
    pub market: Market,
    /// What a DaemonSet requests on every node: millicores and MiB.
    pub daemon: Option<(i64, i64)>,
    pub works: Vec<Work>,
    /// PersistentVolumes, StorageClasses and PersistentVolumeClaims, in the order in which they are made.
    pub volumes: Vec<Value>,
}

impl Case {
    pub fn namespaces(&self) -> [String; 2] {
        [format!("k{}", self.seed), format!("k{}b", self.seed)]
    }
}

/// Draws the parts of a case.
pub struct Draw {
    pub chance: Chance,
    /// Of volumes alone: what else a seed draws stays as it was.
    of_volumes: Chance,
    seed: u64,
    zone_names: BTreeMap<ZoneId, String>,
    volumes: Vec<Value>,
    serial: u32,
}

impl Draw {
    pub fn new(seed: u64) -> Draw {
        let letters = ["a", "b", "c", "d"];
        let name = |(at, (region, zone)): (usize, &(&str, &str))| (ZoneId::from(*zone), format!("{region}{}", letters[(at + 2) % 4]));
        let zone_names = PLACES.iter().enumerate().map(name).collect();
        let of_volumes = Chance::new(seed, "many volumes of the placement oracle");
        Draw { zone_names, chance: Chance::new(seed, "placement oracle"), of_volumes, seed, volumes: Vec::new(), serial: 0 }
    }

    fn happens(&mut self, per_mille: i64) -> bool {
        self.chance.happens(per_mille)
    }
    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        self.chance.one_of(of).unwrap().clone()
    }
    fn some<T: Clone>(&mut self, of: &[T], most: i64) -> Vec<T> {
        let mut left = of.to_vec();
        let many = self.chance.between(1, most);
        let mut chosen = Vec::new();
        while !left.is_empty() && i64::try_from(chosen.len()).unwrap() < many {
            let at = self.chance.below(i64::try_from(left.len()).unwrap());
            chosen.push(left.remove(usize::try_from(at).unwrap()));
        }
        chosen
    }

    pub fn case(mut self) -> Case {
        let classes = self.classes();
        let market = self.market();
        let daemon = self.happens(300).then(|| (self.chance.between(1, 6) * 50, self.chance.between(1, 8) * 64));
        let works = (0..self.chance.between(1, 4)).map(|at| self.work(usize::try_from(at).unwrap())).collect();
        Case { seed: self.seed, classes, zone_names: self.zone_names.clone(), market, daemon, works, volumes: self.volumes }
    }

    /// A pod alone, in a market that sells everything everywhere, on nodes of plain classes. Its owner asks nothing that the scheduler does not
    /// know of.
    pub fn lone(mut self) -> Case {
        let mut classes = Vec::new();
        for region in ["us-east-1", "us-west-2", "eu-south-2"] {
            let labels = if region == "us-east-1" { BTreeMap::from([("tier".to_owned(), "gpu".to_owned())]) } else { BTreeMap::new() };
            let (taints, sharing, root_volume, discovery) = (Vec::new(), GpuSharing::default(), None, false);
            classes.push(Class { region, bootstrap: Bootstrap::K3s, labels, taints, sharing, root_volume, discovery });
        }
        let mut market = Market::default();
        for place in PLACES {
            for instance_type in TYPES {
                KINDS.iter().for_each(|kind| offer(&mut market, place, instance_type, *kind, 300_000));
            }
        }
        let mut work = self.work(0);
        (work.waves, work.rolls) = ([1, 0], false);
        let annotations = work.pod["metadata"]["annotations"].as_object_mut().unwrap();
        annotations.retain(|key, _| key == "lowtide.dev/workload");
        Case {
            seed: self.seed,
            classes,
            zone_names: self.zone_names.clone(),
            market,
            daemon: None,
            works: vec![work],
            volumes: self.volumes,
        }
    }

    fn classes(&mut self) -> Vec<Class> {
        let mut classes = Vec::new();
        for region in ["us-east-1", "us-west-2", "eu-south-2"] {
            let mut labels = BTreeMap::new();
            if self.happens(300) {
                labels.insert("tier".to_owned(), self.one(&["gpu", "batch"]).to_owned());
            }
            let taints = if self.happens(150) {
                vec![("dedicated".to_owned(), "ml".to_owned(), self.one(&["NoSchedule", "NoExecute", "PreferNoSchedule"]).to_owned())]
            } else {
                Vec::new()
            };
            let sharing = match self.chance.below(10) {
                0 => GpuSharing { sharing: Sharing::TimeSlicing { replicas: 2 }, context_reserve: Mebibytes(500) },
                1 => GpuSharing { sharing: Sharing::Mps { replicas: 4 }, context_reserve: Mebibytes(500) },
                2 => GpuSharing { sharing: Sharing::Mig { replicas: 7 }, context_reserve: Mebibytes(0) },
                _ => GpuSharing::default(),
            };
            let root_volume = self.happens(300).then(|| self.one(&[30, 100, 400]) * 1_024);
            let bootstrap = self.one(&[Bootstrap::K3s, Bootstrap::Eks]);
            let discovery = self.happens(300);
            classes.push(Class { region, bootstrap, labels, taints, sharing, root_volume, discovery });
        }
        classes
    }

    fn market(&mut self) -> Market {
        let dense = self.one(&[300, 600, 900]);
        let mut market = Market::default();
        for (region, zone) in PLACES {
            for instance_type in TYPES {
                for capacity_type in KINDS {
                    let gpus = CATALOG.types[&InstanceType::from(instance_type)].gpus;
                    let price = self.chance.between(50_000, 1_500_000) * gpus;
                    if self.happens(dense) {
                        offer(&mut market, (region, zone), instance_type, capacity_type, price);
                    }
                }
            }
        }
        market
    }

    fn work(&mut self, at: usize) -> Work {
        let name = format!("k{}w{at}", self.seed);
        let namespace = if self.happens(150) { format!("k{}b", self.seed) } else { format!("k{}", self.seed) };
        let job = self.happens(300);
        let waves = [self.chance.between(1, 4), if self.happens(600) { self.chance.between(1, 3) } else { 0 }];
        let others: Vec<String> = (0..4).map(|n| format!("k{}w{n}", self.seed)).collect();
        let pod = self.pod(&name, &namespace, job, &others);
        Work { name, namespace, job, waves, rolls: self.happens(300), pod }
    }

    /// A pod template with drawn constraints. `others` are the names that its rules may select by.
    pub fn pod(&mut self, name: &str, namespace: &str, job: bool, others: &[String]) -> Value {
        let mut annotations = json!({ "lowtide.dev/workload": if job { "batch" } else { "inference" } });
        if self.happens(250) {
            annotations["lowtide.dev/capacity"] = json!(self.one(&["spot-first", "spot-only", "on-demand"]));
        }
        if self.happens(200) {
            annotations["lowtide.dev/gpu-memory"] = json!(self.one(&["4Gi", "12Gi", "20Gi", "40Gi"]));
        }
        let mut pod = json!({
            "metadata": { "namespace": namespace, "labels": { "app": name, "part": self.one(&["front", "back"]), "pod-template-hash": "one" }, "annotations": annotations },
            "spec": { "tolerations": [{ "key": "nvidia.com/gpu", "operator": "Exists" }], "containers": [], "terminationGracePeriodSeconds": 0 },
        });
        let mut spec = pod["spec"].take();
        self.containers(&mut spec);
        if self.happens(400) {
            self.node_selector(&mut spec);
        }
        if self.happens(350) {
            self.node_affinity(&mut spec);
        }
        if self.happens(300) {
            let affinity = self.between("podAntiAffinity", name, others, namespace);
            spec["affinity"]["podAntiAffinity"] = affinity;
        }
        if self.happens(200) {
            let affinity = self.between("podAffinity", name, others, namespace);
            spec["affinity"]["podAffinity"] = affinity;
        }
        if self.happens(350) {
            let many = self.one(&[1, 1, 2]);
            spec["topologySpreadConstraints"] = json!((0..many).map(|_| self.spread(name, others)).collect::<Vec<_>>());
            // Kubernetes wants each pair of key and effect once.
            if spec["topologySpreadConstraints"][0]["topologyKey"] == spec["topologySpreadConstraints"][1]["topologyKey"] {
                spec["topologySpreadConstraints"].as_array_mut().unwrap().truncate(1);
            }
        }
        if self.happens(300) {
            let toleration = self.one(&[
                json!({ "key": "dedicated", "operator": "Exists" }),
                json!({ "key": "dedicated", "value": "ml", "effect": "NoSchedule" }),
                json!({ "key": "dedicated", "operator": "Equal", "value": "web" }),
                json!({ "operator": "Exists", "effect": "NoExecute" }),
            ]);
            spec["tolerations"].as_array_mut().unwrap().push(toleration);
        }
        if self.happens(250) {
            let class = self.one(&["oracle-high", "oracle-low"]);
            (spec["priorityClassName"], spec["priority"]) = (json!(class), json!(if class == "oracle-high" { 1_000 } else { -5 }));
        }
        if self.happens(300) {
            self.volume(name, namespace, &mut spec);
        }
        if self.of_volumes.happens(40) {
            self.many_volumes(name, namespace, &mut spec);
        }
        pod["spec"] = spec;
        pod
    }

    fn containers(&mut self, spec: &mut Value) {
        let (cpu, memory, gpus) =
            (self.one(&["500m", "2", "3500m", "6"]), self.one(&["1Gi", "8Gi", "13Gi", "40Gi"]), self.one(&[1, 1, 1, 1, 1, 1, 2, 4]));
        let mut main = json!({ "name": "main", "image": "x", "resources": { "requests": { "cpu": cpu, "memory": memory }, "limits": { "nvidia.com/gpu": gpus } } });
        if self.happens(250) {
            main["resources"]["requests"]["ephemeral-storage"] = json!(self.one(&["1Gi", "15Gi", "60Gi", "300Gi"]));
        }
        if self.happens(200) {
            let port = self.one(&[8_000, 9_000]);
            let mut taken = json!({ "containerPort": port, "hostPort": port, "protocol": self.one(&["TCP", "UDP"]) });
            if self.happens(200) {
                taken["hostIP"] = json!(self.one(&["127.0.0.1", "0.0.0.0"]));
            }
            main["ports"] = json!([taken]);
        } else if self.happens(60) {
            main["ports"] = json!([{ "containerPort": 8_000 }]);
            spec["hostNetwork"] = json!(true);
        }
        spec["containers"] = json!([main]);
        if self.happens(150) {
            spec["containers"].as_array_mut().unwrap().push(
                json!({ "name": "proxy", "image": "x", "resources": { "requests": { "cpu": "250m" }, "limits": { "memory": "512Mi" } } }),
            );
        }
        if self.happens(250) {
            let mut before = json!({ "name": "fetch", "image": "x", "resources": { "requests": { "cpu": self.one(&["1", "3800m", "8"]), "memory": self.one(&["1Gi", "14Gi"]) } } });
            if self.happens(500) {
                before["restartPolicy"] = json!("Always");
            }
            if self.happens(150) {
                before["resources"]["limits"] = json!({ "nvidia.com/gpu": 1 });
            }
            spec["initContainers"] = json!([before]);
        }
        if self.happens(100) {
            spec["resources"] = json!({ "requests": { "cpu": self.one(&["16", "20"]), "memory": "64Gi" } });
        }
        if self.happens(100) {
            spec["runtimeClassName"] = json!("oracle-vm");
            // As the API server fills it in.
            spec["overhead"] = json!({ "cpu": "250m", "memory": "160Mi" });
        }
    }
}

pub fn offer(market: &mut Market, (region, zone): (&str, &str), instance_type: &str, capacity_type: CapacityType, price: i64) {
    let capacity = Capacity { region: region.into(), zone: zone.into(), instance_type: instance_type.into(), capacity_type };
    let offer = Offer {
        capacity: capacity.clone(),
        price_per_hour: MicroUsdPerHour(price),
        observed_at: Timestamp(0),
        source: PriceSource::File,
        interruptions_per_million_hours: 0,
    };
    market.offers.insert(capacity, offer);
}
