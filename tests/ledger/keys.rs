//! Several keys, filters, months and a day of knowledge: every report takes them and says the same by each.

use lowtide::core::accounting::forecast::Scenario;
use lowtide::core::fleet::EndedBy;
use lowtide::core::market::CapacityType;
use lowtide::core::record::LedgerRecord;
use lowtide::core::units::ids::ObjectRef;
use lowtide::core::units::time::Millis;
use lowtide::core::workload::need::UsageUnit;
use lowtide::ledger::import::{Format, UsageHour, store_usage};
use lowtide::ledger::plans::{budget, forecast, recommendations};
use lowtide::ledger::poster::post;
use lowtide::ledger::reconcile::reconcile;
use lowtide::ledger::report::{self, By, Days, EconomicsBy, Month, RefusalsBy, ReliabilityBy, Report, VarianceBy};
use lowtide::ledger::{connect, explain};
use lowtide::ports::Ledger;
use sqlx::PgConnection;

use crate::facts::{Bench, DAY, Machine, bench, decision, interruption, rows_of, stay};
use crate::imports::{Folder, LATER, taken};

/// A day of `chat` for search and a day for vision, at a dollar an hour; of the second day's usage half is known.
async fn two_teams(ledger: &lowtide::ledger::PgLedger, connection: &mut PgConnection) {
    for (name, team, from) in [("a", "search", DAY), ("b", "vision", DAY + Millis::from_hours(24))] {
        let mut machine = Machine::new(name, CapacityType::Spot, 1_000_000, Some(3_000_000), Millis::from_hours(24), EndedBy::Lowtide);
        (machine.interval.from, machine.interval.to) = (from, from + Millis::from_hours(24));
        let mut stay = stay(&format!("pod-{name}"), team, &machine, Millis::ZERO, Some(3_000_000));
        stay.workload = "chat".into();
        machine.stays.push(stay);
        ledger.write(&machine.records()).await.unwrap();
        let interruption = interruption(&machine, machine.interval.to - Millis::from_secs(120));
        ledger
            .write(&[LedgerRecord::Decision(Box::new(decision(&machine))), LedgerRecord::Interruption(Box::new(interruption))])
            .await
            .unwrap();
    }
    post(connection, LATER).await.unwrap();
    let hour = |n: i64| UsageHour {
        workload: ObjectRef { namespace: "ml".into(), name: "chat".into() },
        hour: DAY + Millis::from_hours(n),
        unit: UsageUnit::Requests,
        micro_units: 100_000_000,
    };
    store_usage(connection, &(0..36).map(hour).collect::<Vec<_>>(), "test").await.unwrap();
}

fn july() -> Days {
    "2026-07".parse::<Month>().unwrap().days()
}

/// The values of one column.
fn column(report: &Report, name: &str) -> Vec<String> {
    let at = report.columns.iter().position(|column| column == name).unwrap_or_else(|| panic!("{name} of {:?}", report.columns));
    report.rows.iter().map(|row| row[at].clone().unwrap_or_default()).collect()
}

