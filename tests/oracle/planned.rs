//! What lowtide does with a case: the operator's own reader of pods and its own plan, pass after pass, until nothing is left to lift.

use std::collections::BTreeMap;
use std::sync::Arc;

use lowtide::core::action::{Action, ClusterAction};
use lowtide::core::fleet::{Node, NodeClass};
use lowtide::core::market::Capacity;
use lowtide::core::market::catalog::{MachineType, ROOT_VOLUME};
use lowtide::core::plan::plan;
use lowtide::core::snapshot::Observed;
use lowtide::core::units::ids::{ClassName, ObjectRef, Region, Uid, ZoneId};
use lowtide::core::units::time::{Millis, Timestamp};
use lowtide::core::units::{Mebibytes, Millicores, Resources};
use lowtide::core::workload::controllers::Controllers;
use lowtide::core::workload::daemonsets::DaemonSet;
use lowtide::core::workload::need::{PodManifest, Toleration, Vocabulary, WorkloadKind};
use lowtide::core::workload::pod_reader::{AttributionKeys, NamespaceLabels, PodReader};
use lowtide::core::workload::volumes::{self, VolumeObject, Volumes};
use lowtide::core::workload::{Mobility, PodPhase};
use serde_json::{Value, json};

use crate::draw::{Bootstrap, CATALOG, Case, Class, EBS_ZONE, HOSTNAME, PLACES, REGION, TYPE, Work, ZONE, ZONE_ID};
use crate::toy::Toy;

/// A machine with the Node that it will have.
#[derive(Debug, Clone)]
pub struct Machine {
    pub claim: String,
    pub capacity: Capacity,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<(String, String, String)>,
    pub allocatable: Resources,
}

/// A pod whose gate was lifted, with the claim that it is pinned to.
#[derive(Debug, Clone)]
pub struct Lifted {
    pub name: String,
    pub claim: String,
    pub pod: Value,
}

/// A wave of pods as lowtide placed them: machines as they were then, and pods in the order in which their gates were lifted.
#[derive(Debug, Clone, Default)]
pub struct Wave {
    pub machines: Vec<Machine>,
    pub lifted: Vec<Lifted>,
    /// Volumes that are made for claims which waited for these pods.
    pub provisioned: Vec<Value>,
}

