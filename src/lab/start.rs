//! The whole lab: Postgres, the EC2 simulator, the control plane, kwok, the node joiner and the batch programs, composed.
//!
//! Decides: the order of starting and ending, and what the operator's process is given.
//! Does not: tell a story (`demo`) or decide anything that lowtide decides.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::batch_program::{self, Timeline};
use super::control_plane::ControlPlane;
use super::endpoint_watch::EndpointWatch;
use super::error::LabError;
use super::helm::Helm;
use super::joiner::{self, JoinerOptions};
use super::nodes::hypervisor::Hypervisor;
use super::nodes::site::{self, RealMachines};
use super::postgres::{PrivatePostgres, password_of};
use super::process::{Process, ProcessSpec, free_port, run, sibling_binary};
use super::progress::{Wait, say};
use super::sim_client;
use super::tools::Tools;
use super::workdir::Workdir;

/// The namespace the chart is installed in.
pub const OPERATOR_NAMESPACE: &str = "lowtide-system";
/// The chart's ServiceAccount, and the release's name.
pub const RELEASE: &str = "lowtide";

/// The cluster's name: what instances are tagged with.
pub const CLUSTER: &str = "lab";

/// Who the operator is in Postgres: may only insert.
const OPERATOR_USER: &str = "operator";
/// Who finance is in Postgres: may only read.
const FINANCE_USER: &str = "finance";

/// What can be chosen before the lab starts.
#[derive(Debug, Clone)]
pub struct LabOptions {
    /// The repository's root: the chart is below it.
    pub repository: PathBuf,
    /// From EC2's `running` to the registration of a Node (modelled).
    pub boot: Duration,
    /// How often the joiner asks the simulator what runs.
    pub joiner_poll: Duration,
    /// Further arguments for `lowtide-ec2`.
    pub ec2_arguments: Vec<String>,
    /// Leaves logs and data on disk at the end.
    pub keep: bool,
    /// Machines are real ones; otherwise kwok and the joiner play them.
    pub real_machines: Option<RealMachines>,
}

impl Default for LabOptions {
    /// The current folder as repository, and a boot of 2 s so that a look around does not take minutes.
    fn default() -> Self {
        let joiner_poll = Duration::from_millis(250);
        LabOptions {
            repository: PathBuf::from("."),
            boot: Duration::from_secs(2),
            joiner_poll,
            ec2_arguments: Vec::new(),
            keep: false,
            real_machines: None,
        }
    }
}

/// How the operator's process is started.
#[derive(Debug, Clone, Default)]
pub struct OperatorOptions {
    /// After `lowtide operator`.
    pub arguments: Vec<String>,
    /// Beside what every operator of the lab gets.
    pub environment: Vec<(String, String)>,
    /// Of another version; `None` is that of this build.
    pub program: Option<PathBuf>,
}

/// A running lab. Dropping it ends all its processes and removes its folder.
#[derive(Debug)]
pub struct Lab {
    operator: Option<Process>,
    joiner: JoinHandle<()>,
    hypervisor: Option<Hypervisor>,
    batch: JoinHandle<()>,
    timeline: Timeline,
    /// The control plane.
    pub control_plane: ControlPlane,
    ec2: Process,
    ec2_url: String,
    /// The ledger's server: can be stopped and resumed.
    pub postgres: PrivatePostgres,
    helm: Helm,
    tools: Tools,
    options: LabOptions,
    operator_port: u16,
    workdir: Workdir,
}

impl Lab {
    /// Starts everything but the operator.
    pub async fn start(options: LabOptions) -> Result<Lab, LabError> {
        let tools = Tools::find()?;
        let mut workdir = Workdir::create()?;
        if options.keep {
            workdir.keep();
        }
        let (postgres, (ec2, ec2_url), (control_plane, hypervisor)) = match start_servers(&tools, &workdir, &options).await {
            Ok(servers) => servers,
            Err(fault) => {
                // The fault names logs; the next start sweeps them.
                workdir.keep();
                return Err(fault);
            }
        };
        let admin = control_plane.admin_kubeconfig().to_owned();
        let joiner = match &hypervisor {
            Some(hypervisor) => reported_task("hypervisor", hypervisor.clone().follow(ec2_url.clone())),
            None => {
                let (simulator, admin_kubeconfig) = (ec2_url.clone(), admin.clone());
                let options = JoinerOptions { simulator, admin_kubeconfig, boot: options.boot, poll: options.joiner_poll };
                reported_task("node joiner", joiner::run(options))
            }
        };
        let timeline = Timeline::default();
        let batch = batch_program::run(admin.clone(), timeline.clone());
        let helm = Helm::new(tools.path("helm"), &admin, workdir.folder("helm")?);
        Ok(Lab {
            operator: None,
            joiner,
            hypervisor,
            batch: reported_task("batch program", batch),
            timeline,
            control_plane,
            ec2,
            ec2_url,
            postgres,
            helm,
            tools,
            options,
            operator_port: free_port()?,
            workdir,
        })
    }

