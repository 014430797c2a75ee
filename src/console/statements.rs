//! The statements behind the figures, and the page that shows one, ready to be pasted into psql.
//!
//! Decides: what each statement is called and takes. Statements that narrow by namespace are shown with the visitor's own.
//! Does not: run what is shown; `lowtide_reader` may.

use std::collections::BTreeMap;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};

use super::identity::Visitor;
use super::rights::Rights;
use super::{Held, frame};
use crate::ledger::plans::{anomalies, budget, forecast};
use crate::ledger::report::{By, TRUST_SQL, savings_sql};
use crate::ports::percent_encoding::percent_encoded;

/// The parameter that is the visitor's own and is in no address.
const NAMESPACES: &str = "namespaces";

/// A statement.
pub(crate) struct Statement {
    pub name: &'static str,
    /// What it answers.
    pub about: &'static str,
    /// Its parameters, in order.
    parameters: &'static [&'static str],
    text: fn(&Rights) -> String,
    /// It shows what only finance may see; the text itself is no secret.
    note: &'static str,
}

const OF_THE_CLUSTER: &str = "The page shows the cluster's objects as they are now; this is what the ledger has of the same.";
const DRAWN_FROM: &str =
    "The page shows what lowtide makes of these rows: lowtide ledger forecast and lowtide ledger anomalies print the same.";

