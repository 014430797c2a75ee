//! Whether a file is FOCUS 1.2 as we promise it.
//!
//! Decides: every rule that can be checked on the file alone: columns, nulls, formats, closed lists, units, periods, exact products, and
//! what our own columns mean. What only AWS could know (that an id is unique within a provider) is not checked.

use std::collections::BTreeMap;
use std::path::Path;

use super::decimal::Decimal;
use super::rules;
use crate::ledger::table_file::{TableFileFault, read_table};

/// The file could not be read at all.
#[derive(Debug, thiserror::Error)]
pub enum ValidateFault {
    /// Why.
    #[error(transparent)]
    File(#[from] TableFileFault),
}

/// A rule that the file breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong, with its column.
    pub what: String,
    /// In how many rows; 0 when it is about the file's columns.
    pub rows: u64,
    /// The first of them; 1 is the first below the header.
    pub first: u64,
    /// What stands there.
    pub example: String,
}

/// What is wrong, by rule.
#[derive(Default)]
struct Findings(BTreeMap<String, Finding>);

impl Findings {
    fn add(&mut self, what: String, row: u64, example: &str) {
        let found = self.0.entry(what.clone()).or_insert_with(|| Finding {
            what,
            rows: 0,
            first: row,
            example: example.chars().take(80).collect(),
        });
        found.rows += u64::from(row > 0);
    }
}

struct Row<'a> {
    places: &'a BTreeMap<String, usize>,
    values: &'a [Option<String>],
}

impl<'a> Row<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        self.places.get(name).and_then(|at| self.values.get(*at)).and_then(Option::as_deref)
    }
    fn number(&self, name: &str) -> Option<Decimal> {
        self.get(name).and_then(Decimal::read)
    }
}

/// Checks a CSV or Parquet file. Gives how many rows it has and every rule it breaks.
///
/// # Errors
/// When the file cannot be read; what is wrong with its content is a [`Finding`].
pub fn validate(path: &Path) -> Result<(u64, Vec<Finding>), ValidateFault> {
    let mut findings = Findings::default();
    let mut places = BTreeMap::new();
    let mut parents: BTreeMap<(&str, String), String> = BTreeMap::new();
    let mut rows = 0;
    let names = read_table::<ValidateFault>(path, |names, number, values| {
        if places.is_empty() {
            places = names.iter().cloned().zip(0..).collect();
        }
        rows = number;
        let row = Row { places: &places, values };
        one_row(&row, number, &mut findings);
        for (child, parent) in [("SkuPriceId", "SkuId"), ("ServiceName", "ServiceCategory")] {
            let (Some(of), Some(is)) = (row.get(child), row.get(parent)) else { continue };
            if parents.entry((child, of.to_owned())).or_insert_with(|| is.to_owned()) != is {
                findings.add(format!("{child} has two parents: one {parent} is expected for each"), number, of);
            }
        }
        Ok(())
    })?;
    columns(&names, &mut findings);
    Ok((rows, findings.0.into_values().collect()))
}

fn columns(names: &[String], findings: &mut Findings) {
    for missing in rules::REQUIRED.iter().filter(|required| !names.iter().any(|name| name == *required)) {
        findings.add(format!("column {missing} is missing"), 0, "");
    }
    for name in names {
        let custom = name.strip_prefix("x_").is_some_and(|rest| {
            rest.starts_with(|c: char| c.is_ascii_uppercase()) && rest.bytes().all(|b| b.is_ascii_alphanumeric()) && name.len() <= 50
        });
        if !custom && !rules::OURS.contains(&name.as_str()) && !rules::OTHERS.contains(&name.as_str()) {
            findings.add(format!("column {name} is neither of FOCUS 1.2 nor x_ with PascalCase and at most 50 characters"), 0, "");
        }
        if names.iter().filter(|other| *other == name).count() > 1 {
            findings.add(format!("column {name} is there twice"), 0, "");
        }
    }
}

fn one_row(row: &Row, number: u64, findings: &mut Findings) {
    nulls(row, number, findings);
    formats(row, number, findings);
    closed_lists(row, number, findings);
    periods(row, number, findings);
    amounts(row, number, findings);
    signs(row, number, findings);
    our_promises(row, number, findings);
}

/// Whether the row is use or a purchase, and no correction of a closed period.
fn is_use(row: &Row) -> bool {
    matches!(row.get("ChargeCategory"), Some("Usage" | "Purchase")) && row.get("ChargeClass") != Some("Correction")
}