    /// Installs `charts/lowtide` with real Helm, without the Deployment. `values` are further ones, as for `--set`.
    pub fn install_chart(&self, values: &[String]) -> Result<(), LabError> {
        self.install_chart_of(&self.options.repository, values)
    }

    /// The same with the chart of another version, whose source is in `repository`.
    pub fn install_chart_of(&self, repository: &Path, values: &[String]) -> Result<(), LabError> {
        let wait = Wait::begin("helm install");
        let chart = repository.join("charts/lowtide");
        // The operator runs as a process, and hooks would need a node that runs containers.
        let of_the_lab = [
            format!("cluster.name={CLUSTER}"),
            "ledger.secretName=ledger".into(),
            "operator.enabled=false".into(),
            "hooks.enabled=false".into(),
        ];
        let values: Vec<String> = of_the_lab.iter().chain(values).cloned().collect();
        self.helm.install(RELEASE, OPERATOR_NAMESPACE, &chart, &values)?;
        wait.done(&chart.display().to_string());
        Ok(())
    }

    /// Migrates the ledger as its owner, and makes the users that the operator and finance log in as.
    pub async fn prepare_ledger(&self) -> Result<(), LabError> {
        let wait = Wait::begin("ledger schema");
        self.lowtide(&["ledger", "migrate"])?;
        for (user, role) in [(OPERATOR_USER, "lowtide_writer"), (FINANCE_USER, "lowtide_reader")] {
            self.postgres.psql("postgres", &format!("CREATE ROLE {user} LOGIN PASSWORD '{}' IN ROLE {role}", password_of(user)))?;
        }
        wait.done("owner migrates, the operator only inserts, finance only reads");
        Ok(())
    }

    /// Runs SQL as finance's read-only user; gives psql's table.
    pub fn psql_as_finance(&self, sql: &str) -> Result<String, LabError> {
        run(Command::new("psql").args(["-X", "-v", "ON_ERROR_STOP=1", &self.finance_url(), "-c", sql]))
    }

    /// The ledger, for finance's read-only user.
    pub fn finance_url(&self) -> String {
        self.postgres.url_for(FINANCE_USER, "postgres")
    }

    /// Leaves logs and data on disk at the end.
    pub fn keep(&mut self) {
        self.workdir.keep();
    }

    /// A kubeconfig with a token of the chart's ServiceAccount: the operator may do what the chart's RBAC lets it do, and no more.
    pub fn operator_kubeconfig(&self) -> Result<PathBuf, LabError> {
        self.kubeconfig_of(RELEASE)
    }

    /// A kubeconfig with a token of one of the chart's ServiceAccounts.
    pub fn kubeconfig_of(&self, account: &str) -> Result<PathBuf, LabError> {
        let token = self.kubectl(&["create", "token", account, "-n", OPERATOR_NAMESPACE, "--duration=24h"])?;
        self.workdir.write(&format!("{account}.kubeconfig"), &self.control_plane.api().kubeconfig(account, token.trim()))
    }

    /// Starts `lowtide operator` as a process.
    pub fn spawn_operator(&mut self, options: &OperatorOptions) -> Result<(), LabError> {
        let kubeconfig = self.operator_kubeconfig()?;
        let program = options.program.clone().map_or_else(|| sibling_binary("lowtide"), Ok)?;
        let mut spec = ProcessSpec::new("operator", program, &self.logs()?).args(["operator"]);
        spec = spec.args(options.arguments.iter().cloned());
        spec.environment = self.aws_environment();
        spec.environment.extend([
            ("KUBECONFIG".to_owned(), kubeconfig.display().to_string()),
            ("LOWTIDE_DATABASE_URL".to_owned(), self.postgres.url_for(OPERATOR_USER, "postgres")),
            ("LOWTIDE_LISTEN".to_owned(), format!("127.0.0.1:{}", self.operator_port)),
            ("LOWTIDE_NAMESPACE".to_owned(), OPERATOR_NAMESPACE.to_owned()),
            ("LOWTIDE_CLUSTER".to_owned(), CLUSTER.to_owned()),
            ("LOWTIDE_INSTANCE".to_owned(), "lab-operator".to_owned()),
        ]);
        spec.environment.extend(options.environment.iter().cloned());
        spec.without = vec!["AWS_PROFILE".into(), "AWS_SESSION_TOKEN".into(), "AWS_REGION".into(), "AWS_DEFAULT_REGION".into()];
        self.operator = Some(Process::spawn(&spec)?);
        Ok(())
    }

