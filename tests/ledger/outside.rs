//! What comes from outside in other forms: FOCUS of other providers, Parquet and zip, a ledger of an earlier release, a report of a million lines.

use std::io::Write as _;
use std::path::Path;

use lowtide::core::fleet::EndedBy;
use lowtide::core::market::CapacityType;
use lowtide::core::units::time::{Millis, Timestamp};
use lowtide::ledger::import::{Format, Mapping, Options, import};
use lowtide::ledger::poster::post;
use lowtide::ledger::reconcile::reconcile;
use lowtide::ledger::table_file::{Column, Kind, TableWriter};
use lowtide::ledger::{PgLedger, connect, migrate};
use lowtide::ports::Ledger;
use sqlx::Connection;

use crate::facts::{Bench, DAY, Machine, bench, stay};
use crate::imports::{Folder, LATER, changed, taken};
use crate::statements::{HEADER, line, machine_of};

async fn machine(ledger: &PgLedger, name: &str, hours: i64) {
    let mut machine = Machine::new(name, CapacityType::Spot, 1_000_000, Some(3_000_000), Millis::from_hours(hours), EndedBy::Lowtide);
    machine.stays.push(stay(&format!("pod-{name}"), "search", &machine, Millis::ZERO, Some(3_000_000)));
    ledger.write(&machine.records()).await.unwrap();
}

/// C32: FOCUS 1.0 and 1.2 of others are costs, by the labels that their tags are mapped to; rows about our machines are not taken again.
#[tokio::test]
async fn focus_of_others_is_taken_as_other_costs() {
    let Bench { url, ledger, server } = bench().await;
    machine(&ledger, "a", 2).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("outside-focus");
    let mapping = Mapping::read(&folder.file("tags.csv", "label,tag\nteam,Squad\nworkload,k8s\n")).unwrap();
    let v10 = "BillingAccountId,BillingCurrency,BillingPeriodStart,ChargeCategory,ChargePeriodStart,ChargePeriodEnd,EffectiveCost,ProviderName,ResourceId,ServiceName,Tags\n\
        acct,USD,2026-07-01T00:00:00Z,Usage,2026-07-20T00:00:00Z,2026-07-22T00:00:00Z,12.00,AI Vendor,,Chat model,\"{\"\"Squad\"\": \"\"search\"\", \"\"k8s\"\": \"\"ml/of-search\"\"}\"\n\
        acct,USD,2026-07-01T00:00:00Z,Usage,2026-07-20T00:00:00Z,2026-07-20T01:00:00Z,99.00,AI Vendor,i-a,Machines,\n\
        acct,USD,2026-07-01T00:00:00Z,Usage,2026-07-20T00:00:00Z,2026-07-20T01:00:00Z,3.00,AI Vendor,i-theirs,Machines,\"{\"\"Squad\"\": \"\"vision\"\"}\"\n";
    let v13 = "BilledCost,BillingAccountId,BillingCurrency,BillingPeriodStart,ChargeCategory,ChargePeriodStart,ChargePeriodEnd,EffectiveCost,ServiceProviderName,ServiceName,Tags\n\
        7.50,org,USD,2026-07-01T00:00:00Z,Usage,2026-07-03T00:00:00Z,2026-07-04T00:00:00Z,7.25,GPU Cloud,Batch,\n";
    let file = folder.file("v10.csv", v10);
    let first = import(&mut connection, Format::Focus(&mapping), std::slice::from_ref(&file), Options::default(), LATER).await.unwrap();
    assert_eq!((first.left_out, first.statements[0].cell.source.as_str()), (1, "focus acct"));
    for _ in 0..2 {
        import(&mut connection, Format::Focus(&mapping), &[folder.file("v13.csv", v13), file.clone()], Options::default(), LATER)
            .await
            .unwrap();
    }
    let costs = "SELECT string_agg(concat_ws(' ', day, coalesce(team, '-'), coalesce(workload_namespace, ''), workload_name, component, cost_usd::numeric(10,2)), '; '
                        ORDER BY day, team) FROM ledger.cost_daily WHERE line = 'overhead'";
    assert_eq!(
        server.psql("postgres", costs).unwrap().trim(),
        "2026-07-03 -  GPU Cloud: Batch api 7.25; 2026-07-20 search ml of-search api 6.00; 2026-07-20 vision  AI Vendor: Machines api 3.00; \
         2026-07-21 search ml of-search api 6.00"
    );
    let ours = folder.file("ours.csv", &format!("x_DecisionId,x_WasteCategory,{}", v10.replace("\nacct", "\nd,pod,acct")));
    let fault = import(&mut connection, Format::Focus(&mapping), &[ours], Options::default(), LATER).await.unwrap_err().to_string();
    assert!(fault.contains("this is lowtide's own export"), "{fault}");
}

