//! Statements: what a second file, a second version, a part or a damaged file does to the books. Each case is one that went wrong once.

use lowtide::core::fleet::EndedBy;
use lowtide::core::market::CapacityType;
use lowtide::core::units::time::{Millis, Timestamp};
use lowtide::ledger::connect;
use lowtide::ledger::import::{Check, Format, Options, dry_run, import, retract};
use lowtide::ledger::poster::post;
use lowtide::ledger::reconcile::reconcile;
use lowtide::ledger::report::{self, By, Month};
use lowtide::ports::Ledger;
use sqlx::PgConnection;

use crate::facts::{Bench, DAY, Machine, bench, stay};
use crate::imports::{Folder, LATER, accepted, changed, taken};

/// One machine for ten hours at a dollar, wholly used by team search.
pub async fn machine_of(ledger: &lowtide::ledger::PgLedger, name: &str, from: Timestamp, hours: i64) -> Machine {
    let mut machine = Machine::new(name, CapacityType::Spot, 1_000_000, Some(3_000_000), Millis::from_hours(hours), EndedBy::Lowtide);
    (machine.interval.from, machine.interval.to) = (from, from + Millis::from_hours(hours));
    machine.stays.push(stay(&format!("pod-{name}"), "search", &machine, Millis::ZERO, Some(3_000_000)));
    ledger.write(&machine.records()).await.unwrap();
    machine
}

pub const HEADER: &str = "identity_line_item_id,bill_invoice_id,bill_payer_account_id,bill_billing_period_start_date,line_item_usage_account_id,\
    line_item_line_item_type,line_item_resource_id,line_item_usage_type,line_item_operation,line_item_product_code,line_item_usage_start_date,\
    line_item_usage_end_date,line_item_usage_amount,line_item_unblended_cost,line_item_currency_code,savings_plan_savings_plan_effective_cost\n";

/// A line of the clock hour `hour` of 20 July 2026.
#[allow(clippy::too_many_arguments)]
pub fn line(id: &str, kind: &str, resource: &str, usage: &str, hour: i64, amount: &str, cost: &str, plan: &str) -> String {
    let (from, to) = (DAY + Millis::from_hours(hour), DAY + Millis::from_hours(hour + 1));
    format!(
        "{id},,111122223333,2026-07-01T00:00:00Z,444455556666,{kind},{resource},{usage},RunInstances,AmazonEC2,{from},{to},{amount},{cost},USD,{plan}\n"
    )
}

/// Whole hours of a machine at `cost` an hour.
fn hours(instance: &str, hours: std::ops::Range<i64>, cost: &str) -> String {
    hours.map(|hour| line(&format!("{instance}-{hour}"), "Usage", instance, "SpotUsage:g6.xlarge", hour, "1", cost, "")).collect()
}

pub async fn cost(connection: &mut PgConnection) -> String {
    sqlx::query_scalar("SELECT coalesce(sum(cost_usd), 0)::numeric(12,2)::text FROM ledger.cost_daily").fetch_one(connection).await.unwrap()
}

pub async fn of_line(connection: &mut PgConnection, line: &str) -> String {
    let sql = "SELECT coalesce(sum(cost_usd), 0)::numeric(12,2)::text FROM ledger.cost_daily WHERE line = $1";
    sqlx::query_scalar(sql).bind(line).fetch_one(connection).await.unwrap()
}

