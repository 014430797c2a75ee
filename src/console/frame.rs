//! What all pages have: the frame with its navigation, figures with the link to their SQL, tables, and refusals.
//!
//! Decides: how pages are built, so that they can be read with a keyboard, without a script, on a narrow screen and by a screen reader.

use axum::http::StatusCode;
use axum::http::header::WWW_AUTHENTICATE;
use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};

use super::Console;
use super::books::BooksFault;
use super::identity::Visitor;
use super::shapes::ago;
use crate::core::units::time::Timestamp;
use crate::ledger::report::Report;

/// A page's place.
pub(crate) struct Page<'a> {
    pub title: &'a str,
    /// Its address in the navigation.
    pub at: &'static str,
    /// Seconds after which an open page fetches itself again at the latest.
    pub live: Option<u32>,
}

const NAVIGATION: [(&str, &str, bool); 8] = [
    ("/market", "Market", false),
    ("/machines", "Machines", false),
    ("/moves", "Moves", false),
    ("/pods", "Pods", false),
    ("/savings", "Savings", false),
    ("/plans", "Budgets and forecast", true),
    ("/anomalies", "Anomalies", true),
    ("/trust", "Trust", true),
];

fn head(title: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { (title) " - lowtide" }
            link rel="icon" href="/assets/icon.svg";
            link rel="stylesheet" href="/assets/console.css";
            script src="/assets/console.js" defer {}
        }
    }
}

/// A page of the console.
pub(crate) fn page(console: &Console, visitor: &Visitor, page: Page<'_>, content: Markup) -> Html<String> {
    let now = console.now();
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            (head(page.title))
            body {
                a class="skip" href="#content" { "Skip to the content" }
                header {
                    p class="brand" { a href="/" { "lowtide" } " " span { (console.settings.cluster) } }
                    nav aria-label="Pages" {
                        ul {
                            @for (href, name, finance) in NAVIGATION {
                                @if !finance || visitor.rights.finance {
                                    li { a href=(href) aria-current=[(href == page.at).then_some("page")] { (name) } }
                                }
                            }
                        }
                    }
                    form class="who" method="post" action="/sign-out" { span { (visitor.person.name) } button type="submit" { "Sign out" } }
                }
                main id="content" tabindex="-1" data-live=[page.live] {
                    h1 { (page.title) }
                    (content)
                }
                footer {
                    p { "As of " time datetime=(now.to_rfc3339()) { (now.to_rfc3339()) } ". Decisions are made by the operator; this page changes nothing." }
                    @if page.live.is_some() { p { button id="live" type="button" hidden { "Pause updates" } } }
                }
            }
        }
    };
    Html(markup.into_string())
}

/// Why there is no page, as a page with the sign-in form or as a sentence.
pub(crate) fn refused(status: StatusCode, as_page: bool, sentence: &str, known: Option<&str>) -> Response {
    let mut response = if as_page {
        let title = if status == StatusCode::OK { "Sign in" } else { status.canonical_reason().unwrap_or("Refused") };
        let markup = html! {
            (DOCTYPE)
            html lang="en" {
                (head(title))
                body {
                    header { p class="brand" { a href="/" { "lowtide" } } }
                    main id="content" tabindex="-1" {
                        h1 { (title) }
                        p role=[(status != StatusCode::OK).then_some("alert")] { (sentence) }
                        @if known.is_some() { p { a href="/" { "To the start" } } } @else { (sign_in_form()) }
                    }
                }
            }
        };
        (status, Html(markup.into_string())).into_response()
    } else {
        (status, format!("{sentence}\n")).into_response()
    };
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, axum::http::HeaderValue::from_static("Bearer realm=\"lowtide\""));
    }
    response
}

fn sign_in_form() -> Markup {
    html! {
        form class="sign-in" method="post" action="/sign-in" {
            label for="token" { "Bearer token" }
            input id="token" name="token" type="password" autocomplete="off" required;
            button type="submit" { "Sign in" }
        }
    }
}

/// What belongs to one caption: a table, or a chart with its table. `sql` is the address of the statement behind all its figures.
pub(crate) fn figure(caption: &str, sql: &str, content: Markup) -> Markup {
    html! {
        figure {
            figcaption { (caption) " " a class="sql" href=(sql) aria-label={ "SQL of: " (caption) } { "SQL" } }
            (content)
        }
    }
}

/// A table that may be wider than the screen: it scrolls by itself, with the keyboard too.
pub(crate) fn scrolling(name: &str, table: Markup) -> Markup {
    html! { div class="scroll" tabindex="0" role="region" aria-label=(name) { (table) } }
}

/// A table that scrolls by itself: headings of its columns, and its rows.
pub(crate) fn grid(name: &str, headings: &[&str], rows: Markup) -> Markup {
    scrolling(name, html! { table { thead { tr { @for heading in headings { th scope="col" { (heading) } } } } tbody { (rows) } } })
}

/// A number as tables have it, to the right.
fn is_figure(text: &str) -> bool {
    text.trim_start_matches(['+', '-', '$']).parse::<f64>().is_ok()
}

/// A report as a table. `columns` are those shown, each with its heading.
pub(crate) fn table(name: &str, report: &Report, columns: &[(&str, &str)]) -> Markup {
    let headings: Vec<&str> = columns.iter().map(|(_, heading)| *heading).collect();
    let at: Vec<Option<usize>> = columns.iter().map(|(column, _)| report.columns.iter().position(|name| name == column)).collect();
    grid(
        name,
        &headings,
        html! {
            @for row in &report.rows {
                tr {
                    @for (n, at) in at.iter().enumerate() {
                        @let cell = at.and_then(|at| row.get(at)).and_then(|cell| cell.as_deref());
                        @if n == 0 { th scope="row" { (cell.unwrap_or("-")) } }
                        @else { td class=[cell.is_none_or(is_figure).then_some("number")] { (cell.map_or_else(|| "-".to_owned(), shortened)) } }
                    }
                }
            }
        },
    )
}

/// Dollars to the micro-dollar are shown to the cent; the statement has all digits.
fn shortened(cell: &str) -> String {
    match cell.split_once('.') {
        Some((whole, decimals)) if decimals.len() == 6 && is_figure(cell) => {
            cell.parse::<f64>().map_or_else(|_| format!("{whole}.{decimals}"), |value| format!("{value:.2}"))
        }
        _ => cell.to_owned(),
    }
}

/// A sentence in the place of figures that cannot be had.
pub(crate) fn without(fault: &BooksFault) -> Markup {
    html! { p class="note" role="status" { (fault.to_string()) } }
}

/// How old the ledger's answer is.
pub(crate) fn read_at(at: Timestamp, now: Timestamp) -> Markup {
    html! { p class="read" { "Read from the ledger " (ago(at, now)) "." } }
}
