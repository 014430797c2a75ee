//! FOCUS 1.2: what is exported keeps the rules, and a file that breaks one is caught.

use std::path::{Path, PathBuf};

use lowtide::core::fleet::EndedBy;
use lowtide::core::market::CapacityType;
use lowtide::core::record::CarriedData;
use lowtide::core::units::money::MicroUsd;
use lowtide::core::units::time::Millis;
use lowtide::ledger::connect;
use lowtide::ledger::focus::{export, rules, validate};
use lowtide::ledger::poster::post;
use lowtide::ledger::report::Days;
use lowtide::ledger::table_file::{Format, TableFileFault, read_table};
use lowtide::ports::Ledger;

use crate::facts::{Bench, DAY, Dice, Machine, bench, stay};
use crate::rules::random_machine;

pub fn findings(path: &Path) -> Vec<String> {
    validate(path).unwrap().1.into_iter().map(|finding| format!("{} @{}", finding.what, finding.first)).collect()
}

/// The export of a ledger with every kind of row.
pub async fn exported(name: &str, format: Format) -> (PathBuf, u64) {
    let Bench { url, ledger, server: _server } = bench().await;
    let mut dice = Dice(3);
    let mut machines: Vec<Machine> = (0..40).map(|n| random_machine(n, &mut dice)).collect();
    let mut carried = Machine::new("carried", CapacityType::Spot, 91_300, Some(804_800), Millis::from_mins(90), EndedBy::Lowtide);
    carried.stays.push(stay("p", "search", &carried, Millis::from_mins(5), Some(804_800)));
    carried.stays[0].carried =
        Some(CarriedData { gib: 20, from_region: "eu-south-2".into(), price_per_gib: MicroUsd(20_000), moved_by: None });
    let mut free = Machine::new("free", CapacityType::Spot, 91_300, Some(804_800), Millis::from_mins(30), EndedBy::Ec2Interruption);
    free.stays.push(stay("q", "search", &free, Millis::from_mins(5), Some(804_800)));
    machines.extend([carried, free]);
    for machine in &machines {
        ledger.write(&machine.records()).await.unwrap();
    }
    let mut connection = connect(&url).await.unwrap();
    post(&mut connection, DAY + Millis::from_hours(24 * 30)).await.unwrap();
    let path = std::env::temp_dir().join(format!("lowtide-focus-{}-{name}-{:?}.{}", std::process::id(), format, format.extension()));
    let _ = std::fs::remove_file(&path);
    let days = Days { from: Some("2026-07-01".into()), to: Some("2026-08-01".into()) };
    let rows = export(&mut connection, &days, Some("123456789012"), &path, format).await.unwrap();
    (path, rows)
}

#[tokio::test]
async fn the_export_keeps_every_rule_in_both_formats() {
    let (csv, rows) = exported("rules", Format::Csv).await;
    let (parquet, _) = exported("rules", Format::Parquet).await;
    assert!(rows > 100);
    for path in [&csv, &parquet] {
        assert_eq!(findings(path), Vec::<String>::new(), "{}", path.display());
    }
    let all = |path: &Path| {
        let mut rows = Vec::new();
        let names = read_table::<TableFileFault>(path, |_, _, values| {
            rows.push(values.to_vec());
            Ok(())
        });
        assert_eq!(names.unwrap(), rules::OURS);
        rows.sort();
        rows
    };
    assert_eq!(all(&csv), all(&parquet), "both formats hold the same values");
    let place = |name: &str| rules::OURS.iter().position(|column| *column == name).unwrap();
    let found = all(&csv);
    let of_line = |line: &str| found.iter().filter(|row| row[place("x_WasteCategory")].as_deref() == Some(line)).collect::<Vec<_>>();
    let egress = of_line("egress").into_iter().find(|row| row[place("PricingQuantity")].as_deref() == Some("20")).unwrap();
    assert_eq!((egress[place("ListCost")].as_deref(), egress[place("EffectiveCost")].as_deref()), (Some("0.4"), Some("0.4")));
    let free = found
        .iter()
        .find(|row| row[place("ResourceId")].as_deref() == Some("i-free") && row[place("x_WasteCategory")].as_deref() == Some("pod"));
    let free = free.unwrap();
    assert_eq!(["PricingQuantity", "ListCost", "EffectiveCost"].map(|name| free[place(name)].as_deref().unwrap()), ["0", "0", "0"]);
    std::fs::remove_file(parquet).unwrap();
    negative_controls(&csv);
    std::fs::remove_file(csv).unwrap();
}