/// C27: the same report as CSV, in zip and as Parquet.
#[tokio::test]
async fn a_report_is_the_same_in_every_form() {
    let Bench { url, ledger, server } = bench().await;
    machine(&ledger, "a", 2).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("outside-forms");
    let header = [
        "bill_payer_account_id",
        "line_item_line_item_type",
        "line_item_resource_id",
        "line_item_usage_type",
        "line_item_usage_start_date",
        "line_item_usage_end_date",
        "line_item_usage_amount",
        "line_item_unblended_cost",
        "line_item_usage_account_id",
        "line_item_currency_code",
    ];
    let rows: Vec<Vec<String>> = (0..2)
        .map(|hour| {
            let (from, to) = (DAY + Millis::from_hours(hour), DAY + Millis::from_hours(hour + 1));
            [
                "111122223333",
                "Usage",
                "i-a",
                "SpotUsage:g6.xlarge",
                &from.to_rfc3339(),
                &to.to_rfc3339(),
                "1",
                "1.25",
                "111122223333",
                "USD",
            ]
            .map(str::to_owned)
            .to_vec()
        })
        .collect();
    let text = format!("{}\n{}\n", header.join(","), rows.iter().map(|row| row.join(",")).collect::<Vec<_>>().join("\n"));
    let parquet = folder.0.join("report.snappy.parquet");
    let kind = |name: &&str| {
        if name.ends_with("_date") {
            Kind::Time
        } else if name.ends_with("amount") || name.ends_with("cost") {
            Kind::Decimal
        } else {
            Kind::Text
        }
    };
    let columns = header.iter().map(|name| Column { name: (*name).to_owned(), kind: kind(name) }).collect();
    let mut writer = TableWriter::create(&parquet, columns, lowtide::ledger::table_file::Format::Parquet).unwrap();
    for row in &rows {
        writer.add(row.iter().cloned().map(Some).collect()).unwrap();
    }
    writer.finish().unwrap();
    let zipped = folder.0.join("report.zip");
    let script =
        "import sys, zipfile; zipfile.ZipFile(sys.argv[1], 'w', zipfile.ZIP_DEFLATED).writestr('report.csv', open(sys.argv[2]).read())";
    let csv = folder.file("csv/report.csv", &text);
    assert!(std::process::Command::new("python3").args(["-c", script]).arg(&zipped).arg(&csv).status().unwrap().success());
    let first = taken(&mut connection, Format::Cur, &[parquet]).await.unwrap();
    assert_eq!(changed(&first), Some((2, 0, 0)));
    assert_eq!(server.psql("postgres", "SELECT sum(cost_usd)::numeric(10,2) FROM ledger.cost_daily").unwrap().trim(), "2.50");
    for other in [zipped, csv] {
        assert_eq!(changed(&taken(&mut connection, Format::Cur, &[other]).await.unwrap()), None);
    }
}

/// The tables as the last release made them that knew no statements.
pub async fn as_before_statements(connection: &mut sqlx::PgConnection) {
    let all = sqlx::migrate::Migrator::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ledger/migrations").as_path()).await.unwrap();
    let earlier = all.migrations.iter().filter(|migration| migration.version <= 5).cloned().collect::<Vec<_>>();
    let mut migrator = sqlx::migrate::Migrator { migrations: earlier.into(), ..sqlx::migrate::Migrator::DEFAULT };
    migrator.dangerous_set_table_name("ledger.applied_migration");
    migrator.create_schema("ledger");
    migrator.run(connection).await.unwrap();
}

