//! Bugs planted on purpose, to prove that the invariants bite: each is one mistake that an operator could make.
//!
//! Decides: what each mistake does to what the operator sees, plans or asks for.
//! Does not: exist outside simulated histories.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::core::action::{Action, ClusterAction, Plan, PodTarget, RemovalReason, Step};
use crate::core::fleet::{Binding, Bound, Claim, Instance, Launch, Ownership, PoolsDefined, Trigger};
use crate::core::invariant::Invariant;
use crate::core::plan::{Planner, Settings, plan};
use crate::core::record::LedgerRecord;
use crate::core::snapshot::memory::MarketMemory;
use crate::core::snapshot::{Lane, Snapshot, seen};
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::units::{Mebibytes, Resources};
use crate::core::workload::need::CapacityPreference;
use crate::core::workload::{Pod, PodPhase};
use crate::ports::Applied;

/// One mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum PlantedBug {
    /// Steps are carried out and their records are never written down.
    DecisionsUnwritten,
    /// EC2 is asked before the claim says that it was.
    LaunchUnmarked,
    /// Every attempt of a launch has a token of its own.
    TokenPerAttempt,
    /// One token serves every launch.
    TokenReused,
    /// The ledger loses one record in ten and says that it has them.
    LedgerRowDropped,
    /// The outbox forgets what it hands out, before the ledger has it.
    OutboxForgets,
    /// An hour costs a micro-dollar more than EC2 says.
    HourMispriced,
    /// A machine stops being paid for a minute before it ends.
    IntervalCutShort,
    /// Pods are drained though nobody takes their machine.
    DrainWithoutNotice,
    /// A machine at work is ended as empty.
    WorkingMachineEnded,
    /// Empty machines are kept.
    EmptyMachinesKept,
    /// Claims are removed while their machines run.
    ClaimRemovedEarly,
    /// Regions, caps and GPU memory of pods are not looked at.
    NeedsIgnored,
    /// Every machine has twice its GPUs.
    RoomDoubled,
    /// Gates are never lifted.
    GatesKept,
    /// Machines of our name are swept whoever's UID they carry.
    OthersSwept,
    /// Machines of claims that cannot be read are swept.
    UnreadableSwept,
    /// Machines that a restored backup knows no claim of are swept as soon as they are seen, whatever runs on them.
    OrphansSwept,
    /// Join timeouts, and since when nodes are unwell, are taken by a clock that is four minutes ahead.
    OwnClockBelieved,
    /// Since when nodes are unwell is taken from a clock that is four minutes behind: that of a kubelet, or of the leader before.
    AnothersClockBelieved,
    /// Gates are lifted as soon as pods are bound, before there is a machine.
    LiftedEarly,
    /// What owners write on their pods is believed.
    MarksBelieved,
    /// However many machines fail at once, all of them are given up.
    BreakerLifted,
    /// A machine whose Node is doubtful has no Node.
    TwinsTakenForGone,
    /// What is decided depends on how many plans were made before.
    PlansDiffer,
    /// Zones that pods select, and those of their volumes, are not looked at.
    ZonesIgnored,
    /// Which pods may run together is not looked at: anti-affinity, spread, ports of the host.
    CompanyIgnored,
    /// Capacity that EC2 has just warned of is bought like any other.
    WarnedCapacityBought,
    /// Capacity that EC2 has just taken a machine back from is bought like any other.
    TakenCapacityBought,
    /// What EC2 has scheduled is read and forgotten.
    ScheduleForgotten,
    /// Every replica is bought where it costs least, whoever else stands there.
    ReplicasKeptTogether,
    /// Disruption budgets are not looked at.
    BudgetsIgnored,
    /// Pods that are not to be disrupted are moved like any other.
    PeaceIgnored,
    /// Every machine is taken for one that its class would make in another way now.
    DriftImagined,
    /// A pool that went with the definition of all pools is taken for one that was deleted by itself.
    DefinitionForgotten,
    /// A node whose claim's taint was taken off is taken for one that has it.
    TaintForgotten,
    /// Every volume is taken for one that many nodes may mount: pods surge that must end before they are made again.
    VolumesTakenForShared,
}

