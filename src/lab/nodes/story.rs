//! The story of `make nodes`: machines that join by lowtide's own user data, and what becomes of work on them.
//!
//! Decides: the order of the story and what counts as having happened. Everything printed was observed.

use std::time::{Duration, Instant};

use serde_json::json;

use super::load::{Load, Tally, ask};
use super::manifests::{self, NODE_PORT, UNHEALTHY_AFTER_SECONDS};
use super::stage::{Stage, is_ready, label, moment, text};
use super::store::Store;
use super::{NodesArguments, authority};
use crate::lab::error::LabError;
use crate::lab::progress::say;
use crate::lab::wall_clock;

/// The cluster's own machine, in front of which a load balancer would stand.
const OWN_ADDRESS: &str = "172.30.0.10";
/// The port of the checkpoint store, at the router.
const STORE_PORT: u16 = 9000;
/// The time that EC2 gives, in seconds: its two minutes.
const NOTICE: u64 = 120;
/// The fewest requests that a step under load must have seen.
const FEWEST_REQUESTS: usize = 1_000;
/// From silence to `Ready: Unknown`: the controller manager's default grace and its period.
const NODE_GRACE_SECONDS: f64 = 55.0;

/// Plays it; gives what was asked and did not happen.
pub async fn play(arguments: &NodesArguments) -> Result<Vec<String>, LabError> {
    let began = Instant::now();
    let mut stage = Stage::set_up(arguments).await?;
    let outcome = stage.tell(arguments.first_only).await;
    let failed = stage.report.failed();
    if outcome.is_err() || !failed.is_empty() {
        stage.lab.keep();
        if let (Some(hypervisor), Ok(logs)) = (stage.lab.hypervisor(), stage.lab.logs()) {
            say(&format!("\nlogs stay in {}; what the machines said last:\n{}", logs.display(), hypervisor.last_words()));
        }
    }
    stage.report.step("all of it");
    stage.report.seconds("from the first program started to here", began.elapsed().as_secs_f64());
    stage.report.write(&arguments.report)?;
    outcome?;
    Ok(failed)
}

impl Stage {
    async fn tell(&mut self, first_only: bool) -> Result<(), LabError> {
        let hash = self.own_machine().await?;
        self.lab.apply(&format!(
            "{}---\n{}",
            manifests::form("kubeadm", &manifests::PLACE, &hash),
            manifests::form("k3s", &manifests::PLACE, &hash)
        ))?;
        let ready = self.wait("both node classes to be ready", 60, |stage| {
            let classes = stage.list(&["gpunodeclasses"])?;
            Ok((classes.len() == 2 && classes.iter().all(|class| text(class, "/status/conditions/0/status") == "True")).then_some(()))
        });
        let ready = ready.await?;
        self.report.check("both node classes are ready", ready.is_some());
        self.serve(if first_only { 1 } else { 2 }).await?;
        if first_only {
            return Ok(());
        }
        self.metadata_stays_on_the_machine().await?;
        self.take_back().await?;
        self.fall_silent().await?;
        self.resume().await
    }

    /// The cluster's own machine joins by kubeadm's own configuration.
    async fn own_machine(&mut self) -> Result<String, LabError> {
        self.report.step("a machine of the cluster's own");
        let hash =
            authority::Authority::hash(&super::requirements::node_folder().join("bin/kubeadm"), self.lab.control_plane.admin_kubeconfig())?;
        let began = Instant::now();
        let name = match self.lab.hypervisor() {
            Some(hypervisor) => hypervisor.own_machine(OWN_ADDRESS, manifests::own_machine(&hash))?,
            None => String::new(),
        };
        let joined = self.wait("it to be Ready", 90, |stage| Ok(stage.node(&name)?.filter(is_ready).map(drop))).await?;
        self.report.seconds("power on -> Node Ready, by kubeadm join", began.elapsed().as_secs_f64());
        self.report.check("it joined", joined.is_some());
        Ok(hash)
    }

