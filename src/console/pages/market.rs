//! Market: a map of zones and types with the price that holds, how old it is, and why offers there were refused.
//!
//! Decides: which part of the market is shown (one region and capacity type), and the shade of a cell: its price against on-demand of the same type.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::{Query, State};
use axum::response::IntoResponse;
use maud::{Markup, html};

use super::super::identity::Visitor;
use super::super::shapes::{cell, number, span};
use super::super::{Console, Held, frame, statements};
use super::{Asked, word};
use crate::core::record::Refusal;
use crate::core::units::time::Timestamp;
use crate::ledger::report::Report;

/// A price that holds.
struct Price {
    usd: f64,
    text: String,
    since: Timestamp,
}

/// The prices of a region and capacity type by type and zone, and on-demand by type.
#[derive(Default)]
struct Map {
    regions: BTreeSet<String>,
    zones: BTreeSet<String>,
    prices: BTreeMap<String, BTreeMap<String, Price>>,
    on_demand: BTreeMap<String, f64>,
}

/// Of an offer the reasons, the most frequent first, as `reason (times)`.
type Refusals = BTreeMap<(String, String), Vec<String>>;

/// The page.
pub(in super::super) async fn page(State(console): Held, visitor: Visitor, Query(asked): Asked) -> impl IntoResponse {
    let content = content(&console, &visitor, &asked).await;
    frame::page(&console, &visitor, frame::Page { title: "Market", at: "/market", live: Some(30) }, content)
}

async fn content(console: &Console, visitor: &Visitor, asked: &BTreeMap<String, String>) -> Markup {
    let now = console.now();
    let market = match console.books.rows("market", statements::MARKET.text(&visitor.rights), Vec::new()).await {
        Ok(market) => market,
        Err(fault) => return frame::without(&fault),
    };
    let refused = statements::REFUSALS.text(&visitor.rights);
    let refused = console.books.rows("refusals", refused, vec![visitor.rights.scope.listed()]).await;
    let capacity = match word(asked, "capacity") {
        Some("on-demand") => "on-demand",
        _ => "spot",
    };
    let region = region_of(console, &market.value, word(asked, "region"));
    let map = map_of(&market.value, &region, capacity, word(asked, "type"));
    let refusals = refused.as_ref().map(|refused| refusals_of(&refused.value, &region, capacity)).unwrap_or_default();
    html! {
        (chooser(&map, &region, capacity, word(asked, "type").unwrap_or_default()))
        @if map.prices.is_empty() {
            p class="note" { "No price is known here: the operator writes those of the regions of its node classes." }
        } @else {
            (frame::figure(
                &format!("Price per machine and hour, {capacity}, {region}"),
                &statements::MARKET.href(&[]),
                drawn(&map, &refusals, now),
            ))
            p {
                "The shade is the price against on-demand of the same type: " span class="shade s1" { "below 40 %" } " " span class="shade s2" { "below 70 %" } " "
                span class="shade s3" { "below 100 %" } " " span class="shade s4" { "100 % and more" } ". Below each price stands since when it holds, and why the decisions of the last 24 hours refused the offer ("
                a class="sql" href=(statements::REFUSALS.href(&[])) aria-label="SQL of: refusals" { "SQL" } ")."
            }
        }
        @if let Err(fault) = &refused { (frame::without(fault)) }
        (frame::read_at(market.read_at, now))
    }
}

/// The region asked for, else the one with most machines, else the first.
fn region_of(console: &Console, market: &Report, wanted: Option<&str>) -> String {
    if let Some(wanted) = wanted {
        return wanted.to_owned();
    }
    let mut machines: BTreeMap<String, usize> = BTreeMap::new();
    let (claims, _) = console.watched.claims();
    for claim in claims.iter().filter_map(|claim| claim.get()) {
        *machines.entry(claim.spec.region.clone()).or_default() += 1;
    }
    let most = machines.into_iter().max_by_key(|(_, count)| *count).map(|(region, _)| region);
    let first = || market.rows.first().and_then(|row| cell(market, row, "region")).unwrap_or_default().to_owned();
    most.unwrap_or_else(first)
}

