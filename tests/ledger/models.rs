//! What models cost: by the bill where it names them, else by tokens.

use std::path::PathBuf;

use lowtide::core::units::time::Millis;
use lowtide::ledger::import::{Check, Checks, Format, Mapping, Options, import, retract};
use lowtide::ledger::report::{EconomicsBy, EconomicsOnly, Month, Report, unit_economics};
use lowtide::ledger::verify;
use sqlx::PgConnection;

use crate::facts::{Bench, DAY, chat_bench, rows_of};
use crate::imports::{Folder, LATER, taken};

async fn by_model(connection: &mut PgConnection, only: &[EconomicsOnly]) -> Report {
    let july = "2026-07".parse::<Month>().unwrap().days();
    unit_economics(connection, &july, &[EconomicsBy::Model], only).await.unwrap()
}

fn column<'a>(report: &'a Report, name: &str) -> Vec<&'a str> {
    let at = report.columns.iter().position(|column| column == name).unwrap();
    report.rows.iter().map(|row| row[at].as_deref().unwrap()).collect()
}

async fn replaced(connection: &mut PgConnection, format: Format<'_>, file: PathBuf) {
    let checks = Checks::accepting([Check::AmountChanged, Check::MissingBefore]);
    import(connection, format, &[file], Options { checks, ..Options::default() }, LATER).await.unwrap();
}

