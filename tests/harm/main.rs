//! Accidents and attacks on the running operator: real API server, scheduler, Helm and Postgres, the unmodified AWS SDK against the EC2
//! simulator. Each was once done with success on a running lowtide (docs/security.md names them); here each fails, with work running.
#![cfg(all(feature = "lab", feature = "live"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod attacks;
mod checked;
mod plugin;
#[path = "../released/mod.rs"]
mod released;
mod secrets;
mod stage;
mod versions;

use stage::Stage;

/// One lab for all, in the order of a story: starting one takes half a minute.
#[tokio::test(flavor = "multi_thread")]
async fn no_accident_and_no_attack_ends_a_machine_with_work() {
    let mut stage = Stage::set_up().await;
    checked::a_check_says_what_is_wrong_and_what_to_do(&mut stage).await;
    attacks::a_stolen_token_changes_nothing_that_is_not_lowtides(&stage);
    stage.steady(3).await;
    plugin::what_kubectl_lowtide_says_is_what_runs(&stage);
    attacks::a_claim_that_cannot_be_read_keeps_its_machine_and_its_pods(&mut stage).await;
    attacks::a_definition_of_node_pools_that_is_deleted_ends_nothing(&mut stage).await;
    attacks::a_claims_taint_that_is_taken_off_is_put_back(&mut stage).await;
    attacks::a_node_that_names_anothers_machine_is_an_alarm_and_is_not_used(&mut stage).await;
    attacks::a_second_node_under_a_machines_own_address_ends_no_work(&mut stage).await;
    versions::objects_of_0_1_0_and_words_of_tomorrow_end_nothing(&mut stage).await;
    let pods = versions::the_program_of_0_1_0_and_back_end_nothing(&mut stage, 3).await;
    versions::a_ledger_of_another_version_holds_nothing_up(&mut stage, pods).await;
    attacks::an_operator_of_the_same_name_on_an_empty_api_server_ends_nothing(&mut stage).await;
    attacks::without_validation_it_serves_only_if_configured(&mut stage).await;
    attacks::what_runs_when_lowtide_goes_is_listed_with_what_it_costs(&stage);
    secrets::no_password_and_no_token_is_in_anything_that_is_said(&mut stage).await;
}
