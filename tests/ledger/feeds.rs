//! What is asked of a feed before it is taken, and what a statement keeps of the files that it was read with.

use std::path::PathBuf;

use lowtide::ledger::connect;
use lowtide::ledger::import::{Check, Format, Mapping, Options, Projects, Rates, import};
use lowtide::ledger::poster::post;
use lowtide::ledger::report;
use sqlx::PgConnection;

use crate::facts::{Bench, bench, chat_bench};
use crate::imports::{FEED_HEADER, Folder, LATER, accepted, taken};
use crate::statements::{HEADER, cost, line, machine_of};

/// A file of the feed with the hours of a machine at a price, by the name that AWS gives it.
fn feed(folder: &Folder, name: &str, machine: &str, hours: std::ops::Range<i64>, price: &str) -> Vec<PathBuf> {
    let fed = |n: i64| {
        format!("2026-07-20 {n:02}:00:00 UTC\tSpotUsage:g6.xlarge\tRunInstances\t{machine}\tsir\t9 USD\t{price} USD\t{price} USD\t1\n")
    };
    vec![folder.file(&format!("111122223333.{name}.x"), &format!("{FEED_HEADER}{}", hours.map(fed).collect::<String>()))]
}

async fn refused(connection: &mut PgConnection, files: &[PathBuf]) -> String {
    taken(connection, Format::Feed, files).await.unwrap_err()
}

/// A feed by which our machines cost half more or half less than the books say is refused, and so is an older file after a newer one.
#[tokio::test]
async fn a_feed_is_held_against_the_books_and_an_older_file_is_refused() {
    let Bench { url, ledger, server: _server } = bench().await;
    machine_of(&ledger, "a", crate::facts::DAY, 24).await;
    let mut connection = connect(&url).await.unwrap();
    post(&mut connection, LATER).await.unwrap();
    let folder = Folder::new("feeds-amounts");
    for (price, would) in [("1.60", "was 24.00 and would be 38.40"), ("0.40", "was 24.00 and would be 9.60")] {
        let fault = refused(&mut connection, &feed(&folder, "2026-07-21-00.001", "i-a", 0..24, price)).await;
        let said = "what our machines cost by the feed, against the books, of 2026-07-20 to 2026-07-21";
        assert!(fault.contains(said) && fault.contains(would) && fault.contains("--accept amount-changed"), "{fault}");
        assert_eq!(cost(&mut connection).await, "24.00");
    }
    taken(&mut connection, Format::Feed, &feed(&folder, "2026-07-21-00.002", "i-a", 0..24, "1.20")).await.unwrap();
    assert_eq!(cost(&mut connection).await, "28.80");
    for older in ["2026-07-21-00.001", "2026-07-20-23.009"] {
        let fault = refused(&mut connection, &feed(&folder, older, "i-a", 0..24, "1.10")).await;
        let said = format!(
            "111122223333.{older}.x has other charges for hours that version 1 took from a newer file (111122223333.2026-07-21-00.002.x)"
        );
        assert!(fault.starts_with(&said) && fault.contains("--accept older-version"), "{fault}");
    }
    let newer = feed(&folder, "2026-07-21-00.003", "i-a", 0..24, "1.30");
    taken(&mut connection, Format::Feed, &newer).await.unwrap();
    assert_eq!(cost(&mut connection).await, "31.20");
    let older = feed(&folder, "2026-07-20-23.008", "i-a", 0..24, "1.05");
    accepted(&mut connection, Format::Feed, &older, Check::OlderVersion).await;
    assert_eq!(cost(&mut connection).await, "25.20");
}

/// A machine of somebody else's is in the feed and on the bill: it cost once.
#[tokio::test]
async fn what_others_machines_cost_is_not_doubled_once_feed_and_bill_are_there() {
    let Bench { url, ledger, server: _server } = bench().await;
    machine_of(&ledger, "a", crate::facts::DAY, 2).await;
    let mut connection = connect(&url).await.unwrap();
    post(&mut connection, LATER).await.unwrap();
    let folder = Folder::new("feeds-others");
    let files =
        [feed(&folder, "2026-07-20-02.001", "i-a", 0..2, "1.0"), feed(&folder, "2026-07-20-02.002", "i-other", 0..2, "5.0")].concat();
    taken(&mut connection, Format::Feed, &files).await.unwrap();
    let july = "2026-07".parse::<report::Month>().unwrap().days();
    let others = async |connection: &mut PgConnection| {
        let trust = report::trust(connection, &july, &[]).await.unwrap();
        let row = trust.rows.iter().find(|row| row[0].as_deref() == Some("billed lines of machines that are not ours")).unwrap();
        (row[1].clone().unwrap(), row[3].clone().unwrap())
    };
    assert_eq!(others(&mut connection).await, ("10.000000".to_owned(), "2".to_owned()));
    let hours = |machine: &str, price: &str| -> String {
        (0..2).map(|n| line(&format!("{machine}-{n}"), "Usage", machine, "SpotUsage:g6.xlarge", n, "1", price, "")).collect()
    };
    let bill = folder.file("cur.csv", &format!("{HEADER}{}{}", hours("i-a", "1.0"), hours("i-other", "5.0")));
    taken(&mut connection, Format::Cur, &[bill]).await.unwrap();
    assert_eq!(others(&mut connection).await, ("10.000000".to_owned(), "2".to_owned()));
}

