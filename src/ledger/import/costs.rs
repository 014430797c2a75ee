//! Costs that are not lowtide's machines: what lowtide itself runs on, and what is bought elsewhere, from a file of ours or as FOCUS.
//!
//! Decides: how a file of ours is read; that a source's calendar month is a period, which a newer version replaces whole; and the postings of the
//! difference. They are posted as entered, on a line that no saving is counted from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::checks::Checks;
use super::delivery::each_file_once;
use super::entries::{
    Difference, Origin, Said, Spoken, Version, Words, known_workloads, look_over_month, new_version, not_older, period_in_words, source_of,
};
use super::reading::{ReadFile, each_known_line};
use super::revenue::per_day;
use super::statement::{Cell, Held, Kind, Outcome};
use super::table::Line;
use super::usage::{month_cell, workload_of, write};
use super::{ImportFault, Options};
use crate::core::accounting::owners::OwnerVersion;
use crate::core::units::ids::{ObjectRef, derive_uuid};
use crate::core::units::money::MicroUsd;
use crate::core::units::time::Timestamp;
use crate::core::workload::{Attribution, Workload};
use crate::ledger::poster::{WORKLOAD_VERSION, owner_row};
use crate::ledger::rows::Table;
use crate::ledger::store::{LedgerFault, insert};
use crate::ledger::turns::{self, Turn};

const EXTERNAL_COST: Table =
    Table { name: "external_cost", columns: "id, at, item, workload, revision, cost_usd, statement, lines, model" };
/// Postings of other costs.
pub(super) const POSTING: Table = Table {
    name: "posting",
    columns: "id, at, workload, gpu_ms, span_ms, line, kind, cause, cost_usd, b0_usd, b1_usd, b2_usd, feed_usd, bill_usd, statement",
};
const REQUIRED: [&str; 3] = ["period", "item", "cost_usd"];
const KNOWN: [&str; 12] = [
    "period",
    "item",
    "cost_usd",
    "currency",
    "workload",
    "team",
    "service",
    "environment",
    "cost_center",
    "product_area",
    "component",
    "model",
];

/// Item, owner, day, and the model where the bill names one.
type CostKey = (String, Uuid, Timestamp, Option<String>);

/// Micro-dollars by item, owner, day and model.
pub(super) type Days = BTreeMap<CostKey, i128>;

/// What a file says: by source and month, and who pays.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub months: BTreeMap<(String, Timestamp), Days>,
    pub owners: BTreeMap<Uuid, OwnerVersion>,
    pub workloads: BTreeSet<ObjectRef>,
    pub files: Vec<ReadFile>,
    /// Other sources that a month of a source replaces: what an earlier release called the same.
    pub earlier_names: BTreeMap<(String, Timestamp), Vec<String>>,
    /// When the source made what it says of a month, where that is known: RFC 3339.
    pub made_at: BTreeMap<(String, Timestamp), String>,
}

impl Content {
    /// Adds what something cost on its days.
    pub(super) fn add(&mut self, source: &str, month: Timestamp, paid: &Paid, days: &[(Timestamp, MicroUsd)]) {
        self.add_micro(source, month, paid, days.iter().map(|(day, amount)| (*day, i128::from(amount.0))));
    }

    /// As [`Content::add`], of sums in micro-dollars.
    pub(super) fn add_micro(&mut self, source: &str, month: Timestamp, paid: &Paid, days: impl IntoIterator<Item = (Timestamp, i128)>) {
        self.owners.entry(paid.owner.id).or_insert_with(|| paid.owner.clone());
        let of_month = self.months.entry((source.to_owned(), month)).or_default();
        for (day, micro) in days {
            *of_month.entry((paid.item.clone(), paid.owner.id, day, paid.model.clone())).or_default() += micro;
        }
    }
}

/// What was paid for.
#[derive(Debug, Clone)]
pub(super) struct Paid {
    /// Its name.
    pub item: String,
    /// Who pays.
    pub owner: OwnerVersion,
    /// The model that the bill names, if it does.
    pub model: Option<String>,
}

/// Takes files of other costs in a transaction of the caller's: columns `period` (a day, or a month that is spread evenly over its days), `item`,
/// `cost_usd`, and any of currency, workload (whose costs they are), team, service, environment, cost_center, product_area, component, model (of an AI vendor).
///
/// # Errors
/// [`ImportFault`]; then the transaction must be rolled back.
pub(super) async fn take(connection: &mut PgConnection, paths: &[PathBuf], options: &mut Options) -> Result<Vec<Outcome>, ImportFault> {
    let (mut content, mut spoken) = (Content::default(), Spoken::default());
    let source = source_of(options, Kind::Costs);
    content.files = each_file_once(paths, |file, path| read_file(path, file, &source, (&mut content, &mut spoken), options))?;
    store(connection, content, &mut options.checks).await
}

