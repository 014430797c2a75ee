//! Refusals that no other test here reaches: each with the sentence that a person reads, and nothing written.

use std::path::PathBuf;

use lowtide::ledger::connect;
use lowtide::ledger::import::{Check, Checks, Format, Options, Projects, dry_run_of_retraction, import, retract};
use lowtide::ledger::report::{self, Listed};
use sqlx::PgConnection;

use crate::facts::{Bench, DAY, bench};
use crate::imports::{FEED_HEADER, Folder, LATER, taken};
use crate::statements::{HEADER, cost, line, machine_of};

/// Imports, and says why not.
async fn refused(connection: &mut PgConnection, format: Format<'_>, files: &[PathBuf]) -> String {
    taken(connection, format, files).await.unwrap_err()
}

async fn imported(connection: &mut PgConnection) -> usize {
    report::statements(connection, &Listed::default()).await.unwrap().rows.len()
}

/// Quantities below zero, beyond what any workload has in an hour, and none at all, in files of one's own and of vendors.
#[tokio::test]
async fn usage_below_zero_or_beyond_reason_is_refused() {
    let Bench { url, ledger, server: _server } = bench().await;
    machine_of(&ledger, "a", DAY, 4).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("refusals-usage");
    let usage = |name: &str, quantity: &str| vec![folder.file(name, &format!("hour,workload,requests\n{DAY},ml/of-search,{quantity}\n"))];
    for (quantity, said) in [
        ("-5", "holds \"-5\"; expected a number of at least 0"),
        ("many", "holds \"many\"; expected a number of at least 0"),
        (
            "1000000000001",
            "ml/of-search has 1000000000001.000000 requests in the hour from 2026-07-20T00:00:00.000Z; expected at most 1,000,000,000,000 in an hour; \
             nothing was imported (if it is correct nevertheless: --accept beyond-reason)",
        ),
    ] {
        let fault = refused(&mut connection, Format::Usage, &usage("u.csv", quantity)).await;
        assert!(fault.contains(said), "{fault}");
    }
    let none = Projects::default();
    let page = |tokens: &str| {
        let from = DAY.0 / 1_000;
        folder.file(
            "page.json",
            &format!(
                r#"{{"data": [{{"start_time": {from}, "end_time": {}, "results": [{{"input_tokens": {tokens}, "output_tokens": 1, "model": "m"}}]}}]}}"#,
                from + 3_600
            ),
        )
    };
    for (tokens, said) in [
        ("-5", "a negative number of tokens or requests"),
        ("2000000000000", "openai/default has 2000000000000.000000 tokens_in in the hour from 2026-07-20T00:00:00.000Z; expected at most"),
    ] {
        let fault = refused(&mut connection, Format::VendorUsage(&none), &[page(tokens)]).await;
        assert!(fault.contains(said), "{fault}");
    }
    assert_eq!(imported(&mut connection).await, 0);
    // A person may know better, and it is on record.
    let options = Options { checks: Checks::accepting([Check::BeyondReason]), ..Options::default() };
    import(&mut connection, Format::Usage, &usage("u.csv", "1000000000001"), options, LATER).await.unwrap();
    let rows = report::statements(&mut connection, &Listed::default()).await.unwrap().rows;
    assert_eq!(rows[0][5].as_deref(), Some("holds (accepted: beyond-reason)"));
    taken(&mut connection, Format::VendorUsage(&none), &[page("2400")]).await.unwrap();
}

/// Files that are not there, have nothing, or lack a part.
#[tokio::test]
async fn what_cannot_be_imported_says_what_is_missing() {
    let Bench { url, ledger, server: _server } = bench().await;
    machine_of(&ledger, "a", DAY, 4).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("refusals-files");
    let hour = |n: i64| line(&format!("a{n}"), "Usage", "i-a", "SpotUsage:g6.xlarge", n, "1", "1.00", "");
    let part = |n: u32| folder.file(&format!("parts/r-0000{n}.csv"), &format!("{HEADER}{}", hour(i64::from(n))));
    std::fs::create_dir_all(folder.0.join("empty")).unwrap();
    let (first, _, third) = (part(1), (), part(3));
    for (files, said) in [
        (vec![folder.0.join("nowhere.csv")], "nowhere.csv: "),
        (vec![folder.0.join("empty")], "there is no file to import"),
        (vec![folder.file("header/cur.csv", HEADER)], "these files have no lines"),
        (vec![first, third], "r-00002 is missing: give all parts in one command"),
    ] {
        let fault = refused(&mut connection, Format::Cur, &files).await;
        assert!(fault.contains(said) && fault.ends_with("nothing was imported"), "{fault}");
    }
    assert_eq!(imported(&mut connection).await, 0);
}

