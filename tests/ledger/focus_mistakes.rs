//! Mistakes that are drawn into an export: what the public validator finds ours finds as well, and the other way round, but for what is named here.

use std::collections::BTreeSet;

use lowtide::ledger::focus::rules;
use lowtide::ledger::table_file::Format;
use serde_json::json;

use crate::facts::Dice;
use crate::focus::{Public, exported, findings};
use crate::imports::Folder;

/// What a mistake does to a column.
#[derive(Debug, Clone, PartialEq)]
enum Mistake {
    Null,
    Dropped,
    Word(String),
    /// A word in every row.
    Everywhere(String),
    Number(String),
}

/// Mistakes that ours alone finds, with the reason. One of them that the public one finds as well fails the test: then the reason is none any more.
fn ours_alone(column: &str, mistake: &Mistake) -> Option<&'static str> {
    match (column, mistake) {
        (column, Mistake::Word(_)) if OF_ANY_ROW.contains(&column) => {
            Some("it passes a column of which some rows have a word that is allowed; one without any it finds")
        }
        ("x_Basis" | "x_WasteCategory", Mistake::Word(_)) => Some("columns of ours: the public model knows none"),
        ("BilledCost", Mistake::Number(_)) => Some("that an enrichment bills nothing is our own promise"),
        ("PricingCurrency", Mistake::Null | Mistake::Word(_)) => {
            Some("its rules wait for a criterion of several currencies, which AWS does not meet")
        }
        ("ServiceSubcategory", Mistake::Word(_)) => Some("it passes every subcategory that it knows, whatever the category"),
        ("ListCost" | "ContractedCost", Mistake::Number(_)) => {
            Some("its condition compares a ChargeClass that is null, and so never holds")
        }
        (_, Mistake::Null) if rules::NOT_NULL_FOR_USE.contains(&column) => {
            Some("its condition compares a ChargeClass that is null, and so never holds")
        }
        _ => None,
    }
}

/// Columns whose words the public validator looks for in all rows at once.
const OF_ANY_ROW: [&str; 4] = ["ChargeCategory", "ChargeFrequency", "PricingCategory", "ServiceCategory"];

/// Every mistake that is drawn from: each null, each column left out, words that are none of a column's, and figures.
fn all(dice: &mut Dice) -> Vec<(&'static str, Mistake)> {
    let mut word =
        || -> String { (0..dice.between(3, 9)).map(|_| char::from(b'a' + u8::try_from(dice.between(0, 25)).unwrap())).collect() };
    let nulls = rules::NOT_NULL.into_iter().chain(rules::NOT_NULL_FOR_USE).chain([
        "RegionName",
        "ResourceType",
        "SubAccountName",
        "PricingUnit",
        "ConsumedUnit",
        "SkuMeter",
    ]);
    let mut all: Vec<(&str, Mistake)> = nulls.map(|column| (column, Mistake::Null)).collect();
    all.extend(rules::REQUIRED.into_iter().map(|column| (column, Mistake::Dropped)));
    for column in [
        "ChargeCategory",
        "ChargeFrequency",
        "PricingCategory",
        "ServiceCategory",
        "BillingCurrency",
        "PricingCurrency",
        "CapacityReservationStatus",
        "CommitmentDiscountCategory",
        "CommitmentDiscountName",
        "x_Basis",
        "x_WasteCategory",
    ] {
        all.push((column, Mistake::Word(word())));
    }
    all.extend(OF_ANY_ROW.map(|column| (column, Mistake::Everywhere(word()))));
    all.push(("ServiceSubcategory", Mistake::Word("Object Storage".into())));
    for (column, figures) in [
        ("ListUnitPrice", -999..-1),
        ("ContractedUnitPrice", -999..-1),
        ("PricingCurrencyListUnitPrice", -999..-1),
        ("ListCost", 900..999),
        ("ContractedCost", 900..999),
        ("BilledCost", 1..999),
    ] {
        all.push((column, Mistake::Number(dice.between(figures.start, figures.end).to_string())));
    }
    all
}