/// What an earlier release took becomes the first version of its month, and is replaced like any other.
#[tokio::test]
async fn what_an_earlier_release_took_is_the_first_version() {
    let server = lowtide::lab::postgres::PrivatePostgres::start_temporary().unwrap();
    let url = server.url();
    let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
    as_before_statements(&mut connection).await;
    let rows = "SELECT ledger.ensure_month('2026-07-01');
        INSERT INTO ledger.billed_line (id, at, source, kind, account, instance, usage_type, operation, until, revision, cost_usd, used_ms, invoice) VALUES
            (gen_random_uuid(), '2026-07-20', 'bill', 'usage', '444455556666', 'i-a', 'SpotUsage:g6.xlarge', '', '2026-07-20 01:00+00', 0, 5, 3600000, NULL),
            (gen_random_uuid(), '2026-07-20', 'bill', 'usage', '444455556666', 'i-a', 'SpotUsage:g6.xlarge', '', '2026-07-20 01:00+00', 1, 2, 3600000, NULL),
            (gen_random_uuid(), '2026-07-20', 'bill', 'adjustment', '444455556666', 'i-a', 'SpotUsage:g6.xlarge', '', '2026-07-20 01:00+00', 0, -1, NULL, NULL);
        INSERT INTO ledger.usage_hour (id, at, workload_namespace, workload_name, unit, revision, quantity, source) VALUES
            (gen_random_uuid(), '2026-07-20 07:00+00', 'ml', 'of-search', 'requests', 0, 10, 'file'), (gen_random_uuid(), '2026-07-20 07:00+00', 'ml', 'of-search', 'requests', 1, 20, 'file'),
            (gen_random_uuid(), '2026-07-20 08:00+00', 'ml', 'of-search', 'requests', 0, 30, 'prometheus');
        INSERT INTO ledger.revenue_day (id, at, workload_namespace, workload_name, revision, revenue_usd) VALUES (gen_random_uuid(), '2026-07-20', 'ml', 'of-search', 0, 40)";
    server.psql("postgres", &format!("SET timezone = 'UTC'; {rows}")).unwrap();
    migrate(&url).await.unwrap();
    let ledger = PgLedger::with_patience(&url, std::time::Duration::from_secs(60)).unwrap();
    machine(&ledger, "a", 1).await;
    let mut connection = connect(&url).await.unwrap();
    lowtide::ledger::poster::post(&mut connection, LATER).await.unwrap();
    let books = "SELECT (SELECT sum(cost_usd)::numeric(10,2) FROM ledger.cost_daily WHERE line = 'pod'), (SELECT sum(cost_usd)::numeric(10,2) FROM ledger.cost_daily WHERE line = 'credit'),
                        (SELECT sum(quantity)::integer FROM ledger.usage), (SELECT sum(revenue_usd)::integer FROM ledger.revenue)";
    assert_eq!(server.psql("postgres", books).unwrap().trim(), "2.00|-1.00|50|40");
    let folder = Folder::new("outside-earlier");
    let text = "bill_payer_account_id,line_item_usage_account_id,line_item_line_item_type,line_item_resource_id,line_item_usage_type,line_item_usage_start_date,\
                line_item_usage_end_date,line_item_usage_amount,line_item_unblended_cost,line_item_currency_code\n\
                111122223333,444455556666,Usage,i-a,SpotUsage:g6.xlarge,2026-07-20T00:00:00Z,2026-07-20T01:00:00Z,1,2.50,USD\n";
    taken(&mut connection, Format::Cur, &[folder.file("cur.csv", text)]).await.unwrap();
    assert_eq!(server.psql("postgres", books).unwrap().trim(), "2.50|0.00|50|40", "not both, and the old credit is gone");
    assert_eq!(lowtide::ledger::verify::verify(&mut connection).await.unwrap().findings.len(), 0);
}

