//! FOCUS 1.0 to 1.3 files of any provider, as other costs.
//!
//! Decides: which amount is taken (the effective one: a commitment is paid where it is used), whose it is (by a file that maps their tags to our
//! labels), and that our own machines, which the bill has already, are left out.
//! Source: the FOCUS specification, <https://focus.finops.org>; 1.3 names the provider by `ServiceProviderName`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use sqlx::PgConnection;

use super::checks::Check;
use super::costs::{Content, owner_of, store};
use super::delivery::files_of;
use super::entries::reasonable;
use super::reading::{content_of, each_line};
use super::statement::Outcome;
use super::table::Line;
use super::usage::month_cell;
use super::{ImportFault, Options};
use crate::core::accounting::owners::OwnerVersion;
use crate::core::units::ids::ObjectRef;
use crate::core::units::money::MicroUsd;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::Attribution;
use crate::ledger::store::LedgerFault;

/// Without these no row can be read.
const REQUIRED: [&str; 7] = [
    "billing_period_start",
    "charge_period_start",
    "charge_period_end",
    "effective_cost",
    "billing_currency",
    "service_name",
    "charge_category",
];
/// What is read where it is there.
const ALSO_READ: [&str; 9] = [
    "service_category",
    "provider_name",
    "service_provider_name",
    "invoice_issuer_name",
    "billing_account_id",
    "resource_id",
    "tags",
    // Those of lowtide's own export.
    "x_decision_id",
    "x_waste_category",
];
const DAY: i64 = 86_400_000;

/// Their tags for our labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// By label (team, service, environment, cost_center, product_area, component, workload): the tags that say it, the first that is there holds.
    tags: BTreeMap<String, Vec<String>>,
}

/// The labels that tags may be mapped to.
const LABELS: [&str; 7] = ["team", "service", "environment", "cost_center", "product_area", "component", "workload"];

impl Default for Mapping {
    /// Tags of our own names, with hyphens or underscores.
    fn default() -> Self {
        let names = |label: &&str| (label.to_string(), vec![label.to_string(), label.replace('_', "-")]);
        Mapping { tags: LABELS.iter().map(names).collect() }
    }
}

impl Mapping {
    /// Reads a file with the columns `label,tag`: a line for each tag, the more important first.
    ///
    /// # Errors
    /// [`ImportFault`].
    pub fn read(path: &Path) -> Result<Mapping, ImportFault> {
        let mut tags: BTreeMap<String, Vec<String>> = BTreeMap::new();
        each_line(
            path,
            &["label", "tag"],
            |_| true,
            |line| {
                let expected = "one of team, service, environment, cost_center, product_area, component, workload";
                let label = line.need("label", expected)?.replace('-', "_");
                if !LABELS.contains(&label.as_str()) {
                    return Err(line.fault("label", &label, expected));
                }
                tags.entry(label).or_default().push(line.need("tag", "the name of a tag")?.to_owned());
                Ok(())
            },
        )?;
        Ok(Mapping { tags })
    }

    fn label(&self, label: &str, tags: &serde_json::Map<String, serde_json::Value>) -> Option<String> {
        let named = self.tags.get(label)?.iter().find_map(|tag| tags.get(tag))?;
        match named {
            serde_json::Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
            serde_json::Value::Null => None,
            other => Some(other.to_string()),
        }
    }
}

/// An amount that names a machine, until it is known whether the machine is ours.
struct OfMachine {
    instance: String,
    source: String,
    item: String,
    owner: OwnerVersion,
    days: Vec<(Timestamp, Timestamp, MicroUsd)>,
}

/// Takes FOCUS files in a transaction of the caller's. Gives what was taken and how many rows were left out for being about machines of ours.
///
/// # Errors
/// [`ImportFault`]; then the transaction must be rolled back.
pub(super) async fn take(
    connection: &mut PgConnection,
    paths: &[PathBuf],
    mapping: &Mapping,
    options: &mut Options,
) -> Result<(Vec<Outcome>, usize), ImportFault> {
    let (mut content, mut seen, mut of_machines) = (Content::default(), BTreeSet::new(), Vec::new());
    for path in files_of(paths)? {
        if !seen.insert(content_of(&path)?) {
            continue;
        }
        let read = each_line(
            &path,
            &REQUIRED,
            |name| REQUIRED.contains(&name) || ALSO_READ.contains(&name),
            |line| {
                if line.header.has("x_decision_id") && line.header.has("x_waste_category") {
                    return Err(line.fault("x_DecisionId", "a decision", "the file of another provider: this is lowtide's own export"));
                }
                read_line(line, mapping, options, &mut content, &mut of_machines)
            },
        )?;
        content.files.push(read);
    }
    let instances: BTreeSet<&str> = of_machines.iter().map(|row| row.instance.as_str()).collect();
    let instances: Vec<String> = instances.into_iter().map(str::to_owned).collect();
    let ours = sqlx::query_scalar!("SELECT DISTINCT instance FROM ledger.interval_opened WHERE instance = ANY($1)", &instances);
    let ours: BTreeSet<String> =
        ours.fetch_all(&mut *connection).await.map_err(LedgerFault::during("look for machines of ours"))?.into_iter().collect();
    let mut left_out = 0;
    for row in &of_machines {
        if ours.contains(&row.instance) {
            left_out += 1;
            continue;
        }
        for (month, day, amount) in &row.days {
            content.add(&row.source, *month, &row.item, &row.owner, *day, *amount);
        }
    }
    Ok((store(connection, content, &mut options.checks).await?, left_out))
}

