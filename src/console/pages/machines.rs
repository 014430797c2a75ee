//! Machines: what runs, what it costs now, and what on-demand would.
//!
//! Decides: the order and how many are shown at once. Whoever may not list machines sees those that hold their pods.

use std::collections::BTreeMap;

use axum::extract::{Query, State};
use axum::response::IntoResponse;
use maud::{Markup, html};

use super::super::identity::Visitor;
use super::super::shapes::ago;
use super::super::{Console, Held, charts, frame, statements};
use super::{Asked, word};
use crate::core::record::code_of;
use crate::core::units::time::Timestamp;
use crate::kube::api::GpuNodeClaim;
use crate::kube::shown::rates::{Rate, rates, runs};
use crate::ports::percent_encoding::percent_encoded;

/// Machines of one page.
const SHOWN: usize = 100;

/// The page.
pub(in super::super) async fn page(State(console): Held, visitor: Visitor, Query(asked): Asked) -> impl IntoResponse {
    let content = content(&console, &visitor, &asked);
    frame::page(&console, &visitor, frame::Page { title: "Machines", at: "/machines", live: Some(15) }, content)
}

fn content(console: &Console, visitor: &Visitor, asked: &BTreeMap<String, String>) -> Markup {
    let (claims, unreadable) = console.watched.claims();
    let own = |claim: &&GpuNodeClaim| visitor.rights.machines || holds_one_of(claim, visitor);
    let claims: Vec<&GpuNodeClaim> = claims.iter().filter_map(|claim| claim.get()).filter(own).collect();
    let pools = rates(claims.iter().copied());
    let mut found: Vec<&GpuNodeClaim> = claims.iter().copied().filter(|claim| fits(claim, asked)).collect();
    found.sort_by(|a, b| b.spec.price_per_hour.cmp(&a.spec.price_per_hour).then_with(|| a.metadata.name.cmp(&b.metadata.name)));
    let from = word(asked, "from").and_then(|n| n.parse::<usize>().ok()).unwrap_or(0).min(found.len());
    let sql = statements::MACHINES.href(&[]);
    html! {
        (frame::figure("What machines cost now, by pool", &sql, summary(&pools)))
        form class="filter" method="get" action="/machines" {
            label { "Name, type, zone, pool or phase contains " input name="q" value=(word(asked, "q").unwrap_or_default()) size="16"; }
            label { input type="checkbox" name="ended" value="yes" checked[asked.contains_key("ended")]; " with those that ended" }
            button type="submit" { "Show" }
        }
        @if found.is_empty() { p class="note" { "No machine is to be shown." } } @else {
            (frame::figure(&format!("Machines, {} of them, the most expensive first", found.len()), &sql, list(found.iter().skip(from).take(SHOWN), console.now())))
        }
        (turning(asked, from, found.len()))
        @if unreadable > 0 && visitor.rights.machines { p class="note" { (unreadable) " claims of another version cannot be read and are left out." } }
    }
}

fn holds_one_of(claim: &GpuNodeClaim, visitor: &Visitor) -> bool {
    let occupants = claim.status.iter().flat_map(|status| &status.occupants).map(|occupant| &occupant.namespace);
    let bought_for = claim.spec.created_for.iter().map(|pod| &pod.namespace);
    occupants.chain(bought_for).any(|namespace| visitor.rights.scope.holds(namespace))
}

fn phase(claim: &GpuNodeClaim) -> String {
    claim.status.as_ref().map_or_else(|| "Pending".to_owned(), |status| format!("{:?}", status.phase))
}

fn fits(claim: &GpuNodeClaim, asked: &BTreeMap<String, String>) -> bool {
    if !asked.contains_key("ended") && claim.status.as_ref().is_some_and(|status| status.ended.is_some()) {
        return false;
    }
    let Some(wanted) = word(asked, "q") else { return true };
    let spec = &claim.spec;
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    [name, &spec.instance_type, &spec.zone, &spec.node_pool].iter().any(|text| text.contains(wanted))
        || phase(claim).eq_ignore_ascii_case(wanted)
}

