//! Files as people and programs leave them: in odd order, in parts, by hand, through a spreadsheet, in several spellings. Each is read as what it says, or refused
//! with a sentence; none moves a figure by itself.

use std::path::PathBuf;

use lowtide::core::units::time::{Millis, Timestamp};
use lowtide::ledger::connect;
use lowtide::ledger::import::{Check, Format, Mapping, Options, import};
use lowtide::ledger::reconcile::reconcile;
use sqlx::PgConnection;

use crate::facts::{Bench, DAY, bench};
use crate::imports::{Folder, LATER, accepted, changed, taken};
use crate::statements::{HEADER, cost, line, machine_of, of_line};

#[tokio::test]
async fn files_as_spreadsheets_and_databases_save_them_are_read_or_refused() {
    let Bench { url, ledger, server: _server } = bench().await;
    machine_of(&ledger, "a", DAY, 10).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("forms-saved");
    // A mark, quoted names, carriage returns, a line break and a comma within quotes, empty rows and columns, digits of a double.
    let saved = "\u{feff}\"period\",\"item\",\"cost_usd\",\"team\",\r\n2026-07-20,\"models,\r\nall of them\",12.500000000000000000000001,search,\r\n,,,,\r\n";
    taken(&mut connection, Format::Costs, &[folder.file("saved.csv", saved)]).await.unwrap();
    assert_eq!(of_line(&mut connection, "overhead").await, "12.50");
    let plain = "period,item,cost_usd,team\n2026-07-20,\"models,\r\nall of them\",12.5,search\n";
    assert_eq!(changed(&taken(&mut connection, Format::Costs, &[folder.file("plain.csv", plain)]).await.unwrap()), None);
    let zip = folder.0.join("two.zip");
    let script = "import sys, zipfile\nz = zipfile.ZipFile(sys.argv[1], 'w')\nz.writestr('a.csv', 'period,item,cost_usd\\n')\nz.writestr('b.csv', 'period,item,cost_usd\\n')\nz.close()";
    assert!(std::process::Command::new("python3").args(["-c", script]).arg(&zip).status().unwrap().success());
    let mut garbage = std::fs::read(folder.packed("g.csv", plain)).unwrap();
    garbage.extend(b"and more");
    std::fs::write(folder.0.join("garbage.csv.gz"), garbage).unwrap();
    for (file, said) in [
        (folder.file("de.csv", "period;item;cost_usd\n2026-07-20;modelle;12,50\n"), "separated by semicolons; expected commas"),
        (folder.file("tabs.csv", "period\titem\tcost_usd\n2026-07-20\tx\t1\n"), "separated by tabs"),
        (folder.file("amount.csv", "period,item,cost_usd\n2026-07-20,x,\"1.234,50\"\n"), "line 2: column cost_usd holds \"1.234,50\""),
        (folder.file("grouped.csv", "period,item,cost_usd\n2026-07-20,x,\"1,234.50\"\n"), "column cost_usd holds \"1,234.50\""),
        (folder.file("brackets.csv", "period,item,cost_usd\n2026-07-20,x,(12.50)\n"), "column cost_usd holds \"(12.50)\""),
        (folder.file("days.csv", "period,item,cost_usd\n20.07.2026,x,1\n"), "column period holds \"20.07.2026\""),
        (folder.file("twice.csv", "period,item,cost_usd,Cost USD\n2026-07-20,x,1,2\n"), "the column cost_usd is there twice"),
        (folder.file("empty.csv", ""), "the file is empty; expected a header"),
        (zip, "a zip file with one file in it is expected, found 2"),
        (folder.0.join("garbage.csv.gz"), "the file is damaged or was cut off"),
    ] {
        let fault = taken(&mut connection, Format::Costs, &[file]).await.unwrap_err();
        assert!(fault.contains(said) && fault.contains("nothing was imported"), "{fault}");
    }
    // A header alone says nothing of any month.
    let header = taken(&mut connection, Format::Costs, &[folder.file("header.csv", "period,item,cost_usd\n")]).await.unwrap();
    assert!(header.statements.is_empty());
    assert_eq!(of_line(&mut connection, "overhead").await, "12.50");
}

