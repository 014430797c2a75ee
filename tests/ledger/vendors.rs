//! Usage of AI vendors, and what AI costs by endpoint, model and month.

use lowtide::core::fleet::EndedBy;
use lowtide::core::market::CapacityType;
use lowtide::core::units::time::Millis;
use lowtide::ledger::connect;
use lowtide::ledger::import::{Format, Options, Projects, import, retract};
use lowtide::ledger::poster::post;
use lowtide::ledger::report::{EconomicsBy, Month, unit_economics};
use lowtide::ports::Ledger;

use crate::facts::{Bench, DAY, Machine, bench, chat_bench, rows_of, stay};
use crate::imports::{Folder, LATER, taken};

/// A page of OpenAI's usage API for 20 July 2026.
fn openai(rows: &[(&str, &str, i64, i64, i64)], more: bool) -> String {
    let day = DAY.0 / 1_000;
    let results: Vec<String> = rows
        .iter()
        .map(|(project, model, requests, read, written)| {
            format!(
                r#"{{"object": "organization.usage.completions.result", "input_tokens": {read}, "output_tokens": {written}, "input_cached_tokens": 0,
                     "num_model_requests": {requests}, "project_id": "{project}", "user_id": null, "api_key_id": null, "model": "{model}", "batch": null}}"#
            )
        })
        .collect();
    format!(
        r#"{{"object": "page", "data": [{{"object": "bucket", "start_time": {day}, "end_time": {}, "results": [{}]}}], "has_more": {more}, "next_page": null}}"#,
        day + 86_400,
        results.join(", ")
    )
}

