//! Every figure of the books against a calculator that shares nothing with them: `calculator.py`, which reads the facts and the very files that were imported.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lowtide::core::accounting::owners::Label;
use lowtide::core::record::LedgerRecord;
use lowtide::core::units::ids::ObjectRef;
use lowtide::core::units::money::MicroUsdPerHour;
use lowtide::core::units::time::{Millis, Timestamp};
use lowtide::core::workload::need::UsageUnit;
use lowtide::ledger::import::{Check, Checks, Format, Mapping, Options, Projects, Rates, import, retract};
use lowtide::ledger::poster::post;
use lowtide::ledger::report::{By, Month, unit_costs};
use lowtide::ledger::retag::{NewRetag, retag};
use lowtide::ledger::verify;
use lowtide::ledger::{PgLedger, connect, migrate};
use lowtide::ports::Ledger;
use serde_json::{Value, json};
use sqlx::{PgConnection, Row};

use crate::facts::{Bench, DAY, Dice, Machine, bench, decision};
use crate::imports::{FEED_HEADER, Folder, LATER, feed_lines};
use crate::rules::{random_machine, with_moves};
use crate::statements::{HEADER, line};

const DAY_MS: i64 = 86_400_000;

fn accepting_all() -> Options {
    let checks =
        [Check::AmountChanged, Check::ForeignAccount, Check::MissingBefore, Check::HoursTwice, Check::OlderVersion, Check::MissingMachines];
    Options { checks: Checks::accepting(checks), complete: true, ..Options::default() }
}

/// A machine as the calculator takes it: what was recorded of it, and nothing that was computed.
fn facts_of(machine: &Machine) -> Value {
    let rate = |rate: Option<MicroUsdPerHour>| rate.map(|rate| rate.0);
    let interval = &machine.interval;
    let pods = machine.stays.iter().map(|stay| {
        json!({
            "uid": stay.pod, "workload": format!("ml/{}", stay.workload), "team": stay.team, "kind": stay.kind, "gpus": stay.gpus, "from_ms": stay.from.0,
            "to_ms": stay.to.map(|to| to.0), "b1": rate(stay.b1), "b2": rate(stay.b2), "checkpoints": stay.checkpoints.iter().map(|at| at.0).collect::<Vec<_>>(),
            "carried_gib": stay.carried.as_ref().map_or(0, |data| data.gib), "carried_price": stay.carried.as_ref().map_or(0, |data| data.price_per_gib.0),
        })
    });
    json!({
        "claim": machine.name, "claim_uid": format!("uid-{}", machine.name), "instance": format!("i-{}", machine.name), "gpus": machine.gpus,
        "capacity_type": interval.capacity_type, "from_ms": interval.from.0, "to_ms": interval.to.0, "ended_by": interval.ended_by,
        "price": interval.bought_at.price.0, "on_demand": rate(interval.bought_at.on_demand),
        "hours": interval.hours.iter().map(|(hour, seen)| json!({"hour": hour, "price": seen.price.0, "on_demand": rate(seen.on_demand)})).collect::<Vec<_>>(),
        "pods": pods.collect::<Vec<_>>(),
        "bought_for": machine.stays.first().map(|stay| json!({"workload": format!("ml/{}", stay.workload), "team": stay.team})),
    })
}

/// The same on the last evening of July.
fn later(machine: &mut Machine) {
    let by = Millis::from_hours(11 * 24 + 20);
    let interval = &mut machine.interval;
    (interval.from, interval.to) = (interval.from + by, interval.to + by);
    for stay in &mut machine.stays {
        stay.from = stay.from + by;
        (stay.to, stay.doubled_from) = (stay.to.map(|to| to + by), stay.doubled_from.map(|at| at + by));
        stay.checkpoints.iter_mut().for_each(|at| *at = *at + by);
    }
}

/// Columns of drawn bills besides those of [`HEADER`].
const MORE: &str = "resource_tags_user_lowtide_share,line_item_net_unblended_cost,savings_plan_net_savings_plan_effective_cost,reservation_effective_cost,\
    reservation_net_effective_cost";
const RATES: &str = "day,currency,usd_per_unit\n2026-06-19,EUR,1.0833\n2026-07-20,EUR,1.1037\n2026-07-21,EUR,0.98765\n2026-08-01,EUR,1.2\n2026-08-20,EUR,1.3\n";

