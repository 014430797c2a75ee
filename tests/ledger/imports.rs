//! What AWS and others say, from files as they come.

use std::path::PathBuf;

use lowtide::core::fleet::EndedBy;
use lowtide::core::market::CapacityType;
use lowtide::core::units::money::BilledUsd;
use lowtide::core::units::time::{Millis, Timestamp};
use lowtide::ledger::import::{Changes, Check, Checks, Format, Imported, Options, import};
use lowtide::ledger::poster::post;
use lowtide::ledger::reconcile::reconcile;
use lowtide::ledger::report::{By, Month, Report};
use lowtide::ledger::{connect, report};
use lowtide::ports::Ledger;

use crate::facts::{Bench, DAY, Dice, Machine, bench, rows_of, stay};
use crate::rules::random_machine;

pub const LATER: Timestamp = Timestamp(DAY.0 + 30 * 86_400_000);

/// A folder of this test's own, gone when dropped.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lowtide-import-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// As AWS delivers it: packed by the system's own gzip.
    pub fn packed(&self, name: &str, text: &str) -> PathBuf {
        let path = self.file(name, text);
        assert!(std::process::Command::new("gzip").arg("-f").arg(&path).status().unwrap().success());
        path.with_file_name(format!("{name}.gz"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Takes files as a person would who says that they are all of the month.
pub async fn taken(connection: &mut sqlx::PgConnection, format: Format<'_>, files: &[PathBuf]) -> Result<Imported, String> {
    let options = Options { complete: true, ..Options::default() };
    import(connection, format, files, options, LATER).await.map_err(|fault| fault.to_string())
}

/// As [`taken`], overruling one check.
pub async fn accepted(connection: &mut sqlx::PgConnection, format: Format<'_>, files: &[PathBuf], check: Check) -> Imported {
    let options = Options { complete: true, checks: Checks::accepting([check]), ..Options::default() };
    import(connection, format, files, options, LATER).await.unwrap()
}

/// What the first statement changed, or `None` when it was there already.
pub fn changed(imported: &Imported) -> Option<(usize, usize, usize)> {
    let Changes { new, changed, gone } = imported.statements[0].changes;
    (!imported.statements[0].same).then_some((new, changed, gone))
}

pub const FEED_HEADER: &str =
    "#Version: 1.0\n#Fields: Timestamp UsageType Operation InstanceID MyBidID MyMaxPrice MarketPrice Charge Version\n";

/// The feed's lines for a machine, hour by hour, `charge` times what the rules say.
pub fn feed_lines(machine: &Machine, factor: (i64, i64)) -> String {
    let segments = machine.interval.segments();
    let line = |segment: &lowtide::core::accounting::billing::PriceSegment| {
        let price = segment.price.0 * factor.0 / factor.1;
        let charge = if machine.interval.waived() {
            BilledUsd(0)
        } else {
            BilledUsd(i128::from(price) * 10_000 * i128::from(segment.billed.0) / 3_600_000)
        };
        let at = segment.from.to_rfc3339().replace('T', " ").replace('Z', " UTC");
        format!(
            "{at}\tUSE1-SpotUsage:g6.xlarge\tRunInstances:SV001\ti-{}\tsir-1\t9.0 USD\t{} USD\t{charge} USD\t1\n",
            machine.name,
            BilledUsd(i128::from(price) * 10_000)
        )
    };
    segments.iter().map(line).collect()
}

#[tokio::test]
async fn the_feed_confirms_and_trues_up_and_a_second_time_changes_nothing() {
    let Bench { url, ledger, server } = bench().await;
    let folder = Folder::new("feed");
    let hours = |name: &str, hours: i64| {
        let mut machine =
            Machine::new(name, CapacityType::Spot, 91_300, Some(804_800), Millis::from_mins(60 * hours + 30), EndedBy::Lowtide);
        machine.stays.push(stay(&format!("pod-{name}"), "search", &machine, Millis::from_mins(3), Some(804_800)));
        machine
    };
    let (same, doubled, silent) = (hours("same", 2), hours("doubled", 1), hours("silent", 1));
    for machine in [&same, &doubled, &silent] {
        ledger.write(&machine.records()).await.unwrap();
    }
    let mut connection = connect(&url).await.unwrap();
    post(&mut connection, LATER).await.unwrap();
    let text = format!(
        "{FEED_HEADER}{}{}{}",
        feed_lines(&same, (1, 1)),
        feed_lines(&doubled, (2, 1)),
        feed_lines(&same, (1, 1)).lines().next().unwrap().replace("i-same", "i-stranger")
    );
    let file = folder.packed("123456789012.2026-07-20-00.001.abc", &text);
    let first = taken(&mut connection, Format::Feed, std::slice::from_ref(&file)).await.unwrap();
    // Boot and pod of the first hours, pod of the others.
    assert_eq!((changed(&first), first.posted.machines, first.posted.rows), (Some((6, 0, 0)), 2, 7));
    assert_eq!(first.by_team, [("(untagged)".to_owned(), "0.004565".to_owned()), ("search".to_owned(), "0.132385".to_owned())]);
    for files in [vec![file.clone()], vec![file.clone(), file.clone()]] {
        let again = taken(&mut connection, Format::Feed, &files).await.unwrap();
        assert_eq!((changed(&again), again.posted.rows), (None, 0));
    }
    let total =
        server.psql("postgres", "SELECT sum(cost_usd)::numeric(10,6), sum(feed_usd)::numeric(10,6) FROM ledger.cost_daily").unwrap();
    // 2.5 h + 1.5 h at twice the price + 1.5 h that nobody confirmed.
    assert_eq!(total.trim(), "0.639100|0.502150");
    let report = reconcile(&mut connection, &"2026-07".parse::<Month>().unwrap()).await.unwrap();
    assert_eq!(
        rows_of(&report),
        [
            "confirmed feed 3 0.228250 0.228250 0.000000",
            "price-differed feed 2 0.136950 0.273900 0.136950",
            "not on the bill or feed yet - 2 0.136950 - -",
            "machines, of others in the account feed 1 0.000000 0.091300 0.091300",
        ]
    );
    assert_eq!(
        report.sentence,
        "2026-07: AWS confirmed 3 instance-hours and 2 were trued up by $0.13695, $0.50215 in all; $0.13695 in 2 instance-hours is not on a bill or \
         feed yet. No part of these figures: machines, of others in the account $0.0913."
    );
    let trust = report::trust(&mut connection, &"2026-07".parse::<Month>().unwrap().days(), &[]).await.unwrap();
    assert_eq!(
        trust.sentence,
        "0.0 % of spend rests on AWS's bill and 78.6 % on the spot data feed; the rest is computed from recorded prices."
    );
    let count = |report: &Report, item: &str| report.rows.iter().find(|row| row[0].as_deref() == Some(item)).unwrap()[3].clone();
    let unknown = "billed lines of machines that are not ours";
    assert_eq!(count(&trust, unknown).as_deref(), Some("1"));
    let before = report::trust(&mut connection, &"2026-06".parse::<Month>().unwrap().days(), &[]).await.unwrap();
    assert_eq!((before.sentence.as_str(), count(&before, unknown).as_deref()), ("No spend is recorded in these days.", Some("0")));
    let savings = report::savings(&mut connection, &"2026-07".parse::<Month>().unwrap().days(), By::Team, &[]).await.unwrap();
    assert_eq!(savings.rows[1][savings.rows[1].len() - 2].as_deref(), Some("mixed"));
}

pub const CUR_HEADER: &str = "bill_invoice_id,line_item_usage_account_id,line_item_line_item_type,line_item_resource_id,line_item_usage_type,line_item_operation,\
    line_item_usage_start_date,line_item_usage_end_date,line_item_usage_amount,line_item_unblended_cost,line_item_currency_code\n";

/// One line per clock hour, as a bill of whole milliseconds would be.
pub fn cur_lines(machine: &Machine, invoice: &str) -> (String, i128) {
    let (mut text, mut total) = (String::new(), 0);
    let hour = 3_600_000;
    for segment in machine.interval.segments() {
        let (from, to) = (segment.from.0, segment.from.0 + segment.billed.0);
        for clock in from / hour..=(to - 1) / hour {
            let (a, b) = (from.max(clock * hour), to.min((clock + 1) * hour));
            let cost =
                if machine.interval.waived() { 0 } else { i128::from(segment.price.0) * 10_000 * i128::from(b - a) / i128::from(hour) };
            total += cost;
            let amount = BilledUsd(i128::from(b - a) * 10_000_000_000 / i128::from(hour));
            text.push_str(&format!(
                "{invoice},123456789012,Usage,i-{},USE1-SpotUsage:g6.xlarge,RunInstances:SV001,{},{},{amount},{},USD\n",
                machine.name,
                Timestamp(clock * hour),
                Timestamp((clock + 1) * hour),
                BilledUsd(cost)
            ));
        }
    }
    (text, total)
}

#[tokio::test]
async fn the_bill_of_random_machines_is_met_to_the_micro_dollar_and_revised_as_it_is() {
    let Bench { url, ledger, server } = bench().await;
    let folder = Folder::new("cur");
    let mut dice = Dice(5);
    let machines: Vec<Machine> = (0..60).map(|n| random_machine(n, &mut dice)).collect();
    let (mut text, mut exact) = (CUR_HEADER.to_owned(), 0_i64);
    for machine in &machines {
        ledger.write(&machine.records()).await.unwrap();
        let (lines, total) = cur_lines(machine, "");
        text.push_str(&lines);
        exact += BilledUsd(total).to_micro_usd().0;
    }
    let mut connection = connect(&url).await.unwrap();
    post(&mut connection, LATER).await.unwrap();
    // Two files of one report: what belongs together may be spread over them.
    let (first, second): (Vec<_>, Vec<_>) = text.lines().skip(1).enumerate().partition(|(n, _)| n % 2 == 0);
    let part =
        |lines: Vec<(usize, &str)>| CUR_HEADER.to_owned() + &lines.into_iter().map(|(_, line)| format!("{line}\n")).collect::<String>();
    let files = [folder.packed("cur-1.csv", &part(first)), folder.file("cur-2.csv", &part(second))];
    taken(&mut connection, Format::Cur, &files).await.unwrap();
    let billed = async |connection: &mut sqlx::PgConnection| -> (i64, i64) {
        sqlx::query_as("SELECT (sum(cost_usd) FILTER (WHERE line <> 'egress') * 1000000)::bigint, (sum(bill_usd) * 1000000)::bigint FROM ledger.posting")
            .fetch_one(connection)
            .await
            .unwrap()
    };
    assert_eq!(billed(&mut connection).await, (exact, exact));
    let splits = server.psql("postgres", "SELECT count(*) FROM (SELECT t.claim_uid, t.hour FROM
        (SELECT DISTINCT ON (claim_uid, hour) * FROM ledger.true_up ORDER BY claim_uid, hour, posted_at DESC) t
        JOIN ledger.posting p USING (claim_uid, hour) WHERE p.line <> 'egress' GROUP BY t.claim_uid, t.hour, t.billed_usd HAVING sum(p.cost_usd) <> t.billed_usd) x");
    assert_eq!(splits.unwrap().trim(), "0", "shares of an hour do not add up to what AWS said of it");

    // AWS writes the month again, with an invoice and a credit: the older version is replaced whole, and the credit is on a line of its own.
    let last = machines.iter().rev().find(|m| !m.interval.waived() && m.interval.ran().0 > 0).unwrap();
    let credit = cur_lines(last, "INV-7").0.lines().next().unwrap().replace("Usage,i-", "Credit,i-");
    let fields: Vec<&str> = credit.split(',').collect();
    let credit = [&fields[..8], &["0", "-0.5", "USD"]].concat().join(",");
    let all: String = machines.iter().map(|machine| cur_lines(machine, "INV-7").0).collect();
    let again = folder.file("again/cur-3.csv", &format!("{CUR_HEADER}{all}{credit}\n"));
    let second = taken(&mut connection, Format::Cur, &[again]).await.unwrap();
    assert_eq!((second.statements[0].version, changed(&second)), (2, Some((1, 0, 0))));
    assert_eq!(billed(&mut connection).await, (exact - 500_000, exact - 500_000));
    let credited = "SELECT sum(cost_usd)::numeric(10,6) FROM ledger.posting WHERE line = 'credit'";
    assert_eq!(server.psql("postgres", credited).unwrap().trim(), "-0.500000");
    // A version with one machine only is most likely a part.
    let part = folder.file("part/cur-4.csv", &format!("{CUR_HEADER}{}", cur_lines(last, "INV-7").0));
    let fault = taken(&mut connection, Format::Cur, std::slice::from_ref(&part)).await.unwrap_err();
    assert!(fault.contains("nothing was imported (if it is correct nevertheless: --accept"), "{fault}");
    assert_eq!(billed(&mut connection).await, (exact - 500_000, exact - 500_000));
    let causes = server.psql("postgres", "SELECT string_agg(DISTINCT cause, ' ') FROM ledger.true_up").unwrap();
    assert_eq!(causes.trim(), "confirmed", "what AWS bills by the rules is what the rules say");
}

#[tokio::test]
async fn usage_revenue_and_other_costs_are_replaced_and_never_edited() {
    let Bench { url, ledger, server } = bench().await;
    let folder = Folder::new("usage");
    let mut machine = Machine::new("m", CapacityType::Spot, 91_300, None, Millis::from_hours(2), EndedBy::Lowtide);
    machine.stays.push(stay("p", "chat", &machine, Millis::ZERO, None));
    ledger.write(&machine.records()).await.unwrap();
    let mut connection = connect(&url).await.unwrap();
    let usage = folder.file("u.csv", "hour,workload,requests\n2026-07-20T07:00:00Z,ml/of-chat,100\n2026-07-20T08:00:00Z,ml/of-chat,200\n");
    assert_eq!(changed(&taken(&mut connection, Format::Usage, std::slice::from_ref(&usage)).await.unwrap()), Some((2, 0, 0)));
    assert_eq!(changed(&taken(&mut connection, Format::Usage, &[usage]).await.unwrap()), None);
    for quantity in [150, 100] {
        let rows = [format!("2026-07-20T07:00:00Z,ml/of-chat,{quantity}\n"), "2026-07-20T08:00:00Z,ml/of-chat,200\n".to_owned()];
        let text = |rows: &[String]| format!("hour,workload,requests\n{}", rows.concat());
        if quantity == 100 {
            // The very file that 150 has replaced; the same hours in another order are another file.
            let old = folder.file("old.csv", &text(&rows));
            let refused = taken(&mut connection, Format::Usage, &[old]).await.unwrap_err().to_string();
            assert!(
                refused.contains("these files were version 1 of the usage of") && refused.contains("--accept older-version"),
                "{refused}"
            );
        }
        let usage = folder.file("u.csv", &text(&if quantity == 100 { [rows[1].clone(), rows[0].clone()] } else { rows }));
        let found = taken(&mut connection, Format::Usage, &[usage]).await.unwrap();
        assert_eq!(changed(&found), Some((0, 1, 0)), "back to an earlier value is a version too");
        let now = server.psql("postgres", "SELECT quantity::bigint FROM ledger.usage ORDER BY hour LIMIT 1").unwrap();
        assert_eq!(now.trim(), quantity.to_string());
    }
    let revenue = folder.file("r.csv", "period,workload,revenue_usd\n2026-07,ml/of-chat,310\n");
    assert_eq!(changed(&taken(&mut connection, Format::Revenue, &[revenue]).await.unwrap()), Some((31, 0, 0)));
    assert_eq!(server.psql("postgres", "SELECT sum(revenue_usd)::numeric(10,2) FROM ledger.revenue").unwrap().trim(), "310.00");

    let header = "period,item,cost_usd,team,component\n2026-07,postgres,31,platform,baseline\n";
    let costs = folder.file("costs.csv", &format!("{header}2026-07-20,llm-api,5,search,api\n"));
    assert_eq!(changed(&taken(&mut connection, Format::Costs, std::slice::from_ref(&costs)).await.unwrap()), Some((32, 0, 0)));
    assert_eq!(changed(&taken(&mut connection, Format::Costs, &[costs]).await.unwrap()), None);
    let costs = folder.file("costs.csv", &format!("{header}2026-07-20,llm-api,4,search,api\n"));
    assert_eq!(changed(&taken(&mut connection, Format::Costs, &[costs]).await.unwrap()), Some((0, 1, 0)));
    let by_component = "SELECT string_agg(component || ' ' || line || ' ' || cost::numeric(10,2) || ' ' || basis, ', ' ORDER BY component)
                        FROM (SELECT component, line, sum(cost_usd) AS cost, min(basis) AS basis FROM ledger.cost_daily WHERE line = 'overhead'
                              GROUP BY component, line) t";
    assert_eq!(server.psql("postgres", by_component).unwrap().trim(), "api overhead 4.00 entered, baseline overhead 31.00 entered");
    let bad = folder.file("bad.csv", "period,item,cost_usd\n2026-07-20,x,1\n2026-07-32,y,1\n");
    let fault = taken(&mut connection, Format::Costs, &[bad]).await.unwrap_err();
    assert!(
        fault.contains("line 3: column period holds \"2026-07-32\"; expected a day") && fault.ends_with("nothing was imported"),
        "{fault}"
    );
    assert_eq!(server.psql("postgres", "SELECT count(*) FROM ledger.external_cost WHERE item = 'x'").unwrap().trim(), "0");
}