    /// Work arrives, machines are bought and join by the user data that lowtide sent, and containers on them serve.
    async fn serve(&mut self, replicas: u32) -> Result<(), LabError> {
        self.report.step(&format!("apply -> serve: a Deployment of {replicas}, machines of kubeadm's form"));
        let began = Instant::now();
        self.lab.apply(&manifests::web(replicas))?;
        let address = format!("{OWN_ADDRESS}:{NODE_PORT}");
        let first = Instant::now();
        let mut answered = None;
        while answered.is_none() && first.elapsed() < Duration::from_secs(150) {
            self.lab.check()?;
            tokio::time::sleep(Duration::from_millis(200)).await;
            answered = tokio::time::timeout(Duration::from_secs(2), ask(&address)).await.ok().and_then(Result::ok);
        }
        self.report.seconds("apply -> the first HTTP answer, asked from outside", began.elapsed().as_secs_f64());
        let all = self.wait("every replica to be Ready", 60, |stage| Ok(stage.serving(replicas as usize)?.then_some(()))).await?;
        self.report.seconds("apply -> every replica Ready", began.elapsed().as_secs_f64());
        self.report.check(format!("a real container answered: {}", answered.clone().unwrap_or_default()), answered.is_some());
        self.report.check(format!("{replicas} replicas are Ready on machines that lowtide bought"), all.is_some());
        self.joined_as_asked()
    }

    /// What the machines' user data said is what their nodes show.
    fn joined_as_asked(&mut self) -> Result<(), LabError> {
        for claim in self.list(&["gpunodeclaims"])? {
            let (name, instance) = (text(&claim, "/metadata/name"), text(&claim, "/status/instanceId"));
            let Some(node) = self.list(&["nodes"])?.into_iter().find(|node| label(node, "lowtide.dev/instance-id") == instance) else {
                self.report.check(format!("claim {name} has a node"), false);
                continue;
            };
            let provider = text(&node, "/spec/providerID");
            self.report.check(
                format!("{}: provider id {provider}", text(&node, "/metadata/name")),
                provider.ends_with(&format!("/lt-{instance}")),
            );
            let gpus = text(&node, "/status/allocatable/nvidia.com~1gpu");
            let (kubelet, runtime) =
                (text(&node, "/status/nodeInfo/kubeletVersion"), text(&node, "/status/nodeInfo/containerRuntimeVersion"));
            let size = format!("{} cores, {}", text(&node, "/status/capacity/cpu"), text(&node, "/status/capacity/memory"));
            say(&format!("     {instance}: kubelet {kubelet}, {runtime}, {gpus} GPUs, {size}"));
            let (launched, ready) = (moment(&claim, "/status/launchedAt"), moment(&claim, "/status/nodeReadyAt"));
            if let (Some(launched), Some(ready)) = (launched, ready) {
                self.report.seconds("launched -> node Ready with its GPUs", ready.since(launched).0 as f64 / 1_000.0);
            }
        }
        Ok(())
    }

    /// The answer of instance metadata ends at the machine: an ordinary pod on it gets none (hop limit 1).
    async fn metadata_stays_on_the_machine(&mut self) -> Result<(), LabError> {
        let Some((pod, _)) = self.victim("web")? else { return Ok(()) };
        self.lab.apply(&manifests::peek(&pod.node))?;
        let ended = self.wait("a pod to have asked for instance metadata", 30, |stage| {
            Ok(stage.pods("peek")?.into_iter().find(|pod| matches!(pod.phase.as_str(), "Failed" | "Succeeded")))
        });
        let ended = ended.await?;
        let refused = ended.is_some_and(|pod| pod.phase == "Failed");
        self.report.check("instance metadata answered the machine's cloud-init, and not a pod on it", refused);
        Ok(())
    }

