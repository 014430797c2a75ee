//! How often a pod is refused, and how much of that the books take.

use super::harm::said;
use super::toy::*;
use crate::core::record::Outcome;
use crate::core::units::ids::ObjectRef;
use crate::core::units::time::Millis;
use crate::core::workload::Workload;
use crate::core::workload::need::WorkloadKind;

/// A pod that no machine can hold, in `namespace`.
fn impossible(toy: &mut Toy, namespace: &str) {
    let uid = toy.add_pod(deployment(), WorkloadKind::Inference);
    let pod = toy.world.pods.get_mut(&uid).unwrap();
    pod.identity.object.namespace = namespace.to_owned();
    pod.workload =
        Workload { object: ObjectRef { namespace: namespace.to_owned(), name: uid.to_string() }, ..(*pod.workload).clone() }.into();
    if let Ok((need, _)) = &mut pod.need {
        need.gpu_memory.0 = 1_000_000;
    }
}

/// Thousands of pods that nothing can hold, or one loop that makes and deletes them, would fill the books.
#[test]
fn one_namespace_cannot_fill_the_books_with_refusals() {
    let mut toy = Toy::new();
    toy.world.pools.values_mut().for_each(|pool| pool.namespaces = ["flood", "quiet"].map(str::to_owned).into());
    (0..150).for_each(|_| impossible(&mut toy, "flood"));
    impossible(&mut toy, "quiet");
    toy.run(30);
    let refused = |toy: &Toy, namespace: &str| {
        let all = toy.decisions().into_iter().filter(|d| d.outcome == Outcome::Refuse);
        all.filter(|d| d.workload.as_ref().is_some_and(|w| w.object.namespace == namespace)).count()
    };
    assert_eq!([refused(&toy, "flood"), refused(&toy, "quiet")], [120, 1]);
    assert_eq!([said(&toy, "Unplaceable"), said(&toy, "TooManyRefusals")], [151, 1], "each pod says why it waits");
    toy.world.pods.retain(|_, pod| pod.identity.object.namespace != "flood");
    (0..150).for_each(|_| impossible(&mut toy, "flood"));
    toy.run(30);
    assert_eq!(refused(&toy, "flood"), 120, "made again they are the same flood");
    toy.now = toy.now + Millis::from_hours(1);
    toy.run(30);
    assert_eq!([refused(&toy, "flood"), refused(&toy, "quiet")], [240, 2], "an hour later they are said again");
}

#[test]
fn prices_that_move_make_no_new_refusals() {
    let mut toy = Toy::new();
    let uid = toy.add_pod(deployment(), WorkloadKind::Inference);
    if let Ok((need, _)) = &mut toy.world.pods.get_mut(&uid).unwrap().need {
        need.gpu_memory.0 = 1_000_000;
    }
    for step in 0..20_i64 {
        for (at, offer) in (0..).zip(toy.world.market.offers.values_mut()) {
            offer.price_per_hour.0 = 100_000 + (step * 7 + at * 11) % 50 * 1_000;
        }
        toy.run(30);
    }
    assert_eq!((said(&toy, "Unplaceable"), toy.decisions().len()), (1, 1), "{:?}", toy.events);
}

/// The API server's clock is a moment ahead of ours.
#[test]
fn a_pod_that_was_made_a_moment_ahead_of_our_clock_is_refused_once() {
    let mut toy = Toy::new();
    impossible(&mut toy, "default");
    let ahead = toy.now + Millis(1_400);
    toy.world.pods.values_mut().for_each(|pod| pod.created_at = ahead);
    toy.run(30);
    assert_eq!((said(&toy, "Unplaceable"), toy.decisions().len()), (1, 1), "{:?}", toy.events);
}