#[tokio::test]
async fn unit_economics_are_those_of_machines_and_vendors_together() {
    // `chat` also asks a vendor.
    let (Bench { server, .. }, mut connection) = chat_bench().await;
    let folder = Folder::new("vendors");
    let projects = Projects::read(&folder.file("p.csv", "field,value,workload\nproject,proj_chat,ml/chat\n")).unwrap();
    let vendor = Format::VendorUsage(&projects);
    let rows = [("proj_chat", "gpt-a", 300, 9_000, 3_000), ("proj_chat", "gpt-b", 100, 3_000, 1_000), ("proj_else", "gpt-a", 7, 70, 7)];
    // A page that says there are others is not all of it.
    let part = folder.file("part.json", &openai(&rows, true));
    let fault = import(&mut connection, vendor, &[part], Options::default(), LATER).await.unwrap_err().to_string();
    assert!(fault.contains("another page follows") && fault.ends_with("nothing was imported"), "{fault}");
    let first = folder.file("v1.json", &openai(&[("proj_chat", "gpt-a", 1, 10, 10)], false));
    import(&mut connection, vendor, &[first], Options::default(), LATER).await.unwrap();
    let accept = lowtide::ledger::import::Checks::accepting([lowtide::ledger::import::Check::AmountChanged]);
    let second = folder.file("v2.json", &openai(&rows, false));
    for _ in 0..2 {
        let options = Options { checks: accept.clone(), ..Options::default() };
        import(&mut connection, vendor, std::slice::from_ref(&second), options, LATER).await.unwrap();
    }
    let usage = "SELECT string_agg(u, ', ' ORDER BY u) FROM (SELECT workload_namespace || '/' || workload_name || ' ' || model || ' ' || unit || ' ' || sum(quantity)::bigint AS u
                 FROM ledger.usage_by_model GROUP BY workload_namespace, workload_name, model, unit) x";
    assert_eq!(
        server.psql("postgres", usage).unwrap().trim(),
        "ml/chat gpt-a requests 300, ml/chat gpt-a tokens_in 9000, ml/chat gpt-a tokens_out 3000, ml/chat gpt-b requests 100, ml/chat gpt-b tokens_in 3000, \
         ml/chat gpt-b tokens_out 1000, openai/proj_else gpt-a requests 7, openai/proj_else gpt-a tokens_in 70, openai/proj_else gpt-a tokens_out 7",
        "a newer version of a day replaces the older, and a day is spread over its hours without losing any"
    );
    // What the vendor billed, people of the month, and what it earned. $24 of machines, $16 of the vendor, $2 of storage.
    let costs = "period,item,cost_usd,workload,component\n2026-07-20,gpt,16,ml/chat,\n2026-07-20,disks,2,ml/chat,storage\n2026-07-20,tooling,5,,baseline\n";
    taken(&mut connection, Format::Costs, &[folder.file("c.csv", costs)]).await.unwrap();
    let users = folder.file("u.csv", "hour,workload,monthly_users\n2026-07-01T00:00:00Z,ml/chat,21\n");
    taken(&mut connection, Format::Usage, &[users]).await.unwrap();
    let wrong = folder.file("u2.csv", "hour,workload,monthly_users\n2026-07-02T00:00:00Z,ml/chat,21\n");
    let fault = taken(&mut connection, Format::Usage, &[wrong]).await.unwrap_err();
    assert!(fault.contains("the first hour of a month"), "{fault}");
    taken(&mut connection, Format::Revenue, &[folder.file("r.csv", "period,workload,revenue_usd\n2026-07-20,ml/chat,100\n")])
        .await
        .unwrap();
    let july = "2026-07".parse::<Month>().unwrap().days();
    let by_endpoint = unit_economics(&mut connection, &july, &[EconomicsBy::Endpoint], &[]).await.unwrap();
    // $42 for 400 requests, 12,000 tokens in, 4,000 out and 21 people.
    assert_eq!(
        rows_of(&by_endpoint)[0],
        "ml/chat 24.000000 16.000000 0.000000 2.000000 0.000000 42.000000 400 12000 4000 21 0.105 3.5 10.5 2.625 2 100 100 100 100.000000 58.000000 42.0 100.0 100 100"
    );
    assert_eq!(
        by_endpoint.sentence,
        "AI cost $47.00: machines $24.00, vendors' APIs $16.00, data transfer $0.00, storage $2.00, other $5.00. That is 47.0 % of the $100.00 earned, and \
         leaves $53.00. Revenue is known for the workloads and months of 89.4 % of the cost. $5.00 of it names no endpoint and is in no cost per unit. \
         98.3 % of the requests and 99.5 % of the tokens fell into hours for which a cost is posted; the others are in no cost per unit. Not included: 7 requests \
         at openai on 1 day without a vendor bill and 77 tokens at openai on 1 day without a vendor bill, since what they cost is not known yet."
    );
    let by_model = unit_economics(&mut connection, &july, &[EconomicsBy::Model], &[]).await.unwrap();
    // Three quarters of the tokens.
    assert_eq!(
        rows_of(&by_model),
        [
            "gpt-a 1 31.500000 300 9000 3000 0.105 3.5 10.5 2.625 100 100 0.000000 18.000000 12.000000 0.000000 1.500000 0.000000",
            "gpt-b 1 10.500000 100 3000 1000 0.105 3.5 10.5 2.625 100 100 0.000000 6.000000 4.000000 0.000000 0.500000 0.000000"
        ]
    );
    assert!(by_model.sentence.contains("A model's cost is a share of its endpoint's by tokens"), "{}", by_model.sentence);
    // Endpoints by one of their models: its part of their hours.
    let only = ["model=gpt-a".parse().unwrap()];
    let of_model = unit_economics(&mut connection, &july, &[EconomicsBy::Endpoint], &only).await.unwrap();
    assert_eq!(
        rows_of(&of_model),
        ["ml/chat 31.500000 75.0 300 9000 3000 0.105 3.5 10.5 2.625 100 100 0.000000 18.000000 12.000000 0.000000 1.500000 0.000000"]
    );
    assert_eq!(of_model.columns[..3], ["endpoint", "cost_usd", "cost_percent_of_models"]);
    assert!(
        of_model.sentence.ends_with("Of the hours whose usage is known by model, $31.50 is for the models asked for."),
        "{}",
        of_model.sentence
    );
    let monthly =
        unit_economics(&mut connection, &july, &[EconomicsBy::Month, EconomicsBy::Endpoint], &["model=gpt-b".parse().unwrap()]).await;
    assert_eq!(
        rows_of(&monthly.unwrap()),
        ["2026-07 ml/chat 10.500000 25.0 100 3000 1000 0.105 3.5 10.5 2.625 100 100 0.000000 6.000000 4.000000 0.000000 0.500000 0.000000"]
    );
    // The same usage by another name is once; another figure for an hour is refused, whatever models it tells apart.
    let named = || Options { source: Some("dashboard".into()), ..Options::default() };
    import(&mut connection, vendor, std::slice::from_ref(&second), named(), LATER).await.unwrap();
    let again = unit_economics(&mut connection, &july, &[EconomicsBy::Model], &[]).await.unwrap();
    assert_eq!(rows_of(&again), rows_of(&by_model));
    let other = folder.file("other.csv", "hour,workload,requests\n2026-07-20T07:00:00Z,ml/chat,9\n");
    let fault =
        import(&mut connection, Format::Usage, &[other], Options { source: Some("metrics".into()), ..Options::default() }, LATER).await;
    let fault = fault.unwrap_err().to_string();
    assert!(
        fault.contains("another source has a different figure for requests of ml/chat in the hour from 2026-07-20T07:00:00.000Z"),
        "{fault}"
    );
    let id = "SELECT id FROM ledger.statements WHERE source = 'dashboard' AND state = 'holds'";
    let id = server.psql("postgres", id).unwrap().trim().parse().unwrap();
    retract(&mut connection, id, "a test", LATER).await.unwrap();
    let by_month = unit_economics(&mut connection, &july, &[EconomicsBy::Month], &[]).await.unwrap();
    assert_eq!(
        rows_of(&by_month),
        ["2026-07 24.000000 16.000000 0.000000 2.000000 5.000000 47.000000 100.000000 53.000000 47.0 53.0 89.4"]
    );
    let percentiles = unit_economics(&mut connection, &july, &[EconomicsBy::Percentiles], &[]).await.unwrap();
    let requests = percentiles.rows.iter().find(|row| row[0].as_deref() == Some("requests")).unwrap();
    assert_eq!(
        (requests[1].as_deref(), requests[2].as_deref(), requests[6].as_deref(), requests[7].as_deref()),
        (Some("400"), Some("0.105"), Some("100"), Some("24"))
    );
    // A day's 400 requests are spread over 24 hours in millionths.
    for percentile in &requests[3..6] {
        assert!((percentile.as_deref().unwrap().parse::<f64>().unwrap() - 0.105).abs() < 1e-6, "{requests:?}");
    }
    let view = "SELECT usd_per_1000_tokens_in::numeric(10,4), usd_per_user::numeric(10,4), cost_percent_of_revenue FROM ledger.unit_economics WHERE workload_name = 'chat'";
    assert_eq!(server.psql("postgres", view).unwrap().trim(), "3.5000|2.0000|42.0");
    // Taken back, usage is gone, by model too.
    let id = "SELECT id FROM ledger.statements WHERE source = 'openai' AND state = 'holds'";
    let id = server.psql("postgres", id).unwrap().trim().parse().unwrap();
    retract(&mut connection, id, "a test", LATER).await.unwrap();
    let left = server
        .psql("postgres", "SELECT count(DISTINCT model), sum(quantity) FILTER (WHERE unit = 'requests')::bigint FROM ledger.usage_by_model")
        .unwrap();
    assert_eq!(left.trim(), "1|1", "the version before holds again");
}

