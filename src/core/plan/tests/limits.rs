//! What a pool, an account and a class allow: budgets and rescues, quotas, shared GPUs, daemonsets, reservations, closed regions.

use std::collections::BTreeMap;

use super::toy::*;
use crate::core::fleet::{ClaimSpec, NoticeKind, Trigger};
use crate::core::market::quota::{QuotaFamily, VcpuQuota};
use crate::core::market::reservation::{CapacityReservation, NamedReservation, SeenReservations};
use crate::core::market::{Capacity, CapacityType, CoolDownCause};
use crate::core::plan::placing::budget;
use crate::core::record::{LedgerRecord, Outcome, Refusal};
use crate::core::snapshot::memory::Sighting;
use crate::core::units::ids::{Region, Uid};
use crate::core::units::money::{MicroUsd, MicroUsdPerHour};
use crate::core::units::time::{Millis, Timestamp};
use crate::core::units::{Mebibytes, Millicores, Resources};
use crate::core::workload::PodPhase;
use crate::core::workload::daemonsets::DaemonSet;
use crate::core::workload::need::{Toleration, WorkloadKind};
use crate::core::workload::sharing::{GpuSharing, Sharing};

/// Ten days before a month ends: a machine at $0.0913/h is bound to cost $21.91 by then.
const TEN_DAYS_BEFORE: Timestamp = Timestamp(1_785_542_400_000 - 10 * 86_400_000);

fn toy_with_budget(dollars: i64) -> Toy {
    let mut toy = Toy::new();
    assert_eq!(TEN_DAYS_BEFORE + Millis::from_hours(240), Timestamp::from_date(2026, 8, 1));
    toy.now = TEN_DAYS_BEFORE;
    pool_mut(&mut toy).monthly_budget = Some(MicroUsd(dollars * 1_000_000));
    toy
}

fn pool_mut(toy: &mut Toy) -> &mut crate::core::fleet::NodePool {
    toy.world.pools.get_mut(&"gpu".into()).unwrap()
}

fn spend(toy: &Toy) -> budget::MonthSpend {
    let pool = "gpu".into();
    let books = toy.world.pool_statuses.get(&pool).map(|status| &status.books);
    budget::month_spend(&pool, books, toy.world.claims.values(), &toy.world.market, toy.now)
}

fn refusals(toy: &Toy) -> Vec<BTreeMap<Refusal, u32>> {
    toy.decisions().iter().filter(|d| d.outcome == Outcome::Refuse).map(|d| d.judgement.refused.clone()).collect()
}

fn phase(toy: &Toy, pod: &Uid) -> Option<PodPhase> {
    toy.world.pods.get(pod).map(|p| p.phase)
}

#[test]
fn a_budget_stops_new_buying_and_never_a_rescue() {
    let mut toy = toy_with_budget(30);
    pool_mut(&mut toy).launches_per_minute = Some(1);
    let first = toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(120);
    assert_eq!(phase(&toy, &first), Some(PodPhase::Running));
    assert!(spend(&toy).committed > MicroUsd(21_000_000));
    let second = toy.add_pod(job(), WorkloadKind::Batch);
    toy.run(60);
    assert_eq!(phase(&toy, &second), Some(PodPhase::Gated), "two machines are bound to cost more than $30 until the month ends");
    assert_eq!(refusals(&toy)[0].get(&Refusal::Budget), Some(&4));

    pool_mut(&mut toy).monthly_budget = Some(MicroUsd(1));
    let doomed = toy.all_instances()[0].id.clone();
    toy.notify(&doomed, NoticeKind::Interruption);
    toy.run(100);
    assert!(!toy.world.pods.contains_key(&first), "the old pod went when its replacement served");
    let running = toy.world.pods.values().filter(|p| p.phase == PodPhase::Running).count();
    assert_eq!((running, phase(&toy, &second)), (1, Some(PodPhase::Gated)));
    let rescue = toy.decisions().into_iter().find(|d| d.outcome == Outcome::Launch && d.trigger == Trigger::InterruptionNotice);
    assert!(rescue.is_some(), "a dollar's millionth of budget held up a rescue");
}

