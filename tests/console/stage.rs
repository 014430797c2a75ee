//! A control plane with the chart's console, a ledger, people with different rights, and the console served to them.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use lowtide::console::{ConsoleSettings, serve};
use lowtide::core::units::time::{Millis, Timestamp};
use lowtide::kube::api::GpuNodeClaim;
use lowtide::lab::control_plane::ControlPlane;
use lowtide::lab::helm::Helm;
use lowtide::lab::postgres::PrivatePostgres;
use lowtide::lab::tools::Tools;
use lowtide::lab::wall_clock;
use lowtide::lab::workdir::Workdir;
use lowtide::ledger::{connect, migrate, poster, seal};
use serde_json::{Value, json};

use super::http::{Answer, send};

const PATIENCE: Duration = Duration::from_secs(120);

pub struct Stage {
    /// The console that believes the headers of this machine.
    pub behind_a_proxy: SocketAddr,
    /// The console that believes tokens alone.
    pub console: SocketAddr,
    /// The console without a ledger.
    pub without_ledger: SocketAddr,
    /// May list pods in `ml`.
    pub reader: String,
    /// May read the ledger.
    pub finance: String,
    /// Known, and without any right.
    pub nobody: String,
    pub postgres: PrivatePostgres,
    pub plane: ControlPlane,
    // Dropped after the processes that write there.
    pub workdir: Workdir,
}