#[tokio::test]
async fn every_report_takes_several_keys_and_filters() {
    let Bench { url, ledger, server: _server } = bench().await;
    let mut connection = connect(&url).await.unwrap();
    two_teams(&ledger, &mut connection).await;
    let folder = Folder::new("keys");
    let revenue = folder.file("r.csv", "period,workload,revenue_usd\n2026-07-20,ml/chat,60\n2026-07-21,ml/chat,40\n");
    taken(&mut connection, Format::Revenue, &[revenue]).await.unwrap();
    let costs = folder.file("c.csv", "period,item,cost_usd,team,workload\n2026-07-21,llm-api,12,vision,ml/chat\n");
    taken(&mut connection, Format::Costs, &[costs]).await.unwrap();
    let only = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<report::Only>>();

    let cost =
        report::cost(&mut connection, &july(), vec![By::Team, By::Day], &only(&["line=pod", "team=search", "team=vision", "team=nobody"]))
            .await
            .unwrap();
    assert_eq!(column(&cost, "team"), ["search", "vision", "total"]);
    assert_eq!(column(&cost, "day"), ["2026-07-20", "2026-07-21", ""]);
    assert_eq!(column(&cost, "cost_usd"), ["24.000000", "24.000000", "48.000000"]);
    let savings = report::savings(&mut connection, &july(), vec![By::CapacityType, By::Team], &only(&["team=vision"])).await.unwrap();
    // The API is no machine's.
    assert_eq!(column(&savings, "capacity_type"), ["spot", "(none)", "total"]);
    assert_eq!(column(&savings, "net_saving_usd"), ["48.000000", "0.000000", "48.000000"], "{:?}", rows_of(&savings));

    let units = report::unit_costs(&mut connection, &july(), UsageUnit::Requests, vec![By::Team, By::Day], &[]).await.unwrap();
    assert_eq!(column(&units, "team"), ["search", "vision", "total"]);
    assert_eq!(column(&units, "units"), ["2400", "1200", "3600"]);
    let vision = report::unit_costs(&mut connection, &july(), UsageUnit::Requests, By::Workload, &only(&["team=vision"])).await.unwrap();
    // Half a day of machines and of the API, and half of the day's revenue.
    assert_eq!((column(&vision, "units"), column(&vision, "cost_usd")), (vec!["1200".to_owned(); 2], vec!["18.00".to_owned(); 2]));
    assert_eq!(column(&vision, "revenue_per_unit")[0], "0.01667");
    assert_eq!(column(&vision, "coverage_percent")[0], "50.0");

    let (june, this) = ("2026-06".parse::<Month>().unwrap(), "2026-07".parse::<Month>().unwrap());
    let by_team = VarianceBy::Keys(vec![By::Team, By::Component].into());
    let variance = report::variance(&mut connection, &june, &this, by_team, &[], LATER).await.unwrap();
    assert_eq!(column(&variance, "team"), ["vision", "search"], "{:?}", rows_of(&variance));
    assert_eq!(column(&variance, "component"), ["(untagged)", "(untagged)"]);
    assert_eq!(column(&variance, "difference_usd"), ["36.000000", "24.000000"]);
    assert_eq!(column(&variance, "workload_that_changed_most")[0], "ml/chat +$36.00");
    let of_vision =
        report::variance(&mut connection, &june, &this, VarianceBy::Step, &only(&["team=vision", "line=pod"]), LATER).await.unwrap();
    assert!(
        of_vision.sentence.starts_with("2026-07 cost $24.00, $24.00 more than 2026-06; mostly volume (+$24.00)"),
        "{}",
        of_vision.sentence
    );
    let nobody = report::variance(&mut connection, &june, &this, VarianceBy::Workload, &only(&["team=nobody"]), LATER).await.unwrap();
    assert_eq!((nobody.sentence.as_str(), nobody.to_csv().lines().count()), ("Neither 2026-06 nor 2026-07 has any spend.", 1));
    for (words, refused) in
        [(&["step", "team"][..], "steps stand alone"), (&["day"], "it cannot be grouped by day or month"), (&["line"], "lines are steps")]
    {
        let words: Vec<report::VarianceKey> = words.iter().map(|word| word.parse().unwrap()).collect();
        assert!(VarianceBy::of(&words).unwrap_err().contains(refused));
    }

    let economics = async |connection: &mut PgConnection, by: &[EconomicsBy], only: &[&str]| {
        let only: Vec<report::EconomicsOnly> = only.iter().map(|text| text.parse().unwrap()).collect();
        report::unit_economics(connection, &july(), by, &only).await
    };
    let endpoints = economics(&mut connection, &[EconomicsBy::Month, EconomicsBy::Endpoint], &["team=vision"]).await.unwrap();
    assert_eq!((column(&endpoints, "month"), column(&endpoints, "endpoint")), (vec!["2026-07".to_owned()], vec!["ml/chat".to_owned()]));
    assert_eq!((column(&endpoints, "cost_usd")[0].as_str(), column(&endpoints, "requests")[0].as_str()), ("36.000000", "1200"));
    assert_eq!((column(&endpoints, "usd_per_request")[0].as_str(), column(&endpoints, "revenue_usd")[0].as_str()), ("0.015", "40.000000"));
    assert!(endpoints.sentence.starts_with("AI cost $36.00: machines $24.00, vendors' APIs $12.00"), "{}", endpoints.sentence);
    let of_all = economics(&mut connection, &[EconomicsBy::Endpoint], &[]).await.unwrap();
    assert_eq!((column(&of_all, "cost_usd")[0].as_str(), column(&of_all, "requests")[0].as_str()), ("60.000000", "3600"));
    let of_month = economics(&mut connection, &[EconomicsBy::Month], &["team=search"]).await.unwrap();
    assert_eq!((column(&of_month, "cost_usd")[0].as_str(), column(&of_month, "revenue_usd")[0].as_str()), ("24.000000", "60.000000"));
    let percentiles = economics(&mut connection, &[EconomicsBy::Percentiles], &["workload=ml/chat"]).await.unwrap();
    assert_eq!(column(&percentiles, "units"), ["3600"]);
    for (by, only, said) in [
        (&[EconomicsBy::Model, EconomicsBy::Endpoint][..], &[][..], "expected one of endpoint, model and percentiles"),
        (&[EconomicsBy::Month], &["model=x"], "a month and percentiles are of all models"),
    ] {
        assert!(economics(&mut connection, by, only).await.unwrap_err().to_string().contains(said));
    }

    let zones = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<report::ReliabilityOnly>>();
    let by = [ReliabilityBy::Region, ReliabilityBy::CapacityType];
    let reliability = report::reliability(&mut connection, &july(), &by, &zones(&["capacity-type=spot"])).await.unwrap();
    assert_eq!((column(&reliability, "region"), column(&reliability, "machines")), (vec!["us-east-1".to_owned()], vec!["2".to_owned()]));
    let elsewhere = report::reliability(&mut connection, &july(), &by, &zones(&["region=eu-west-1"])).await.unwrap();
    assert_eq!(elsewhere.sentence, "No machine ran in these days; no pod was moved.");
    assert!(elsewhere.to_csv().starts_with("region,capacity_type,machines,"), "a table without rows has its header");

    // What figures rest on, of a part; all parts together are the whole, item by item.
    let items = async |connection: &mut PgConnection, texts: &[&str]| {
        let trust = report::trust(connection, &july(), &only(texts)).await.unwrap();
        trust.rows.into_iter().take(8).map(|row| (row[0].clone().unwrap(), row[1].clone().unwrap())).collect::<Vec<_>>()
    };
    let whole = items(&mut connection, &[]).await;
    assert_eq!(items(&mut connection, &["team=search", "team=vision"]).await, whole);
    let of_vision = items(&mut connection, &["team=vision"]).await;
    let usd = |item: &str| of_vision.iter().find(|(name, _)| name.starts_with(item)).unwrap().1.as_str();
    assert_eq!((usd("spend computed"), usd("spend entered")), ("24.000000", "12.000000"), "{of_vision:?}");
    // Budgets for a label, and a forecast of a part of the spend.
    let text = "budgets:\n- {name: search, from: 2026-07, monthlyUsd: '100', for: {team: search}}\n- {name: all, from: 2026-07, monthlyUsd: '9000'}\n";
    budget::enter(&mut connection, &budget::read("b", text).unwrap()).await.unwrap();
    let budgets =
        async |connection: &mut PgConnection, texts: &[&str]| budget::report(connection, &this, LATER, &only(texts)).await.unwrap();
    assert_eq!(column(&budgets(&mut connection, &["team=search"]).await, "budget"), ["search"]);
    let nobodys = budgets(&mut connection, &["team=nobody"]).await;
    assert_eq!(nobodys.sentence, "None of the 2 budgets of 2026-07 is for that.");
    let of_nobody = forecast::make(&mut connection, LATER, 1, &Scenario::usual(), &only(&["team=nobody"])).await.unwrap_err().to_string();
    assert_eq!(of_nobody, "0 full days of cost are known; a forecast needs 14");
    // Two weeks, of which the first has both teams' day.
    let then = DAY + Millis::from_hours(24 * 14);
    let of_all = forecast::make(&mut connection, then, 1, &Scenario::usual(), &[]).await.unwrap();
    let of_search = forecast::make(&mut connection, then, 1, &Scenario::usual(), &only(&["team=search"])).await.unwrap();
    let high = |made: &forecast::Forecast| made.scenarios["base"].1[0][""].high;
    assert!(high(&of_search) > 0.0 && high(&of_search) < high(&of_all), "{} of {}", high(&of_search), high(&of_all));
    // Several months of a comparison with the bill, each row with its month.
    let months = lowtide::ledger::reconcile::of_months(&mut connection, &[this, june]).await.unwrap();
    assert_eq!(
        (months.columns[0].as_str(), rows_of(&months)),
        ("month", vec!["2026-07 not on the bill or feed yet - 48 48.000000 - -".to_owned()])
    );
    assert!(months.sentence.starts_with("Nothing is posted for 2026-06. 2026-07: AWS confirmed 0 instance-hours"), "{}", months.sentence);

    let refusals = report::refusals(&mut connection, &july(), &[RefusalsBy::Reason, RefusalsBy::Zone], &[]).await.unwrap();
    assert_eq!(rows_of(&refusals), ["cooling-down use1-az2 2 2 0.9910", "dearer use1-az1 2 2 1.0100"]);
    let cooling = report::refusals(&mut connection, &july(), &[RefusalsBy::Zone], &["reason=cooling-down".parse().unwrap()]).await.unwrap();
    assert_eq!(
        cooling.sentence,
        "2 refused offers are on record, 2 of them use1-az2. A decision keeps its best ones and counts the others by reason."
    );
}

