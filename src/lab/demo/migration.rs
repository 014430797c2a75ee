//! Steps c and f: machines that serve and compute are taken back, while Postgres is away.

use std::time::Instant;

use serde_json::Value;

use super::models::{BOOT, CHECKPOINT, COLD_START, NOTICE, WARM_START};
use super::pods::Seen;
use super::report::StepReport;
use super::stage::{Stage, seconds, text};
use crate::core::units::time::{Millis, Timestamp};
use crate::lab::batch_program::Happening;
use crate::lab::endpoint_watch::EndpointWatch;
use crate::lab::error::LabError;
use crate::lab::wall_clock;

/// One interrupted pod.
struct Victim {
    app: &'static str,
    pod: String,
    seen: Seen,
    noticed_at: Timestamp,
    /// Generation and replicas of its Deployment before.
    replicas_before: String,
}

/// c and f. Three machines get a notice at once: one serves warm, one serves cold, one computes. Postgres is stopped meanwhile.
pub async fn move_in_time(stage: &mut Stage) -> Result<(), LabError> {
    let began = Instant::now();
    let mut step =
        StepReport::begin('c', "EC2 takes back a machine that serves (warm and cold start) and one that computes: move the work in time");
    let cold_ready = stage.wait_ready("cold", 1, 120).await?;
    step.check("the cold-starting Deployment serves before its machine is taken", cold_ready);
    let mut outage = Outage::begin(stage)?;
    let watches = (endpoints(stage, "chat").await?, endpoints(stage, "cold").await?);
    let watching = stage.wait("the endpoint watches to see what serves", 20, async |_| {
        Ok([(&watches.0, 3), (&watches.1, 1)].iter().all(|(w, wanted)| w.readings().0.last().is_some_and(|r| r.ready == *wanted)))
    });
    watching.await?;
    let from = wall_clock();
    let mut victims = Vec::new();
    for app in ["chat", "cold", "train"] {
        victims.extend(take_back(stage, app).await?);
    }
    step.check("three machines got a notice through SQS (one of them twice)", victims.len() == 3);
    let all_moved =
        stage.wait("the old pods to be gone and their replacements Ready", 180, async |s| Ok(victims.iter().all(|v| moved(s, v)))).await?;
    step.check("every pod was replaced and the old one is gone", all_moved);
    outage.look(stage)?;
    let to = wall_clock();
    for victim in &victims {
        phases(stage, &mut step, victim)?;
    }
    serving(stage, &mut step, &victims, (&watches.0, &watches.1), (from, to))?;
    computing(stage, &mut step, &victims).await?;
    stage.end(step, began);
    outage.end(stage).await
}

async fn endpoints(stage: &Stage, service: &str) -> Result<EndpointWatch, LabError> {
    stage.lab.watch_endpoints(super::workloads::NAMESPACE, service).await
}

async fn take_back(stage: &mut Stage, app: &'static str) -> Result<Option<Victim>, LabError> {
    let Some((pod, seen)) = stage.pods.of(app).into_iter().find(|(_, p)| p.ready && p.claim.is_some()) else { return Ok(None) };
    let claim = stage.claim(seen.claim.as_deref().unwrap_or_default())?;
    let replicas_before = replicas(stage, app)?;
    let message = if app == "chat" { "duplicate" } else { "sqs" };
    let noticed_at = stage.interrupt(&text(&claim, "/status/instanceId"), message).await?;
    Ok(Some(Victim { app, pod, seen, noticed_at, replicas_before }))
}

fn replicas(stage: &Stage, app: &str) -> Result<String, LabError> {
    let deployment = stage.list("deployments")?.into_iter().find(|d| text(d, "/metadata/name") == app).unwrap_or(Value::Null);
    Ok(format!("{} (generation {})", text(&deployment, "/spec/replicas"), text(&deployment, "/metadata/generation")))
}

fn replacement(stage: &Stage, victim: &Victim) -> Option<(String, Seen)> {
    stage.pods.all().into_iter().find(|(_, pod)| pod.replaces.as_ref() == Some(&victim.seen.uid))
}

fn moved(stage: &Stage, victim: &Victim) -> bool {
    let gone = stage.pods.all().get(&victim.pod).is_none_or(|p| p.gone_at.is_some());
    gone && replacement(stage, victim).is_some_and(|(_, pod)| pod.ready_at.is_some())
}

fn time(value: &Value, pointer: &str) -> Option<Timestamp> {
    let text = text(value, pointer);
    text.parse::<jiff::Timestamp>().ok().map(|t| Timestamp(t.as_millisecond()))
}