impl PlantedBug {
    /// The invariants that must notice it, one of them at least.
    pub fn noticed_by(self) -> &'static [Invariant] {
        use Invariant::*;
        match self {
            PlantedBug::DecisionsUnwritten | PlantedBug::LaunchUnmarked | PlantedBug::LedgerRowDropped | PlantedBug::OutboxForgets => {
                &[DecisionsDurableOnce]
            }
            PlantedBug::TokenPerAttempt => &[OneInstancePerClaim],
            PlantedBug::TokenReused | PlantedBug::GatesKept | PlantedBug::TaintForgotten => &[WorldSettles, EveryInstanceClaimed],
            PlantedBug::HourMispriced | PlantedBug::IntervalCutShort => &[LedgerIsTheBill],
            PlantedBug::DrainWithoutNotice | PlantedBug::WorkingMachineEnded => &[RemovalsHaveReasons],
            PlantedBug::EmptyMachinesKept | PlantedBug::ClaimRemovedEarly => &[EveryInstanceClaimed],
            PlantedBug::NeedsIgnored | PlantedBug::ZonesIgnored | PlantedBug::CompanyIgnored => &[NeedsAndPoliciesHold],
            PlantedBug::VolumesTakenForShared | PlantedBug::ReplicasKeptTogether | PlantedBug::WarnedCapacityBought => {
                &[NeedsAndPoliciesHold]
            }
            PlantedBug::TakenCapacityBought => &[NeedsAndPoliciesHold],
            PlantedBug::RoomDoubled => &[OneClaimPerPod, NeedsAndPoliciesHold],
            PlantedBug::PlansDiffer => &[SameSeedSameHistory],
            PlantedBug::ScheduleForgotten => &[EndsWereSeen],
            PlantedBug::OthersSwept | PlantedBug::UnreadableSwept | PlantedBug::OrphansSwept => &[EndsWereSeen],
            PlantedBug::OwnClockBelieved
            | PlantedBug::BudgetsIgnored
            | PlantedBug::PeaceIgnored
            | PlantedBug::DriftImagined
            | PlantedBug::DefinitionForgotten => &[RemovalsHaveReasons],
            PlantedBug::LiftedEarly => &[LiftedPodsRun, WorldSettles],
            PlantedBug::MarksBelieved => &[NeedsAndPoliciesHold],
            PlantedBug::TwinsTakenForGone | PlantedBug::BreakerLifted | PlantedBug::AnothersClockBelieved => &[EndsWereSeen],
        }
    }

    /// The API server is not asked before a machine is swept.
    pub fn forgets_to_ask(self) -> bool {
        matches!(self, PlantedBug::OthersSwept | PlantedBug::UnreadableSwept | PlantedBug::OrphansSwept)
    }

    /// Pods are read with volumes that are none of theirs.
    pub fn misreads_volumes(self) -> bool {
        self == PlantedBug::VolumesTakenForShared
    }

    /// The operator's plan with the mistake in it.
    pub fn planner(self) -> Planner {
        Arc::new(move |settings: &Settings, world: &Snapshot, now: Timestamp| {
            let mut seen = world.clone();
            self.falsify(&mut seen, now);
            let mut planned = plan(settings, &seen, now);
            self.spoil(&mut planned, world, now);
            planned
        })
    }

    /// What the operator believes to see.
    fn falsify(self, world: &mut Snapshot, now: Timestamp) {
        match self {
            PlantedBug::NeedsIgnored => {
                for (need, _) in world.pods.values_mut().filter_map(|pod| pod.need.as_mut().ok()) {
                    need.regions.clear();
                    need.max_price_per_gpu_hour = None;
                    need.gpu_memory = Mebibytes(1);
                    need.capacity = CapacityPreference::SpotFirst;
                }
            }
            PlantedBug::RoomDoubled => {
                for Resources { cpu, memory, gpus, .. } in world.nodes.values_mut().map(|node| &mut node.allocatable) {
                    (cpu.0, memory.0, *gpus) = (cpu.0 * 2, memory.0 * 2, *gpus * 2);
                }
                for machine in world.catalog.types.values_mut() {
                    (machine.vcpus, machine.memory.0, machine.gpus) = (machine.vcpus * 2, machine.memory.0 * 2, machine.gpus * 2);
                }
            }
            PlantedBug::MarksBelieved => believe_marks(world),
            PlantedBug::BreakerLifted => {
                world.pools.values_mut().for_each(|pool| pool.ends_allowed_until = Some(now + Millis::from_hours(1)));
            }
            PlantedBug::TwinsTakenForGone => world.doubtful_nodes = BTreeMap::new().into(),
            PlantedBug::ZonesIgnored => {
                for (need, _) in world.pods.values_mut().filter_map(|pod| pod.need.as_mut().ok()) {
                    need.zones.clear();
                    need.node_terms.clear();
                }
            }
            PlantedBug::CompanyIgnored => {
                for pod in world.pods.values_mut() {
                    pod.rules = Default::default();
                    pod.need.iter_mut().for_each(|(_, schedule)| schedule.zone_max_skew = None);
                }
            }
            PlantedBug::TakenCapacityBought => {
                world.memory = MarketMemory::default().into();
                let marks =
                    world.claims.values_mut().filter(|claim| claim.interrupted()).filter_map(|claim| claim.status.interruption.as_mut());
                marks.for_each(|mark| mark.noticed_at = mark.noticed_at - Millis::from_mins(31));
            }
            PlantedBug::WarnedCapacityBought => {
                world.memory = MarketMemory::default().into();
                for mark in world.claims.values_mut().filter_map(|claim| claim.status.interruption.as_mut()) {
                    mark.noticed_at = mark.noticed_at - Millis::from_mins(20);
                }
            }
            PlantedBug::ScheduleForgotten => {
                world.scheduled = BTreeMap::new().into();
                world.claims.values_mut().for_each(|claim| claim.status.scheduled = None);
            }
            PlantedBug::ReplicasKeptTogether => world.pools.values_mut().for_each(|pool| pool.spread_most_extra_per_mille = 0),
            PlantedBug::BudgetsIgnored => world.pools.values_mut().for_each(|pool| pool.disruption.budgets.clear()),
            PlantedBug::PeaceIgnored => {
                let schedules = world.pods.values_mut().filter_map(|pod| pod.need.as_mut().ok());
                schedules.for_each(|(_, schedule)| schedule.do_not_disrupt = None);
            }
            PlantedBug::DriftImagined => {
                for claim in world.claims.values_mut().filter(|claim| claim.status.node_ready_at.is_some()) {
                    claim.spec.frozen.launch_template.push_str("-of-yesterday");
                }
            }
            PlantedBug::OwnClockBelieved => {
                world.ec2_ahead = Some(world.ec2_ahead.unwrap_or(Millis::ZERO) + Millis::from_mins(4));
                world.first_sights.shift(Millis::from_mins(-4));
            }
            PlantedBug::DefinitionForgotten => {
                world.pools_defined = PoolsDefined::By("whichever".into());
                world.claims.values_mut().for_each(|claim| claim.status.pools_defined_by = Some("whichever".into()));
            }
            PlantedBug::TaintForgotten => world.nodes.values_mut().for_each(|node| node.guarded = node.labelled),
            PlantedBug::AnothersClockBelieved => world.first_sights.shift(Millis::from_mins(-4)),
            _ => {}
        }
    }

    /// What is wrong with the plan.
    fn spoil(self, planned: &mut Plan, world: &Snapshot, now: Timestamp) {
        let actions = planned.steps.iter_mut().flat_map(|step| step.actions.iter_mut());
        match self {
            PlantedBug::DecisionsUnwritten => planned.steps.iter_mut().for_each(|step| step.records.clear()),
            PlantedBug::HourMispriced => records(planned, |record| {
                if let LedgerRecord::HourPriced(hour) = record {
                    hour.price_per_hour = MicroUsdPerHour(hour.price_per_hour.0 + 1);
                }
            }),
            PlantedBug::IntervalCutShort => records(planned, |record| {
                if let LedgerRecord::IntervalClosed(end) = record {
                    end.running_to = end.running_to - Millis::from_mins(1);
                }
            }),
            PlantedBug::EmptyMachinesKept => drop_actions(planned, |a| matches!(a, Action::Terminate { trigger: Trigger::Empty, .. })),
            PlantedBug::GatesKept => drop_actions(planned, |a| matches!(a, Action::Cluster(ClusterAction::Lift { .. }))),
            PlantedBug::TokenReused => actions.for_each(|action| {
                if let Action::Launch { launch, .. } = action {
                    launch.client_token = "the-same-for-all".to_owned();
                }
            }),
            PlantedBug::DrainWithoutNotice => planned.steps.extend(working(world, now).filter_map(|claim| drain(world, claim))),
            PlantedBug::WorkingMachineEnded => {
                let ends: Vec<Step> = working(world, now).filter_map(end).collect();
                planned.steps.extend(ends);
            }
            PlantedBug::ClaimRemovedEarly => planned.steps.extend(working(world, now).map(remove)),
            PlantedBug::OthersSwept => planned.steps.extend(seen(&world.instances).filter(|i| !is_ours(world, i)).map(sweep)),
            PlantedBug::UnreadableSwept => {
                let ids: Vec<_> = world.unreadable_claims.values().filter_map(|claim| claim.instance.clone()).collect();
                planned.steps.extend(seen(&world.instances).filter(|i| i.is_alive() && ids.contains(&i.id)).map(sweep));
            }
            PlantedBug::OrphansSwept => {
                let orphans =
                    seen(&world.instances).filter(|i| world.unclaimed_since.contains_key(&i.id) && i.is_alive() && is_ours(world, i));
                planned.steps.extend(orphans.map(sweep));
            }
            PlantedBug::LiftedEarly => {
                let gated = world.pods.values().filter(|p| p.phase == PodPhase::Gated && p.claim.is_some() && p.deleting_until.is_none());
                planned.steps.extend(gated.filter_map(lift));
            }
            PlantedBug::PlansDiffer => {
                let plans = PLANS.fetch_add(1, Ordering::Relaxed);
                planned.steps.truncate(if plans % 3 == 1 { 1 } else { usize::MAX });
                planned.wake_at = planned.wake_at.or(Some(now + Millis::from_secs(20)));
            }
            _ => {}
        }
    }

    /// The launch as EC2 gets it; `calls` have been made before.
    pub fn launch(self, launch: &Launch, calls: u64) -> Launch {
        let mut launch = launch.clone();
        if self == PlantedBug::TokenPerAttempt {
            launch.client_token = format!("{}-{calls}", launch.client_token);
        }
        launch
    }

    /// The API server never hears of this, and the operator believes that it did.
    pub fn swallows(self, action: &ClusterAction) -> Option<Applied> {
        match action {
            ClusterAction::PatchClaim { claim, patch, .. } if self == PlantedBug::LaunchUnmarked && patch.launch_asked_at.is_some() => {
                Some(Applied { lane: Lane::Claim(claim.clone()), resource_version: None })
            }
            _ => None,
        }
    }

    /// The ledger never hears of this record, and the operator believes that it did.
    pub fn loses(self, record: &LedgerRecord) -> bool {
        self == PlantedBug::LedgerRowDropped && record.id().as_bytes().first().is_some_and(|byte| byte % 10 == 0)
    }
}