    /// EC2 takes a machine back with its notice, while requests come in from outside.
    async fn take_back(&mut self) -> Result<(), LabError> {
        self.report.step(&format!("a notice of {NOTICE} s under HTTP load"));
        let Some((pod, instance)) = self.victim("web")? else {
            self.report.check("a machine that serves can be taken back", false);
            return Ok(());
        };
        let load = Load::begin(&format!("{OWN_ADDRESS}:{NODE_PORT}"));
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (from, began) = (wall_clock(), Instant::now());
        self.lab.order("interrupt", &json!({"instance_id": instance, "message": "sqs", "notice_seconds": NOTICE})).await?;
        let replaced = self.wait("a replacement to be Ready", NOTICE, |stage| Ok(stage.serving_beside(&pod.uid, 2)?.then_some(()))).await?;
        self.report.seconds("notice -> replacement Ready", began.elapsed().as_secs_f64());
        let gone = self.wait("the old pod to be gone", NOTICE, |stage| Ok(stage.pod(&pod.uid)?.is_none().then_some(()))).await?;
        self.report.seconds("notice -> old pod gone", began.elapsed().as_secs_f64());
        let off = self.wait("EC2 to end the machine", NOTICE + 30, |stage| Ok(stage.is_off(&instance).then_some(()))).await?;
        self.report.seconds("notice -> power cut", began.elapsed().as_secs_f64());
        tokio::time::sleep(Duration::from_secs(3)).await;
        let tally = load.since(from);
        self.count(&tally);
        self.report.check("the work was on another machine before the old one went", replaced.is_some() && gone.is_some() && off.is_some());
        self.report.check(
            format!("{} requests, at least {FEWEST_REQUESTS}, and none failed", tally.sent),
            tally.sent >= FEWEST_REQUESTS && tally.failed == 0,
        );
        Ok(())
    }

    /// A machine that EC2 says runs is heard of no more.
    async fn fall_silent(&mut self) -> Result<(), LabError> {
        self.report.step("a machine falls silent, without notice and with EC2 saying that it runs");
        let Some((pod, instance)) = self.victim("web")? else {
            self.report.check("a machine that serves can fall silent", false);
            return Ok(());
        };
        let load = Load::begin(&format!("{OWN_ADDRESS}:{NODE_PORT}"));
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (from, began) = (wall_clock(), Instant::now());
        if let Some(hypervisor) = self.lab.hypervisor() {
            hypervisor.unplug(&instance)?;
        }
        let node = pod.node.clone();
        let silent = self
            .wait("its Node to be not Ready", 90, |stage| Ok(stage.node(&node)?.is_none_or(|node| !is_ready(&node)).then_some(())))
            .await?;
        let not_ready = began.elapsed().as_secs_f64();
        self.report.seconds("cable cut -> Node not Ready", not_ready);
        let bound = UNHEALTHY_AFTER_SECONDS + 60;
        let replaced = self.wait("a replacement to be Ready", bound, |stage| Ok(stage.serving_beside(&pod.uid, 2)?.then_some(()))).await?;
        self.report.seconds("cable cut -> all replicas Ready elsewhere", began.elapsed().as_secs_f64());
        let off = self.wait("lowtide to give the machine up", bound, |stage| Ok(stage.is_off(&instance).then_some(()))).await?;
        let given_up = began.elapsed().as_secs_f64();
        self.report.seconds("cable cut -> machine given up and switched off", given_up);
        let gone = self.wait("the old pod and Node to be gone", 60, |stage| {
            Ok((stage.pod(&pod.uid)?.is_none() && stage.node(&node)?.is_none()).then_some(()))
        });
        let gone = gone.await?;
        self.report.seconds("cable cut -> old pod and Node gone", began.elapsed().as_secs_f64());
        let tally = load.since(from);
        self.count(&tally);
        self.report.seconds("from the first failed request to the last", tally.failing_ms as f64 / 1_000.0);
        self.report.check(
            format!("the cluster noticed within its own {NODE_GRACE_SECONDS} s"),
            silent.is_some() && not_ready <= NODE_GRACE_SECONDS,
        );
        // Half a minute to find a machine, boot it, and drain nobody.
        let limit = NODE_GRACE_SECONDS + UNHEALTHY_AFTER_SECONDS as f64 + 45.0;
        self.report.check(
            format!("given up within the pool's bound ({UNHEALTHY_AFTER_SECONDS} s after the Node was not Ready)"),
            replaced.is_some() && off.is_some() && given_up <= limit,
        );
        self.report.check("nothing of it is left in the cluster", gone.is_some());
        Ok(())
    }

