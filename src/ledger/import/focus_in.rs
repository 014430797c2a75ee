//! FOCUS 1.0 to 1.3 files of any provider, as other costs.
//!
//! Decides: which amount is taken (the effective one: a commitment is paid where it is used), whose it is (by a file that maps their tags to our
//! labels), that a billing account's month is a period, that of several versions in one command the newest is taken, and that our own machines and what is
//! tagged as theirs, which the bill has already, are left out.
//! Source: the FOCUS specification, <https://focus.finops.org>; 1.3 names the provider by `ServiceProviderName`.

mod machines;
mod mapping;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::ops::Bound;
use std::path::{Path, PathBuf};

use sqlx::PgConnection;

use self::machines::{OfMachines, without_ours};
pub use self::mapping::Mapping;
use super::checks::{Check, Checks};
use super::costs::{Content, Paid, owner_of, store};
use super::delivery::{Delivery, each_file_once, newest_of, versions as versions_of};
use super::entries::{Said, period_in_words, reasonable};
use super::gateways::{self, GatewayRow, SHARE_TAG, gateway_of};
use super::reading::{ReadFile, each_line};
use super::statement::Outcome;
use super::table::{Line, column_name, run_together};
use super::tags::Tags;
use super::usage::{month_cell, workload_named};
use super::{ImportFault, Options};
use crate::core::units::ids::ObjectRef;
use crate::core::units::money::MicroUsd;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::Attribution;
use crate::ledger::focus::rules;
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
const ALSO_READ: [&str; 10] = [
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
    "sub_account_id",
];
/// What tells rows of one day and service apart, beside what is read anyway.
const IDENTITY: [&str; 9] = [
    "charge_class",
    "charge_description",
    "charge_frequency",
    "commitment_discount_id",
    "commitment_discount_status",
    "pricing_category",
    "region_id",
    "sku_id",
    "sku_price_id",
];
/// Columns that 1.3 added; those of 1.2, which has all of the earlier ones, are in [`rules`].
const ADDED_BY_1_3: [&str; 8] = [
    "AllocatedMethodDetails",
    "AllocatedMethodId",
    "AllocatedResourceId",
    "AllocatedResourceName",
    "AllocatedTags",
    "ContractApplied",
    "HostProviderName",
    "ServiceProviderName",
];
const DAY: i64 = 86_400_000;
/// The longest that anything is paid for at once: commitments are of one, three or five years. Each row is spread over the days of its span.
const LONGEST: Millis = Millis(5 * 366 * DAY);

fn is_read(name: &str) -> bool {
    REQUIRED.iter().chain(&ALSO_READ).chain(&IDENTITY).any(|read| *read == name || run_together(read) == name)
}