/// By what was known on a day nothing of later is there, in any report.
#[tokio::test]
async fn every_report_goes_back_to_what_was_known_on_a_day() {
    let Bench { url, ledger, server: _server } = bench().await;
    let mut connection = connect(&url).await.unwrap();
    two_teams(&ledger, &mut connection).await;
    let folder = Folder::new("keys-as-of");
    let costs = folder.file("c.csv", "period,item,cost_usd,team\n2026-07-21,llm-api,12,vision\n");
    taken(&mut connection, Format::Costs, &[costs]).await.unwrap();
    let budgets = budget::read("b", "budgets:\n- {name: all, from: 2026-07, monthlyUsd: '9000'}\n").unwrap();
    budget::enter(&mut connection, &budgets).await.unwrap();
    let this = "2026-07".parse::<Month>().unwrap();
    let all = async |connection: &mut PgConnection| {
        let from = this.previous();
        let mut said = vec![
            report::cost(connection, &july(), By::Team, &[]).await.unwrap().sentence,
            report::savings(connection, &july(), By::Team, &[]).await.unwrap().sentence,
            report::unit_costs(connection, &july(), UsageUnit::Requests, By::Team, &[]).await.unwrap().sentence,
            report::unit_economics(connection, &july(), &[EconomicsBy::Endpoint], &[]).await.unwrap().sentence,
            report::variance(connection, &from, &this, VarianceBy::Step, &[], LATER).await.unwrap().sentence,
            report::reliability(connection, &july(), &[ReliabilityBy::Pool], &[]).await.unwrap().sentence,
            report::trust(connection, &july(), &[]).await.unwrap().sentence,
            report::statements(connection, &report::Listed::default()).await.unwrap().sentence,
            report::retags(connection, &Days::default()).await.unwrap().sentence,
            report::refusals(connection, &july(), &[RefusalsBy::Reason], &[]).await.unwrap().sentence,
            report::gpu_use(connection, &july(), By::Team, &[]).await.unwrap().sentence,
            recommendations::kept::score(connection, &july()).await.unwrap().sentence,
            reconcile(connection, &this).await.unwrap().sentence,
        ];
        said.push(budget::report(connection, &this, LATER, &[]).await.unwrap().sentence);
        said
    };
    let now = all(&mut connection).await;
    report::as_of(&mut connection, Some("2026-08-10")).await.unwrap();
    let then = all(&mut connection).await;
    let known = " This is what was known at the end of 2026-08-10.";
    let nothing = [
        "No spend is recorded for these days.",
        "No spend is recorded for these days.",
        "No usage in requests is known for these days: import it, or have it collected from Prometheus.",
        "No spend is recorded for these days.",
        "Neither 2026-06 nor 2026-07 has any spend.",
        "No machine ran in these days; no pod was moved.",
        "No spend is recorded in these days.",
        "Nothing has been imported.",
        "No labels were corrected.",
        "No refused offer is on record for these days.",
        "No pod held a GPU in these days.",
        "No recommendation was kept in these days: lowtide ledger recommendations --keep.",
        "Nothing is posted for 2026-07.",
        "No budget is entered for this month: lowtide ledger budget --enter FILE.",
    ];
    assert_eq!(then, nothing.map(|sentence| format!("{sentence}{known}")));
    // Decisions, forecasts and anomalies of then: nothing had been written yet.
    let bought = lowtide::core::units::ids::DecisionId::derive("test", "launch", "a", 0).0;
    assert!(explain::decision(&mut connection, bought).await.unwrap().is_none());
    assert_eq!(explain::decisions_of_pod(&mut connection, "ml", "pod-a", 3).await.unwrap(), Vec::<uuid::Uuid>::new());
    let too_little = forecast::make(&mut connection, LATER, 1, &Scenario::usual(), &[]).await.unwrap_err().to_string();
    assert_eq!(too_little, "0 full days of cost are known; a forecast needs 14");
    let no_outcome = forecast::outcome(&mut connection, LATER + Millis::from_hours(24 * 90)).await.unwrap();
    assert!(no_outcome.rows.is_empty(), "{no_outcome:?}");
    report::as_of(&mut connection, None).await.unwrap();
    assert_eq!(explain::decision(&mut connection, bought).await.unwrap().unwrap().refused.0.len(), 2);
    assert_eq!(explain::decisions_of_pod(&mut connection, "ml", "pod-a", 3).await.unwrap(), [bought]);
    let made = forecast::make(&mut connection, LATER, 1, &Scenario::usual(), &[]).await.unwrap();
    forecast::keep(&mut connection, &made).await.unwrap();
    assert!(!forecast::outcome(&mut connection, LATER + Millis::from_hours(24 * 90)).await.unwrap().rows.is_empty());
    // As of a day to come it is what is known now.
    report::as_of(&mut connection, Some("2100-01-01")).await.unwrap();
    let later: Vec<String> = all(&mut connection)
        .await
        .iter()
        .map(|sentence| sentence.replace(" This is what was known at the end of 2100-01-01.", ""))
        .collect();
    assert_eq!(later, now);
}

