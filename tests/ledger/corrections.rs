//! What is corrected afterwards: labels of past days; and what was known before it was.

use std::collections::BTreeMap;

use lowtide::core::accounting::owners::Label;
use lowtide::core::fleet::EndedBy;
use lowtide::core::market::CapacityType;
use lowtide::core::units::ids::ObjectRef;
use lowtide::core::units::time::{Millis, Timestamp};
use lowtide::ledger::import::Format;
use lowtide::ledger::poster::post;
use lowtide::ledger::report::{self, By, Days, Month, VarianceBy};
use lowtide::ledger::retag::{NewRetag, retag, withdraw};
use lowtide::ledger::{PgLedger, connect, verify};
use lowtide::ports::Ledger;
use sqlx::PgConnection;

use crate::facts::{Bench, DAY, Machine, as_role, bench, decision, stay};
use crate::imports::{Folder, LATER, taken};

const DAY_MS: i64 = 86_400_000;

/// One machine of `chat` for three days at a dollar an hour, labelled `serch` by mistake.
async fn mislabelled(ledger: &PgLedger) {
    let mut machine = Machine::new("m", CapacityType::Spot, 1_000_000, Some(3_000_000), Millis::from_hours(72), EndedBy::Lowtide);
    let mut pod = stay("p", "serch", &machine, Millis::from_hours(1), Some(3_000_000));
    pod.workload = "chat".into();
    machine.stays.push(pod);
    ledger.write(&machine.records()).await.unwrap();
    ledger.write(&[lowtide::core::record::LedgerRecord::Decision(Box::new(decision(&machine)))]).await.unwrap();
}

fn chat(from: i64, to: i64, team: Option<&str>) -> NewRetag {
    let first = DAY.0 / DAY_MS;
    NewRetag {
        workload: ObjectRef { namespace: "ml".into(), name: "chat".into() },
        from_day: first + from,
        to_day: first + to,
        labels: BTreeMap::from([(Label::Team, team.map(String::from))]),
        reason: "the label was misspelt until the 22nd".into(),
    }
}

async fn by_team(connection: &mut PgConnection) -> String {
    let sql = "SELECT coalesce(string_agg(t, ', ' ORDER BY t), '') FROM (SELECT day - date '2026-07-20' || ' ' || coalesce(team, '-') || ' ' || sum(cost_usd)::numeric(10,2) AS t
               FROM ledger.cost_daily GROUP BY day, team HAVING sum(cost_usd) <> 0) x";
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

async fn nothing_found(connection: &mut PgConnection) {
    let mut found = verify::verify(connection).await.unwrap().findings;
    found.extend(verify::recompute(connection, &lowtide::ledger::verify::Sample::default()).await.unwrap());
    assert!(found.is_empty(), "{found:?}");
}