/// Refuses columns that no FOCUS file has and that are no provider's own: a tag column by another name would leave everything without an owner.
fn only_known_columns(line: &Line, checks: &mut Checks) -> Result<(), ImportFault> {
    let names = rules::OURS.iter().chain(&rules::OTHERS).chain(&ADDED_BY_1_3).map(|name| column_name(name));
    let known: BTreeSet<String> = names.flat_map(|name| [run_together(&name), name]).collect();
    let is_own = |name: &str| name.starts_with("x_") || name.starts_with("oci_");
    let unknown: Vec<&str> = line.header.names().filter(|name| !known.contains(*name) && !is_own(name)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    checks.refuse(Check::UnknownColumns, || {
        format!("{}: FOCUS has no columns {}, and columns of a provider's own begin with x_", line.path.display(), unknown.join(", "))
    })
}

/// The share of a gateway's row that is our machines'.
struct OfGateway {
    row: GatewayRow,
    paid: Paid,
    days: Vec<(Timestamp, MicroUsd)>,
}

/// By file and its part, the hashed rows.
type RowsOfFiles = BTreeMap<(usize, usize), BTreeSet<u64>>;

/// What one version says.
#[derive(Default)]
struct Read {
    content: Content,
    of_machines: OfMachines,
    /// Our share of gateways that our machines use, until it is known whether one ran beside them.
    of_our_gateways: BTreeMap<(String, Timestamp), Vec<OfGateway>>,
    /// Sources that are called by their billing account, and that account.
    accounts: BTreeMap<String, String>,
    /// By source and month, and by file and its part, the rows: what is the same in each version of a row, hashed.
    rows: BTreeMap<(String, Timestamp), RowsOfFiles>,
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
    let mut versions = Vec::new();
    for delivery in versions_of(paths)? {
        let mut read = Read::default();
        read.content.files = each_file_once(&delivery.files, |file, path| read_file(path, file, mapping, options, &mut read))?;
        // The parts that a manifest names are one version.
        for rows in read.rows.values().filter(|_| delivery.name.is_none()) {
            alike_in_two_files(rows, &read.content.files, &mut options.checks)?;
        }
        versions.push((delivery, read));
    }
    // Of each source and month the newest version that covers it.
    versions.sort_by(|(a, _), (b, _)| a.age().cmp(&b.age()));
    newest_known(&versions, &mut options.checks)?;
    let (mut content, mut of_machines, mut accounts, mut of_our_gateways) =
        (Content::default(), OfMachines::new(), BTreeMap::new(), BTreeMap::new());
    for (delivery, read) in versions {
        of_machines.retain(|cell, _| !read.rows.contains_key(cell));
        of_machines.extend(read.of_machines);
        of_our_gateways.retain(|cell, _| !read.rows.contains_key(cell));
        of_our_gateways.extend(read.of_our_gateways);
        for cell in read.rows.into_keys() {
            let days = read.content.months.get(&cell).cloned().unwrap_or_default();
            content.months.insert(cell.clone(), days);
            match &delivery.made_at {
                Some(at) => content.made_at.insert(cell, at.clone()),
                None => content.made_at.remove(&cell),
            };
        }
        accounts.extend(read.accounts);
        content.owners.extend(read.content.owners);
        content.workloads.extend(read.content.workloads);
        content.files.extend(read.content.files);
    }
    let left_out = without_our_gateways(connection, of_our_gateways, &mut content).await?;
    let left_out = left_out + without_ours(connection, of_machines, &mut content).await?;
    earlier_names(connection, &mut content, &accounts).await?;
    Ok((store(connection, content, &mut options.checks).await?, left_out))
}

/// Refuses two versions of a month of which nothing says which is the newest.
fn newest_known(versions: &[(Delivery, Read)], checks: &mut Checks) -> Result<(), ImportFault> {
    let cells: BTreeSet<_> = versions.iter().flat_map(|(_, read)| read.rows.keys()).collect();
    for cell in cells {
        let of_cell: Vec<&Delivery> =
            versions.iter().filter(|(_, read)| read.rows.contains_key(cell)).map(|(delivery, _)| delivery).collect();
        let newest = newest_of(&of_cell);
        // The last in order of age is the one that is taken.
        if newest.is_none_or(|newest| of_cell.last().is_some_and(|last| *last != newest)) {
            checks.refuse(Check::OlderVersion, || {
                let month = period_in_words(cell.1, 7);
                format!(
                    "{} of these versions are of {month} of {}, and nothing says which is the newest: give one of them",
                    of_cell.len(),
                    cell.0
                )
            })?;
        }
    }
    Ok(())
}

/// Adds our share of gateways in times in which no machine of ours ran: no line of the bill has it. Gives how many rows the bill has our share of.
async fn without_our_gateways(
    connection: &mut PgConnection,
    of_gateways: BTreeMap<(String, Timestamp), Vec<OfGateway>>,
    content: &mut Content,
) -> Result<usize, LedgerFault> {
    let ran = gateways::ran(connection, of_gateways.values().flatten().map(|of| &of.row)).await?;
    let mut left_out = 0;
    for (cell, rows) in of_gateways {
        for of in rows {
            if ran.beside(&of.row) {
                left_out += 1;
            } else {
                content.add(&cell.0, cell.1, &of.paid, &of.days);
            }
        }
    }
    Ok(left_out)
}

/// The sources under which an earlier release kept months of these accounts: each provider of an account was one. What holds of them is replaced as well.
async fn earlier_names(
    connection: &mut PgConnection,
    content: &mut Content,
    accounts: &BTreeMap<String, String>,
) -> Result<(), LedgerFault> {
    for (source, month) in content.months.keys() {
        let Some(account) = accounts.get(source) else { continue };
        let names = sqlx::query_scalar!(
            "SELECT DISTINCT source FROM ledger.statement WHERE kind = 'costs' AND at = $1::text::timestamptz AND source LIKE 'focus %' AND source <> $2
               AND right(source, length($3) + 1) = ' ' || $3",
            month.to_rfc3339(),
            source,
            account
        );
        let names = names.fetch_all(&mut *connection).await.map_err(LedgerFault::during("look for the account's earlier names"))?;
        if !names.is_empty() {
            content.earlier_names.insert((source.clone(), *month), names);
        }
    }
    Ok(())
}

fn read_file(path: &Path, number: usize, mapping: &Mapping, options: &mut Options, read: &mut Read) -> Result<ReadFile, ImportFault> {
    let (mut looked_at_header, mut said) = (false, Said::default());
    let file = each_line(
        path,
        &REQUIRED,
        |name| is_read(name) || mapping.is_read(name),
        |line| {
            if line.header.has("x_decision_id") && line.header.has("x_waste_category") {
                return Err(line.fault("x_DecisionId", "a decision", "the file of another provider: this is lowtide's own export"));
            }
            if !std::mem::replace(&mut looked_at_header, true) {
                only_known_columns(line, &mut options.checks)?;
            }
            said.count(line);
            read_line(line, number, mapping, options, read)
        },
    )?;
    said.refuse_repeated(&mut options.checks, &file)?;
    Ok(file)
}

/// Two files of one version, or two files in one, that have at least half their rows alike but for amounts: most likely two versions side by side, which would be added up.
fn alike_in_two_files(rows: &RowsOfFiles, files: &[ReadFile], checks: &mut Checks) -> Result<(), ImportFault> {
    let name = |file: usize| files.get(file.saturating_sub(1)).map_or("", |file| file.name.as_str());
    for (one, of_one) in rows {
        for (other, of_other) in rows.range((Bound::Excluded(*one), Bound::Unbounded)) {
            let alike = of_one.intersection(of_other).count();
            if alike > 0 && 2 * alike >= of_one.len().min(of_other.len()) {
                let place = if one.0 == other.0 { "in another part of it, with a header of its own," } else { "in" };
                let (one, other) = (name(one.0), if one.0 == other.0 { "" } else { name(other.0) });
                let place = format!("{place} {other}");
                checks.refuse(Check::HoursTwice, || {
                    format!(
                        "{alike} rows of {one} are {} as well: they look like two versions of one report, and would be added up; give one",
                        place.trim_end()
                    )
                })?;
            }
        }
    }
    Ok(())
}

/// What is the same of a row in every version: all that is read but its amount.
fn identity(line: &Line, cell: &(String, Timestamp), model: Option<&str>) -> u64 {
    let mut hash = std::hash::DefaultHasher::new();
    cell.hash(&mut hash);
    let names = REQUIRED.iter().chain(&ALSO_READ).chain(&IDENTITY).filter(|name| **name != "effective_cost");
    names.for_each(|name| line.get(name).hash(&mut hash));
    model.hash(&mut hash);
    hash.finish()
}

fn read_line(line: &Line, file: usize, mapping: &Mapping, options: &mut Options, read: &mut Read) -> Result<(), ImportFault> {
    let provider =
        ["service_provider_name", "provider_name", "invoice_issuer_name"].iter().find_map(|name| line.get(name)).unwrap_or("provider");
    // Whoever provides, the account is billed once: its report names several providers, and each of them differently from version to version.
    let account = line.get("billing_account_id");
    let source = options.source.clone().unwrap_or_else(|| format!("focus {}", account.unwrap_or(provider)));
    if let Some(account) = account.filter(|_| options.source.is_none()) {
        read.accounts.insert(source.clone(), account.to_owned());
    }
    let item = format!("{provider}: {}", line.need("service_name", "a service")?);
    let (from, to) = (line.time("charge_period_start")?, line.time("charge_period_end")?);
    let month = month_cell(line.time("billing_period_start")?).0;
    let rate = options.rates.of_named(line, "billing_currency", from, &mut options.checks)?;
    let amount = rate.times(line.usd_figure("effective_cost")?);
    reasonable(&mut options.checks, amount, || line.fault("effective_cost", &amount.to_string(), "at most $10,000,000 on one row"))?;
    let tags = match line.get("tags").map(Tags::read) {
        None => Tags::default(),
        Some(Some(tags)) => tags,
        Some(None) => {
            let fault = line.fault("tags", line.get("tags").unwrap_or_default(), "a JSON object, as in {\"team\": \"search\"}");
            options.checks.refuse(Check::UnknownColumns, || fault.to_string())?;
            Tags::default()
        }
    };
    // The bill has our part of a gateway; only what is left for others is another cost.
    let gateway = gateway_of(line.get("resource_id").unwrap_or_default(), || tags.get(SHARE_TAG).map(str::to_owned), &mut options.checks)?;
    let of_others = gateway.as_ref().map_or(amount, |gateway| gateway.of_others(amount));
    let is_shared = of_others != amount;
    let label = |name: &str| mapping.label(name, &tags);
    let attribution = Attribution {
        team: label("team"),
        service: label("service"),
        environment: label("environment"),
        cost_center: label("cost_center"),
        product_area: label("product_area"),
        component: label("component").or_else(|| Some(component_of(line.get("service_category")).into())),
    };
    let workload = label("workload").map(|text| workload_of(line, &text, &mut options.checks)).transpose()?.flatten();
    let owner = owner_of(&item, workload.as_ref(), attribution);
    let paid = Paid { item, owner, model: mapping.model(line, &tags) };
    read.content.workloads.extend(workload);
    if to.since(from) > LONGEST {
        let fault = line.fault("charge_period_end", &to.to_rfc3339(), "an end at most five years after charge_period_start");
        options.checks.refuse(Check::BeyondReason, || fault.to_string())?;
    }
    let days = over_days(from, to, of_others.to_micro_usd());
    let cell = (source, month);
    read.rows.entry(cell.clone()).or_default().entry((file, line.part)).or_default().insert(identity(line, &cell, paid.model.as_deref()));
    if let Some(gateway) = gateway.filter(|_| is_shared) {
        let row = GatewayRow { gateway, account: line.get("sub_account_id").unwrap_or_default().to_owned(), from, to };
        let days = over_days(from, to, amount.to_micro_usd() - of_others.to_micro_usd());
        read.of_our_gateways.entry(cell.clone()).or_default().push(OfGateway { row, paid: paid.clone(), days });
    }
    let instance = line.get("resource_id").and_then(|id| id.rsplit('/').next()).filter(|id| id.starts_with("i-"));
    // As volumes of our machines are tagged.
    let claim_uid = tags.get("lowtide-claim-uid");
    if instance.is_some() || claim_uid.is_some() {
        read.of_machines.entry(cell).or_default().add([instance, claim_uid], paid, &days);
    } else if !is_shared || of_others.0 != 0 {
        read.content.add(&cell.0, month, &paid, &days);
    }
    Ok(())
}

/// The workload that a tag names; accepted as it is, what names none has none.
fn workload_of(line: &Line, text: &str, checks: &mut Checks) -> Result<Option<ObjectRef>, ImportFault> {
    if let Some(workload) = workload_named(text) {
        return Ok(Some(workload));
    }
    let fault = line.fault("tags", text, "the tag that the mapping calls workload to be namespace/name, as in ml/chat");
    checks.refuse(Check::UnknownWorkloads, || fault.to_string())?;
    Ok(None)
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
    use super::mapping::LABELS;
    use super::*;
    use crate::mutation::REACH;

    #[test]
    fn an_amount_is_spread_over_its_days_and_adds_up() {
        let at = |hours: i64| Timestamp::from_date(2026, 7, 20) + Millis::from_hours(hours);
        let days = over_days(at(12), at(60), MicroUsd(100_001));
        assert_eq!(days.iter().map(|(_, amount)| amount.0).collect::<Vec<_>>(), [25_000, 50_000, 25_001]);
        assert_eq!(over_days(at(0), at(24), MicroUsd(7)), [(at(0), MicroUsd(7))]);
        assert_eq!(over_days(at(5), at(5), MicroUsd(-7)), [(at(0), MicroUsd(-7))]);
    }

    const ROWS: &str = "BillingAccountId,BillingPeriodStart,ChargePeriodStart,ChargePeriodEnd,EffectiveCost,BillingCurrency,ServiceName,ServiceCategory,ChargeCategory,\
        ProviderName,ResourceId,Tags\n\
        123,2026-07-01T00:00:00Z,2026-07-20T00:00:00Z,2026-07-21T00:00:00Z,12.5,USD,Amazon S3,Storage,Usage,AWS,bucket/x,{\"team\": \"a\"}\n\
        123,2026-07-01T00:00:00Z,2026-07-01T00:00:00Z,2029-07-01T00:00:00Z,-0.00000031,USD,Claude API,AI and Machine Learning,Credit,Anthropic,,\n\
        123,2026-07-01T00:00:00Z,2026-07-20T07:00:00Z,2026-07-20T08:00:00Z,0.045,USD,Amazon VPC,Networking,Usage,AWS,\
        arn:aws:ec2:us-east-1:1:natgateway/nat-1,{\"lowtide-share\": \"40\"}\n\
        124,2026-07-01 00:00:00,2026-07-20T07:00:00Z,2026-07-20T08:00:00Z,0.8,USD,Amazon EC2,Compute,Usage,AWS,i-0a,{user_workload=ml/chat}\n";

    #[test]
    fn a_span_of_thousands_of_years_is_refused_and_not_spread() {
        for (from, to, said) in [
            ("2026-07-20T00:00:00Z", "9999-12-31T00:00:00Z", "a point in time from 2000 to 2199"),
            ("0001-01-01T00:00:00Z", "2026-07-21T00:00:00Z", "a point in time from 2000 to 2199"),
            ("2000-01-01T00:00:00Z", "2099-07-21T00:00:00Z", "at most five years after charge_period_start"),
        ] {
            let text = ROWS.replacen("2026-07-20T00:00:00Z,2026-07-21T00:00:00Z", &format!("{from},{to}"), 1);
            let read = crate::mutation::read_file(text, |path| {
                read_file(path, 1, &Mapping::default(), &mut Options::default(), &mut Read::default()).unwrap_err().to_string()
            });
            assert!(read.contains(said), "{from} to {to}: {read}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::mutation::CASES / 2))]

        #[test]
        fn whatever_a_focus_file_holds_adds_up_to_what_it_says_or_is_refused_with_a_sentence(
            text in crate::mutation::csv(&[ROWS]), accepted in proptest::bool::ANY
        ) {
            let (mut read, mut options) = (Read::default(), Options::default());
            if accepted {
                options.checks = Checks::accepting([Check::BeyondReason, Check::UnknownColumns, Check::UnknownWorkloads, Check::HoursTwice]);
            }
            let done = crate::mutation::read_file(&text, |path| read_file(path, 1, &Mapping::default(), &mut options, &mut read));
            match done {
                Ok(file) => {
                    let days = || read.content.months.iter().flat_map(|(cell, days)| days.keys().map(move |key| (cell.1, key.2)));
                    assert!(days().all(|(month, day)| REACH.contains(&month.0) && REACH.contains(&day.0) && day.0 % DAY == 0), "{:?}", read.content);
                    let rows: usize = read.rows.values().flat_map(BTreeMap::values).map(BTreeSet::len).sum();
                    let of_machines: usize = read.of_machines.values().map(machines::Machines::rows).sum();
                    assert!(rows as u64 <= file.lines && of_machines as u64 <= file.lines);
                }
                Err(fault) => assert!(fault.to_string().contains("nothing was imported"), "{fault}"),
            }
        }

        #[test]
        fn whatever_span_a_row_has_its_days_add_up(from in REACH, span in proptest::prop_oneof![1 => proptest::prelude::Just(0), 9 => 0..LONGEST.0], amount in proptest::num::i64::ANY) {
            let (from, to) = (Timestamp(from), Timestamp(from) + Millis(span));
            let days = over_days(from, to, MicroUsd(amount));
            assert_eq!(days.iter().map(|(_, part)| i128::from(part.0)).sum::<i128>(), i128::from(amount));
            assert!(days.iter().all(|(day, _)| *day <= to && *day + Millis(DAY) > from), "{from} to {to}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::mutation::CASES))]

        #[test]
        fn whatever_a_mapping_holds_names_labels_that_there_are_or_is_refused(
            text in crate::mutation::text(&["label,tag\nteam,Squad\nteam,owner\ncost-center,CC\nworkload,app\n"])
        ) {
            match crate::mutation::read_file(&text, Mapping::read) {
                Ok(mapping) => assert!(mapping.tags.keys().all(|label| LABELS.contains(&label.as_str()))),
                Err(fault) => assert!(fault.to_string().len() > 20, "{fault}"),
            }
        }
    }
}