/// The same usage by the day and by the hour, or from the API and from the dashboard, is refused and not added up.
#[tokio::test]
async fn usage_that_two_files_have_is_refused() {
    let Bench { url, server: _server, .. } = bench().await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("vendors-twice");
    let none = Projects::default();
    let day = folder.file("day.json", &openai(&[("proj_a", "gpt-a", 24, 2_400, 240)], false));
    let hour = openai(&[("proj_a", "gpt-a", 1, 100, 10)], false)
        .replace(&(DAY.0 / 1_000 + 86_400).to_string(), &(DAY.0 / 1_000 + 3_600).to_string());
    let hour = folder.file("hour.json", &hour);
    let files = [day.clone(), hour];
    let fault = import(&mut connection, Format::VendorUsage(&none), &files, Options::default(), LATER).await.unwrap_err().to_string();
    assert!(fault.contains("is on another page or in another of these files as well") && fault.contains("--accept hours-twice"), "{fault}");
    // Another model of the same day, and another day, are no repetition.
    let model = folder.file("model.json", &openai(&[("proj_a", "gpt-b", 24, 2_400, 240)], false));
    import(&mut connection, Format::VendorUsage(&none), &[day.clone(), model], Options::default(), LATER).await.unwrap();
    // Pages of one vendor are complete or not by themselves.
    let open = folder.file("open.json", &openai(&[("proj_b", "gpt-c", 24, 2_400, 240)], true));
    let anthropic = folder.file(
        "a.json",
        r#"{"data": [{"starting_at": "2026-07-20T00:00:00Z", "ending_at": "2026-07-20T01:00:00Z", "results": [
        {"uncached_input_tokens": 100, "output_tokens": 500, "workspace_id": "w", "model": "claude-x"}]}], "has_more": false}"#,
    );
    let fault =
        import(&mut connection, Format::VendorUsage(&none), &[open, anthropic], Options::default(), LATER).await.unwrap_err().to_string();
    assert!(fault.contains("open.json says that another page follows (has_more)"), "{fault}");
}