/// A version of July's bill: some hours of some machines, at prices of its own; some in euros, some with net columns.
fn drawn_bill(dice: &mut Dice, machines: &[Machine], invoice: &str) -> String {
    let (in_euros, with_net) = (dice.one_in(3), dice.one_in(2));
    let text = drawn_lines(dice, machines, invoice, with_net);
    if in_euros { text.replace(",USD,", ",EUR,") } else { text }
}

fn drawn_lines(dice: &mut Dice, machines: &[Machine], invoice: &str, with_net: bool) -> String {
    let mut text = format!("{},{MORE}\n", HEADER.trim_end());
    let gateway = "arn:aws:ec2:us-east-1:444455556666:natgateway/nat-1";
    for machine in machines {
        let (first, last) = (machine.interval.from.since(DAY).0 / 3_600_000, machine.interval.to.since(DAY).0 / 3_600_000);
        if dice.one_in(4) {
            text.push_str(&by_the_day(dice, &machine.name, first / 24..=last / 24, invoice));
            continue;
        }
        for hour in first - 1..=last + 1 {
            let (instance, id) = (format!("i-{}", machine.name), format!("{}-{hour}", machine.name));
            let cost = format!("{}.{:010}", dice.between(0, 20), dice.between(0, 9_999_999_999));
            let part = if dice.one_in(2) { "1".to_owned() } else { format!("0.{:03}", dice.between(1, 999)) };
            let mut share = String::new();
            // Net amounts, where this bill has them: unblended, of a plan, and of a reservation.
            let mut net = || match with_net && !dice.one_in(4) {
                true => format!("{}.{:010}", dice.between(0, 20), dice.between(0, 9_999_999_999)),
                false => String::new(),
            };
            let (net, plan_net, reserved_net) = (net(), net(), net());
            let mut more = ",,,".to_owned();
            let drawn = match dice.between(1, 18) {
                1 => {
                    more = format!(",{plan_net},,");
                    line(&id, "SavingsPlanCoveredUsage", &instance, "BoxUsage:g6.xlarge", hour, "1", "30", &cost)
                }
                16 => {
                    more = format!(",,{cost},{reserved_net}");
                    line(&id, "DiscountedUsage", &instance, "BoxUsage:g6.xlarge", hour, &part, "0", "")
                }
                17 => line(&id, "Refund", &instance, "SpotUsage:g6.xlarge", hour, "0", &format!("-{cost}"), ""),
                18 => {
                    // Where there are net columns, a discount's own line has nothing left.
                    more = if with_net { "0,,,".to_owned() } else { more };
                    line(&id, "EdpDiscount", &instance, "SpotUsage:g6.xlarge", hour, "0", &format!("-{cost}"), "")
                }
                2 => line(&id, "Credit", &instance, "SpotUsage:g6.xlarge", hour, "0", &format!("-{cost}"), ""),
                3 => line(&id, "Usage", &instance, "DataTransfer-Out-Bytes", hour, "9", &cost, ""),
                4 => line(&id, "Usage", &format!("i-stranger-{}", machine.name), "BoxUsage:m5.large", hour, "1", &cost, ""),
                15 => line(&id, "Usage", &instance, "USE1-EUS2-AWS-Out-Bytes", hour, "9", &cost, ""),
                5 => line(&id, "Tax", &instance, "", hour, "1", &cost, ""),
                6 => line(&id, "Usage", "vol-1", "EBS:VolumeUsage.gp3", hour, "1", &cost, ""),
                7..=9 => {
                    more = format!("{net},,,");
                    line(&id, "Usage", &instance, "SpotUsage:g6.xlarge", hour, &part, &cost, "")
                }
                10 | 11 => {
                    share = ["", "100", "37.5", "0.0000001"][usize::try_from(dice.between(0, 3)).unwrap()].to_owned();
                    let (kind, usage) =
                        [("Usage", "NatGateway-Bytes"), ("Usage", "DataTransfer-Out-Bytes"), ("Credit", "NatGateway-Hours")]
                            [usize::try_from(dice.between(0, 2)).unwrap()];
                    line(&id, kind, gateway, usage, hour, "1", &cost, "")
                }
                _ => continue,
            };
            text.push_str(&format!("{},{share},{more}\n", drawn.trim_end().replacen(",,", &format!(",{invoice},"), 1)));
        }
    }
    text
}

