//! The lab of the measurement: pods appear, machines are taken away, and meanwhile the operator is looked at.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use super::ScaleArguments;
use super::decisions::{Decisions, Latency, Notices};
use super::machine_load::Meter;
use super::metrics;
use super::replicas::Replicas;
use super::report::{Growth, Load, Machines};
use super::workloads::{self, NAMESPACE};
use crate::core::fleet::tags;
use crate::core::units::time::Timestamp;
use crate::lab::ec2::account::throttle::request_bucket;
use crate::lab::error::LabError;
use crate::lab::progress::{Wait, say};
use crate::lab::start::{Lab, LabOptions, OperatorOptions};
use crate::lab::{kubeconfig, sim_client, wall_clock};

/// From EC2's `running` to the registration of a Node (modelled).
const BOOT: Duration = Duration::from_secs(5);
/// How often the joiner asks what runs: the answer is megabytes with a thousand machines.
const JOINER_POLL: Duration = Duration::from_secs(1);
/// Orders and objects that are sent at once.
const AT_ONCE: usize = 16;
/// How often anything is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// After the last record is delivered, this long nothing may happen before the operator counts as resting.
const QUIET: Duration = Duration::from_secs(20);

/// The lab and what watches it.
pub struct Stage {
    lab: Lab,
    replicas: Replicas,
    decisions: Decisions,
    patience: Duration,
    sharing: u32,
    /// Regions with a node class.
    pub regions: usize,
}

/// A machine and the claim it was bought for.
struct Machine {
    id: String,
    claim: String,
}

/// What the API server has counted so far.
struct Requests {
    at: Instant,
    all: f64,
    operators: f64,
}

impl Stage {
    /// Starts the lab with an operator as it is installed by default.
    pub async fn set_up(arguments: &ScaleArguments) -> Result<Stage, LabError> {
        say("lowtide at scale, on a real control plane and a simulated EC2");
        let options = LabOptions { boot: BOOT, keep: arguments.keep, joiner_poll: JOINER_POLL, ..LabOptions::default() };
        let mut lab = Lab::start(options).await?;
        lab.prepare_ledger().await?;
        lab.install_chart(&[])?;
        lab.spawn_operator(&OperatorOptions::default())?;
        lab.operator_ready(Duration::from_secs(120)).await?;
        lab.kubectl(&["apply", "-f", "examples/nodeclasses.yaml"])?;
        let names = lab.kubectl(&["get", "gpunodeclasses", "-o", "jsonpath={.items[*].metadata.name}"])?;
        let classes: Vec<String> = names.split_whitespace().map(str::to_owned).collect();
        let sharing = arguments.sharing();
        if let Some(patch) = workloads::sharing_patch(sharing) {
            for class in &classes {
                lab.kubectl(&["patch", "gpunodeclass", class, "--type=merge", "-p", &patch])?;
            }
        }
        lab.apply(&workloads::list(workloads::pool(&classes)))?;
        let admin = lab.control_plane.admin_kubeconfig();
        let (replicas, decisions) = (Replicas::watch(admin).await?, Decisions::watch(admin).await?);
        let patience = Duration::from_secs(arguments.patience_seconds);
        let mut stage = Stage { lab, replicas, decisions, patience, sharing, regions: classes.len() };
        stage.wait_for_classes().await?;
        Ok(stage)
    }

    async fn wait_for_classes(&mut self) -> Result<(), LabError> {
        let mut wait = Wait::begin("node classes");
        let ready = "jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}";
        loop {
            let said = self.lab.kubectl(&["get", "gpunodeclasses", "-o", ready])?;
            let count = said.split_whitespace().filter(|status| *status == "True").count();
            if count == self.regions {
                wait.done(&format!("{count} ready"));
                return Ok(());
            }
            self.pause(&mut wait, &format!("{count} of {} ready", self.regions)).await?;
        }
    }

