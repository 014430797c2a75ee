//! A control plane with the chart installed, an adapter with the operator's rights, and a few ways to make and see objects.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource, ResourceExt};
use lowtide::core::action::{ClusterAction, PodTarget};
use lowtide::core::fleet::{ClaimSpec, FrozenLaunch, Trigger};
use lowtide::core::market::{Capacity, CapacityType, PriceOrigin, PriceSource};
use lowtide::core::units::Mebibytes;
use lowtide::core::units::ids::{ClaimName, DecisionId, ObjectRef, Uid};
use lowtide::core::units::money::MicroUsdPerHour;
use lowtide::core::units::shared::Shared;
use lowtide::core::units::time::Timestamp;
use lowtide::core::workload::sharing::{GpuSharing, Sharing};
use lowtide::core::workload::{Baseline, PodIdentity, PodPhase};
use lowtide::kube::pods::AttributionKeys;
use lowtide::kube::{ClusterSettings, LiveCluster};
use lowtide::lab::control_plane::{ControlPlane, KUBELET_ON};
use lowtide::lab::helm::Helm;
use lowtide::lab::tools::Tools;
use lowtide::lab::wall_clock;
use lowtide::lab::workdir::Workdir;
use lowtide::ports::{Clock, Cluster};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Longest wait for anything to happen; two cores may be busy, and the garbage collector rests while it learns of new definitions.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct WallClock;
impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        wall_clock()
    }
}

#[derive(Clone)]
pub struct Fixture {
    pub cluster: Arc<LiveCluster>,
    /// With all rights: plays users, the platform team and the world.
    pub admin: Client,
    /// With the rights of the chart's ServiceAccount.
    pub operator: Client,
    /// With the rights of the hook that runs on uninstall.
    pub hook: Client,
    /// The operator's Deployment as the chart renders it.
    pub deployment: Arc<Value>,
    pub plane: Arc<ControlPlane>,
    // Dropped after the processes that write there.
    pub workdir: Arc<Workdir>,
}

