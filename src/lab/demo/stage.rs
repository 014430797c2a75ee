//! The lab with what every step needs: waiting for something to be so, reading objects, giving the simulator orders.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::DemoArguments;
use super::models::{BOOT, NOTICE};
use super::pods::PodWatch;
use super::report::{Report, StepReport};
use super::workloads::{NAMESPACE, pool};
use crate::core::units::time::{Millis, Timestamp};
use crate::lab::alertmanager::LabAlertmanager;
use crate::lab::console::{CHART_VALUES, LabConsole, token};
use crate::lab::error::LabError;
use crate::lab::progress::{Patience, say};
use crate::lab::prometheus::LabPrometheus;
use crate::lab::start::{Lab, LabOptions, OperatorOptions};
use crate::lab::wall_clock;

/// What every step works with.
pub struct Stage {
    /// The console, once it is looked at. It and Prometheus end before the lab that they read.
    pub console: Option<LabConsole>,
    /// What scrapes the operator all the time, where there is one.
    pub prometheus: Option<LabPrometheus>,
    /// What it sends alerts to, where there is one.
    pub alertmanager: Option<LabAlertmanager>,
    /// The lab.
    pub lab: Lab,
    /// What is written down.
    pub report: Report,
    /// What became of pods.
    pub pods: PodWatch,
    /// Modelled time runs this many times faster.
    pub scale: f64,
    /// The node classes, one per region.
    pub classes: Vec<String>,
    /// When everything stood.
    pub began_at: Timestamp,
}

/// Seconds between two times, for people.
pub fn seconds(span: Millis) -> f64 {
    span.0 as f64 / 1_000.0
}

impl Stage {
    /// Starts the lab and the operator, and applies classes and pool.
    pub async fn set_up(arguments: &DemoArguments) -> Result<Stage, LabError> {
        let scale = f64::from(arguments.time_scale.max(1));
        say("lowtide's story, on a real control plane and a simulated EC2");
        say(&format!("modelled time (boot, model start, EC2's notice) runs {scale} times faster; lowtide's own time is real\n"));
        let boot = Duration::from_secs_f64(BOOT.seconds / scale - 1.0);
        let mut lab = Lab::start(LabOptions { boot, keep: arguments.keep, ..LabOptions::default() }).await?;
        lab.prepare_ledger().await?;
        lab.install_chart(&CHART_VALUES.map(String::from))?;
        lab.spawn_operator(&operator_options(scale))?;
        lab.operator_ready(Duration::from_secs(60)).await?;
        let alertmanager = LabAlertmanager::start(&lab).await?;
        let prometheus = LabPrometheus::start(&lab, alertmanager.as_ref()).await?;
        let began_at = wall_clock();
        lab.kubectl(&["apply", "-f", "examples/nodeclasses.yaml"])?;
        let listed: Value = parse(&lab.kubectl(&["get", "gpunodeclasses", "-o", "json"])?);
        let classes: Vec<String> = items(&listed).iter().map(|c| text(c, "/metadata/name")).collect();
        lab.apply(&pool(&classes.iter().map(String::as_str).collect::<Vec<_>>()))?;
        let pods = PodWatch::start(lab.control_plane.admin_kubeconfig(), NAMESPACE).await?;
        let report = Report::new(wall_clock(), arguments.time_scale);
        let mut stage = Stage { console: None, prometheus, alertmanager, lab, report, pods, scale, classes, began_at };
        let ready = stage.wait("every node class to be ready", 60, async |s| {
            Ok(s.list("gpunodeclasses")?.iter().all(|c| text(c, "/status/conditions/0/status") == "True"))
        });
        ready.await?;
        Ok(stage)
    }

    /// Starts the operator as the story's settings want it.
    pub fn spawn_operator(&mut self) -> Result<(), LabError> {
        self.lab.spawn_operator(&operator_options(self.scale))
    }

    /// Leaves the logs on disk.
    pub fn keep_logs(&mut self) {
        if let Ok(logs) = self.lab.logs() {
            self.lab.keep();
            say(&format!("logs stay in {}", logs.display()));
        }
    }

    /// Says where the console is, and who may sign in.
    pub fn how_to_look_around(&self) {
        if let (Some(console), Ok(token)) = (&self.console, token(&self.lab)) {
            say(&format!("\nthe console: {}\n  sign in with {token}\nCtrl-C ends it.", console.url()));
        }
    }