/// C02, C03, C04, C26: the same file twice, two versions in a folder, parts one by one, a damaged member.
#[tokio::test]
async fn files_twice_versions_and_parts_give_the_books_of_the_last_version() {
    let Bench { url, ledger, server: _server } = bench().await;
    machine_of(&ledger, "a", DAY, 10).await;
    machine_of(&ledger, "b", DAY, 10).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("statements-files");
    let first = folder.file("one/cur.csv", &format!("{HEADER}{}{}", hours("i-a", 0..10, "1.10"), hours("i-b", 0..10, "1.10")));
    taken(&mut connection, Format::Cur, &[first.clone(), first.clone()]).await.unwrap();
    assert_eq!(cost(&mut connection).await, "22.00", "the same file twice in one command is once");
    // The same lines under another name, and a header in the middle of a file put together by `cat`.
    let text = std::fs::read_to_string(&first).unwrap();
    let double = folder.file("double/both.csv", &format!("{text}{text}"));
    assert_eq!(changed(&taken(&mut connection, Format::Cur, &[double]).await.unwrap()), None);
    assert_eq!(cost(&mut connection).await, "22.00");

    // Two versions of one month in one folder, each with its manifest: the newer holds, whatever order they are given in.
    let manifest = |id: &str| {
        format!(
            r#"{{"assemblyId": "{id}", "reportKeys": ["p/20260701-20260801/{id}/r-00001.csv", "p/20260701-20260801/{id}/r-00002.csv"]}}"#
        )
    };
    let parts = |id: &str, price: &str| {
        folder.file(&format!("versions/{id}/r-Manifest.json"), &manifest(id));
        [("r-00001.csv", "i-a"), ("r-00002.csv", "i-b")]
            .map(|(name, machine)| folder.file(&format!("versions/{id}/{name}"), &format!("{HEADER}{}", hours(machine, 0..10, price))))
    };
    parts("2026-07-25T00:00:00Z-x", "1.10");
    let newer = parts("2026-08-03T00:00:00Z-y", "1.20");
    taken(&mut connection, Format::Cur, &[folder.0.join("versions")]).await.unwrap();
    assert_eq!(cost(&mut connection).await, "24.00", "versions are not added up");
    // The parts of one report, one command each: a part brings the others that its manifest names.
    for part in &newer {
        assert_eq!(changed(&taken(&mut connection, Format::Cur, std::slice::from_ref(part)).await.unwrap()), None);
    }
    std::fs::remove_file(&newer[1]).unwrap();
    let fault = taken(&mut connection, Format::Cur, &newer[..1]).await.unwrap_err();
    assert!(fault.contains("1 of them are missing: r-00002.csv") && fault.ends_with("nothing was imported"), "{fault}");
    let loose = folder.file("loose/r-00002.csv", &format!("{HEADER}{}", hours("i-b", 0..10, "1.20")));
    let fault = taken(&mut connection, Format::Cur, &[loose]).await.unwrap_err();
    assert!(fault.contains("r-00001 is missing"), "{fault}");
    let fault = import(&mut connection, Format::Cur, &[first], Options::default(), LATER).await.unwrap_err().to_string();
    assert!(fault.contains("add --complete if they are the whole month"), "{fault}");

    // Versions side by side in one folder, without a manifest: lines have their identities.
    let flat = [("v1.csv", "1.20"), ("v2.csv", "1.30")].map(|(name, price)| {
        folder.file(&format!("flat/{name}"), &format!("{HEADER}{}{}", hours("i-a", 0..10, price), hours("i-b", 0..10, price)))
    });
    taken(&mut connection, Format::Cur, &flat).await.unwrap();
    assert_eq!(cost(&mut connection).await, "26.00");
    // Without identities it is seen that two files are alike, and that no machine runs two hours in one.
    let bare = |name: &str, text: String| {
        folder.file(name, &text.lines().map(|l| format!("{}\n", l.split_once(',').unwrap().1)).collect::<String>())
    };
    let nameless = [("bare/v1.csv", "1.20"), ("bare/v2.csv", "1.30")]
        .map(|(name, price)| bare(name, format!("{HEADER}{}", hours("i-a", 0..10, price))));
    let fault = taken(&mut connection, Format::Cur, &nameless).await.unwrap_err();
    assert!(fault.contains("the use of i-a in the span from 2026-07-20 00:00 UTC is in v1.csv and in v2.csv (10 spans in all)"), "{fault}");
    let both = bare("bare/both.csv", format!("{HEADER}{}{}", hours("i-a", 0..10, "1.20"), hours("i-a", 0..10, "1.30")));
    let fault = taken(&mut connection, Format::Cur, &[both]).await.unwrap_err();
    assert!(fault.contains("i-a is used for 2.00 hours in the span from 2026-07-20 00:00 UTC (10 spans in all)"), "{fault}");
    // A file put behind itself, with its header again and without: eighteen minutes of each hour, and what names no machine.
    let part: String = (0..10)
        .map(|hour| {
            line("", "Usage", "i-a", "SpotUsage:g6.xlarge", hour, "0.3", "0.36", "")
                + &line("", "Usage", "vol-1", "EBS:VolumeUsage.gp3", hour, "1", "0.1", "")
        })
        .collect();
    let volumes: String = (0..10).map(|hour| line("", "Usage", "vol-1", "EBS:VolumeUsage.gp3", hour, "1", "0.1", "")).collect();
    for (name, text, said) in [
        (
            "header",
            format!("{HEADER}{part}{HEADER}{part}"),
            "the use of i-a in the span from 2026-07-20 00:00 UTC is in two parts of cur.csv, each with its header (10 spans in all)",
        ),
        ("none", format!("{HEADER}{part}{part}"), "20 of the 20 different lines of cur.csv come more than once, word for word"),
        (
            "volumes",
            format!("{HEADER}{volumes}{HEADER}{volumes}"),
            "10 of the 10 different lines of cur.csv come more than once, word for word",
        ),
    ] {
        for text in [bare(&format!("{name}/cur.csv"), text.clone()), folder.file(&format!("{name}-empty/cur.csv"), &text)] {
            let fault = taken(&mut connection, Format::Cur, &[text]).await.unwrap_err();
            assert!(
                fault.contains(said) && fault.contains("nothing was imported (if it is correct nevertheless: --accept hours-twice)"),
                "{fault}"
            );
        }
    }
    assert_eq!(cost(&mut connection).await, "26.00");

    // A member of a gzip file after the first is damaged, or the file is cut.
    let packed = |name: &str, text: &str| std::fs::read(folder.packed(name, text)).unwrap();
    let (one, two) =
        (packed("m1.csv", &format!("{HEADER}{}", hours("i-a", 0..10, "1.30"))), packed("m2.csv", &hours("i-b", 0..10, "1.30")));
    let mut damaged = [one.clone(), two.clone()].concat();
    damaged[one.len() + 1] ^= 0x55;
    let cut = [one.clone(), two[..two.len() - 9].to_vec()].concat();
    for (name, bytes) in [("damaged.csv.gz", damaged), ("cut.csv.gz", cut)] {
        let path = folder.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        let fault = taken(&mut connection, Format::Cur, &[path]).await.unwrap_err();
        assert!(fault.contains("damaged or was cut off") && fault.ends_with("nothing was imported"), "{fault}");
    }
    assert_eq!(cost(&mut connection).await, "26.00");
}