/// Lines of whole days: some with less use than the machine had, some with more, some on demand and some under a plan. A volume stays for a month longer, and use
/// of the months around is billed too.
fn by_the_day(dice: &mut Dice, name: &str, days: std::ops::RangeInclusive<i64>, invoice: &str) -> String {
    let of_day = |id: &str, kind: &str, resource: &str, usage: &str, day: i64, amount: &str, cost: &str, plan: &str| {
        let [hour, end] = [day * 24 + 1, (day + 1) * 24].map(|hour| (DAY + Millis::from_hours(hour)).to_string());
        let line = line(id, kind, resource, usage, day * 24, amount, cost, plan).replacen(&hour, &end, 1);
        format!("{},,,,,\n", line.trim_end().replacen(",,", &format!(",{invoice},"), 1))
    };
    let (instance, mut text) = (format!("i-{name}"), String::new());
    for day in days {
        let mut cost = || format!("{}.{:010}", dice.between(0, 90), dice.between(0, 9_999_999_999));
        let (use_of, plan, volume, later) = (cost(), cost(), cost(), cost());
        let amounts = [1, 2].map(|_| format!("{}.{:03}", dice.between(0, 14), dice.between(1, 999)));
        text.push_str(&of_day(&format!("{name}-d{day}"), "Usage", &instance, "SpotUsage:g6.xlarge", day, &amounts[0], &use_of, ""));
        if dice.one_in(3) {
            let id = format!("{name}-p{day}");
            text.push_str(&of_day(&id, "SavingsPlanCoveredUsage", &instance, "BoxUsage:g6.xlarge", day, &amounts[1], "30", &plan));
        }
        let fee = |id: &str, day: i64, cost: &str| of_day(&format!("{name}-{id}{day}"), "Tax", &instance, "", day, "1", cost, "");
        text.push_str(&fee("t", day, &volume));
        text.push_str(&fee("u", day + 30, &later));
        if dice.one_in(3) {
            let far = if dice.one_in(2) { day + 30 } else { day - 30 };
            let cost = format!("{}.{:010}", dice.between(0, 9), dice.between(0, 9_999_999_999));
            text.push_str(&of_day(&format!("{name}-f{day}"), "Usage", &instance, "SpotUsage:g6.xlarge", far, "0.125", &cost, ""));
        }
    }
    text
}

/// What holds in the end, as the person who imported it remembers.
#[derive(Default)]
struct Holding {
    bill: Vec<PathBuf>,
    feed: Vec<PathBuf>,
    costs: Vec<PathBuf>,
    focus: Vec<PathBuf>,
    vendor: Vec<PathBuf>,
    revenue: Vec<PathBuf>,
    usage: Vec<PathBuf>,
}

/// Takes versions one after the other, and takes some back: the last that was not holds.
async fn versions(
    connection: &mut PgConnection,
    format: Format<'_>,
    rates: &Rates,
    dice: &mut Dice,
    mut draw: impl FnMut(&mut Dice, i64) -> PathBuf,
) -> Vec<PathBuf> {
    let mut held: Vec<PathBuf> = Vec::new();
    for version in 0..dice.between(1, 3) {
        let file = draw(dice, version);
        let options = Options { rates: rates.clone(), ..accepting_all() };
        let taken = import(connection, format, std::slice::from_ref(&file), options, LATER).await.unwrap();
        if taken.statements.iter().all(|statement| statement.same) {
            continue;
        }
        if dice.one_in(3) {
            for statement in taken.statements {
                retract(connection, statement.id, "a test", LATER).await.unwrap();
            }
        } else {
            held = vec![file];
        }
    }
    held
}

