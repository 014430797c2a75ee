//! What a thing is known by: facts. Rewording a sentence changes no identity, and no decision reads a sentence.

use super::toy::*;
use crate::core::action::{Action, ClusterAction, Event, EventKind, EventSubject};
use crate::core::fleet::{ClassProblem, Trigger};
use crate::core::market::{CapacityType, PriceSource};
use crate::core::plan::{Notes, Pass, plan};
use crate::core::record::{LedgerRecord, Outcome};
use crate::core::units::time::Millis;
use crate::core::workload::need::{CapacityPreference, WorkloadKind};

#[test]
fn a_decision_about_a_machine_is_the_same_however_it_is_worded() {
    let mut toy = Toy::new();
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(120);
    let reserved = Default::default();
    let pass = Pass::new(&toy.settings, &toy.world, &reserved, toy.now, &mut Notes::default());
    let claim = toy.world.claims.values().next().unwrap();
    let decided = |trigger, outcome, key: &str, text: &str| pass.machine_decision(claim, trigger, outcome, key, text.to_owned()).id;
    let first = decided(Trigger::Empty, Outcome::Terminate, "empty", "it has had no work for a minute");
    assert_eq!(decided(Trigger::Empty, Outcome::Terminate, "empty", "idle for 60 s"), first);
    for other in [
        decided(Trigger::Expired, Outcome::Terminate, "empty", "idle for 60 s"),
        decided(Trigger::Empty, Outcome::Migrate, "empty", "idle for 60 s"),
        decided(Trigger::Empty, Outcome::Terminate, "outlived", "idle for 60 s"),
    ] {
        assert_ne!(other, first);
    }
    // Derived from the words of the ledger: written down, so that a change of how an id is made shows.
    assert_eq!(first.to_string(), FIRST_ID);
}

/// `decision`, cluster, `empty/terminate`, the claim's uid and key, and the moment.
const FIRST_ID: &str = "0e303d07-211c-50eb-8ab7-ecf38641a3a8";

#[test]
fn an_event_is_the_same_news_however_it_is_worded() {
    let event = |subject: EventSubject, reason, key: &str, note: &str| Event::new(subject, (EventKind::Normal, reason), key, note).id();
    let capacity = || EventSubject::Pool("gpu".into());
    let first = event(capacity(), "Placed", "d-1", "placed on g6.xlarge");
    assert_eq!(event(capacity(), "Placed", "d-1", "it runs on g6.xlarge now"), first);
    for other in [
        event(EventSubject::Class("gpu".into()), "Placed", "d-1", ""),
        event(capacity(), "Unplaceable", "d-1", ""),
        event(capacity(), "Placed", "d-2", ""),
    ] {
        assert_ne!(other, first);
    }
}

#[test]
fn a_policys_hash_goes_by_its_fields_alone() {
    let first = pool(vec!["us".into()]);
    let written = serde_json::to_value(&first).unwrap();
    assert_eq!(written["capacity_types"], serde_json::json!(["spot", "on-demand"]), "words of the wire, not of a program");
    let mut other = first.clone();
    other.fallback_on_demand = false;
    assert_eq!(first.policy_hash(), pool(vec!["us".into()]).policy_hash());
    assert_ne!(first.policy_hash(), other.policy_hash());
}

#[test]
fn a_closed_region_is_known_by_its_reason_and_not_by_a_sentence() {
    let reported = |problem: ClassProblem| {
        let mut toy = Toy::new();
        toy.world.closed_regions = [(SPOT_A.0.into(), "You are not subscribed to this service.".to_owned())]
            .into_iter()
            .collect::<std::collections::BTreeMap<_, _>>()
            .into();
        let class = toy.world.classes.values_mut().find(|class| class.region.as_str() == SPOT_A.0).unwrap();
        class.problem = Some(problem);
        let steps = plan(&toy.settings, &toy.world, toy.now).steps;
        steps.iter().flat_map(|step| &step.actions).any(|a| matches!(a, Action::Cluster(ClusterAction::SetClassStatus { .. })))
    };
    let problem = |reason: &str, text: &str| ClassProblem { reason: reason.into(), text: text.into() };
    assert!(!reported(problem("RegionClosed", "worded otherwise by another version")));
    assert!(reported(problem("UnknownSubnet", "RegionClosed: only a sentence says so")));
}

#[test]
fn room_is_recorded_with_where_the_price_of_its_machine_came_from() {
    let mut toy = Toy::new();
    (toy.cpu, toy.memory) = (crate::core::units::Millicores(900), crate::core::units::Mebibytes(2_048));
    toy.gpu_memory = crate::core::units::Mebibytes(4_096);
    for class in toy.world.classes.values_mut() {
        class.sharing.sharing = crate::core::workload::sharing::Sharing::TimeSlicing { replicas: 4 };
    }
    for offer in toy.world.market.offers.values_mut() {
        offer.source = PriceSource::usual_of(offer.capacity.capacity_type);
    }
    let on_demand = |toy: &mut Toy| {
        let pod = toy.add_pod(deployment(), WorkloadKind::Inference);
        toy.world.pods.get_mut(&pod).unwrap().need.as_mut().unwrap().0.capacity = CapacityPreference::OnDemand;
    };
    on_demand(&mut toy);
    toy.run(120);
    let bought_at = toy.world.claims.values().next().unwrap().spec.price_origin.unwrap();
    on_demand(&mut toy);
    toy.run(5);
    let into_room = toy.decisions().into_iter().find(|d| d.outcome == Outcome::UseRoom).unwrap();
    let chosen = into_room.judgement.chosen.as_ref().unwrap();
    assert_eq!((chosen.capacity.capacity_type, chosen.source), (CapacityType::OnDemand, PriceSource::PriceList));
    assert_eq!(chosen.price_age, into_room.decided_at.since(bought_at.observed_at));
    assert!(chosen.price_age > Millis::from_secs(100), "{}", chosen.price_age);
    assert!(toy.ledger.iter().any(|r| matches!(r, LedgerRecord::Decision(d) if d.outcome == Outcome::UseRoom)));
}
