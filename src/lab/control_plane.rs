//! The real control plane on loopback: etcd, kube-apiserver, kube-controller-manager, kube-scheduler; and kwok, which plays kubelets.
//!
//! Decides: how each is started, so that several labs run at the same time and none outlives its parent.
//! Does not: register nodes (see `joiner`) or install anything (see `helm`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::LabError;
use super::kubeconfig::ApiServer;
use super::nodes::authority::{self, Authority};
use super::process::{Process, ProcessSpec, free_port};
use super::progress::Wait;
use super::tools::Tools;
use super::workdir::Workdir;

/// kwok plays the kubelet of nodes with this label and value. A label, because kwok 0.8.0 goes on playing a node that loses its
/// annotation; without the label the watch tells it that the node is gone.
pub const KUBELET_ON: (&str, &str) = ("lab.lowtide.dev/kubelet", "on");

/// How long a kubelet's Lease holds, in seconds (the kubelet's default).
const NODE_LEASE_SECONDS: u32 = 40;

/// Requests per second that controllers and scheduler may send, and in a burst: a lab of thousands of pods must not wait for their defaults (20 and
/// 50), which are those of a cluster with many nodes of its own.
const CLIENT_LIMITS: [&str; 2] = ["--kube-api-qps=500", "--kube-api-burst=1000"];

/// How often a start is tried when somebody took the port between asking and listening.
const START_ATTEMPTS: u32 = 3;

/// In the folder of logs: every call of the operator's ServiceAccount, one JSON object a line.
pub const AUDIT_LOG: &str = "audit.log";

/// Which calls the API server writes down: those of the operator, so that a test can compare them with its rights.
const AUDITED: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {level: Metadata, userGroups: ['system:serviceaccounts:lowtide-system']}
  - {level: None}
";

/// One kwok plays all kubelets. With its defaults (four pods, nodes and leases at a time, and the pods of one node) a thousand nodes fall behind:
/// pods that are scheduled do not start, and nodes miss their leases. Real kubelets work beside each other.
const KWOK_OPTIONS: &str = "apiVersion: config.kwok.x-k8s.io/v1alpha1
kind: KwokConfiguration
options:
  podPlayStageParallelism: 64
  nodePlayStageParallelism: 32
  nodeLeaseParallelism: 64
  podsOnNodeSyncParallelism: 16
";
const STAGES: [&str; 2] = [include_str!("stages/node.yaml"), include_str!("stages/pod.yaml")];

/// A running control plane. Dropping it ends its processes.
#[derive(Debug)]
pub struct ControlPlane {
    // Dropped in this order: those that call others first.
    _kwok: Process,
    _scheduler: Process,
    _controller_manager: Process,
    _api_server: Process,
    _etcd: Process,
    etcd_url: String,
    api: ApiServer,
    admin_kubeconfig: PathBuf,
    proxy_kubeconfig: String,
    kubectl: PathBuf,
}

/// The bearer tokens that the API server knows.
struct Tokens {
    admin: String,
    proxy: String,
}

impl ControlPlane {
    /// Starts everything and waits until the API server answers, controllers run and kwok watches. With an authority, real machines can
    /// join: the API server listens where they reach it, with certificates that they can check.
    pub async fn start(tools: &Tools, workdir: &Workdir, authority: Option<&Authority>) -> Result<ControlPlane, LabError> {
        let logs = workdir.folder("logs")?;
        let (etcd, etcd_url) = start_etcd(tools, workdir, &logs).await?;
        let tokens = Tokens { admin: random_token()?, proxy: random_token()? };
        let (api_server, api) = start_api_server(tools, workdir, &logs, (&etcd_url, &tokens), authority, &[]).await?;
        let admin_kubeconfig = workdir.write("admin.kubeconfig", &api.kubeconfig("admin", &tokens.admin))?;
        let proxy_kubeconfig = api.kubeconfig("system:kube-proxy", &tokens.proxy);
        let controller_manager = start_controller_manager(tools, &logs, (&api, authority), &admin_kubeconfig)?;
        let scheduler = start_scheduler(tools, &logs, &admin_kubeconfig)?;
        let kwok = start_kwok(tools, workdir, &logs, &admin_kubeconfig)?;
        let mut plane = ControlPlane {
            _kwok: kwok,
            _scheduler: scheduler,
            _controller_manager: controller_manager,
            _api_server: api_server,
            _etcd: etcd,
            etcd_url,
            api,
            admin_kubeconfig,
            proxy_kubeconfig,
            kubectl: tools.path("kubectl"),
        };
        plane.wait_for_controllers(&logs).await?;
        Ok(plane)
    }

