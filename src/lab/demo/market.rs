//! Steps d and h: capacity that runs out, and prices that move.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::{Value, json};

use super::report::StepReport;
use super::stage::{Stage, text};
use super::workloads::Inference;
use crate::core::units::money::MicroUsdPerHour;
use crate::lab::error::LabError;
use crate::lab::wall_clock;

fn one(name: &'static str, team: &'static str) -> Inference<'static> {
    Inference { name, team, replicas: 1, cold: false, gpu_memory: "20Gi" }
}

fn bought(claim: &Value) -> String {
    format!(
        "{} {} in {} at ${}/h",
        text(claim, "/spec/instanceType"),
        text(claim, "/spec/capacityType"),
        text(claim, "/spec/zone"),
        text(claim, "/spec/pricePerHour")
    )
}

/// The claims on which chat runs.
fn claims_of_chat(stage: &Stage) -> BTreeSet<String> {
    stage.pods.of("chat").into_values().filter(|pod| pod.alive && pod.gone_at.is_none()).filter_map(|pod| pod.claim).collect()
}

/// The claim of chat that costs least: its replicas stand apart, and not all on the cheapest offer.
fn cheapest_of_chat(stage: &Stage) -> Result<Value, LabError> {
    let here = claims_of_chat(stage);
    let claims = stage.list("gpunodeclaims")?.into_iter().filter(|claim| here.contains(&text(claim, "/metadata/name")));
    Ok(cheapest(claims))
}

/// The cheapest spot machine whose capacity EC2 has not taken back in this story: what it has is left alone for half an hour, so this is where the next pod would go.
async fn cheapest_of_the_untaken(stage: &Stage) -> Result<Value, LabError> {
    let state = stage.lab.ec2("state").await?;
    let seen = state.pointer("/instances").and_then(Value::as_array).into_iter().flatten();
    let noticed = seen.filter(|instance| !text(instance, "/noticed_at_ms").is_empty());
    let taken: BTreeSet<(String, String)> = noticed.map(|instance| (text(instance, "/zone"), text(instance, "/instance_type"))).collect();
    let untaken = |claim: &Value| {
        let capacity = (text(claim, "/spec/zone"), text(claim, "/spec/instanceType"));
        text(claim, "/spec/capacityType") == "spot" && !taken.contains(&capacity)
    };
    Ok(cheapest(stage.list("gpunodeclaims")?.into_iter().filter(untaken)))
}

fn cheapest(claims: impl Iterator<Item = Value>) -> Value {
    let price = |claim: &Value| text(claim, "/spec/pricePerHour").parse::<MicroUsdPerHour>().ok();
    claims.min_by_key(price).unwrap_or(Value::Null)
}

fn pool_of(claim: &Value) -> Value {
    json!({"region": text(claim, "/spec/region"), "zone": text(claim, "/spec/zone"), "instance_type": text(claim, "/spec/instanceType"),
        "capacity_type": text(claim, "/spec/capacityType"), "available": 0})
}

/// Waits until every machine has work: an empty one is room that is paid for already, and the next pod would go there instead of to the market.
async fn empty_machines_end(stage: &mut Stage) -> Result<(), LabError> {
    let ended = stage.wait("machines without work to end", 60, async |s| {
        let used: BTreeSet<String> =
            s.pods.all().into_values().filter(|p| p.gone_at.is_none() && p.alive).filter_map(|p| p.claim).collect();
        Ok(s.list("gpunodeclaims")?.iter().all(|c| used.contains(&text(c, "/metadata/name"))))
    });
    ended.await.map(|_| ())
}

