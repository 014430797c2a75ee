//! The taint that keeps pods of others off a claim's node.

use super::harm::said;
use super::working;

/// By hand, or by a controller that writes a node's taints as a whole.
#[test]
fn a_taint_that_somebody_takes_off_is_put_back_and_said() {
    let mut toy = working(3);
    assert!(toy.world.nodes.values().all(|node| node.guarded), "every node has it once its machine has joined");
    let (machines, bared) = (toy.running(), toy.world.nodes.keys().next().cloned().unwrap());
    for times in 1..=2 {
        toy.run(60);
        toy.world.nodes.get_mut(&bared).unwrap().guarded = false;
        toy.run(2);
        assert!(toy.world.nodes[&bared].guarded, "{:?}", toy.events);
        assert_eq!((toy.running(), said(&toy, "TaintRestored")), (machines.clone(), times), "{:?}", toy.events);
    }
}

/// The pods of a claim of 0.1.0, which keeps no bindings, do not tolerate the taint: those that wait for the machine would never run there.
#[test]
fn a_machine_of_an_older_version_gets_no_taint_that_its_pods_do_not_tolerate() {
    let mut toy = working(1);
    toy.world.claims.values_mut().for_each(|claim| claim.spec.bindings = None);
    toy.world.nodes.values_mut().for_each(|node| node.guarded = false);
    toy.run(60);
    assert!(toy.world.nodes.values().all(|node| !node.guarded));
    assert_eq!(said(&toy, "TaintRestored"), 0);
}