/// What runs at a vendor alone earns too: its revenue is its owner's, and after a new label of its costs each owner's part.
#[tokio::test]
async fn what_runs_at_a_vendor_alone_earns_for_those_who_pay() {
    let Bench { url, server: _server, .. } = bench().await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("vendors-alone");
    let none = Projects::default();
    let day = folder.file("day.json", &openai(&[("proj_a", "gpt-a", 240, 2_400, 240)], false));
    import(&mut connection, Format::VendorUsage(&none), &[day], Options::default(), LATER).await.unwrap();
    let costs = "period,item,cost_usd,workload,team\n2026-07-20,gpt,9,openai/proj_a,search\n2026-07-20,gpt-more,3,openai/proj_a,vision\n";
    taken(&mut connection, Format::Costs, &[folder.file("c.csv", costs)]).await.unwrap();
    taken(&mut connection, Format::Revenue, &[folder.file("r.csv", "period,workload,revenue_usd\n2026-07-20,openai/proj_a,40\n")])
        .await
        .unwrap();
    let july = "2026-07".parse::<Month>().unwrap().days();
    let by_team = lowtide::ledger::report::unit_costs(
        &mut connection,
        &july,
        lowtide::core::workload::need::UsageUnit::Requests,
        lowtide::ledger::report::By::Team,
        &[],
    );
    let by_team = by_team.await.unwrap();
    let at = by_team.columns.iter().position(|column| column == "revenue_per_unit").unwrap();
    // $30 for 180 requests, and $10 for 60.
    let found: Vec<_> =
        by_team.rows.iter().map(|row| (row[0].as_deref().unwrap(), row[1].as_deref().unwrap(), row[at].as_deref())).collect();
    assert_eq!(found, [("search", "180", Some("0.1667")), ("vision", "60", Some("0.1667")), ("total", "240", Some("0.1667"))]);
    let only = ["team=vision".parse().unwrap()];
    let of_vision = unit_economics(&mut connection, &july, &[EconomicsBy::Endpoint], &only).await.unwrap();
    assert!(of_vision.sentence.contains("That is 30.0 % of the $10.00 earned, and leaves $7.00."), "{}", of_vision.sentence);
}