    /// Ends a step: its seconds, and its place in the report.
    pub fn end(&mut self, mut step: StepReport, began: Instant) {
        step.seconds = began.elapsed().as_secs_f64();
        say(&format!("   step {} took {:.1} s", step.id, step.seconds));
        self.report.steps.push(step);
    }

    /// Waits until `so` holds, looking twice a second; tells what it waits for. False when it never did.
    pub async fn wait<F>(&mut self, what: &str, limit_seconds: u64, mut so: F) -> Result<bool, LabError>
    where
        F: AsyncFnMut(&mut Stage) -> Result<bool, LabError>,
    {
        let mut patience = Patience::begin(what, limit_seconds, 10);
        loop {
            self.lab.check()?;
            if so(self).await? {
                return Ok(true);
            }
            if !patience.lasts() {
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
    }

    /// Waits until a Deployment has all its replicas Ready.
    pub async fn wait_ready(&mut self, name: &str, replicas: usize, limit_seconds: u64) -> Result<bool, LabError> {
        let what = format!("{name} to have {replicas} Ready");
        self.wait(&what, limit_seconds, async |s| {
            Ok(s.pods.of(name).values().filter(|p| p.ready && p.deleting_at.is_none()).count() == replicas)
        })
        .await
    }

    /// Objects of a kind: cluster-scoped, or of the story's namespace.
    pub fn list(&self, kind: &str) -> Result<Vec<Value>, LabError> {
        Ok(items(&parse(&self.lab.kubectl(&["get", kind, "-n", NAMESPACE, "-o", "json"])?)))
    }

    /// One claim.
    pub fn claim(&self, name: &str) -> Result<Value, LabError> {
        Ok(self.list("gpunodeclaims")?.into_iter().find(|c| text(c, "/metadata/name") == name).unwrap_or(Value::Null))
    }

    /// The claim on which an app's first pod is.
    pub fn claim_of(&self, app: &str) -> Result<Value, LabError> {
        match self.pods.of(app).values().find_map(|pod| pod.claim.clone()) {
            Some(name) => self.claim(&name),
            None => Ok(Value::Null),
        }
    }

    /// Notes of events with a reason about objects whose name begins so, oldest first.
    pub fn events(&self, name_prefix: &str, reason: &str) -> Result<Vec<String>, LabError> {
        let events = parse(&self.lab.kubectl(&["get", "events.v1.events.k8s.io", "-n", NAMESPACE, "-o", "json"])?);
        let fits = |e: &&Value| text(e, "/regarding/name").starts_with(name_prefix) && text(e, "/reason") == reason;
        Ok(items(&events).iter().filter(fits).map(|e| text(e, "/note")).collect())
    }

    /// Lets EC2 announce the end of an instance.
    pub async fn interrupt(&self, instance: &str, message: &str) -> Result<Timestamp, LabError> {
        let order = json!({"instance_id": instance, "message": message, "notice_seconds": NOTICE.seconds / self.scale});
        let answer = self.lab.order("interrupt", &order).await?;
        Ok(answer.pointer("/noticed_at_ms").and_then(Value::as_i64).map_or_else(wall_clock, Timestamp))
    }

    /// Machines that EC2 shows as pending or running.
    pub async fn machines(&self) -> Result<Vec<Value>, LabError> {
        let state = self.lab.ec2("state").await?;
        let all = state.pointer("/instances").and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(all.into_iter().filter(|i| matches!(text(i, "/state").as_str(), "pending" | "running")).collect())
    }

    /// One value from the ledger, as the server's administrator.
    pub fn sql(&self, query: &str) -> Result<String, LabError> {
        Ok(self.lab.postgres.psql("postgres", query)?.trim().to_owned())
    }
}

/// Settings of the operator in the story: the notice shrinks with the lab's time, EC2 is looked at every two seconds, and its prices every six.
fn operator_options(scale: f64) -> OperatorOptions {
    let notice = (NOTICE.seconds / scale).round() as i64;
    let environment = [
        ("LOWTIDE_NOTICE_WINDOW_SECONDS", notice.to_string()),
        ("LOWTIDE_PRICE_SECONDS", "6".to_owned()),
        ("LOWTIDE_INSTANCE_SECONDS", "2".to_owned()),
    ];
    OperatorOptions { environment: environment.map(|(k, v)| (k.to_owned(), v)).to_vec(), ..OperatorOptions::default() }
}

fn parse(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or(Value::Null)
}

fn items(list: &Value) -> Vec<Value> {
    list.pointer("/items").and_then(Value::as_array).cloned().unwrap_or_default()
}

/// The text at a JSON pointer, or nothing.
pub fn text(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}