/// The whole case.
#[derive(Debug, Clone, Default)]
pub struct Planned {
    pub waves: Vec<Wave>,
    /// Pods that got no machine, with the last events about them.
    pub refused: Vec<String>,
    pub said: Vec<(&'static str, String)>,
}

pub fn class_of(class: &Class, zone_names: &BTreeMap<ZoneId, String>) -> NodeClass {
    let name = ClassName::from(format!("class-{}", class.region));
    let here = PLACES.iter().filter(|(region, _)| *region == class.region);
    let mut node_labels = class.labels.clone();
    let sharing = class.sharing.is_shared().then(|| ("lowtide.dev/gpu-sharing".to_owned(), class.sharing.sharing.to_string()));
    node_labels.extend(sharing);
    node_labels.extend(
        [("kubernetes.io/os", "linux"), ("lowtide.dev/node-class", name.as_str()), (REGION, class.region)]
            .map(|(k, v)| (k.to_owned(), v.to_owned())),
    );
    NodeClass {
        zones: here.clone().map(|(_, zone)| (ZoneId::from(*zone), format!("subnet-{zone}"))).collect(),
        launch_template: Some((format!("lowtide-{}", class.region), "1".to_owned())),
        subnets: here.map(|(_, zone)| format!("subnet-{zone}")).collect(),
        problem: None,
        interruption_queue: Some("q".to_owned()),
        tags: BTreeMap::new(),
        sharing: class.sharing,
        reservations: Vec::new(),
        node_labels,
        zone_names: zone_names.clone(),
        taints: class.taints.clone(),
        root_volume: class.root_volume.map(Mebibytes),
        reserve: Default::default(),
        images: Default::default(),
        startup_taints: Vec::new(),
        region: Region::from(class.region),
        name,
    }
}

/// The labels that a real node of the class has before lowtide touches it.
pub fn labels_of(
    class: &Class,
    names: &BTreeMap<ZoneId, String>,
    at: &Capacity,
    machine: &MachineType,
    node: &str,
) -> BTreeMap<String, String> {
    let arch = if machine.architecture == lowtide::core::market::catalog::Architecture::Arm64 { "arm64" } else { "amd64" };
    let (zone, name) = (at.zone.as_str(), names[&at.zone].as_str());
    let class_name = format!("class-{}", class.region);
    let mut labels: Vec<(&str, &str)> = vec![
        (HOSTNAME, node),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", arch),
        ("lowtide.dev/node-class", &class_name),
        (REGION, class.region),
    ];
    match class.bootstrap {
        Bootstrap::K3s => {
            labels.extend([(ZONE, zone), (ZONE_ID, zone), (TYPE, "k3s"), ("lowtide.dev/instance-id", "i-1")]);
            labels.extend(class.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        }
        Bootstrap::Eks => labels.extend([(ZONE, name), (ZONE_ID, zone), (TYPE, at.instance_type.as_str()), (EBS_ZONE, name)]),
    }
    let mut labels: BTreeMap<String, String> = labels.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    if class.sharing.is_shared() {
        labels.insert("lowtide.dev/gpu-sharing".to_owned(), class.sharing.sharing.to_string());
    }
    if class.discovery {
        discover(&mut labels, class, machine);
    }
    labels
}

/// What NVIDIA's GPU feature discovery writes, with the device plugin's default names for shared GPUs.
fn discover(labels: &mut BTreeMap<String, String>, class: &Class, machine: &MachineType) {
    use lowtide::core::workload::sharing::Sharing;
    let whole = lowtide::core::placement::node_labels::product(machine).unwrap_or("NVIDIA-L4-1Q");
    let (product, count) = match class.sharing.sharing {
        Sharing::Exclusive => (whole.to_owned(), machine.gpus),
        Sharing::TimeSlicing { .. } | Sharing::Mps { .. } => (format!("{whole}-SHARED"), machine.gpus),
        Sharing::Mig { replicas } => (format!("{whole}-MIG-1g.5gb"), machine.gpus * replicas),
    };
    let found = [
        ("nvidia.com/gpu.present", "true".to_owned()),
        ("nvidia.com/gpu.product", product),
        ("nvidia.com/gpu.count", count.to_string()),
        ("nvidia.com/gpu.memory", machine.gpu_memory.0.to_string()),
    ];
    labels.extend(found.map(|(k, v)| (k.to_owned(), v)));
}

pub fn vocabulary(classes: &[NodeClass]) -> Vocabulary {
    let mut vocabulary = Vocabulary::snapshot().clone();
    vocabulary.node_labels = classes.iter().flat_map(|c| c.node_labels.keys().cloned()).collect();
    vocabulary
}

/// The volumes of a case, as the operator knows them.
pub fn volumes_of(objects: &[Value]) -> Volumes {
    let kind = |kind: &str| -> Vec<VolumeObject> {
        objects.iter().filter(|o| o["kind"] == kind).map(|o| serde_json::from_value(o.clone()).unwrap()).collect()
    };
    volumes::facts(&kind("PersistentVolumeClaim"), &kind("PersistentVolume"), &kind("StorageClass"))
}

/// Plays a case.
pub struct Play<'c> {
    case: &'c Case,
    toy: Toy,
    manifests: BTreeMap<Uid, Value>,
    lifted: Vec<(Uid, String)>,
    named: BTreeMap<String, i64>,
    volumes: Vec<Value>,
}

impl<'c> Play<'c> {
    pub fn new(case: &'c Case) -> Play<'c> {
        let mut toy = Toy::new();
        toy.now = Timestamp::from_date(2026, 8, 1);
        toy.world.market = case.market.clone().into();
        let classes: Vec<NodeClass> = case.classes.iter().map(|class| class_of(class, &case.zone_names)).collect();
        for class in &classes {
            let template = crate::toy::template_of(&class.name, class.region.as_str(), &format!("lowtide-{}", class.region));
            toy.world.templates.insert(class.name.clone(), template);
            toy.world.instances.insert(class.region.clone(), Observed::Known { at: Timestamp(0), value: BTreeMap::new().into() });
        }
        let mut pool = crate::toy::pool(classes.iter().map(|c| c.name.clone()).collect());
        pool.namespaces = case.namespaces().into();
        toy.world.pools = BTreeMap::from([(pool.name.clone(), pool)]).into();
        toy.world.classes = classes.into_iter().map(|class| (class.name.clone(), class)).collect::<BTreeMap<_, _>>().into();
        let daemon = |(cpu, memory)| DaemonSet {
            name: "kube-system/agent".into(),
            requests: Resources { cpu: Millicores(cpu), memory: Mebibytes(memory), ..Resources::default() },
            node_selector: BTreeMap::new(),
            affinity: Vec::new(),
            tolerations: vec![Toleration { operator: Some("Exists".to_owned()), ..Toleration::default() }],
        };
        toy.world.daemonsets = case.daemon.map(daemon).into_iter().collect::<Vec<_>>().into();
        Play { case, toy, manifests: BTreeMap::new(), lifted: Vec::new(), named: BTreeMap::new(), volumes: case.volumes.clone() }
    }

    pub fn play(mut self) -> Planned {
        let mut planned = Planned::default();
        for wave in 0..2 {
            for work in &self.case.works {
                for _ in 0..work.waves[wave] {
                    self.add(work, if wave == 1 && work.rolls { "two" } else { "one" });
                }
            }
            self.settle();
            let lifted: Vec<(Uid, String)> = std::mem::take(&mut self.lifted);
            let lifted = lifted.into_iter().map(|(uid, claim)| Lifted { name: uid.to_string(), claim, pod: self.manifests[&uid].clone() });
            let (lifted, machines): (Vec<Lifted>, Vec<Machine>) = (lifted.collect(), self.machines());
            let provisioned = self.provision(&lifted, &machines);
            planned.waves.push(Wave { machines, lifted, provisioned });
        }
        let waiting = self.toy.world.pods.values().filter(|p| p.phase == PodPhase::Gated);
        planned.refused = waiting.map(|p| p.identity.uid.to_string()).collect();
        planned.said = self.toy.events;
        planned
    }

    /// The volumes that a provisioner makes: each in the zone of the first pod that uses its claim.
    fn provision(&mut self, lifted: &[Lifted], machines: &[Machine]) -> Vec<Value> {
        let mut made = Vec::new();
        for pod in lifted {
            let Some(claim) = pod.pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"].as_str() else { continue };
            let namespace = pod.pod["metadata"]["namespace"].clone();
            let waiting = |o: &&mut Value| {
                o["kind"] == "PersistentVolumeClaim"
                    && o["metadata"]["name"] == claim
                    && o["metadata"]["namespace"] == namespace
                    && o["spec"]["volumeName"].is_null()
            };
            let Some(object) = self.volumes.iter_mut().find(waiting) else { continue };
            let (name, zone) =
                (format!("made-{}", pod.name), machines.iter().find(|m| m.claim == pod.claim).map(|m| m.labels[ZONE].clone()));
            object["spec"]["volumeName"] = json!(name);
            let mut spec = json!({ "capacity": { "storage": "10Gi" }, "accessModes": object["spec"]["accessModes"], "storageClassName": object["spec"]["storageClassName"],
                "csi": { "driver": "ebs.csi.aws.com", "volumeHandle": name }, "claimRef": { "namespace": namespace, "name": claim } });
            spec["nodeAffinity"] = json!({ "required": { "nodeSelectorTerms": [{ "matchExpressions": [{ "key": ZONE, "operator": "In", "values": [zone] }] }] } });
            made.push(json!({ "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": name }, "spec": spec }));
        }
        self.volumes.extend(made.iter().cloned());
        made
    }

