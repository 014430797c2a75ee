//! Moves in flight: each phase as it is measured, against the deadline and against what such moves take as a rule.
//!
//! Decides: nothing. Phases are read by [`crate::kube::shown::moves`]; what is usual is what the ledger has of the last 30 days.

use axum::extract::State;
use axum::response::IntoResponse;
use k8s_openapi::api::core::v1::Pod;
use maud::{Markup, html};

use super::super::identity::Visitor;
use super::super::shapes::{number, span};
use super::super::{Console, Held, charts, frame, statements};
use crate::core::units::time::{Millis, Timestamp};
use crate::kube::api::GpuNodeClaim;
use crate::kube::shown::moves::{Leaving, Move, leaving};
use crate::ledger::report::Report;

/// The page.
pub(in super::super) async fn page(State(console): Held, visitor: Visitor) -> impl IntoResponse {
    let content = content(&console, &visitor).await;
    frame::page(&console, &visitor, frame::Page { title: "Moves in flight", at: "/moves", live: Some(3) }, content)
}

async fn content(console: &Console, visitor: &Visitor) -> Markup {
    let ((claims, _), pods) = (console.watched.claims(), console.watched.pods());
    let claims: Vec<&GpuNodeClaim> = claims.iter().filter_map(|claim| claim.get()).collect();
    let pods: Vec<&Pod> = pods.iter().filter_map(|pod| pod.get()).collect();
    let found = seen_by(leaving(&claims, &pods), visitor);
    let usual = console.books.rows("usual-moves", statements::USUAL_MOVES.text(&visitor.rights), Vec::new()).await;
    let empty = Report { sentence: String::new(), columns: Vec::new(), rows: Vec::new() };
    let report = usual.as_ref().map_or(&empty, |usual| &*usual.value);
    let now = console.now();
    html! {
        @if found.is_empty() { p class="note" { "Nothing is being moved." } }
        @for machine in &found { (drawn(machine, report, now)) }
        @match &usual {
            Ok(usual) => (frame::figure("What moves of the last 30 days took from the decision on", &statements::USUAL_MOVES.href(&[]), usually(&usual.value))),
            Err(fault) => (frame::without(fault)),
        }
    }
}

/// Without the work of others; a machine of which nothing is left is shown to those who may see machines.
fn seen_by(found: Vec<Leaving>, visitor: &Visitor) -> Vec<Leaving> {
    let own = |moved: &Move| moved.pod.split_once('/').is_some_and(|(namespace, _)| visitor.rights.scope.holds(namespace));
    let narrowed = found.into_iter().map(|machine| Leaving { moves: machine.moves.into_iter().filter(&own).collect(), ..machine });
    narrowed.filter(|machine| visitor.rights.machines || !machine.moves.is_empty()).collect()
}

/// Phases of a move as the statement names their medians.
const USUAL: [(&str, &str); 3] = [("machine launched", "launched"), ("node Ready", "node"), ("replacement Ready", "pod")];

fn usual_of(report: &Report, phase: &str, percentile: &str) -> Option<f64> {
    let (_, column) = USUAL.iter().find(|(name, _)| *name == phase)?;
    number(report, report.rows.first()?, &format!("{column}_{percentile}"))
}

fn drawn(machine: &Leaving, usual: &Report, now: Timestamp) -> Markup {
    let left = machine.deadline.map(|deadline| match deadline.since(now) {
        left if left.0 > 0 => format!("{} are left", span(left)),
        over => format!("EC2's time was over {} ago", span(Millis(-over.0))),
    });
    html! {
        section {
            h2 { (machine.claim) }
            p { (machine.offer) " is being left because of " (machine.because) ", decided " (span(now.since(machine.decided_at))) " ago. " (left.unwrap_or_default()) }
            @if machine.moves.is_empty() { p class="note" { "No work is on it any more." } }
            @for moved in &machine.moves {
                (frame::figure(&format!("{} on its way", moved.pod), &statements::USUAL_MOVES.href(&[]), one(moved, machine, usual, now)))
            }
        }
    }
}

fn one(moved: &Move, machine: &Leaving, usual: &Report, now: Timestamp) -> Markup {
    let since = |at: Timestamp| at.since(machine.decided_at).0 as f64;
    let steps: Vec<charts::Step> = moved
        .phases
        .iter()
        .map(|phase| charts::Step {
            name: phase.name,
            reached: phase.after.map(|after| after.0 as f64),
            usual: usual_of(usual, phase.name, "p50"),
        })
        .collect();
    let says: Vec<String> = moved
        .phases
        .iter()
        .map(|phase| format!("{} {}", phase.name, phase.after.map_or_else(|| "awaited".to_owned(), |after| format!("after {after}"))))
        .collect();
    let to = moved.to.as_deref().unwrap_or("no place yet");
    html! {
        p { (moved.replacement.as_deref().unwrap_or("No replacement yet")) ", " (to) }
        (charts::race(&moved.pod, &says.join(", "), &steps, since(now), machine.deadline.map(since)))
        ul class="phases" { @for text in &says { li { (text) } } }
    }
}

fn usually(report: &Report) -> Markup {
    let row = report.rows.first();
    let moves = row.and_then(|row| number(report, row, "moves")).unwrap_or(0.0);
    let cell = |phase, percentile| usual_of(report, phase, percentile).map_or_else(|| "-".to_owned(), |ms| Millis(ms as i64).to_string());
    html! {
        @if moves == 0.0 { p class="note" { "No move of the last 30 days is on record: there is nothing to expect." } } @else {
            p { (moves) " moves. In the charts above, a hollow bar or a mark is the median." }
            (frame::grid("Usual moves", &["Phase", "Median", "95 of 100"], html! {
                @for (phase, _) in USUAL { tr { th scope="row" { (phase) } td class="number" { (cell(phase, "p50")) } td class="number" { (cell(phase, "p95")) } } }
            }))
        }
    }
}
