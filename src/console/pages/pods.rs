//! Pods, and one explained: where it is and why, what that beat, and what would change it.
//!
//! Decides: what of the cluster's and the ledger's answers stands where. A pod that is gone is explained from the ledger alone.

use std::collections::BTreeMap;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use k8s_openapi::api::core::v1::Pod;
use maud::{Markup, html};

use super::super::identity::Visitor;
use super::super::shapes::{ago, cell, number};
use super::super::{Console, Held, frame, statements};
use super::changes::what_would_change;
use super::{Asked, word};
use crate::core::record::Refusal;
use crate::core::units::time::Timestamp;
use crate::kube::names;
use crate::kube::shown::placed::{Explanation, Machine, events_about, explain, state_of};
use crate::kube::shown::{annotation, offer};
use crate::ledger::report::Report;
use crate::ports::percent_encoding::percent_encoded;

/// Pods of the list.
const SHOWN: usize = 200;

/// All pods of lowtide that the visitor may see.
pub(in super::super) async fn list(State(console): Held, visitor: Visitor, Query(asked): Asked) -> impl IntoResponse {
    let wanted = word(&asked, "q");
    let pods = console.watched.pods();
    let mine = |pod: &&Pod| visitor.rights.scope.holds(pod.metadata.namespace.as_deref().unwrap_or_default());
    let fits = |pod: &&Pod| {
        wanted.is_none_or(|wanted| address(pod).is_some_and(|(namespace, name)| format!("{namespace}/{name}").contains(wanted)))
    };
    let found: Vec<&Pod> = pods.iter().filter_map(|pod| pod.get()).filter(mine).filter(fits).collect();
    let content = html! {
        form class="filter" method="get" action="/pods" {
            label { "Namespace/name contains " input name="q" value=(wanted.unwrap_or_default()) size="20"; }
            button type="submit" { "Show" }
        }
        @if found.is_empty() { p class="note" { "There is no pod of lowtide here that you may see." } } @else {
            (frame::figure(&format!("Pods, {} of them", found.len()), &statements::MACHINES.href(&[]), table(&console, &found)))
            @if found.len() > SHOWN { p class="note" { "The first " (SHOWN) " are shown." } }
        }
    };
    frame::page(&console, &visitor, frame::Page { title: "Pods", at: "/pods", live: Some(15) }, content)
}

fn address(pod: &Pod) -> Option<(&str, &str)> {
    pod.metadata.namespace.as_deref().zip(pod.metadata.name.as_deref())
}

fn table(console: &Console, pods: &[&Pod]) -> Markup {
    let machine = |pod: &Pod| annotation(pod, names::CLAIM).and_then(|claim| console.watched.claim(claim));
    frame::grid(
        "Pods",
        &["Pod", "State", "Machine", "$/h of the machine"],
        html! {
            @for (pod, (namespace, name)) in pods.iter().take(SHOWN).filter_map(|pod| Some((pod, address(pod)?))) {
                @let machine = machine(pod);
                @let claim = machine.as_ref().and_then(|claim| claim.get());
                tr {
                    th scope="row" { a href=(format!("/pods/{}/{}", percent_encoded(namespace), percent_encoded(name))) { (namespace) "/" (name) } }
                    td { (state_of(pod, claim)) }
                    td { (claim.map_or_else(|| "-".to_owned(), offer)) }
                    td class="number" { (claim.map_or_else(|| "-".to_owned(), |claim| claim.spec.price_per_hour.to_string())) }
                }
            }
        },
    )
}

