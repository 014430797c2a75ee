//! Steps a and b: the cheapest offers, and the refusals.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::Value;

use super::models::{BOOT, WARM_START};
use super::report::StepReport;
use super::stage::{Stage, seconds, text};
use super::workloads::{Inference, NAMESPACE, batch};
use crate::core::market::shipped::snapshot_market;
use crate::core::units::money::MicroUsdPerHour;
use crate::lab::error::LabError;
use crate::lab::wall_clock;

/// Work of the batch Job, in the demo's seconds: long enough to be interrupted in the middle.
const BATCH_WORK_SECONDS: u32 = 120;

/// Every region that the shipped prices know: the whole market of the lab.
fn priced_regions() -> BTreeSet<String> {
    snapshot_market().offers.keys().map(|capacity| capacity.region.to_string()).collect()
}

fn price(claim: &Value) -> Option<MicroUsdPerHour> {
    text(claim, "/spec/pricePerHour").parse().ok()
}

/// a. An inference Deployment and a batch Job land on the cheapest offers over all regions.
pub async fn cheapest_offers(stage: &mut Stage) -> Result<(), LabError> {
    let began = Instant::now();
    let mut step =
        StepReport::begin('a', "place an inference Deployment (3 x 20Gi, Service) and a batch Job with a deadline on the cheapest offers");
    let asked_at = wall_clock();
    let chat = Inference { name: "chat", team: "assistants", replicas: 3, cold: false, gpu_memory: "20Gi" };
    let cold = Inference { name: "cold", team: "assistants", replicas: 1, cold: true, gpu_memory: "20Gi" };
    for manifest in [chat.manifest(stage.scale), batch("train", BATCH_WORK_SECONDS, stage.scale), cold.manifest(stage.scale)] {
        stage.lab.apply(&manifest)?;
    }
    let served = stage.wait_ready("chat", 3, 120).await?;
    step.check("the Deployment's 3 replicas are Ready", served);
    let pods = stage.pods.of("chat");
    if let Some(last) = pods.values().filter_map(|p| p.ready_at).max() {
        step.measured("kubectl apply -> 3 replicas Ready", seconds(last.since(asked_at)));
        step.modelled("  of which boot of the machines", BOOT.seconds / stage.scale, BOOT.source);
        step.modelled("  of which start of the model (warm image)", WARM_START.seconds / stage.scale, WARM_START.source);
    }
    let running = stage.wait("the Job's pod to run", 60, async |s| Ok(s.pods.of("train").values().any(|p| p.ready))).await?;
    step.check("the Job's pod runs", running);
    let claims = stage.list("gpunodeclaims")?;
    let regions: BTreeSet<String> = stage.list("gpunodeclasses")?.iter().map(|c| text(c, "/spec/region")).collect();
    step.happened(format!("{} machines bought over a market of {} regions:", claims.len(), regions.len()));
    step.happened(stage.lab.kubectl(&["get", "gpunodeclaims"])?);
    step.check(format!("the market is every region whose prices are shipped ({})", regions.len()), regions == priced_regions());
    let used: BTreeSet<String> = stage.pods.all().into_values().filter_map(|p| p.claim).collect();
    step.check("every machine is bound to a pod", claims.iter().all(|c| used.contains(&text(c, "/metadata/name"))));
    let said = stage.events("chat", "Placed")?;
    said.iter().take(1).for_each(|note| step.happened(format!("event on a pod: {note}")));
    step.check(
        "the pods' events say what was chosen, its price, what it beat, and why the runner-up lost",
        said.len() >= 3 && said.iter().all(|note| says_all(note)),
    );
    // Replicas of a service stand apart where that is nearly free, so the cheapest offer holds some and not all of them.
    let cheapest = no_cheaper_offer(stage, claims.iter().filter_map(price).min())?;
    step.check(
        format!("no offer that fits is cheaper, by `lowtide offers` over the recorded prices: {cheapest}"),
        cheapest.starts_with("none"),
    );
    let allowed = |pool: &Value| text(pool, "/spec/spread/mostExtraPercent").parse::<i64>().ok();
    let percent = stage.list("gpunodepools")?.iter().filter_map(allowed).min().unwrap_or(0);
    let spread = claims.iter().filter_map(price).max().map(|most| MicroUsdPerHour(most.0 * 100 / (100 + percent)));
    let apart = no_cheaper_offer(stage, spread)?;
    step.check(format!("what stands apart costs at most {percent} % more, as its pool allows: {apart}"), apart.starts_with("none"));
    stage.end(step, began);
    Ok(())
}