    /// Leaves the logs on disk.
    pub fn keep_logs(&mut self) {
        if let Ok(logs) = self.lab.logs() {
            self.lab.keep();
            say(&format!("logs stay in {}", logs.display()));
        }
    }

    /// Lets time pass, says what is waited for, and fails when it takes too long or a process has ended.
    async fn pause(&mut self, wait: &mut Wait, waiting: &str) -> Result<(), LabError> {
        self.lab.check()?;
        if wait.elapsed() > self.patience {
            let what = "the measured lab".to_owned();
            return Err(LabError::NotReady { what, seconds: self.patience.as_secs(), last: waiting.to_owned(), logs: self.lab.logs()? });
        }
        wait.waiting(waiting);
        tokio::time::sleep(LOOK).await;
        Ok(())
    }

    fn meter(&mut self) -> Result<Meter, LabError> {
        let running = self.lab.operator().map(|operator| operator.pid());
        let pid = running.ok_or_else(|| LabError::Unreadable {
            what: "the operator".to_owned(),
            expected: "a running process".to_owned(),
            found: "none".to_owned(),
        })?;
        Meter::start(pid)
    }

    fn requests(&self) -> Result<Requests, LabError> {
        let page = self.lab.kubectl(&["get", "--raw", "/metrics"])?;
        // The operator is the one client with the account of a workload: what belongs to the control plane has flow schemas of its own.
        let operators = metrics::sum(&page, "apiserver_flowcontrol_dispatched_requests_total", &["flow_schema=\"service-accounts\""]);
        Ok(Requests { at: Instant::now(), all: metrics::sum(&page, "apiserver_request_total", &[]), operators })
    }