/// Each of these is wrong in one place, and each is caught as what it is.
fn negative_controls(good: &Path) {
    let text = std::fs::read_to_string(good).unwrap();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let names = reader.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let place = |name: &str| names.iter().position(|column| column == name).unwrap();
    let charged = rows.iter().position(|row| &row[place("x_WasteCategory")] == "pod" && &row[place("ListCost")] != "0").unwrap();
    let with = |header: Vec<String>, rows: Vec<Vec<String>>| {
        let path = good.with_extension("bad.csv");
        let mut writer = csv::Writer::from_path(&path).unwrap();
        writer.write_record(&header).unwrap();
        rows.iter().for_each(|row| writer.write_record(row).unwrap());
        writer.flush().unwrap();
        let found = findings(&path);
        std::fs::remove_file(path).unwrap();
        found
    };
    let owned = |record: &csv::StringRecord| record.iter().map(String::from).collect::<Vec<_>>();
    let changed = |changes: &[(&str, &str)]| {
        let mut row = owned(&rows[charged]);
        changes.iter().for_each(|(name, value)| row[place(name)] = (*value).to_owned());
        with(owned(&names), vec![row])
    };
    assert_eq!(changed(&[]), Vec::<String>::new());
    for (changes, said) in [
        (&[("PricingCategory", "Spot")][..], "PricingCategory is not one of Standard, Dynamic, Committed, Other"),
        (&[("ChargeCategory", "Foo")], "ChargeCategory is not one of"),
        (&[("ListCost", "1.5")], "ListCost is not the product of ListUnitPrice and PricingQuantity"),
        (&[("ContractedCost", "1.5")], "ContractedCost is not the product"),
        (&[("BillingCurrency", "DOLLARS")], "BillingCurrency is not a code of ISO 4217"),
        (&[("BillingCurrency", "XXZ")], "BillingCurrency is not a code of ISO 4217"),
        (&[("BilledCost", "1")], "BilledCost is not 0"),
        (&[("EffectiveCost", "")], "EffectiveCost is null"),
        (&[("EffectiveCost", "$1")], "EffectiveCost is not a number"),
        (&[("EffectiveCost", "1,000.00")], "EffectiveCost is not a number"),
        (&[("PricingQuantity", "")], "PricingQuantity is null although ChargeCategory is Usage"),
        (&[("PricingUnit", "")], "PricingUnit is null exactly when PricingQuantity is"),
        (&[("ConsumedQuantity", "")], "ConsumedQuantity is null although"),
        (&[("ChargePeriodStart", "2026-07-20 00:00:00")], "ChargePeriodStart is not a time"),
        (&[("ChargePeriodStart", "2026-07-20T00:00:00+02:00")], "ChargePeriodStart is not a time"),
        (&[("ChargePeriodEnd", "2026-07-01T00:00:00Z")], "ChargePeriodStart is not before ChargePeriodEnd"),
        (&[("BillingPeriodEnd", "2026-06-01T00:00:00Z")], "BillingPeriodStart is not before BillingPeriodEnd"),
        (&[("BillingPeriodStart", "2026-07-31T00:00:00Z")], "ChargePeriodStart lies outside the billing period"),
        (&[("ListUnitPrice", "-0.5")], "ListUnitPrice is negative"),
        (&[("ServiceCategory", "Computing")], "ServiceCategory is not one of FOCUS 1.2"),
        (&[("ServiceSubcategory", "Object Storage")], "ServiceSubcategory does not belong to Compute"),
        (&[("ChargeClass", "Wrong")], "ChargeClass is not one of Correction"),
        (&[("ChargeFrequency", "Daily")], "ChargeFrequency is not one of"),
        (&[("Tags", "team=search")], "Tags is not a JSON object"),
        (&[("Tags", r#"{"team":{"a":1}}"#)], "Tags is not a JSON object of plain values"),
        (&[("RegionName", "")], "RegionName is null exactly when RegionId is"),
        (&[("ProviderName", "  ")], "ProviderName contains only spaces"),
        (&[("SkuId", "")], "SkuId is null although"),
        (&[("x_NetSavings", "99")], "x_NetSavings is not x_BaselineCost less EffectiveCost"),
        (&[("x_Basis", "guess")], "x_Basis is not one of"),
        (&[("x_WasteCategory", "other")], "x_WasteCategory is not one of"),
        (&[("x_DecisionId", "none")], "x_DecisionId is not the id of a decision"),
    ] {
        let found = changed(changes);
        assert!(found.iter().any(|finding| finding.starts_with(said) && finding.ends_with("@1")), "{changes:?}: {found:?}");
    }
    for required in rules::REQUIRED {
        let at = place(required);
        let without = |record: Vec<String>| record.into_iter().enumerate().filter(|(n, _)| *n != at).map(|(_, v)| v).collect::<Vec<_>>();
        let found = with(without(owned(&names)), vec![without(owned(&rows[charged]))]);
        assert!(found.contains(&format!("column {required} is missing @0")), "{required}: {found:?}");
    }
    for (name, said) in [
        ("Savings", "column Savings is neither"),
        ("x_savings", "column x_savings is neither"),
        ("x_DecisionId", "column x_DecisionId is there twice"),
    ] {
        let (mut header, mut row) = (owned(&names), owned(&rows[charged]));
        header.push(name.into());
        row.push("1".into());
        let found = with(header, vec![row]);
        assert!(found.iter().any(|finding| finding.starts_with(said)), "{name}: {found:?}");
    }
    let mut other = owned(&rows[charged]);
    other[place("SkuId")] = "another".into();
    assert!(
        with(owned(&names), vec![owned(&rows[charged]), other])
            .contains(&"SkuPriceId has two parents: one SkuId is expected for each @2".to_owned())
    );
}

/// What AWS has of what the specification makes conditional: 14 of the public model's 18 criteria. It has one type of account each, and one currency.
const CRITERIA: &str = "ACCOUNT_NAMING_SUPPORTED,AVAILABILITY_ZONE_SUPPORTED,CAPACITY_RESERVATION_SUPPORTED,COMMITMENT_DISCOUNT_SUPPORTED,\
    MULTIPLE_PRICING_CATEGORIES_SUPPORTED,NEGOTIATED_PRICING_SUPPORTED,PUBLIC_PRICE_LIST_SUPPORTED,USAGE_MEASUREMENT_SUPPORTED,UNIT_PRICING_SUPPORTED,\
    SUB_ACCOUNT_SUPPORTED,BILLING_BASED_ON_PROVISIONED_RESOURCES_SUPPORTED,RESOURCE_TYPE_ASSIGNMENT_SUPPORTED,REGION_SUPPORTED,TAGGING_SUPPORTED";

const ARGUMENTS: [&str; 7] =
    ["--block-download", "--validate-version", "1.2", "--focus-dataset", "CostAndUsage", "--applicability-criteria", CRITERIA];

/// Rules that fail on every file, each one of a pair that ask for opposite things: the validator leaves out the condition that tells them apart.
const OPPOSITES: [&str; 3] = [
    // Asks for a value although there is no reservation; C-003-C asks for none.
    "CapacityReservationStatus-C-004-C",
    // The same of commitments.
    "CommitmentDiscountStatus-C-004-C",
    // Asks for an invoice on every row; its twin forbids one where the charge is on none.
    "InvoiceId-C-005-C",
];

pub struct Public {
    python: PathBuf,
    packages: PathBuf,
}

impl Public {
    pub fn found() -> Option<Public> {
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        let cache = std::env::var_os("LOWTIDE_CACHE").map_or_else(|| home.join(".cache/lowtide"), PathBuf::from);
        let python = cache.join("venv-focus/bin/python");
        let script = "import focus_validator, os; print(os.path.dirname(os.path.dirname(focus_validator.__file__)))";
        let asked = std::process::Command::new(&python).args(["-c", script]).output().ok().filter(|asked| asked.status.success());
        let Some(asked) = asked else {
            let said = format!("no focus-validator in {}; tests/focus/install.sh installs it", cache.display());
            assert!(std::env::var_os("CI").is_none(), "{said}");
            eprintln!("left out: {said}");
            return None;
        };
        Some(Public { python, packages: PathBuf::from(String::from_utf8_lossy(&asked.stdout).trim()) })
    }

    /// How many rules pass, and which fail by themselves and not by a part of them.
    fn asked(&self, file: &Path) -> (usize, Vec<String>) {
        // It looks for its own files where it is started.
        let mut command = std::process::Command::new(self.python.with_file_name("focus-validator"));
        let done = command.current_dir(&self.packages).args(ARGUMENTS).arg("--data-file").arg(file).output().unwrap();
        outcome(&String::from_utf8_lossy(&done.stdout))
    }

    /// Every rule that fails, of copies of a file with changes in them (see tests/focus/ask.py), each with the path of the copy.
    pub fn asked_of_copies(&self, file: &Path, folder: &Path, copies: &serde_json::Value) -> Vec<(PathBuf, Vec<String>)> {
        use std::io::Write as _;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/focus/ask.py");
        let mut command = std::process::Command::new(&self.python);
        command.arg(script).arg(file).arg(folder).arg("--").args(ARGUMENTS);
        let mut child = command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(copies.to_string().as_bytes()).unwrap();
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success());
        let read = |line: &str| {
            let said: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = said["text"].as_str().unwrap();
            assert!(text.contains("Total: "), "{text}");
            (PathBuf::from(said["file"].as_str().unwrap()), failures(text).map(|(rule, _)| rule).collect())
        };
        String::from_utf8_lossy(&done.stdout).lines().map(read).collect()
    }
}

/// What the public validator printed: how many rules pass, and which fail by themselves and not by a part of them.
fn outcome(text: &str) -> (usize, Vec<String>) {
    let total = text.lines().find_map(|line| line.strip_prefix("Total: ")).unwrap_or_else(|| panic!("{text}"));
    let passed = total.split("Pass: ").nth(1).and_then(|rest| rest.split(' ').next()).and_then(|n| n.parse().ok()).unwrap();
    let mut failed: Vec<String> = failures(text).filter(|(_, why)| !why.contains("failed child rules")).map(|(rule, _)| rule).collect();
    failed.sort();
    (passed, failed)
}

/// Rules that fail, with what it says of them.
fn failures(text: &str) -> impl Iterator<Item = (String, &str)> {
    let failed = text.lines().filter_map(|line| line.split_once(": FAIL"));
    failed.filter_map(|(rule, why)| Some((rule.split(' ').next_back()?.to_owned(), why)))
}

/// X03: the public validator with all 14 criteria: what fails is named above with its reason.
#[tokio::test]
async fn the_public_validator_finds_nothing_that_is_not_named() {
    let Some(public) = Public::found() else { return };
    let (own, _) = exported("public", Format::Parquet).await;
    let (passed, failed) = public.asked(&own);
    assert_eq!(failed, OPPOSITES);
    assert!(passed > 300, "only {passed} rules passed");
    println!("{passed} rules of the public model passed, and {} that contradict others failed", failed.len());
    std::fs::remove_file(own).unwrap();
}

/// A CI that has no Python for the public validator and can take none from Debian fails: it would be green without having asked it.
#[test]
fn ci_does_not_leave_the_public_validator_out() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = crate::imports::Folder::new("focus-python");
    for name in ["python3", "python3.12", "python3.13", "python3.14", "apt-get"] {
        let old = folder.file(name, "#!/bin/sh\nexit 1\n");
        std::fs::set_permissions(old, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", folder.0.display(), std::env::var("PATH").unwrap());
    let install = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/focus/install.sh");
    let run = |ci: Option<&str>, args: &[&str]| {
        let mut command = std::process::Command::new(&install);
        command.args(args).env("PATH", &path).env("HOME", &folder.0).env("LOWTIDE_CACHE", &folder.0).env_remove("CI");
        let done = command.envs(ci.map(|ci| ("CI", ci))).output().unwrap();
        (done.status.success(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    for (ci, args, passes) in [(None, &[][..], true), (Some("true"), &[][..], false), (None, &["--find"][..], false)] {
        let (passed, said) = run(ci, args);
        assert!(passed == passes && said.contains("no Python 3.12 or later for the public FOCUS validator"), "{ci:?} {args:?}: {said}");
    }
    let ci = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/run")).unwrap();
    assert!(ci.contains("export CI=true") && !ci.contains("unset CI"), "CI is told to go on without it");
}