    fn add(&mut self, work: &Work, revision: &str) {
        let number = self.named.entry(work.name.clone()).or_default();
        *number += 1;
        let uid = Uid::from(format!("{}-{number}", work.name));
        let mut manifest = work.pod.clone();
        manifest["metadata"]["name"] = json!(uid.as_str());
        manifest["metadata"]["labels"]["pod-template-hash"] = json!(revision);
        let parsed: PodManifest = serde_json::from_value(manifest.clone()).unwrap();
        let classes: Vec<NodeClass> = self.toy.world.classes.values().cloned().collect();
        let (controllers, keys, vocabulary) = (Controllers::default(), AttributionKeys::default(), vocabulary(&classes));
        let (volumes, namespaces) = (volumes_of(&self.volumes), namespaces(self.case));
        let reader =
            PodReader { controllers: &controllers, volumes: &volumes, keys: &keys, namespaces: &namespaces, vocabulary: &vocabulary };
        let mobility = if work.job {
            Mobility::Job { job: work.name.clone(), job_uid: format!("job-{}", work.name).into() }
        } else {
            Mobility::Surge {
                replica_set: format!("rs-{}-{revision}", work.name).into(),
                deployment: work.name.clone(),
                deployment_uid: format!("dep-{}", work.name).into(),
            }
        };
        let made = self.toy.add_pod(mobility, if work.job { WorkloadKind::Batch } else { WorkloadKind::Inference });
        let mut pod = self.toy.world.pods.remove(&made).unwrap();
        pod.identity.uid = uid.clone();
        pod.identity.object = ObjectRef { namespace: work.namespace.clone(), name: uid.to_string() }.into();
        let object = ObjectRef { namespace: work.namespace.clone(), name: work.name.clone() };
        pod.workload = lowtide::core::workload::Workload { kind: pod.workload.kind.clone(), object }.into();
        pod.need = reader.need(&parsed);
        pod.rules = reader.rules(&parsed);
        self.manifests.insert(uid.clone(), manifest);
        self.toy.world.pods.insert(uid, pod);
    }