fn read_file(
    path: &Path,
    file: usize,
    source: &str,
    (content, spoken): (&mut Content, &mut Spoken),
    options: &mut Options,
) -> Result<ReadFile, ImportFault> {
    let mut said = Said::default();
    let read = each_known_line(path, (&REQUIRED, &KNOWN), options, |line, options| {
        said.count(line);
        let item = line.need("item", "a name for what was paid")?.to_owned();
        let workload = line.get("workload").map(|_| workload_of(line, "workload")).transpose()?;
        let owner = owner_of(&item, workload.as_ref(), attribution(line));
        let parts = per_day(line, "cost_usd", options)?;
        // The same item may be paid by several owners.
        let what = workload.as_ref().map_or_else(|| item.clone(), |workload| format!("{item} of {workload}"));
        let team = owner.attribution.team.as_ref().map_or_else(String::new, |team| format!(" for {team}"));
        let model = line.get("model").map(str::to_owned);
        let of_model = model.as_ref().map_or_else(String::new, |model| format!(", model {model}"));
        spoken.once(&mut options.checks, (file, line.part), &format!("{what}{team}{of_model}"), &parts)?;
        content.workloads.extend(workload);
        // A line's days are all of one month.
        let Some((first, _)) = parts.first() else { return Ok(()) };
        content.add(source, month_cell(*first).0, &Paid { item, owner, model }, &parts);
        Ok(())
    })?;
    said.refuse_repeated(&mut options.checks, &read)?;
    Ok(read)
}

fn attribution(line: &Line) -> Attribution {
    let label = |name: &str| line.get(name).map(String::from);
    Attribution {
        team: label("team"),
        service: label("service"),
        environment: label("environment"),
        cost_center: label("cost_center"),
        product_area: label("product_area"),
        component: label("component"),
    }
}

/// Who pays: the item, or the workload that causes it, with its labels. One owner for all time, since each line says its labels.
pub(super) fn owner_of(item: &str, workload: Option<&ObjectRef>, attribution: Attribution) -> OwnerVersion {
    let object = workload.cloned().unwrap_or_else(|| ObjectRef { namespace: String::new(), name: item.to_owned() });
    OwnerVersion::new(Workload { kind: "External".into(), object }, attribution, Timestamp(0))
}

/// Takes what was read, month by month.
pub(super) async fn store(connection: &mut PgConnection, content: Content, checks: &mut Checks) -> Result<Vec<Outcome>, ImportFault> {
    turns::take(connection, Turn::Import).await?;
    known_workloads(connection, &content.workloads, checks).await?;
    let versions: Vec<_> = content.owners.values().map(owner_row).collect();
    insert(connection, WORKLOAD_VERSION, &versions).await?;
    let mut outcomes = Vec::new();
    for ((source, month), days) in &content.months {
        let (from, until) = month_cell(*month);
        let cell = |source: &str| Cell { kind: Kind::Costs, source: source.to_owned(), from, until };
        let key = (source.clone(), *month);
        let origin = Origin { files: &content.files, made_at: content.made_at.get(&key).map(String::as_str) };
        let mut of_earlier = Days::new();
        for name in content.earlier_names.get(&key).into_iter().flatten() {
            let there = there(connection, &cell(name), true).await?;
            if !there.is_empty() {
                let gone = Origin { files: &content.files, made_at: None };
                let Version { outcome, differences } =
                    new_version(connection, cell(name), gone, [&there, &Days::new()], checks, |_, _| Ok(())).await?;
                add(connection, &outcome, &differences).await?;
                outcomes.push(outcome);
                of_earlier.extend(there);
            }
        }
        // A month of which all that is said is in the bill says nothing of other costs, unless it did before.
        if days.is_empty() && of_earlier.is_empty() && there(connection, &cell(source), true).await?.is_empty() {
            continue;
        }
        outcomes.push(take_month(connection, cell(source), (days, &of_earlier), origin, checks).await?);
    }
    Ok(outcomes)
}

async fn take_month(
    connection: &mut PgConnection,
    cell: Cell,
    (days, of_earlier): (&Days, &Days),
    from: Origin<'_>,
    checks: &mut Checks,
) -> Result<Outcome, ImportFault> {
    const WORDS: Words = Words { amounts: "other costs", of: "the item", verb: "cost" };
    let before = there(connection, &cell, true).await?;
    let known: Days = before.iter().chain(of_earlier).map(|(key, amount)| (key.clone(), *amount)).collect();
    let others = there(connection, &cell, false).await?;
    let month = period_in_words(cell.from, 7);
    let refuse = |checks: &mut Checks, holds: Option<&Held>| {
        not_older(checks, &month, from.made_at, holds)?;
        look_over_month(
            checks,
            &month,
            &WORDS,
            |(item, ..)| item.clone(),
            [&known, days, &others],
            holds.is_some() || !of_earlier.is_empty(),
        )
    };
    let Version { outcome, differences } = new_version(connection, cell, from, [&before, days], checks, refuse).await?;
    add(connection, &outcome, &differences).await?;
    Ok(outcome)
}