#[test]
fn a_rescue_takes_the_place_of_its_machine_at_the_limit_and_waits_for_no_launch_rate() {
    let mut toy = Toy::new();
    let pool = pool_mut(&mut toy);
    (pool.max_nodes, pool.max_gpus, pool.launches_per_minute) = (Some(2), Some(2), Some(1));
    let mut other = deployment();
    if let crate::core::workload::Mobility::Surge { replica_set, deployment, .. } = &mut other {
        (*replica_set, *deployment) = ("rs-2".into(), "api".into());
    }
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.add_pod(other, WorkloadKind::Inference);
    toy.run(240);
    assert_eq!(toy.running().len(), 2);
    toy.add_pod(job(), WorkloadKind::Batch);
    toy.run(5);
    assert!(refusals(&toy).iter().any(|r| r.contains_key(&Refusal::PoolLimit)));
    let before = toy.now;
    for instance in toy.all_instances() {
        toy.notify(&instance.id, NoticeKind::Interruption);
    }
    toy.run(10);
    let rescued: Vec<_> = toy.world.claims.values().filter(|c| c.created_at > before).collect();
    assert_eq!(rescued.len(), 2, "both at once, whatever the pool's launches per minute");
    assert!(rescued.iter().all(|c| c.spec.bought_for.len() == 1 && c.spec.trigger == Trigger::InterruptionNotice));
}

#[test]
fn what_machines_cost_is_settled_before_they_go_and_stays_counted_over_a_restart() {
    let mut toy = toy_with_budget(1_000);
    let pod = toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(3_600);
    let accrued = spend(&toy).accrued;
    assert!((89_000..=91_300).contains(&accrued.0), "an hour at $0.0913: {accrued}");
    toy.world.pods.remove(&pod);
    toy.run(60);
    assert!(toy.world.claims.is_empty());
    let after = spend(&toy);
    assert_eq!((after.accrued, after.committed), (MicroUsd(0), MicroUsd(0)));
    assert!(after.settled.0 > accrued.0 && after.settled.0 < accrued.0 + 2_000, "{after:?}");
    let books = &toy.world.pool_statuses[&"gpu".into()].books;
    assert!(books.closing.is_empty(), "{books:?}");
    toy.now = Timestamp::from_date(2026, 8, 1);
    assert_eq!(spend(&toy).total(), MicroUsd(0), "a new month");
    toy.run(1);
    assert_eq!(toy.world.pool_statuses[&"gpu".into()].books.month, Timestamp::from_date(2026, 8, 1));
}

#[test]
fn a_machine_that_ec2_takes_in_its_first_hour_costs_nothing_and_commits_nothing() {
    let mut toy = toy_with_budget(1_000);
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(600);
    let doomed = toy.all_instances()[0].id.clone();
    toy.notify(&doomed, NoticeKind::Interruption);
    toy.run(8);
    let machines = toy.running().len() as i64;
    let rest = Timestamp::from_date(2026, 8, 1).since(toy.now);
    // Its replacement is not bought where it was taken.
    let one = MicroUsdPerHour(SPOT_B.2).over(rest).to_micro_usd();
    assert!((spend(&toy).committed.0 - one.0).abs() < one.0 / 5, "{machines} machines, of which one is being left: {:?}", spend(&toy));
    toy.run(104);
    toy.end_instance(&doomed, "Server.SpotInstanceTermination");
    toy.run(10);
    assert_eq!(spend(&toy).settled, MicroUsd(0));
}

fn quota(vcpus: i64) -> BTreeMap<Region, Vec<VcpuQuota>> {
    let of = |capacity_type, vcpus| VcpuQuota { family: QuotaFamily::GAndVt, capacity_type, vcpus };
    BTreeMap::from([(Region::from(SPOT_A.0), vec![of(CapacityType::Spot, vcpus), of(CapacityType::OnDemand, 0)])])
}

