//! The console on a real control plane and a real Postgres, with the rights of the chart's ServiceAccount: who sees what, every page, and (asked for by
//! `tests/console/run.sh`) a real browser and the time that pages take with 5,000 machines.
#![cfg(all(feature = "live", feature = "lab"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

mod browser;
mod http;
mod identity;
mod pages;
#[path = "../rights/mod.rs"]
mod rights;
mod speed;
mod stage;

use stage::Stage;

/// One stage for all: it takes seconds to start.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_console_shows_everybody_what_is_theirs() {
    let stage = Stage::start(0).await;
    identity::nobody_is_let_in_without_a_name_that_somebody_vouches_for(&stage).await;
    identity::a_reader_of_one_namespace_sees_its_pods_and_money_and_no_others(&stage).await;
    identity::finance_sees_everything(&stage).await;
    identity::a_trusted_proxy_is_believed_and_nobody_else(&stage).await;
    identity::the_form_leaves_a_cookie_that_no_script_reads(&stage).await;
    pages::every_page_shows_what_is_there_and_every_figure_has_its_statement(&stage).await;
    pages::a_pod_is_explained_with_what_it_beat_and_what_would_change_it(&stage).await;
    pages::a_move_stands_against_its_deadline(&stage).await;
    pages::hostile_names_are_text(&stage).await;
    pages::open_pages_hear_of_changes(&stage).await;
    pages::without_a_ledger_pages_say_so(&stage).await;
    rights::assert_every_right_was_used(&stage.plane, stage.workdir.path(), "lowtide-console", 8);
}