/// Notice -> decision -> launched -> node Ready -> pod Ready -> old pod gone.
fn phases(stage: &Stage, step: &mut StepReport, victim: &Victim) -> Result<(), LabError> {
    step.happened(format!("{} ({}): phases since EC2's notice", victim.app, victim.pod));
    let since = |at: Option<Timestamp>| at.map(|at| seconds(at.since(victim.noticed_at)));
    let old = stage.pods.all().get(&victim.pod).cloned().unwrap_or_default();
    let Some((_, new)) = replacement(stage, victim) else { return Ok(()) };
    let marks = stage.events(&victim.pod, if victim.app == "train" { "Checkpointing" } else { "Migrating" })?;
    step.check(format!("{}: the pod's event says why it moves", victim.app), !marks.is_empty());
    let claim = stage.claim(new.claim.as_deref().unwrap_or_default())?;
    let bought = text(&claim, "/spec/createdFor").contains(&new.uid);
    let decided_at = old_claim_move(stage, victim)?;
    let rows = [
        ("  notice -> decision recorded", since(decided_at)),
        ("  notice -> replacement pod made", since(Some(new.made_at))),
        ("  notice -> machine launched", since(time(&claim, "/status/launchedAt").filter(|_| bought))),
        ("  notice -> node Ready with its GPUs", since(time(&claim, "/status/nodeReadyAt").filter(|_| bought))),
        ("  notice -> replacement pod Ready", since(new.ready_at)),
        ("  notice -> old pod asked to stop", since(old.deleting_at)),
        ("  notice -> old pod gone", since(old.gone_at)),
    ];
    for (phase, value) in rows {
        match value {
            Some(value) => step.measured(&format!("{}{phase}", victim.app), value),
            None => step.happened(format!("{}{phase}: did not happen (room on a machine that was there)", victim.app)),
        }
    }
    let start = if victim.app == "cold" { COLD_START } else { WARM_START };
    if bought {
        step.modelled(&format!("{}  of which boot", victim.app), BOOT.seconds / stage.scale, BOOT.source);
    }
    if victim.app != "train" {
        step.modelled(&format!("{}  of which start of the model", victim.app), start.seconds / stage.scale, start.source);
    }
    step.modelled(&format!("{}  time EC2 gives", victim.app), NOTICE.seconds / stage.scale, NOTICE.source);
    Ok(())
}

/// When the decision to move was written, from the old claim while it is there, else from the ledger's copy in the replacement's annotation.
fn old_claim_move(stage: &Stage, victim: &Victim) -> Result<Option<Timestamp>, LabError> {
    let Some((name, _)) = replacement(stage, victim) else { return Ok(None) };
    let pods = stage.list("pods")?;
    let pod = pods.iter().find(|p| text(p, "/metadata/name") == name).cloned().unwrap_or(Value::Null);
    let note = text(&pod, "/metadata/annotations/lowtide.dev~1replaces");
    let replaces: Value = serde_json::from_str(&note).unwrap_or(Value::Null);
    Ok(replaces.pointer("/decided_at").and_then(Value::as_i64).map(Timestamp))
}

fn serving(
    stage: &Stage,
    step: &mut StepReport,
    victims: &[Victim],
    watches: (&EndpointWatch, &EndpointWatch),
    (from, to): (Timestamp, Timestamp),
) -> Result<(), LabError> {
    let (chat, cold) = (watches.0.readings(), watches.1.readings());
    step.measured("chat: time with nothing serving", seconds(chat.serving_gap(from, to)));
    step.measured("chat: time with fewer than 3 serving", seconds(chat.below(3, from, to)));
    step.check("warm start: never fewer than 3 ready endpoints", chat.below(3, from, to) == Millis::ZERO);
    let gap = seconds(cold.serving_gap(from, to));
    step.measured("cold: time with nothing serving", gap);
    step.happened(format!(
        "the cold start leaves a gap: {gap:.1} s here, {:.0} s at real speed (a cold start takes {:.0} s, EC2 gives {:.0} s)",
        gap * stage.scale,
        BOOT.seconds + COLD_START.seconds,
        NOTICE.seconds
    ));
    for victim in victims.iter().filter(|v| v.app != "train") {
        let after = replicas(stage, victim.app)?;
        step.check(format!("{}: the Deployment's replica count never changed ({after})", victim.app), after == victim.replicas_before);
    }
    for victim in victims.iter().filter(|v| v.app == "chat") {
        let old = stage.pods.all().get(&victim.pod).cloned().unwrap_or_default();
        let in_order = replacement(stage, victim).and_then(|(_, new)| Some(new.ready_at? <= old.deleting_at?));
        step.check("warm start: the replacement was Ready before the old pod was asked to stop", in_order == Some(true));
    }
    Ok(())
}