    /// Waits until every record is in the ledger, and then a little.
    pub async fn settle(&mut self) -> Result<(), LabError> {
        let mut wait = Wait::begin("coming to rest");
        loop {
            let left = self.lab.kubectl(&["get", "gpudecisions", "-o", "name"])?.lines().count();
            if left == 0 {
                break;
            }
            self.pause(&mut wait, &format!("{left} records on their way to the ledger")).await?;
            // Asking costs the API server more than an answer is worth.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let quiet = Instant::now();
        while quiet.elapsed() < QUIET {
            self.pause(&mut wait, "nothing is asked of it").await?;
        }
        wait.done("every record is in the ledger");
        Ok(())
    }

    /// What the operator takes when nothing is asked of it.
    pub async fn watch_rest(&mut self, span: Duration) -> Result<Load, LabError> {
        let (meter, before) = (self.meter()?, self.requests()?);
        let mut wait = Wait::begin("looking on");
        while wait.elapsed() < span {
            self.pause(&mut wait, "").await?;
        }
        let load = self.load(&meter, &before).await?;
        wait.done(&format!("{:.1} % of a core, {:.0} MiB", load.operator.cpu_percent, load.operator.rss_mib));
        Ok(load)
    }

    async fn load(&self, meter: &Meter, before: &Requests) -> Result<Load, LabError> {
        let (operator, after) = (meter.taken()?, self.requests()?);
        let seconds = after.at.duration_since(before.at).as_secs_f64().max(0.01);
        let etcd = sim_client::get(self.lab.control_plane.etcd_url(), "/metrics").await?;
        Ok(Load {
            operator,
            requests_per_second: (after.all - before.all) / seconds,
            operator_requests_per_second: (after.operators - before.operators) / seconds,
            etcd_bytes: metrics::sum(&etcd, "etcd_mvcc_db_total_size_in_use_in_bytes", &[]),
        })
    }

    /// Makes services and waits until all replicas are ready, with notices meanwhile if some are to be sent.
    pub async fn grow(&mut self, wave: &str, services: u32, notices: Option<Notices>) -> Result<(Growth, Option<Latency>), LabError> {
        let (meter, requests, since, before) = (self.meter()?, self.requests()?, wall_clock(), self.replicas.now().0);
        let victims = match notices {
            Some(notices) => self.machines(notices.machines).await?,
            None => Vec::new(),
        };
        let admin = self.lab.control_plane.admin_kubeconfig().to_owned();
        let objects: Vec<_> = (0..services).map(|number| workloads::service(wave, number, self.sharing)).collect();
        let mut making = tokio::spawn(async move { make(&admin, objects).await });
        let wanted = before + i64::from(services) * 10;
        let (mut wait, mut noticed, mut due, mut made) = (Wait::begin(format!("{wanted} pods")), BTreeMap::new(), Instant::now(), false);
        let mut victims = victims.into_iter().peekable();
        loop {
            if !made && making.is_finished() {
                made = true;
                (&mut making).await.map_err(|fault| LabError::io("making services")(std::io::Error::other(fault)))??;
            }
            let (asked, ready) = self.replicas.now();
            // Once purchases have begun.
            let begun = ready > before || wait.elapsed() > Duration::from_secs(2);
            if let (true, true, Some(machine)) = (begun, due <= Instant::now(), victims.peek()) {
                noticed.insert(machine.claim.clone(), self.interrupt(&machine.id).await?);
                due = Instant::now() + notices.map_or(LOOK, |n| n.pause);
                victims.next();
            }
            let latency = self.decisions.about(&noticed);
            if made && asked == wanted && ready == wanted && victims.peek().is_none() && latency.undecided == 0 {
                break;
            }
            let notices_sent =
                if noticed.is_empty() { String::new() } else { format!(", {} notices, {} undecided", noticed.len(), latency.undecided) };
            self.pause(&mut wait, &format!("{ready} ready of {asked}{notices_sent}")).await?;
        }
        let growth = self.growth(wait, since, (&meter, &requests)).await?;
        let latency = (!noticed.is_empty()).then(|| self.decisions.about(&noticed));
        Ok((growth, latency))
    }

    /// Interrupts machines at once and waits until everything they ran runs again.
    pub async fn interrupt_at_once(&mut self, count: usize) -> Result<(Growth, Latency), LabError> {
        let (meter, requests, since) = (self.meter()?, self.requests()?, wall_clock());
        let victims = self.machines(count).await?;
        let mut wait = Wait::begin(format!("{} notices", victims.len()));
        let lab = &self.lab;
        let sent = stream::iter(&victims).map(|machine| async move {
            let at = interrupt(lab, &machine.id).await?;
            Ok::<_, LabError>((machine.claim.clone(), at))
        });
        let noticed: BTreeMap<String, Timestamp> = sent.buffer_unordered(AT_ONCE).try_collect().await?;
        let (mut fell, mut decided_at) = (false, None);
        loop {
            let ((asked, ready), latency) = (self.replicas.now(), self.decisions.about(&noticed));
            fell |= ready < asked;
            if latency.undecided == 0 {
                decided_at.get_or_insert_with(Instant::now);
            }
            // The count of ready replicas falls when pods are let go of, a moment after that was decided.
            let seen = fell || decided_at.is_some_and(|at: Instant| at.elapsed() > QUIET);
            if latency.undecided == 0 && seen && ready == asked {
                break;
            }
            self.pause(&mut wait, &format!("{ready} ready of {asked}, {} undecided", latency.undecided)).await?;
        }
        let growth = self.growth(wait, since, (&meter, &requests)).await?;
        Ok((growth, self.decisions.about(&noticed)))
    }

    async fn growth(&mut self, wait: Wait, since: Timestamp, (meter, requests): (&Meter, &Requests)) -> Result<Growth, LabError> {
        let (seconds, pods) = (wait.elapsed().as_secs_f64(), self.replicas.now().1);
        let machines = self.bought(since).await?;
        wait.done(&format!("{} machines bought, {:.0} s of it EC2's token bucket", machines.bought, machines.bucket_seconds));
        let load = self.load(meter, requests).await?;
        Ok(Growth { pods, seconds, machines, load })
    }

    /// Machines that run, with the claims they were bought for: `count` of them, spread over all.
    async fn machines(&self, count: usize) -> Result<Vec<Machine>, LabError> {
        let state = self.lab.ec2("state").await?;
        let running = |i: &&Value| i["state"] == "running" && i["capacity_type"] == "spot" && i["noticed_at_ms"].is_null();
        let machine =
            |i: &Value| Some(Machine { id: i["instance_id"].as_str()?.to_owned(), claim: i["tags"][tags::CLAIM].as_str()?.to_owned() });
        let all: Vec<Machine> = instances(&state).iter().filter(running).filter_map(machine).collect();
        let every = (all.len() / count.max(1)).max(1);
        Ok(all.into_iter().step_by(every).take(count).collect())
    }

    async fn interrupt(&self, instance: &str) -> Result<Timestamp, LabError> {
        interrupt(&self.lab, instance).await
    }

    /// What was bought since then, and how long EC2's token bucket would have made even the fastest client wait for it.
    async fn bought(&self, since: Timestamp) -> Result<Machines, LabError> {
        let state = self.lab.ec2("state").await?;
        let mut by_region: BTreeMap<String, i64> = BTreeMap::new();
        let (mut running, mut last) = (0, since.0);
        for instance in instances(&state) {
            running += usize::from(instance["state"] == "running");
            let launched = instance["launched_at_ms"].as_i64().unwrap_or(0);
            if launched >= since.0 {
                *by_region.entry(instance["region"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
                last = last.max(launched);
            }
        }
        let (burst, per_second) = request_bucket("CreateFleet");
        let wait = |launches: &i64| (launches - burst).max(0) as f64 / per_second as f64;
        let page = sim_client::get(&self.lab.operator_url(), "/metrics").await?;
        Ok(Machines {
            running,
            bought: by_region.values().sum(),
            regions: by_region.len(),
            last_launch_seconds: (last - since.0) as f64 / 1_000.0,
            bucket_seconds: by_region.values().map(wait).fold(0.0, f64::max),
            refused_by_bucket: metrics::sum(&page, "lowtide_launches_total", &["outcome=\"throttled\""]),
        })
    }
}

fn instances(state: &Value) -> &[Value] {
    state["instances"].as_array().map(Vec::as_slice).unwrap_or_default()
}

async fn interrupt(lab: &Lab, instance: &str) -> Result<Timestamp, LabError> {
    let answer = lab.order("interrupt", &json!({ "instance_id": instance })).await?;
    Ok(answer["noticed_at_ms"].as_i64().map_or_else(wall_clock, Timestamp))
}

/// An API server that is too busy to answer in time is asked again by the client, and has made the object by then.
fn is_there<K>(answer: Result<K, kube::Error>) -> Result<(), kube::Error> {
    match answer {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        other => other.map(drop),
    }
}

/// Makes Services and Deployments.
async fn make(admin_kubeconfig: &Path, objects: Vec<Vec<Value>>) -> Result<(), LabError> {
    let client = kubeconfig::client(admin_kubeconfig, None).await?;
    let (services, deployments): (Api<Service>, Api<Deployment>) =
        (Api::namespaced(client.clone(), NAMESPACE), Api::namespaced(client, NAMESPACE));
    let unreadable = |fault: serde_json::Error| LabError::Unreadable {
        what: "a manifest of the measurement".to_owned(),
        expected: "an object of Kubernetes".to_owned(),
        found: fault.to_string(),
    };
    let made = stream::iter(objects.into_iter().flatten()).map(|object| {
        let (services, deployments) = (&services, &deployments);
        async move {
            let params = PostParams::default();
            if object["kind"] == "Service" {
                let service: Service = serde_json::from_value(object).map_err(unreadable)?;
                is_there(services.create(&params, &service).await).map_err(LabError::kube("making a Service"))
            } else {
                let deployment: Deployment = serde_json::from_value(object).map_err(unreadable)?;
                is_there(deployments.create(&params, &deployment).await).map_err(LabError::kube("making a Deployment"))
            }
        }
    });
    made.buffer_unordered(AT_ONCE).try_collect().await
}