#[test]
fn a_quota_is_planned_with_and_our_own_machines_come_off_it() {
    let mut toy = Toy::new();
    toy.world.quotas = quota(4).into();
    toy.world.market.offers.retain(|capacity, _| capacity.region.as_str() == SPOT_A.0);
    let first = toy.add_pod(deployment(), WorkloadKind::Inference);
    let second = toy.add_pod(job(), WorkloadKind::Batch);
    toy.run(120);
    assert_eq!((phase(&toy, &first), phase(&toy, &second)), (Some(PodPhase::Running), Some(PodPhase::Gated)));
    assert_eq!(refusals(&toy)[0], BTreeMap::from([(Refusal::Quota, 2)]), "4 vCPUs hold one g6.xlarge, and none on-demand");
    let refused = toy.events.iter().filter(|(reason, _)| *reason == "LaunchRefused").count();
    assert_eq!(refused, 0, "EC2 was not asked for what the quota cannot hold");
    toy.world.quotas = quota(8).into();
    toy.run(120);
    assert_eq!(phase(&toy, &second), Some(PodPhase::Running));
}

#[test]
fn ec2s_word_on_a_quota_holds_for_the_whole_family_of_the_region() {
    let mut toy = Toy::new();
    let spot = capacity(SPOT_A.0, SPOT_A.1, CapacityType::Spot);
    let (base, max) = (Millis::from_mins(3), Millis::from_hours(1));
    let refused = Sighting::Refused { cause: CoolDownCause::Quota, vcpus: 4, base, max };
    toy.world.memory.record(&Capacity { zone: "eus2-az1".into(), ..spot.clone() }, refused, toy.now);
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(5);
    assert_eq!(toy.running(), vec![capacity(SPOT_B.0, SPOT_B.1, CapacityType::Spot)], "another zone of the region has the same quota");
}

fn share(toy: &mut Toy, sharing: GpuSharing) {
    toy.world.classes.values_mut().for_each(|class| class.sharing = sharing);
}

#[test]
fn a_shared_gpu_takes_several_pods_and_counts_its_slots_everywhere() {
    let mut toy = Toy::new();
    share(&mut toy, GpuSharing { sharing: Sharing::Mps { replicas: 2 }, context_reserve: Mebibytes(500) });
    // 22888 / 2 - 500 = 10944 MiB for each of two.
    toy.gpu_memory = Mebibytes(10_000);
    (toy.cpu, toy.memory) = (Millicores(1_000), Mebibytes(4_096));
    let pods: Vec<Uid> = (0..3).map(|_| toy.add_pod(deployment(), WorkloadKind::Inference)).collect();
    toy.run(150);
    assert!(pods.iter().all(|pod| phase(&toy, pod) == Some(PodPhase::Running)));
    assert_eq!(toy.running().len(), 2, "two pods on one GPU, the third on another");
    let late = toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(60);
    assert_eq!((toy.running().len(), phase(&toy, &late)), (2, Some(PodPhase::Running)), "the free half was used");
    let units: Vec<i64> =
        toy.ledger.iter().filter_map(|r| if let LedgerRecord::IntervalOpened(o) = r { Some(o.gpus) } else { None }).collect();
    assert_eq!(units, [2, 2], "so that the cost splits in halves");
    toy.gpu_memory = Mebibytes(11_000);
    let large = toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(5);
    assert_eq!(phase(&toy, &large), Some(PodPhase::Gated));
    assert_eq!(refusals(&toy)[0], BTreeMap::from([(Refusal::GpuMemory, 4)]));
}

#[test]
fn a_claim_keeps_the_sharing_it_was_bought_with() {
    let mut toy = Toy::new();
    toy.gpu_memory = Mebibytes(5_000);
    (toy.cpu, toy.memory) = (Millicores(500), Mebibytes(2_048));
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(100);
    share(&mut toy, GpuSharing { sharing: Sharing::TimeSlicing { replicas: 4 }, context_reserve: Mebibytes(500) });
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(100);
    assert_eq!(toy.running().len(), 2, "the first machine has one slot, whatever its class says today");
}

#[test]
fn daemonsets_take_their_part_of_machines_to_buy_and_of_those_that_run() {
    let mut toy = Toy::new();
    let requests = Resources { cpu: Millicores(2_500), memory: Mebibytes(256), ..Resources::default() };
    let everywhere = vec![Toleration { operator: Some("Exists".to_owned()), ..Toleration::default() }];
    let (name, node_selector, affinity) = ("kube-system/agent".into(), BTreeMap::new(), Vec::new());
    toy.world.daemonsets = vec![DaemonSet { name, requests, node_selector, affinity, tolerations: everywhere }].into();
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(5);
    assert!(refusals(&toy)[0].contains_key(&Refusal::Cpu), "3.92 cores less 2.5 do not hold 2: {:?}", refusals(&toy));
    toy.world.daemonsets[0].node_selector = BTreeMap::from([("role".to_owned(), "ingress".to_owned())]);
    toy.run(120);
    assert_eq!(toy.running().len(), 1, "it does not run on our nodes");
}

