//! Which steps go first: those that save work.

use super::toy::*;
use crate::core::action::{Action, ClusterAction, Step};
use crate::core::fleet::NoticeKind;
use crate::core::plan::plan;
use crate::core::units::time::Millis;
use crate::core::workload::need::WorkloadKind;

fn what(step: &Step) -> Vec<&'static str> {
    let name = |action: &Action| match action {
        Action::Launch { .. } => "launch",
        Action::Cluster(ClusterAction::Bind { .. }) => "bind",
        Action::Cluster(ClusterAction::Lift { .. }) => "lift",
        Action::Cluster(ClusterAction::Evict { .. }) => "evict",
        Action::Cluster(ClusterAction::CreateClaim { .. }) => "create claim",
        _ => "",
    };
    step.actions.iter().map(name).filter(|name| !name.is_empty()).collect()
}

/// A service of one on a machine that is announced to end, while another pod waits to be bought for: of all that is done until the service runs elsewhere, what is
/// the service's goes first, and what is the other's does not.
#[test]
fn what_saves_work_goes_first_from_the_decision_to_the_last_eviction() {
    let mut toy = Toy::new();
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(200);
    let instance = toy.all_instances()[0].id.clone();
    toy.notify(&instance, NoticeKind::Interruption);
    toy.add_pod(job(), WorkloadKind::Batch);
    let (mut first, mut later) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        toy.now = toy.now + Millis::from_secs(1);
        toy.live();
        toy.look();
        let decided = plan(&toy.settings, &toy.world, toy.now);
        for step in &decided.steps {
            if step.rescue { first.extend(what(step)) } else { later.extend(what(step)) }
        }
        toy.take(decided);
    }
    assert_eq!(first, ["create claim", "bind", "launch", "lift", "evict"], "of the service");
    assert_eq!(later, ["create claim", "bind", "launch", "lift"], "of the job");
}