async fn client(kubeconfig: &str) -> Client {
    let parsed: Kubeconfig = serde_saphyr::from_str(kubeconfig).unwrap();
    let mut config = Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await.unwrap();
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

/// The ServiceAccount of the hook that runs on uninstall.
pub const HOOK: &str = "lowtide-release-pods";

/// What the chart makes of one of its templates, with an image and a ledger.
fn rendered(helm: &Helm, chart: &std::path::Path, template: &str) -> Vec<Value> {
    let (chart, template) = (chart.display().to_string(), format!("templates/{template}"));
    let show = ["template", "lowtide", &chart, "-n", "lowtide-system", "--kube-version", "1.36.3", "--show-only", &template];
    let values = ["--set", "cluster.name=test", "--set", "image.repository=localhost/lowtide", "--set", "ledger.secretName=ledger"];
    serde_saphyr::from_multiple(&helm.run(&[show.as_slice(), &values].concat()).unwrap()).unwrap()
}

/// A client with the hook's rights. Helm makes its objects only while it runs, so they are made here from what the chart renders.
async fn hook(plane: &ControlPlane, helm: &Helm, workdir: &Workdir, chart: &std::path::Path) -> Client {
    let documents = rendered(helm, chart, "release-pods.yaml");
    let of_its_rights = documents.into_iter().filter(|document| document["kind"] != "Job");
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": of_its_rights.collect::<Vec<_>>() });
    let file = workdir.path().join("hook.json");
    std::fs::write(&file, list.to_string()).unwrap();
    plane.kubectl(&["apply", "-f", &file.display().to_string()]).unwrap();
    let token = plane.kubectl(&["create", "token", HOOK, "-n", "lowtide-system"]).unwrap();
    client(&plane.api().kubeconfig("hook", token.trim())).await
}

impl Fixture {
    pub async fn start() -> Fixture {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let _ = tracing_subscriber::fmt().with_env_filter("lowtide=warn").with_test_writer().try_init();
        let (tools, workdir) = (Tools::find().unwrap(), Workdir::create().unwrap());
        let plane = ControlPlane::start(&tools, &workdir, None).await.unwrap();
        let helm = Helm::new(tools.path("helm"), plane.admin_kubeconfig(), workdir.folder("helm").unwrap());
        let chart = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/lowtide");
        let values = ["cluster.name=test".to_owned(), "operator.enabled=false".to_owned()];
        helm.install("lowtide", "lowtide-system", &chart, &values).unwrap();
        for plural in ["gpunodepools", "gpunodeclasses", "gpunodeclaims", "gpudecisions"] {
            plane.kubectl(&["wait", "--for=condition=Established", &format!("crd/{plural}.lowtide.dev"), "--timeout=30s"]).unwrap();
        }
        let token = plane.kubectl(&["create", "token", "lowtide", "-n", "lowtide-system"]).unwrap();
        let admin = client(&std::fs::read_to_string(plane.admin_kubeconfig()).unwrap()).await;
        let operator = client(&plane.api().kubeconfig("operator", token.trim())).await;
        let hook = hook(&plane, &helm, &workdir, &chart).await;
        let deployment = rendered(&helm, &chart, "deployment.yaml").into_iter().find(|document| document["kind"] == "Deployment").unwrap();
        let uid = lowtide::kube::read_uid(&operator).await.unwrap();
        let lacking = lowtide::kube::crd_check::missing(&operator).await.unwrap();
        assert_eq!(lacking, Vec::<String>::new(), "the chart's definitions are those of this version");
        let settings = ClusterSettings {
            cluster: "test".into(),
            uid,
            namespace: "lowtide-system".into(),
            instance: "lowtide-0".into(),
            attribution: AttributionKeys::default(),
            ignore_label: "lowtide.dev/ignore".into(),
            exempt_namespaces: vec!["kube-system".into()],
        };
        let cluster = Arc::new(LiveCluster::start(operator.clone(), settings, Arc::new(WallClock)));
        let fixture = Fixture {
            cluster,
            admin,
            operator,
            hook,
            deployment: Arc::new(deployment),
            plane: Arc::new(plane),
            workdir: Arc::new(workdir),
        };
        let view = fixture.eventually("every watch has listed", || fixture.cluster.view()).await;
        assert!(view.pods.is_empty() && view.claims.is_empty());
        // A new policy works a moment after it was made.
        fixture.namespace("warm-up").await;
        fixture
            .until("pods are gated", async || {
                let pod = json!({ "metadata": { "generateName": "p-", "annotations": annotations() }, "spec": pod_spec(json!({})) });
                let api: Api<Pod> = Api::namespaced(fixture.admin.clone(), "warm-up");
                let made = api.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.ok()?;
                api.delete(&made.name_any(), &kube::api::DeleteParams::default().grace_period(0)).await.ok()?;
                made.spec?.scheduling_gates.filter(|gates| !gates.is_empty()).map(|_| ())
            })
            .await;
        fixture
    }

    /// What the chart tells the operator that its policy says, of `MARKS` or `GUARD`.
    pub fn policy_sum(&self, which: &str) -> String {
        let name = format!("LOWTIDE_{which}_POLICY_SUM");
        let env = self.deployment.pointer("/spec/template/spec/containers/0/env").and_then(Value::as_array).unwrap();
        env.iter().find(|one| one["name"] == name.as_str()).unwrap()["value"].as_str().unwrap().to_owned()
    }

    /// Waits until `look` finds something.
    pub async fn eventually<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> T {
        self.until(what, async || look()).await
    }

    /// As [`Fixture::eventually`], asking the API server.
    pub async fn until<T>(&self, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = look().await {
                return found;
            }
            if begun.elapsed() > PATIENCE {
                let objects = self.plane.kubectl(&["get", "pods,deployments,jobs", "-A", "-o", "wide"]).unwrap_or_default();
                panic!("not within {PATIENCE:?}: {what}\n{objects}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub async fn namespace(&self, name: &str) {
        let namespace: Namespace = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
        Api::<Namespace>::all(self.admin.clone()).create(&PostParams::default(), &namespace).await.unwrap();
        // Pods are refused until the namespace has its service account.
        self.until("a service account", async || {
            let api: Api<k8s_openapi::api::core::v1::ServiceAccount> = Api::namespaced(self.admin.clone(), name);
            api.get_opt("default").await.unwrap()
        })
        .await;
    }

    /// Makes a namespaced object as a user would.
    pub async fn make<K>(&self, namespace: &str, manifest: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + serde::Serialize
            + std::fmt::Debug,
    {
        let object: K = serde_json::from_value(manifest).unwrap();
        Api::<K>::namespaced(self.admin.clone(), namespace).create(&PostParams::default(), &object).await.unwrap()
    }

    /// A node of ours with one GPU, as it registers itself: no claim label yet.
    pub async fn node(&self, name: &str, taints: Value) -> Node {
        let amounts = json!({ "cpu": "8", "memory": "32Gi", "pods": "20", "nvidia.com/gpu": "4" });
        let manifest = json!({
            "metadata": {
                "name": name,
                "labels": { "lowtide.dev/instance-id": format!("i-{name}"), "lowtide.dev/node-class": "us", "kubernetes.io/hostname": name, KUBELET_ON.0: KUBELET_ON.1 },
            },
            "spec": { "taints": taints },
            "status": { "capacity": amounts, "allocatable": amounts },
        });
        let api: Api<Node> = Api::all(self.admin.clone());
        let made = api.create(&PostParams::default(), &serde_json::from_value(manifest).unwrap()).await.unwrap();
        self.eventually("the node is Ready in the view", || {
            let view = self.cluster.view()?;
            view.nodes.values().find(|n| n.name.as_str() == name && n.ready).map(|_| ())
        })
        .await;
        made
    }

    /// The pods of a namespace in the view.
    pub fn pods(&self, namespace: &str) -> Vec<lowtide::core::workload::Pod> {
        let view = self.cluster.view().unwrap();
        view.pods.values().filter(|p| p.object().namespace == namespace).cloned().collect()
    }

    /// The pod of a namespace that fits, once there is exactly one.
    pub async fn pod(
        &self,
        namespace: &str,
        what: &str,
        fits: impl Fn(&lowtide::core::workload::Pod) -> bool,
    ) -> lowtide::core::workload::Pod {
        self.eventually(&format!("{namespace}: {what}"), || {
            let mut found: Vec<lowtide::core::workload::Pod> = self.pods(namespace).into_iter().filter(&fits).collect();
            if found.len() == 1 { found.pop() } else { None }
        })
        .await
    }

    /// Applies `action` to the pod as it is in the view, again while its kubelet changes it meanwhile.
    pub async fn apply_to_pod(&self, uid: &Uid, action: impl Fn(PodTarget) -> ClusterAction) {
        self.until("an action on a pod", async || {
            let pod = self.cluster.view()?.pods.remove(uid)?;
            match self.cluster.apply(&action(target(&pod))).await {
                Ok(applied) => {
                    assert!(applied.resource_version.is_some());
                    Some(())
                }
                Err(lowtide::ports::ClusterError::Conflict(_)) => None,
                Err(error) => panic!("{error}"),
            }
        })
        .await;
    }

    /// Binds the gated pod to a claim on `node`, lifts its gate and waits until it is Ready.
    pub async fn place(&self, pod: &lowtide::core::workload::Pod, node: &str) -> lowtide::core::workload::Pod {
        let claim = ClaimName::from(node);
        self.cluster
            .apply(&ClusterAction::MarkNode {
                node: node.into(),
                claim: claim.clone(),
                taint: false,
                guard: false,
                labels: Default::default(),
            })
            .await
            .unwrap();
        let uid = pod.identity.uid.clone();
        self.apply_to_pod(&uid, |target| bind(target, &claim)).await;
        self.apply_to_pod(&uid, |target| ClusterAction::Lift { target, claim: claim.clone() }).await;
        self.pod(&pod.object().namespace, "the placed pod is Ready", |p| p.identity.uid == uid && p.ready_since.is_some()).await
    }

    /// Patches a pod as the world would.
    pub async fn annotate(&self, pod: &ObjectRef, annotations: Value) {
        let body = json!({ "metadata": { "annotations": annotations } });
        let api: Api<Pod> = Api::namespaced(self.admin.clone(), &pod.namespace);
        api.patch(&pod.name, &PatchParams::default(), &Patch::Merge(body)).await.unwrap();
    }
}

pub fn target(pod: &lowtide::core::workload::Pod) -> PodTarget {
    PodTarget { pod: pod.identity.clone(), resource_version: pod.resource_version.clone() }
}

pub fn decision(about: &str) -> DecisionId {
    DecisionId::derive("test", "place", about, 1)
}

pub fn bind(target: PodTarget, claim: &ClaimName) -> ClusterAction {
    let baseline = Baseline { b1_per_replica_hour: Some(MicroUsdPerHour(800_000)), b2_per_replica_hour: None };
    ClusterAction::Bind { decision: decision(claim.as_str()), claim: claim.clone(), attempt: 1, baseline, replaces: None, target }
}

pub fn gated(pod: &lowtide::core::workload::Pod) -> bool {
    pod.phase == PodPhase::Gated
}

pub fn annotations() -> Value {
    json!({ "lowtide.dev/workload": "inference", "lowtide.dev/gpu-memory": "20Gi" })
}

/// A pod that asks for one GPU, with `more` in its spec.
pub fn pod_spec(more: Value) -> Value {
    let mut spec = json!({
        "terminationGracePeriodSeconds": 5,
        "containers": [{ "name": "server", "image": "example/server",
            "resources": { "requests": { "cpu": "1", "memory": "1Gi" }, "limits": { "nvidia.com/gpu": "1" } } }],
    });
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

pub fn deployment(name: &str, replicas: u32, spec: Value, strategy: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "strategy": { "type": strategy },
            "template": { "metadata": { "labels": { "app": name, "team": "ml" }, "annotations": annotations() }, "spec": spec },
        },
    })
}

pub fn service(name: &str) -> Value {
    json!({ "metadata": { "name": name }, "spec": { "selector": { "app": name }, "ports": [{ "port": 80 }] } })
}

pub fn claim_spec(pods: Vec<PodIdentity>) -> ClaimSpec {
    ClaimSpec {
        node_pool: "gpu".into(),
        node_class: "us".into(),
        capacity: Capacity {
            region: "us-east-1".into(),
            zone: "use1-az4".into(),
            instance_type: "g6.xlarge".into(),
            capacity_type: CapacityType::Spot,
        },
        price_per_hour: MicroUsdPerHour(302_000),
        on_demand_per_hour: Some(MicroUsdPerHour(804_800)),
        gpus: 1,
        decision: decision("claim"),
        trigger: Trigger::PendingPod,
        attempt: 1,
        frozen: Shared::from(FrozenLaunch {
            launch_template: "lowtide-0123456789ab".into(),
            launch_template_version: "1".into(),
            subnet: "subnet-1".into(),
            image: None,
            tags: [("team".to_owned(), "ml".to_owned())].into(),
        }),
        sharing: GpuSharing { sharing: Sharing::Mps { replicas: 4 }, context_reserve: Mebibytes(500) },
        reservation: Some("cr-0123".into()),
        bought_for: pods,
        bindings: Some(Vec::new()),
        takes_over: Some("older".into()),
        price_origin: Some(PriceOrigin { source: PriceSource::SpotPriceHistory, observed_at: Timestamp(1_784_000_000_000) }),
        adopted: None,
        books: None,
    }
}