/// Anybody who may make a DaemonSet in some namespace: it asks for more than any machine has, and no taint lets it onto one.
#[test]
fn a_daemonset_that_tolerates_nothing_stops_nobodys_purchases() {
    let mut toy = Toy::new();
    let requests = Resources { cpu: Millicores(60_000), gpus: 8, ..Resources::default() };
    let (name, node_selector, affinity) = ("team-x/greedy".into(), BTreeMap::new(), Vec::new());
    toy.world.daemonsets = vec![DaemonSet { name, requests, node_selector, affinity, tolerations: Vec::new() }].into();
    let pod = toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(150);
    assert_eq!((toy.running().len(), toy.world.pods[&pod].phase), (1, PodPhase::Running), "{:?}", toy.events);
}

fn reserve(toy: &mut Toy, available: i64, ends_at: Option<Timestamp>) {
    let class = toy.world.classes.values_mut().find(|c| c.region.as_str() == SPOT_B.0).unwrap();
    class.reservations = vec![NamedReservation { id: "cr-1".into(), price_per_hour: MicroUsdPerHour(0) }];
    let seen = CapacityReservation {
        id: "cr-1".into(),
        instance_type: "g6.xlarge".into(),
        zone: SPOT_B.1.into(),
        available,
        active: true,
        ends_at,
    };
    toy.world.reservations = BTreeMap::from([(SPOT_B.0.into(), SeenReservations { at: toy.now, seen: vec![seen] })]).into();
}

#[test]
fn a_reservation_is_used_before_anything_more_expensive_and_only_as_far_as_it_goes() {
    let mut toy = Toy::new();
    reserve(&mut toy, 1, None);
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(5);
    assert_eq!(toy.running(), vec![capacity(SPOT_A.0, SPOT_A.1, CapacityType::Spot)], "the pool does not allow reserved capacity");

    let mut toy = Toy::new();
    pool_mut(&mut toy).capacity_types.insert(CapacityType::Reserved);
    reserve(&mut toy, 1, None);
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.add_pod(job(), WorkloadKind::Batch);
    toy.run(100);
    let mut running = toy.running();
    running.sort();
    assert_eq!(running, [capacity(SPOT_A.0, SPOT_A.1, CapacityType::Spot), capacity(SPOT_B.0, SPOT_B.1, CapacityType::Reserved)]);
    let reserved: Vec<_> = toy.world.claims.values().filter(|c| c.spec.reservation == Some("cr-1".into())).collect();
    assert!(reserved.len() == 1 && reserved[0].spec.price_per_hour == MicroUsdPerHour(0));
}

#[test]
fn work_leaves_a_reservation_before_it_ends() {
    let mut toy = Toy::new();
    pool_mut(&mut toy).capacity_types.insert(CapacityType::Reserved);
    let end = toy.now + Millis::from_mins(80);
    reserve(&mut toy, 1, Some(end));
    let old = toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(60 * 60);
    assert_eq!(toy.running(), vec![capacity(SPOT_B.0, SPOT_B.1, CapacityType::Reserved)]);
    toy.run(15 * 60);
    assert!(toy.now < end && !toy.world.pods.contains_key(&old));
    assert_eq!(toy.running(), vec![capacity(SPOT_A.0, SPOT_A.1, CapacityType::Spot)]);
    assert!(toy.decisions().iter().any(|d| d.trigger == Trigger::ReservationEnding && d.outcome == Outcome::Migrate));
    assert!(toy.removals.iter().all(|(_, reason)| *reason == crate::core::action::RemovalReason::Replaced));
}

