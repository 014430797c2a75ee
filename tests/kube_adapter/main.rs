//! The Kubernetes adapter against a real API server, controller manager and scheduler, with the rights of the chart's ServiceAccount
//! and behind the chart's admission policies. Nodes and kubelets are kwok's.
#![cfg(all(feature = "live", feature = "lab"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod fixture;
mod nodes;
mod objects;
mod operating;
mod pods;
mod rehearsing;
#[path = "../released/mod.rs"]
mod released;
#[path = "../rights/mod.rs"]
mod rights;

use fixture::Fixture;

/// One control plane for all: it takes seconds to start. Each scenario has a namespace of its own; all faults are reported.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_action_does_what_it_says() {
    tokio::task::LocalSet::new().run_until(all_scenarios()).await;
}

async fn all_scenarios() {
    let fixture = Fixture::start().await;
    let mut running = tokio::task::JoinSet::new();
    let mut names = std::collections::BTreeMap::new();
    macro_rules! scenarios {
        ($($path:path),* $(,)?) => {
            $({
                let fixture = fixture.clone();
                let handle = running.spawn_local(async move { $path(&fixture).await });
                names.insert(handle.id().to_string(), stringify!($path));
            })*
        };
    }
    scenarios!(
        pods::a_gated_pod_is_bound_lifted_and_scheduled_and_a_stale_patch_is_refused,
        pods::a_deployments_pod_surges_and_is_collected_with_it,
        pods::a_jobs_pod_is_let_go_without_a_failure_and_given_back,
        pods::a_budget_holds_an_eviction_and_a_deletion_needs_the_right_uid,
        pods::pods_that_cannot_surge_say_why,
        rehearsing::a_quota_that_is_full_or_was_lowered_is_seen_before_the_pod_is_touched,
        rehearsing::an_admission_policy_and_a_missing_account_are_seen_before_the_pod_is_touched,
        objects::a_claim_is_written_once_followed_and_removed,
        objects::a_node_is_marked_without_losing_taints_and_deleted,
        objects::statuses_are_read_back_and_a_pool_stays_until_its_last_claim,
        nodes::a_node_that_names_anothers_machine_is_not_it,
        nodes::pods_do_not_come_onto_a_bought_machine_by_themselves,
        operating::owners_are_seen_to_be_kept_out_or_not,
        operating::what_still_runs_is_listed_with_what_it_costs,
        operating::an_event_is_reported_once,
        operating::the_outbox_gives_back_what_was_recorded_oldest_first,
        operating::the_market_memory_outlives_the_operator_in_the_one_object_it_may_change,
        operating::daemonsets_are_seen_with_what_they_request,
        operating::leadership_passes_on_when_it_is_released_or_has_run_out,
    );
    let mut faults = Vec::new();
    while let Some(ended) = running.join_next_with_id().await {
        match ended {
            Ok((id, ())) => println!("ok      {}", names[&id.to_string()]),
            Err(fault) => faults.push(names[&fault.id().to_string()]),
        }
    }
    assert!(faults.is_empty(), "failed (see above): {faults:#?}");
    // While a claim cannot be read nothing on the control plane may be swept: alone, one after the other.
    objects::a_claim_that_cannot_be_read_keeps_every_machine_until_it_can(&fixture).await;
    objects::one_broken_object_does_not_hide_the_others(&fixture).await;
    objects::what_0_1_0_left_in_the_cluster_is_kept_by_its_definitions_and_read(&fixture).await;
    // Touches every gated pod of the cluster, so it comes last.
    operating::every_gate_of_ours_is_lifted_and_no_other(&fixture).await;
    for (account, least) in [("lowtide", 30), (fixture::HOOK, 3)] {
        rights::assert_every_right_was_used(&fixture.plane, fixture.workdir.path(), account, least);
    }
}