    /// Where the API server is.
    pub fn api(&self) -> &ApiServer {
        &self.api
    }
    /// Where etcd is, and counts what it holds.
    pub fn etcd_url(&self) -> &str {
        &self.etcd_url
    }
    /// The kubeconfig of a cluster administrator.
    pub fn admin_kubeconfig(&self) -> &Path {
        &self.admin_kubeconfig
    }
    /// The kubeconfig of kube-proxy, its authority by path.
    pub fn proxy_kubeconfig(&self) -> &str {
        &self.proxy_kubeconfig
    }
    /// Runs kubectl as administrator; returns what it printed.
    pub fn kubectl(&self, args: &[&str]) -> Result<String, LabError> {
        let mut command = std::process::Command::new(&self.kubectl);
        command.env("KUBECONFIG", &self.admin_kubeconfig).args(args);
        super::process::run(&mut command)
    }
    /// Fails when one of its processes has ended.
    pub fn check(&mut self) -> Result<(), LabError> {
        for process in [&mut self._etcd, &mut self._api_server, &mut self._controller_manager, &mut self._scheduler, &mut self._kwok] {
            process.check()?;
        }
        Ok(())
    }

    /// Pods can be made once the controller manager has given namespace `default` its service account.
    async fn wait_for_controllers(&mut self, logs: &Path) -> Result<(), LabError> {
        let mut wait = Wait::begin("controllers, scheduler, kwok");
        let limit = Duration::from_secs(60);
        loop {
            self.check()?;
            let answer = self.kubectl(&["get", "serviceaccount", "default", "-n", "default", "-o", "name"]);
            let last = match answer {
                Ok(_) => break,
                Err(fault) => fault.to_string(),
            };
            if wait.elapsed() > limit {
                return Err(LabError::NotReady {
                    what: "kube-controller-manager".into(),
                    seconds: limit.as_secs(),
                    last,
                    logs: logs.to_owned(),
                });
            }
            wait.waiting("no default service account yet");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        wait.done("");
        Ok(())
    }
}

/// Starts a process on ports asked for by `spec`, and again on others when it ends because of a port. `ready` answers with what is said then, or with
/// what is missing.
pub(super) async fn start_on_free_ports<T>(
    what: &str,
    logs: &Path,
    limit: Duration,
    spec: impl Fn() -> Result<(ProcessSpec, T), LabError>,
    ready: impl AsyncFn(&T) -> Result<String, String>,
) -> Result<(Process, T), LabError> {
    let mut wait = Wait::begin(what);
    for attempt in 1.. {
        let (spec, address) = spec()?;
        let mut process = Process::spawn(&spec)?;
        let fault = loop {
            if let Err(fault) = process.check() {
                break fault;
            }
            let last = match ready(&address).await {
                Ok(said) => {
                    wait.done(&said);
                    return Ok((process, address));
                }
                Err(last) => last,
            };
            if wait.elapsed() > limit {
                return Err(LabError::NotReady { what: what.to_owned(), seconds: limit.as_secs(), last, logs: logs.to_owned() });
            }
            wait.waiting(&last);
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        if attempt >= START_ATTEMPTS || !process.log_tail(20_000).contains("address already in use") {
            return Err(fault);
        }
    }
    Err(LabError::NotReady { what: what.to_owned(), seconds: 0, last: "no attempt was made".into(), logs: logs.to_owned() })
}

async fn start_etcd(tools: &Tools, workdir: &Workdir, logs: &Path) -> Result<(Process, String), LabError> {
    let data = workdir.path().join("etcd");
    let spec = || {
        let (client, peer) = (format!("http://127.0.0.1:{}", free_port()?), format!("http://127.0.0.1:{}", free_port()?));
        let spec = ProcessSpec::new("etcd", tools.path("etcd"), logs).args([
            format!("--data-dir={}", data.display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            "--unsafe-no-fsync".into(),
            "--log-level=warn".into(),
        ]);
        Ok((spec, client))
    };
    let ready = async |url: &String| {
        let answer = super::sim_client::get(url, "/health").await.map_err(|fault| fault.to_string())?;
        if answer.contains("true") { Ok(String::new()) } else { Err(answer) }
    };
    start_on_free_ports("etcd", logs, Duration::from_secs(30), spec, ready).await
}

async fn start_api_server(
    tools: &Tools,
    workdir: &Workdir,
    logs: &Path,
    (etcd_url, tokens): (&str, &Tokens),
    authority: Option<&Authority>,
    further: &[&str],
) -> Result<(Process, ApiServer), LabError> {
    let known = format!("{},admin,admin,system:masters\n{},system:kube-proxy,system:kube-proxy\n", tokens.admin, tokens.proxy);
    let token_file = workdir.write("tokens.csv", &known)?;
    let own = workdir.folder("certificates")?;
    let (audited, audit_log) = (workdir.write("audit.yaml", AUDITED)?, logs.join(AUDIT_LOG));
    let spec = || {
        let (serving, api) = match authority {
            Some(authority) => for_machines(authority),
            None => on_loopback(&own, free_port()?),
        };
        let spec = ProcessSpec::new("kube-apiserver", tools.path("kube-apiserver"), logs).args(serving).args([
            format!("--etcd-servers={etcd_url}"),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            format!("--token-auth-file={}", token_file.display()),
            "--authorization-mode=Node,RBAC".into(),
            "--enable-admission-plugins=NodeRestriction".into(),
            "--service-cluster-ip-range=10.96.0.0/16".into(),
            format!("--audit-policy-file={}", audited.display()),
            format!("--audit-log-path={}", audit_log.display()),
            "--v=1".into(),
        ]);
        let spec = spec.args(further.iter().map(|one| (*one).to_owned()));
        Ok((spec, api))
    };
    let kubectl = tools.path("kubectl");
    let ready = async |api: &ApiServer| {
        let path = workdir.write("probe.kubeconfig", &api.kubeconfig("admin", &tokens.admin)).map_err(|fault| fault.to_string())?;
        let mut command = std::process::Command::new(&kubectl);
        command.env("KUBECONFIG", path).args(["get", "--raw", "/readyz", "--request-timeout=2s"]);
        super::process::run(&mut command).map(|_| String::new()).map_err(|_| "/readyz does not answer ok".to_owned())
    };
    start_on_free_ports("kube-apiserver", logs, Duration::from_secs(90), spec, ready).await
}

/// For ourselves alone. The server makes its serving certificate before it reads keys, so its key can sign service account tokens too.
fn on_loopback(certificates: &Path, port: u16) -> (Vec<String>, ApiServer) {
    let (certificate, key) = (certificates.join("apiserver.crt"), certificates.join("apiserver.key"));
    let arguments = vec![
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".into(),
        format!("--secure-port={port}"),
        format!("--cert-dir={}", certificates.display()),
        format!("--service-account-signing-key-file={}", key.display()),
        format!("--service-account-key-file={}", key.display()),
        "--endpoint-reconciler-type=none".into(),
    ];
    (arguments, ApiServer { url: format!("https://127.0.0.1:{port}"), certificate })
}

/// Where real machines and their pods reach it, with what kubeadm's certificates and kubelets need.
fn for_machines(authority: &Authority) -> (Vec<String>, ApiServer) {
    let file = |name: &str| authority.certificates.join(name).display().to_string();
    let arguments = vec![
        format!("--bind-address={}", authority::ADDRESS),
        format!("--advertise-address={}", authority::ADDRESS),
        format!("--secure-port={}", authority::PORT),
        format!("--tls-cert-file={}", file("apiserver.crt")),
        format!("--tls-private-key-file={}", file("apiserver.key")),
        format!("--client-ca-file={}", file("ca.crt")),
        "--enable-bootstrap-token-auth=true".into(),
        format!("--kubelet-client-certificate={}", file("apiserver-kubelet-client.crt")),
        format!("--kubelet-client-key={}", file("apiserver-kubelet-client.key")),
        "--kubelet-preferred-address-types=InternalIP".into(),
        format!("--service-account-signing-key-file={}", file("sa.key")),
        format!("--service-account-key-file={}", file("sa.pub")),
        "--allow-privileged=true".into(),
    ];
    (arguments, ApiServer { url: format!("https://{}:{}", authority::ADDRESS, authority::PORT), certificate: authority.root() })
}

fn start_controller_manager(
    tools: &Tools,
    logs: &Path,
    (api, authority): (&ApiServer, Option<&Authority>),
    kubeconfig: &Path,
) -> Result<Process, LabError> {
    let file = |authority: &Authority, name: &str| authority.certificates.join(name).display().to_string();
    let own_key = || api.certificate.with_file_name("apiserver.key").display().to_string();
    let key = authority.map_or_else(own_key, |authority| file(authority, "sa.key"));
    // Kubelets that join ask for certificates, and kubeadm for a signed address of the cluster.
    let signing = authority.map(|authority| {
        [
            format!("--cluster-signing-cert-file={}", file(authority, "ca.crt")),
            format!("--cluster-signing-key-file={}", file(authority, "ca.key")),
        ]
    });
    let joining = if authority.is_some() { ",bootstrapsigner,tokencleaner" } else { "" };
    let spec = ProcessSpec::new("kube-controller-manager", tools.path("kube-controller-manager"), logs).args([
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--service-account-private-key-file={key}"),
        format!("--root-ca-file={}", api.certificate.display()),
        "--use-service-account-credentials=true".into(),
        // As on EKS and k3s no pod network is handed out here, and no cloud is asked about nodes.
        format!("--controllers=*,-node-ipam-controller,-cloud-node-lifecycle-controller{joining}"),
        "--leader-elect=false".into(),
        "--secure-port=0".into(),
        "--v=1".into(),
    ]);
    Process::spawn(&spec.args(signing.into_iter().flatten()).args(CLIENT_LIMITS))
}

fn start_scheduler(tools: &Tools, logs: &Path, kubeconfig: &Path) -> Result<Process, LabError> {
    let spec = ProcessSpec::new("kube-scheduler", tools.path("kube-scheduler"), logs).args([
        format!("--kubeconfig={}", kubeconfig.display()),
        "--leader-elect=false".into(),
        "--secure-port=0".into(),
        "--v=1".into(),
    ]);
    Process::spawn(&spec.args(CLIENT_LIMITS))
}

fn start_kwok(tools: &Tools, workdir: &Workdir, logs: &Path, kubeconfig: &Path) -> Result<Process, LabError> {
    let config = workdir.write("kwok.yaml", &format!("{KWOK_OPTIONS}---\n{}", STAGES.join("---\n")))?;
    let spec = ProcessSpec::new("kwok", tools.path("kwok"), logs).args([
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--config={}", config.display()),
        format!("--manage-nodes-with-label-selector={}={}", KUBELET_ON.0, KUBELET_ON.1),
        format!("--node-lease-duration-seconds={NODE_LEASE_SECONDS}"),
        "--node-ip=127.0.0.1".into(),
        "--cidr=10.244.0.0/16".into(),
    ]);
    Process::spawn(&spec)
}

/// An API server and the scheduler alone: no controller and no kubelet changes anything, so what the scheduler says of thousands of pods is
/// had at its own pace. Nodes and pods are as they were written: no service account is needed and no new node is tainted. Dropping it ends
/// its processes.
#[derive(Debug)]
pub struct SchedulerAlone {
    // Dropped in this order: those that call others first.
    _scheduler: Process,
    _api_server: Process,
    _etcd: Process,
    admin_kubeconfig: PathBuf,
}

impl SchedulerAlone {
    /// Starts both, and etcd for them.
    pub async fn start(tools: &Tools, workdir: &Workdir) -> Result<SchedulerAlone, LabError> {
        let logs = workdir.folder("logs")?;
        let (etcd, etcd_url) = start_etcd(tools, workdir, &logs).await?;
        let tokens = Tokens { admin: random_token()?, proxy: random_token()? };
        let without = ["--disable-admission-plugins=ServiceAccount,TaintNodesByCondition"];
        let (api_server, api) = start_api_server(tools, workdir, &logs, (&etcd_url, &tokens), None, &without).await?;
        let admin_kubeconfig = workdir.write("admin.kubeconfig", &api.kubeconfig("admin", &tokens.admin))?;
        let scheduler = start_scheduler(tools, &logs, &admin_kubeconfig)?;
        Ok(SchedulerAlone { _scheduler: scheduler, _api_server: api_server, _etcd: etcd, admin_kubeconfig })
    }

    /// The kubeconfig of a cluster administrator.
    pub fn admin_kubeconfig(&self) -> &Path {
        &self.admin_kubeconfig
    }
}

/// 128 bits from the kernel, in hex.
fn random_token() -> Result<String, LabError> {
    use std::io::Read;
    let mut bytes = [0_u8; 16];
    let what = "reading /dev/urandom";
    std::fs::File::open("/dev/urandom").map_err(LabError::io(what))?.read_exact(&mut bytes).map_err(LabError::io(what))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