fn believe_marks(world: &mut Snapshot) {
    let believed = world.pods.values_mut().filter(|pod| pod.attempt > 0).map(|pod| {
        let claim = pod.claim.get_or_insert_with(|| "lt-forged".into()).clone();
        let (uid, replaces) = (pod.identity.uid.clone(), pod.replaces.clone());
        let binding = Binding { pod: uid.clone(), decision: pod.placed_by, attempt: pod.attempt, baseline: pod.baseline, replaces };
        (uid, Bound { claim, binding })
    });
    world.pending_bindings = believed.collect();
}

/// Plans of every history of the process.
static PLANS: AtomicU64 = AtomicU64::new(0);

fn records(planned: &mut Plan, spoil: impl FnMut(&mut LedgerRecord)) {
    planned.steps.iter_mut().flat_map(|step| step.records.iter_mut()).for_each(spoil);
}

fn drop_actions(planned: &mut Plan, bad: impl Fn(&Action) -> bool) {
    planned.steps.retain(|step| !step.actions.iter().any(&bad));
}

/// A machine that nobody takes, whose pods have been Ready for long.
fn working(world: &Snapshot, now: Timestamp) -> impl Iterator<Item = &Claim> {
    let works = move |claim: &&Claim| {
        let runs = |claim: &Claim| {
            world.pods.values().any(|p| p.holds(&claim.name) && p.ready_since.is_some_and(|since| now > since + Millis::from_mins(20)))
        };
        claim.takes_work() && claim.status.instance.is_some() && runs(claim) && !world.in_flight.contains(&Lane::Claim(claim.name.clone()))
    };
    world.claims.values().filter(works).take(1)
}

