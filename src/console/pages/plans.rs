//! Budgets against what was spent, and the forecast with its ranges drawn.
//!
//! Decides: how many months are forecast. For finance alone: plans are not split by namespace.

use std::collections::BTreeMap;

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};

use super::super::books::{BooksFault, Kept};
use super::super::identity::{Rejection, Visitor};
use super::super::shapes::dollars;
use super::super::{Console, Held, charts, frame, statements};
use super::{Asked, month_of};
use crate::core::accounting::forecast::Scenario;
use crate::core::units::money::MicroUsd;
use crate::core::units::time::{Millis, Timestamp};
use crate::ledger::plans::budget::{Standing, standings};
use crate::ledger::plans::forecast::{Forecast, make};
use crate::ledger::report::Month;

/// Calendar months that are forecast.
const MONTHS: usize = 3;

/// The page.
pub(in super::super) async fn page(State(console): Held, visitor: Visitor, Query(asked): Asked) -> Response {
    if let Err(refused) = visitor.rights.must_be_finance(&visitor.person) {
        return Rejection::from(refused).into_response();
    }
    let content = content(&console, &asked).await;
    frame::page(&console, &visitor, frame::Page { title: "Budgets and forecast", at: "/plans", live: Some(60) }, content).into_response()
}

async fn content(console: &Console, asked: &BTreeMap<String, String>) -> Markup {
    let now = console.now();
    let Some(month) = month_of(asked, now) else { return html! { p class="note" { "Expected a calendar month, as 2026-07." } } };
    let budgets = budgets(console, month).await;
    let forecast = forecast(console).await;
    let plan = budgets.as_ref().ok().and_then(|kept| kept.value.iter().find(|s| s.of == "all")).map(|s| usd(s.plan));
    let week = Millis::from_hours(7 * 24);
    let sql = statements::BUDGETS.href(&[&month.first_day(), &now.to_date(), &(now - week).to_date(), &now.to_date()]);
    html! {
        form class="filter" method="get" action="/plans" {
            label { "Budgets of " input name="month" value=(month.to_string()) size="8" pattern="[0-9]{4}-[0-9]{2}" placeholder="2026-07"; }
            button type="submit" { "Show" }
        }
        h2 { "Budgets" }
        @match &budgets {
            Ok(kept) if kept.value.is_empty() => p class="note" { "No budget is entered for " (month) ": lowtide ledger budget --enter FILE." },
            Ok(kept) => { (frame::figure(&format!("Spent against plan, {month}"), &sql, against_plan(&kept.value))) (frame::read_at(kept.read_at, now)) },
            Err(fault) => (frame::without(fault)),
        }
        h2 { "Forecast" }
        @match &forecast {
            Ok(kept) => (forecast_of(&kept.value, plan, now)),
            Err(fault) => (frame::without(fault)),
        }
    }
}

fn usd(amount: MicroUsd) -> f64 {
    amount.0 as f64 / 1e6
}

async fn budgets(console: &Console, month: Month) -> Result<Kept<Vec<Standing>>, BooksFault> {
    let now = console.now();
    console
        .books
        .kept(("budgets", &month.to_string()), move |mut connection| async move {
            Ok::<_, BooksFault>(standings(&mut connection, &month, now).await?)
        })
        .await
}

async fn forecast(console: &Console) -> Result<Kept<Forecast>, BooksFault> {
    let now = console.now();
    let read = move |mut connection: sqlx::pool::PoolConnection<sqlx::Postgres>| async move {
        Ok::<_, BooksFault>(make(&mut connection, now, MONTHS, &Scenario::usual(), &[]).await?)
    };
    console.books.kept(("forecast", &now.to_date()), read).await
}

fn against_plan(standings: &[Standing]) -> Markup {
    frame::grid(
        "Budgets",
        &["Budget", "Of", "Plan $", "Spent $", "Spent", "Expected by the end $", "Used up on", "Mostly, against the month before"],
        html! {
            @for standing in standings {
                @let share = usd(standing.spent) / usd(standing.plan).max(0.000_001);
                tr {
                    th scope="row" { (standing.name) }
                    td { (standing.of) }
                    td class="number" { (format!("{:.2}", usd(standing.plan))) }
                    td class="number" { (format!("{:.2}", usd(standing.spent))) }
                    td class="number" { (format!("{:.0} %", share * 100.0)) " " (charts::share(&format!("Spent of {}", standing.name), share)) }
                    td class=(if standing.heading.expected > standing.plan { "number over" } else { "number" }) {
                        (format!("{:.2}", usd(standing.heading.expected))) @if standing.heading.expected > standing.plan { " above plan" }
                    }
                    td { (standing.heading.exhausted_at.map_or_else(|| "-".to_owned(), Timestamp::to_date)) }
                    td { @if let Some((step, amount)) = &standing.mostly { (step) " " (dollars(usd(*amount))) } @else { "-" } }
                }
            }
        },
    )
}

fn forecast_of(made: &Forecast, plan: Option<f64>, now: Timestamp) -> Markup {
    let base = made.scenarios.get("base").map(|(_, months)| months.as_slice()).unwrap_or_default();
    let months = made.months.iter().zip(base).filter_map(|(month, ranges)| {
        let range = ranges.get("")?;
        Some(charts::Spread { name: month.to_string(), low: range.low, middle: range.middle, high: range.high })
    });
    // What next month costs in each scenario.
    let next = made.scenarios.iter().filter_map(|(name, (_, months))| {
        let range = months.first()?.get("")?;
        Some(charts::Spread { name: name.clone(), low: range.low, middle: range.middle, high: range.high })
    });
    let (months, next): (Vec<_>, Vec<_>) = (months.collect(), next.collect());
    let says = |spreads: &[charts::Spread]| {
        let one = |s: &charts::Spread| format!("{}: {}, between {} and {}", s.name, dollars(s.middle), dollars(s.low), dollars(s.high));
        spreads.iter().map(one).collect::<Vec<_>>().join("; ")
    };
    let sql = statements::FORECAST.href(&[&(now - Millis::from_hours(730 * 24)).to_date(), &now.to_date()]);
    let coverage = made.calibration.sentence();
    html! {
        p { "In four of five cases the outcome is to lie in the range (" (coverage) ")." @if plan.is_some() { " The dashed line is the budget for everything." } }
        (frame::figure("The next months if the last weeks go on", &sql, charts::ranges("Forecast by month", &says(&months), &months, plan)))
        (frame::figure("Next month by scenario", &sql, html! {
            (charts::ranges("Next month by scenario", &says(&next), &next, plan))
            (scenarios(made, &next))
        }))
    }
}

fn scenarios(made: &Forecast, next: &[charts::Spread]) -> Markup {
    frame::grid(
        "Scenarios",
        &["Scenario", "Assumes", "Low $", "Middle $", "High $"],
        html! {
            @for spread in next {
                tr {
                    th scope="row" { (spread.name) }
                    td { (made.scenarios.get(&spread.name).map(|(note, _)| note.as_str()).unwrap_or_default()) }
                    @for amount in [spread.low, spread.middle, spread.high] { td class="number" { (format!("{amount:.2}")) } }
                }
            }
        },
    )
}