    /// Passes until a while after the last thing happened.
    fn settle(&mut self) {
        let (mut quiet, begun) = (0, self.toy.now);
        while quiet < 3 {
            let spent = self.toy.now.since(begun);
            if spent > Millis::from_mins(20) {
                let last: Vec<_> = self.toy.events.iter().rev().take(4).collect();
                panic!("seed {}: no rest after {spent}: {last:?}", self.case.seed);
            }
            self.toy.now = self.toy.now + Millis::from_secs(15);
            self.toy.live();
            self.dress_nodes();
            quiet += 1;
            for _ in 0..6 {
                let decided = plan(&self.toy.settings, &self.toy.world, self.toy.now);
                let acts = |action: &Action| {
                    let places = |a: &ClusterAction| {
                        matches!(a, ClusterAction::CreateClaim { .. } | ClusterAction::Bind { .. } | ClusterAction::Lift { .. })
                    };
                    matches!(action, Action::Launch { .. }) || matches!(action, Action::Cluster(a) if places(a))
                };
                if !decided.steps.iter().flat_map(|s| &s.actions).any(acts) {
                    self.toy.take(decided);
                    break;
                }
                quiet = 0;
                for action in decided.steps.iter().flat_map(|s| &s.actions) {
                    if let Action::Cluster(ClusterAction::Lift { target, claim }) = action {
                        self.lifted.push((target.pod.uid.clone(), claim.to_string()));
                    }
                }
                self.toy.take(decided);
            }
        }
    }

    fn class_at(&self, region: &Region) -> &'c Class {
        self.case.classes.iter().find(|c| c.region == region.as_str()).unwrap()
    }

    /// Nodes that joined have the labels and the disk of their class.
    fn dress_nodes(&mut self) {
        let instances = self.toy.all_instances();
        let fresh: Vec<(Node, Capacity)> = self
            .toy
            .world
            .nodes
            .values()
            .filter(|n| n.state.labels.iter().next().is_none())
            .filter_map(|n| Some((n.clone(), instances.iter().find(|i| i.id == n.instance)?.capacity.clone())))
            .collect();
        for (mut node, at) in fresh {
            let (class, machine) = (self.class_at(&at.region), &CATALOG.types[&at.instance_type]);
            node.state.labels = Arc::new(labels_of(class, &self.case.zone_names, &at, machine, node.name.as_str()).into());
            node.allocatable.disk = machine.disk(class.root_volume.map_or(ROOT_VOLUME, Mebibytes));
            self.toy.world.nodes.insert(node.name.clone(), node);
        }
    }

    fn machines(&self) -> Vec<Machine> {
        let claims = self.toy.world.claims.values();
        let machine = |claim: &lowtide::core::fleet::Claim| {
            let node = self.toy.world.nodes.get(claim.status.node.as_ref()?)?;
            let class = self.class_at(&claim.spec.capacity.region);
            let own = [("nvidia.com/gpu", "present"), ("lowtide.dev/claim", claim.name.as_str())];
            let own = own.map(|(key, value)| (key.to_owned(), value.to_owned(), "NoSchedule".to_owned()));
            Some(Machine {
                claim: claim.name.to_string(),
                capacity: claim.spec.capacity.clone(),
                labels: node.state.labels.as_ref().clone().into(),
                taints: own.into_iter().chain(class.taints.iter().cloned()).collect(),
                allocatable: node.allocatable,
            })
        };
        claims.filter_map(machine).collect()
    }
}

/// Labels of the case's namespaces.
pub fn namespaces(case: &Case) -> NamespaceLabels {
    case.namespaces().into_iter().map(|name| (name.clone(), BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), name)]))).collect()
}
