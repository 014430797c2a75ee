//! What the story applies: two node classes, of kubeadm's form and of k3s', a pool for each, and what runs on them.

use super::authority::{ADDRESS, JOIN_TOKEN, PORT};

/// How long a node may be silent before its work is replaced: the pools' bound.
pub const UNHEALTHY_AFTER_SECONDS: u64 = 60;
/// The port that the served Deployment has on every machine.
pub const NODE_PORT: u16 = 30080;
/// Where the Job keeps its checkpoint, and how many steps of 100 ms it is.
pub const CHECKPOINT: &str = "/train";
/// Work that lasts longer than the notice and everything that follows it.
pub const STEPS: u32 = 400;

/// The user data of the cluster's own machine, which is not lowtide's: where a load balancer in front of the cluster sends requests.
pub fn own_machine(hash: &str) -> String {
    format!(
        "#cloud-config
write_files:
- path: /etc/lowtide/join.yaml
  permissions: '0600'
  content: |
    apiVersion: kubeadm.k8s.io/v1beta4
    kind: JoinConfiguration
    discovery: {{bootstrapToken: {{apiServerEndpoint: '{ADDRESS}:{PORT}', token: {JOIN_TOKEN}, caCertHashes: ['{hash}']}}}}
    nodeRegistration: {{kubeletExtraArgs: [{{name: node-labels, value: lab.lowtide.dev/own=true}}]}}
runcmd:
- [kubeadm, join, --config, /etc/lowtide/join.yaml]
"
    )
}

/// A region of the simulated EC2, as in examples/nodeclasses.yaml.
pub struct Place {
    /// Its name.
    pub region: &'static str,
    /// One subnet for each zone.
    pub subnets: &'static str,
    /// The end of the ids of its image and security group.
    pub number: &'static str,
}

/// Where both forms are used: spot capacity of one type in three zones, so that what is taken back in one can be had in another.
pub const PLACE: Place =
    Place { region: "us-east-2", subnets: "subnet-026a19c8598ca5424, subnet-0bcb6487d7ee454dd, subnet-0df5591ed8b735139", number: "01" };

/// A namespace, a node class and a pool of one bootstrap form.
pub fn form(kind: &str, place: &Place, hash: &str) -> String {
    let Place { region, subnets, number } = place;
    let extra = if kind == "kubeadm" { format!("\n    extra: {{caCertHash: '{hash}'}}") } else { String::new() };
    format!(
        "apiVersion: v1
kind: Namespace
metadata: {{name: {kind}, labels: {{lowtide.dev/may-buy: {kind}}}}}
---
apiVersion: lowtide.dev/v1
kind: GpuNodeClass
metadata: {{name: {kind}}}
spec:
  region: {region}
  subnets: [{subnets}]
  image: ami-00f000000000000{number}
  securityGroups: [sg-00a000000000000{number}]
  instanceProfile: lowtide-node
  bootstrap:
    kind: {kind}
    serverUrl: https://{ADDRESS}:{PORT}
    tokenParameter: /lowtide/join-token{extra}
  interruptionQueue: lowtide-interruptions
---
apiVersion: lowtide.dev/v1
kind: GpuNodePool
metadata: {{name: {kind}}}
spec:
  namespaceSelector: {{matchLabels: {{lowtide.dev/may-buy: {kind}}}}}
  nodeClasses: [{kind}]
  capacityTypes: [spot, on-demand]
  maxPricePerGpuHour: \"4.00\"
  monthlyBudgetUsd: \"25000\"
  homeRegion: us-east-1
  emptyGraceSeconds: 60
  joinTimeoutSeconds: 120
  unhealthyAfterSeconds: {UNHEALTHY_AFTER_SECONDS}
"
    )
}

/// A Deployment that serves HTTP, and its Service on a port of every machine.
pub fn web(replicas: u32) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: kubeadm}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  strategy: {{rollingUpdate: {{maxUnavailable: 0, maxSurge: 1}}}}
  template:
    metadata:
      labels: {{app: web}}
      annotations: {{lowtide.dev/workload: inference, lowtide.dev/gpu-memory: 20Gi}}
    spec:
      terminationGracePeriodSeconds: 20
      containers:
        - name: server
          image: lab.local/workload:1
          imagePullPolicy: Never
          args: [serve]
          env:
            - {{name: DRAIN, value: '5'}}
            - {{name: NODE, valueFrom: {{fieldRef: {{fieldPath: spec.nodeName}}}}}}
          readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
          resources:
            requests: {{cpu: 500m, memory: 1Gi}}
            limits: {{memory: 1Gi, nvidia.com/gpu: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: kubeadm}}
spec:
  type: NodePort
  selector: {{app: web}}
  ports: [{{port: 80, targetPort: 8080, nodePort: {NODE_PORT}}}]
"
    )
}

/// A pod on this machine that asks for instance metadata.
pub fn peek(node: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: peek, namespace: default, labels: {{app: peek}}}}
spec:
  nodeName: {node}
  restartPolicy: Never
  tolerations: [{{operator: Exists}}]
  containers:
    - name: peek
      image: lab.local/workload:1
      imagePullPolicy: Never
      args: [ask, 'http://169.254.169.254/latest/meta-data/']
"
    )
}

/// A Job whose program saves its work on SIGTERM and reads it when it starts.
pub fn train(store: &str) -> String {
    format!(
        "apiVersion: batch/v1
kind: Job
metadata: {{name: train, namespace: k3s}}
spec:
  backoffLimit: 0
  template:
    metadata:
      labels: {{app: train}}
      annotations:
        lowtide.dev/workload: batch
        lowtide.dev/gpu-memory: 20Gi
        lowtide.dev/deadline: 2h
        lowtide.dev/expected-runtime: 5m
        lowtide.dev/checkpoint-grace: 20s
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 20
      containers:
        - name: train
          image: lab.local/workload:1
          imagePullPolicy: Never
          args: [train]
          env:
            - {{name: STORE, value: 'http://{store}{CHECKPOINT}'}}
            - {{name: STEPS, value: '{STEPS}'}}
            - {{name: POD, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}
          resources:
            requests: {{cpu: 500m, memory: 1Gi}}
            limits: {{memory: 1Gi, nvidia.com/gpu: 1}}
"
    )
}