/// Each average says on which share of the cost it rests, and what is not known changes none: tokens of some hours only, users and revenue of one month of
/// two, hours without a request, an endpoint that earns nothing.
#[tokio::test]
async fn each_average_says_what_it_rests_on() {
    let Bench { url, ledger, server } = bench().await;
    let mut connection = connect(&url).await.unwrap();
    // $10 of June, $40 of July for `chat`; $50 of July for `batch`, of which nothing else is known.
    let june = DAY - Millis::from_hours(24 * 30);
    for (name, workload, from, hours) in [("a", "chat", june, 10), ("b", "chat", DAY, 40), ("c", "batch", DAY, 50)] {
        let mut machine = Machine::new(name, CapacityType::Spot, 1_000_000, None, Millis::from_hours(hours), EndedBy::Lowtide);
        (machine.interval.from, machine.interval.to) = (from, from + Millis::from_hours(hours));
        let mut pod = stay(&format!("pod-{name}"), "search", &machine, Millis::ZERO, None);
        pod.workload = workload.into();
        machine.stays.push(pod);
        ledger.write(&machine.records()).await.unwrap();
    }
    post(&mut connection, LATER).await.unwrap();
    let folder = Folder::new("vendors-shares");
    // Requests of all forty hours of July, half of them without any; tokens of ten.
    let mut rows = "hour,workload,model,requests,tokens_in,tokens_out\n".to_owned();
    for hour in 0..40 {
        let (requests, tokens) = (if hour < 20 { 10 } else { 0 }, if hour < 10 { "100,50" } else { "," });
        rows.push_str(&format!("{},ml/chat,m-1,{requests},{tokens}\n", DAY + Millis::from_hours(hour)));
    }
    taken(&mut connection, Format::Usage, &[folder.file("u.csv", &rows)]).await.unwrap();
    let users = "hour,workload,monthly_users\n2026-07-01T00:00:00Z,ml/chat,20\n";
    taken(&mut connection, Format::Usage, &[folder.file("users.csv", users)]).await.unwrap();
    taken(&mut connection, Format::Revenue, &[folder.file("r.csv", "period,workload,revenue_usd\n2026-07,ml/chat,80\n")]).await.unwrap();
    let both = lowtide::ledger::report::Days { from: Some("2026-06-01".into()), to: Some("2026-08-01".into()) };
    let found = unit_economics(&mut connection, &both, &[EconomicsBy::Endpoint], &[]).await.unwrap();
    let chat = found.rows.iter().find(|row| row[0].as_deref() == Some("ml/chat")).unwrap();
    let of = |name: &str| chat[found.columns.iter().position(|column| column == name).unwrap()].as_deref().unwrap_or("-");
    let averages =
        ["usd_per_request", "usd_per_1000_tokens_in", "usd_per_1000_tokens_out", "usd_per_user", "cost_percent_of_revenue", "margin_usd"];
    // $40 for 200 requests and for 20 people, $10 for 1,000 tokens read and 500 written, $40 of the $80 earned.
    assert_eq!(averages.map(of), ["0.2", "10", "20", "2", "50.0", "40.000000"]);
    let shares = ["requests_coverage_percent", "tokens_coverage_percent", "users_coverage_percent", "revenue_coverage_percent"];
    assert_eq!(shares.map(of), ["80", "20", "80", "80.0"]);
    assert!(found.sentence.contains("Revenue is known for the workloads and months of 40.0 % of the cost."), "{}", found.sentence);
    // Half a month has no cost per user and month.
    let half = lowtide::ledger::report::Days { from: Some("2026-07-01".into()), to: Some("2026-07-21".into()) };
    let half = unit_economics(&mut connection, &half, &[EconomicsBy::Endpoint], &[]).await.unwrap();
    assert_eq!(half.rows[0][half.columns.iter().position(|column| column == "usd_per_user").unwrap()], None);
    let by_model = unit_economics(&mut connection, &both, &[EconomicsBy::Model], &[]).await.unwrap();
    // By tokens where they are known, else by requests: forty hours.
    // $40 of the $50 that the endpoint costs, and $10 of them.
    assert_eq!(
        rows_of(&by_model),
        ["m-1 1 40.000000 200 1000 500 0.2 10 20 6.666666666667 80 20 0.000000 40.000000 0.000000 0.000000 0.000000 0.000000"]
    );
    assert!(
        by_model.sentence.ends_with(
            "By model $40.00 is known of the $50.00 that these endpoints cost (80.0 %): hours whose usage is not known are left out."
        ),
        "{}",
        by_model.sentence
    );
    let percentiles = unit_economics(&mut connection, &both, &[EconomicsBy::Percentiles], &[]).await.unwrap();
    // The mean is that of the unit's own report; half of all requests came in hours in which one cost ten cents.
    assert_eq!(rows_of(&percentiles)[0], "requests 200 0.2 0.1 0.1 0.1 80 40");
    assert_eq!(rows_of(&percentiles).last().unwrap(), "tokens_out 500 0.02 0.02 0.02 0.02 20 10");
    let month = "SELECT cost_percent_of_revenue, revenue_coverage_percent FROM ledger.ai_cost_month WHERE month = '2026-07-01'";
    assert_eq!(server.psql("postgres", month).unwrap().trim(), "112.5|44.4");
}