/// One pod.
pub(in super::super) async fn explained(
    State(console): Held,
    visitor: Visitor,
    Path((namespace, name)): Path<(String, String)>,
) -> Response {
    // What is not theirs to see is not there, whether it exists or not.
    if !visitor.rights.scope.holds(&namespace) {
        let sentence = format!("There is no pod {namespace}/{name} that you may see.");
        return frame::refused(StatusCode::NOT_FOUND, true, &sentence, Some(&visitor.person.name));
    }
    let now = console.now();
    let standing = standing(&console, &visitor, &namespace, &name).await;
    let values = vec![Some(namespace.clone()), Some(name.clone())];
    let decisions = console.books.rows("decisions", statements::DECISIONS.text(&visitor.rights), values).await;
    let known = standing.is_some() || decisions.as_ref().is_ok_and(|kept| !kept.value.rows.is_empty());
    if !known && decisions.is_ok() {
        let sentence = format!("Neither the cluster nor the ledger knows a pod {namespace}/{name} of lowtide.");
        return frame::refused(StatusCode::NOT_FOUND, true, &sentence, Some(&visitor.person.name));
    }
    let decided = match &decisions {
        Ok(kept) => decided(&console, &visitor, &kept.value, (&namespace, &name), now).await,
        Err(fault) => frame::without(fault),
    };
    let content = html! {
        @match &standing {
            Some((explanation, fault)) => { (where_it_is(explanation, &visitor, now)) @if let Some(fault) = fault { p class="note" { (fault) } } },
            None => p { "It is gone from the cluster; this is what the ledger has of it." },
        }
        (decided)
    };
    let title = format!("Pod {namespace}/{name}");
    frame::page(&console, &visitor, frame::Page { title: &title, at: "/pods", live: Some(10) }, content).into_response()
}

/// What the cluster says of it; and that its events cannot be read, if so.
async fn standing(console: &Console, visitor: &Visitor, namespace: &str, name: &str) -> Option<(Explanation, Option<String>)> {
    let held = console.watched.pod(namespace, name)?;
    let pod = held.get()?;
    let claim = annotation(pod, names::CLAIM).and_then(|claim| console.watched.claim(claim));
    let (events, fault) = match events_about(&console.client, namespace, pod).await {
        Ok(events) => (events, None),
        Err(fault) => {
            tracing::warn!("events of {namespace}/{name} cannot be read: {fault}");
            (Vec::new(), Some("Its events cannot be read now; the console's log says why.".to_owned()))
        }
    };
    let mut explanation = explain(pod, claim.as_ref().and_then(|claim| claim.get()), &events);
    if let Some(machine) = &mut explanation.machine {
        // Whose work stands beside it is theirs to know who may see that work.
        machine.beside.retain(|other| other.split_once('/').is_some_and(|(namespace, _)| visitor.rights.scope.holds(namespace)));
    }
    Some((explanation, fault))
}

fn where_it_is(explanation: &Explanation, visitor: &Visitor, now: Timestamp) -> Markup {
    html! {
        section {
            h2 { "Where it is" }
            dl {
                dt { "State" } dd { (explanation.state) }
                @if let Some(machine) = &explanation.machine { (machine_of(machine, visitor)) }
                @if let Some(old) = &explanation.replaces { dt { "Replaces" } dd { (old) } }
            }
            @if explanation.said.is_empty() { p class="note" { "Kubernetes keeps no event of lowtide about it any more (an hour is the default)." } } @else {
                h3 { "What lowtide said" }
                ul { @for said in &explanation.said { li { b { (said.reason) } ": " (said.text) @if let Some(at) = said.at { " " small { (ago(at, now)) } } } } }
            }
        }
    }
}

fn machine_of(machine: &Machine, visitor: &Visitor) -> Markup {
    let sql = statements::MACHINES.href(&[]);
    html! {
        dt { "Machine" }
        dd {
            @if visitor.rights.machines { a href=(format!("/machines?q={}", percent_encoded(&machine.claim))) { (machine.claim) } } @else { (machine.claim) }
            ", " (machine.offer) ", " (machine.phase) @if let Some(node) = &machine.node { ", node " (node) }
        }
        dt { "Price" }
        dd {
            a class="figure" href=(sql) { "$" (machine.price_per_hour.to_string()) "/h" } " when it was bought"
            @if let Some(on_demand) = machine.on_demand_per_hour { "; on-demand " a class="figure" href=(sql) { "$" (on_demand.to_string()) "/h" } }
        }
        dt { "Bought because of" } dd { (machine.bought_for) }
        @if !machine.beside.is_empty() { dt { "Shared with" } dd { (machine.beside.join(", ")) } }
    }
}

