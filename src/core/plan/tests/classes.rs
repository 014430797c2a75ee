//! What a node class says of its nodes reaches what is bought: images, kubelet settings, start-up taints.

use super::toy::*;
use crate::core::action::Action;
use crate::core::fleet::image::LOOKED_UP_EVERY;
use crate::core::fleet::{FoundImage, ImageBy, ImageSource, NodeClass};
use crate::core::market::catalog::Architecture;
use crate::core::plan::plan;
use crate::core::units::Millicores;
use crate::core::units::time::Millis;
use crate::core::workload::PodPhase;
use crate::core::workload::need::WorkloadKind;

fn each_class(toy: &mut Toy, mut change: impl FnMut(&mut NodeClass)) {
    toy.world.classes.values_mut().for_each(&mut change);
}

/// An image of this architecture, found now.
fn with_image(toy: &mut Toy, architecture: Architecture) {
    let now = toy.now;
    each_class(toy, |class| {
        let source = ImageSource { architecture, by: ImageBy::Parameter("/image".into()) };
        let found = FoundImage { id: "ami-7".into(), name: "seven".into(), source: source.to_string() };
        class.images.found = [(architecture, found)].into();
        (class.images.sources, class.images.looked_up_at) = (vec![source], Some(now));
    });
}

#[test]
fn a_claim_keeps_the_image_of_its_architecture() {
    let mut toy = Toy::new();
    with_image(&mut toy, Architecture::Amd64);
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(5);
    let images: Vec<Option<&str>> = toy.world.claims.values().map(|claim| claim.spec.frozen.image.as_deref()).collect();
    assert_eq!(images, [Some("ami-7")]);
}

#[test]
fn a_type_without_an_image_is_not_bought() {
    let mut toy = Toy::new();
    with_image(&mut toy, Architecture::Arm64);
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(30);
    assert!(toy.world.claims.is_empty(), "a g6.xlarge cannot boot an image of arm64");
    assert!(toy.events.iter().any(|(_, note)| note.contains("4 other architecture")), "{:?}", toy.events);
}

#[test]
fn images_are_looked_up_when_the_class_changes_and_every_hour() {
    let mut toy = Toy::new();
    with_image(&mut toy, Architecture::Amd64);
    let looked_up = |toy: &Toy| {
        let steps = plan(&toy.settings, &toy.world, toy.now).steps;
        let asks = |action: &&Action| matches!(action, Action::PrepareClass { images, .. } if !images.is_empty());
        steps.iter().flat_map(|step| &step.actions).filter(asks).count()
    };
    assert_eq!(looked_up(&toy), 0);
    toy.now = toy.now + LOOKED_UP_EVERY;
    assert_eq!(looked_up(&toy), 2);
    toy.now = toy.now - LOOKED_UP_EVERY;
    each_class(&mut toy, |class| class.images.sources[0].by = ImageBy::Id("ami-8".into()));
    assert_eq!(looked_up(&toy), 2);
}

/// As written by somebody with lowtide's token: what the class's status holds is looked up again where its spec says otherwise.
#[test]
fn a_status_that_its_class_contradicts_is_not_believed() {
    let asks = |toy: &Toy| {
        let steps = plan(&toy.settings, &toy.world, toy.now).steps;
        steps.iter().flat_map(|step| &step.actions).filter(|action| matches!(action, Action::PrepareClass { .. })).count()
    };
    type Forge = fn(&mut NodeClass);
    let forgeries: [(&str, Forge); 3] = [
        ("an image", |class| class.images.found.values_mut().for_each(|image| image.id = "ami-0bad".into())),
        ("a time to come", |class| class.images.looked_up_at = class.images.looked_up_at.map(|at| at + Millis::from_hours(9_000))),
        ("a subnet", |class| class.zones.values_mut().for_each(|subnet| *subnet = "subnet-0bad".into())),
    ];
    for (what, forge) in forgeries {
        let mut toy = Toy::new();
        with_image(&mut toy, Architecture::Amd64);
        each_class(&mut toy, |class| {
            class.images.sources[0].by = ImageBy::Id("ami-7".into());
            class.images.found.values_mut().for_each(|image| image.source = "ami-7".into());
        });
        assert_eq!(asks(&toy), 0);
        each_class(&mut toy, forge);
        assert_eq!(asks(&toy), 2, "{what}");
    }
}

#[test]
fn what_a_kubelet_keeps_is_not_sold_to_pods() {
    let mut toy = Toy::new();
    // The pods ask for 2,000 of 4,000 millicores.
    each_class(&mut toy, |class| class.reserve.system_cpu = Millicores(2_000));
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(30);
    assert!(toy.world.claims.is_empty() && toy.events.iter().any(|(_, note)| note.contains("4 too little CPU")), "{:?}", toy.events);
}

#[test]
fn a_node_has_joined_once_its_startup_taint_is_off() {
    let mut toy = Toy::new();
    each_class(&mut toy, |class| class.startup_taints = vec!["driver.example/not-ready".into()]);
    let pod = toy.add_pod(deployment(), WorkloadKind::Inference);
    for _ in 0..60 {
        toy.now = toy.now + Millis::from_secs(1);
        toy.live();
        toy.world.nodes.values_mut().for_each(|node| node.state.foreign_taints = vec!["driver.example/not-ready".into()]);
        let decided = plan(&toy.settings, &toy.world, toy.now);
        toy.take(decided);
    }
    assert!(!toy.world.nodes.is_empty(), "the machine runs and its kubelet has registered");
    assert!(toy.world.claims.values().all(|claim| claim.status.node_ready_at.is_none()), "{:?}", toy.events);
    assert_eq!(toy.world.pods[&pod].phase, PodPhase::Gated);
    toy.world.nodes.values_mut().for_each(|node| node.state.foreign_taints.clear());
    toy.run(Millis::from_mins(1).0 / 1_000);
    assert_eq!(toy.world.pods[&pod].phase, PodPhase::Running);
}
