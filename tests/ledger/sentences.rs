//! Sentences for people who decide by them: each was untrue once.

use lowtide::core::fleet::EndedBy;
use lowtide::core::market::CapacityType;
use lowtide::core::units::ids::ObjectRef;
use lowtide::core::units::money::MicroUsd;
use lowtide::core::units::time::{Millis, Timestamp};
use lowtide::core::workload::need::UsageUnit;
use lowtide::ledger::connect;
use lowtide::ledger::import::{Check, Format, UsageHour, store_usage};
use lowtide::ledger::plans::budget;
use lowtide::ledger::poster::post;
use lowtide::ledger::report::{self, By, Days, Month, VarianceBy};
use lowtide::ports::Ledger;

use crate::facts::{Bench, DAY, Machine, bench, rows_of, stay};
use crate::imports::{Folder, LATER, taken};

/// A machine of its own for each name, at a dollar an hour, where on-demand costs three.
async fn machine(ledger: &lowtide::ledger::PgLedger, name: &str, team: &'static str, from: Timestamp, hours: i64) -> Machine {
    let mut machine = Machine::new(name, CapacityType::Spot, 1_000_000, Some(3_000_000), Millis::from_hours(hours), EndedBy::Lowtide);
    (machine.interval.from, machine.interval.to) = (from, from + Millis::from_hours(hours));
    let mut stay = stay(&format!("pod-{name}"), team, &machine, Millis::ZERO, Some(3_000_000));
    stay.workload = "chat".into();
    machine.stays.push(stay);
    ledger.write(&machine.records()).await.unwrap();
    machine
}

fn july() -> Days {
    "2026-07".parse::<Month>().unwrap().days()
}

/// Q02, Q03: what is bought elsewhere moves no saving, and what was typed by hand rests on nobody's bill.
#[tokio::test]
async fn other_costs_move_no_saving_and_rest_on_no_bill() {
    let Bench { url, ledger, server: _server } = bench().await;
    machine(&ledger, "a", "search", DAY, 10).await;
    let mut connection = connect(&url).await.unwrap();
    post(&mut connection, LATER).await.unwrap();
    let before = report::savings(&mut connection, &july(), By::Team, &[]).await.unwrap();
    assert!(before.sentence.starts_with("Spot saved $20.00 net (66.7 %)"), "{}", before.sentence);
    let folder = Folder::new("sentences-costs");
    let costs = folder.file("c.csv", "period,item,cost_usd,team\n2026-07-20,llm-api,30,search\n");
    taken(&mut connection, Format::Costs, &[costs]).await.unwrap();
    let after = report::savings(&mut connection, &july(), By::Team, &[]).await.unwrap();
    assert_eq!(
        after.sentence,
        format!("{} $30.00 of other costs, credits and charges besides the machines counts toward no saving.", before.sentence)
    );
    let cost = report::cost(&mut connection, &july(), vec![By::Team, By::Line], &[]).await.unwrap();
    assert_eq!(
        rows_of(&cost),
        [
            "search overhead 0.000 30.000000 0.000000 0.000000 entered 30.000000",
            "search pod 10.000 10.000000 30.000000 0.000000 estimate 0.000000",
            "total - 10.000 40.000000 30.000000 0.000000 mixed 30.000000",
        ]
    );
    assert_eq!(cost.sentence, "Machines cost $10.00; with other costs, credits, taxes and the like ($30.00) it is $40.00.");
    let only = report::cost(&mut connection, &july(), By::Line, &["line=pod".parse().unwrap()]).await.unwrap();
    assert_eq!((only.rows.len(), only.sentence.as_str()), (2, "Machines cost $10.00."));
    let none = report::cost(&mut connection, &july(), By::Team, &["team=o'neill".parse().unwrap()]).await.unwrap();
    assert_eq!(none.to_csv(), "team,gpu_hours,cost_usd,b0_usd,true_up_usd,basis,beside_usd\n", "a table without rows has its header");
    let trust = report::trust(&mut connection, &july(), &[]).await.unwrap().sentence;
    assert_eq!(
        trust,
        "0.0 % of spend rests on AWS's bill: nothing has been matched to one yet; 75.0 % was entered by hand or came from others' files; the rest is \
         computed from recorded prices."
    );
}