/// The decisions, the newest with what it beat.
async fn decided(console: &Console, visitor: &Visitor, report: &Report, (namespace, name): (&str, &str), now: Timestamp) -> Markup {
    let Some(newest) = report.rows.first() else {
        return html! { p class="note" { "The ledger has no decision of the last 30 days about it yet." } };
    };
    let id = cell(report, newest, "decision").unwrap_or_default();
    let beaten = console.books.rows("beaten", statements::BEATEN.text(&visitor.rights), vec![Some(id.to_owned())]).await;
    let chosen = number(report, newest, "per_replica_usd_h");
    let sql = statements::DECISIONS.href(&[namespace, name]);
    html! {
        section {
            h2 { "Why" }
            (frame::figure("The last decision about it", &sql, the_decision(report, newest, now)))
            @match &beaten {
                Ok(kept) => { h2 { "What it beat, and what would change it" } (frame::figure(&judged(report, newest), &statements::BEATEN.href(&[id]), offers(&kept.value, chosen))) },
                Err(fault) => (frame::without(fault)),
            }
            @if report.rows.len() > 1 {
                h2 { "Before that" }
                (frame::figure("Earlier decisions", &sql, html! {
                    ul { @for row in report.rows.iter().skip(1) { li { (cell(report, row, "text").unwrap_or_default()) " " small { (when(report, row, now)) } } } }
                }))
            }
        }
    }
}

fn when(report: &Report, row: &[Option<String>], now: Timestamp) -> String {
    number(report, row, "decided_ms").map_or_else(String::new, |ms| ago(Timestamp(ms as i64), now))
}

fn the_decision(report: &Report, row: &[Option<String>], now: Timestamp) -> Markup {
    let text = |column: &str| cell(report, row, column);
    let price = |column: &str| text(column).map_or_else(|| "not known when decided".to_owned(), |usd| format!("${usd}/h"));
    html! {
        p { b { (text("text").unwrap_or_default()) } }
        dl {
            dt { "Decided" } dd { (when(report, row, now)) ", " (text("outcome").unwrap_or_default()) " after " (text("trigger").unwrap_or_default()) }
            @if let (Some(kind), Some(zone)) = (text("instance_type"), text("zone")) {
                dt { "Chosen" } dd { (kind) " " (text("capacity_type").unwrap_or_default()) " in " (zone) " at " (price("price_usd_h")) "; one replica costs " (price("per_replica_usd_h")) " with expected interruptions" }
            }
            dt { "On-demand, same type (B0)" } dd { (price("b0_usd_h")) }
            dt { "Cheapest on-demand at home (B1), one replica" } dd { (price("b1_replica_usd_h")) }
            dt { "Cheapest spot at home (B2), one replica" } dd { (price("b2_replica_usd_h")) }
            dt { "Decision" } dd { code { (text("decision").unwrap_or_default()) } }
        }
    }
}

/// How many offers were refused, by reason.
fn judged(report: &Report, row: &[Option<String>]) -> String {
    let counts: BTreeMap<String, u64> =
        cell(report, row, "refused_counts").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let all: u64 = counts.values().sum();
    let mut reasons: Vec<(u64, String)> = counts.into_iter().map(|(reason, count)| (count, reason)).collect();
    reasons.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let reasons: Vec<String> = reasons.iter().take(4).map(|(count, reason)| format!("{count} {}", Refusal::in_words(reason))).collect();
    format!("{all} offers were refused: {}", reasons.join(", "))
}

fn offers(report: &Report, chosen: Option<f64>) -> Markup {
    if report.rows.is_empty() {
        return html! { p class="note" { "No other offer was judged." } };
    }
    frame::grid(
        "Refused offers",
        &["Type", "Capacity", "Zone", "$/h", "One replica $/h", "Refused because", "What would change it"],
        html! {
            @for row in &report.rows {
                @let text = |column: &str| cell(report, row, column).unwrap_or("-");
                tr {
                    th scope="row" { (text("instance_type")) }
                    td { (text("capacity_type")) }
                    td { (text("zone")) }
                    td class="number" { (text("price_usd_h")) }
                    td class="number" { (text("per_replica_usd_h")) }
                    td { (Refusal::in_words(text("refusal"))) }
                    td { (what_would_change(text("refusal"), number(report, row, "per_replica_usd_h"), chosen)) }
                }
            }
        },
    )
}
