//! The lab of the story: a pool, two classes, a service on bought machines, and ways to look at them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use lowtide::lab::sim_client;
use lowtide::lab::start::{Lab, LabOptions, OperatorOptions};
use serde_json::Value;

/// Longest wait for anything to happen: two cores may be busy.
const PATIENCE: Duration = Duration::from_secs(180);

/// What must never be said: the password of the ledger, that of Prometheus, and the secret key of AWS.
pub const SECRETS: [&str; 3] = ["pw-of-the-ledger-7f3a", "pw-of-prometheus-9c1e", "key-of-aws-5d2b"];

/// The lab and the operator in it.
pub struct Stage {
    pub lab: Lab,
    /// The operator's own.
    pub kubeconfig: PathBuf,
}

const POOL: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: work, labels: {lowtide.dev/may-buy: "true"}}
---
apiVersion: lowtide.dev/v1
kind: GpuNodePool
metadata: {name: gpus}
spec:
  namespaceSelector: {matchLabels: {lowtide.dev/may-buy: "true"}}
  nodeClasses: [us-east-1, us-east-2]
  homeRegion: us-east-1
  return: {minSavingPercent: 90, minDwellSeconds: 3600}
  emptyGraceSeconds: 10
  joinTimeoutSeconds: 30
"#;

/// A Deployment whose pods each need a machine; `more` are further annotations of its template.
pub fn deployment(name: &str, replicas: u32, more: &str) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: work}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata:
      labels: {{app: {name}, team: ml}}
      annotations:
        lowtide.dev/workload: inference
        lowtide.dev/gpu-memory: 20Gi
        lowtide.dev/usage-query: requests=sum(increase(served_total[1h]))
        lab.lowtide.dev/start-seconds: "0.5"
{more}
    spec:
      containers: [{{name: c, image: x, resources: {{requests: {{cpu: "2", memory: 10Gi}}, limits: {{nvidia.com/gpu: 1}}}}}}]
"#
    )
}

impl Stage {
    /// Starts everything, and waits until two pods run on two machines.
    pub async fn set_up() -> Stage {
        let lab = Lab::start(LabOptions { boot: Duration::from_secs(1), ..LabOptions::default() }).await.unwrap();
        lab.prepare_ledger().await.unwrap();
        lab.postgres.psql("postgres", &format!("ALTER ROLE operator PASSWORD '{}'", SECRETS[0])).unwrap();
        lab.install_chart(&[]).unwrap();
        let kubeconfig = lab.operator_kubeconfig().unwrap();
        let mut stage = Stage { lab, kubeconfig };
        stage.start_operator(&[]).await;
        stage.lab.apply(&format!("{}{POOL}", classes())).unwrap();
        stage.lab.apply(&deployment("chat", 2, "")).unwrap();
        stage.until("two pods run", async |s| (s.ready_pods("chat").len() == 2).then_some(())).await;
        assert_eq!(stage.machines().await.len(), 2);
        stage
    }

    /// Starts `lowtide operator` and waits until it is ready.
    pub async fn start_operator(&mut self, more: &[(&str, &str)]) {
        self.spawn_operator(more);
        self.lab.operator_ready(PATIENCE).await.unwrap();
    }

    /// Starts `lowtide operator`.
    pub fn spawn_operator(&mut self, more: &[(&str, &str)]) {
        self.spawn(None, more);
    }

    /// Starts `lowtide operator` of another version and waits until it is ready.
    pub async fn start_program(&mut self, program: PathBuf) {
        self.spawn(Some(program), &[]);
        self.lab.operator_ready(PATIENCE).await.unwrap();
    }

    fn spawn(&mut self, program: Option<PathBuf>, more: &[(&str, &str)]) {
        let ledger = self.lab.postgres.url_as("operator", SECRETS[0], "postgres");
        // 0.1.0 said in its log what stands here.
        let secret = if program.is_some() { "none" } else { SECRETS[1] };
        let prometheus = format!("http://lowtide:{secret}@127.0.0.1:1/");
        let own = [
            ("LOWTIDE_DATABASE_URL", ledger.as_str()),
            ("LOWTIDE_PROMETHEUS_URL", prometheus.as_str()),
            ("AWS_SECRET_ACCESS_KEY", SECRETS[2]),
            ("LOWTIDE_LOG", "info,lowtide=debug,sqlx=debug,kube=debug,aws_config=debug"),
            ("LOWTIDE_PRICE_SECONDS", "2"),
            ("LOWTIDE_INSTANCE_SECONDS", "1"),
            ("LOWTIDE_POST_SECONDS", "1"),
            ("LOWTIDE_ORPHAN_GRACE_SECONDS", "60"),
        ];
        let all = own.iter().chain(more).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.lab.spawn_operator(&OperatorOptions { arguments: Vec::new(), environment: all, program }).unwrap();
    }

