//! What models cost: by the bill where it names them, else by tokens.

use std::path::PathBuf;

use lowtide::core::units::time::Millis;
use lowtide::ledger::import::{Check, Checks, Format, Mapping, Options, import, retract};
use lowtide::ledger::poster::post;
use lowtide::ledger::report::{EconomicsBy, EconomicsOnly, Month, Report, unit_economics};
use lowtide::ledger::{connect, verify};
use lowtide::ports::Ledger;
use sqlx::PgConnection;

use crate::facts::{Bench, DAY, bench, chat_for_a_day, rows_of};
use crate::imports::{Folder, LATER, taken};

async fn by_model(connection: &mut PgConnection, only: &[EconomicsOnly]) -> Report {
    let july = "2026-07".parse::<Month>().unwrap().days();
    unit_economics(connection, &july, &[EconomicsBy::Model], only).await.unwrap()
}

async fn replaced(connection: &mut PgConnection, format: Format<'_>, file: PathBuf) {
    let checks = Checks::accepting([Check::AmountChanged, Check::MissingBefore]);
    import(connection, format, &[file], Options { checks, ..Options::default() }, LATER).await.unwrap();
}

/// `chat` runs a model on a machine of ours for a day at $1 an hour, and asks a vendor for two others.
#[tokio::test]
async fn a_model_costs_what_the_bill_names_it_for_and_the_rest_is_a_share_by_tokens() {
    let Bench { url, ledger, server } = bench().await;
    let mut connection = connect(&url).await.unwrap();
    ledger.write(&chat_for_a_day().records()).await.unwrap();
    post(&mut connection, LATER).await.unwrap();
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
    assert_eq!(said.rows.iter().map(|row| row.last().unwrap().as_deref()).collect::<Vec<_>>(), [Some("0.000000"); 3]);

    // $10 for 300 requests, 9,000 tokens in and 3,000 out; our own has the machine's $24 and the disks' $2.
    replaced(&mut connection, Format::Costs, folder.file("c1.csv", &costs("gpt-b"))).await;
    let named = [
        "own 1 26.000000 24 2400 2400 1.083333333333 10.833333333333 10.833333333333 5.416666666667 100 100 0.000000",
        "gpt-a 1 10.000000 300 9000 3000 0.033333333333 1.111111111111 3.333333333333 0.833333333333 100 100 10.000000",
        "gpt-b 1 6.000000 150 3000 1800 0.04 2 3.333333333333 1.25 100 100 6.000000",
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
        ["ml/chat 10.000000 23.8 300 9000 3000 0.033333333333 1.111111111111 3.333333333333 0.833333333333 100 100 10.000000"]
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