/// Work of which it is not known what would have been bought otherwise saves nothing and loses nothing: it is on neither side, and it is said how much it is.
#[tokio::test]
async fn spend_without_a_known_alternative_is_no_loss() {
    let Bench { url, ledger, server } = bench().await;
    machine(&ledger, "a", "search", DAY, 10).await;
    let mut unknown = Machine::new("b", CapacityType::Spot, 2_500_000, None, Millis::from_hours(10), EndedBy::Lowtide);
    unknown.stays.push(stay("pod-b", "vision", &unknown, Millis::ZERO, None));
    ledger.write(&unknown.records()).await.unwrap();
    let mut connection = connect(&url).await.unwrap();
    post(&mut connection, LATER).await.unwrap();
    let report = report::savings(&mut connection, &july(), By::Team, &[]).await.unwrap();
    assert_eq!(
        report.sentence,
        "Spot saved $20.00 net (66.7 %) against the on-demand you would have bought; moves cost $0.00. For $25.00 of spend the on-demand price is unknown: it is \
         on neither side of this."
    );
    let at = |name: &str| report.columns.iter().position(|column| column == name).unwrap();
    let names = ["team", "spend_usd", "b1_usd", "gross_saving_usd", "net_saving_usd", "net_saving_percent", "spend_without_b1_usd"];
    let rows: Vec<String> = report.rows.iter().map(|row| names.map(|name| row[at(name)].as_deref().unwrap_or("-")).join(" ")).collect();
    assert_eq!(
        rows,
        [
            "vision 25.000000 0.000000 0.000000 0.000000 - 25.000000",
            "search 10.000000 30.000000 20.000000 20.000000 66.7 0.000000",
            "total 35.000000 30.000000 20.000000 20.000000 66.7 25.000000"
        ]
    );
    let view = "SELECT sum(spend_usd)::numeric(10,2), sum(net_saving_b0_usd)::numeric(10,2), sum(gross_saving_b1_usd)::numeric(10,2), sum(net_saving_b1_usd)::numeric(10,2),
                       sum(net_saving_b2_usd)::numeric(10,2), sum(spend_without_b2_usd)::numeric(10,2) FROM ledger.savings_daily";
    assert_eq!(server.psql("postgres", view).unwrap().trim(), "35.00|20.00|20.00|20.00|0.00|35.00");
}

/// U05, Q05: gaps in usage raise no mean, and revenue follows the labels as the work does.
#[tokio::test]
async fn gaps_raise_no_mean_and_revenue_follows_the_work() {
    let Bench { url, ledger, server: _server } = bench().await;
    machine(&ledger, "a", "search", DAY, 24).await;
    machine(&ledger, "b", "vision", DAY + Millis::from_hours(24), 24).await;
    let mut connection = connect(&url).await.unwrap();
    post(&mut connection, LATER).await.unwrap();
    let hour = |n: i64| UsageHour {
        workload: ObjectRef { namespace: "ml".into(), name: "chat".into() },
        hour: DAY + Millis::from_hours(n),
        unit: UsageUnit::Requests,
        micro_units: 100_000_000,
    };
    // Of the second day half is not known.
    store_usage(&mut connection, &(0..36).map(hour).collect::<Vec<_>>(), "test").await.unwrap();
    let folder = Folder::new("sentences-revenue");
    let revenue = folder.file("r.csv", "period,workload,revenue_usd\n2026-07-20,ml/chat,60\n2026-07-21,ml/chat,40\n");
    taken(&mut connection, Format::Revenue, &[revenue]).await.unwrap();
    let by_workload = report::unit_costs(&mut connection, &july(), UsageUnit::Requests, By::Workload, &[]).await.unwrap();
    let text = |row: &[Option<String>]| row.iter().map(|v| v.as_deref().unwrap_or("-")).collect::<Vec<_>>().join(" ");
    // $36 for 3,600 requests, and of revenue $60 and half of $40.
    assert_eq!(text(&by_workload.rows[0]), "ml/chat 3600 36.00 0.01 0.01 0.01 0.01 - 0.02222 0.01222 54.9 36 75.0 100.0");
    assert!(
        by_workload
            .sentence
            .contains("It rests on 75.0 % of what these workloads cost (36 of 48 hours): hours whose usage is not known are left out."),
        "{}",
        by_workload.sentence
    );
    let by_team = report::unit_costs(&mut connection, &july(), UsageUnit::Requests, By::Team, &[]).await.unwrap();
    let rows: Vec<String> = by_team.rows.iter().map(|row| text(row)).collect();
    assert_eq!(rows[0], "search 2400 24.00 0.01 0.01 0.01 0.01 - 0.025 0.015 60.0 24 100.0 100.0");
    assert_eq!(rows[1], "vision 1200 12.00 0.01 0.01 0.01 0.01 - 0.01667 0.006667 40.0 12 50.0 100.0");
    // Bought for the workload: part of what a request costs. Bought for nobody in particular: said.
    let costs = folder.file("c.csv", "period,item,cost_usd,workload\n2026-07-20,llm-api,24,ml/chat\n2026-07-20,postgres,7,\n");
    taken(&mut connection, Format::Costs, &[costs]).await.unwrap();
    let with_api = report::unit_costs(&mut connection, &july(), UsageUnit::Requests, By::Workload, &[]).await.unwrap();
    assert_eq!(with_api.rows[0][2].as_deref(), Some("60.00"));
    assert!(
        with_api.sentence.contains("including everything that names its workload")
            && with_api.sentence.contains("Not in it: $7.00 of other costs that name no workload.")
    );
}

