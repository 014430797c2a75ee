//! Recommendations: fewer replicas, shared or smaller GPUs, batch instead of serving; priced on today's market, kept, and scored two weeks later.
//!
//! - [`measured`]: how workloads used their GPUs.
//! - [`market`]: today's prices, as the operator last wrote them down.
//! - [`priced`]: what a recommendation saves.
//! - [`kept`]: keeping them, and what came of those that were kept.
//!
//! Decides: which of a workload's recommendations comes first, and how they are shown.
//! Does not: decide what a measured use allows (see [`crate::core::accounting::recommendation`]).

pub mod kept;
pub mod market;
mod measured;
mod priced;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sqlx::PgConnection;

pub use priced::OnMarket;

use super::two_decimals;
use crate::core::accounting::recommendation::{Advice, Change, Evidence, LEAST_SAVING, Recommendation, Unknown, advise};
use crate::core::market::catalog::Catalog;
use crate::core::units::ids::ObjectRef;
use crate::core::units::money::MicroUsd;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::sharing::Sharing;
use crate::ledger::report::{By, Only, Report, dollars, fits};
use crate::ledger::store::LedgerFault;
use measured::Observed;
use priced::Price;

const DAY: Millis = Millis::from_hours(24);
/// Days of a month for which savings are stated.
const MONTH_DAYS: i64 = 30;

/// A recommendation with its price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Whose.
    pub workload: ObjectRef,
    /// Label `team`, where there is one.
    pub team: Option<String>,
    /// What is recommended.
    pub recommendation: Recommendation,
    /// What it rests on.
    pub evidence: Evidence,
    /// What it saves in 30 days.
    pub saving: MicroUsd,
    /// What its useful pod time cost in as many, by the ledger.
    pub cost: MicroUsd,
    /// Where the prices come from.
    pub basis: String,
    /// Prices and machines before and after, for the record.
    pub prices: Value,
}

/// A workload without any recommendation, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Without {
    /// Which.
    pub workload: ObjectRef,
    /// Label `team`, where there is one.
    pub team: Option<String>,
    /// In words.
    pub because: String,
    /// Nothing is known of it that a recommendation could rest on; else nothing is worth changing.
    pub unknown: Option<Unknown>,
}

/// What was found over whole days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recommendations {
    /// The first day.
    pub from: Timestamp,
    /// The day after the last.
    pub to: Timestamp,
    /// The workloads with most to save first; of each the best first.
    pub found: Vec<Found>,
    /// The others.
    pub without: Vec<Without>,
}

/// What to look at.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The `days` whole UTC days before now.
    pub now: Timestamp,
    /// How many.
    pub days: i64,
    /// Today's market; without one the ledger's own cost of an hour is the price.
    pub market: Option<&'a OnMarket>,
    /// The one way in which node classes share GPUs, where it is fixed.
    pub sharing: Option<Sharing>,
}

/// Looks at every workload that held GPUs.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn find(connection: &mut PgConnection, asked: Asked<'_>) -> Result<Recommendations, LedgerFault> {
    let to = Timestamp(asked.now.0 - asked.now.0.rem_euclid(DAY.0));
    let from = to - Millis(asked.days * DAY.0);
    let catalog = Catalog::snapshot();
    let mut recommendations = Recommendations { from, to, found: Vec::new(), without: Vec::new() };
    let mut of_workloads: Vec<Vec<Found>> = Vec::new();
    for (workload, observed) in measured::read(connection, (from, to)).await? {
        let without = |because: String, unknown| Without { workload: workload.clone(), team: observed.team.clone(), because, unknown };
        match advise(&observed.measured, asked.days, &catalog, asked.sharing) {
            Err(unknown) => recommendations.without.push(without(unknown.as_str().to_owned(), Some(unknown))),
            Ok(advice) => {
                let (mut found, mut because) = priced(&workload, &observed, &advice, &catalog, asked);
                if found.is_empty() {
                    because.extend(advice.not.iter().map(|(what, not)| format!("{}: {}", what.as_str(), not.as_str())));
                    recommendations.without.push(without(because.join("; "), None));
                    continue;
                }
                found.sort_by_key(|found| (std::cmp::Reverse(found.saving), found.recommendation.change.what()));
                of_workloads.push(found);
            }
        }
    }
    of_workloads.sort_by_key(|found| std::cmp::Reverse(found.first().map(|best| best.saving)));
    recommendations.found = of_workloads.into_iter().flatten().collect();
    Ok(recommendations)
}

/// What of an advice saves enough, and why the rest is left out.
fn priced(workload: &ObjectRef, observed: &Observed, advice: &Advice, catalog: &Catalog, asked: Asked<'_>) -> (Vec<Found>, Vec<String>) {
    let (mut found, mut because) = (Vec::new(), Vec::new());
    for recommendation in &advice.recommended {
        let what = recommendation.change.what().as_str();
        let price = priced::price(observed, &advice.evidence, recommendation, catalog, asked);
        let Price { saving, basis, prices } = match price {
            Ok(price) => price,
            Err(no_price) => {
                because.push(format!("{what}: {no_price}"));
                continue;
            }
        };
        if saving < LEAST_SAVING {
            because.push(format!("{what}: saves less than {} a month", dollars(LEAST_SAVING)));
            continue;
        }
        found.push(Found {
            workload: workload.clone(),
            team: observed.team.clone(),
            recommendation: recommendation.clone(),
            evidence: advice.evidence,
            saving,
            cost: priced::monthly(observed.cost, asked.days),
            basis,
            prices,
        });
    }
    (found, because)
}