/// d. The chosen pool is dry, then all of spot; then spot returns.
pub async fn no_capacity(stage: &mut Stage) -> Result<(), LabError> {
    let began = Instant::now();
    let mut step =
        StepReport::begin('d', "the chosen pool has no capacity, then no spot pool has: next offer, on-demand, and back when spot returns");
    empty_machines_end(stage).await?;
    let cheapest = cheapest_of_the_untaken(stage).await?;
    stage.lab.order("capacity", &pool_of(&cheapest)).await?;
    stage.lab.apply(&one("search", "discovery").manifest(stage.scale))?;
    step.check("with the cheapest pool dry, the pod still lands", stage.wait_ready("search", 1, 120).await?);
    let next = stage.claim_of("search")?;
    step.happened(format!("{} answers InsufficientInstanceCapacity; bought instead: {}", bought(&cheapest), bought(&next)));
    step.check(
        "it went to the next offer, another spot pool",
        text(&next, "/spec/zone") != text(&cheapest, "/spec/zone") && text(&next, "/spec/capacityType") == "spot",
    );
    let refused = stage.events("search", "LaunchRefused")?;
    step.check("an event on the pod says that EC2 refused", refused.iter().any(|n| n.contains("InsufficientInstanceCapacity")));
    stage.lab.order("capacity", &json!({"capacity_type": "spot", "available": 0})).await?;
    let asked = Instant::now();
    stage.lab.apply(&one("rank", "discovery").manifest(stage.scale))?;
    step.check("with all of spot dry, the pod still lands", stage.wait_ready("rank", 1, 120).await?);
    step.measured("kubectl apply -> Ready, with every spot pool dry", asked.elapsed().as_secs_f64());
    let fallback = stage.claim_of("rank")?;
    let tries = stage.events("rank", "LaunchRefused")?.len();
    step.happened(format!("{tries} spot pools refused; bought instead: {}", bought(&fallback)));
    step.check("it fell back to on-demand", text(&fallback, "/spec/capacityType") == "on-demand");
    stage.lab.order("capacity", &json!({"capacity_type": "spot", "available": null})).await?;
    let back = Instant::now();
    let returned = stage.wait("the on-demand work to return to spot", 180, async |s| {
        Ok(text(&s.claim_of("rank")?, "/spec/capacityType") == "spot" && s.pods.of("rank").len() == 1)
    });
    let returned = returned.await?;
    step.measured("spot is back -> work runs on spot again", back.elapsed().as_secs_f64());
    let why =
        stage.sql("SELECT text FROM ledger.decision WHERE trigger = 'return-to-spot' AND outcome = 'launch' ORDER BY at DESC LIMIT 1")?;
    step.happened(format!("decision: {why}"));
    step.check("it returned to spot", returned);
    step.check("the return was guarded: the saving it names beats the pool's 15 %", why.contains("a saving of 15 % at least"));
    stage.end(step, began);
    Ok(())
}

async fn set_price(stage: &Stage, pool: (&str, &str, &str), price: &str) -> Result<(), LabError> {
    let order = json!({"region": pool.0, "zone": pool.1, "instance_type": pool.2, "price_per_hour": price});
    stage.lab.order("price", &order).await.map(|_| ())
}