/// A month whose revenue is not known earned nothing that could be divided by its requests.
#[tokio::test]
async fn a_month_without_revenue_lowers_no_revenue_per_unit() {
    let Bench { url, ledger, server: _server } = bench().await;
    let june = Timestamp::from_date(2026, 6, 20);
    machine(&ledger, "a", "search", june, 10).await;
    machine(&ledger, "b", "search", DAY, 10).await;
    let mut connection = connect(&url).await.unwrap();
    post(&mut connection, LATER).await.unwrap();
    let hours = [june, DAY].into_iter().flat_map(|from| {
        (0..10).map(move |n| UsageHour {
            workload: ObjectRef { namespace: "ml".into(), name: "chat".into() },
            hour: from + Millis::from_hours(n),
            unit: UsageUnit::Requests,
            micro_units: 100_000_000,
        })
    });
    store_usage(&mut connection, &hours.collect::<Vec<_>>(), "test").await.unwrap();
    let folder = Folder::new("sentences-one-month");
    let revenue = folder.file("r.csv", "period,workload,revenue_usd\n2026-07-20,ml/chat,40\n");
    taken(&mut connection, Format::Revenue, &[revenue]).await.unwrap();
    let both = Days { from: Some("2026-06-01".into()), to: Some("2026-08-01".into()) };
    let report = report::unit_costs(&mut connection, &both, UsageUnit::Requests, By::Workload, &[]).await.unwrap();
    assert!(
        report
            .sentence
            .ends_with("That leaves $0.03 of $0.04 (75.0 %), by the months whose revenue is known: those of 50.0 % of the requests."),
        "{}",
        report.sentence
    );
    assert_eq!(report.rows[0][8].as_deref(), Some("0.04"));
}

/// C42: a month that runs is compared by its full days, with the same days of the other.
#[tokio::test]
async fn a_running_month_is_compared_with_the_same_days() {
    let Bench { url, ledger, server: _server } = bench().await;
    for (name, month, day, hours) in [("a", 7, 1, 10), ("b", 7, 20, 100), ("c", 8, 1, 12), ("d", 8, 3, 5)] {
        machine(&ledger, name, "search", Timestamp::from_date(2026, month, day), hours).await;
    }
    let mut connection = connect(&url).await.unwrap();
    post(&mut connection, LATER).await.unwrap();
    let (from, to) = ("2026-07".parse::<Month>().unwrap(), "2026-08".parse::<Month>().unwrap());
    let noon = Timestamp::from_date(2026, 8, 3) + Millis::from_hours(12);
    let running = report::variance(&mut connection, &from, &to, VarianceBy::Step, &[], noon).await.unwrap();
    assert!(running.sentence.starts_with("2026-08 cost $12.00, $2.00 more than 2026-07 (+20.0 %)"), "{}", running.sentence);
    assert!(running.sentence.ends_with("2026-08 still runs: the first 2 full days of each month are compared."), "{}", running.sentence);
    let over = report::variance(&mut connection, &from, &to, VarianceBy::Step, &[], Timestamp::from_date(2026, 9, 1)).await.unwrap();
    assert!(over.sentence.starts_with("2026-08 cost $17.00, $93.00 less than 2026-07"), "{}", over.sentence);
}