/// Costs as FOCUS of another provider: hours, days and spans across days, some in euros, some of a team, some of a workload.
fn drawn_focus(dice: &mut Dice, workloads: [&str; 2]) -> String {
    let mut text = "BillingAccountId,BillingCurrency,BillingPeriodStart,ChargeCategory,ChargePeriodStart,ChargePeriodEnd,EffectiveCost,ProviderName,ResourceId,\
        ServiceName,Tags\n"
        .to_owned();
    for n in 0..dice.between(3, 12) {
        let from = DAY + Millis::from_hours(dice.between(0, 60));
        let to = from + Millis::from_hours([1, 24, 37][usize::try_from(dice.between(0, 2)).unwrap()]);
        let currency = if dice.one_in(3) { "EUR" } else { "USD" };
        let (whole, part) = (dice.between(0, 90), dice.between(0, 9_999_999_999));
        let sign = if dice.one_in(5) { "-" } else { "" };
        let owner = match dice.between(0, 2) {
            0 => String::new(),
            1 => format!("\"\"Squad\"\": \"\"t{}\"\"", dice.between(1, 2)),
            _ => format!("\"\"app\"\": \"\"ml/{}\"\"", workloads[usize::from(dice.one_in(2))]),
        };
        text.push_str(&format!(
            "acct,{currency},2026-07-01T00:00:00Z,Usage,{from},{to},{sign}{whole}.{part:010},AI Vendor,row-{n},Chat model,\"{{{owner}}}\"\n"
        ));
    }
    text
}

/// A day of a vendor's usage, as OpenAI's API has it.
fn drawn_vendor_usage(dice: &mut Dice) -> String {
    let (requests, tokens_in, tokens_out) = (dice.between(0, 900), dice.between(0, 90_000), dice.between(0, 9_000));
    let start = DAY.0 / 1_000;
    let result = json!({
        "object": "organization.usage.completions.result", "input_tokens": tokens_in, "output_tokens": tokens_out, "num_model_requests": requests,
        "project_id": "proj_a", "model": "m-1",
    });
    let bucket = json!({ "object": "bucket", "start_time": start, "end_time": start + 86_400, "results": [result] });
    json!({ "object": "page", "data": [bucket], "has_more": false, "next_page": null }).to_string()
}

async fn entered(
    connection: &mut PgConnection,
    rates: &Rates,
    dice: &mut Dice,
    folder: &Folder,
    [workload, other]: [&str; 2],
    holding: &mut Holding,
) {
    let mapping = Mapping::read(&folder.file("tags.csv", "label,tag\nteam,Squad\nworkload,app\n")).unwrap();
    holding.focus = versions(connection, Format::Focus(&mapping), rates, dice, |dice, version| {
        folder.file(&format!("focus-{version}.csv"), &drawn_focus(dice, [workload, other]))
    })
    .await;
    let projects = Projects::read(&folder.file("projects.csv", &format!("field,value,workload\nproject,proj_a,ml/{other}\n"))).unwrap();
    holding.vendor = versions(connection, Format::VendorUsage(&projects), rates, dice, |dice, version| {
        folder.file(&format!("vendor-{version}.json"), &drawn_vendor_usage(dice))
    })
    .await;
    holding.costs = versions(connection, Format::Costs, rates, dice, |dice, version| {
        let mut text = "period,item,cost_usd,currency,team,workload\n".to_owned();
        for (item, workload) in [("api", String::new()), ("gpu-cloud", format!("ml/{workload}"))] {
            let period = ["2026-07".to_owned(), format!("2026-07-{:02}", dice.between(20, 22))]
                [usize::try_from(dice.between(0, 1)).unwrap()]
            .clone();
            text.push_str(&format!(
                "{period},{item},{}.{:06},{},t{},{workload}\n",
                dice.between(0, 900),
                dice.between(0, 999_999),
                if dice.one_in(3) { "EUR" } else { "USD" },
                dice.between(1, 2)
            ));
        }
        folder.file(&format!("costs-{version}.csv"), &text)
    })
    .await;
    holding.revenue = versions(connection, Format::Revenue, rates, dice, |dice, version| {
        let period = ["2026-07", "2026-07-21"][usize::try_from(dice.between(0, 1)).unwrap()];
        folder.file(
            &format!("revenue-{version}.csv"),
            &format!("period,workload,revenue_usd\n{period},ml/{workload},{}.37\n", dice.between(1, 900)),
        )
    })
    .await;
    // One day, so that one version is one file.
    holding.usage = versions(connection, Format::Usage, rates, dice, |dice, version| {
        let hours: String = (0..24)
            .map(|hour| match dice.one_in(4) {
                true => String::new(),
                false => format!("2026-07-20T{hour:02}:00:00Z,ml/{workload},{}\n", dice.between(0, 5_000)),
            })
            .collect();
        folder.file(&format!("usage-{version}.csv"), &format!("hour,workload,requests\n{hours}"))
    })
    .await;
}