/// A year mistyped, and an hour whose ends are exchanged.
#[tokio::test]
async fn a_bill_of_a_time_to_come_and_a_line_that_ends_before_it_starts_are_refused() {
    let Bench { url, ledger, server: _server } = bench().await;
    machine(&ledger, "a", 1).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("outside-dates");
    let bill = |from: &str, to: &str| {
        format!(
            "bill_payer_account_id,line_item_usage_account_id,line_item_line_item_type,line_item_resource_id,line_item_usage_type,line_item_usage_start_date,\
             line_item_usage_end_date,line_item_usage_amount,line_item_unblended_cost,line_item_currency_code\n\
             111122223333,444455556666,Usage,i-a,SpotUsage:g6.xlarge,{from},{to},1,1.00,USD\n"
        )
    };
    for (from, to, said) in [
        ("2136-07-20T00:00:00Z", "2136-07-20T01:00:00Z", "the bill of 111122223333 is about 2136-07-01, which has not begun"),
        ("2026-07-20T01:00:00Z", "2026-07-20T00:00:00Z", "expected a time that is not before line_item_usage_start_date"),
    ] {
        let fault = taken(&mut connection, Format::Cur, &[folder.file("cur.csv", &bill(from, to))]).await.unwrap_err();
        assert!(fault.contains(said), "{fault}");
    }
    let right = bill("2026-07-20T00:00:00Z", "2026-07-20T01:00:00Z");
    taken(&mut connection, Format::Cur, &[folder.file("cur.csv", &right)]).await.unwrap();
}

/// C17: a report of a million lines, of which one in a thousand is about a machine of ours. `LOWTIDE_REPORT_LINES=1000000` for all of them; says how long it
/// took and the most memory that this process ever had.
#[tokio::test]
async fn a_large_report_is_taken_in_bounded_memory() {
    let lines: i64 = std::env::var("LOWTIDE_REPORT_LINES").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000);
    let Bench { url, ledger, server } = bench().await;
    machine(&ledger, "0", 720).await;
    let folder = Folder::new("outside-large");
    let path = folder.0.join("cur.csv");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    writeln!(file, "identity_line_item_id,bill_payer_account_id,bill_billing_period_start_date,line_item_usage_account_id,line_item_line_item_type,\
        line_item_resource_id,line_item_usage_type,line_item_operation,line_item_usage_start_date,line_item_usage_end_date,line_item_usage_amount,\
        line_item_unblended_cost,line_item_currency_code,line_item_line_item_description,product_region_code,resource_tags").unwrap();
    for n in 0..lines {
        let (instance, hour) = (n / 720, n % 720);
        let (from, to): (Timestamp, Timestamp) = (DAY + Millis::from_hours(hour), DAY + Millis::from_hours(hour + 1));
        writeln!(file, "id{n},111122223333,2026-07-01T00:00:00Z,444455556666,Usage,i-{instance},EUS2-SpotUsage:g6.xlarge,RunInstances:SV001,{from},{to},1.0000000000,\
            1.0000000000,USD,g6.xlarge Linux/UNIX Spot Instance-hour in EU (Spain),eu-south-2,").unwrap();
    }
    drop(file);
    let mut connection = connect(&url).await.unwrap();
    let begun = std::time::Instant::now();
    let first = taken(&mut connection, Format::Cur, &[path]).await.unwrap();
    let took = begun.elapsed();
    assert_eq!(changed(&first), Some((usize::try_from(lines).unwrap(), 0, 0)));
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let most = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default().to_owned();
    println!("{lines} lines in {took:?}; {most}");
    // Of this whole process, the tests beside this one included.
    let kib: u64 = most.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib < 300 * 1024, "{most} of memory");
    let confirmed = "SELECT count(*) FROM ledger.true_up WHERE cause = 'confirmed'";
    assert_eq!(server.psql("postgres", confirmed).unwrap().trim(), lines.min(720).to_string());
}

