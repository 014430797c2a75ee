//! Steps e and g: a crash at the worst moment, machines that never come up, and the end of everything.

use std::time::Instant;

use serde_json::{Value, json};

use super::report::StepReport;
use super::stage::{Stage, text};
use super::workloads::{Inference, NAMESPACE};
use crate::lab::error::LabError;

fn one(name: &'static str) -> Inference<'static> {
    Inference { name, team: "platform", replicas: 1, cold: false, gpu_memory: "20Gi" }
}

/// e. SIGKILL between "launch asked" and "launch recorded".
pub async fn crash_between_asked_and_recorded(stage: &mut Stage) -> Result<(), LabError> {
    let began = Instant::now();
    let mut step = StepReport::begin(
        'e',
        "kill the operator (SIGKILL) between \"launch asked\" and \"launch recorded\": no second instance, none leaked",
    );
    stage.lab.order("stall", &json!({"action": "CreateFleet", "seconds": 25, "when": "after", "times": 1})).await?;
    stage.lab.apply(&one("phoenix").manifest(stage.scale))?;
    let asked = stage.wait("EC2 to have bought what it has not answered for", 60, async |s| Ok(unrecorded(s).await?.is_some())).await?;
    step.check("EC2 bought a machine whose id the operator does not know yet", asked);
    let uid = unrecorded(stage).await?.unwrap_or_default();
    stage.lab.kill_operator();
    step.happened(format!("operator killed; claim uid {uid} has a machine in EC2 and no instance in its status"));
    let killed = Instant::now();
    stage.spawn_operator()?;
    stage.lab.operator_ready(std::time::Duration::from_secs(60)).await?;
    step.check("a new operator brings the pod up", stage.wait_ready("phoenix", 1, 120).await?);
    step.measured("killed -> pod Ready under a new operator", killed.elapsed().as_secs_f64());
    let state = stage.lab.ec2("state").await?;
    let all = state.pointer("/instances").and_then(Value::as_array).cloned().unwrap_or_default();
    let with_uid = all.iter().filter(|i| text(i, "/tags/lowtide-claim-uid") == uid).count();
    step.check(format!("EC2 ever made {with_uid} machine for that claim"), with_uid == 1);
    let unclaimed = leaked(stage).await?;
    step.check(format!("{} running machines have no claim", unclaimed.len()), unclaimed.is_empty());
    stage.end(step, began);
    Ok(())
}

/// The claim uid of a machine that runs in EC2 and is not in its claim's status.
async fn unrecorded(stage: &Stage) -> Result<Option<String>, LabError> {
    let claims = stage.list("gpunodeclaims")?;
    let unknown = |uid: &str| claims.iter().any(|c| text(c, "/metadata/uid") == uid && text(c, "/status/instanceId").is_empty());
    let machines = stage.machines().await?;
    Ok(machines.iter().map(|m| text(m, "/tags/lowtide-claim-uid")).find(|uid| unknown(uid)))
}

async fn leaked(stage: &Stage) -> Result<Vec<String>, LabError> {
    let uids: Vec<String> = stage.list("gpunodeclaims")?.iter().map(|c| text(c, "/metadata/uid")).collect();
    let machines = stage.machines().await?;
    Ok(machines.iter().filter(|m| !uids.contains(&text(m, "/tags/lowtide-claim-uid"))).map(|m| text(m, "/instance_id")).collect())
}

/// g. Machines that never join or have no GPUs; then the work ends, and so do the machines.
pub async fn endings(stage: &mut Stage) -> Result<(), LabError> {
    let began = Instant::now();
    let mut step =
        StepReport::begin('g', "machines that never join or join without GPUs are given up; when the work ends, every machine ends");
    for (name, outcome) in [("orphan", "never-joins"), ("blind", "no-gpus")] {
        stage.lab.order("boot", &json!({"outcome": outcome, "next": 1})).await?;
        stage.lab.apply(&one(name).manifest(stage.scale))?;
        stage.wait("the machine to be asked for", 30, async |s| Ok(s.pods.of(name).values().any(|p| p.claim.is_some()))).await?;
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    }
    for (name, what) in [("orphan", "never joined"), ("blind", "joined with 0 of 1 GPUs")] {
        let up = stage.wait_ready(name, 1, 180).await?;
        let notes = stage.events(name, "MachineFailed")?;
        notes.iter().for_each(|note| step.happened(format!("event on the pod of {name}: {note}")));
        step.check(
            format!("{name}: the machine that {what} was given up, and the pod runs elsewhere"),
            up && notes.iter().any(|n| n.contains(what)),
        );
    }
    let recorded = stage.sql("SELECT string_agg(DISTINCT trigger, ', ' ORDER BY trigger) FROM ledger.decision WHERE trigger IN ('never-joined', 'no-gpus') AND outcome = 'terminate'")?;
    step.check(format!("both are in the ledger ({recorded})"), recorded == "never-joined, no-gpus");
    let ended = Instant::now();
    stage.lab.kubectl(&["scale", "deployment", "--all", "--replicas=0", "-n", NAMESPACE])?;
    let empty = stage
        .wait("every machine to end", 180, async |s| Ok(s.machines().await?.is_empty() && s.list("gpunodeclaims")?.is_empty()))
        .await?;
    step.measured("replicas 0 -> no machine left in EC2, no claim left", ended.elapsed().as_secs_f64());
    step.check(
        "the Job has ended and the Deployments shrank: the simulator has zero machines",
        empty && stage.machines().await?.is_empty(),
    );
    let closed = stage.wait("the ledger to have it all", 30, async |s| Ok(s.sql(OPEN_INTERVALS)? == "0")).await?;
    let counts = stage.sql(
        "SELECT (SELECT count(*) FROM ledger.interval_opened) || ' opened, ' || (SELECT count(*) FROM ledger.interval_closed) || ' closed'",
    )?;
    step.check(format!("every interval in the ledger is closed ({counts})"), closed);
    stage.end(step, began);
    Ok(())
}

const OPEN_INTERVALS: &str =
    "SELECT count(*) FROM ledger.interval_opened o WHERE NOT EXISTS (SELECT FROM ledger.interval_closed c WHERE c.claim_uid = o.claim_uid)";