fn calculated(folder: &Folder, history: &Value) -> Value {
    let file = folder.file("history.json", &history.to_string());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ledger/calculator.py");
    let done = std::process::Command::new("python3").arg(script).arg(file).output().expect("python3 runs the calculator");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

/// Figures by key, as the calculator writes them.
type Figures = BTreeMap<String, Vec<i64>>;

fn figures(of: &Value) -> Figures {
    let numbers = |value: &Value| match value {
        Value::Array(numbers) => numbers.iter().map(|n| n.as_i64().unwrap()).collect(),
        one => vec![one.as_i64().unwrap()],
    };
    of.as_object().unwrap().iter().map(|(key, value)| (key.clone(), numbers(value))).collect()
}

async fn asked(connection: &mut PgConnection, key: &str, columns: &[&str], rest: &str) -> Figures {
    let sums = columns.iter().map(|column| format!("coalesce({column}, 0)::bigint")).collect::<Vec<_>>().join(", ");
    let sql = format!("SELECT {key} AS key, ARRAY[{sums}] AS figures FROM {rest} GROUP BY 1");
    let rows: Vec<(String, Vec<i64>)> = sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(connection).await.unwrap();
    rows.into_iter().filter(|(_, figures)| figures.iter().any(|figure| *figure != 0)).collect()
}

async fn compare(connection: &mut PgConnection, expected: &Value, seed: u64) {
    let micro = |column: &str| format!("sum({column}_usd) * 1000000");
    let amounts = ["cost", "b0", "b1", "b2", "feed", "bill"].map(micro);
    let [cost, b0, b1, b2, feed, bill] = amounts.each_ref().map(String::as_str);
    let postings = asked(
        connection,
        "concat_ws('/', claim_uid, hour, ledger.utc_day(at) - date '1970-01-01', line, coalesce(pod_uid, ''))",
        &["sum(gpu_ms)", cost, b0, b1, b2, feed, bill],
        "ledger.posting WHERE claim_uid IS NOT NULL",
    )
    .await;
    let wanted = figures(&expected["shares"]);
    for key in wanted.keys().chain(postings.keys()) {
        assert_eq!(wanted.get(key), postings.get(key), "seed {seed}: {key} by the calculator and by its postings");
    }
    let of_day = "concat_ws('/', day - date '1970-01-01', coalesce(team, '-'))";
    let daily =
        asked(connection, &format!("{of_day} || '/' || line"), &["sum(gpu_hours) * 3600000", cost, b0, b1, b2], "ledger.cost_daily").await;
    assert_eq!(figures(&expected["daily"]), daily, "seed {seed}: cost_daily");
    let net = ["spend_usd", "net_saving_b0_usd", "net_saving_b1_usd", "net_saving_b2_usd"].map(|name| format!("sum({name}) * 1000000"));
    let savings = asked(connection, of_day, &net.each_ref().map(String::as_str), "ledger.savings_daily").await;
    assert_eq!(figures(&expected["savings"]), savings, "seed {seed}: savings_daily");
    let revenue = asked(
        connection,
        "concat_ws('/', day - date '1970-01-01', workload_namespace || '/' || workload_name)",
        &["sum(revenue_usd) * 1000000"],
        "ledger.revenue",
    )
    .await;
    assert_eq!(figures(&expected["revenue"]), revenue, "seed {seed}: revenue");
    let by_hour = "SELECT workload_namespace || '/' || workload_name || ' ' || ledger.ms(hour) / 3600000, sum(cost_usd)::float8
                   FROM ledger.hourly_cost('-infinity', 'infinity') WHERE workload_namespace <> '' GROUP BY 1 HAVING sum(cost_usd) <> 0";
    let by_hour: BTreeMap<String, f64> = sqlx::query_as(by_hour).fetch_all(&mut *connection).await.unwrap().into_iter().collect();
    let wanted = expected["hourly"].as_object().unwrap();
    for key in wanted.keys().chain(by_hour.keys()) {
        let (found, wanted) = (by_hour.get(key).copied().unwrap_or_default(), wanted.get(key).and_then(Value::as_f64).unwrap_or_default());
        assert!((found - wanted).abs() < 1e-6, "seed {seed}: {key}: {found} by the hour, {wanted} by the calculator");
    }
    let dollars = "trunc(round({} * 1000000))";
    let economics = ["machines_usd", "vendor_api_usd", "transfer_usd", "storage_usd", "other_usd", "cost_usd", "revenue_usd", "margin_usd"];
    let economics = economics.map(|name| dollars.replace("{}", &format!("sum({name})")));
    let of_month = asked(connection, "to_char(month, 'YYYY-MM')", &economics.each_ref().map(String::as_str), "ledger.ai_cost_month").await;
    assert_eq!(figures(&expected["ai_cost"]), of_month, "seed {seed}: ai_cost_month");
    let of_endpoint = "SELECT to_char(month, 'YYYY-MM') || ' ' || workload_namespace || '/' || workload_name,
                              ARRAY[usd_per_request, usd_per_1000_tokens_in, usd_per_1000_tokens_out]::float8[]
                       FROM ledger.unit_economics WHERE workload_namespace = 'ml'";
    let rows: Vec<(String, Vec<Option<f64>>)> = sqlx::query_as(of_endpoint).fetch_all(&mut *connection).await.unwrap();
    let by_endpoint: BTreeMap<String, Vec<Option<f64>>> = rows.into_iter().collect();
    let wanted = expected["economics"].as_object().unwrap();
    for (endpoint, figures) in wanted {
        let found = by_endpoint.get(endpoint).unwrap_or_else(|| panic!("seed {seed}: {endpoint} is in no row"));
        for (found, wanted) in found.iter().zip(figures.as_array().unwrap()) {
            let near = match (found, wanted.as_f64()) {
                (Some(found), Some(wanted)) => (found - wanted).abs() <= 1e-9 + wanted.abs() * 1e-6,
                (found, wanted) => found.is_none() && wanted.is_none(),
            };
            assert!(near, "seed {seed}: {endpoint}: {:?} by the view, {figures} by the calculator", by_endpoint[endpoint]);
        }
    }
    let known = by_endpoint.iter().filter(|(_, figures)| figures.iter().any(Option::is_some));
    assert!(known.clone().all(|(endpoint, _)| wanted.contains_key(endpoint)), "seed {seed}: {by_endpoint:?} against {wanted:?}");
    let july = "2026-07".parse::<Month>().unwrap().days();
    let report = unit_costs(connection, &july, UsageUnit::Requests, By::Workload, &[]).await.unwrap();
    for (workload, figure) in expected["per_unit"].as_object().unwrap() {
        let Some(each) = figure[1].as_str() else { continue };
        let row = report.rows.iter().find(|row| row[0].as_deref() == Some(workload)).unwrap_or_else(|| panic!("seed {seed}: {workload}"));
        let near = |a: &str, b: &str, by: f64| (a.parse::<f64>().unwrap() - b.parse::<f64>().unwrap()).abs() <= by;
        // A report's dollars have four decimals, its unit costs four digits.
        assert!(near(row[2].as_deref().unwrap(), figure[0].as_str().unwrap(), 0.0001), "seed {seed}: {row:?} {figure}");
        assert!(near(row[3].as_deref().unwrap(), each, each.parse::<f64>().unwrap().abs() / 1_000.0), "seed {seed}: {row:?} {figure}");
    }
}

/// Histories with statements, versions, retractions, late facts and corrections of labels. `LOWTIDE_CALCULATED=100` draws more, from
/// `LOWTIDE_CALCULATED_FIRST` on.
#[tokio::test]
async fn an_independent_calculator_finds_the_same_figures_to_the_micro_dollar() {
    let Bench { server, .. } = bench().await;
    let histories: u64 = std::env::var("LOWTIDE_CALCULATED").ok().and_then(|n| n.parse().ok()).unwrap_or(4);
    let first: u64 = std::env::var("LOWTIDE_CALCULATED_FIRST").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let (mut compared, mut billed) = (0, 0);
    for seed in first..first + histories {
        let mut dice = Dice(7_000 + seed);
        let database = format!("calculated_{seed}");
        server.psql("template1", &format!("CREATE DATABASE {database}")).unwrap();
        let url = server.url_of(&database);
        migrate(&url).await.unwrap();
        let ledger = PgLedger::with_patience(&url, std::time::Duration::from_secs(60)).unwrap();
        let mut connection = connect(&url).await.unwrap();
        let folder = Folder::new(&format!("calculated-{seed}"));
        let mut machines: Vec<Machine> = (0..20).map(|n| random_machine(n, &mut dice)).collect();
        // Every other history lies across the end of the month.
        machines.iter_mut().filter(|_| seed % 2 == 1).for_each(later);
        let moves = with_moves(&mut machines, &mut dice);
        let mut records: Vec<LedgerRecord> = machines.iter().flat_map(Machine::records).collect();
        records.extend(moves.iter().cloned());
        records.extend(machines.iter().map(|machine| LedgerRecord::Decision(Box::new(decision(machine)))));
        for n in (1..records.len()).rev() {
            records.swap(n, usize::try_from(dice.between(0, i64::try_from(n).unwrap())).unwrap());
        }
        // Half of the facts, then what others say, then the rest: facts are late for what was billed already.
        let (early, late) = records.split_at(records.len() / 2);
        ledger.write(early).await.unwrap();
        let mut holding = Holding::default();
        let rates_file = folder.file("rates.csv", RATES);
        let rates = Rates::read(&rates_file).unwrap();
        let fed: String = machines.iter().filter(|_| dice.one_in(2)).map(|machine| feed_lines(machine, (3, 2))).collect();
        if !fed.is_empty() {
            let file = folder.file("123456789012.2026-07-20-00.001.x", &format!("{FEED_HEADER}{fed}"));
            import(&mut connection, Format::Feed, std::slice::from_ref(&file), accepting_all(), LATER).await.unwrap();
            holding.feed.push(file);
        }
        let some: Vec<Machine> = machines.iter().filter(|_| !dice.one_in(3)).cloned().collect();
        holding.bill = versions(&mut connection, Format::Cur, &rates, &mut dice, |dice, version| {
            let invoice = if dice.one_in(3) { "INV-1" } else { "" };
            folder.file(&format!("bill-{version}/cur.csv"), &drawn_bill(dice, &some, invoice))
        })
        .await;
        ledger.write(late).await.unwrap();
        post(&mut connection, LATER).await.unwrap();
        let mut workloads = machines.iter().filter_map(|machine| Some(machine.stays.first()?.workload.as_str()));
        let of_first = workloads.next().unwrap().to_owned();
        let of_another = workloads.find(|workload| *workload != of_first).unwrap().to_owned();
        entered(&mut connection, &rates, &mut dice, &folder, [&of_first, &of_another], &mut holding).await;
        let retags = corrected(&mut connection, &mut dice, &machines).await;
        let moved = moves.iter().filter_map(|record| match record {
            LedgerRecord::Migration(m) => Some(json!({
                "pod": m.pod_uid, "from_claim": m.from_claim, "to_claim": m.to_claim, "decided_ms": m.decided_at.0,
            })),
            _ => None,
        });
        // A gateway is split over the machines that were known when the bill was taken.
        let known = early.iter().filter_map(|record| match record {
            LedgerRecord::IntervalOpened(opened) => Some(opened.instance.clone()),
            _ => None,
        });
        let history = json!({
            "known": known.collect::<Vec<_>>(),
            "machines": machines.iter().map(facts_of).collect::<Vec<_>>(), "moves": moved.collect::<Vec<_>>(), "bill": holding.bill, "feed": holding.feed,
            "costs": holding.costs, "focus": holding.focus, "vendor": holding.vendor, "vendor_workload": format!("ml/{of_another}"),
            "revenue": holding.revenue, "usage": holding.usage, "retags": retags, "rates": rates_file,
        });
        let expected = calculated(&folder, &history);
        compare(&mut connection, &expected, seed).await;
        let mut found = verify::verify(&mut connection).await.unwrap().findings;
        found.extend(verify::recompute(&mut connection, &lowtide::ledger::verify::Sample::default()).await.unwrap());
        assert!(found.is_empty(), "seed {seed}: {found:?}");
        tied_out(&mut connection, seed).await;
        compared += expected["shares"].as_object().unwrap().len();
        billed += expected["shares"].as_object().unwrap().values().filter(|row| row[6] != 0).count();
    }
    assert!(billed as u64 > 10 * histories.min(5), "too little was billed to mean anything: {billed} of {compared}");
    println!("{histories} histories: {compared} shares, {billed} of them billed, and everything that is summed from them: equal");
}

/// The manual's query of what the books have otherwise than the bill: nothing, whatever was imported, retracted and corrected.
async fn tied_out(connection: &mut PgConnection, seed: u64) {
    let manual = include_str!("../../docs/ledger.md").split("-- A. Machines of the month").nth(1).unwrap();
    let query = format!("WITH {}", manual.split_once("WITH ").unwrap().1.split(";\n").next().unwrap());
    let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(query)).fetch_all(connection).await.unwrap();
    let row = |row: &sqlx::postgres::PgRow| (row.get::<String, _>("claim_uid"), row.get::<String, _>("what"));
    assert!(rows.is_empty(), "seed {seed}: {:?}", rows.iter().map(row).collect::<Vec<_>>());
}