#[tokio::test]
async fn labels_of_past_days_are_corrected_dated_and_taken_back() {
    let Bench { url, ledger, server } = bench().await;
    mislabelled(&ledger).await;
    let mut connection = connect(&url).await.unwrap();
    post(&mut connection, LATER).await.unwrap();
    assert_eq!(by_team(&mut connection).await, "0 serch 24.00, 1 serch 24.00, 2 serch 24.00");
    let tried = retag(&mut connection, &chat(0, 2, Some("search")), LATER, false).await.unwrap();
    assert_eq!(tried.by_team, [("search".to_owned(), "48.000000".to_owned()), ("serch".to_owned(), "-48.000000".to_owned())]);
    assert_eq!(by_team(&mut connection).await, "0 serch 24.00, 1 serch 24.00, 2 serch 24.00", "a dry run changes nothing");
    let first = retag(&mut connection, &chat(0, 2, Some("search")), LATER, true).await.unwrap();
    assert_eq!(by_team(&mut connection).await, "0 search 24.00, 1 search 24.00, 2 serch 24.00", "boot, which was bought for it, as well");
    let causes = "SELECT string_agg(DISTINCT kind || ' ' || cause || ' ' || (statement IS NOT NULL), ', ') FROM ledger.posting WHERE cause <> 'settled'";
    assert_eq!(server.psql("postgres", causes).unwrap().trim(), "correction re-tagged true");
    nothing_found(&mut connection).await;
    // Facts and bills that come later go to the team that pays now.
    let folder = Folder::new("corrections-feed");
    let line = "2026-07-20 05:00:00 UTC\tSpotUsage:g6.xlarge\tRunInstances\ti-m\tsir\t9 USD\t2.0 USD\t2.0 USD\t1\n";
    let feed = folder.file("123456789012.2026-07-20-05.001.x", &format!("{}{line}", crate::imports::FEED_HEADER));
    let fed = taken(&mut connection, Format::Feed, &[feed]).await.unwrap();
    assert_eq!(fed.by_team, [("search".to_owned(), "1.000000".to_owned())]);
    // The second correction holds before the first where both speak; taken back, the first holds again.
    let second = retag(&mut connection, &chat(1, 3, None), LATER, true).await.unwrap();
    assert_eq!(by_team(&mut connection).await, "0 search 25.00, 1 - 24.00, 2 - 24.00");
    withdraw(&mut connection, second.id, "not so", LATER, true).await.unwrap();
    assert_eq!(by_team(&mut connection).await, "0 search 25.00, 1 search 24.00, 2 serch 24.00");
    let again = withdraw(&mut connection, second.id, "not so", LATER, true).await.unwrap_err().to_string();
    assert!(again.contains("that holds") && again.ends_with("nothing was corrected"), "{again}");
    nothing_found(&mut connection).await;
    let history = "SELECT count(*) FROM ledger.workload_history WHERE workload_name = 'chat' AND team = 'serch'";
    assert_eq!(server.psql("postgres", history).unwrap().trim(), "1", "what the pods said stays what they said");
    let listed = report::retags(&mut connection, &Days::default()).await.unwrap();
    assert_eq!(listed.sentence, "1 label correction holds.");
    assert_eq!(listed.rows.len(), 3);
    let of_month = |month: &str| month.parse::<Month>().unwrap().days();
    assert_eq!(report::retags(&mut connection, &of_month("2026-07")).await.unwrap().rows.len(), 3);
    assert_eq!(report::retags(&mut connection, &of_month("2026-08")).await.unwrap().sentence, "No labels were corrected.");
    let id = first.id.to_string();
    let of_first = listed.rows.iter().find(|row| row[9].as_deref() == Some(id.as_str())).unwrap();
    assert_eq!(
        of_first[..6].iter().flatten().map(String::as_str).collect::<Vec<_>>(),
        ["ml/chat", "2026-07-20", "2026-07-21", r#"{"team": "search"}"#, "holds", "the label was misspelt until the 22nd"]
    );
    for (wrong, said) in [
        (chat(2, 2, Some("x")), "the day after the last is not after the first"),
        (chat(0, 400, Some("x")), "only days that are over"),
        (chat(-9, -1, Some("x")), "nothing is posted for machines of ml/chat in these days"),
        (NewRetag { labels: BTreeMap::new(), ..chat(0, 1, None) }, "at least one label"),
        (NewRetag { reason: " ".into(), ..chat(0, 1, None) }, "expected a reason"),
    ] {
        let fault = retag(&mut connection, &wrong, LATER, true).await.unwrap_err().to_string();
        assert!(fault.contains(said) && fault.ends_with("nothing was corrected"), "{fault}");
    }
    // A writer may, a reader may not.
    server
        .psql(
            "postgres",
            "CREATE ROLE operator LOGIN; GRANT lowtide_writer TO operator; CREATE ROLE finance LOGIN; GRANT lowtide_reader TO finance",
        )
        .unwrap();
    let mut operator = as_role(&url, "operator").await;
    retag(&mut operator, &chat(2, 3, Some("search")), LATER, true).await.unwrap();
    let mut finance = as_role(&url, "finance").await;
    assert!(retag(&mut finance, &chat(2, 3, Some("x")), LATER, true).await.is_err());
    assert_eq!(by_team(&mut finance).await, "0 search 25.00, 1 search 24.00, 2 search 24.00");
}

/// What was known on a day is what the reports say as of that day, whatever came after it.
#[tokio::test]
async fn reports_as_of_a_day_leave_out_what_came_later() {
    let Bench { url, ledger, server } = bench().await;
    mislabelled(&ledger).await;
    let mut connection = connect(&url).await.unwrap();
    post(&mut connection, LATER).await.unwrap();
    // Postings are dated by the server's clock: the first ones are moved into the past, as only its owner can.
    let back = "ALTER TABLE ledger.posting DISABLE TRIGGER USER; UPDATE ledger.posting SET posted_at = '2026-08-02 12:00+00'; ALTER TABLE ledger.posting ENABLE TRIGGER USER";
    server.psql("postgres", back).unwrap();
    retag(&mut connection, &chat(0, 2, Some("search")), LATER, true).await.unwrap();
    let folder = Folder::new("corrections-as-of");
    let costs = folder.file("c.csv", "period,item,cost_usd,team\n2026-07-20,llm-api,30,search\n");
    taken(&mut connection, Format::Costs, &[costs]).await.unwrap();
    let july: Days = "2026-07".parse::<Month>().unwrap().days();
    let mut teams = async |day: Option<&str>| -> (Vec<String>, String, String) {
        report::as_of(&mut connection, day).await.unwrap();
        let cost = report::cost(&mut connection, &july, By::Team, &[]).await.unwrap();
        let savings = report::savings(&mut connection, &july, By::Team, &[]).await.unwrap();
        let (from, to) = ("2026-06".parse::<Month>().unwrap(), "2026-07".parse::<Month>().unwrap());
        let variance = report::variance(&mut connection, &from, &to, VarianceBy::Step, &[], LATER).await.unwrap();
        let rows =
            cost.rows.iter().map(|row| format!("{} {}", row[0].as_deref().unwrap_or("-"), row[2].as_deref().unwrap_or("-"))).collect();
        (rows, savings.sentence, variance.sentence)
    };
    let (now, _, _) = teams(None).await;
    assert_eq!(now, ["search 78.000000", "serch 24.000000", "total 102.000000"]);
    let (then, savings, variance) = teams(Some("2026-08-02")).await;
    assert_eq!(then, ["serch 72.000000", "total 72.000000"]);
    assert!(
        savings.starts_with("Spot saved $141.00 net") && savings.ends_with("This is what was known at the end of 2026-08-02."),
        "{savings}"
    );
    assert!(
        variance.starts_with("2026-07 cost $72.00") && variance.ends_with("This is what was known at the end of 2026-08-02."),
        "{variance}"
    );
    let (before, savings, _) = teams(Some("2026-08-01")).await;
    assert_eq!(
        (before.len(), savings.as_str()),
        (0, "No spend is recorded for these days. This is what was known at the end of 2026-08-01.")
    );
    let (again, ..) = teams(None).await;
    assert_eq!(again, now);
}

/// The view compares a month that runs by its full days, as the command does.
#[tokio::test]
async fn the_view_of_variance_compares_a_running_month_by_its_full_days() {
    let Bench { url, ledger, server } = bench().await;
    let clock = server.psql("postgres", "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM'), ledger.ms(now())").unwrap();
    let (this, now) = clock.trim().split_once('|').unwrap();
    let (this, now) = (this.parse::<Month>().unwrap(), Timestamp(now.parse().unwrap()));
    let first_of = |month: &Month| {
        let text = month.to_string();
        let (year, month) = text.split_once('-').unwrap();
        Timestamp::from_date(year.parse().unwrap(), month.parse().unwrap(), 1)
    };
    // On the first two days of each month; and last month also on its last, which no month that runs has behind it.
    for (n, from) in [first_of(&this.previous()), first_of(&this), first_of(&this) - Millis::from_hours(24)].into_iter().enumerate() {
        let hours = [10, 14, 20][n];
        let mut machine =
            Machine::new(&format!("m{n}"), CapacityType::Spot, 1_000_000, Some(3_000_000), Millis::from_hours(hours), EndedBy::Lowtide);
        (machine.interval.from, machine.interval.to) = (from, from + Millis::from_hours(hours));
        machine.stays.push(stay(&format!("p{n}"), "search", &machine, Millis::ZERO, Some(3_000_000)));
        if from + Millis::from_hours(hours) <= now {
            ledger.write(&machine.records()).await.unwrap();
        }
    }
    let mut connection = connect(&url).await.unwrap();
    post(&mut connection, now).await.unwrap();
    let report = report::variance(&mut connection, &this.previous(), &this, VarianceBy::Step, &[], now).await.unwrap();
    // On the first of a month no day of it is over: both have nothing to compare.
    let said =
        if now.since(first_of(&this)) < Millis::from_hours(24) { "has no full day yet: there is nothing to compare" } else { "still runs" };
    assert!(report.sentence.contains(said), "{}", report.sentence);
    let micro = |text: &str| text.replace('.', "").parse::<i64>().unwrap();
    let by_command: BTreeMap<String, i64> = report.rows[1..report.rows.len() - 1]
        .iter()
        .map(|row| (row[0].clone().unwrap(), micro(row[1].as_deref().unwrap())))
        .filter(|(_, amount)| *amount != 0)
        .collect();
    let sql =
        "SELECT step, (sum(difference_usd) * 1000000)::bigint FROM ledger.variance_month WHERE month = ($1 || '-01')::date GROUP BY step";
    let by_view: Vec<(String, i64)> = sqlx::query_as(sql).bind(this.to_string()).fetch_all(&mut connection).await.unwrap();
    assert_eq!(by_command, by_view.into_iter().filter(|(_, amount)| *amount != 0).collect());
}