/// `chat` runs a model on a machine of ours for a day at $1 an hour, and asks a vendor for two others.
#[tokio::test]
async fn a_model_costs_what_the_bill_names_it_for_and_the_rest_is_a_share_by_tokens() {
    let (Bench { server, .. }, mut connection) = chat_bench().await;
    let folder = Folder::new("models");
    // Of the vendor's models three hours of the day, of our own all of them.
    let mut usage = "hour,workload,model,requests,tokens_in,tokens_out\n".to_owned();
    for hour in 0..24 {
        let at = DAY + Millis::from_hours(hour);
        usage.push_str(&format!("{at},ml/chat,own,1,100,100\n"));
        if hour < 3 {
            usage.push_str(&format!("{at},ml/chat,gpt-a,100,3000,1000\n{at},ml/chat,gpt-b,50,1000,600\n"));
        }
    }
    taken(&mut connection, Format::Usage, &[folder.file("u.csv", &usage)]).await.unwrap();
    let costs = |b: &str| {
        format!(
            "period,item,cost_usd,workload,team,component,model\n2026-07-20,gpt,10,ml/chat,vision,,gpt-a\n2026-07-20,gpt,6,ml/chat,search,,{b}\n\
             2026-07-20,disks,2,ml/chat,search,storage,\n"
        )
    };
    // As it was without a name: $42 by tokens, of the hours in which both are known.
    let nameless = costs("gpt-b").lines().map(|line| format!("{}\n", line.rsplit_once(',').unwrap().0)).collect::<String>();
    taken(&mut connection, Format::Costs, &[folder.file("c0.csv", &nameless)]).await.unwrap();
    let said = by_model(&mut connection, &[]).await;
    assert!(
        said.sentence.contains("A model's cost is a share of its endpoint's by tokens, whatever the vendor charges"),
        "{}",
        said.sentence
    );
    assert_eq!(column(&said, "billed_usd"), ["0.000000"; 3]);

    // $10 for 300 requests, 9,000 tokens in and 3,000 out; our own has the machine's $24 and the disks' $2.
    replaced(&mut connection, Format::Costs, folder.file("c1.csv", &costs("gpt-b"))).await;
    let named = [
        "own 1 26.000000 24 2400 2400 1.083333333333 10.833333333333 10.833333333333 5.416666666667 100 100 0.000000 24.000000 0.000000 0.000000 2.000000 0.000000",
        "gpt-a 1 10.000000 300 9000 3000 0.033333333333 1.111111111111 3.333333333333 0.833333333333 100 100 10.000000 0.000000 10.000000 0.000000 0.000000 0.000000",
        "gpt-b 1 6.000000 150 3000 1800 0.04 2 3.333333333333 1.25 100 100 6.000000 0.000000 6.000000 0.000000 0.000000 0.000000",
    ];
    let said = by_model(&mut connection, &[]).await;
    assert_eq!(rows_of(&said), named);
    assert!(
        said.sentence.ends_with(
            " $16.00 is what vendors' bills name these models for; $26.00 is a share of their endpoints' other cost by tokens, among the models that no \
             bill of the day names, or among all of them where each is named."
        ),
        "{}",
        said.sentence
    );
    let endpoint = unit_economics(
        &mut connection,
        &"2026-07".parse::<Month>().unwrap().days(),
        &[EconomicsBy::Endpoint],
        &["model=gpt-a".parse().unwrap()],
    )
    .await
    .unwrap();
    assert_eq!(
        rows_of(&endpoint),
        [
            "ml/chat 10.000000 23.8 300 9000 3000 0.033333333333 1.111111111111 3.333333333333 0.833333333333 100 100 10.000000 0.000000 10.000000 0.000000 0.000000 0.000000"
        ]
    );
    // A filter takes what is billed for a model whole or not at all: its unit cost stays what it is.
    let vision = by_model(&mut connection, &["team=vision".parse().unwrap()]).await;
    assert_eq!(rows_of(&vision), named[1..2]);
    let search = by_model(&mut connection, &["team=search".parse().unwrap()]).await;
    assert_eq!(rows_of(&search), [named[0], named[2]]);

    // By a name that usage does not have it is in no model's cost, and is said; the other has a share of the rest then: $3.25 of three hours,
    // 4,800 of 5,400 tokens.
    replaced(&mut connection, Format::Costs, folder.file("c2.csv", &costs("gpt-z"))).await;
    let said = by_model(&mut connection, &[]).await;
    let own_and_b: Vec<&str> =
        said.rows.iter().filter(|row| row[0].as_deref() != Some("gpt-a")).map(|row| row[2].as_deref().unwrap()).collect();
    assert_eq!(own_and_b, ["23.111111", "2.888889"]);
    assert!(
        said.sentence.contains("$6.00 is billed for models of whose usage nothing is known on the day (gpt-z), and is in no model's cost")
            && said.sentence.contains("By model $36.00 is known of the $42.00"),
        "{}",
        said.sentence
    );
    // Taken back, the version before holds; taken back as well, nobody names a model.
    for is_named in [true, false] {
        let held = "SELECT id FROM ledger.statements WHERE kind = 'costs' AND state = 'holds'";
        let id: uuid::Uuid = sqlx::query_scalar(held).fetch_one(&mut connection).await.unwrap();
        retract(&mut connection, id, "a test", LATER).await.unwrap();
        let said = by_model(&mut connection, &[]).await;
        assert_eq!(rows_of(&said) == named, is_named);
        assert_eq!(said.sentence.contains("no bill names one"), !is_named, "{}", said.sentence);
    }
    // A FOCUS file names models in a column of the vendor's own.
    let focus = "BillingAccountId,BillingCurrency,BillingPeriodStart,ChargeCategory,ChargePeriodStart,ChargePeriodEnd,EffectiveCost,ServiceName,ProviderName,Tags,x_Model\n\
                 acct,USD,2026-07-01T00:00:00Z,Usage,2026-07-20T00:00:00Z,2026-07-21T00:00:00Z,4,Chat,Vendor,\"{\"\"app\"\": \"\"ml/chat\"\"}\",gpt-a\n";
    let mapping = Mapping::read(&folder.file("m.csv", "label,tag\nworkload,app\nmodel,x_Model\n")).unwrap();
    import(&mut connection, Format::Focus(&mapping), &[folder.file("focus.csv", focus)], Options::default(), LATER).await.unwrap();
    let kept = "SELECT string_agg(item || ' ' || model || ' ' || cost_usd::numeric(4,2), ', ') FROM ledger.external_cost WHERE item = 'Vendor: Chat'";
    assert_eq!(server.psql("postgres", kept).unwrap().trim(), "Vendor: Chat gpt-a 4.00");
    let said = by_model(&mut connection, &[]).await;
    assert!(said.sentence.contains("$4.00 is what vendors' bills name these models for"), "{}", said.sentence);
    assert_eq!(verify::verify(&mut connection).await.unwrap().findings.len(), 0);
}