/// C07, C13, C14, C16: a Savings Plan that comes later, a whole account, a refund whose span is a point, a credit.
#[tokio::test]
async fn a_newer_version_replaces_the_older_and_what_stands_beside_is_named() {
    let Bench { url, ledger, server: _server } = bench().await;
    machine_of(&ledger, "a", DAY, 10).await;
    machine_of(&ledger, "0a1b2c3d4e5f60001", DAY, 10).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("statements-lines");
    let july = "2026-07".parse::<Month>().unwrap();
    let on_demand = folder.file("mid/cur.csv", &format!("{HEADER}{}", hours("i-a", 0..10, "3.00")));
    accepted(&mut connection, Format::Cur, std::slice::from_ref(&on_demand), Check::AmountChanged).await;
    assert_eq!(cost(&mut connection).await, "40.00");
    let plan = |hour: i64| {
        [
            line(&format!("s{hour}"), "SavingsPlanCoveredUsage", "i-a", "BoxUsage:g6.xlarge", hour, "1", "3.00", "2.00"),
            line(&format!("n{hour}"), "SavingsPlanNegation", "", "BoxUsage:g6.xlarge", hour, "1", "-3.00", ""),
        ]
        .concat()
    };
    let covered: String = (0..10).map(plan).collect();
    let last = folder.file("final/cur.csv", &format!("{HEADER}{covered}"));
    taken(&mut connection, Format::Cur, std::slice::from_ref(&last)).await.unwrap();
    assert_eq!(cost(&mut connection).await, "30.00", "not both");
    let fault = taken(&mut connection, Format::Cur, &[folder.file("old/cur.csv", &format!("{HEADER}{}", hours("i-a", 0..5, "2.00")))])
        .await
        .unwrap_err();
    assert!(fault.contains("it is older; nothing was imported (if it is correct nevertheless: --accept older-version)"), "{fault}");

    // The whole account: ours, those of others, and everything else, each by its name.
    let saved = report::savings(&mut connection, &july.days(), By::Team, &[]).await.unwrap();
    let account = [
        covered.clone(),
        line("c", "Credit", "i-a", "BoxUsage:g6.xlarge", 0, "0", "-25", ""),
        line("v", "Usage", "vol-1", "EBS:VolumeUsage.gp3", 0, "1", "7", ""),
        line("t", "Tax", "", "", 0, "1", "3", ""),
        line("nat", "Usage", "arn:aws:ec2:us-east-1:1:natgateway/nat-1", "NatGateway-Hours", 0, "1", "4", ""),
        line("o", "Usage", "i-other", "BoxUsage:m5.large", 0, "1", "85708.80", ""),
        line("db", "Usage", "db-1", "InstanceUsage:db", 0, "1", "11", "").replace("AmazonEC2", "AmazonRDS"),
    ]
    .concat();
    let file = folder.file("account/cur.csv", &format!("{HEADER}{account}"));
    accepted(&mut connection, Format::Cur, std::slice::from_ref(&file), Check::AmountChanged).await;
    assert_eq!((cost(&mut connection).await, of_line(&mut connection, "credit").await), ("5.00".to_owned(), "-25.00".to_owned()));
    let after = report::savings(&mut connection, &july.days(), By::Team, &[]).await.unwrap();
    assert_eq!(after.sentence.split(". ").next(), saved.sentence.trim_end_matches('.').split(". ").next(), "a credit is not a saving");
    assert!(
        after.sentence.contains("-$25.00 of other costs, credits and charges besides the machines counts toward no saving."),
        "{}",
        after.sentence
    );
    let said = reconcile(&mut connection, &july).await.unwrap().sentence;
    assert_eq!(
        said,
        "2026-07: AWS confirmed 0 instance-hours and 10 were trued up by $10.00, $20.00 in all; $10.00 in 10 instance-hours is not on a bill or feed \
         yet. Beside them, on lines of their own: credits, of our machines -$25.00. No part of these figures: machines, of others in the account \
         $85708.80; NAT and endpoints, of the account $4.00; other services, of the account $11.00; taxes, of the account $3.00; volumes, of the account $7.00."
    );

    // A refund whose start is its end belongs to the hour it lies in.
    let refund = "rf1,2022-11-01T00:00:00Z/2022-11-01T00:00:00Z,EUINUA22-1,912480050416,912480050416,Refund,2026-07-20T03:00:00Z,2026-07-20T03:00:00Z,\
        AmazonEC2,EU-SpotUsage:g6.xlarge,RunInstances:SV001,i-0a1b2c3d4e5f60001,0,USD,-0.844161,COMPANY NAME CREDITS\n";
    let header = "identity/LineItemId,identity/TimeInterval,bill/InvoiceId,bill/PayerAccountId,lineItem/UsageAccountId,lineItem/LineItemType,\
        lineItem/UsageStartDate,lineItem/UsageEndDate,lineItem/ProductCode,lineItem/UsageType,lineItem/Operation,lineItem/ResourceId,\
        lineItem/UsageAmount,lineItem/CurrencyCode,lineItem/UnblendedCost,lineItem/LineItemDescription\n";
    let tax = "t1,2022-10-25T11:52:54Z/2022-11-01T00:00:00Z,EUINUA22-574609,912480050416,912480050416,Tax,2026-07-12 10:00:00,2026-07-08 12:00:00,\
        AWSCodeCommit,,,,1.0,USD,0.0,Tax for product code AWSCodeCommit\n";
    let point = folder.file("point/cur.csv", &format!("{header}{tax}{refund}"));
    let fault = taken(&mut connection, Format::Cur, std::slice::from_ref(&point)).await.unwrap_err();
    assert!(fault.contains("is final and has no line for the use of i-0a1b2c3d4e5f60001: 1 of our machines"), "{fault}");
    accepted(&mut connection, Format::Cur, &[point], Check::MissingMachines).await;
    // A refund alone makes no hour free.
    assert_eq!(of_line(&mut connection, "pod").await, "30.00");
    let refunded = "SELECT string_agg(to_char(at AT TIME ZONE 'UTC', 'HH24:MI') || ' ' || cost_usd::numeric(10,6), ', ') FROM ledger.posting WHERE line = 'refund'";
    let refunded: String = sqlx::query_scalar(refunded).fetch_one(&mut connection).await.unwrap();
    assert_eq!(refunded, "03:00 -0.844161");
}