fn summary(pools: &BTreeMap<String, Rate>) -> Markup {
    if pools.is_empty() {
        return html! { p class="note" { "No machine runs." } };
    }
    let all = pools.values().fold(Rate::default(), Rate::and);
    let rows = pools.iter().map(|(pool, rate)| (pool.as_str(), rate)).chain((pools.len() > 1).then_some(("all", &all)));
    frame::scrolling(
        "Pools",
        html! {
            table {
                thead { tr { @for name in ["Pool", "Machines", "Spot", "GPUs", "$/h", "On-demand $/h", "Saved $/h", "Saved"] { th scope="col" { (name) } } } }
                tbody { @for (pool, rate) in rows { (pool_row(pool, rate)) } }
            }
            @if all.without_on_demand_price > 0 {
                p class="note" { "Of " (all.without_on_demand_price) " machines no on-demand price is known: they count as saving nothing." }
            }
        },
    )
}

fn pool_row(pool: &str, rate: &Rate) -> Markup {
    let saved = crate::core::units::money::MicroUsdPerHour(rate.on_demand_per_hour.0 - rate.price_per_hour.0);
    let share = saved.0 as f64 / rate.on_demand_per_hour.0.max(1) as f64;
    html! {
        tr {
            th scope="row" { (pool) }
            td class="number" { (rate.machines) }
            td class="number" { (rate.spot_machines) }
            td class="number" { (rate.gpus) }
            td class="number" { (rate.price_per_hour.to_string()) }
            td class="number" { (rate.on_demand_per_hour.to_string()) }
            td class="number" { (saved.to_string()) }
            td class="number" { (format!("{:.0} %", share * 100.0)) " " (charts::share(&format!("Saved in {pool}"), share)) }
        }
    }
}

fn list<'a>(claims: impl Iterator<Item = &'a &'a GpuNodeClaim>, now: Timestamp) -> Markup {
    frame::grid(
        "Machines",
        &["Machine", "Phase", "Type", "Capacity", "Zone", "Pool", "GPUs", "$/h", "Saved $/h", "Bought because of", "Pods", "Launched"],
        html! {
            @for claim in claims { (row(claim, now)) }
        },
    )
}

fn row(claim: &GpuNodeClaim, now: Timestamp) -> Markup {
    let (spec, status) = (&claim.spec, claim.status.as_ref());
    let pods = status.map_or(0, |status| status.occupants.iter().filter(|occupant| occupant.to.is_none()).count());
    let leaving = status.is_some_and(|status| status.move_.is_some() || status.interruption.is_some());
    html! {
        tr {
            th scope="row" { (claim.metadata.name.as_deref().unwrap_or_default()) }
            td { (phase(claim)) @if leaving { " " a href="/moves" { "is being left" } } @if !runs(claim) && status.is_some_and(|s| s.ended.is_some()) { " ended" } }
            td { (spec.instance_type) }
            td { (code_of(&spec.capacity_type)) }
            td { (spec.zone) }
            td { (spec.node_pool) }
            td class="number" { (spec.gpus) }
            td class="number" { (spec.price_per_hour.to_string()) }
            td class="number" { (spec.saved_per_hour.map_or_else(|| "-".to_owned(), |saved| saved.to_string())) }
            td { (code_of(&spec.reason)) }
            td class="number" { (pods) }
            td { (status.and_then(|s| s.launched_at).map_or_else(|| "-".to_owned(), |at| ago(at.0, now))) }
        }
    }
}

/// Links to the machines before and after.
fn turning(asked: &BTreeMap<String, String>, from: usize, all: usize) -> Markup {
    let to = |from: usize| {
        let q = word(asked, "q").map_or_else(String::new, |q| format!("&q={}", percent_encoded(q)));
        let ended = if asked.contains_key("ended") { "&ended=yes" } else { "" };
        format!("/machines?from={from}{q}{ended}")
    };
    html! {
        @if all > SHOWN {
            nav aria-label="More machines" class="turning" {
                @if from > 0 { a href=(to(from.saturating_sub(SHOWN))) { "Those before" } " " }
                span { (from + 1) " to " ((from + SHOWN).min(all)) " of " (all) } " "
                @if from + SHOWN < all { a href=(to(from + SHOWN)) { "Those after" } }
            }
        }
    }
}