/// Writes what a version changes, and posts it.
async fn add(connection: &mut PgConnection, outcome: &Outcome, differences: &[Difference<CostKey>]) -> Result<(), ImportFault> {
    let (id, version) = (outcome.id, outcome.version);
    let (mut rows, mut postings) = (Vec::new(), Vec::new());
    for ((item, owner, day, model), micro, lines) in differences {
        // Without a model as before there were any: ids are for good.
        let of_model = model.as_ref().map_or_else(String::new, |model| format!(" {model}"));
        let (at, of) = (day.0.to_string(), format!("{owner}{of_model}"));
        let amount = MicroUsd(i64::try_from(*micro).unwrap_or(i64::MAX));
        rows.push(json!({
            "id": derive_uuid(&["external-cost", &id.to_string(), item, &at, &of]), "at": day.to_rfc3339(), "item": item, "workload": owner,
            "revision": version, "cost_usd": amount, "statement": id, "lines": lines, "model": model,
        }));
        postings.push(json!({
            "id": derive_uuid(&["posting-external", &id.to_string(), item, &at, &of]), "at": day.to_rfc3339(), "workload": owner, "gpu_ms": 0,
            "span_ms": 86_400_000, "line": "overhead", "kind": "entered", "cause": "entered", "cost_usd": amount, "b0_usd": "0", "b1_usd": "0",
            "b2_usd": "0", "feed_usd": "0", "bill_usd": "0", "statement": id,
        }));
    }
    write(connection, EXTERNAL_COST, &rows).await?;
    Ok(write(connection, POSTING, &postings).await?)
}

/// What holds of a month: of its source, or of all others. Two accounts of a provider may well buy the same service.
async fn there(connection: &mut PgConnection, cell: &Cell, own: bool) -> Result<Days, LedgerFault> {
    let rows = sqlx::query!(
        r#"SELECT c.item, c.workload, ledger.ms(c.at) AS "at_ms!", c.model, (sum(c.cost_usd) * 1000000)::bigint AS "micro!"
           FROM ledger.external_cost c JOIN ledger.statement s ON s.id = c.statement
           WHERE s.kind = 'costs' AND s.at = $2::text::timestamptz AND (s.source = $1) = $3
             AND ($3 OR NOT (s.source LIKE 'focus %' AND $1 LIKE 'focus %'))
           GROUP BY c.item, c.workload, c.at, c.model HAVING sum(c.lines) > 0"#,
        cell.source,
        cell.from.to_rfc3339(),
        own
    );
    let rows = rows.fetch_all(connection).await.map_err(LedgerFault::during("read the costs that hold"))?;
    Ok(rows.into_iter().map(|row| ((row.item, row.workload, Timestamp(row.at_ms), row.model), i128::from(row.micro))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::import::checks::Check;
    use crate::mutation::REACH;

    const COSTS: &str = "period,item,cost_usd,currency,workload,team,model\n2026-02,gateway,100,USD,,platform,\n2026-03-05,gpt,-1.5,,ml/chat,,gpt-x\n\
        2026-03-06,gpt,7e3,USD,ml/other,,\n";

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::mutation::CASES))]

        #[test]
        fn whatever_a_file_of_costs_holds_is_read_by_the_day_or_refused_with_a_sentence(
            text in crate::mutation::csv(&[COSTS]), accepted in proptest::bool::ANY
        ) {
            let (mut content, mut spoken, mut options) = (Content::default(), Spoken::default(), Options::default());
            if accepted {
                options.checks = Checks::accepting([Check::BeyondReason, Check::UnknownColumns, Check::HoursTwice]);
            }
            match crate::mutation::read_file(&text, |path| read_file(path, 1, "costs", (&mut content, &mut spoken), &mut options)) {
                Ok(_) => for ((_, month), days) in &content.months {
                    let (from, until) = month_cell(*month);
                    assert!(from == *month && REACH.contains(&from.0));
                    assert!(days.keys().all(|(item, owner, day, _)| !item.is_empty() && content.owners.contains_key(owner) && (from..until).contains(day)));
                },
                Err(fault) => assert!(fault.to_string().contains("nothing was imported"), "{fault}"),
            }
        }
    }
}
