//! Reads the pages about money ahead, for whoever may see all of the ledger: their figures take seconds over thousands of machines, and nobody waits.
//!
//! Decides: which pages and how often. Does not: keep anything ([`super::books`] does), or read ahead for single namespaces.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};

use super::books::STALE;
use super::identity::{Person, Visitor};
use super::rights::{Rights, Scope};
use super::{Console, pages};

/// Half of the time for which an answer is shown: no page of these grows too old.
const EVERY: Duration = Duration::from_millis(STALE.0.unsigned_abs() / 2);

/// Somebody who may see everything.
fn finance() -> Visitor {
    let person = Person { name: "the console itself".to_owned(), uid: None, groups: Vec::new(), extra: BTreeMap::new() };
    Visitor { person, rights: Rights { scope: Scope::All, machines: true, finance: true } }
}

/// Reads one page after the other, again and again.
pub(super) async fn read(console: Arc<Console>) {
    loop {
        let asked = || Query(BTreeMap::new());
        // Only what they leave in the books is wanted.
        drop(pages::market::page(State(console.clone()), finance(), asked()).await);
        drop(pages::savings::page(State(console.clone()), finance(), asked()).await);
        drop(pages::plans::page(State(console.clone()), finance(), asked()).await);
        drop(pages::anomalies::page(State(console.clone()), finance(), asked()).await);
        drop(pages::trust::page(State(console.clone()), finance(), asked()).await);
        tokio::time::sleep(EVERY).await;
    }
}