    /// A Job on a machine of k3s' form gets SIGTERM, saves its work, and goes on elsewhere.
    async fn resume(&mut self) -> Result<(), LabError> {
        self.report.step("a Job, on machines of k3s' form, is taken back and resumes from its own checkpoint");
        let store = Store::begin(std::net::SocketAddr::new([172, 30, 0, 1].into(), STORE_PORT)).await?;
        let began = Instant::now();
        self.lab.apply(&manifests::train(&format!("{}:{STORE_PORT}", authority::ADDRESS)))?;
        let running =
            self.wait("its container to run", 150, |stage| Ok(stage.pods("train")?.into_iter().find(|pod| pod.is_running()))).await?;
        self.report.seconds("apply -> its container runs", began.elapsed().as_secs_f64());
        let Some(first) = running else {
            self.report.check("the Job runs on a machine that joined by k3s' form", false);
            return Ok(());
        };
        tokio::time::sleep(Duration::from_secs(6)).await;
        let Some((_, instance)) = self.victim("train")? else {
            self.report.check("the Job's machine can be taken back", false);
            return Ok(());
        };
        let began = Instant::now();
        self.lab.order("interrupt", &json!({"instance_id": instance, "message": "sqs", "notice_seconds": NOTICE})).await?;
        let saved = self.wait("the checkpoint", NOTICE, |_| Ok(store.saved(manifests::CHECKPOINT).first().cloned())).await?;
        self.report.seconds("notice -> checkpoint saved by the program", began.elapsed().as_secs_f64());
        let resumed = self.wait("another pod to run", 150, |stage| {
            Ok(stage.pods("train")?.into_iter().find(|pod| pod.is_running() && pod.uid != first.uid))
        });
        let resumed = resumed.await?;
        self.report.seconds("notice -> resumed on another machine", began.elapsed().as_secs_f64());
        let step = |text: &str| text.split(' ').next().and_then(|word| word.parse::<u32>().ok());
        let begins = resumed.as_ref().map(|pod| self.logs(&pod.name)).transpose()?.unwrap_or_default();
        let at = saved.as_deref().and_then(step);
        say(&format!("     saved at step {at:?}; the other pod said: {}", begins.lines().next().unwrap_or_default()));
        let continued = at.is_some_and(|at| at > 0 && begins.contains(&format!("begins at step {at} of")));
        self.report.check("it began where the first had stopped", continued && resumed.is_some_and(|pod| pod.node != first.node));
        let done = self.wait("the Job to end", 120, |stage| {
            Ok(stage.list(&["job", "train", "-n", "k3s"])?.first().filter(|job| text(job, "/status/succeeded") == "1").cloned())
        });
        let done = done.await?;
        let failures = done.as_ref().map(|job| text(job, "/status/failed")).unwrap_or_default();
        self.report
            .check("it ended well, and no failure was counted (backoffLimit 0)", done.is_some() && matches!(failures.as_str(), "" | "0"));
        Ok(())
    }

    fn count(&mut self, tally: &Tally) {
        self.report.count("requests", tally.sent);
        self.report.count("of them failed", tally.failed);
        if let Some(fault) = &tally.first_fault {
            say(&format!("     the first one: {fault}; failed in each ten seconds: {:?}", tally.failed_by_ten_seconds));
        }
    }
}