/// The Job was asked to stop, checkpointed, was remade, burnt nothing, and resumed.
async fn computing(stage: &mut Stage, step: &mut StepReport, victims: &[Victim]) -> Result<(), LabError> {
    let Some(victim) = victims.iter().find(|v| v.app == "train") else { return Ok(()) };
    let done =
        stage.wait("the Job to end", 150, async |s| Ok(job(s)?.pointer("/status/succeeded").and_then(Value::as_i64) == Some(1))).await?;
    let events = stage.lab.timeline().events();
    let on_old = |wanted: fn(&Happening) -> bool| events.iter().find(|e| e.pod.ends_with(&victim.pod) && wanted(&e.what)).map(|e| e.at);
    let signalled = on_old(|h| matches!(h, Happening::Signalled { .. }));
    let saved = on_old(|h| matches!(h, Happening::Checkpointed { .. }));
    let resumed = events.iter().find_map(|e| match e.what {
        Happening::Started { resumed_with_ms, beside_another } if resumed_with_ms > Millis::ZERO => Some((resumed_with_ms, beside_another)),
        _ => None,
    });
    if let (Some(signalled), Some(saved)) = (signalled, saved) {
        step.measured("train  notice -> program signalled", seconds(signalled.since(victim.noticed_at)));
        step.measured("train  notice -> checkpoint written", seconds(saved.since(victim.noticed_at)));
        step.modelled("train  of which writing the checkpoint", CHECKPOINT.seconds / stage.scale, CHECKPOINT.source);
    }
    step.check("the Job's program got SIGTERM and wrote its checkpoint", signalled.is_some() && saved.is_some());
    if let Some((work, _)) = resumed {
        step.happened(format!("its replacement resumed with {:.1} s of work done", seconds(work)));
    }
    step.check("its replacement resumed from the checkpoint, and never ran beside it", resumed.is_some_and(|(_, beside)| !beside));
    let job = job(stage)?;
    let failed = job.pointer("/status/failed").and_then(Value::as_i64).unwrap_or(0);
    step.check(
        format!("the Job ended well before its deadline of 1h with backoffLimit 0 and {failed} failures counted"),
        done && failed == 0,
    );
    Ok(())
}

fn job(stage: &Stage) -> Result<Value, LabError> {
    Ok(stage.list("jobs")?.into_iter().find(|j| text(j, "/metadata/name") == "train").unwrap_or(Value::Null))
}

/// Postgres is away: what was decided meanwhile waits in the outbox.
struct Outage {
    step: StepReport,
    began: Instant,
    rows_before: String,
    waiting: Vec<String>,
}

impl Outage {
    fn begin(stage: &mut Stage) -> Result<Outage, LabError> {
        let step = StepReport::begin('f', "(with c) stop Postgres: the migration is not delayed, and no decision is lost");
        let rows_before = stage.sql("SELECT count(*) FROM ledger.decision")?;
        stage.lab.postgres.stop();
        Ok(Outage { step, began: Instant::now(), rows_before, waiting: Vec::new() })
    }

    fn look(&mut self, stage: &Stage) -> Result<(), LabError> {
        self.waiting = decisions_waiting(stage)?;
        Ok(())
    }

    async fn end(mut self, stage: &mut Stage) -> Result<(), LabError> {
        let away = self.began.elapsed().as_secs_f64();
        self.step.happened(format!("Postgres was away for {away:.0} s; {} decisions waited in the outbox", self.waiting.len()));
        self.step.check("decisions were taken while Postgres was away", !self.waiting.is_empty());
        let back = Instant::now();
        stage.lab.postgres.start_again()?;
        let emptied = stage.wait("the outbox to empty", 60, async |s| Ok(decisions_waiting(s)?.is_empty())).await?;
        self.step.measured("Postgres back -> outbox empty", back.elapsed().as_secs_f64());
        self.step.check("the outbox emptied once Postgres was back", emptied);
        let ids = self.waiting.iter().map(|id| format!("'{id}'")).collect::<Vec<_>>().join(",");
        let found = stage.sql(&format!("SELECT count(*), count(DISTINCT id) FROM ledger.decision WHERE id IN ({ids})"))?;
        let wanted = format!("{0}|{0}", self.waiting.len());
        self.step.happened(format!(
            "decisions in the ledger: {} before, {} now",
            self.rows_before,
            stage.sql("SELECT count(*) FROM ledger.decision")?
        ));
        self.step.check("every decision that waited is in the ledger, exactly once", found == wanted);
        stage.end(self.step, self.began);
        Ok(())
    }
}

fn decisions_waiting(stage: &Stage) -> Result<Vec<String>, LabError> {
    let waiting = stage.list("gpudecisions")?;
    Ok(waiting.iter().filter(|d| text(d, "/spec/kind") == "decision").map(|d| text(d, "/spec/recordId")).collect())
}