/// What the manual says that each report takes is what the program takes.
#[test]
fn the_manual_says_what_each_report_takes() {
    use clap::Args as _;
    let ledger = lowtide::cli::ledger::LedgerArgs::augment_args(clap::Command::new("ledger"));
    let table = include_str!("../../docs/ledger.md").split("| report | days |").nth(1).unwrap().split("\n\n").next().unwrap();
    let rows: Vec<Vec<&str>> =
        table.lines().skip(2).map(|row| row.split(" | ").map(|cell| cell.trim_matches(['|', ' '])).collect()).collect();
    assert_eq!(rows.len(), 17, "{rows:?}");
    for row in &rows {
        let name = row[0].trim_matches('`').split(' ').next().unwrap();
        let command = ledger.find_subcommand(name).unwrap_or_else(|| panic!("there is no {name}"));
        let takes = |long: &str| command.get_arguments().any(|arg| arg.get_long() == Some(long));
        for (cell, long) in [(2, "by"), (3, "only"), (4, "as-of")] {
            assert_eq!(row[cell] != "no", takes(long), "{name} --{long}");
        }
        for long in ["from", "to", "month", "months", "hours", "days"] {
            // A correction and a mark have days of their own.
            let is_other = matches!(name, "retag" | "anomalies") && matches!(long, "from" | "to");
            assert!(is_other || row[1].contains(&format!("`--{long}`")) == takes(long), "{name} --{long}");
        }
        assert_eq!(name != "export", takes("json") && takes("csv"), "{name} --json, --csv");
    }
    // And no report is missing.
    let named: Vec<&str> = rows.iter().map(|row| row[0].trim_matches('`').split(' ').next().unwrap()).collect();
    let reports = ledger.get_subcommands().filter(|command| command.get_arguments().any(|arg| arg.get_long() == Some("csv")));
    let missing: Vec<&str> = reports.map(clap::Command::get_name).filter(|name| !named.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Keys that a report does not know, and filters of what is whole, are refused before Postgres is asked.
#[test]
fn what_a_report_does_not_take_is_refused_with_what_it_takes() {
    let nowhere = "postgres://nobody:pw-of-nobody-7c1e@127.0.0.1:1/none";
    for (command, said) in [
        (
            "budget --only line=pod",
            "budgets know only team, service, environment, cost-center, product-area, component: choose of these for --only",
        ),
        ("anomalies --only line=pod", "anomalies know only team, service: choose of these for --only"),
        ("recommendations --only line=pod", "recommendations know only team, workload, namespace: choose of these for --only"),
        ("recommendations --score --only team=a", "--score shows all that were kept"),
        ("forecast --keep --only team=a", "forecasts are kept of all spend, so that --outcome compares like with like: leave out --only"),
        ("retag --workload ml/chat --from 2026-07-01 --set team=a --reason x --as-of 2026-07-01", "--as-of goes with --list"),
        ("retract 00000000-0000-0000-0000-000000000000", "--reason <REASON>"),
        ("reconcile", "--month <MONTH>"),
    ] {
        let fault = crate::roles::run(&std::env::temp_dir(), nowhere, &format!("lowtide ledger {command}")).unwrap_err();
        assert!(fault.contains(said), "{command}: {fault}");
    }
}