/// What a model costs is broken down as what its endpoint costs, to the micro-dollar: what it is billed for by what the bill is for, and its share of the rest.
#[tokio::test]
async fn the_cost_of_a_model_says_what_it_is_for() {
    let (Bench { server, .. }, mut connection) = chat_bench().await;
    let folder = Folder::new("models-parts");
    // Our own model has twice the tokens of `gpt-b`, which no bill names.
    let mut usage = "hour,workload,model,requests,tokens_in,tokens_out\n".to_owned();
    for hour in 0..24 {
        let at = DAY + Millis::from_hours(hour);
        usage.push_str(&format!("{at},ml/chat,own,1,100,100\n{at},ml/chat,gpt-a,5,900,100\n{at},ml/chat,gpt-b,2,50,50\n"));
    }
    taken(&mut connection, Format::Usage, &[folder.file("u.csv", &usage)]).await.unwrap();
    let costs = "period,item,cost_usd,workload,team,component,model\n\
                 2026-07-20,gpt,16,ml/chat,vision,,gpt-a\n2026-07-20,cache,0.3,ml/chat,vision,storage,gpt-a\n\
                 2026-07-20,seats,6,ml/chat,search,,\n2026-07-20,egress,3,ml/chat,search,transfer,\n\
                 2026-07-20,disks,2,ml/chat,search,storage,\n2026-07-20,tooling,1,ml/chat,search,baseline,\n";
    taken(&mut connection, Format::Costs, &[folder.file("c.csv", costs)]).await.unwrap();
    let parts = ["model", "cost_usd", "billed_usd", "machines_usd", "vendor_api_usd", "transfer_usd", "storage_usd", "other_usd"];
    let shown = |report: &Report| -> Vec<String> {
        let columns = parts.map(|name| column(report, name));
        (0..report.rows.len()).map(|row| columns.iter().map(|column| column[row]).collect::<Vec<_>>().join(" ")).collect()
    };
    // Of $24 of machines, $6 of vendors' APIs, $3 of transfer, $2 of storage and $1 of the rest two thirds and one; the bill's own stays the model's.
    let [own, a, b] = [
        "own 24.000000 0.000000 16.000000 4.000000 2.000000 1.333333 0.666667",
        "gpt-a 16.300000 16.300000 0.000000 16.000000 0.000000 0.300000 0.000000",
        "gpt-b 12.000000 0.000000 8.000000 2.000000 1.000000 0.666667 0.333333",
    ];
    assert_eq!(shown(&by_model(&mut connection, &[]).await), [own, a, b]);
    // A filter leaves what its owners pay of each.
    assert_eq!(shown(&by_model(&mut connection, &["team=vision".parse().unwrap()]).await), [a]);
    assert_eq!(shown(&by_model(&mut connection, &["team=search".parse().unwrap()]).await), [own, b]);
    // The same of an endpoint, and of the view of the month; in all they are what the endpoint costs.
    let july = "2026-07".parse::<Month>().unwrap().days();
    let only = ["model=gpt-a".parse().unwrap(), "model=gpt-b".parse().unwrap()];
    let of_models = unit_economics(&mut connection, &july, &[EconomicsBy::Endpoint], &only).await.unwrap();
    assert_eq!(
        parts[1..].iter().map(|name| column(&of_models, name)[0]).collect::<Vec<_>>(),
        ["28.300000", "16.300000", "8.000000", "18.000000", "1.000000", "0.966667", "0.333333"]
    );
    let view = "SELECT string_agg(concat_ws(' ', model, round(machines_usd, 6), round(vendor_api_usd, 6), round(transfer_usd, 6), round(storage_usd, 6), round(other_usd, 6)),
                                  ', ' ORDER BY model),
                       bool_and(abs(cost_usd - machines_usd - vendor_api_usd - transfer_usd - storage_usd - other_usd) < 0.000000001)
                FROM ledger.unit_economics_by_model WHERE month = '2026-07-01'";
    assert_eq!(
        server.psql("postgres", view).unwrap().trim(),
        "gpt-a 0.000000 16.000000 0.000000 0.300000 0.000000, gpt-b 8.000000 2.000000 1.000000 0.666667 0.333333, own 16.000000 4.000000 2.000000 1.333333 0.666667|t"
    );
    let whole = unit_economics(&mut connection, &july, &[EconomicsBy::Endpoint], &[]).await.unwrap();
    assert_eq!(
        rows_of(&whole)[0].split(' ').skip(1).take(6).collect::<Vec<_>>(),
        ["24.000000", "22.000000", "3.000000", "2.300000", "1.000000", "52.300000"]
    );
}