#[test]
fn a_region_that_is_closed_to_the_account_is_reported_in_its_classes_status_and_prepared_again_when_it_opens() {
    let mut toy = Toy::new();
    let sentence = "You are not subscribed to this service.".to_owned();
    toy.world.closed_regions = BTreeMap::from([(SPOT_A.0.into(), sentence)]).into();
    toy.run(3);
    let class = toy.world.classes.values().find(|c| c.region.as_str() == SPOT_A.0).unwrap().clone();
    let problem = class.problem.clone().unwrap();
    assert_eq!(problem.reason, "RegionClosed");
    assert!(problem.text.contains("not subscribed") && problem.text.contains("enable the region"), "{problem}");
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(100);
    assert_eq!(toy.running(), vec![capacity(SPOT_B.0, SPOT_B.1, CapacityType::Spot)], "the other region goes on");
    toy.world.closed_regions.clear();
    toy.run(3);
    assert!(toy.prepared.contains(&class.name), "its template is looked at again");
}

#[test]
fn a_pool_keeps_each_workload_from_standing_in_one_place_whatever_its_owner_asked() {
    let mut toy = Toy::new();
    pool_mut(&mut toy).max_share_per_mille = Some(500);
    for _ in 0..4 {
        toy.add_pod(deployment(), WorkloadKind::Inference);
    }
    toy.run(120);
    let mut zones: BTreeMap<String, usize> = BTreeMap::new();
    for claim in toy.world.claims.values() {
        let instances = claim.spec.bought_for.len();
        *zones.entry(claim.spec.capacity.zone.to_string()).or_default() += instances;
    }
    assert_eq!(zones, BTreeMap::from([(SPOT_A.1.to_owned(), 2), (SPOT_B.1.to_owned(), 2)]), "the more expensive zone has half of them");
    // One more may stand beside them, but not three of five in the cheaper zone.
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(60);
    let cheap = toy
        .world
        .claims
        .values()
        .filter(|c| c.spec.capacity.zone.as_str() == SPOT_A.1 && c.spec.capacity.capacity_type == CapacityType::Spot);
    assert_eq!(cheap.count(), 2);
}

/// As written by somebody with lowtide's token: EC2 is asked for nothing that the class and the pool do not say.
#[test]
fn a_claim_that_its_class_or_its_pool_would_not_make_is_not_launched() {
    type Forge<'a> = &'a dyn Fn(&mut ClaimSpec);
    let forgeries: [(&str, Forge); 8] = [
        ("an image", &|spec| spec.frozen.image = Some("ami-0bad".into())),
        ("a subnet", &|spec| spec.frozen.subnet = "subnet-0bad".into()),
        ("a launch template", &|spec| spec.frozen.launch_template = "lowtide-0bad".into()),
        ("a reservation", &|spec| spec.reservation = Some("cr-0bad".into())),
        ("a class", &|spec| spec.node_class = "class-us-west-2".into()),
        ("on-demand", &|spec| spec.capacity.capacity_type = CapacityType::OnDemand),
        ("a machine too many", &|_| ()),
        ("a price", &|_| ()),
    ];
    // Also if the claim says that EC2 was asked already: whoever can write a claim can write that.
    for ((what, forge), asked) in forgeries.iter().flat_map(|forgery| [(forgery, false), (forgery, true)]) {
        let mut toy = Toy::new();
        let pod = toy.add_pod(deployment(), WorkloadKind::Inference);
        toy.run(150);
        pool_mut(&mut toy).capacity_types = [CapacityType::Spot].into();
        pool_mut(&mut toy).max_nodes = Some(if *what == "a machine too many" { 1 } else { 9 });
        pool_mut(&mut toy).max_price_per_gpu_hour = (*what == "a price").then_some(MicroUsdPerHour(1));
        let of = toy.world.pods[&pod].claim.clone().unwrap();
        let mut forged = toy.world.claims[&of].clone();
        (forged.name, forged.uid, forged.created_at) = ("lt-forged".into(), "forged".into(), toy.now);
        forged.status = Default::default();
        forged.status.launch_asked_at = asked.then_some(toy.now);
        forged.spec.takes_over = Some(of.clone());
        forge(&mut forged.spec);
        toy.world.claims.insert(forged.name.clone(), forged);
        toy.run(90);
        assert_eq!((toy.all_instances().len(), toy.world.claims.contains_key(&"lt-forged".into())), (1, false), "{what}, asked: {asked}");
        assert!(
            toy.events.iter().any(|(reason, note)| *reason == "ClaimRefused" && note.starts_with("lt-forged is not launched: ")),
            "{what}: {:?}",
            toy.events
        );
    }
}
