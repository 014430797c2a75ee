//! FOCUS of other providers: whose account a file is of, whatever it calls the provider; and what of it the bill has already.

use std::path::PathBuf;

use lowtide::ledger::connect;
use lowtide::ledger::import::{Check, Checks, Format, Imported, Mapping, Options, import, retract};
use lowtide::ledger::table_file::{Column, Kind, TableWriter};
use sqlx::PgConnection;

use crate::facts::{Bench, DAY, bench};
use crate::imports::{Folder, LATER};
use crate::statements::{machine_of, of_line};

const COLUMNS: [&str; 10] = [
    "BillingAccountId",
    "BillingCurrency",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargePeriodStart",
    "ChargePeriodEnd",
    "EffectiveCost",
    "ResourceId",
    "ServiceName",
    "Tags",
];

/// A row of 20 July 2026 of account `acct`: provider, amount, resource, service and tags.
type Row<'a> = (&'a str, &'a str, &'a str, &'a str, &'a str);

fn values((provider, cost, resource, service, tags): &Row<'_>) -> Vec<String> {
    let (from, to) = ("2026-07-20T00:00:00Z", "2026-07-21T00:00:00Z");
    ["acct", "USD", "2026-07-01T00:00:00Z", "Usage", from, to, cost, resource, service, tags, provider].map(str::to_owned).to_vec()
}