    /// Ends the operator as Kubernetes does.
    pub fn stop_operator(&mut self) {
        assert!(self.lab.stop_operator(Duration::from_secs(30)), "it ends by itself");
    }

    /// All that the operator has logged so far: its starts are in one file.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.lab.logs().unwrap().join("operator.log")).unwrap()
    }

    /// kubectl with the operator's own token; its answer, both streams.
    pub fn as_operator(&self, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new(self.lab.tools().path("kubectl"));
        let output = command.args(args).env("KUBECONFIG", &self.kubeconfig).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        if output.status.success() { Ok(said) } else { Err(said) }
    }

    pub fn items(&self, args: &[&str]) -> Vec<Value> {
        let args: Vec<&str> = ["get"].into_iter().chain(args.iter().copied()).chain(["-o", "json"]).collect();
        let list: Value = serde_json::from_str(&self.lab.kubectl(&args).unwrap()).unwrap();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// Uids of the pods of an app that are Ready and not about to end.
    pub fn ready_pods(&self, app: &str) -> BTreeSet<String> {
        let ready = |pod: &&Value| {
            let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
            pod["metadata"]["deletionTimestamp"].is_null() && conditions.into_iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
        };
        let pods = self.items(&["pods", "-n", "work", "-l", &format!("app={app}")]);
        pods.iter().filter(ready).map(|pod| pod["metadata"]["uid"].as_str().unwrap().to_owned()).collect()
    }

    /// Instances that EC2 shows as pending or running.
    pub async fn machines(&self) -> BTreeSet<String> {
        self.machines_that(|_| true).await
    }

    /// Of these, those whose description has what is asked for.
    pub async fn machines_that(&self, are: impl Fn(&Value) -> bool) -> BTreeSet<String> {
        let state = self.lab.ec2("state").await.unwrap();
        let alive = |i: &&Value| matches!(i["state"].as_str(), Some("pending" | "running")) && are(i);
        state["instances"].as_array().unwrap().iter().filter(alive).map(|i| i["instance_id"].as_str().unwrap().to_owned()).collect()
    }

    /// The claims, as the API server has them.
    pub fn claims(&self) -> Vec<Value> {
        self.items(&["gpunodeclaims"])
    }

    /// Notes of events with this reason, whatever they are about.
    pub fn events(&self, reason: &str) -> Vec<String> {
        let events = self.items(&["events.v1.events.k8s.io", "-A"]);
        events.iter().filter(|e| e["reason"] == reason).map(|e| e["note"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// A gauge without labels on the operator's page of metrics.
    pub async fn gauge(&self, name: &str) -> Option<f64> {
        let (url, patience) = (self.lab.operator_url(), Duration::from_secs(3));
        let page = tokio::time::timeout(patience, sim_client::get(&url, "/metrics")).await.ok()?.ok()?;
        page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    pub async fn until<T>(&mut self, what: &str, mut seen: impl AsyncFnMut(&mut Stage) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = seen(self).await {
                return found;
            }
            if begun.elapsed() > PATIENCE {
                let shown = self.lab.kubectl(&["get", "gpunodeclaims,pods,nodes", "-A", "-o", "wide"]).unwrap_or_default();
                let said = self.log();
                panic!("{what}: not within {PATIENCE:?}\n{shown}\n{}", &said[said.len().saturating_sub(6_000)..]);
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    /// Looks twice a second for this many seconds: the same machines, and the same pods, Ready.
    pub async fn steady(&mut self, seconds: u64) {
        let (machines, pods) = (self.machines().await, self.ready_pods("chat"));
        assert!(!machines.is_empty() && pods.len() >= 2, "{machines:?} {pods:?}");
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(seconds) {
            self.lab.check().unwrap();
            assert_eq!((self.machines().await, self.ready_pods("chat")), (machines.clone(), pods.clone()), "{}", self.log());
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// The classes of two regions, as the examples have them.
pub fn classes() -> String {
    let all = std::fs::read_to_string("examples/nodeclasses.yaml").unwrap();
    let wanted = all.split("\n---\n").filter(|text| text.contains("name: us-east-1\n") || text.contains("name: us-east-2\n"));
    let classes: Vec<&str> = wanted.collect();
    assert_eq!(classes.len(), 2, "the examples begin with us-east-1 and us-east-2");
    format!("{}\n---\n", classes.join("\n---\n"))
}

/// Pool and classes, for another API server.
pub fn policy() -> String {
    format!("{}{POOL}", classes())
}