/// C40: an instance-hour across midnight of the first counts whole in the month in which it begins.
#[tokio::test]
async fn hours_across_the_end_of_a_month_are_cut_alike_on_both_sides() {
    let Bench { url, ledger, server: _server } = bench().await;
    let first = Timestamp::from_date(2026, 8, 1);
    machine_of(&ledger, "late", first - Millis::from_mins(90), 3).await;
    let mut connection = connect(&url).await.unwrap();
    post(&mut connection, LATER).await.unwrap();
    let folder = Folder::new("statements-midnight");
    let lines: String = (0..3)
        .map(|n| {
            let at = (first - Millis::from_mins(90) + Millis::from_hours(n)).to_rfc3339().replace('T', " ").replace('Z', " UTC");
            format!("{at}\tSpotUsage:g6.xlarge\tRunInstances\ti-late\tsir\t9 USD\t1.0 USD\t1.0 USD\t1\n")
        })
        .collect();
    let file = folder.file("123456789012.2026-07-31-23.001.x", &format!("{}{lines}", crate::imports::FEED_HEADER));
    taken(&mut connection, Format::Feed, &[file]).await.unwrap();
    for (month, rows) in
        [("2026-07", "confirmed feed 2 2.000000 2.000000 0.000000"), ("2026-08", "confirmed feed 1 1.000000 1.000000 0.000000")]
    {
        let report = reconcile(&mut connection, &month.parse().unwrap()).await.unwrap();
        let found: Vec<String> = report.rows.iter().map(|row| row.iter().flatten().cloned().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(found, [rows], "{month}");
    }
}

/// K01, R01, U01: other costs with a corrected tag, revenue by month and then by invoice, an hour of usage by two files.
#[tokio::test]
async fn costs_revenue_and_usage_are_corrected_and_not_added_up() {
    let Bench { url, ledger, server: _server } = bench().await;
    machine_of(&ledger, "a", DAY, 10).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("statements-entered");
    let file = |name: &str, text: &str| vec![folder.file(name, text)];
    let of = |team: &'static str| {
        format!("SELECT coalesce(sum(cost_usd), 0)::numeric(12,2)::text FROM ledger.cost_daily WHERE line = 'overhead' AND team = '{team}'")
    };
    taken(&mut connection, Format::Costs, &file("c.csv", "period,item,cost_usd,team\n2026-07,llm-api,310,serch\n")).await.unwrap();
    taken(&mut connection, Format::Costs, &file("c.csv", "period,item,cost_usd,team,service\n2026-07,llm-api,310,search,answers\n"))
        .await
        .unwrap();
    let mut sum = async |team| -> String { sqlx::query_scalar(sqlx::AssertSqlSafe(of(team))).fetch_one(&mut connection).await.unwrap() };
    assert_eq!((sum("serch").await, sum("search").await), ("0.00".to_owned(), "310.00".to_owned()));
    for (text, refused) in [
        ("period,item,cost_usd,team\n2026-07,llm-api,900,search\n", "accept amount-changed"),
        ("period,item,cost_usd,team\n2026-07,other,310,search\n", "lacks the item llm-api"),
        ("period,item,cost_usd,tean\n2026-07,llm-api,310,search\n", "unknown columns: tean"),
        ("period,item,cost_usd,currency\n2026-07,llm-api,310,EUR\n", "a currency with a rate for 2026-07-01 or before"),
        ("period,item,cost_usd\n2026-07,llm-api,20000000\n", "accept beyond-reason"),
        ("period,item,cost_usd\n2136-07,llm-api,310\n", "is about 2136-07-01, which has not begun"),
        ("period,item,cost_usd,workload\n2026-07,llm-api,310,ml/of-serch\n", "ml/of-serch never ran on a machine of lowtide's"),
    ] {
        let fault = taken(&mut connection, Format::Costs, &file("bad.csv", text)).await.unwrap_err();
        assert!(fault.contains(refused) && fault.matches("nothing was imported").count() == 1, "{fault}");
    }
    // A currency with its rates.
    let rates =
        lowtide::ledger::import::Rates::read(&folder.file("rates.csv", "day,currency,usd_per_unit\n2026-07-01,EUR,1.25\n")).unwrap();
    let options = Options { rates, source: Some("euros".into()), ..Options::default() };
    let euros = file("e.csv", "period,item,cost_usd,currency,team\n2026-07-20,eu-api,100,EUR,euro\n");
    import(&mut connection, Format::Costs, &euros, options, LATER).await.unwrap();
    let mut sum = async |team| -> String { sqlx::query_scalar(sqlx::AssertSqlSafe(of(team))).fetch_one(&mut connection).await.unwrap() };
    assert_eq!(sum("euro").await, "125.00");

    let revenue = "SELECT sum(revenue_usd)::numeric(12,2)::text FROM ledger.revenue";
    taken(&mut connection, Format::Revenue, &file("r.csv", "period,workload,revenue_usd\n2026-07,ml/of-search,26000\n")).await.unwrap();
    taken(&mut connection, Format::Revenue, &file("r2.csv", "period,workload,revenue_usd\n2026-07-07,ml/of-search,26000\n")).await.unwrap();
    let earned: String = sqlx::query_scalar(revenue).fetch_one(&mut connection).await.unwrap();
    assert_eq!(earned, "26000.00");

    let hour = |quantity: i64| format!("hour,workload,requests\n2026-07-20T07:00:00Z,ml/of-search,{quantity}\n");
    let two = [folder.file("u1.csv", &hour(100)), folder.file("u2.csv", &hour(200))];
    let fault = taken(&mut connection, Format::Usage, &two).await.unwrap_err();
    assert!(
        fault.contains("ml/of-search has 100.000000 requests in the hour from 2026-07-20T07:00:00.000Z by one file and 200.000000 by"),
        "{fault}"
    );
    taken(&mut connection, Format::Usage, &two[..1]).await.unwrap();
    let fault = taken(&mut connection, Format::Usage, &file("u3.csv", "hour,workload,requests\n2026-07-20T07:00:00Z,ml/of-serch,1\n"))
        .await
        .unwrap_err();
    assert!(fault.contains("is the name correct?"), "{fault}");
}