/// A file in which the column `provider` names the provider.
fn focus(provider: &str, rows: &[Row<'_>]) -> String {
    let quoted = |value: String| if value.contains('"') { format!("\"{}\"", value.replace('"', "\"\"")) } else { value };
    let line = |row: &Row<'_>| values(row).into_iter().map(quoted).collect::<Vec<_>>().join(",");
    format!("{},{provider}\n{}\n", COLUMNS.join(","), rows.iter().map(line).collect::<Vec<_>>().join("\n"))
}

async fn take(connection: &mut PgConnection, file: &[PathBuf], accept: &[Check], source: Option<&str>) -> Result<Imported, String> {
    let checks = Checks::accepting(accept.iter().copied());
    let options = Options { checks, source: source.map(str::to_owned), ..Options::default() };
    import(connection, Format::Focus(&Mapping::default()), file, options, LATER).await.map_err(|fault| fault.to_string())
}

#[tokio::test]
async fn an_account_is_one_source_whatever_its_providers_are_called() {
    let Bench { url, ledger, server } = bench().await;
    machine_of(&ledger, "a", DAY, 2).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("providers-names");
    let file = |name: &str, text: String| vec![folder.file(name, &text)];
    let chat = |provider| (provider, "8.00", "", "Chat", "");
    // As an earlier release kept it, and then the same account by the provider's new name.
    let first = file("1.csv", focus("ProviderName", &[chat("AI Vendor"), ("Market", "3.00", "", "Search", "")]));
    let old = focus("ProviderName", &[chat("AI Vendor")]);
    take(&mut connection, &file("0.csv", old), &[], Some("focus AI Vendor acct")).await.unwrap();
    let done = take(&mut connection, &first, &[], None).await.unwrap();
    let sources: Vec<&str> = done.statements.iter().map(|statement| statement.cell.source.as_str()).collect();
    assert_eq!(sources, ["focus AI Vendor acct", "focus acct"]);
    assert_eq!(of_line(&mut connection, "overhead").await, "11.00", "not both");
    assert!(take(&mut connection, &first, &[], None).await.unwrap().statements[0].same);
    let renamed = file("2.csv", focus("ServiceProviderName", &[chat("AI Vendor Inc."), ("Market", "3.00", "", "Search", "")]));
    let fault = take(&mut connection, &renamed, &[], None).await.unwrap_err();
    assert!(fault.contains("it lacks the item AI Vendor: Chat") && fault.contains("--accept missing-before"), "{fault}");
    take(&mut connection, &renamed, &[Check::MissingBefore], None).await.unwrap();
    assert_eq!(of_line(&mut connection, "overhead").await, "11.00");
    // A provider that is gone, and a version that speaks of our own machines alone.
    let gone = file("3.csv", focus("ProviderName", &[chat("AI Vendor Inc.")]));
    take(&mut connection, &gone, &[Check::MissingBefore], None).await.unwrap();
    assert_eq!(of_line(&mut connection, "overhead").await, "8.00");
    let ours = file("4.csv", focus("ProviderName", &[("AWS", "2.00", "i-a", "EC2", "")]));
    let fault = take(&mut connection, &ours, &[], None).await.unwrap_err();
    assert!(fault.contains("it lacks the item AI Vendor Inc.: Chat"), "{fault}");
    let nothing = take(&mut connection, &ours, &[Check::MissingBefore], None).await.unwrap();
    assert_eq!((nothing.left_out, of_line(&mut connection, "overhead").await), (1, "0.00".to_owned()));
    // Retracted, the version before holds again, and every posting has its cause.
    retract(&mut connection, nothing.statements[0].id, "a test", LATER).await.unwrap();
    assert_eq!(of_line(&mut connection, "overhead").await, "8.00");
    assert_eq!(lowtide::ledger::verify::verify(&mut connection).await.unwrap().findings.len(), 0);
    let state = "SELECT string_agg(source || ' ' || version, ', ' ORDER BY source) FROM ledger.statements WHERE state = 'holds'";
    assert_eq!(server.psql("postgres", state).unwrap().trim(), "focus AI Vendor acct 2, focus acct 3");
}

/// A volume that the bill has on its own line, by its tag; a workload without a namespace; names as Athena writes them; no currency.
#[tokio::test]
async fn what_is_ours_by_its_tag_is_left_out_and_what_cannot_be_read_refused() {
    let Bench { url, ledger, server: _server } = bench().await;
    machine_of(&ledger, "a", DAY, 2).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("providers-tags");
    let file = |name: &str, text: String| vec![folder.file(name, &text)];
    let tagged = |uid: &str| format!("{{\"user:lowtide-claim-uid\": \"{uid}\"}}");
    let (ours, theirs) = (tagged("uid-a"), tagged("uid-theirs"));
    let rows = [("AWS", "5.00", "vol-1", "EBS", ours.as_str()), ("AWS", "3.00", "vol-2", "EBS", theirs.as_str())];
    let done = take(&mut connection, &file("v.csv", focus("ProviderName", &rows)), &[], None).await.unwrap();
    assert_eq!((done.left_out, of_line(&mut connection, "overhead").await), (1, "3.00".to_owned()));

    let bare = file("w.csv", focus("ProviderName", &[("AWS", "3.00", "", "EBS", "{\"workload\": \"chat\"}")]));
    let fault = take(&mut connection, &bare, &[], None).await.unwrap_err();
    assert!(fault.contains("namespace/name, as in ml/chat") && fault.contains("--accept unknown-workloads"), "{fault}");
    let text = focus("ProviderName", &rows);
    let (header, lines) = text.split_once('\n').unwrap();
    let athena = file("athena.csv", format!("{},x_discounts\n{}", header.to_lowercase(), lines.replace("AWS\n", "AWS,\n")));
    assert!(take(&mut connection, &athena, &[], None).await.unwrap().statements[0].same);
    let misspelt = file("misspelt.csv", format!("{}\n{lines}", header.to_lowercase().replace("tags", "tag")));
    let fault = take(&mut connection, &misspelt, &[], None).await.unwrap_err();
    assert!(fault.contains("FOCUS has no columns tag,"), "{fault}");
    let currency = file("c.csv", text.replace(",USD,", ",,"));
    let fault = take(&mut connection, &currency, &[], None).await.unwrap_err();
    assert!(fault.contains("column billing_currency holds \"nothing\"; expected a currency, as in USD"), "{fault}");
    let twice = file("twice.csv", format!("{text}{text}"));
    let fault = take(&mut connection, &twice, &[], None).await.unwrap_err();
    assert!(fault.contains("rows of twice.csv are in another part of it, with a header of its own, as well"), "{fault}");

    // A column of Parquet that is not read is looked at all the same.
    let parquet = folder.0.join("tag.parquet");
    let kind = |name: &str| match name {
        "EffectiveCost" => Kind::Decimal,
        name if name.ends_with("Start") || name.ends_with("End") => Kind::Time,
        _ => Kind::Text,
    };
    let named = COLUMNS.into_iter().chain(["ProviderName"]).map(|name| if name == "Tags" { "Tag" } else { name });
    let columns = named.map(|name| Column { name: name.to_owned(), kind: kind(name) }).collect();
    let mut writer = TableWriter::create(&parquet, columns, lowtide::ledger::table_file::Format::Parquet).unwrap();
    writer.add(values(&rows[1]).into_iter().map(|value| Some(value).filter(|value| !value.is_empty())).collect()).unwrap();
    writer.finish().unwrap();
    let fault = take(&mut connection, &[parquet], &[], None).await.unwrap_err();
    assert!(fault.contains("FOCUS has no columns tag,") && fault.contains("--accept unknown-columns"), "{fault}");
}