fn map_of(market: &Report, region: &str, capacity: &str, wanted: Option<&str>) -> Map {
    let mut map = Map::default();
    for row in &market.rows {
        let text = |column| cell(market, row, column).unwrap_or_default();
        map.regions.insert(text("region").to_owned());
        let Some(usd) = number(market, row, "price_usd_h").filter(|_| text("region") == region) else { continue };
        let kind = text("instance_type").to_owned();
        if text("capacity_type") == "on-demand" {
            map.on_demand.insert(kind.clone(), usd);
        }
        if text("capacity_type") != capacity || wanted.is_some_and(|wanted| !kind.contains(wanted)) {
            continue;
        }
        // On-demand has one price in the whole region.
        let zone = cell(market, row, "zone").unwrap_or(region).to_owned();
        let since = Timestamp(text("since_ms").parse().unwrap_or_default());
        map.zones.insert(zone.clone());
        map.prices.entry(kind).or_default().insert(zone, Price { usd, text: format!("${usd:.4}"), since });
    }
    map
}

fn refusals_of(refused: &Report, region: &str, capacity: &str) -> Refusals {
    let mut found = Refusals::new();
    for row in &refused.rows {
        let text = |column| cell(refused, row, column).unwrap_or_default();
        if text("region") != region || text("capacity_type") != capacity {
            continue;
        }
        let reason = serde_json::from_value::<Refusal>(serde_json::Value::String(text("refusal").to_owned()));
        let reason = reason.map_or_else(|_| text("refusal").to_owned(), |reason| reason.to_string());
        // On-demand is judged zone by zone and has one price.
        for zone in [text("zone"), region] {
            found.entry((text("instance_type").to_owned(), zone.to_owned())).or_default().push(format!("{reason} ({})", text("times")));
        }
    }
    found
}

fn chooser(map: &Map, region: &str, capacity: &str, wanted: &str) -> Markup {
    html! {
        form class="filter" method="get" action="/market" {
            label { "Region " select name="region" { @for name in &map.regions { option value=(name) selected[name == region] { (name) } } } }
            label { "Capacity " select name="capacity" { @for name in ["spot", "on-demand"] { option value=(name) selected[name == capacity] { (name) } } } }
            label { "Type contains " input name="type" value=(wanted) size="12"; }
            button type="submit" { "Show" }
        }
    }
}

fn shade(usd: f64, on_demand: Option<f64>) -> &'static str {
    match on_demand.filter(|on_demand| *on_demand > 0.0).map(|on_demand| usd / on_demand) {
        None => "s0",
        Some(share) if share < 0.4 => "s1",
        Some(share) if share < 0.7 => "s2",
        Some(share) if share < 1.0 => "s3",
        Some(_) => "s4",
    }
}

fn drawn(map: &Map, refusals: &Refusals, now: Timestamp) -> Markup {
    let one = |kind: &String, zone: &String, price: &Price| {
        let why = refusals.get(&(kind.clone(), zone.clone()));
        html! {
            td class={ "cell " (shade(price.usd, map.on_demand.get(kind).copied())) } {
                b { (price.text) }
                " " small { (span(now.since(price.since))) }
                @if let Some(first) = why.and_then(|why| why.first()) {
                    " " small class="refused" { (first) @if let Some(more) = why.map(|why| why.len() - 1).filter(|more| *more > 0) { ", and " (more) " more" } }
                }
            }
        }
    };
    frame::scrolling(
        "Map of the market",
        html! {
            table class="map" {
                thead { tr { th scope="col" { "Type" } @for zone in &map.zones { th scope="col" { (zone) } } } }
                tbody {
                    @for (kind, prices) in &map.prices {
                        tr {
                            th scope="row" { (kind) }
                            @for zone in &map.zones {
                                @if let Some(price) = prices.get(zone) { (one(kind, zone, price)) } @else { td class="cell none" { "-" } }
                            }
                        }
                    }
                }
            }
        },
    )
}