/// h. A price moves; and with SQS denied, polling still rescues.
pub async fn prices_move(stage: &mut Stage) -> Result<(), LabError> {
    let began = Instant::now();
    let mut step = StepReport::begin(
        'h',
        "a price moves: the next placement follows, running work moves only beyond hysteresis; with SQS denied, polling still rescues",
    );
    // Where the restart left one: its pod was placed again on other room.
    empty_machines_end(stage).await?;
    let pool = ("us-east-2", "use2-az2", "g6.xlarge");
    // Recorded: $0.2599. A little below what runs now: worth following, not worth moving for.
    let now = text(&cheapest_of_chat(stage)?, "/spec/pricePerHour");
    let micro = now.parse::<MicroUsdPerHour>().map_or(91_300, |p| p.0);
    let little = MicroUsdPerHour(micro * 93 / 100).to_string();
    set_price(stage, pool, &little).await?;
    let seen = format!(
        "SELECT count(*) FROM ledger.price_quote WHERE zone = '{}' AND instance_type = '{}' AND capacity_type = 'spot' AND price_usd_h = {little}",
        pool.1, pool.2
    );
    // Prices are read every six seconds.
    stage.wait("the operator to see the price", 60, async |s| Ok(s.sql(&seen)? != "0")).await?;
    let at = claims_of_chat(stage);
    stage.lab.apply(&one("follow", "discovery").manifest(stage.scale))?;
    step.check("the next pod lands", stage.wait_ready("follow", 1, 120).await?);
    let followed = stage.claim_of("follow")?;
    step.happened(format!("{} in {} falls to ${little}/h: the next pod gets {}", pool.2, pool.1, bought(&followed)));
    step.check("the next placement follows the price", text(&followed, "/spec/zone") == pool.1);
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    step.check("7 % is within hysteresis: no replica of chat moved", claims_of_chat(stage) == at);
    let much = MicroUsdPerHour(micro * 60 / 100).to_string();
    set_price(stage, pool, &much).await?;
    let (asked, since) = (Instant::now(), wall_clock().to_rfc3339());
    let lately = format!("trigger = 'cheaper-offer' AND d.at > '{since}'");
    let by_choice = format!("SELECT count(*) FROM ledger.migration m JOIN ledger.decision d ON d.id = m.decision WHERE {lately}");
    let moved = stage.wait("running work to move to the cheaper pool", 150, async |s| Ok(s.sql(&by_choice)? != "0")).await?;
    step.measured("price 40 % lower -> first pod moved by choice", asked.elapsed().as_secs_f64());
    let why = stage.sql(&format!("SELECT text FROM ledger.decision d WHERE outcome = 'launch' AND {lately} ORDER BY at LIMIT 1"))?;
    step.happened(format!("decision: {why}"));
    step.check("40 % beats hysteresis: running work moves", moved);
    set_price(stage, pool, &now).await?;
    settle(stage).await?;
    without_queue(stage, &mut step).await?;
    stage.end(step, began);
    Ok(())
}

/// Waits until nothing is being moved.
async fn settle(stage: &mut Stage) -> Result<(), LabError> {
    stage
        .wait("moves to end", 120, async |s| {
            let claims = s.list("gpunodeclaims")?;
            let moving = claims.iter().any(|c| text(c, "/status/phase") != "Ready");
            let waiting = s.pods.all().values().any(|p| p.gone_at.is_none() && p.alive && !p.ready);
            Ok(!moving && !waiting)
        })
        .await
        .map(|_| ())
}

async fn without_queue(stage: &mut Stage, step: &mut StepReport) -> Result<(), LabError> {
    stage.lab.order("deny", &json!({"service": "sqs", "on": true})).await?;
    let Some((pod, seen)) = stage.pods.of("follow").into_iter().find(|(_, p)| p.ready) else { return Ok(()) };
    let claim = stage.claim(seen.claim.as_deref().unwrap_or_default())?;
    // No message either: one that is already on its way to a reader would still arrive.
    let noticed = stage.interrupt(&text(&claim, "/status/instanceId"), "none").await?;
    let rescued = stage.wait("the pod to be replaced without a queue", 120, async |s| {
        let all = s.pods.all();
        let gone = all.get(&pod).is_none_or(|p| p.gone_at.is_some());
        Ok(gone && all.values().any(|p| p.replaces.as_ref() == Some(&seen.uid) && p.ready_at.is_some()))
    });
    let rescued = rescued.await?;
    let all = stage.pods.all();
    if let Some(made) = all.values().find(|p| p.replaces.as_ref() == Some(&seen.uid)) {
        step.measured("SQS denied: notice -> replacement made (found by polling EC2)", super::stage::seconds(made.made_at.since(noticed)));
    }
    step.check("with SQS denied, polling EC2's spot requests rescued the work", rescued);
    let source = stage.sql("SELECT source FROM ledger.interruption ORDER BY at DESC LIMIT 1")?;
    step.check(format!("the ledger says where the notice was seen ({source})"), source == "ec2-state");
    stage.lab.order("deny", &json!({"service": "sqs", "on": false})).await.map(|_| ())
}