fn says_all(note: &str) -> bool {
    ["at $", "beat ", "runner-up", "lost: "].iter().all(|part| note.contains(part)) || note.contains("room on")
}

/// Looks for offers that fit and cost less than the most expensive machine bought, in the recorded prices of the regions bought in.
fn no_cheaper_offer(stage: &Stage, bought: Option<MicroUsdPerHour>) -> Result<String, LabError> {
    let Some(bought) = bought else { return Ok("nothing was bought".to_owned()) };
    let plan = stage.lab.lowtide(&["offers", "--gpu-memory", "20Gi", "--json"])?;
    let offers: Value = serde_json::from_str(&plan).unwrap_or(Value::Null);
    let rows = offers.as_array().or_else(|| offers.pointer("/offers").and_then(Value::as_array)).cloned().unwrap_or_default();
    let regions: BTreeSet<String> = stage.classes.iter().cloned().collect();
    let cheaper: Vec<String> = rows
        .iter()
        .filter(|o| regions.contains(&text(o, "/region")))
        .filter(|o| text(o, "/price_per_hour").parse::<MicroUsdPerHour>().is_ok_and(|p| p < bought))
        .map(|o| format!("{} in {}", text(o, "/instance_type"), text(o, "/zone")))
        .collect();
    Ok(match (rows.is_empty(), cheaper.first()) {
        (true, _) => "no offers were listed".to_owned(),
        (false, None) => format!("none of {} listed is below ${bought}/h", rows.len()),
        (false, Some(first)) => format!("{} are, as {first}", cheaper.len()),
    })
}

/// b. What is refused, where, and with which sentence.
pub async fn refusals(stage: &mut Stage) -> Result<(), LabError> {
    let began = Instant::now();
    let mut step = StepReport::begin('b', "refuse a bad annotation at kubectl apply, and explain a need that nothing can meet");
    let bad = Inference { name: "bad", team: "assistants", replicas: 1, cold: false, gpu_memory: "plenty" };
    let refused = stage.lab.apply(&bad.manifest(stage.scale).split("---").next().unwrap_or_default().replace("10Gi", "1Gi"));
    let sentence = refused.err().map(|e| e.to_string()).unwrap_or_default();
    let line = sentence.lines().find(|l| l.contains("lowtide.dev/gpu-memory")).unwrap_or_default().trim().to_owned();
    step.happened(format!("kubectl apply answers: {line}"));
    step.check(
        "the template with a bad annotation is refused at kubectl apply, naming the key and what is expected",
        line.contains("gpu-memory"),
    );
    let huge = Inference { name: "huge", team: "assistants", replicas: 1, cold: false, gpu_memory: "900Gi" };
    stage.lab.apply(&huge.manifest(stage.scale))?;
    stage.wait("the event on the pod that nothing can hold", 30, async |s| Ok(!s.events("huge", "Unplaceable")?.is_empty())).await?;
    let notes = stage.events("huge", "Unplaceable")?;
    notes.iter().for_each(|note| step.happened(format!("event on the pod: {note}")));
    let counted = notes.iter().any(|n| n.contains("too little GPU memory") && n.contains("none of"));
    step.check("the pod that nothing can hold gets one event that says which need ruled out how many offers", counted && notes.len() == 1);
    stage.lab.kubectl(&["delete", "deployment/huge", "service/huge", "-n", NAMESPACE])?;
    stage.end(step, began);
    Ok(())
}
