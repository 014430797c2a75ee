//! Step l: the chart's alerts, evaluated on what the story's Prometheus scraped, reach the receivers of the example.
//!
//! Decides: what is done to set off one alert of each kind. Does not: send one itself: rules, routes and messages are those of the repository, with waits that are
//! sixty times shorter.

use std::time::{Duration, Instant};

use super::report::StepReport;
use super::stage::{Stage, text};
use super::workloads::Inference;
use crate::lab::alertmanager::Delivery;
use crate::lab::error::LabError;

/// A node that is no machine's.
const STRANGER: &str = "stranger";

/// Each kind of alert: who gets it, what its message says, and what sets it off.
const KINDS: [(&str, &str, &str); 4] = [
    ("platform-slack", "lowtidenodesdoubtful", "a second node says that it is a machine which has joined"),
    ("finance-slack", "The monthly budget of node pool gpus is nearly used up", "the pool's budget is lowered to a cent"),
    ("integrity-pagerduty", "Postgres does not accept records", "Postgres is stopped"),
    ("capacity-pagerduty", "No lowtide replica is the leader", "the operator is stopped"),
];

/// l. One alert of each kind is set off, and its receiver has it.
pub async fn one_of_each_kind(stage: &mut Stage) -> Result<(), LabError> {
    let began = Instant::now();
    let mut step =
        StepReport::begin('l', "alerts: the chart's rules and the example's routes, one of each kind to a receiver that records it");
    if stage.alertmanager.is_none() || stage.prometheus.is_none() {
        step.happened("left out: no Prometheus or Alertmanager in the folder of the tools (`make tools` fetches Debian's)");
        stage.end(step, began);
        return Ok(());
    }
    let by_the_story = delivered(stage)?.len();
    step.happened(format!(
        "{by_the_story} messages were delivered while the story was played: it stopped Postgres and the operator before"
    ));
    let [stranger, budget, ledger, leader] = KINDS;
    a_stranger_joins(stage).await?;
    reached(stage, &mut step, by_the_story, stranger).await?;
    let patch = |usd: &str| format!("{{\"spec\":{{\"monthlyBudgetUsd\":\"{usd}\"}}}}");
    stage.lab.kubectl(&["patch", "gpunodepool", "gpus", "--type=merge", "-p", &patch("0.01")])?;
    reached(stage, &mut step, by_the_story, budget).await?;
    stage.lab.postgres.stop();
    reached(stage, &mut step, by_the_story, ledger).await?;
    stage.lab.postgres.start_again()?;
    stage.lab.stop_operator(Duration::from_secs(10));
    reached(stage, &mut step, by_the_story, leader).await?;
    stage.lab.kubectl(&["patch", "gpunodepool", "gpus", "--type=merge", "-p", &patch("25000")])?;
    stage.lab.kubectl(&["delete", "node", STRANGER])?;
    stage.spawn_operator()?;
    stage.lab.operator_ready(Duration::from_secs(60)).await?;
    stage.end(step, began);
    Ok(())
}

/// A machine with a pod, and then a second node that names the machine, at an address that EC2 does not give it.
async fn a_stranger_joins(stage: &mut Stage) -> Result<(), LabError> {
    let decoy = Inference { name: "decoy", team: "platform", replicas: 1, cold: false, gpu_memory: "20Gi" };
    stage.lab.apply(&decoy.manifest(stage.scale))?;
    stage.wait_ready("decoy", 1, 120).await?;
    let claim = stage.claim_of("decoy")?;
    let (class, instance) = (text(&claim, "/spec/nodeClass"), text(&claim, "/status/instanceId"));
    let node = format!(
        "apiVersion: v1
kind: Node
metadata:
  name: {STRANGER}
  labels: {{lowtide.dev/node-class: {class}}}
spec: {{providerID: aws:///somewhere/{instance}}}
"
    );
    stage.lab.apply(&node)?;
    Ok(())
}

async fn reached(
    stage: &mut Stage,
    step: &mut StepReport,
    after: usize,
    (receiver, says, because): (&str, &str, &str),
) -> Result<(), LabError> {
    let began = Instant::now();
    let what = format!("{receiver} to get its alert");
    let got = stage.wait(&what, 90, async |s| Ok(delivered(s)?.iter().skip(after).any(|d| is(d, receiver, says)))).await?;
    if got {
        step.measured(&format!("{because} -> {receiver}"), began.elapsed().as_secs_f64());
    }
    step.check(format!("{because}: {receiver} gets \"{says}\""), got);
    Ok(())
}

fn delivered(stage: &mut Stage) -> Result<Vec<Delivery>, LabError> {
    match &mut stage.alertmanager {
        Some(alertmanager) => alertmanager.check().map(|()| alertmanager.delivered()),
        None => Ok(Vec::new()),
    }
}

/// A message of an alert that fires: a resolved one says so.
fn is(delivery: &Delivery, receiver: &str, says: &str) -> bool {
    delivery.receiver == receiver && delivery.body.contains(says) && !delivery.body.contains("\"event_action\":\"resolve\"")
}