fn drain(world: &Snapshot, claim: &Claim) -> Option<Step> {
    let pod = world.pods.values().find(|p| p.holds(&claim.name) && p.phase == PodPhase::Running)?.identity.clone();
    let lanes = vec![Lane::Pod(pod.uid.clone())];
    let evict = ClusterAction::Evict { pod, grace: Millis::from_secs(30), reason: RemovalReason::Interruption };
    Some(Step::planned(lanes, Vec::new(), vec![Action::Cluster(evict)]))
}

fn end(claim: &Claim) -> Option<Step> {
    let terminate = Action::Terminate {
        claim: claim.name.clone(),
        region: claim.spec.capacity.region.clone(),
        instance: claim.status.instance.clone()?,
        decision: claim.spec.decision,
        trigger: Trigger::Empty,
        seen: claim.version,
    };
    Some(Step::planned(vec![Lane::Claim(claim.name.clone())], Vec::new(), vec![terminate]))
}

fn is_ours(world: &Snapshot, instance: &Instance) -> bool {
    instance.ownership(&world.cluster_uid) == Ownership::Ours || !instance.is_alive()
}

fn sweep(instance: &Instance) -> Step {
    let (region, id, claim_uid) = (instance.capacity.region.clone(), instance.id.clone(), instance.claim_uid().map(str::to_owned));
    let action = Action::TerminateUnclaimed { region, instance: id.clone(), claim_uid };
    Step::planned(vec![Lane::Instance(id)], Vec::new(), vec![action])
}

fn lift(pod: &Pod) -> Option<Step> {
    let target = PodTarget { pod: pod.identity.clone(), resource_version: pod.resource_version.clone() };
    let action = Action::Cluster(ClusterAction::Lift { target, claim: pod.claim.clone()? });
    Some(Step::planned(vec![Lane::Pod(pod.identity.uid.clone())], Vec::new(), vec![action]))
}

fn remove(claim: &Claim) -> Step {
    let remove = ClusterAction::RemoveClaim { claim: claim.name.clone(), seen: Some(claim.version) };
    Step::planned(vec![Lane::Claim(claim.name.clone())], Vec::new(), vec![Action::Cluster(remove)])
}