/// An endpoint with two vendors: what each says of its own models adds up, whoever is imported last, and one of them by another name is still once.
#[tokio::test]
async fn an_endpoint_with_two_vendors_has_what_both_say() {
    let Bench { url, server, .. } = bench().await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("vendors-two");
    let machine = Machine::new("m", CapacityType::Spot, 1_000_000, None, Millis::from_hours(1), EndedBy::Lowtide);
    let mut pod = stay("p", "search", &machine, Millis::ZERO, None);
    pod.workload = "chat".into();
    let ledger = lowtide::ledger::PgLedger::with_patience(&url, std::time::Duration::from_secs(60)).unwrap();
    ledger.write(&Machine { stays: vec![pod], ..machine }.records()).await.unwrap();
    let projects = Projects::read(&folder.file("p.csv", "field,value,workload\nproject,proj_chat,ml/chat\nworkspace,w,ml/chat\n")).unwrap();
    let vendor = Format::VendorUsage(&projects);
    let one = folder.file("o.json", &openai(&[("proj_chat", "gpt-a", 24, 2_400, 240)], false));
    let other = folder.file(
        "a.json",
        r#"{"data": [{"starting_at": "2026-07-20T00:00:00Z", "ending_at": "2026-07-21T00:00:00Z", "results": [
        {"uncached_input_tokens": 4800, "output_tokens": 480, "workspace_id": "w", "model": "claude-x"}]}], "has_more": false}"#,
    );
    let read = "SELECT sum(quantity)::bigint || ' by ' || min(source) FROM ledger.usage WHERE unit = 'tokens_in'";
    import(&mut connection, vendor, &[one.clone(), other.clone()], Options::default(), LATER).await.unwrap();
    assert_eq!(server.psql("postgres", read).unwrap().trim(), "7200 by anthropic and openai");
    let by_model = "SELECT string_agg(model || ' ' || quantity, ', ' ORDER BY model) FROM (SELECT model, sum(quantity)::bigint AS quantity FROM ledger.usage_by_model
                    WHERE unit = 'tokens_out' GROUP BY model) x";
    assert_eq!(server.psql("postgres", by_model).unwrap().trim(), "claude-x 480, gpt-a 240");
    // One of them by the dashboard's name, and all of it as a total of one's own.
    let named = |source: &str| Options { source: Some(source.into()), ..Options::default() };
    import(&mut connection, vendor, std::slice::from_ref(&one), named("dashboard"), LATER).await.unwrap();
    assert_eq!(server.psql("postgres", read).unwrap().trim(), "7200 by anthropic and dashboard");
    let total = |tokens: i64| format!("hour,workload,tokens_in\n2026-07-20T07:00:00Z,ml/chat,{tokens}\n");
    import(&mut connection, Format::Usage, &[folder.file("t.csv", &total(300))], named("own"), LATER).await.unwrap();
    assert_eq!(server.psql("postgres", read).unwrap().trim(), "7200 by anthropic and dashboard");
    let fault = import(&mut connection, Format::Usage, &[folder.file("t2.csv", &total(200))], named("other"), LATER).await.unwrap_err();
    assert!(fault.to_string().contains("another source has a different figure for tokens_in of ml/chat"), "{fault}");
    // Under one name, both are one statement.
    let mut again = connect(&url).await.unwrap();
    let id = "SELECT id FROM ledger.statements WHERE source = 'dashboard' AND state = 'holds'";
    retract(&mut again, server.psql("postgres", id).unwrap().trim().parse().unwrap(), "a test", LATER).await.unwrap();
    import(&mut again, vendor, &[one, other], named("vendors"), LATER).await.unwrap();
    assert_eq!(server.psql("postgres", read).unwrap().trim().split(' ').next(), Some("7200"));
}

/// The same usage by model and by model and project, a page twice in one file, and two dashboards' tables put together.
#[tokio::test]
async fn usage_that_two_groupings_or_pages_have_is_refused() {
    let Bench { url, server: _server, .. } = bench().await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("vendors-pages");
    let none = Projects::default();
    let page = openai(&[("proj_a", "gpt-a", 24, 2_400, 240)], false);
    let by_model = page.replace("\"project_id\": \"proj_a\"", "\"project_id\": null");
    let csv = "start_time_iso,end_time_iso,project_id,num_model_requests,model,input_tokens,output_tokens\n\
               2026-07-20T00:00:00+00:00,2026-07-20T01:00:00+00:00,proj_a,5,gpt-a,1000,500\n";
    for files in [
        vec![folder.file("project.json", &page), folder.file("model.json", &by_model)],
        vec![folder.file("twice.json", &format!("[{page}, {page}]"))],
        vec![folder.file("both.json", &format!("{page}\n{by_model}"))],
        vec![folder.file("cat.csv", &format!("{csv}{csv}"))],
    ] {
        let fault = import(&mut connection, Format::VendorUsage(&none), &files, Options::default(), LATER).await.unwrap_err().to_string();
        assert!(
            fault.contains("the usage of gpt-a from 2026-07-20T00:00:00.000Z is on another page") && fault.contains("hours-twice"),
            "{fault}"
        );
    }
    // Pages of two projects are no repetition.
    let other = openai(&[("proj_b", "gpt-a", 24, 2_400, 240)], false);
    let both = folder.file("projects.json", &format!("[{page}, {other}]"));
    import(&mut connection, Format::VendorUsage(&none), &[both], Options::default(), LATER).await.unwrap();
}
