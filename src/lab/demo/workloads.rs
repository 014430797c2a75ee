//! The manifests of the story. Only the annotations under `lowtide.dev/` are lowtide's; those under `lab.lowtide.dev/` tell the lab what to play.

use super::models::{BOOT, CHECKPOINT, COLD_START, WARM_START};

/// The namespace of the story's workloads.
pub const NAMESPACE: &str = "story";

/// The pool of the story: the example's, with waiting times that fit a story.
pub fn pool(classes: &[&str]) -> String {
    format!(
        "apiVersion: v1
kind: Namespace
metadata:
  name: {NAMESPACE}
  labels: {{lowtide.dev/may-buy: \"true\"}}
---
apiVersion: lowtide.dev/v1
kind: GpuNodePool
metadata:
  name: gpus
spec:
  namespaceSelector:
    matchLabels: {{lowtide.dev/may-buy: \"true\"}}
  nodeClasses: [{}]
  capacityTypes: [spot, on-demand]
  maxPricePerGpuHour: \"4.00\"
  monthlyBudgetUsd: \"25000\"
  homeRegion: us-east-1
  return: {{minSavingPercent: 15, minDwellSeconds: 12}}
  emptyGraceSeconds: 8
  joinTimeoutSeconds: {}
  coolDown: {{baseSeconds: 60, maxSeconds: 600}}
",
        classes.join(", "),
        // Twice the boot, at the smallest scale the story is played at.
        (BOOT.seconds / 4.0 * 2.0) as i64
    )
}

/// A served model with a Service, `replicas` of 20 GiB each.
pub struct Inference<'a> {
    /// Name of Deployment, Service and label `app`.
    pub name: &'a str,
    /// Who pays.
    pub team: &'a str,
    /// How many.
    pub replicas: u32,
    /// Pulls and compiles at each start.
    pub cold: bool,
    /// GPU memory.
    pub gpu_memory: &'a str,
}

impl Inference<'_> {
    /// The manifest. The grace shrinks with the notice, so that their relation stays real.
    pub fn manifest(&self, scale: f64) -> String {
        let Inference { name, team, replicas, gpu_memory, .. } = self;
        let start = if self.cold { COLD_START } else { WARM_START }.seconds / scale;
        let grace = (8.0 / scale).ceil() as i64;
        format!(
            "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  strategy: {{rollingUpdate: {{maxUnavailable: 0, maxSurge: 1}}}}
  template:
    metadata:
      labels: {{app: {name}, team: {team}, service: {name}, environment: production, cost-center: cc-1200, product-area: support}}
      annotations:
        lowtide.dev/workload: inference
        lowtide.dev/gpu-memory: {gpu_memory}
        lab.lowtide.dev/start-seconds: \"{start}\"
    spec:
      terminationGracePeriodSeconds: {grace}
      containers:
        - name: server
          image: server:1
          resources:
            requests: {{cpu: \"2\", memory: 10Gi}}
            limits: {{memory: 10Gi, nvidia.com/gpu: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec:
  selector: {{app: {name}}}
  ports: [{{port: 80}}]
"
        )
    }
}

/// A Job with a deadline, that checkpoints when asked to stop.
pub fn batch(name: &str, work_seconds: u32, scale: f64) -> String {
    let checkpoint = CHECKPOINT.seconds / scale;
    format!(
        "apiVersion: batch/v1
kind: Job
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec:
  backoffLimit: 0
  template:
    metadata:
      labels: {{app: {name}, team: research, service: {name}, environment: production, cost-center: cc-3400, product-area: models}}
      annotations:
        lowtide.dev/workload: batch
        lowtide.dev/gpu-memory: 20Gi
        lowtide.dev/deadline: 1h
        lowtide.dev/expected-runtime: 30m
        lowtide.dev/checkpoint-grace: 20s
        lab.lowtide.dev/work-seconds: \"{work_seconds}\"
        lab.lowtide.dev/checkpoint-seconds: \"{checkpoint}\"
        lab.lowtide.dev/start-seconds: \"2\"
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 20
      containers:
        - name: train
          image: train:1
          resources:
            requests: {{cpu: \"2\", memory: 10Gi}}
            limits: {{memory: 10Gi, nvidia.com/gpu: 1}}
"
    )
}