fn read_line(
    line: &Line,
    mapping: &Mapping,
    options: &mut Options,
    content: &mut Content,
    of_machines: &mut Vec<OfMachine>,
) -> Result<(), ImportFault> {
    let provider =
        ["service_provider_name", "provider_name", "invoice_issuer_name"].iter().find_map(|name| line.get(name)).unwrap_or("provider");
    let account = line.get("billing_account_id").unwrap_or_default();
    let source = options.source.clone().unwrap_or_else(|| format!("focus {provider} {account}").trim_end().to_owned());
    let item = format!("{provider}: {}", line.need("service_name", "a service")?);
    let (from, to) = (line.time("charge_period_start")?, line.time("charge_period_end")?);
    let month = month_cell(line.time("billing_period_start")?).0;
    let amount = options.rates.of(line, "billing_currency", from)?.times(line.usd_figure("effective_cost")?);
    reasonable(&mut options.checks, amount, || line.fault("effective_cost", &amount.to_string(), "at most $10,000,000 on one row"))?;
    let tags = match line.get("tags").map(serde_json::from_str) {
        None => serde_json::Map::new(),
        Some(Ok(serde_json::Value::Object(tags))) => tags,
        Some(_) => {
            let fault = line.fault("tags", line.get("tags").unwrap_or_default(), "a JSON object, as in {\"team\": \"search\"}");
            options.checks.refuse(Check::UnknownColumns, || fault.to_string())?;
            serde_json::Map::new()
        }
    };
    let label = |name: &str| mapping.label(name, &tags);
    let attribution = Attribution {
        team: label("team"),
        service: label("service"),
        environment: label("environment"),
        cost_center: label("cost_center"),
        product_area: label("product_area"),
        component: label("component").or_else(|| Some(component_of(line.get("service_category")).into())),
    };
    let workload = label("workload").and_then(|text| {
        let (namespace, name) = text.split_once('/')?;
        Some(ObjectRef { namespace: namespace.into(), name: name.into() })
    });
    let owner = owner_of(&item, workload.as_ref(), attribution);
    content.workloads.extend(workload);
    let days = over_days(from, to, amount.to_micro_usd());
    match line.get("resource_id").and_then(|id| id.rsplit('/').next()).filter(|id| id.starts_with("i-")) {
        Some(instance) => {
            let days = days.into_iter().map(|(day, amount)| (month, day, amount)).collect();
            of_machines.push(OfMachine { instance: instance.to_owned(), source, item, owner, days });
        }
        None => days.into_iter().for_each(|(day, amount)| content.add(&source, month, &item, &owner, day, amount)),
    }
    Ok(())
}

/// What a cost is for, where no tag says it: storage and data transfer apart, everything else is what a vendor's API costs.
fn component_of(service_category: Option<&str>) -> &'static str {
    match service_category {
        Some("Storage") => "storage",
        Some("Networking") => "transfer",
        _ => "api",
    }
}

/// An amount over the UTC days of its span, by time; the parts add up. A point belongs to its day.
fn over_days(from: Timestamp, to: Timestamp, amount: MicroUsd) -> Vec<(Timestamp, MicroUsd)> {
    let (first, last) = (from.0.div_euclid(DAY), (to.0 - 1).max(from.0).div_euclid(DAY));
    let whole = i128::from((to.0 - from.0).max(1));
    let upto =
        |at: i64| i64::try_from(i128::from(amount.0) * i128::from(at.clamp(from.0, to.0.max(from.0)) - from.0) / whole).unwrap_or(i64::MAX);
    let part = |day: i64| {
        let end = if day == last { amount.0 } else { upto((day + 1) * DAY) };
        (Timestamp(0) + Millis(day * DAY), MicroUsd(end - upto(day * DAY)))
    };
    (first..=last).map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_spread_over_its_days_and_adds_up() {
        let at = |hours: i64| Timestamp::from_date(2026, 7, 20) + Millis::from_hours(hours);
        let days = over_days(at(12), at(60), MicroUsd(100_001));
        assert_eq!(days.iter().map(|(_, amount)| amount.0).collect::<Vec<_>>(), [25_000, 50_000, 25_001]);
        assert_eq!(over_days(at(0), at(24), MicroUsd(7)), [(at(0), MicroUsd(7))]);
        assert_eq!(over_days(at(5), at(5), MicroUsd(-7)), [(at(0), MicroUsd(-7))]);
    }

    #[test]
    fn the_first_tag_that_is_there_says_the_label() {
        let path = std::env::temp_dir().join(format!("lowtide-mapping-{}.csv", std::process::id()));
        std::fs::write(&path, "label,tag\nteam,Squad\nteam,owner\ncost-center,CC\n").unwrap();
        let mapping = Mapping::read(&path).unwrap();
        std::fs::write(&path, "label,tag\nteem,Squad\n").unwrap();
        let fault = Mapping::read(&path).unwrap_err().to_string();
        std::fs::remove_file(&path).unwrap();
        let serde_json::Value::Object(tags) = serde_json::json!({"owner": "b", "CC": 17}) else { panic!() };
        assert_eq!((mapping.label("team", &tags), mapping.label("cost_center", &tags)), (Some("b".into()), Some("17".into())));
        assert_eq!(mapping.label("service", &tags), None);
        assert!(fault.contains("expected one of team"), "{fault}");
    }
}
