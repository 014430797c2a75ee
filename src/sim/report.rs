//! What a history came to, for people and for machines.
//!
//! Decides: which figures are taken, and how they are said.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;

use super::run::Scenario;
use super::world::World;
use crate::core::fleet::Trigger;
use crate::core::market::CapacityType;
use crate::core::record::{LedgerRecord, Outcome as Decided};
use crate::core::units::ids::Uid;
use crate::core::units::money::{MicroUsd, MicroUsdMillis};
use crate::core::units::time::Millis;

/// What a history came to.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// Simulated hours, without the quiet end.
    pub hours: i64,
    /// Broken invariants, as in `INV-3 (...): what was seen`; empty when all held.
    pub broken: Vec<String>,
    /// SHA-256 over every line of the history.
    pub fingerprint: String,
    /// Lines of the history.
    pub lines: u64,
    /// Steps after which the invariants were checked.
    pub steps_checked: u64,
    /// Calls that change something.
    pub changing_calls: u64,
    /// Operator processes that were started.
    pub operators: u32,
    /// Machines launched.
    pub machines: usize,
    /// What they cost by the bill.
    pub cost_usd: MicroUsd,
    /// What the same machines would have cost on on-demand for the same time.
    pub on_demand_usd: MicroUsd,
    /// Thousandths of on-demand that were saved.
    pub saved_per_mille: i64,
    /// Machines that EC2 took back.
    pub interruptions: usize,
    /// Pods that were moved.
    pub moves: usize,
    /// Machines that ran and were bought before work moved to something cheaper, so that the work could go there.
    pub bought_ahead: usize,
    /// Those of them that never got work: paid for in vain.
    pub bought_in_vain: usize,
    /// From notice to replacement Ready, of moves after a notice: median, in seconds.
    pub recovery_p50_seconds: Option<i64>,
    /// 95th percentile.
    pub recovery_p95_seconds: Option<i64>,
    /// Jobs done.
    pub jobs_done: usize,
    /// Jobs done after their deadline, or not at all.
    pub jobs_late: usize,
    /// Pods of Jobs that the Job controller counted as failed.
    pub job_failures: u32,
    /// Work of Jobs that was done and lost, in minutes.
    pub lost_work_minutes: i64,
    /// Rows in the ledger.
    pub ledger_rows: usize,
    /// These rows: what a real ledger may be filled with.
    #[serde(skip)]
    pub rows: Vec<LedgerRecord>,
    /// What each machine that has ended costs on the bill, by the uid of its claim.
    #[serde(skip)]
    pub bill: BTreeMap<Uid, MicroUsd>,
    /// The operator's `/metrics`, as often as the scenario asked for.
    #[serde(skip)]
    pub metrics: Vec<String>,
    /// The last lines of the history, when something broke.
    pub trace: Vec<String>,
}

impl Outcome {
    /// Takes the figures of a history that is over.
    pub fn of(scenario: &Scenario, world: &World, operators: u32) -> Outcome {
        let now = world.now();
        let (mut cost, mut on_demand) = (MicroUsd(0), MicroUsdMillis(0));
        for machine in world.ec2.machines.values() {
            cost = cost + super::bill::cost(machine, &world.market, &world.account, now);
            let ran = machine.instance.ended_at.unwrap_or(now).since(machine.instance.launched_at);
            on_demand = on_demand + super::bill::on_demand(&machine.instance.capacity, &world.market).over(ran);
        }
        let on_demand = on_demand.to_micro_usd();
        let mut recoveries: Vec<Millis> = Vec::new();
        let mut moves = 0;
        for record in world.ledger.rows.values() {
            if let LedgerRecord::Migration(m) = &**record {
                moves += 1;
                recoveries.extend(m.deadline.and(m.pod_ready_at).map(|ready| ready.since(m.noticed_at)));
            }
        }
        recoveries.sort();
        let (bought_ahead, bought_in_vain) = bought_ahead(world);
        let at = |per_cent: usize| {
            recoveries.get((recoveries.len() * per_cent / 100).min(recoveries.len().saturating_sub(1))).map(|r| r.as_secs())
        };
        let jobs = world.kube.jobs.values();
        let late = |j: &&super::kube::Job| j.deadline.is_some_and(|d| j.finished_at.map_or(now > d, |at| at > d));
        let taken = |m: &&super::ec2::Machine| m.instance.state_reason.as_deref() == Some(super::ec2::TAKEN_BACK);
        Outcome {
            seed: scenario.seed,
            hours: scenario.span.0 / 3_600_000,
            broken: world.broken.iter().map(ToString::to_string).collect(),
            fingerprint: world.history.fingerprint(),
            lines: world.history.lines,
            steps_checked: world.checks.steps,
            changing_calls: world.faults.changes,
            operators,
            machines: world.ec2.machines.len(),
            cost_usd: cost,
            on_demand_usd: on_demand,
            saved_per_mille: if on_demand.0 > 0 { (on_demand.0 - cost.0) * 1_000 / on_demand.0 } else { 0 },
            interruptions: world
                .ec2
                .machines
                .values()
                .filter(taken)
                .filter(|m| m.instance.capacity.capacity_type == CapacityType::Spot)
                .count(),
            moves,
            bought_ahead,
            bought_in_vain,
            recovery_p50_seconds: at(50),
            recovery_p95_seconds: at(95),
            jobs_done: jobs.clone().filter(|j| j.finished_at.is_some()).count(),
            jobs_late: jobs.clone().filter(late).count(),
            job_failures: jobs.clone().map(|j| j.failures).sum(),
            lost_work_minutes: jobs.map(|j| j.lost.0).sum::<i64>() / 60_000,
            ledger_rows: world.ledger.rows.len(),
            rows: world.ledger.rows.values().map(|row| LedgerRecord::clone(row)).collect(),
            bill: world
                .ec2
                .machines
                .values()
                .filter(|m| m.instance.ended_at.is_some())
                .map(|m| (m.books(), super::bill::cost(m, &world.market, &world.account, now)))
                .collect(),
            metrics: Vec::new(),
            trace: if world.broken.is_empty() { Vec::new() } else { world.history.trace() },
        }
    }