impl Recommendations {
    /// Leaves out what filters by team, workload or namespace do not ask for.
    pub fn keep_only(&mut self, only: &[Only]) {
        let asked = |workload: &ObjectRef, team: &Option<String>| {
            let name = workload.to_string();
            fits(only, |by| match by {
                By::Workload => name.as_str(),
                By::Namespace => workload.namespace.as_str(),
                _ => team.as_deref().unwrap_or("(untagged)"),
            })
        };
        self.found.retain(|found| asked(&found.workload, &found.team));
        self.without.retain(|without| asked(&without.workload, &without.team));
    }

    /// The best of each workload.
    pub fn best(&self) -> Vec<&Found> {
        let mut best: Vec<&Found> = Vec::new();
        for found in &self.found {
            if best.last().is_none_or(|last| last.workload != found.workload) {
                best.push(found);
            }
        }
        best
    }

    fn sentence(&self) -> String {
        let best = self.best();
        let days = format!("{} to {}", self.from.to_date(), (self.to - DAY).to_date());
        let mut reasons: BTreeMap<Unknown, usize> = BTreeMap::new();
        self.without.iter().filter_map(|without| without.unknown).for_each(|unknown| *reasons.entry(unknown).or_default() += 1);
        let nothing = self.without.iter().filter(|without| without.unknown.is_none()).count();
        let mut others: Vec<String> = reasons.into_iter().map(|(unknown, count)| format!("{count} {}", unknown.as_str())).collect();
        others.extend((nothing > 0).then(|| format!("{nothing} with nothing to change")));
        let looked_at = best.len() + self.without.len();
        let rest = match self.without.len() {
            0 => String::new(),
            n => format!(" {n} of {looked_at} workloads get none: {}.", others.join(", ")),
        };
        match best.len() {
            0 if looked_at == 0 => format!("No pod held a GPU from {days}."),
            0 => format!("No recommendation by the use of GPUs from {days}.{rest}"),
            n => {
                let (saving, workloads) =
                    (best.iter().map(|found| found.saving).sum(), if n == 1 { "1 workload" } else { &format!("{n} workloads") });
                format!(
                    "By the use of GPUs from {days}, the best recommendations for {workloads} would save {} in 30 days.{rest}",
                    dollars(saving)
                )
            }
        }
    }

    /// For people; with `all`, the workloads that get none as well.
    pub fn report(&self, all: bool) -> Report {
        let columns = [
            "workload",
            "team",
            "rank",
            "recommendation",
            "change",
            "saving_usd_per_month",
            "cost_usd_per_month",
            "use_percent",
            "busiest_hour_percent",
            "measured_percent",
            "replicas",
            "most_memory_mib",
            "basis",
            "assumes",
        ];
        let (mut rows, mut rank, mut of) = (Vec::new(), 0, None);
        for found in &self.found {
            rank = if of.replace(&found.workload) == Some(&found.workload) { rank + 1 } else { 1 };
            rows.push(row(found, rank));
        }
        for without in self.without.iter().filter(|_| all) {
            let mut row = vec![None; columns.len()];
            row[0] = Some(without.workload.to_string());
            row[1].clone_from(&without.team);
            (row[3], row[4]) = (Some("none".to_owned()), Some(without.because.clone()));
            rows.push(row);
        }
        Report { sentence: self.sentence(), columns: columns.map(String::from).to_vec(), rows }
    }
}

fn row(found: &Found, rank: i64) -> Vec<Option<String>> {
    let percent = |per_mille: i64| format!("{}.{}", per_mille / 10, per_mille % 10);
    let e = &found.evidence;
    vec![
        Some(found.workload.to_string()),
        found.team.clone(),
        Some(rank.to_string()),
        Some(found.recommendation.change.what().as_str().to_owned()),
        Some(words(&found.recommendation.change, e)),
        Some(two_decimals(found.saving)),
        Some(two_decimals(found.cost)),
        Some(percent(e.use_per_mille)),
        Some(percent(e.busiest_hour_per_mille)),
        Some(percent(e.measured_per_mille)),
        Some(e.replicas.to_string()),
        e.most_memory_mib.map(|mib| mib.to_string()),
        Some(found.basis.clone()),
        Some(found.recommendation.change.assumes().to_owned()),
    ]
}

/// What to change, as an owner would do it.
fn words(change: &Change, evidence: &Evidence) -> String {
    match change {
        Change::FewerReplicas { replicas } => format!("at most {replicas} replicas instead of {}", evidence.most_replicas),
        Change::Sharing { sharing, memory } => format!("share GPUs: a node class with {sharing}, and gpu-memory {}Mi", memory.0),
        Change::SmallerGpu { memory, models, .. } => {
            let models = models.iter().map(|model| model.as_str()).collect::<Vec<_>>().join(",");
            format!("gpu-memory {}Mi, gpu-models {models}", memory.0)
        }
        Change::Batch { busy_hours: 0 } => format!("stop it: no request came in {} days", evidence.days),
        Change::Batch { busy_hours } => format!("run it in batches: requests came in {busy_hours} hours of {} days", evidence.days),
    }
}

/// What it rests on, for the record.
fn evidence_of(found: &Found) -> Value {
    json!({ "use": found.evidence, "prices": found.prices })
}