/// What would be counted twice, or is not of the period that it replaces.
#[tokio::test]
async fn what_another_source_or_line_has_said_is_refused() {
    let Bench { url, ledger, server: _server } = bench().await;
    machine_of(&ledger, "a", DAY, 4).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("refusals-twice");
    let fed =
        |price: &str| format!("2026-07-20 00:00:00 UTC\tSpotUsage:g6.xlarge\tRunInstances\ti-a\tsir\t9 USD\t1.0 USD\t{price} USD\t1\n");
    let feed = folder.file("123456789012.2026-07-20-01.001.x", &format!("{FEED_HEADER}{}{}", fed("1.0"), fed("1.1")));
    let fault = refused(&mut connection, Format::Feed, &[feed]).await;
    assert!(fault.contains("the hour of i-a from 2026-07-20 00:00:00 UTC appears twice with different charges"), "{fault}");

    let revenue = |name: &str| vec![folder.file(name, "period,workload,revenue_usd\n2026-07,ml/of-search,310\n")];
    taken(&mut connection, Format::Revenue, &revenue("crm.csv")).await.unwrap();
    let other = Options { source: Some("billing".into()), ..Options::default() };
    let fault = import(&mut connection, Format::Revenue, &revenue("billing.csv"), other, LATER).await.unwrap_err().to_string();
    assert!(fault.contains("another source has already said what ml/of-search earned in 2026-07: retract that statement first"), "{fault}");
    let both = folder.file("both.csv", "period,workload,revenue_usd\n2026-07,ml/of-search,310\n2026-07-20,ml/of-search,10\n");
    let fault = refused(&mut connection, Format::Revenue, &[both]).await;
    assert!(fault.contains("the amounts would be added up; give one of them") && fault.contains("hours-twice"), "{fault}");
    let gone = folder.file("gone.csv", "period,workload,revenue_usd\n2026-07,ml/pod-a,310\n");
    let options = Options { checks: Checks::accepting([Check::UnknownWorkloads]), ..Options::default() };
    let fault = import(&mut connection, Format::Revenue, &[gone], options, LATER).await.unwrap_err().to_string();
    assert!(
        fault.contains("replaces the previous one entirely, but it lacks the workload ml/of-search") && fault.contains("missing-before"),
        "{fault}"
    );

    let twice = |name: &str, cost: &str| {
        let lines = ["1.00", cost].map(|cost| line("same", "Usage", "i-a", "SpotUsage:g6.xlarge", 0, "1", cost, ""));
        vec![folder.file(&format!("{name}/cur.csv"), &format!("{HEADER}{}", lines.concat()))]
    };
    let fault = refused(&mut connection, Format::Cur, &twice("amounts", "1.20")).await;
    assert!(
        fault.contains("has the line") && fault.contains("a report names each line once, and both amounts would be added up"),
        "{fault}"
    );
    assert_eq!((cost(&mut connection).await, imported(&mut connection).await), ("4.00".to_owned(), 1));
}