    /// For people: what happened, in sentences; when something broke, the last steps and how to see it again.
    pub fn to_text(&self, command: &str) -> String {
        let mut text = String::new();
        let span = Millis::from_hours(self.hours);
        let _ = writeln!(
            text,
            "seed {}: {span} of a cluster, {} machines, {} changing calls, {} lines of history",
            self.seed, self.machines, self.changing_calls, self.lines
        );
        let saved = self.saved_per_mille;
        let _ = writeln!(
            text,
            "cost ${} by EC2's bill; the same machines on demand ${} ({}.{} % saved)",
            self.cost_usd,
            self.on_demand_usd,
            saved / 10,
            saved % 10
        );
        let seconds = |s: Option<i64>| s.map_or_else(|| "-".to_owned(), |s| format!("{s} s"));
        let _ = writeln!(
            text,
            "EC2 took {} machines back; {} pods were moved; notice -> replacement Ready: median {}, 95th percentile {}",
            self.interruptions,
            self.moves,
            seconds(self.recovery_p50_seconds),
            seconds(self.recovery_p95_seconds)
        );
        let (ahead, in_vain) = (self.bought_ahead, self.bought_in_vain);
        let _ = writeln!(text, "{ahead} machines were bought before work moved to something cheaper; {in_vain} of them never got work");
        let _ = writeln!(
            text,
            "{} Jobs done, {} late, {} pods counted as failed, {} minutes of work lost; {} rows in the ledger",
            self.jobs_done, self.jobs_late, self.job_failures, self.lost_work_minutes, self.ledger_rows
        );
        if self.broken.is_empty() {
            let _ = write!(text, "all invariants held over {} steps; fingerprint {}", self.steps_checked, &self.fingerprint[..16]);
            return text;
        }
        let _ = writeln!(text, "\nthe last steps:");
        for line in &self.trace {
            let _ = writeln!(text, "  {line}");
        }
        let _ = writeln!(text);
        for fault in &self.broken {
            let _ = writeln!(text, "BROKEN {fault}");
        }
        let _ = write!(text, "see it again: {command}");
        text
    }
}

/// How many machines were bought before work moved to something cheaper, and how many of them never got work, by the ledger.
fn bought_ahead(world: &World) -> (usize, usize) {
    let (mut decisions, mut occupied, mut opened) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for row in world.ledger.rows.values() {
        match &**row {
            LedgerRecord::Decision(d) if d.outcome == Decided::Launch => {
                if matches!(d.trigger, Trigger::CheaperOffer | Trigger::ReturnToSpot) {
                    decisions.insert(d.id);
                }
            }
            LedgerRecord::OccupancyOpened(r) => {
                occupied.insert(&r.claim_uid);
            }
            LedgerRecord::IntervalOpened(r) => opened.push(r),
            _ => {}
        }
    }
    opened.retain(|interval| decisions.contains(&interval.decision));
    (opened.len(), opened.iter().filter(|interval| !occupied.contains(&interval.claim_uid)).count())
}

/// Many histories, summed.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Summary {
    /// Histories played.
    pub histories: u64,
    /// Simulated days.
    pub days: i64,
    /// Seeds that broke an invariant, with the first fault of each.
    pub failed: BTreeMap<u64, String>,
    /// Machines launched.
    pub machines: usize,
    /// Interruptions.
    pub interruptions: usize,
    /// Changing calls.
    pub changing_calls: u64,
    /// What all cost.
    pub cost_usd: MicroUsd,
    /// What on-demand would have cost.
    pub on_demand_usd: MicroUsd,
}

impl Summary {
    /// Adds one history.
    pub fn add(&mut self, outcome: &Outcome) {
        self.histories += 1;
        self.days += outcome.hours / 24;
        self.machines += outcome.machines;
        self.interruptions += outcome.interruptions;
        self.changing_calls += outcome.changing_calls;
        self.cost_usd = self.cost_usd + outcome.cost_usd;
        self.on_demand_usd = self.on_demand_usd + outcome.on_demand_usd;
        if let Some(first) = outcome.broken.first() {
            self.failed.insert(outcome.seed, first.clone());
        }
    }
}