/// A dry run says by team what would change and leaves nothing; a retraction brings back what held; all of it is on record.
#[tokio::test]
async fn a_statement_can_be_tried_and_taken_back() {
    let Bench { url, ledger, server: _server } = bench().await;
    machine_of(&ledger, "a", DAY, 10).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("statements-back");
    let file = |price: &str| vec![folder.file(&format!("{price}/cur.csv"), &format!("{HEADER}{}", hours("i-a", 0..10, price)))];
    let options = || Options { complete: true, ..Options::default() };
    let would = dry_run(&mut connection, Format::Cur, &file("1.20"), options(), LATER).await.unwrap();
    assert_eq!(would.by_team, [("search".to_owned(), "2.000000".to_owned())]);
    let listed = report::statements(&mut connection, &report::Listed::default()).await.unwrap();
    assert_eq!((listed.sentence.as_str(), cost(&mut connection).await), ("Nothing has been imported.", "10.00".to_owned()));
    let first = taken(&mut connection, Format::Cur, &file("1.20")).await.unwrap();
    let second = taken(&mut connection, Format::Cur, &file("1.50")).await.unwrap();
    assert_eq!(cost(&mut connection).await, "15.00");
    let fault = retract(&mut connection, first.statements[0].id, "a test", LATER).await.unwrap_err().to_string();
    assert!(fault.contains("version 1 does not hold: version 2 does"), "{fault}");
    let back = retract(&mut connection, second.statements[0].id, "a test", LATER).await.unwrap();
    assert_eq!(
        (back.holds, back.by_team, cost(&mut connection).await),
        (Some(1), vec![("search".to_owned(), "-3.000000".to_owned())], "12.00".to_owned())
    );
    // What was retracted may be taken again, and what holds is there already.
    assert_eq!(changed(&taken(&mut connection, Format::Cur, &file("1.20")).await.unwrap()), None);
    taken(&mut connection, Format::Cur, &file("1.50")).await.unwrap();
    let refused = taken(&mut connection, Format::Cur, &file("4.00")).await.unwrap_err();
    assert!(
        refused.contains("according to version 4 our machines cost $15.00 in 2026-07, according to this one $40.00 for the same days"),
        "{refused}"
    );
    accepted(&mut connection, Format::Cur, &file("4.00"), Check::AmountChanged).await;
    let states: Vec<String> = report::statements(&mut connection, &report::Listed::default())
        .await
        .unwrap()
        .rows
        .iter()
        .map(|row| row[5].clone().unwrap())
        .collect();
    assert_eq!(states, ["holds (accepted: amount-changed)", "replaced", "takes back", "taken back", "replaced"]);
    // Every posting of a bill names a version that exists, and what was known on a day is the sum of what was posted until then.
    let unnamed = "SELECT count(*) FROM ledger.posting p WHERE kind = 'bill' AND NOT EXISTS (SELECT FROM ledger.statement s WHERE s.id = p.statement)";
    assert_eq!(sqlx::query_scalar::<_, i64>(unnamed).fetch_one(&mut connection).await.unwrap(), 0);
    assert_eq!(cost(&mut connection).await, "40.00");
    // An account of which nothing is known.
    let foreign = hours("i-x", 0..3, "1").replace("111122223333", "999900001111");
    let fault = taken(&mut connection, Format::Cur, &[folder.file("foreign/cur.csv", &format!("{HEADER}{foreign}"))]).await.unwrap_err();
    assert!(
        fault.contains(
            "is of account 999900001111, and names none of the 1 machines of ours that ran then; bills taken so far are of 111122223333"
        ),
        "{fault}"
    );
    let same_hours = hours("i-a", 0..10, "4.00").replace("111122223333", "999900001111");
    let fault = taken(&mut connection, Format::Cur, &[folder.file("twice/cur.csv", &format!("{HEADER}{same_hours}"))]).await.unwrap_err();
    assert!(fault.contains("hours of these machines are already on the bill of 111122223333"), "{fault}");
    let unknown =
        folder.file("columns/cur.csv", &format!("{}{}", HEADER.replace("line_item_operation", "kosten"), hours("i-a", 0..10, "4.00")));
    let fault = taken(&mut connection, Format::Cur, &[unknown]).await.unwrap_err();
    assert!(fault.contains("a Cost and Usage Report has no columns kosten"), "{fault}");
}

