//! Usage of our machines and of vendors side by side, and what is known to be billed of it.

use lowtide::core::fleet::EndedBy;
use lowtide::core::market::CapacityType;
use lowtide::core::units::ids::ObjectRef;
use lowtide::core::units::time::Millis;
use lowtide::core::workload::need::UsageUnit;
use lowtide::ledger::connect;
use lowtide::ledger::import::{Format, Options, Projects, UsageHour, import, retract, store_usage};
use lowtide::ledger::poster::post;
use lowtide::ledger::report::{self, By, EconomicsBy, Month, VarianceBy};
use lowtide::ports::Ledger;

use crate::facts::{Bench, DAY, Machine, bench, chat_bench, rows_of, stay};
use crate::imports::{Folder, LATER, taken};

/// A page of OpenAI's usage API with this many requests and tokens, of so many days from the `first` after 20 July 2026 on; some of them without usage.
fn page(first: i64, days: &[Option<i64>], more: bool) -> String {
    let day = |n: i64| DAY.0 / 1_000 + (first + n) * 86_400;
    let buckets: Vec<String> = (0_i64..)
        .zip(days)
        .map(|(n, requests)| {
            let results = requests.map_or_else(String::new, |requests| {
                format!(
                    r#"{{"object": "organization.usage.completions.result", "input_tokens": {}, "output_tokens": {}, "num_model_requests": {requests}, "project_id": "proj_chat", "model": "gpt-a"}}"#,
                    10 * requests,
                    requests
                )
            });
            format!(r#"{{"object": "bucket", "start_time": {}, "end_time": {}, "results": [{results}]}}"#, day(n), day(n + 1))
        })
        .collect();
    format!(r#"{{"object": "page", "data": [{}], "has_more": {more}, "next_page": null}}"#, buckets.join(", "))
}

/// What Prometheus counts on our machines: each hour of the day so many.
fn counted(unit: UsageUnit, each: i128) -> Vec<UsageHour> {
    let hour = |n: i64| UsageHour {
        workload: ObjectRef { namespace: "ml".into(), name: "chat".into() },
        hour: DAY + Millis::from_hours(n),
        unit,
        micro_units: each * 1_000_000,
    };
    (0..24).map(hour).collect()
}

/// A ledger in which the service ran for a day on our machines, and Prometheus counted so many requests of each hour.
async fn counted_day(each: i128) -> (Bench, sqlx::PgConnection) {
    let (bench, mut connection) = chat_bench().await;
    store_usage(&mut connection, &counted(UsageUnit::Requests, each), "prometheus").await.unwrap();
    (bench, connection)
}

/// Whose the vendor's usage is.
fn projects(folder: &Folder) -> Projects {
    Projects::read(&folder.file("p.csv", "field,value,workload\nproject,proj_chat,ml/chat\n")).unwrap()
}

/// 1,000 requests an hour on our GPUs and ten at a vendor are 1,010: neither hides the other, whatever unit each of them counts.
#[tokio::test]
async fn what_prometheus_counts_and_what_a_vendor_reports_add_up() {
    let (Bench { server, .. }, mut connection) = counted_day(1_000).await;
    store_usage(&mut connection, &counted(UsageUnit::Tokens, 50_000), "prometheus").await.unwrap();
    let folder = Folder::new("mixed-both");
    let projects = projects(&folder);
    let file = folder.file("day.json", &page(0, &[Some(240)], false));
    let of_hour = |unit: &str| {
        let sql = format!(
            "SELECT quantity::bigint || ' by ' || source FROM ledger.usage WHERE unit = '{unit}' AND hour = '2026-07-20 07:00+00' AND workload_name = 'chat'"
        );
        server.psql("postgres", &sql).unwrap().trim().to_owned()
    };
    for name in ["openai", "dashboard"] {
        let options = Options { source: Some(name.into()), ..Options::default() };
        let vendors = import(&mut connection, Format::VendorUsage(&projects), std::slice::from_ref(&file), options, LATER).await.unwrap();
        assert_eq!(
            of_hour("requests"),
            format!("1010 by {}", if name == "openai" { "openai and prometheus" } else { "dashboard and prometheus" })
        );
        // 50,000 of our own, and 100 read and ten written there.
        assert_eq!(of_hour("tokens").split(' ').next(), Some("50110"), "{name}");
        assert_eq!(of_hour("tokens_in").split(' ').next(), Some("100"), "{name}");
        if name == "openai" {
            let july = "2026-07".parse::<Month>().unwrap().days();
            let costs = folder.file("c.csv", "period,item,cost_usd,workload,model\n2026-07-20,gpt,6.3,ml/chat,gpt-a\n");
            taken(&mut connection, Format::Costs, &[costs]).await.unwrap();
            let by_model = report::unit_economics(&mut connection, &july, &[EconomicsBy::Model], &[]).await.unwrap();
            // What is billed for the model is the model's, and the machine that of whoever ran on it.
            let cost = |row: &String| row.split(" 1 ").map(str::to_owned).collect::<Vec<_>>();
            let rows = rows_of(&by_model);
            assert!(
                rows[0].starts_with("(no model named) 1 24.000000 24000") && rows[1].starts_with("gpt-a 1 6.300000 240 2400 240"),
                "{:?}",
                rows.iter().map(cost).collect::<Vec<_>>()
            );
            let by_endpoint = report::unit_economics(&mut connection, &july, &[EconomicsBy::Endpoint], &[]).await.unwrap();
            // $30.30 for 24,240 requests and for 1,202,640 tokens.
            assert!(rows_of(&by_endpoint)[0].contains(" 24240 2400 240 - 0.00125 "), "{:?}", rows_of(&by_endpoint));
            let at = by_endpoint.columns.iter().position(|column| column == "usd_per_1000_tokens").unwrap();
            assert_eq!(by_endpoint.rows[0][at].as_deref(), Some("0.025194571942"));
            let id = vendors.statements[0].id;
            retract(&mut connection, id, "a test", LATER).await.unwrap();
            assert_eq!(of_hour("requests"), "1000 by prometheus");
        }
    }
    // A file of one's own corrects Prometheus, and stands beside the vendor where it names another model.
    let own = folder.file("own.csv", "hour,workload,model,requests\n2026-07-20T07:00:00Z,ml/chat,own,900\n");
    taken(&mut connection, Format::Usage, &[own]).await.unwrap();
    assert_eq!(of_hour("requests"), "910 by dashboard and usage");
}

/// Without models named, what runs on our machines and what a vendor does share an hour by requests where tokens are known of one alone.
#[tokio::test]
async fn a_model_whose_tokens_are_known_does_not_pay_for_all_of_the_hour() {
    let (Bench { url, server: _server, .. }, mut connection) = counted_day(90).await;
    let folder = Folder::new("mixed-models");
    let projects = projects(&folder);
    let file = folder.file("day.json", &page(0, &[Some(240)], false));
    import(&mut connection, Format::VendorUsage(&projects), &[file], Options::default(), LATER).await.unwrap();
    let july = "2026-07".parse::<Month>().unwrap().days();
    let mut of_models = async || {
        let by_model = report::unit_economics(&mut connection, &july, &[EconomicsBy::Model], &[]).await.unwrap();
        let of_row = |row: &Vec<Option<String>>| format!("{} {}", row[0].as_deref().unwrap(), row[2].as_deref().unwrap());
        by_model.rows.iter().map(of_row).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(of_models().await, "(no model named) 24.000000", "what is not billed yet is paid for by nothing");
    let mut again = connect(&url).await.unwrap();
    let costs = folder.file("c.csv", "period,item,cost_usd,workload\n2026-07-20,llm,6,ml/chat\n");
    taken(&mut again, Format::Costs, &[costs]).await.unwrap();
    assert_eq!(of_models().await, "(no model named) 27.000000, gpt-a 3.000000");
}

/// An endpoint on our machines and at a vendor whose bill is not there yet: the vendor's requests are in no mean, and it is said.
#[tokio::test]
async fn a_mean_has_no_units_of_a_vendor_that_has_not_billed_yet() {
    let (Bench { server, .. }, mut connection) = counted_day(10).await;
    let folder = Folder::new("mixed-unbilled");
    let projects = projects(&folder);
    let file = folder.file("day.json", &page(0, &[Some(2_160)], false));
    import(&mut connection, Format::VendorUsage(&projects), &[file], Options::default(), LATER).await.unwrap();
    let july = "2026-07".parse::<Month>().unwrap().days();
    let of_search = ["team=search".parse().unwrap()];
    for only in [&[][..], &of_search[..]] {
        // $24 for 240 requests, and not for 2,400.
        let cost = report::unit_costs(&mut connection, &july, UsageUnit::Requests, By::Workload, only).await.unwrap();
        assert_eq!(rows_of(&cost)[0], "ml/chat 240 24.00 0.10 0.10 0.10 0.10 - - - - 24 100.0 10.0");
        assert!(
            cost.sentence.starts_with("A request cost $0.10, without what vendors have not billed yet; half of them"),
            "{}",
            cost.sentence
        );
        let said = "Left out: 2160 requests at openai on 1 day without a vendor bill, since what they cost is not known yet.";
        assert!(cost.sentence.contains(said), "{}", cost.sentence);
    }
    let economics = report::unit_economics(&mut connection, &july, &[EconomicsBy::Endpoint], &[]).await.unwrap();
    let at = |name: &str| economics.columns.iter().position(|column| column == name).unwrap();
    let row = &economics.rows[0];
    assert_eq!(
        ["requests", "usd_per_request", "requests_costed_percent", "tokens_costed_percent"].map(|name| row[at(name)].as_deref()),
        [Some("240"), Some("0.1"), Some("10"), Some("0")]
    );
    let said = "Not included: 2160 requests at openai on 1 day without a vendor bill and 23760 tokens at openai on 1 day without a vendor bill, since what they \
                cost is not known yet.";
    assert!(economics.sentence.contains(said), "{}", economics.sentence);
    let view = "SELECT sum(units)::bigint, round(sum(cost_usd) / sum(units), 4) FROM ledger.unit_cost_hourly WHERE unit = 'requests'";
    assert_eq!(server.psql("postgres", view).unwrap().trim(), "240|0.1000");
    // A bill of another vendor is not the one that is missing; one that does not say whose it is may be.
    let costs = |name: &str, item: &str| folder.file(name, &format!("period,item,cost_usd,workload\n2026-07-20,{item},216,ml/chat\n"));
    let other = taken(&mut connection, Format::Costs, &[costs("c1.csv", "Anthropic: API")]).await.unwrap().statements[0].id;
    let cost = report::unit_costs(&mut connection, &july, UsageUnit::Requests, By::Workload, &[]).await.unwrap();
    assert!(cost.sentence.contains("Left out: 2160 requests at openai"), "{}", cost.sentence);
    retract(&mut connection, other, "a test", LATER).await.unwrap();
    for item in ["OpenAI: API", "llm"] {
        let billed = taken(&mut connection, Format::Costs, &[costs("c2.csv", item)]).await.unwrap().statements[0].id;
        let cost = report::unit_costs(&mut connection, &july, UsageUnit::Requests, By::Workload, &[]).await.unwrap();
        assert!(rows_of(&cost)[0].starts_with("ml/chat 2400 240.00 0.10 "), "{item}: {:?}", rows_of(&cost));
        assert!(cost.sentence.starts_with("A request cost $0.10, including everything that is posted; "), "{}", cost.sentence);
        retract(&mut connection, billed, "a test", LATER).await.unwrap();
    }
}

/// An hour that two teams had of one workload is each one's by what it paid.
#[tokio::test]
async fn an_hour_of_two_teams_is_each_ones_by_what_it_paid() {
    let Bench { url, ledger, server } = bench().await;
    let mut connection = connect(&url).await.unwrap();
    for (name, team, price) in [("a", "search", 1_000_000), ("b", "vision", 3_000_000)] {
        let mut machine = Machine::new(name, CapacityType::Spot, price, None, Millis::from_hours(1), EndedBy::Lowtide);
        let mut pod = stay(&format!("pod-{name}"), team, &machine, Millis::ZERO, None);
        pod.workload = "chat".into();
        machine.stays.push(pod);
        ledger.write(&machine.records()).await.unwrap();
    }
    post(&mut connection, LATER).await.unwrap();
    store_usage(&mut connection, &counted(UsageUnit::Requests, 400)[..1], "prometheus").await.unwrap();
    let view = "SELECT string_agg(team || ' ' || units::bigint || ' ' || cost_usd::numeric(10,2) || ' ' || usd_per_unit::numeric(10,4) || ' ' || useful_gpu_hours::numeric(10,1), ', ' ORDER BY team)
                FROM ledger.unit_cost_hourly";
    assert_eq!(server.psql("postgres", view).unwrap().trim(), "search 100 1.00 0.0100 1.0, vision 300 3.00 0.0100 1.0");
}

/// A page between others that is not there: the days on both sides of it say so, with usage or without.
#[tokio::test]
async fn a_page_that_is_missing_between_others_is_noticed() {
    let Bench { url, server: _server, .. } = bench().await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("mixed-pages");
    let none = Projects::default();
    let first = folder.file("p1.json", &page(0, &[Some(24), None], true));
    let second = folder.file("p2.json", &page(2, &[None, None], true));
    let third = folder.file("p3.json", &page(4, &[Some(24)], false));
    let fault = import(&mut connection, Format::VendorUsage(&none), &[first.clone(), third.clone()], Options::default(), LATER).await;
    let fault = fault.unwrap_err().to_string();
    let said = "the pages of openai say nothing of the time from 2026-07-22T00:00:00.000Z to 2026-07-24T00:00:00.000Z, although others before and after it do";
    assert!(fault.starts_with(said) && fault.ends_with("nothing was imported"), "{fault}");
    let all = import(&mut connection, Format::VendorUsage(&none), &[third, first, second], Options::default(), LATER).await.unwrap();
    assert_eq!(all.statements.len(), 2);
}

/// More requests at a vendor are no more work of our GPUs, and no less time for each.
#[tokio::test]
async fn what_a_vendor_did_moves_no_volume_of_our_machines() {
    let Bench { url, ledger, server: _server } = bench().await;
    let mut connection = connect(&url).await.unwrap();
    let (july, june) = (DAY, DAY - Millis::from_hours(24 * 30));
    for (name, from) in [("a", june), ("b", july)] {
        let mut machine = Machine::new(name, CapacityType::Spot, 1_000_000, None, Millis::from_hours(24), EndedBy::Lowtide);
        (machine.interval.from, machine.interval.to) = (from, from + Millis::from_hours(24));
        let mut pod = stay(&format!("pod-{name}"), "search", &machine, Millis::ZERO, None);
        pod.workload = "chat".into();
        machine.stays.push(pod);
        ledger.write(&machine.records()).await.unwrap();
    }
    post(&mut connection, LATER).await.unwrap();
    let mut usage = counted(UsageUnit::Requests, 1_000);
    usage.extend(
        counted(UsageUnit::Requests, 1_000).into_iter().map(|hour| UsageHour { hour: hour.hour - Millis::from_hours(24 * 30), ..hour }),
    );
    store_usage(&mut connection, &usage, "prometheus").await.unwrap();
    let folder = Folder::new("mixed-variance");
    let projects = projects(&folder);
    let file = folder.file("day.json", &page(0, &[Some(24_000)], false));
    import(&mut connection, Format::VendorUsage(&projects), &[file], Options::default(), LATER).await.unwrap();
    let months: [Month; 2] = ["2026-06", "2026-07"].map(|month| month.parse().unwrap());
    let report =
        report::variance(&mut connection, &months[0], &months[1], VarianceBy::Step, &[], LATER + Millis::from_hours(9_000)).await.unwrap();
    assert_eq!(
        rows_of(&report)[1..3],
        ["volume 0.000000 requests 24000 -> 24000", "efficiency 0.000000 GPU-seconds per request 3.600 -> 3.600"]
    );
    let steps: i64 = sqlx::query_scalar("SELECT count(*) FROM ledger.variance_month WHERE month = '2026-07-01'")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(steps, 0, "the view says the same");
}
