//! Savings, and the bridge from the month before.
//!
//! Decides: which month is shown. The figures are those of `lowtide ledger savings` and `lowtide ledger variance`, narrowed to the visitor's namespaces.

use std::collections::BTreeMap;

use axum::extract::{Query, State};
use axum::response::IntoResponse;
use maud::{Markup, html};

use super::super::books::{BooksFault, Kept};
use super::super::identity::Visitor;
use super::super::shapes::{cell, number};
use super::super::{Console, Held, charts, frame, statements};
use super::{Asked, month_of};
use crate::ledger::report::{By, Days, Month, Report, VarianceBy, savings, variance};

const TEAMS: [(&str, &str); 11] = [
    ("team", "Team"),
    ("spend_usd", "Spend $"),
    ("b1_usd", "On-demand at home $ (B1)"),
    ("gross_saving_usd", "Gross saving $"),
    ("boot_usd", "Boot $"),
    ("idle_usd", "Idle $"),
    ("drain_usd", "Drain $"),
    ("moves_usd", "Moves $"),
    ("lost_work_usd", "Lost work $"),
    ("net_saving_usd", "Net saving $"),
    ("net_saving_percent", "Net %"),
];

/// The page.
pub(in super::super) async fn page(State(console): Held, visitor: Visitor, Query(asked): Asked) -> impl IntoResponse {
    let content = content(&console, &visitor, &asked).await;
    frame::page(&console, &visitor, frame::Page { title: "Savings", at: "/savings", live: Some(60) }, content)
}

async fn content(console: &Console, visitor: &Visitor, asked: &BTreeMap<String, String>) -> Markup {
    let now = console.now();
    let Some(month) = month_of(asked, now) else { return html! { p class="note" { "Expected a calendar month, as 2026-07." } } };
    let (from, to) = (month.first_day(), month.next().first_day());
    let by_team = read(console, visitor, By::Team, &month).await;
    let by_day = read(console, visitor, By::Day, &month).await;
    let bridged = bridged(console, visitor, &month).await;
    html! {
        form class="filter" method="get" action="/savings" {
            label { "Month " input name="month" value=(month.to_string()) size="8" pattern="[0-9]{4}-[0-9]{2}" placeholder="2026-07"; }
            button type="submit" { "Show" }
        }
        @match &by_team {
            Ok(kept) => {
                p class="headline" { a class="figure" href=(statements::SAVINGS.href(&[&from, &to])) { (kept.value.sentence) } }
                (frame::figure(&format!("Savings by team, {month}"), &statements::SAVINGS.href(&[&from, &to]), frame::table("Savings by team", &kept.value, &TEAMS)))
                (frame::read_at(kept.read_at, now))
            },
            Err(fault) => (frame::without(fault)),
        }
        @if let Ok(kept) = &by_day { (frame::figure(&format!("Spend by day, {month}"), &statements::SAVINGS_BY_DAY.href(&[&from, &to]), trend(&kept.value))) }
        h2 { "The bridge from " (month.previous()) " to " (month) }
        @match &bridged {
            Ok(kept) => (frame::figure(&kept.value.sentence, &statements::BRIDGE.href(&[&from]), steps(&kept.value))),
            Err(fault) => (frame::without(fault)),
        }
    }
}

async fn read(console: &Console, visitor: &Visitor, by: By, month: &Month) -> Result<Kept<Report>, BooksFault> {
    let (only, days): (_, Days) = (visitor.rights.scope.only(), month.days());
    let key = format!("{month} {by:?} {only:?}");
    console
        .books
        .kept(
            ("savings", &key),
            move |mut connection| async move { Ok::<_, BooksFault>(savings(&mut connection, &days, by, &only).await?) },
        )
        .await
}

async fn bridged(console: &Console, visitor: &Visitor, month: &Month) -> Result<Kept<Report>, BooksFault> {
    let (only, now, after, before) = (visitor.rights.scope.only(), console.now(), *month, month.previous());
    let key = format!("{month} {only:?}");
    let read = move |mut connection: sqlx::pool::PoolConnection<sqlx::Postgres>| async move {
        Ok::<_, BooksFault>(variance(&mut connection, &before, &after, VarianceBy::Step, &only, now).await?)
    };
    console.books.kept(("bridge", &key), read).await
}

fn trend(report: &Report) -> Markup {
    // The last row is the total.
    let mut rows: Vec<&Vec<Option<String>>> = report.rows.iter().take(report.rows.len().saturating_sub(1)).collect();
    rows.sort_by(|a, b| cell(report, a, "day").cmp(&cell(report, b, "day")));
    if rows.is_empty() {
        return html! { p class="note" { "No day of it has any spend." } };
    }
    let days: Vec<&str> =
        rows.iter().map(|row| cell(report, row, "day").unwrap_or_default()).map(|day| day.get(5..).unwrap_or(day)).collect();
    let values = |column: &str| rows.iter().map(|row| number(report, row, column).unwrap_or(0.0)).collect::<Vec<f64>>();
    let lines = [
        charts::Line { name: "Spend", class: "spend", values: values("spend_usd") },
        charts::Line { name: "On-demand at home (B1)", class: "otherwise", values: values("b1_usd") },
    ];
    let says = format!("{} days; the table below has the figures", rows.len());
    html! {
        (charts::lines("Spend by day, and what on-demand would have cost", &says, &days, &lines))
        details {
            summary { "The figures by day" }
            (frame::table("Savings by day", report, &[("day", "Day"), ("spend_usd", "Spend $"), ("b1_usd", "On-demand at home $ (B1)"), ("net_saving_usd", "Net saving $")]))
        }
    }
}

fn steps(report: &Report) -> Markup {
    let (Some(first), Some(last)) = (report.rows.first(), report.rows.last()) else { return html! {} };
    let amount = |row: &Vec<Option<String>>| number(report, row, "difference_usd").unwrap_or(0.0);
    let name = |row: &Vec<Option<String>>| cell(report, row, "step").unwrap_or_default().to_owned();
    let between = report.rows.len().saturating_sub(2);
    let steps: Vec<(String, f64)> =
        report.rows.iter().skip(1).take(between).filter(|row| amount(row) != 0.0).map(|row| (name(row), amount(row))).collect();
    html! {
        (charts::bridge("Bridge", &report.sentence, (&name(first), amount(first)), &steps, (&name(last), amount(last))))
        (frame::table("Steps of the bridge", report, &[("step", "Step"), ("difference_usd", "Difference $"), ("why", "Why")]))
    }
}