    /// SIGKILL: the operator gets no chance to tidy up.
    pub fn kill_operator(&mut self) {
        if let Some(mut operator) = self.operator.take() {
            operator.kill();
        }
    }
    /// SIGTERM, then at most `grace`. True when it ended by itself.
    pub fn stop_operator(&mut self, grace: Duration) -> bool {
        self.operator.take().is_none_or(|mut operator| operator.stop(grace))
    }
    /// The operator's process, while there is one.
    pub fn operator(&mut self) -> Option<&mut Process> {
        self.operator.as_mut()
    }

    /// What makes an unmodified AWS SDK speak to the simulator and to nobody else.
    pub fn aws_environment(&self) -> Vec<(String, String)> {
        let pairs = [
            ("AWS_ENDPOINT_URL", self.ec2_url.as_str()),
            ("AWS_ACCESS_KEY_ID", "lab"),
            ("AWS_SECRET_ACCESS_KEY", "key-of-the-lab-3c8e"),
            // Without it the SDK's default chain asks 169.254.169.254.
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Runs kubectl as administrator; returns what it printed.
    pub fn kubectl(&self, args: &[&str]) -> Result<String, LabError> {
        self.control_plane.kubectl(args)
    }
    /// Runs `kubectl apply` on a manifest's text, as administrator.
    pub fn apply(&self, manifest: &str) -> Result<String, LabError> {
        let path = self.workdir.write("apply.yaml", manifest)?;
        self.kubectl(&["apply", "-f", &path.display().to_string()])
    }
    /// Runs a `lowtide` subcommand with the operator's credentials and the ledger's address; returns what it printed.
    pub fn lowtide(&self, args: &[&str]) -> Result<String, LabError> {
        let mut command = Command::new(sibling_binary("lowtide")?);
        command.args(args).envs(self.aws_environment());
        command.env("KUBECONFIG", self.control_plane.admin_kubeconfig()).env("DATABASE_URL", self.postgres.url());
        run(&mut command)
    }
    /// The real machines, if there are any.
    pub fn hypervisor(&self) -> Option<&Hypervisor> {
        self.hypervisor.as_ref()
    }
    /// Watches the ready endpoints of a Service.
    pub async fn watch_endpoints(&self, namespace: &str, service: &str) -> Result<EndpointWatch, LabError> {
        EndpointWatch::start(self.control_plane.admin_kubeconfig(), namespace, service).await
    }
    /// What the batch programs did so far.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }
    /// Sends the EC2 simulator an order, e.g. `("interrupt", {"instance_id": "i-0"})`; returns its answer.
    pub async fn order(&self, order: &str, body: &serde_json::Value) -> Result<serde_json::Value, LabError> {
        let answer = sim_client::post(&self.ec2_url, &format!("/_sim/{order}"), body).await?;
        serde_json::from_str(&answer).map_err(|fault| LabError::Unreadable {
            what: format!("the answer to /_sim/{order}"),
            expected: fault.to_string(),
            found: answer,
        })
    }
    /// What the EC2 simulator tells of itself, e.g. `state` or `bill`.
    pub async fn ec2(&self, what: &str) -> Result<serde_json::Value, LabError> {
        sim_client::get_json(&self.ec2_url, &format!("/_sim/{what}")).await
    }
    /// The EC2 simulator, e.g. `http://127.0.0.1:8080`.
    pub fn ec2_url(&self) -> &str {
        &self.ec2_url
    }
    /// Where the operator answers `/metrics`, `/livez`, `/readyz`.
    pub fn operator_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.operator_port)
    }
    /// Real Helm against this cluster.
    pub fn helm(&self) -> &Helm {
        &self.helm
    }
    /// The control plane's programs.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }
    /// A folder of this name that is removed with the lab.
    pub fn folder(&self, name: &str) -> Result<PathBuf, LabError> {
        self.workdir.folder(name)
    }
    /// Writes a file that is removed with the lab.
    pub fn write(&self, name: &str, content: &str) -> Result<PathBuf, LabError> {
        self.workdir.write(name, content)
    }
    /// The folder of all logs.
    pub fn logs(&self) -> Result<PathBuf, LabError> {
        self.workdir.folder("logs")
    }
    /// Fails when a process that should run has ended; its log then stays on disk.
    pub fn check(&mut self) -> Result<(), LabError> {
        let outcome = self.control_plane.check().and_then(|()| self.ec2.check());
        let outcome = outcome.and_then(|()| self.operator.as_mut().map_or(Ok(()), Process::check));
        if outcome.is_err() {
            self.workdir.keep();
        }
        outcome
    }
    /// Waits until the operator says that it is ready.
    pub async fn operator_ready(&mut self, limit: Duration) -> Result<(), LabError> {
        let mut wait = Wait::begin("operator");
        loop {
            self.check()?;
            let last = match sim_client::get(&self.operator_url(), "/readyz").await {
                Ok(_) => break,
                Err(fault) => fault.to_string(),
            };
            if wait.elapsed() > limit {
                self.workdir.keep();
                return Err(LabError::NotReady { what: "operator".into(), seconds: limit.as_secs(), last, logs: self.logs()? });
            }
            wait.waiting("/readyz does not answer ok");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        wait.done(&self.operator_url());
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.joiner.abort();
        self.batch.abort();
        self.hypervisor.iter().for_each(Hypervisor::power_off);
        self.stop_operator(Duration::from_secs(5));
    }
}

fn reported_task(name: &'static str, task: impl Future<Output = Result<(), LabError>> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(fault) = task.await {
            say(&format!("  {name} ended: {fault}"));
        }
    })
}