/// The final bill of July comes before that of August: what lies in August of an hour across midnight of the 1st is not free, and July is not short of it.
#[tokio::test]
async fn the_invoice_of_july_says_nothing_of_august() {
    let Bench { url, ledger, server: _server } = bench().await;
    let first = Timestamp::from_date(2026, 8, 1);
    machine_of(&ledger, "late", first - Millis::from_mins(90), 3).await;
    let mut connection = connect(&url).await.unwrap();
    post(&mut connection, LATER).await.unwrap();
    let folder = Folder::new("outside-invoice");
    let hour = first.since(DAY).0 / 3_600_000;
    let clock = |n: i64, amount: &str, cost: &str| {
        line(&format!("late-{n}"), "Usage", "i-late", "SpotUsage:g6.xlarge", hour + n, amount, cost, "").replacen(",,", ",INV,", 1)
    };
    let july = format!("{HEADER}{}{}", clock(-2, "0.5", "0.50"), clock(-1, "1", "1.00"));
    let august = format!("{HEADER}{}{}", clock(0, "1", "1.00"), clock(1, "0.5", "0.50")).replace(",2026-07-01T", ",2026-08-01T");
    for (name, text, rows) in [
        // Of the hour across midnight July's bill covers half: the other half is on no bill, whatever it will cost.
        (
            "july",
            july,
            [
                &["confirmed bill 2 1.500000 1.500000 0.000000", "not on the bill or feed yet 1 0.500000"][..],
                &["not on the bill or feed yet 1 1.000000"],
            ],
        ),
        ("august", august, [&["confirmed bill 2 2.000000 2.000000 0.000000"][..], &["confirmed bill 1 1.000000 1.000000 0.000000"]]),
    ] {
        taken(&mut connection, Format::Cur, &[folder.file(&format!("{name}/cur.csv"), &text)]).await.unwrap();
        assert_eq!(crate::statements::cost(&mut connection).await, "3.00", "after {name}");
        for (month, row) in ["2026-07", "2026-08"].into_iter().zip(rows) {
            let report = reconcile(&mut connection, &month.parse().unwrap()).await.unwrap();
            let found: Vec<String> = report.rows.iter().map(|row| row.iter().flatten().cloned().collect::<Vec<_>>().join(" ")).collect();
            assert_eq!(found, row, "{month} after {name}");
        }
    }
}

/// What each day's figures rest on: dollars by the bill and as computed, of `trust` and of the daily sums.
async fn rests_on(connection: &mut sqlx::PgConnection) -> String {
    let sql = "SELECT string_agg(t.usd::numeric(10,2)::text, ' ' ORDER BY t.item DESC) || ' of ' || (SELECT concat_ws(' ', sum(cost_usd)::numeric(10,2),
                      sum(bill_usd)::numeric(10,2), sum(true_up_usd)::numeric(10,2), string_agg(DISTINCT basis, ' ')) FROM ledger.cost_daily)
               FROM ledger.trust t WHERE t.item IN ('spend resting on the bill', 'spend computed from recorded prices')";
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