/// Requests whose hours cost nothing yet are in no mean, and it is said how many.
#[tokio::test]
async fn a_mean_says_of_which_share_of_the_requests_it_is() {
    let Bench { url, server: _server, .. } = bench().await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("sentences-share");
    // Requests of all of July, and a vendor's bill of its last day.
    let first = Timestamp::from_date(2026, 7, 1);
    let hours: String = (0..31 * 24).map(|n| format!("{},ml/x,10\n", first + Millis::from_hours(n))).collect();
    let usage = folder.file("u.csv", &format!("hour,workload,requests\n{hours}"));
    crate::imports::accepted(&mut connection, Format::Usage, &[usage], Check::UnknownWorkloads).await;
    let costs = folder.file("c.csv", "period,item,cost_usd,workload\n2026-07-31,gpt,310,ml/x\n");
    taken(&mut connection, Format::Costs, &[costs]).await.unwrap();
    let report = report::unit_costs(&mut connection, &july(), UsageUnit::Requests, By::Workload, &[]).await.unwrap();
    let said = "It rests on 3.2 % of the requests: for the hours of the others no cost is posted.";
    assert!(report.sentence.contains(said), "{}", report.sentence);
    let shares = [report.columns.len() - 2, report.columns.len() - 1].map(|at| report.rows[0][at].clone().unwrap());
    assert_eq!(shares, ["100.0", "3.2"]);
    let economics = report::unit_economics(&mut connection, &july(), &[report::EconomicsBy::Endpoint], &[]).await.unwrap();
    let said = " 3.2 % of the requests fell into hours for which a cost is posted; the others are in no cost per unit.";
    assert!(economics.sentence.ends_with(said), "{}", economics.sentence);
    let at = economics.columns.iter().position(|column| column == "requests_costed_percent").unwrap();
    assert_eq!(economics.rows[0][at].as_deref(), Some("3.2"));
}

/// A month that runs is compared with the revenue of the same days, and has no cost per user and month yet.
#[tokio::test]
async fn a_running_month_is_held_against_the_revenue_of_its_days() {
    let Bench { url, ledger, server } = bench().await;
    for day in 1..=31 {
        machine(&ledger, &format!("m{day}"), "search", Timestamp::from_date(2026, 7, day), 10).await;
    }
    let mut connection = connect(&url).await.unwrap();
    post(&mut connection, LATER).await.unwrap();
    let folder = Folder::new("sentences-running");
    taken(&mut connection, Format::Revenue, &[folder.file("r.csv", "period,workload,revenue_usd\n2026-07,ml/chat,3100\n")]).await.unwrap();
    taken(&mut connection, Format::Costs, &[folder.file("c.csv", "period,item,cost_usd,workload\n2026-07,gpt,31,ml/chat\n")])
        .await
        .unwrap();
    let users = folder.file("u.csv", "hour,workload,monthly_users\n2026-07-01T00:00:00Z,ml/chat,11\n");
    taken(&mut connection, Format::Usage, &[users]).await.unwrap();
    let mut asked = async |today: &str| {
        let day = "CREATE OR REPLACE FUNCTION ledger.open_day() RETURNS date LANGUAGE sql STABLE PARALLEL SAFE RETURN";
        server.psql("postgres", &format!("{day} date '{today}'")).unwrap();
        let by = [report::EconomicsBy::Month, report::EconomicsBy::Endpoint];
        let economics = report::unit_economics(&mut connection, &july(), &by, &[]).await.unwrap();
        let of = |name: &str| {
            let at = economics.columns.iter().position(|column| column == name).unwrap();
            economics.rows.first().and_then(|row| row[at].clone()).unwrap_or_else(|| "-".to_owned())
        };
        let view = "SELECT cost_percent_of_revenue FROM ledger.ai_cost_month WHERE month = '2026-07-01'";
        let view = server.psql("postgres", view).unwrap().trim().to_owned();
        (["cost_percent_of_revenue", "usd_per_user", "vendor_api_usd"].map(of).join(" "), view, economics.sentence.clone())
    };
    let (found, view, sentence) = asked("2026-07-11").await;
    assert_eq!((found.as_str(), view.as_str()), ("11.0 - 10.000000", "11.0"));
    assert!(sentence.contains("That is 11.0 % of the $1000.00 earned"), "{sentence}");
    assert!(sentence.contains("Only days that are over are counted: those before 2026-07-11."), "{sentence}");
    let (found, view, sentence) = asked("2026-08-01").await;
    assert_eq!((found.as_str(), view.as_str()), ("11.0 31 31.000000", "11.0"));
    assert!(!sentence.contains("Only days that are over"), "{sentence}");
    let (.., sentence) = asked("2026-07-01").await;
    assert!(sentence.starts_with("Of these days none is over: 2026-07-01 still runs"), "{sentence}");
}