/// A retraction says who, when and why; tried first, it changes nothing; and what cannot be retracted says why.
#[tokio::test]
async fn a_retraction_keeps_who_when_and_why_and_can_be_tried() {
    let Bench { url, ledger, server: _server } = bench().await;
    machine_of(&ledger, "a", DAY, 4).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("refusals-retract");
    let hours = |price: &str, invoice: &str| -> String {
        let of_hour = |n: i64| line(&format!("a{n}"), "Usage", "i-a", "SpotUsage:g6.xlarge", n, "1", price, "");
        (0..4).map(|n| of_hour(n).replacen(",,", &format!(",{invoice},"), 1)).collect()
    };
    let text = format!("{HEADER}{}", hours("1.10", "INV-1"));
    let file = folder.file("july/cur.csv", &text);
    let bill = taken(&mut connection, Format::Cur, &[file]).await.unwrap().statements[0].id;
    // Who imported it, and exactly which file.
    let of = async |connection: &mut PgConnection| {
        let report = report::statements(connection, &Listed::default()).await.unwrap();
        let at = |name: &str| report.columns.iter().position(|column| column == name).unwrap();
        let names = ["state", "invoiced", "reason", "taken_by", "files"];
        report.rows.iter().map(|row| names.map(|name| row[at(name)].clone().unwrap_or_default())).collect::<Vec<_>>()
    };
    let sha256 = std::process::Command::new("sha256sum").arg(folder.0.join("july/cur.csv")).output().unwrap().stdout;
    let sha256 = String::from_utf8(sha256).unwrap().split(' ').next().unwrap().to_owned();
    let role: String = sqlx::query_scalar("SELECT session_user::text").fetch_one(&mut connection).await.unwrap();
    let said_by = |program: &str, of: &str| {
        String::from_utf8(std::process::Command::new(program).arg(of).output().unwrap().stdout).unwrap().trim().to_owned()
    };
    let (person, host) = (said_by("id", "-un"), said_by("cat", "/proc/sys/kernel/hostname"));
    let also = std::env::var("USER").ok().filter(|name| !name.is_empty() && *name != person).map(|name| format!(" (USER={name})"));
    let who = format!("{person}{}@{host} as {role}", also.unwrap_or_default());
    let taken_from = [who.clone(), format!("cur.csv sha256:{sha256}")];
    let [by, files] = taken_from.each_ref().map(String::as_str);
    assert_eq!(of(&mut connection).await, [["holds", "yes", "", by, files]]);

    let nothing = dry_run_of_retraction(&mut connection, bill, "of another account", LATER).await.unwrap();
    assert_eq!((nothing.holds, nothing.by_team), (None, vec![("search".to_owned(), "-0.400000".to_owned())]));
    assert_eq!((cost(&mut connection).await, imported(&mut connection).await), ("4.40".to_owned(), 1), "trying changes nothing");
    for reason in ["", "  "] {
        let fault = retract(&mut connection, bill, reason, LATER).await.unwrap_err().to_string();
        assert_eq!(fault, "expected a reason, as in --reason 'the export was cut off'; nothing was retracted");
    }
    retract(&mut connection, bill, "of another account", LATER).await.unwrap();
    assert_eq!(cost(&mut connection).await, "4.00");
    assert_eq!(of(&mut connection).await, [["takes back", "", "of another account", by, ""], ["taken back", "yes", "", by, files]]);
    let fault = retract(&mut connection, bill, "again", LATER).await.unwrap_err().to_string();
    assert_eq!(fault, "version 1 has already been retracted; nothing was retracted");
    let nobody = uuid::Uuid::nil();
    let fault = retract(&mut connection, nobody, "again", LATER).await.unwrap_err().to_string();
    assert_eq!(fault, format!("there is no statement {nobody}: lowtide ledger statements lists them; nothing was retracted"));

    // Hours of a feed that a later one has as well.
    let feed = |hours: std::ops::Range<i64>, price: &str| {
        let name = format!("123456789012.2026-07-20-0{}.001.x", hours.start);
        let fed =
            |n: i64| format!("2026-07-20 0{n}:00:00 UTC\tSpotUsage:g6.xlarge\tRunInstances\ti-a\tsir\t9 USD\t1.0 USD\t{price} USD\t1\n");
        vec![folder.file(&name, &format!("{FEED_HEADER}{}", hours.map(fed).collect::<String>()))]
    };
    let first = taken(&mut connection, Format::Feed, &feed(0..2, "1.0")).await.unwrap().statements[0].id;
    let checks = Checks::accepting([Check::HoursTwice, Check::AmountChanged]);
    import(&mut connection, Format::Feed, &feed(1..2, "1.2"), Options { checks, ..Options::default() }, LATER).await.unwrap();
    let fault = retract(&mut connection, first, "a test", LATER).await.unwrap_err().to_string();
    assert_eq!(fault, "a later statement covers the same hours: retract that one first; nothing was retracted");

    // By month: what is about July, and not what is about June.
    let of_month = |month: &str| Listed { of: month.parse::<report::Month>().unwrap().days(), ..Listed::default() };
    let (june, july) = (of_month("2026-06"), of_month("2026-07"));
    assert_eq!(report::statements(&mut connection, &june).await.unwrap().sentence, "Nothing of that has been imported.");
    assert_eq!(report::statements(&mut connection, &july).await.unwrap().rows.len(), 4);
}
