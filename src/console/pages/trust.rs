//! Trust: what the figures rest on, what is not attributed, what is missing, and the last seals.
//!
//! Decides: the days. For finance alone: it is about the whole ledger.

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};

use super::super::books::BooksFault;
use super::super::identity::{Rejection, Visitor};
use super::super::shapes::{cell, number};
use super::super::{Held, charts, frame, statements};
use super::{Asked, month_of};
use crate::ledger::report::{Report, trust};

/// The page.
pub(in super::super) async fn page(State(console): Held, visitor: Visitor, Query(asked): Asked) -> Response {
    if let Err(refused) = visitor.rights.must_be_finance(&visitor.person) {
        return Rejection::from(refused).into_response();
    }
    let now = console.now();
    let month = month_of(&asked, now);
    let days = month.map(|month| month.days()).unwrap_or_default();
    let (from, to) = (days.from.clone().unwrap_or_default(), days.to.clone().unwrap_or_default());
    let key = format!("{from} {to}");
    let trusted = console
        .books
        .kept(("trust", &key), move |mut connection| async move { Ok::<_, BooksFault>(trust(&mut connection, &days, &[]).await?) })
        .await;
    let seals = console.books.rows("seals", statements::SEALS.text(&visitor.rights), Vec::new()).await;
    let content = html! {
        form class="filter" method="get" action="/trust" {
            label { "Month " input name="month" value=(month.map(|month| month.to_string()).unwrap_or_default()) size="8" pattern="[0-9]{4}-[0-9]{2}" placeholder="2026-07"; }
            button type="submit" { "Show" }
        }
        @match &trusted {
            Ok(kept) => {
                p class="headline" { a class="figure" href=(statements::TRUST.href(&[&from, &to])) { (kept.value.sentence) } }
                (frame::figure("What the figures rest on", &statements::TRUST.href(&[&from, &to]), items(&kept.value)))
                (frame::read_at(kept.read_at, now))
            },
            Err(fault) => (frame::without(fault)),
        }
        h2 { "Seals" }
        @match &seals {
            Ok(kept) if kept.value.rows.is_empty() => p class="note" { "Nothing is sealed yet: lowtide ledger seal." },
            Ok(kept) => (frame::figure("The last seals", &statements::SEALS.href(&[]), frame::table("Seals", &kept.value, &[("seal", "Seal"), ("sealed_at", "Sealed at"), ("rows", "Rows"), ("root", "Root")]))),
            Err(fault) => (frame::without(fault)),
        }
    };
    frame::page(&console, &visitor, frame::Page { title: "Trust", at: "/trust", live: Some(60) }, content).into_response()
}

fn items(report: &Report) -> Markup {
    frame::grid(
        "Trust",
        &["What", "$", "Share", "Count"],
        html! {
            @for row in &report.rows {
                @let name = cell(report, row, "item").unwrap_or_default();
                tr {
                    th scope="row" { (name) }
                    td class="number" { (number(report, row, "usd").map_or_else(|| "-".to_owned(), |usd| format!("{usd:.2}"))) }
                    td class="number" { @if let Some(percent) = number(report, row, "percent") { (format!("{percent:.1} %")) " " (charts::share(name, percent / 100.0)) } @else { "-" } }
                    td class="number" { (cell(report, row, "count").unwrap_or("-")) }
                }
            }
        },
    )
}
