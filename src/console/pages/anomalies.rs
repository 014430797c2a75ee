//! Services whose cost is out of the ordinary, each with its cause, the steps of the bridge and the decisions behind it.
//!
//! Decides: how many hours are looked at. For finance alone: services are not split by namespace.

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};

use super::super::books::{BooksFault, Kept};
use super::super::identity::{Rejection, Visitor};
use super::super::shapes::dollars;
use super::super::{Console, Held, frame, statements};
use super::{Asked, word};
use crate::core::units::time::Millis;
use crate::ledger::plans::anomalies::{Found, find};

/// Hours that are looked at unless the address says otherwise, and at most.
const USUALLY: i64 = 24;
const MOST: i64 = 24 * 14;

/// The page.
pub(in super::super) async fn page(State(console): Held, visitor: Visitor, Query(asked): Asked) -> Response {
    if let Err(refused) = visitor.rights.must_be_finance(&visitor.person) {
        return Rejection::from(refused).into_response();
    }
    let hours = word(&asked, "hours").and_then(|hours| hours.parse().ok()).unwrap_or(USUALLY).clamp(1, MOST);
    let content = content(&console, hours).await;
    frame::page(&console, &visitor, frame::Page { title: "Anomalies", at: "/anomalies", live: Some(60) }, content).into_response()
}

async fn read(console: &Console, hours: i64) -> Result<Kept<Vec<Found>>, BooksFault> {
    let now = console.now();
    console
        .books
        .kept(("anomalies", &hours.to_string()), move |mut connection| async move {
            Ok::<_, BooksFault>(find(&mut connection, now, hours, &[]).await?)
        })
        .await
}

async fn content(console: &Console, hours: i64) -> Markup {
    let now = console.now();
    let found = read(console, hours).await;
    let from = (now - Millis::from_hours(8 * 7 * 24 + hours)).to_rfc3339();
    let sql = statements::ANOMALIES.href(&[&from, &now.to_rfc3339()]);
    html! {
        form class="filter" method="get" action="/anomalies" {
            label { "Hours " input name="hours" value=(hours) size="4" inputmode="numeric"; }
            button type="submit" { "Show" }
        }
        @match &found {
            Err(fault) => (frame::without(fault)),
            Ok(kept) => {
                @if kept.value.is_empty() { p class="note" { "No service's cost was unusual in the last " (hours) " hours. " a class="sql" href=(sql) aria-label="SQL of: costs by hour" { "SQL" } } }
                @else { (frame::figure(&format!("Unusual in the last {hours} hours, {} times", kept.value.len()), &sql, table(&kept.value))) }
                p { "Planned? " code { "lowtide ledger anomalies --mark planned --from ... --to ..." } " keeps it from being reported." }
                (frame::read_at(kept.read_at, now))
            },
        }
    }
}

fn table(found: &[Found]) -> Markup {
    let usd = |amount: crate::core::units::money::MicroUsd| dollars(amount.0 as f64 / 1e6);
    frame::grid(
        "Anomalies",
        &["Service", "Team", "Until", "Cost per hour", "Ordinary", "Cause", "Against the same hours a week before", "Decisions"],
        html! {
            @for one in found {
                tr {
                    th scope="row" { (one.service) }
                    td { (one.team) }
                    td { (one.until.to_rfc3339()) }
                    td class="number" { (usd(one.cost)) }
                    td class="number" { (usd(one.ordinary)) }
                    td { (one.cause.as_str()) }
                    td { (one.moved.iter().map(|(step, amount)| format!("{step} {}", usd(*amount))).collect::<Vec<_>>().join(", ")) }
                    td { @for decision in &one.decisions { a href=(statements::BEATEN.href(&[decision])) { code { (decision.get(..8).unwrap_or(decision)) } } " " } }
                }
            }
        },
    )
}