macro_rules! statements {
    ($($constant:ident = $name:literal, $about:literal, $parameters:expr, $text:expr, $note:expr;)*) => {
        $(#[doc = $about] pub(crate) const $constant: Statement = Statement { name: $name, about: $about, parameters: $parameters, text: $text, note: $note };)*
        /// All of them.
        const ALL: &[&Statement] = &[$(&$constant),*];
    };
}

statements! {
    MARKET = "market", "The price that holds for every offer", &[], |_| include_str!("sql/market.sql").to_owned(), "";
    REFUSALS = "refusals", "Offers refused in the last 24 hours", &[NAMESPACES], |_| include_str!("sql/refusals.sql").to_owned(), "";
    MACHINES = "machines", "Machines that run", &[], |_| include_str!("sql/machines.sql").to_owned(), OF_THE_CLUSTER;
    USUAL_MOVES = "usual-moves", "How long moves took", &[], |_| include_str!("sql/usual_moves.sql").to_owned(), "";
    DECISIONS = "decisions", "The decisions about a pod", &["namespace", "pod"], |_| include_str!("sql/decisions.sql").to_owned(), "";
    BEATEN = "beaten", "Offers that a decision refused", &["decision"], |_| include_str!("sql/beaten.sql").to_owned(), "";
    SAVINGS = "savings", "What was saved, by team", &["from", "to"], |rights| savings_sql(&By::Team.into(), &rights.scope.only(), false), "";
    SAVINGS_BY_DAY = "savings-by-day", "What was saved, by day", &["from", "to"], |rights| savings_sql(&By::Day.into(), &rights.scope.only(), false), "";
    BRIDGE = "bridge", "Why a month cost other than the month before", &[NAMESPACES, "month"], |_| include_str!("sql/bridge.sql").to_owned(), "";
    BUDGETS = "budgets", "Budgets against what was spent", &["month", "today", "from", "to"], |_| budget::STANDINGS.to_owned(), "";
    FORECAST = "forecast", "What forecasts are made from", &["from", "to"], |_| forecast::history_sql(&[]), DRAWN_FROM;
    ANOMALIES = "anomalies", "Costs by hour, in which anomalies are looked for", &["from", "to"], |_| anomalies::hourly_sql(), DRAWN_FROM;
    TRUST = "trust", "How far the figures can be relied on", &["from", "to"], |_| TRUST_SQL.to_owned(), "";
    SEALS = "seals", "The last seals", &[], |_| include_str!("sql/seals.sql").to_owned(), "";
}

impl Statement {
    /// Its text for somebody with these rights.
    pub fn text(&self, rights: &Rights) -> String {
        (self.text)(rights)
    }

    /// The address of its page, with these values for its parameters but for the visitor's own.
    pub fn href(&self, values: &[&str]) -> String {
        let named = self.parameters.iter().filter(|name| **name != NAMESPACES).zip(values);
        let query: Vec<String> = named.map(|(name, value)| format!("{name}={}", percent_encoded(value))).collect();
        match query.is_empty() {
            true => format!("/sql/{}", self.name),
            false => format!("/sql/{}?{}", self.name, query.join("&")),
        }
    }

    /// Its text with the values in the places of `$1` and so on, as psql takes it. What is not given is NULL.
    fn filled(&self, rights: &Rights, given: &BTreeMap<String, String>) -> String {
        let mut text = self.text(rights);
        for (n, name) in self.parameters.iter().enumerate().rev() {
            let value = if *name == NAMESPACES { rights.scope.listed() } else { given.get(*name).cloned() };
            text = text.replace(&format!("${}", n + 1), &value.map_or_else(|| "NULL".to_owned(), |value| quoted(&value)));
        }
        text
    }
}

/// A literal of SQL. A backslash is one in a server with `standard_conforming_strings`, which is on everywhere since 9.1.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// The page of one statement.
pub(super) async fn page(
    State(console): Held,
    visitor: Visitor,
    Path(name): Path<String>,
    Query(given): Query<BTreeMap<String, String>>,
) -> Response {
    let Some(statement) = ALL.iter().find(|statement| statement.name == name) else {
        return frame::refused(StatusCode::NOT_FOUND, true, "There is no statement of this name.", Some(&visitor.person.name));
    };
    let content: Markup = html! {
        p { "What stands behind the figures that brought you here. Paste it into psql as a member of " code { "lowtide_reader" } ": it gives the same." }
        @if !statement.note.is_empty() { p { (statement.note) } }
        div class="scroll" tabindex="0" role="region" aria-label="Statement" { pre { code { (statement.filled(&visitor.rights, &given)) } } }
    };
    frame::page(&console, &visitor, frame::Page { title: statement.about, at: "", live: None }, content).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::rights::Scope;
    use super::*;

    #[test]
    fn values_stand_in_their_places_and_cannot_leave_their_quotes() {
        let rights =
            Rights { scope: Scope::Namespaces(BTreeSet::from(["ml".to_owned(), "a".to_owned()])), machines: false, finance: false };
        let given = BTreeMap::from([("namespace".to_owned(), "ml".to_owned()), ("pod".to_owned(), "x'; DROP".to_owned())]);
        let text = DECISIONS.filled(&rights, &given);
        assert!(text.contains("jsonb_build_object('namespace', 'ml'::text, 'name', 'x''; DROP'::text)"), "{text}");
        let text = BRIDGE.filled(&rights, &BTreeMap::from([("month".to_owned(), "2026-07-01".to_owned())]));
        assert!(text.contains("month = '2026-07-01'::text::date AND ('a,ml'::text IS NULL"), "{text}");
        let all = Rights { scope: Scope::All, machines: true, finance: true };
        assert!(BRIDGE.filled(&all, &BTreeMap::new()).contains("month = NULL::text::date AND (NULL::text IS NULL"));
        assert_eq!(DECISIONS.href(&["ml", "a b&c"]), "/sql/decisions?namespace=ml&pod=a%20b%26c");
        assert_eq!(BRIDGE.href(&["2026-07-01"]), "/sql/bridge?month=2026-07-01");
    }

    #[test]
    fn every_statement_has_the_parameters_that_it_names() {
        let rights = Rights { scope: Scope::All, machines: true, finance: true };
        for statement in ALL {
            let text = statement.text(&rights);
            for n in 1..=statement.parameters.len() {
                assert!(text.contains(&format!("${n}")), "{} has no ${n}", statement.name);
            }
            assert!(!text.contains(&format!("${}", statement.parameters.len() + 1)), "{} has more parameters", statement.name);
        }
    }
}