async fn client(kubeconfig: &str) -> Client {
    let parsed: Kubeconfig = serde_saphyr::from_str(kubeconfig).unwrap();
    let mut config = Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await.unwrap();
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

impl Stage {
    /// Starts everything; with `machines` more of them, each with a pod.
    pub async fn start(machines: usize) -> Stage {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let _ = tracing_subscriber::fmt().with_env_filter("lowtide=warn").with_test_writer().try_init();
        let (tools, workdir) = (Tools::find().unwrap(), Workdir::create().unwrap());
        let postgres = ledger(machines).await;
        let plane = ControlPlane::start(&tools, &workdir, None).await.unwrap();
        install(&tools, &plane, &workdir);
        let token = |namespace: &str, name: &str| {
            plane.kubectl(&["create", "token", name, "-n", namespace, "--duration=8h"]).unwrap().trim().to_owned()
        };
        people(&plane).await;
        let (reader, finance, nobody) = (token("ml", "reader"), token("web", "finance"), token("web", "nobody"));
        let admin = client(&std::fs::read_to_string(plane.admin_kubeconfig()).unwrap()).await;
        world(&admin, machines).await;
        let own = client(&plane.api().kubeconfig("console", &token("lowtide-system", "lowtide-console"))).await;
        let url = postgres.url_for("finance", "postgres");
        let console = open(&own, Some(&url), &[]).await;
        let behind_a_proxy = open(&own, Some(&url), &["127.0.0.1/32"]).await;
        let without_ledger = open(&own, None, &[]).await;
        let stage = Stage { behind_a_proxy, console, without_ledger, reader, finance, nobody, postgres, plane, workdir };
        for address in [stage.console, stage.behind_a_proxy, stage.without_ledger] {
            stage.until("the watches have listed", async || send(address, "GET /readyz", &[], "").await.status == 200).await;
        }
        stage
    }

    /// The month that surely has costs: the one of a few hours ago.
    pub fn month() -> String {
        (wall_clock() - Millis::from_hours(4)).to_rfc3339()[..7].to_owned()
    }

    /// A page for the bearer of `token`, as a browser asks for it.
    pub async fn page(&self, token: &str, path: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        send(self.console, &format!("GET {path}"), &[("authorization", &bearer), ("accept", "text/html")], "").await
    }

    pub async fn until(&self, what: &str, look: impl AsyncFn() -> bool) {
        let begun = Instant::now();
        while !look().await {
            assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn open(client: &Client, url: Option<&str>, proxies: &[&str]) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let settings = ConsoleSettings {
        cluster: "test".into(),
        database_url: url.map(str::to_owned),
        proxies: proxies.iter().map(|network| network.parse().unwrap()).collect(),
        user_header: "x-forwarded-user".parse().unwrap(),
        groups_header: "x-forwarded-groups".parse().unwrap(),
    };
    let client = client.clone();
    tokio::spawn(async move { serve(listener, client, settings, std::future::pending()).await.unwrap() });
    address
}

fn install(tools: &Tools, plane: &ControlPlane, workdir: &Workdir) {
    let helm = Helm::new(tools.path("helm"), plane.admin_kubeconfig(), workdir.folder("helm").unwrap());
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/lowtide");
    // The stage writes what the operator would write, and no node runs containers.
    let values = [
        "cluster.name=test",
        "operator.enabled=false",
        "hooks.enabled=false",
        "admission.marks.enabled=false",
        "admission.validating.enabled=false",
        "admission.mutating.enabled=false",
        "console.enabled=true",
        "console.replicas=0",
        "image.repository=localhost/lowtide",
    ];
    helm.install("lowtide", "lowtide-system", &chart, &values.map(String::from)).unwrap();
    plane.kubectl(&["wait", "--for=condition=Established", "crd/gpunodeclaims.lowtide.dev", "--timeout=30s"]).unwrap();
}

/// Accounts for people, and what they may.
async fn people(plane: &ControlPlane) {
    for command in [
        "create namespace ml",
        "create namespace web",
        "create serviceaccount reader -n ml",
        "create rolebinding reader -n ml --clusterrole=view --serviceaccount=ml:reader",
        "create rolebinding people -n ml --clusterrole=view --group=ml-people",
        "create serviceaccount finance -n web",
        "create clusterrolebinding finance --clusterrole=lowtide-finance --serviceaccount=web:finance",
        "create serviceaccount nobody -n web",
    ] {
        plane.kubectl(&command.split(' ').collect::<Vec<_>>()).unwrap();
    }
    for namespace in ["ml", "web"] {
        let begun = Instant::now();
        while plane.kubectl(&["get", "serviceaccount", "default", "-n", namespace]).is_err() {
            assert!(begun.elapsed() < PATIENCE, "no service account in {namespace}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

async fn ledger(machines: usize) -> PrivatePostgres {
    let server = PrivatePostgres::start_temporary().expect("a Postgres server for the test");
    migrate(&server.url()).await.unwrap();
    server.psql("postgres", "CREATE ROLE finance LOGIN PASSWORD 'pw-of-finance-1ab5' IN ROLE lowtide_reader").unwrap();
    let mut connection = connect(&server.url()).await.unwrap();
    sqlx::raw_sql(include_str!("ledger.sql")).execute(&mut connection).await.unwrap();
    if machines > 0 {
        let sql = include_str!("many.sql").replace("MACHINES", &machines.to_string());
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        // As the operator does every minute.
        poster::post(&mut connection, wall_clock()).await.unwrap();
    }
    while sqlx::query_scalar::<_, i32>("SELECT ledger.rebuild_rollups(10000)").fetch_one(&mut connection).await.unwrap() > 0 {}
    sqlx::raw_sql("ANALYZE").execute(&mut connection).await.unwrap();
    seal::seal(&mut connection).await.unwrap();
    server
}

fn claim(name: &str, (kind, zone, price): (&str, &str, &str)) -> Value {
    json!({
        "apiVersion": "lowtide.dev/v1", "kind": "GpuNodeClaim", "metadata": { "name": name },
        "spec": {
            "nodePool": "gpu", "nodeClass": "us", "region": "us-east-1", "zone": zone, "instanceType": kind, "capacityType": "spot",
            "pricePerHour": price, "onDemandPerHour": "1.006", "gpus": 1, "decisionId": "00000000-0000-5000-8000-0000000000d1",
            "reason": "pending-pod", "attempt": 1, "launch": { "launchTemplate": "t", "launchTemplateVersion": "1", "subnet": "subnet-1" },
        },
    })
}

fn pod(namespace: &str, name: &str, annotations: Value) -> Value {
    json!({
        "metadata": { "namespace": namespace, "name": name, "labels": { "lowtide.dev/managed": "true" }, "annotations": annotations },
        "spec": { "containers": [{ "name": "server", "image": "example/server" }] },
    })
}

async fn make_claim(admin: &Client, manifest: Value, status: Value) {
    let api: Api<GpuNodeClaim> = Api::all(admin.clone());
    let claim: GpuNodeClaim = serde_json::from_value(manifest).unwrap();
    let name = claim.metadata.name.clone().unwrap();
    api.create(&PostParams::default(), &claim).await.unwrap();
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(json!({ "status": status }))).await.unwrap();
}

async fn make_pod(admin: &Client, manifest: Value) -> Pod {
    let pod: Pod = serde_json::from_value(manifest).unwrap();
    let api: Api<Pod> = Api::namespaced(admin.clone(), pod.metadata.namespace.as_deref().unwrap());
    api.create(&PostParams::default(), &pod).await.unwrap()
}

/// Two pods on machines of their own, one that is being moved, and the event that explains it.
async fn world(admin: &Client, machines: usize) {
    let at = |seconds: i64| (wall_clock() + Millis::from_secs(seconds)).to_rfc3339();
    let first = make_pod(
        admin,
        pod("ml", "chat-0", json!({ "lowtide.dev/claim": "lt-ml-1", "lowtide.dev/decision": "00000000-0000-5000-8000-0000000000d1" })),
    )
    .await;
    let other = make_pod(admin, pod("web", "site-0", json!({ "lowtide.dev/claim": "lt-web-1" }))).await;
    let old = make_pod(admin, pod("ml", "chat-1", json!({ "lowtide.dev/claim": "lt-old" }))).await;
    let uid = |pod: &Pod| pod.metadata.uid.clone().unwrap();
    let occupant =
        |namespace: &str, name: &str, pod: &Pod| json!({ "namespace": namespace, "name": name, "uid": uid(pod), "from": at(-600) });
    let runs = |occupants: Value| json!({ "phase": "Ready", "instanceId": "i-1", "launchedAt": at(-700), "nodeReadyAt": at(-650), "nodeName": "n", "occupants": occupants });
    // It is shared with a pod of web.
    let shared = json!([occupant("ml", "chat-0", &first), occupant("web", "site-0", &other)]);
    make_claim(admin, claim("lt-ml-1", ("g6.xlarge", "use1-az1", "0.31")), runs(shared)).await;
    make_claim(admin, claim("lt-web-1", ("g5.xlarge", "use1-az2", "0.95")), runs(json!([occupant("web", "site-0", &other)]))).await;
    let mut leaving = runs(json!([occupant("ml", "chat-1", &old)]));
    leaving["phase"] = json!("Draining");
    leaving["move"] = json!({ "reason": "interruption-notice", "decisionId": "d", "decidedAt": at(0) });
    leaving["interruption"] = json!({ "kind": "interruption", "noticedAt": at(0), "deadline": at(900), "source": "sqs" });
    make_claim(admin, claim("lt-old", ("g6.xlarge", "use1-az2", "0.40")), leaving).await;
    let now: Timestamp = wall_clock();
    let replaces = json!({
        "namespace": "ml", "name": "chat-1", "uid": uid(&old), "from_claim": "lt-old", "decision": "00000000-0000-0000-0000-000000000002",
        "noticed_at": now, "decided_at": now, "deadline": now + Millis::from_secs(900),
    });
    make_pod(admin, pod("ml", "chat-2", json!({ "lowtide.dev/claim": "lt-ml-1", "lowtide.dev/replaces": replaces.to_string() }))).await;
    let event = json!({
        "metadata": { "name": "chat-0.1", "namespace": "ml" }, "eventTime": wall_clock().to_rfc3339().replace('Z', "000Z"), "reportingController": "lowtide.dev/operator",
        "reportingInstance": "test", "action": "Place", "reason": "Placed", "type": "Normal", "note": "Placed <script>alert(3)</script>",
        "regarding": { "apiVersion": "v1", "kind": "Pod", "namespace": "ml", "name": "chat-0", "uid": uid(&first) },
    });
    let events: Api<Event> = Api::namespaced(admin.clone(), "ml");
    events.create(&PostParams::default(), &serde_json::from_value(event).unwrap()).await.unwrap();
    many(admin, machines).await;
}

/// Machines with a pod each, sixteen at a time.
async fn many(admin: &Client, machines: usize) {
    use futures::StreamExt;
    let one = |n: usize| async move {
        let (name, claim_name) = (format!("load-{n}"), format!("lt-load-{n}"));
        let made = make_pod(admin, pod("web", &name, json!({ "lowtide.dev/claim": claim_name }))).await;
        let launched = (wall_clock() - Millis::from_secs(600 + n as i64)).to_rfc3339();
        let occupants = json!([{ "namespace": "web", "name": name, "uid": made.metadata.uid, "from": launched }]);
        let status = json!({ "phase": "Ready", "instanceId": format!("i-{n}"), "launchedAt": launched, "nodeName": claim_name, "occupants": occupants });
        make_claim(admin, claim(&claim_name, ("g6.xlarge", "use1-az1", "0.31")), status).await;
    };
    futures::stream::iter((0..machines).map(one)).buffer_unordered(16).collect::<Vec<()>>().await;
}