/// A mistake and the rows it is in.
type Placed = (&'static str, Mistake, Vec<usize>);

/// Mistakes of one copy: of different columns, in different rows, so that one hides no other. Columns are left out of copies of their own, and so is what is in every row.
fn copies(dice: &mut Dice, rows: usize) -> Vec<Vec<Placed>> {
    const IN_ONE: usize = 9;
    let mut left = all(dice);
    let mut copies: Vec<Vec<(&'static str, Mistake)>> = Vec::new();
    while !left.is_empty() {
        let at = usize::try_from(dice.between(0, i64::try_from(left.len() - 1).unwrap())).unwrap();
        let (column, mistake) = left.swap_remove(at);
        let kind = |of: &Mistake| match of {
            Mistake::Dropped => 0,
            Mistake::Everywhere(_) => 1,
            _ => 2,
        };
        let fits = |copy: &&mut Vec<(&str, Mistake)>| {
            let alike = copy.iter().all(|(of, other)| *of != column && kind(other) == kind(&mistake));
            alike && (kind(&mistake) < 2 || copy.len() < IN_ONE)
        };
        match copies.iter_mut().find(fits) {
            Some(copy) => copy.push((column, mistake)),
            None => copies.push(vec![(column, mistake)]),
        }
    }
    let placed = |copy: Vec<(&'static str, Mistake)>| {
        let shares = copy.len();
        let rows_of = |n: usize, mistake: &Mistake| match mistake {
            Mistake::Everywhere(_) => (0..rows).collect(),
            _ => (n..rows).step_by(shares).collect(),
        };
        copy.into_iter()
            .enumerate()
            .map(|(n, (column, mistake))| {
                let rows = rows_of(n, &mistake);
                (column, mistake, rows)
            })
            .collect()
    };
    copies.into_iter().map(placed).collect()
}

/// `LOWTIDE_FOCUS_SEED` draws others.
#[tokio::test]
async fn both_validators_find_the_same_drawn_mistakes() {
    let Some(public) = Public::found() else { return };
    let (own, rows) = exported("drawn", Format::Parquet).await;
    let seed = std::env::var("LOWTIDE_FOCUS_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(9);
    let copies = copies(&mut Dice(seed), usize::try_from(rows).unwrap());
    let change = |(column, mistake, rows): &Placed| match mistake {
        Mistake::Null => json!({ "column": column, "kind": "null", "value": null, "rows": rows }),
        Mistake::Dropped => json!({ "column": column, "kind": "drop", "value": null, "rows": [] }),
        Mistake::Word(word) | Mistake::Everywhere(word) => json!({ "column": column, "kind": "text", "value": word, "rows": rows }),
        Mistake::Number(figure) => json!({ "column": column, "kind": "number", "value": figure, "rows": rows }),
    };
    // What fails without any mistake is no answer to one.
    let mut changes: Vec<Vec<_>> = vec![Vec::new()];
    changes.extend(copies.iter().map(|copy| copy.iter().map(change).collect()));
    let folder = Folder::new("focus-mistakes");
    let mut answers = public.asked_of_copies(&own, &folder.0, &json!(changes));
    let without: BTreeSet<String> = answers.remove(0).1.into_iter().collect();
    assert_eq!(answers.len(), copies.len());
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (copy, (file, failed)) in copies.iter().zip(answers) {
        let here = findings(&file);
        for (column, mistake, _) in copy {
            count += 1;
            let of_column = |rule: &&String| rule.starts_with(&format!("{column}-")) && !without.contains(*rule);
            let theirs: BTreeSet<&String> = failed.iter().filter(of_column).collect();
            let about = |finding: &&String| finding.starts_with(&format!("{column} ")) || finding.starts_with(&format!("column {column} "));
            let ours: Vec<&String> = here.iter().filter(about).collect();
            let expected = (true, ours_alone(column, mistake).is_none());
            if (!ours.is_empty(), !theirs.is_empty()) != expected {
                wrong.push(format!("{column} {mistake:?}: ours {ours:?}, the public one {theirs:?}"));
            }
        }
    }
    std::fs::remove_file(own).unwrap();
    assert!(wrong.is_empty(), "seed {seed}:\n{}", wrong.join("\n"));
    println!("{count} mistakes in {} copies", copies.len());
    assert!(count > 90, "{count}");
}