/// A bill that reaches into an instance-hour confirms its own part of it: the rest is computed in every report, and open in `reconcile`, until a bill has it. A bill
/// that is retracted confirms nothing.
#[tokio::test]
async fn the_part_of_an_hour_that_no_bill_covers_rests_on_no_bill() {
    let Bench { url, ledger, server: _server } = bench().await;
    // 00:30 to 02:30 at a dollar: half of its second hour is after the last clock hour that the bill has.
    machine_of(&ledger, "part", DAY + Millis::from_mins(30), 2).await;
    let mut connection = connect(&url).await.unwrap();
    post(&mut connection, LATER).await.unwrap();
    let folder = Folder::new("outside-part");
    let clock =
        |n: i64, amount: &str, cost: &str| line(&format!("part-{n}"), "Usage", "i-part", "SpotUsage:g6.xlarge", n, amount, cost, "");
    let versions = [
        (
            vec![clock(0, "0.5", "0.50"), clock(1, "1", "1.00")],
            "1.50 0.50 of 2.00 1.50 0.00 mixed",
            vec!["confirmed bill 2 1.500000 1.500000 0.000000", "not on the bill or feed yet 1 0.500000"],
        ),
        // Another price for the clock hour that both hours share.
        (
            vec![clock(0, "0.5", "0.50"), clock(1, "1", "0.80")],
            "1.30 0.50 of 1.80 1.30 -0.20 mixed",
            vec!["price-differed bill 2 1.500000 1.300000 -0.200000", "not on the bill or feed yet 1 0.500000"],
        ),
        (
            vec![clock(0, "0.5", "0.50"), clock(1, "1", "0.80"), clock(2, "0.5", "0.50")],
            "1.80 0.00 of 1.80 1.80 -0.20 bill",
            vec!["price-differed bill 2 2.000000 1.800000 -0.200000"],
        ),
    ];
    let mut held = Vec::new();
    for (n, (lines, rests, rows)) in versions.iter().enumerate() {
        let file = folder.file(&format!("{n}/cur.csv"), &format!("{HEADER}{}", lines.concat()));
        held.push(taken(&mut connection, Format::Cur, &[file]).await.unwrap().statements[0].id);
        assert_eq!(rests_on(&mut connection).await, *rests, "version {n}");
        assert_eq!(compared(&mut connection).await, *rows, "version {n}");
    }
    for id in held.into_iter().rev() {
        lowtide::ledger::import::retract(&mut connection, id, "a test", LATER).await.unwrap();
    }
    assert_eq!(rests_on(&mut connection).await, "0.00 2.00 of 2.00 0.00 0.00 estimate");
    assert_eq!(compared(&mut connection).await, ["not on the bill or feed yet 2 2.000000"], "a bill that was retracted confirms nothing");
    let mut found = lowtide::ledger::verify::verify(&mut connection).await.unwrap().findings;
    found.extend(lowtide::ledger::verify::recompute(&mut connection, &lowtide::ledger::verify::Sample::default()).await.unwrap());
    assert!(found.is_empty(), "{found:?}");
}

/// An invoice says of the hours that it has no line for that they cost nothing. When it is retracted, it has not said so.
#[tokio::test]
async fn an_invoice_that_is_retracted_takes_what_it_said_of_other_hours_with_it() {
    let Bench { url, ledger, server: _server } = bench().await;
    machine_of(&ledger, "inv", DAY, 3).await;
    let mut connection = connect(&url).await.unwrap();
    post(&mut connection, LATER).await.unwrap();
    let folder = Folder::new("outside-retracted-invoice");
    let lines = [0, 1].map(|n| line(&format!("inv-{n}"), "Usage", "i-inv", "SpotUsage:g6.xlarge", n, "1", "1.00", ""));
    let open = folder.file("open/cur.csv", &format!("{HEADER}{}", lines.concat()));
    let invoiced = lines.map(|line| line.replacen(",,", ",INV,", 1)).concat();
    let closed = folder.file("closed/cur.csv", &format!("{HEADER}{invoiced}"));
    taken(&mut connection, Format::Cur, &[open]).await.unwrap();
    assert_eq!(crate::statements::cost(&mut connection).await, "3.00");
    let invoice = taken(&mut connection, Format::Cur, &[closed]).await.unwrap().statements[0].id;
    assert_eq!(crate::statements::cost(&mut connection).await, "2.00", "the third hour is on the invoice and costs nothing");
    lowtide::ledger::import::retract(&mut connection, invoice, "another payer's", LATER).await.unwrap();
    assert_eq!(crate::statements::cost(&mut connection).await, "3.00");
    let mut found = lowtide::ledger::verify::verify(&mut connection).await.unwrap().findings;
    found.extend(lowtide::ledger::verify::recompute(&mut connection, &lowtide::ledger::verify::Sample::default()).await.unwrap());
    assert!(found.is_empty(), "{found:?}");
}

/// The rows of `reconcile` for July.
async fn compared(connection: &mut sqlx::PgConnection) -> Vec<String> {
    let report = reconcile(connection, &"2026-07".parse().unwrap()).await.unwrap();
    report.rows.iter().map(|row| row.iter().flatten().cloned().collect::<Vec<_>>().join(" ")).collect()
}