fn nulls(row: &Row, number: u64, findings: &mut Findings) {
    let there = |name: &str| row.places.contains_key(name);
    for name in rules::NOT_NULL.iter().filter(|name| there(name) && row.get(name).is_none()) {
        findings.add(format!("{name} is null"), number, "");
    }
    if is_use(row) {
        for name in rules::NOT_NULL_FOR_USE.iter().filter(|name| there(name) && row.get(name).is_none()) {
            findings.add(format!("{name} is null although ChargeCategory is Usage or Purchase"), number, "");
        }
    }
    for (of, with) in rules::TOGETHER.iter().filter(|(of, with)| there(of) && there(with)) {
        if row.get(of).is_some() != row.get(with).is_some() {
            findings.add(
                format!("{with} is null exactly when {of} is, and here is not"),
                number,
                row.get(of).or(row.get(with)).unwrap_or_default(),
            );
        }
    }
    if row.get("CommitmentDiscountId").is_none()
        && let Some(name) = row.get("CommitmentDiscountName")
    {
        findings.add("CommitmentDiscountName must be null when CommitmentDiscountId is".into(), number, name);
    }
    if row.get("ChargeCategory") == Some("Tax") {
        let of_use = rules::NOT_NULL_FOR_USE.iter().filter(|name| row.get(name).is_some());
        for name in of_use {
            findings.add(format!("{name} must be null when ChargeCategory is Tax"), number, row.get(name).unwrap_or_default());
        }
    }
    let unused = row.get("CommitmentDiscountStatus") == Some("Unused");
    let usage = row.get("ChargeCategory") == Some("Usage") && !unused;
    match (row.get("ConsumedQuantity"), usage) {
        (Some(quantity), false) => findings.add("ConsumedQuantity must be null when ChargeCategory is not Usage".into(), number, quantity),
        (None, true) if there("ConsumedQuantity") && row.get("ChargeClass") != Some("Correction") => {
            findings.add("ConsumedQuantity is null although ChargeCategory is Usage".into(), number, "");
        }
        _ => {}
    }
}

fn formats(row: &Row, number: u64, findings: &mut Findings) {
    for name in rules::NUMBERS {
        if let Some(text) = row.get(name).filter(|text| Decimal::read(text).is_none()) {
            findings.add(format!("{name} is not a number as FOCUS writes it"), number, text);
        }
    }
    for name in rules::TIMES {
        if let Some(text) = row.get(name).filter(|text| time_of(text).is_none()) {
            findings.add(format!("{name} is not a time as 2026-07-20T07:00:00Z"), number, text);
        }
    }
    for (name, at) in row.places {
        if let Some(text) = row.values.get(*at).and_then(Option::as_deref).filter(|text| text.trim().is_empty()) {
            findings.add(format!("{name} contains only spaces; null is expected where there is no value"), number, text);
        }
    }
    for name in ["Tags", "SkuPriceDetails"] {
        let flat = |text: &str| {
            let object: Option<serde_json::Map<String, serde_json::Value>> = serde_json::from_str(text).ok();
            object.is_some_and(|object| object.values().all(|value| !value.is_object() && !value.is_array()))
        };
        if let Some(text) = row.get(name).filter(|text| !flat(text)) {
            findings.add(format!("{name} is not a JSON object of plain values"), number, text);
        }
    }
    for name in ["BillingCurrency", "PricingCurrency"] {
        let known = |code: &str| code.len() == 3 && rules::CURRENCIES.split_whitespace().any(|c| c == code);
        if let Some(currency) = row.get(name).filter(|code| !known(code)) {
            findings.add(format!("{name} is not a code of ISO 4217"), number, currency);
        }
    }
}

/// The one form FOCUS allows; written so, times sort as text.
fn time_of(text: &str) -> Option<&str> {
    let shape = text.len() == 20 && text.ends_with('Z') && text.as_bytes().get(10) == Some(&b'T');
    (shape && text.parse::<jiff::Timestamp>().is_ok()).then_some(text)
}

