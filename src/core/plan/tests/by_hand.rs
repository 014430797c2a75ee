//! What people do to machines in EC2 itself: copies of ours that they launch, and ours that they stop.

use super::harm::said;
use super::working;
use crate::core::fleet::{Instance, InstanceState, Trigger, tags};
use crate::core::plan::plan;
use crate::core::snapshot::Observed;
use crate::core::units::time::Millis;

/// Whoever stops a machine may want what is on its volumes.
#[test]
fn the_work_of_a_machine_that_a_person_stops_is_placed_again_and_the_machine_left_as_it_is() {
    let mut toy = working(1);
    let machine = toy.all_instances().remove(0);
    let Some(Observed::Known { value, .. }) = toy.world.instances.get_mut(&machine.capacity.region) else { unreachable!() };
    value.get_mut(&machine.id).unwrap().state = InstanceState::Stopped;
    toy.run(200);
    assert_eq!(toy.all_instances().into_iter().find(|i| i.id == machine.id).map(|i| i.state), Some(InstanceState::Stopped));
    let told: Vec<_> = toy.decisions().into_iter().filter(|d| d.trigger == Trigger::InstanceLost).map(|d| d.text.clone()).collect();
    assert!(told.len() == 1 && told[0].contains("was stopped"), "{told:?}");
    assert!(
        said(&toy, "MachineStopped") == 1 && toy.world.claims.values().all(|claim| claim.status.instance.as_ref() != Some(&machine.id))
    );
}

/// "Launch more like this" copies every tag but EC2's own: a person's machine, with our tags.
#[test]
fn a_machine_that_somebody_launched_as_a_copy_of_ours_is_reported_and_never_ended() {
    let mut toy = working(3);
    let (region, original) = {
        let machine = toy.all_instances().remove(0);
        (machine.capacity.region.clone(), machine)
    };
    let mut copy = Instance { id: "i-copy".into(), ..original.clone() };
    copy.tags = copy.tags.with(tags::FLEET, None);
    let Some(Observed::Known { value, .. }) = toy.world.instances.get_mut(&region) else { unreachable!() };
    value.insert(copy.id.clone(), copy.clone());
    toy.run(900);
    assert!(toy.all_instances().iter().any(|i| i.id == copy.id && i.is_alive()));
    assert_eq!(said(&toy, "CopiedMachine"), 1, "while the original runs: {:?}", toy.events);
    toy.end_instance(&original.id, "Server.SpotInstanceTermination");
    toy.run(2_000);
    assert!(toy.world.claims.values().all(|claim| claim.status.instance.as_ref() != Some(&original.id)), "its claim is gone");
    assert!(toy.all_instances().iter().any(|i| i.id == copy.id && i.is_alive()), "{:?}", toy.events);
    assert_eq!(toy.decisions().iter().filter(|d| d.trigger == Trigger::Unclaimed).count(), 0);
}

/// A fleet that somebody made with our tags, or a launch that came twice: it costs, so it is ended once nothing claims what it carries.
#[test]
fn a_second_machine_of_a_claim_is_reported_while_the_first_runs() {
    let mut toy = working(1);
    let original = toy.all_instances().remove(0);
    let twin = Instance { id: "i-twin".into(), ..original.clone() };
    let Some(Observed::Known { value, .. }) = toy.world.instances.get_mut(&original.capacity.region) else { unreachable!() };
    value.insert(twin.id.clone(), twin.clone());
    (0..2).for_each(|_| {
        toy.now = toy.now + Millis::from_mins(15);
        toy.live();
        toy.look();
        let decided = plan(&toy.settings, &toy.world, toy.now);
        toy.take(decided);
    });
    assert_eq!(said(&toy, "CopiedMachine"), 1, "{:?}", toy.events);
    assert_eq!(toy.all_instances().iter().filter(|i| i.is_alive()).count(), 2, "none is ended while the claim stands");
}