/// Corrections of the teams of some workloads, for some of their days, over one another.
async fn corrected(connection: &mut PgConnection, dice: &mut Dice, machines: &[Machine]) -> Vec<Value> {
    let mut retags = Vec::new();
    for machine in machines.iter().filter(|machine| !machine.stays.is_empty()) {
        if !dice.one_in(3) {
            continue;
        }
        let workload = ObjectRef { namespace: "ml".into(), name: machine.stays[0].workload.clone() };
        for _ in 0..dice.between(1, 2) {
            let from_day = DAY.0 / DAY_MS + dice.between(0, 1);
            let to_day = from_day + dice.between(1, 3);
            let team = (!dice.one_in(4)).then(|| format!("corrected-{}", dice.between(1, 2)));
            let labels = BTreeMap::from([(Label::Team, team.clone())]);
            let new = NewRetag { workload: workload.clone(), from_day, to_day, labels, reason: "drawn".into() };
            // A workload that cost nothing in these days has nothing to correct.
            if retag(connection, &new, LATER, true).await.is_ok() {
                retags.push(json!({"workload": workload.to_string(), "from_day": from_day, "to_day": to_day, "team": team}));
            }
        }
    }
    retags
}

/// A single hour, worked out by hand, so that the calculator itself is held to something.
#[test]
fn the_calculator_is_right_about_an_hour_worked_out_by_hand() {
    let folder = Folder::new("calculated-by-hand");
    let mut machine = Machine::new(
        "m",
        lowtide::core::market::CapacityType::Spot,
        300_000,
        Some(900_000),
        Millis::from_mins(60),
        lowtide::core::fleet::EndedBy::Lowtide,
    );
    machine.stays.push(crate::facts::stay("p", "search", &machine, Millis::from_mins(6), Some(900_000)));
    let bill = folder.file("cur.csv", &format!("{HEADER}{}", line("1", "Usage", "i-m", "SpotUsage:g6.xlarge", 0, "1", "0.40", "")));
    let history = json!({
        "machines": [facts_of(&machine)], "known": ["i-m"], "moves": [], "bill": [bill], "feed": [], "costs": [], "revenue": [], "usage": [],
        "retags": [], "focus": [], "vendor": [], "vendor_workload": "", "rates": folder.file("rates.csv", RATES),
    });
    let day = Timestamp(DAY.0).0 / DAY_MS;
    let shares = figures(&calculated(&folder, &history)["shares"]);
    // 6 minutes of boot and 54 of a pod, billed at $0.40 instead of $0.30; B0 at $0.90 of the hour, B1 of the pod's time alone.
    assert_eq!(shares[&format!("uid-m/0/{day}/boot/")], [360_000, 40_000, 90_000, 0, 0, 0, 40_000]);
    assert_eq!(shares[&format!("uid-m/0/{day}/pod/p")], [3_240_000, 360_000, 810_000, 810_000, 0, 0, 360_000]);
    assert_eq!(shares.len(), 2);
}