/// What the figures of a statement rest on beside its own files: rates, mapping and projects are on record with their SHA-256, and are no part of what makes a
/// version the same.
#[tokio::test]
async fn a_statement_keeps_the_files_that_it_was_read_with() {
    let (Bench { server, .. }, mut connection) = chat_bench().await;
    let folder = Folder::new("feeds-beside");
    let rates = folder.file("rates.csv", "day,currency,usd_per_unit\n2026-07-01,EUR,1.25\n");
    let mapping = folder.file("tags.csv", "label,tag\nteam,Squad\n");
    let projects = folder.file("p.csv", "field,value,workload\nproject,proj_a,ml/chat\n");
    let with_rates = || Options { rates: Rates::read(&rates).unwrap(), ..Options::default() };
    let costs = folder.file("c.csv", "period,item,cost_usd,currency\n2026-07-20,api,10,EUR\n");
    import(&mut connection, Format::Costs, std::slice::from_ref(&costs), with_rates(), LATER).await.unwrap();
    let focus = folder.file(
        "focus.csv",
        "BillingAccountId,BillingCurrency,BillingPeriodStart,ChargeCategory,ChargePeriodStart,ChargePeriodEnd,EffectiveCost,ProviderName,ResourceId,ServiceName,Tags\n\
         acct,EUR,2026-07-01T00:00:00Z,Usage,2026-07-20T00:00:00Z,2026-07-21T00:00:00Z,12.00,AI Vendor,,Chat model,\n",
    );
    let tags = Mapping::read(&mapping).unwrap();
    import(&mut connection, Format::Focus(&tags), &[focus], with_rates(), LATER).await.unwrap();
    let page = format!(
        r#"{{"object": "page", "data": [{{"start_time": {0}, "end_time": {1}, "results": [{{"input_tokens": 24, "output_tokens": 24, "project_id": "proj_a", "model": "m"}}]}}], "has_more": false}}"#,
        crate::facts::DAY.0 / 1_000,
        crate::facts::DAY.0 / 1_000 + 86_400
    );
    let of_projects = Projects::read(&projects).unwrap();
    import(&mut connection, Format::VendorUsage(&of_projects), &[folder.file("page.json", &page)], Options::default(), LATER)
        .await
        .unwrap();
    let sha256 = |path: &PathBuf| {
        let said = std::process::Command::new("sha256sum").arg(path).output().unwrap().stdout;
        String::from_utf8(said).unwrap().split(' ').next().unwrap().to_owned()
    };
    let kept =
        "SELECT string_agg(concat_ws(' ', s.source, f ->> 'role', f ->> 'name', f ->> 'sha256'), ', ' ORDER BY s.source, f ->> 'role')
                FROM ledger.statements s, jsonb_array_elements(s.files) f WHERE f ->> 'role' IN ('rates', 'mapping', 'projects')";
    let expected = format!(
        "costs rates rates.csv {0}, focus acct mapping tags.csv {1}, focus acct rates rates.csv {0}, openai projects p.csv {2}",
        sha256(&rates),
        sha256(&mapping),
        sha256(&projects)
    );
    assert_eq!(server.psql("postgres", kept).unwrap().trim(), expected);
    let report = report::statements(&mut connection, &report::Listed::default()).await.unwrap();
    let files = report.columns.iter().position(|column| column == "files").unwrap();
    let of_costs = report.rows.iter().find(|row| row[1].as_deref() == Some("costs")).unwrap();
    assert_eq!(of_costs[files].clone().unwrap(), format!("c.csv sha256:{} rates=rates.csv sha256:{}", sha256(&costs), sha256(&rates)));
    // The same files with another name of the rates say the same.
    let renamed = folder.file("other.csv", "day,currency,usd_per_unit\n2026-07-01,EUR,1.25\n");
    let options = Options { rates: Rates::read(&renamed).unwrap(), ..Options::default() };
    let again = import(&mut connection, Format::Costs, &[costs], options, LATER).await.unwrap();
    assert!(again.statements[0].same);
}