type Servers = (PrivatePostgres, (Process, String), (ControlPlane, Option<Hypervisor>));

async fn start_servers(tools: &Tools, workdir: &Workdir, options: &LabOptions) -> Result<Servers, LabError> {
    let Some(real) = &options.real_machines else {
        let cluster = ControlPlane::start(tools, workdir, None).await?;
        return Ok((start_postgres(workdir)?, start_ec2(workdir, options).await?, (cluster, None)));
    };
    let authority = site::found(workdir)?;
    let (postgres, ec2) = (start_postgres(workdir)?, start_ec2(workdir, options).await?);
    let cluster = ControlPlane::start(tools, workdir, Some(&authority)).await?;
    let hypervisor = site::open(&authority, workdir, &cluster, real)?;
    Ok((postgres, ec2, (cluster, Some(hypervisor))))
}

fn start_postgres(workdir: &Workdir) -> Result<PrivatePostgres, LabError> {
    use std::os::unix::fs::PermissionsExt;
    let wait = Wait::begin("postgres");
    // As root the server runs as another user, who must be able to enter our folder.
    std::fs::set_permissions(workdir.path(), std::fs::Permissions::from_mode(0o711)).map_err(LabError::io("opening the lab's folder"))?;
    let postgres = PrivatePostgres::start(workdir.path().join("postgres"))?;
    wait.done(&format!("127.0.0.1:{}", postgres.port()));
    Ok(postgres)
}

async fn start_ec2(workdir: &Workdir, options: &LabOptions) -> Result<(Process, String), LabError> {
    let (program, logs) = (sibling_binary("lowtide-ec2")?, workdir.folder("logs")?);
    let wait = Wait::begin("EC2 simulator");
    let limit = Duration::from_secs(30);
    let mut attempt = 1;
    loop {
        let port = free_port()?;
        let url = format!("http://127.0.0.1:{port}");
        let spec = ProcessSpec::new("ec2", &program, &logs).args(["--port".to_owned(), port.to_string()]);
        let mut process = Process::spawn(&spec.args(options.ec2_arguments.iter().cloned()))?;
        let fault = loop {
            if let Err(fault) = process.check() {
                break fault;
            }
            match sim_client::get(&url, "/_sim/state").await {
                Ok(_) => {
                    wait.done(&url);
                    return Ok((process, url));
                }
                Err(last) if wait.elapsed() > limit => {
                    return Err(LabError::NotReady {
                        what: "EC2 simulator".into(),
                        seconds: limit.as_secs(),
                        last: last.to_string(),
                        logs,
                    });
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        attempt += 1;
        if attempt > 3 {
            return Err(fault);
        }
    }
}