fn closed_lists(row: &Row, number: u64, findings: &mut Findings) {
    for (name, allowed) in rules::ALLOWED {
        if let Some(value) = row.get(name).filter(|value| !allowed.contains(value)) {
            findings.add(format!("{name} is not one of {}", allowed.join(", ")), number, value);
        }
    }
    let category = row.get("ServiceCategory");
    let known = rules::SERVICES.iter().find(|(name, _)| Some(*name) == category);
    if let (Some(category), None) = (category, known) {
        findings.add("ServiceCategory is not one of FOCUS 1.2".into(), number, category);
    }
    if let (Some(sub), Some((name, subs))) = (row.get("ServiceSubcategory"), known)
        && !subs.contains(&sub)
    {
        findings.add(format!("ServiceSubcategory does not belong to {name}"), number, sub);
    }
    if row.get("ChargeCategory") == Some("Purchase") && row.get("ChargeFrequency") == Some("Usage-Based") {
        findings.add("ChargeFrequency must not be Usage-Based for a Purchase".into(), number, "Usage-Based");
    }
}

fn periods(row: &Row, number: u64, findings: &mut Findings) {
    let [billed_from, billed_to, from, to] =
        ["BillingPeriodStart", "BillingPeriodEnd", "ChargePeriodStart", "ChargePeriodEnd"].map(|name| row.get(name).and_then(time_of));
    if let (Some(from), Some(to)) = (from, to)
        && from >= to
    {
        findings.add("ChargePeriodStart is not before ChargePeriodEnd".into(), number, from);
    }
    if let (Some(from), Some(to)) = (billed_from, billed_to)
        && from >= to
    {
        findings.add("BillingPeriodStart is not before BillingPeriodEnd".into(), number, from);
    }
    if let (Some(first), Some(next), Some(at)) = (billed_from, billed_to, from)
        && !(first <= at && at < next)
    {
        findings.add("ChargePeriodStart lies outside the billing period".into(), number, at);
    }
}

fn amounts(row: &Row, number: u64, findings: &mut Findings) {
    for (cost, price) in [("ListCost", "ListUnitPrice"), ("ContractedCost", "ContractedUnitPrice")] {
        if let Some(unit) = row.number(price)
            && unit.is_negative()
        {
            findings.add(format!("{price} is negative"), number, row.get(price).unwrap_or_default());
        }
        let product = row.number(price).zip(row.number("PricingQuantity")).and_then(|(unit, quantity)| unit.times(quantity));
        if let (Some(product), Some(amount)) = (product, row.number(cost))
            && row.get("ChargeClass") != Some("Correction")
            && !product.same_as(amount)
        {
            findings.add(format!("{cost} is not the product of {price} and PricingQuantity"), number, row.get(cost).unwrap_or_default());
        }
    }
}

/// Amounts of which a sign or a value follows from the row.
fn signs(row: &Row, number: u64, findings: &mut Findings) {
    for name in ["PricingCurrencyListUnitPrice", "PricingCurrencyContractedUnitPrice"] {
        if row.number(name).is_some_and(|price| price.is_negative()) {
            findings.add(format!("{name} is negative"), number, row.get(name).unwrap_or_default());
        }
    }
    if row.get("ChargeCategory") == Some("Purchase") && row.number("EffectiveCost").is_some_and(|cost| !cost.is_zero()) {
        let cost = row.get("EffectiveCost").unwrap_or_default();
        findings.add("EffectiveCost is not 0 for a Purchase: what it paid for is its cost".into(), number, cost);
    }
}

/// What our own rows mean: they enrich an invoice and bill nothing, and savings are against the named baseline.
fn our_promises(row: &Row, number: u64, findings: &mut Findings) {
    if row.get("x_DecisionId").is_none() && !row.places.contains_key("x_NetSavings") {
        return;
    }
    if let Some(billed) = row.get("BilledCost").filter(|text| Decimal::read(text).is_some_and(|billed| !billed.is_zero())) {
        findings.add("BilledCost is not 0: these rows enrich an invoice, only its issuer bills".into(), number, billed);
    }
    if let Some(decision) = row.get("x_DecisionId").filter(|id| uuid::Uuid::parse_str(id).is_err()) {
        findings.add("x_DecisionId is not the id of a decision".into(), number, decision);
    }
    let saved = row.number("x_BaselineCost").zip(row.number("EffectiveCost")).and_then(|(baseline, cost)| baseline.minus(cost));
    if let (Some(saved), Some(said)) = (saved, row.number("x_NetSavings"))
        && !saved.same_as(said)
    {
        findings.add("x_NetSavings is not x_BaselineCost less EffectiveCost".into(), number, row.get("x_NetSavings").unwrap_or_default());
    }
    if row.get("x_BaselineCost").is_some() != row.get("x_NetSavings").is_some() {
        findings.add("x_NetSavings is known exactly when x_BaselineCost is".into(), number, row.get("x_NetSavings").unwrap_or_default());
    }
}