/// C02, C03, R01: what says the same is once however it is packed, and what would be added up is refused.
#[tokio::test]
async fn the_same_content_in_two_files_is_once_or_refused() {
    let Bench { url, ledger, server: _server } = bench().await;
    machine_of(&ledger, "a", DAY, 10).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("statements-content");
    // Eighteen minutes of an hour, without identities: twice that is still less than an hour.
    let bare = |price: &str| {
        let text = format!("{HEADER}{}", line("x", "Usage", "i-a", "SpotUsage:g6.xlarge", 3, "0.3", price, ""));
        text.lines().map(|l| format!("{}\n", l.split_once(',').unwrap().1)).collect::<String>()
    };
    let plain = folder.file("cur.csv", &bare("0.33"));
    let packed = folder.packed("again.csv", &bare("0.33"));
    taken(&mut connection, Format::Cur, &[plain.clone(), packed]).await.unwrap();
    let billed = "SELECT sum(bill_usd)::numeric(12,2)::text FROM ledger.posting";
    let sum = async |connection: &mut PgConnection| -> String { sqlx::query_scalar(billed).fetch_one(connection).await.unwrap() };
    assert_eq!(sum(&mut connection).await, "0.33");
    let other = folder.file("newer.csv", &bare("0.36"));
    let fault = taken(&mut connection, Format::Cur, &[plain, other]).await.unwrap_err();
    assert!(
        fault.contains("the use of i-a in the span from 2026-07-20 03:00 UTC is in cur.csv and in newer.csv")
            && fault.contains("--accept hours-twice"),
        "{fault}"
    );
    assert_eq!(sum(&mut connection).await, "0.33");

    let costs = "period,item,cost_usd,team\n2026-07-20,llm-api,30,search\n";
    let two = [folder.file("c.csv", costs), folder.packed("c2.csv", costs)];
    taken(&mut connection, Format::Costs, &two).await.unwrap();
    let overhead = "SELECT sum(cost_usd)::numeric(12,2)::text FROM ledger.cost_daily WHERE line = 'overhead'";
    assert_eq!(sqlx::query_scalar::<_, String>(overhead).fetch_one(&mut connection).await.unwrap(), "30.00");
    let workload = |period: &str, usd: i64| format!("period,workload,revenue_usd\n{period},ml/of-search,{usd}\n");
    let by_month_and_invoice =
        [folder.file("month.csv", &workload("2026-07", 26_000)), folder.file("day.csv", &workload("2026-07-07", 26_000))];
    let costs_again = "2026-07-20,llm-api,30,search\n2026-07-21,llm-api,31,search\n";
    let invoice = "2026-07-07,ml/of-search,26000\n2026-07-08,ml/of-search,26000\n";
    let mixed = folder.file("mixed.csv", &format!("{}2026-07-07,ml/of-search,26000\n", workload("2026-07", 26_000)));
    for (format, files, said) in [
        (
            Format::Costs,
            vec![two[0].clone(), folder.file("c3.csv", "period,item,cost_usd,team\n2026-07-20,llm-api,31,search\n")],
            "llm-api for search on 2026-07-20 is in two of these files",
        ),
        (
            Format::Costs,
            vec![folder.file("c4.csv", "period,item,cost_usd,team\n2026-07,llm-api,30,search\n2026-07-20,llm-api,30,search\n")],
            "is given both by the month and by the day",
        ),
        (Format::Revenue, by_month_and_invoice.to_vec(), "ml/of-search on 2026-07-07 is in two of these files"),
        (Format::Revenue, vec![mixed], "ml/of-search on 2026-07-07 is given both by the month and by the day"),
        (
            Format::Costs,
            vec![folder.file("c5.csv", &format!("{costs}{costs}"))],
            "llm-api for search on 2026-07-20 is in two parts of this file, each with its header",
        ),
        (
            Format::Revenue,
            vec![folder.file("r5.csv", &workload("2026-07", 26_000).repeat(2))],
            "ml/of-search on 2026-07-01 is in two parts of this file, each with its header",
        ),
        (
            Format::Costs,
            vec![folder.file("c6.csv", &format!("{costs}2026-07-21,llm-api,31,search\n{}", costs_again))],
            "2 of the 2 different lines of c6.csv come more than once, word for word",
        ),
        (
            Format::Revenue,
            vec![folder.file("r6.csv", &format!("{}{invoice}{invoice}", workload("2026-07-09", 3)))],
            "2 of the 3 different lines of r6.csv come more than once, word for word",
        ),
    ] {
        let fault = taken(&mut connection, format, &files).await.unwrap_err();
        assert!(
            fault.contains(said) && fault.contains("nothing was imported (if it is correct nevertheless: --accept hours-twice)"),
            "{fault}"
        );
    }
    // Files that were put together and speak of different days are one.
    let parts = folder.file("parts.csv", &format!("{costs}{}", costs.replace("-20,", "-21,").replace(",30,", ",2,")));
    taken(&mut connection, Format::Costs, &[parts]).await.unwrap();
    assert_eq!(sqlx::query_scalar::<_, String>(overhead).fetch_one(&mut connection).await.unwrap(), "32.00");
    // Several invoices of a day in one file are a day's revenue. A dry run says whose it would be.
    let invoices = folder.file("invoices.csv", "period,workload,revenue_usd\n2026-07-07,ml/of-search,10\n2026-07-07,ml/of-search,15\n");
    let would = dry_run(&mut connection, Format::Revenue, std::slice::from_ref(&invoices), Options::default(), LATER).await.unwrap();
    let said: Vec<String> =
        would.by_workload.iter().map(|row| format!("{} {} {} {}", row.team, row.workload, row.of, row.change)).collect();
    assert_eq!(said, ["search ml/of-search revenue_usd 25"]);
    taken(&mut connection, Format::Revenue, &[invoices]).await.unwrap();
    let earned: String =
        sqlx::query_scalar("SELECT sum(revenue_usd)::numeric(12,2)::text FROM ledger.revenue").fetch_one(&mut connection).await.unwrap();
    assert_eq!(earned, "25.00");
}