#[tokio::test]
async fn a_bill_is_taken_by_its_lines_its_parts_and_its_age() {
    let Bench { url, ledger, server: _server } = bench().await;
    machine_of(&ledger, "a", DAY, 10).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("forms-bill");
    let hours =
        |price: &str| (0..10).map(|n| line(&format!("a{n}"), "Usage", "i-a", "SpotUsage:g6.xlarge", n, "1", price, "")).collect::<String>();
    // One line with two amounts.
    let fee = |cost: &str| line("f1", "Fee", "", "", 0, "1", cost, "");
    let twice = folder.file("twice/cur.csv", &format!("{HEADER}{}{}{}", hours("1.10"), fee("5"), fee("7")));
    let fault = taken(&mut connection, Format::Cur, std::slice::from_ref(&twice)).await.unwrap_err();
    assert!(fault.contains("cur.csv has the line f1 twice, with $5 and with $7") && fault.contains("--accept hours-twice"), "{fault}");
    // A manifest stands for its files, and for those that are missing.
    let keys = |names: &[&str]| names.iter().map(|name| format!("\"b/a1/{name}\"")).collect::<Vec<_>>().join(", ");
    let manifest = |name: &str, keys: &str| folder.file(name, &format!(r#"{{"assemblyId": "a1", "reportKeys": [{keys}]}}"#));
    let gone = manifest("gone/r-Manifest.json", &keys(&["r-00001.csv", "r-00002.csv"]));
    for files in [vec![gone], vec![folder.0.join("gone")]] {
        let fault = taken(&mut connection, Format::Cur, &files).await.unwrap_err();
        assert!(fault.contains("names 2 files, and 2 of them are missing: r-00001.csv, r-00002.csv"), "{fault}");
    }
    // Versions of one second: the fraction tells which is later, whatever order they come in.
    let version = |at: &str, price: &str| {
        folder.file(&format!("{at}/r-00001.csv"), &format!("{HEADER}{}", hours(price)));
        vec![manifest(&format!("{at}/r-Manifest.json"), &keys(&["r-00001.csv"]))]
    };
    let (first, second) = (version("2026-08-03T01:02:03Z-x", "1.10"), version("2026-08-03T01:02:03.500Z-y", "1.20"));
    taken(&mut connection, Format::Cur, &first).await.unwrap();
    taken(&mut connection, Format::Cur, &second).await.unwrap();
    assert_eq!(cost(&mut connection).await, "12.00");
    let fault = taken(&mut connection, Format::Cur, &first).await.unwrap_err();
    assert!(fault.contains("was made at 2026-08-03T01:02:03Z, the one that holds at 2026-08-03T01:02:03.5Z"), "{fault}");
    // Use that was taken back by a line with the opposite sign, in a version that comes after the month was sealed.
    lowtide::ledger::seal::seal(&mut connection).await.unwrap();
    let back = line("a9-back", "Usage", "i-a", "SpotUsage:g6.xlarge", 9, "-1", "-1.20", "");
    let late = folder.file("late/cur.csv", &format!("{HEADER}{}{back}", hours("1.20")));
    taken(&mut connection, Format::Cur, &[late]).await.unwrap();
    assert_eq!(cost(&mut connection).await, "10.80");
    let said = reconcile(&mut connection, &"2026-07".parse().unwrap()).await.unwrap().sentence;
    assert!(said.starts_with("2026-07: AWS confirmed 0 instance-hours and 10 were trued up by $0.80"), "{said}");
    lowtide::ledger::seal::seal(&mut connection).await.unwrap();
    let verified = lowtide::ledger::verify::verify(&mut connection).await.unwrap();
    let recomputed = lowtide::ledger::verify::recompute(&mut connection, &lowtide::ledger::verify::Sample::default()).await.unwrap();
    assert!(verified.findings.is_empty() && recomputed.is_empty(), "{verified:?} {recomputed:?}");
}

/// Hours of a server in another zone, over the night in which its clocks go back: the ledger and its statements are of UTC.
#[tokio::test]
async fn clocks_that_go_back_lose_no_hour_and_double_none() {
    let Bench { url, ledger, server } = bench().await;
    server.psql("postgres", "ALTER DATABASE postgres SET timezone = 'Europe/Berlin'").unwrap();
    // 25 October 2026, 01:00 UTC is 02:00 in Berlin for the second time; the month ends in winter time.
    let night = Timestamp::from_date(2026, 10, 24) + Millis::from_hours(22);
    machine_of(&ledger, "night", night, 6).await;
    machine_of(&ledger, "end", Timestamp::from_date(2026, 11, 1) - Millis::from_hours(2), 4).await;
    let mut connection = connect(&url).await.unwrap();
    lowtide::ledger::poster::post(&mut connection, Timestamp::from_date(2026, 11, 20)).await.unwrap();
    let days = "SELECT string_agg(day || ' ' || cost::numeric(10,2), ', ' ORDER BY day) FROM (SELECT day, sum(cost_usd) AS cost FROM ledger.cost_daily GROUP BY day) x";
    let found: String = sqlx::query_scalar(days).fetch_one(&mut connection).await.unwrap();
    assert_eq!(found, "2026-10-24 2.00, 2026-10-25 4.00, 2026-10-31 2.00, 2026-11-01 2.00");
    let folder = Folder::new("forms-clocks");
    // The same hour by the clock on the wall, once before and once after.
    let usage = "hour,workload,requests\n2026-10-25T02:00:00+02:00,ml/of-search,100\n2026-10-25T02:00:00+01:00,ml/of-search,200\n";
    taken(&mut connection, Format::Usage, &[folder.file("usage.csv", usage)]).await.unwrap();
    let hours =
        "SELECT string_agg(to_char(hour AT TIME ZONE 'UTC', 'HH24:MI') || ' ' || quantity::bigint, ', ' ORDER BY hour) FROM ledger.usage";
    let found: String = sqlx::query_scalar(hours).fetch_one(&mut connection).await.unwrap();
    assert_eq!(found, "00:00 100, 01:00 200");
    let month = "period,item,cost_usd,team\n2026-10,tooling,31,search\n";
    taken(&mut connection, Format::Costs, &[folder.file("month.csv", month)]).await.unwrap();
    let october = "SELECT count(*) || ' ' || sum(cost_usd)::numeric(10,2) FROM ledger.cost_daily WHERE line = 'overhead' AND day BETWEEN '2026-10-01' AND '2026-10-31'";
    let found: String = sqlx::query_scalar(october).fetch_one(&mut connection).await.unwrap();
    assert_eq!(found, "31 31.00");
}

const FOCUS: &str = "BillingAccountId,BillingCurrency,BillingPeriodStart,ChargeCategory,ChargePeriodStart,ChargePeriodEnd,EffectiveCost,ProviderName,RegionId,ServiceName,Tags\n";

/// A row of July for each region, at `cost`.
fn focus(regions: &[&str], cost: &str, tags: &str) -> String {
    let tags = tags.replace('"', "\"\"");
    let row = |region: &&str| {
        format!(
            "acct,USD,2026-07-01T00:00:00Z,Usage,2026-07-20T00:00:00Z,2026-07-21T00:00:00Z,{cost},GPU Cloud,{region},Batch,\"{tags}\"\n"
        )
    };
    format!("{FOCUS}{}", regions.iter().map(row).collect::<String>())
}

#[tokio::test]
async fn versions_of_a_focus_file_replace_and_are_not_added_up() {
    let Bench { url, server, .. } = bench().await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("forms-focus");
    let plain = Mapping::default();
    let take = async |connection: &mut PgConnection, files: &[PathBuf]| {
        let done = import(connection, Format::Focus(&plain), files, Options::default(), LATER).await;
        done.map_err(|fault| fault.to_string())
    };
    // As Data Exports delivers FOCUS: versions in folders of their own, the manifest beside them.
    let version = |at: &str, cost: &str| {
        let data = format!("e/data/BILLING_PERIOD=2026-07/{at}-x");
        let parts = [("e-00001.csv", ["east", "west"]), ("e-00002.csv", ["north", "south"])];
        for (name, regions) in parts {
            folder.file(&format!("{data}/{name}"), &focus(&regions, cost, r#"{"user:Team": "search"}"#));
        }
        let keys = parts.map(|(name, _)| format!("\"s3://b/{data}/{name}\"")).join(", ");
        folder.file(
            &format!("e/metadata/BILLING_PERIOD=2026-07/{at}-x/e-Manifest.json"),
            &format!(r#"{{"executionId": "{at}", "dataFiles": [{keys}]}}"#),
        );
        folder.0.join(data)
    };
    let first = version("2026-07-25T00:00:00Z", "10");
    take(&mut connection, &[folder.0.join("e")]).await.unwrap();
    assert_eq!(of_line(&mut connection, "overhead").await, "40.00");
    let second = version("2026-08-03T00:00:00Z", "12");
    take(&mut connection, &[folder.0.join("e")]).await.unwrap();
    assert_eq!(of_line(&mut connection, "overhead").await, "48.00", "the newest of the versions in a folder");
    let fault = take(&mut connection, std::slice::from_ref(&first)).await.unwrap_err();
    assert!(
        fault.contains("this version of 2026-07 was made at 2026-07-25T00:00:00Z") && fault.contains("--accept older-version"),
        "{fault}"
    );
    std::fs::remove_file(second.join("e-00002.csv")).unwrap();
    let fault = take(&mut connection, &[second.join("e-00001.csv")]).await.unwrap_err();
    assert!(fault.contains("names 2 files, and 1 of them are missing: e-00002.csv"), "{fault}");
    let team = "SELECT string_agg(DISTINCT coalesce(team, '-'), ', ') FROM ledger.cost_daily WHERE line = 'overhead' AND cost_usd > 0";
    assert_eq!(server.psql("postgres", team).unwrap().trim(), "search");

    // Without a manifest: parts of one report add up, two versions of it are refused.
    let file = |name: &str, regions: &[&str], cost: &str| folder.file(name, &focus(regions, cost, "{}").replace("acct,", "flat,"));
    let (east, west) = (file("flat/east.csv", &["east", "north"], "5"), file("flat/west.csv", &["west", "south"], "5"));
    take(&mut connection, &[east.clone(), west]).await.unwrap();
    assert_eq!(of_line(&mut connection, "overhead").await, "68.00");
    let newer = file("flat/newer.csv", &["east", "north"], "6");
    let fault = take(&mut connection, &[east, newer]).await.unwrap_err();
    assert!(fault.contains("2 rows of east.csv are in newer.csv as well") && fault.contains("--accept hours-twice"), "{fault}");
    // Put behind itself without its header.
    let text = focus(&["east", "north"], "5", "{}").replace("acct,", "twice,");
    let twice = folder.file("flat/twice.csv", &format!("{text}{}", text.split_once('\n').unwrap().1));
    let fault = take(&mut connection, &[twice]).await.unwrap_err();
    assert!(fault.contains("2 of the 2 different lines of twice.csv come more than once, word for word"), "{fault}");
    let misspelt = folder.file("tag.csv", &focus(&["east"], "5", "{}").replace(",Tags", ",Tag"));
    let fault = take(&mut connection, &[misspelt]).await.unwrap_err();
    assert!(fault.contains("FOCUS has no columns tag, and columns of a provider's own begin with x_"), "{fault}");
}

/// Whose a cost is, in every spelling of a tag. Accounts of one provider that buy the same service are sources of their own.
#[tokio::test]
async fn tags_say_the_same_in_every_spelling() {
    let Bench { url, server, .. } = bench().await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("forms-tags");
    let mapping = Mapping::read(&folder.file("tags.csv", "label,tag\nteam,Squad\ncost_center,cost-center\n")).unwrap();
    for (n, tags) in [
        r#"{"Squad": "search", "cost-center": "7"}"#,
        r#"{"user:squad": "search", "user:CostCenter": "7"}"#,
        r#"{"user_squad": "search", "user_cost_center": "7"}"#,
        r#""Squad": "search","Cost Center": "7""#,
        r#"[{"key": "squad", "value": "search"}, {"key": "cost_center", "value": "7"}]"#,
        "{user_squad=search, user_cost_center=7}",
    ]
    .into_iter()
    .enumerate()
    {
        let file = folder.file(&format!("{n}.csv"), &focus(&["east"], "1", tags).replace("acct,", &format!("acct{n},")));
        import(&mut connection, Format::Focus(&mapping), &[file], Options::default(), LATER).await.unwrap();
    }
    let owners = "SELECT team || ' ' || cost_center || ' ' || sum(cost_usd)::numeric(10,2) FROM ledger.cost_daily WHERE line = 'overhead' GROUP BY team, cost_center";
    assert_eq!(server.psql("postgres", owners).unwrap().trim(), "search 7 6.00");
}

/// Volumes of our machines are known by the tag that lowtide puts on them, however the report writes it.
#[tokio::test]
async fn the_claim_of_a_volume_is_known_in_every_spelling_of_its_tag() {
    let Bench { url, ledger, server: _server } = bench().await;
    machine_of(&ledger, "a", DAY, 10).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("forms-volumes");
    let mut total = 0;
    for (n, (column, value)) in [
        ("resourceTags/user:lowtide-claim-uid", "uid-a"),
        ("resource_tags_user_lowtide_claim_uid", "uid-a"),
        ("resource_tags.user_lowtide_claim_uid", "uid-a"),
        ("resource_tags", "\"{\"\"user_lowtide_claim_uid\"\": \"\"uid-a\"\"}\""),
        ("resource_tags", "\"{\"\"lowtide-claim-uid\"\": \"\"uid-a\"\"}\""),
        ("resource_tags", "\"{user_team=x, user_lowtide_claim_uid=uid-a}\""),
    ]
    .into_iter()
    .enumerate()
    {
        let volume = line(&format!("v{n}"), "Usage", "vol-1", "EBS:VolumeUsage.gp3", 0, "1", &format!("{}", n + 1), "");
        let text = format!("{},{column}\n{},{value}\n", HEADER.trim_end(), volume.trim_end());
        total = n + 1;
        accepted(&mut connection, Format::Cur, &[folder.file(&format!("{n}/cur.csv"), &text)], Check::ForeignAccount).await;
        assert_eq!(of_line(&mut connection, "volume").await, format!("{total}.00"), "{column}: {value}");
    }
    assert_eq!(total, 6);
}