/// Costs that name no workload are missing in the unit cost of one workload as well.
#[tokio::test]
async fn not_everything_is_included_whichever_workload_is_asked_for() {
    let Bench { url, ledger, server: _server } = bench().await;
    machine(&ledger, "a", "search", DAY, 24).await;
    machine(&ledger, "b", "vision", DAY + Millis::from_hours(24), 24).await;
    let mut connection = connect(&url).await.unwrap();
    post(&mut connection, LATER).await.unwrap();
    let hours = (0..47).map(|n| UsageHour {
        workload: ObjectRef { namespace: "ml".into(), name: "chat".into() },
        hour: DAY + Millis::from_hours(n),
        unit: UsageUnit::Requests,
        micro_units: 100_000_000,
    });
    store_usage(&mut connection, &hours.collect::<Vec<_>>(), "test").await.unwrap();
    let folder = Folder::new("sentences-unattributed");
    taken(&mut connection, Format::Costs, &[folder.file("c.csv", "period,item,cost_usd\n2026-07,api,500\n")]).await.unwrap();
    let only = ["workload=ml/chat".parse().unwrap()];
    let report = report::unit_costs(&mut connection, &july(), UsageUnit::Requests, By::Workload, &only).await.unwrap();
    assert!(report.sentence.contains("Not in it: $500.00 of other costs that name no workload."), "{}", report.sentence);
    assert!(!report.sentence.contains("everything that is posted"), "{}", report.sentence);
    // An hour that two teams have is one.
    let report = report::unit_costs(&mut connection, &july(), UsageUnit::Requests, By::Team, &[]).await.unwrap();
    assert!(report.sentence.contains("(47 of 48 hours)"), "{}", report.sentence);
}

/// Nothing useful is not the same as a price that is not known; and a month that has just begun has nothing to compare.
#[tokio::test]
async fn a_loss_is_no_unknown_price_and_a_first_day_no_empty_month() {
    let Bench { url, ledger, server } = bench().await;
    let mut idle = Machine::new("idle", CapacityType::Spot, 1_000_000, Some(3_000_000), Millis::from_hours(10), EndedBy::Lowtide);
    idle.gpus = 2;
    let mut pod = stay("p", "search", &idle, Millis::ZERO, Some(3_000_000));
    pod.gpus = 1;
    idle.stays.push(pod);
    ledger.write(&idle.records()).await.unwrap();
    let mut connection = connect(&url).await.unwrap();
    post(&mut connection, LATER).await.unwrap();
    let only = ["line=idle".parse().unwrap()];
    let saved = report::savings(&mut connection, &july(), By::Team, &only).await.unwrap();
    assert_eq!(saved.sentence, "Spend was $5.00, and none of it was useful time: a loss of $5.00; moves cost $0.00.");
    let months = ["2026-07", "2026-08"].map(|month| month.parse::<Month>().unwrap());
    let dawn = Timestamp::from_date(2026, 8, 1) + Millis::from_hours(3);
    let variance = report::variance(&mut connection, &months[0], &months[1], VarianceBy::Step, &[], dawn).await.unwrap();
    assert_eq!(variance.sentence, "2026-08 has no full day yet: there is nothing to compare.");
    // As of the tenth of July, the view compares its days with the same days of June.
    for (name, month, day, hours) in [("j1", 6, 5, 10), ("j2", 6, 25, 10), ("k", 7, 5, 12)] {
        machine(&ledger, name, "search", Timestamp::from_date(2026, month, day), hours).await;
    }
    post(&mut connection, LATER).await.unwrap();
    let long_ago = "SET session_replication_role = replica; UPDATE ledger.posting SET posted_at = '2026-07-10' WHERE at < '2026-07-10'";
    server.psql("postgres", long_ago).unwrap();
    let moved =
        "SET lowtide.as_of = '2026-07-11'; SELECT sum(difference_usd)::numeric(10,2) FROM ledger.variance_month WHERE month = '2026-07-01'";
    assert_eq!(server.psql("postgres", moved).unwrap().trim().lines().last(), Some("2.00"));
}

/// A budget in a ledger that is two days old is headed by the pace of two days, and not by two days of seven.
#[tokio::test]
async fn the_pace_of_a_young_ledger_is_that_of_its_days() {
    let Bench { url, ledger, server: _server } = bench().await;
    machine(&ledger, "a", "search", DAY, 48).await;
    let mut connection = connect(&url).await.unwrap();
    post(&mut connection, LATER).await.unwrap();
    let text = "budgets:\n- {name: all, from: 2026-07, monthlyUsd: '100'}\n";
    budget::enter(&mut connection, &budget::read("b.yaml", text).unwrap()).await.unwrap();
    let month: Month = "2026-07".parse().unwrap();
    let standings = budget::standings(&mut connection, &month, DAY + Millis::from_hours(60)).await.unwrap();
    // $48 so far, and nine and a half days at $24.
    assert_eq!(standings[0].heading.expected, MicroUsd(48_000_000 + 228_000_000));
}