/// C40: July's bill ends at midnight, and the instance-hour that goes on into August is on two bills.
#[tokio::test]
async fn an_instance_hour_on_two_bills_is_met_by_both() {
    let Bench { url, ledger, server: _server } = bench().await;
    let first = Timestamp::from_date(2026, 8, 1);
    machine_of(&ledger, "late", first - Millis::from_mins(30), 1).await;
    let mut connection = connect(&url).await.unwrap();
    post(&mut connection, LATER).await.unwrap();
    let folder = Folder::new("statements-two-bills");
    let row = |period: &str, from: Timestamp| {
        let to = from + Millis::from_hours(1);
        format!(
            "x{period},,111122223333,{period}-01T00:00:00Z,444455556666,Usage,i-late,SpotUsage:g6.xlarge,RunInstances,AmazonEC2,{from},{to},0.5,0.5,USD,\n"
        )
    };
    for (period, from) in [("2026-07", first - Millis::from_hours(1)), ("2026-08", first)] {
        let bill = folder.file(&format!("{period}/cur.csv"), &format!("{HEADER}{}", row(period, from)));
        taken(&mut connection, Format::Cur, &[bill]).await.unwrap();
    }
    assert_eq!(cost(&mut connection).await, "1.00");
    let report = reconcile(&mut connection, &"2026-07".parse().unwrap()).await.unwrap();
    let found: Vec<String> = report.rows.iter().map(|row| row.iter().flatten().cloned().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(found, ["confirmed bill 1 1.000000 1.000000 0.000000"]);
    let august = reconcile(&mut connection, &"2026-08".parse().unwrap()).await.unwrap();
    assert!(august.rows.is_empty(), "{:?}", august.rows);
}

/// What is refused leaves no lock: whoever comes next does not wait for a connection that only lives on.
#[tokio::test]
async fn a_refused_import_holds_up_nobody() {
    let Bench { url, ledger, server } = bench().await;
    machine_of(&ledger, "a", DAY, 10).await;
    let (mut refused, mut next) = (connect(&url).await.unwrap(), connect(&url).await.unwrap());
    let folder = Folder::new("statements-locks");
    let bad = vec![folder.file("bad.csv", "period,item,cost_usd\n2026-07,api,20000000\n")];
    taken(&mut refused, Format::Costs, &bad).await.unwrap_err();
    let bill = vec![folder.file("bad/cur.csv", "not,a,report\n1,2,3\n")];
    taken(&mut refused, Format::Cur, &bill).await.unwrap_err();
    retract(&mut refused, uuid::Uuid::nil(), "a test", LATER).await.unwrap_err();
    lowtide::ledger::seal::seal(&mut refused).await.unwrap();
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
    assert_eq!(server.psql("postgres", locks).unwrap().trim(), "0");
    let good = vec![folder.file("good.csv", "period,item,cost_usd\n2026-07,api,20\n")];
    tokio::time::timeout(std::time::Duration::from_secs(60), taken(&mut next, Format::Costs, &good)).await.expect("nobody waits").unwrap();
    // Nothing had settled since: no seal, and no lock.
    lowtide::ledger::seal::seal(&mut next).await.unwrap();
    lowtide::ledger::seal::seal(&mut next).await.unwrap();
    assert_eq!(server.psql("postgres", locks).unwrap().trim(), "0");
    drop(refused);
}
