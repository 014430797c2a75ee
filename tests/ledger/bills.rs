//! Bills that would move the books although nothing happened: cut ones, late lines, older versions, other rates, feeds of others.

use std::path::PathBuf;

use lowtide::core::units::time::{Millis, Timestamp};
use lowtide::ledger::connect;
use lowtide::ledger::import::{Check, Format, Options, Rates, import};
use lowtide::ledger::reconcile::reconcile;
use sqlx::PgConnection;

use crate::facts::{Bench, DAY, bench};
use crate::imports::{FEED_HEADER, Folder, LATER, accepted, changed, taken};
use crate::statements::{HEADER, cost, line, machine_of, of_line};

/// Whole hours of `i-a` at `price`, on `invoice`.
fn hours(range: std::ops::Range<i64>, price: &str, invoice: &str) -> String {
    let of_hour = |n: i64| line(&format!("a{n}"), "Usage", "i-a", "SpotUsage:g6.xlarge", n, "1", price, "");
    range.map(|n| of_hour(n).replacen(",,", &format!(",{invoice},"), 1)).collect()
}

fn bill(folder: &Folder, name: &str, lines: &str) -> Vec<PathBuf> {
    vec![folder.file(&format!("{name}/cur.csv"), &format!("{HEADER}{lines}"))]
}

/// A report that an export cut, with the hours of a machine that it still has: the others would cost nothing once the month is invoiced.
#[tokio::test]
async fn a_first_or_final_bill_that_was_cut_is_refused() {
    let Bench { url, ledger, server: _server } = bench().await;
    machine_of(&ledger, "a", DAY, 100).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("bills-cut");
    let fault = taken(&mut connection, Format::Cur, &bill(&folder, "cut", &hours(0..40, "1.00", "INV"))).await.unwrap_err();
    assert!(
        fault.contains("the use of our machines costs $100.00 in 2026-07 by the books, and $40.00 by this bill, which is final")
            && fault.contains("--accept amount-changed"),
        "{fault}"
    );
    let fault = taken(&mut connection, Format::Cur, &bill(&folder, "prices", &hours(0..40, "2.50", ""))).await.unwrap_err();
    assert!(fault.contains("costs $40.00 in 2026-07 by the books, and $100.00 by this bill, for the same days"), "{fault}");
    // A bill of the month so far speaks of the hours that it has.
    taken(&mut connection, Format::Cur, &bill(&folder, "mid", &hours(0..40, "1.00", ""))).await.unwrap();
    assert_eq!(cost(&mut connection).await, "100.00");
    let fault = taken(&mut connection, Format::Cur, &bill(&folder, "final", &hours(0..45, "1.00", "INV"))).await.unwrap_err();
    assert!(fault.contains("$45.00 by this bill, which is final"), "{fault}");
    taken(&mut connection, Format::Cur, &bill(&folder, "whole", &hours(0..100, "1.00", "INV"))).await.unwrap();
    assert_eq!(cost(&mut connection).await, "100.00");
    // Use that stays as it is, with a discount that takes nearly all of it off.
    let discount = line("d", "EdpDiscount", "i-a", "SpotUsage:g6.xlarge", 0, "0", "-90", "").replacen(",,", ",INV,", 1);
    let free = bill(&folder, "free", &format!("{}{discount}", hours(0..100, "1.00", "INV")));
    let fault = taken(&mut connection, Format::Cur, &free).await.unwrap_err();
    assert!(fault.contains("our machines cost $100.00 in 2026-07, according to this one $10.00 for the same days"), "{fault}");
    assert_eq!(cost(&mut connection).await, "100.00");
    accepted(&mut connection, Format::Cur, &free, Check::AmountChanged).await;
    assert_eq!(cost(&mut connection).await, "10.00");
}

/// July's final bill has a line for an hour of June: June's other hours are not free.
#[tokio::test]
async fn a_late_line_closes_no_month_of_its_machine() {
    let Bench { url, ledger, server: _server } = bench().await;
    let june = Timestamp::from_date(2026, 6, 20);
    machine_of(&ledger, "late", june, 10).await;
    machine_of(&ledger, "a", DAY, 5).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("bills-late");
    let of_june = |id: &str, n: i64, price: &str| {
        let hour = june.since(DAY).0 / Millis::from_hours(1).0 + n;
        line(id, "Usage", "i-late", "SpotUsage:g6.xlarge", hour, "1", price, "").replacen(",,", ",INV,", 1)
    };
    let july = bill(&folder, "july", &format!("{}{}", hours(0..5, "1.00", "INV"), of_june("j", 3, "1.50")));
    taken(&mut connection, Format::Cur, &july).await.unwrap();
    assert_eq!(cost(&mut connection).await, "15.50");
    // June's own invoice closes it: what it lacks was not charged, and the late line stays.
    let lines: String = [0, 1, 2, 4, 5, 6, 7, 8].map(|n| of_june(&format!("k{n}"), n, "1.00")).concat().replace("2026-07-01", "2026-06-01");
    taken(&mut connection, Format::Cur, &bill(&folder, "june", &lines)).await.unwrap();
    assert_eq!(cost(&mut connection).await, "14.50");
}

/// The same file with the rates corrected, and the same file once a machine of it is known.
#[tokio::test]
async fn the_same_bill_says_what_is_known_when_it_is_taken() {
    let Bench { url, ledger, server: _server } = bench().await;
    machine_of(&ledger, "a", DAY, 10).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("bills-rates");
    let volume = line("v", "Usage", "vol-1", "EBS:VolumeUsage.gp3", 0, "1", "7", "");
    let tag = "\"{\"\"user_lowtide_claim_uid\"\": \"\"uid-later\"\"}\"";
    let text = format!("{},resource_tags\n{}", HEADER.trim_end(), hours(0..10, "1.00", "").replace(",\n", ",,\n"));
    let text = format!("{text}{},{tag}\n", volume.trim_end()).replace(",USD,", ",EUR,");
    let file = vec![folder.file("euros/cur.csv", &text)];
    let mut take = async |rate: &str| {
        let rates = Rates::read(&folder.file("rates.csv", &format!("day,currency,usd_per_unit\n2026-07-01,EUR,{rate}\n"))).unwrap();
        let options = Options { rates, complete: true, ..Options::default() };
        import(&mut connection, Format::Cur, &file, options, LATER).await.unwrap()
    };
    take("1.10").await;
    assert!(changed(&take("1.10").await).is_none());
    assert_eq!(changed(&take("1.25").await), Some((0, 11, 0)));
    machine_of(&ledger, "later", DAY, 1).await;
    take("1.25").await;
    let mut connection = connect(&url).await.unwrap();
    assert_eq!((cost(&mut connection).await, of_line(&mut connection, "volume").await), ("22.25".to_owned(), "8.75".to_owned()));
}

/// Versions whose names say nothing of their time: an invoice is not replaced by what has none, and of two nobody guesses the newer.
#[tokio::test]
async fn of_versions_without_a_time_the_newest_is_the_one_that_the_report_names() {
    let Bench { url, ledger, server: _server } = bench().await;
    machine_of(&ledger, "a", DAY, 10).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("bills-assemblies");
    let manifest = |name: &str, id: &str| {
        folder.file(name, &format!(r#"{{"assemblyId": "{id}", "reportKeys": ["p/20260701-20260801/{id}/r-00001.csv"]}}"#));
    };
    let version = |id: &str, text: &str| {
        folder.file(&format!("20260701-20260801/{id}/r-00001.csv"), &format!("{HEADER}{text}"));
        manifest(&format!("20260701-20260801/{id}/r-Manifest.json"), id);
        folder.0.join(format!("20260701-20260801/{id}"))
    };
    // The final one was copied first.
    let last = version("7f2", &hours(0..10, "1.20", "INV"));
    let older = version("9c4", &hours(0..10, "1.10", ""));
    let both = vec![last.clone(), older.clone()];
    let fault = taken(&mut connection, Format::Cur, &both).await.unwrap_err();
    assert!(fault.contains("are versions of 2026-07, and nothing says which is the newest") && fault.contains("older-version"), "{fault}");
    manifest("20260701-20260801/r-Manifest.json", "7f2");
    taken(&mut connection, Format::Cur, &both).await.unwrap();
    assert_eq!(cost(&mut connection).await, "12.00");
    let fault = taken(&mut connection, Format::Cur, &[older]).await.unwrap_err();
    assert!(fault.contains("version 1 of 2026-07, which holds, is on an invoice, and this version is not: it is older"), "{fault}");
    assert_eq!(cost(&mut connection).await, "12.00");
}

/// A feed without a machine of ours, with a charge that no machine has, or with a column that no feed has.
#[tokio::test]
async fn a_feed_of_somebody_else_is_refused() {
    let Bench { url, ledger, server: _server } = bench().await;
    machine_of(&ledger, "a", DAY, 10).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("bills-feed");
    let row = |instance: &str, charge: &str| {
        format!("2026-07-20 00:00:00 UTC\tSpotUsage:g6.xlarge\tRunInstances\t{instance}\tsir\t9 USD\t1.0 USD\t{charge} USD\t1\n")
    };
    let feed = |name: &str, text: String| vec![folder.file(&format!("123456789012.2026-07-20-0{name}.001.x"), &text)];
    for (file, said) in [
        (feed("1", format!("{FEED_HEADER}{}", row("i-theirs", "1.0"))), "names none of the 1 spot machines of ours that ran in its time"),
        (feed("2", format!("{FEED_HEADER}{}", row("i-a", "99000000"))), "expected at most $10,000,000 for an hour"),
        (feed("3", format!("{}{}", FEED_HEADER.replace("Charge", "Charge Tax"), row("i-a", "1.0"))), "unknown columns: tax"),
    ] {
        let fault = taken(&mut connection, Format::Feed, &file).await.unwrap_err();
        assert!(fault.contains(said) && fault.contains("--accept "), "{fault}");
    }
    taken(&mut connection, Format::Feed, &feed("4", format!("{FEED_HEADER}{}", row("i-a", "1.0")))).await.unwrap();
    feed_only(&mut connection).await;
}

async fn feed_only(connection: &mut PgConnection) {
    let fed = "SELECT sum(feed_usd)::numeric(10,2)::text FROM ledger.posting";
    assert_eq!(sqlx::query_scalar::<_, String>(fed).fetch_one(connection).await.unwrap(), "1.00");
}

/// Columns that no report has, and a report that does not say its currency.
#[tokio::test]
async fn a_column_of_amounts_by_another_name_is_refused() {
    let Bench { url, ledger, server: _server } = bench().await;
    machine_of(&ledger, "a", DAY, 10).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("bills-columns");
    let text = format!("{HEADER}{}", hours(0..10, "1.00", ""));
    for (text, said) in [
        (
            text.replace("savings_plan_savings_plan_effective_cost", "line_item_net_unblended_costs"),
            "a Cost and Usage Report has no columns line_item_net_unblended_costs",
        ),
        (text.replace("line_item_currency_code", "line_item_tax_type"), "missing: line_item_currency_code"),
        (text.replace(",USD,", ",,"), "column line_item_currency_code holds \"nothing\"; expected a currency, as in USD"),
    ] {
        let fault = taken(&mut connection, Format::Cur, &[folder.file("bad/cur.csv", &text)]).await.unwrap_err();
        assert!(fault.contains(said), "{fault}");
    }
}

/// A final bill that lacks whole machines: refused with how many and how much; accepted, their hours rest on no bill, and the report says so.
#[tokio::test]
async fn a_final_bill_without_whole_machines_is_refused() {
    let Bench { url, ledger, server: _server } = bench().await;
    machine_of(&ledger, "a", DAY, 10).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("bills-machines");
    let final_bill = bill(&folder, "final", &hours(0..10, "1.00", "INV"));
    machine_of(&ledger, "b", DAY, 2).await;
    machine_of(&ledger, "c", DAY, 1).await;
    // In the last minute of the month: it may be on the next bill alone.
    machine_of(&ledger, "last", Timestamp::from_date(2026, 8, 1) - Millis::from_mins(1), 1).await;
    // A bill of the month so far may lack what it likes.
    taken(&mut connection, Format::Cur, &bill(&folder, "mid", &hours(0..10, "1.00", ""))).await.unwrap();
    let july = "2026-07".parse().unwrap();
    let reconciled = async |connection: &mut PgConnection| reconcile(connection, &july).await.unwrap().sentence;
    assert!(reconciled(&mut connection).await.contains("$4.00 in 4 instance-hours is not on a bill or feed yet"));
    let fault = taken(&mut connection, Format::Cur, &final_bill).await.unwrap_err();
    assert!(
        fault.contains(
            "the bill of 2026-07 is final and has no line for the use of i-b and 2 more: 3 of our machines, which cost $3.02 in that month by the books"
        ) && fault.contains("--accept missing-machines"),
        "{fault}"
    );
    accepted(&mut connection, Format::Cur, &final_bill, Check::MissingMachines).await;
    let said = reconciled(&mut connection).await;
    assert!(said.contains("$0.00 in 0 instance-hours is not on a bill or feed yet. The bill is final and has no line of 4 further instance-hours: their $4.00 rests on no bill."), "{said}");
    let on_bill: String =
        sqlx::query_scalar("SELECT sum(bill_usd)::numeric(10,2)::text FROM ledger.posting").fetch_one(&mut connection).await.unwrap();
    assert_eq!((cost(&mut connection).await, on_bill), ("14.00".to_owned(), "10.00".to_owned()));
    // What was accepted once is not asked again; a machine that the final bill had and the next has not is.
    let discount = line("d", "EdpDiscount", "i-a", "SpotUsage:g6.xlarge", 0, "0", "-1", "").replacen(",,", ",INV,", 1);
    taken(&mut connection, Format::Cur, &bill(&folder, "again", &format!("{}{discount}", hours(0..10, "1.00", "INV")))).await.unwrap();
    let of_b = hours(0..2, "1.00", "INV").replace("i-a", "i-b").replace("\na", "\nb").replacen("a0", "b0", 1);
    taken(&mut connection, Format::Cur, &bill(&folder, "more", &format!("{}{of_b}", hours(0..10, "1.00", "INV")))).await.unwrap();
    let fault = taken(&mut connection, Format::Cur, &final_bill).await.unwrap_err();
    assert!(fault.contains("older") || fault.contains("no line for the use of i-b: 1 of our machines, which cost $2.00"), "{fault}");
    let less = bill(&folder, "less", &format!("{}{discount}", hours(0..10, "1.01", "INV")));
    let fault = taken(&mut connection, Format::Cur, &less).await.unwrap_err();
    assert!(fault.contains("no line for the use of i-b: 1 of our machines, which cost $2.00 in that month by the books"), "{fault}");
}

/// A report by the day: a day's line confirms the time that it says, and a day that the month's bill has not in full stays open.
#[tokio::test]
async fn a_bill_by_the_day_confirms_what_it_says_was_used() {
    let Bench { url, ledger, server: _server } = bench().await;
    machine_of(&ledger, "a", DAY, 24).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("bills-daily");
    let day = |amount: &str, cost: &str, invoice: &str| {
        let [hour, end] = [1, 24].map(|hour| (DAY + Millis::from_hours(hour)).to_string());
        let line = line("d", "Usage", "i-a", "SpotUsage:g6.xlarge", 0, amount, cost, "").replacen(&hour, &end, 1);
        line.replacen(",,", &format!(",{invoice},"), 1)
    };
    let july = "2026-07".parse().unwrap();
    let sums = async |connection: &mut PgConnection| -> (String, String) {
        let sql = "SELECT sum(cost_usd)::numeric(10,2)::text, sum(bill_usd)::numeric(10,2)::text FROM ledger.posting";
        sqlx::query_as(sql).fetch_one(connection).await.unwrap()
    };
    let of = |cost: &str, bill: &str| (cost.to_owned(), bill.to_owned());
    let options = Check::AmountChanged;
    accepted(&mut connection, Format::Cur, &bill(&folder, "so-far", &day("3", "3.00", "")), options).await;
    assert_eq!(sums(&mut connection).await, of("24.00", "3.00"));
    let said = reconcile(&mut connection, &july).await.unwrap().sentence;
    assert!(said.contains("$21.00 in 24 instance-hours (of 24 of them a part) is not on a bill or feed yet"), "{said}");
    accepted(&mut connection, Format::Cur, &bill(&folder, "whole", &day("24", "24.00", "")), options).await;
    assert_eq!(sums(&mut connection).await, of("24.00", "24.00"));
    let said = reconcile(&mut connection, &july).await.unwrap().sentence;
    assert!(said.starts_with("2026-07: AWS confirmed 24 instance-hours and 0 were trued up by $0.00, $24.00 in all; $0.00 in 0"), "{said}");
    // AWS knows of more than we do, and of less: all of its money is posted, and the reason named.
    let causes =
        "SELECT string_agg(DISTINCT cause, ' ') FROM (SELECT DISTINCT ON (hour) cause FROM ledger.true_up ORDER BY hour, posted_at DESC) x";
    for (amount, usd) in [("23.9", "23.90"), ("20", "20.00")] {
        accepted(&mut connection, Format::Cur, &bill(&folder, amount, &day(amount, usd, "INV")), options).await;
        assert_eq!(sums(&mut connection).await, of(usd, usd));
        assert_eq!(sqlx::query_scalar::<_, String>(causes).fetch_one(&mut connection).await.unwrap(), "seconds-differed");
    }
}

/// A volume that outlives its machine: the days that August's bill has are August's, and what was closed in July stays.
#[tokio::test]
async fn a_volume_after_its_machine_moves_no_month_that_is_closed() {
    let Bench { url, ledger, server: _server } = bench().await;
    machine_of(&ledger, "a", DAY, 10).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("bills-volumes");
    let tag = "\"{\"\"user_lowtide_claim_uid\"\": \"\"uid-a\"\"}\"";
    let text = |lines: &str, tagged: &str| {
        let plain = lines.replace(",\n", ",,\n");
        let tagged: String = tagged.lines().map(|line| format!("{line},{tag}\n")).collect();
        format!("{},resource_tags\n{plain}{tagged}", HEADER.trim_end())
    };
    let volume =
        |id: &str, hour: i64, cost: &str| line(id, "Usage", "vol-1", "EBS:VolumeUsage.gp3", hour, "1", cost, "").replacen(",,", ",INV,", 1);
    let july = folder.file("july/cur.csv", &text(&hours(0..10, "1.00", "INV"), &volume("v", 3, "0.50")));
    taken(&mut connection, Format::Cur, &[july]).await.unwrap();
    lowtide::ledger::seal::seal(&mut connection).await.unwrap();
    let by_month = "SELECT string_agg(month || ' ' || line || ' ' || usd, ', ' ORDER BY month, line) FROM (
                        SELECT to_char(day, 'MM') AS month, line, sum(cost_usd)::numeric(10,2) AS usd FROM ledger.cost_daily GROUP BY 1, 2) x";
    let found = async |connection: &mut PgConnection| sqlx::query_scalar::<_, String>(by_month).fetch_one(connection).await.unwrap();
    assert_eq!(found(&mut connection).await, "07 pod 10.00, 07 volume 0.50");
    // The 3rd and the 4th of August.
    let lines = format!("{}{}", volume("w", 14 * 24, "0.70"), volume("x", 15 * 24, "0.20")).replace("2026-07-01", "2026-08-01");
    let august = accepted(&mut connection, Format::Cur, &[folder.file("august/cur.csv", &text("", &lines))], Check::ForeignAccount).await;
    assert_eq!(found(&mut connection).await, "07 pod 10.00, 07 volume 0.50, 08 volume 0.90");
    let rows = "SELECT string_agg(concat_ws(' ', to_char(at AT TIME ZONE 'UTC', 'MM-DD'), kind, cause, cost_usd::numeric(10,2)), ', ' ORDER BY at) FROM ledger.posting WHERE statement = $1";
    let rows: String = sqlx::query_scalar(rows).bind(august.statements[0].id).fetch_one(&mut connection).await.unwrap();
    assert_eq!(rows, "08-03 bill beside-the-use 0.70, 08-04 bill beside-the-use 0.20");
    lowtide::ledger::seal::seal(&mut connection).await.unwrap();
    let mut wrong = lowtide::ledger::verify::verify(&mut connection).await.unwrap().findings;
    wrong.extend(lowtide::ledger::verify::recompute(&mut connection, &lowtide::ledger::verify::Sample::default()).await.unwrap());
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// August's bill has an hour of a machine whose end is recorded in July: it is August's, and what was closed in July stays.
#[tokio::test]
async fn use_after_the_recorded_end_is_of_the_month_that_bills_it() {
    let Bench { url, ledger, server: _server } = bench().await;
    machine_of(&ledger, "a", DAY, 10).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("bills-after-the-end");
    taken(&mut connection, Format::Cur, &bill(&folder, "july", &hours(0..10, "1.00", "INV"))).await.unwrap();
    lowtide::ledger::seal::seal(&mut connection).await.unwrap();
    let by_month = "SELECT string_agg(concat_ws(' ', month, line, team, usd, confirmed), ', ' ORDER BY month, line) FROM (
                        SELECT to_char(day, 'MM') AS month, line, team, sum(cost_usd)::numeric(10,6) AS usd, sum(bill_usd)::numeric(10,6) AS confirmed
                        FROM ledger.cost_daily GROUP BY 1, 2, 3 HAVING sum(cost_usd) <> 0) x";
    let found = async |connection: &mut PgConnection| sqlx::query_scalar::<_, String>(by_month).fetch_one(connection).await.unwrap();
    assert_eq!(found(&mut connection).await, "07 pod search 10.000000 10.000000");
    // Twelve days after: 1 August, 00:00 to 02:00.
    let late = |n: i64, cost: &str| {
        line(&format!("z{n}"), "Usage", "i-a", "SpotUsage:g6.xlarge", 12 * 24 + n, "0.25", cost, "")
            .replacen(",,", ",INV,", 1)
            .replace("2026-07-01", "2026-08-01")
    };
    let august = bill(&folder, "august", &format!("{}{}", late(0, "0.25"), late(1, "0.250004")));
    let august = taken(&mut connection, Format::Cur, &august).await.unwrap();
    assert_eq!(found(&mut connection).await, "07 pod search 10.000000 10.000000, 08 drain 0.500004 0.500004");
    let rows = "SELECT string_agg(concat_ws(' ', to_char(at AT TIME ZONE 'UTC', 'MM-DD HH24:MI'), span_ms, kind, cause, cost_usd::numeric(10,6)), ', ' ORDER BY at)
                FROM ledger.posting WHERE statement = $1";
    let rows: String = sqlx::query_scalar(rows).bind(august.statements[0].id).fetch_one(&mut connection).await.unwrap();
    assert_eq!(rows, "08-01 00:00 3600000 bill seconds-differed 0.500004");
    // Each clock hour and each file of a month has it where it is.
    let by_hour = "SELECT string_agg(to_char(hour AT TIME ZONE 'UTC', 'MM-DD HH24:MI') || ' ' || cost_usd::numeric(10,6), ', ')
                   FROM ledger.hourly_cost('2026-08-01 00:00+00', '2026-09-01 00:00+00')";
    assert_eq!(sqlx::query_scalar::<_, String>(by_hour).fetch_one(&mut connection).await.unwrap(), "08-01 00:00 0.500004");
    let exported = r#"SELECT concat_ws(' ', "ChargePeriodStart", "ChargePeriodEnd", "EffectiveCost"::numeric(10,6)) FROM ledger.focus_of('2026-08-01', '2026-09-01')"#;
    assert_eq!(
        sqlx::query_scalar::<_, String>(exported).fetch_one(&mut connection).await.unwrap(),
        "2026-08-01T00:00:00Z 2026-08-01T01:00:00Z 0.500004"
    );
    let mut wrong = lowtide::ledger::verify::verify(&mut connection).await.unwrap().findings;
    wrong.extend(lowtide::ledger::verify::recompute(&mut connection, &lowtide::ledger::verify::Sample::default()).await.unwrap());
    assert!(wrong.is_empty(), "{wrong:?}");
    // Taken back, July is as it was.
    lowtide::ledger::import::retract(&mut connection, august.statements[0].id, "a test", LATER).await.unwrap();
    assert_eq!(found(&mut connection).await, "07 pod search 10.000000 10.000000");
}

/// A payer of support and tax alone has a final bill as well: a month is not open for ever because of it.
#[tokio::test]
async fn a_bill_without_machines_is_final_once_all_its_lines_are_invoiced() {
    let Bench { url, ledger, server: _server } = bench().await;
    machine_of(&ledger, "a", DAY, 10).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("bills-without-machines");
    taken(&mut connection, Format::Cur, &bill(&folder, "machines", &hours(0..10, "1.00", "INV"))).await.unwrap();
    let of_payer = |invoices: [&str; 2]| {
        let lines = [("support", "Fee", "12.00"), ("vat", "Tax", "2.00")].iter().zip(invoices).map(|((id, kind, cost), invoice)| {
            line(id, kind, "", "", 0, "", cost, "").replacen(",,", &format!(",{invoice},"), 1).replace("111122223333", "999900001111")
        });
        lines.collect::<String>()
    };
    for (n, (invoices, said)) in [(["INV", ""], false), (["INV", "INV"], true)].into_iter().enumerate() {
        let file = bill(&folder, &format!("{n}"), &of_payer(invoices));
        let taken = accepted(&mut connection, Format::Cur, &file, Check::ForeignAccount).await;
        let sql = "SELECT invoiced FROM ledger.statement WHERE id = $1";
        let invoiced: bool = sqlx::query_scalar(sql).bind(taken.statements[0].id).fetch_one(&mut connection).await.unwrap();
        assert_eq!(invoiced, said, "{invoices:?}");
    }
}

/// What an invoice says is the sum of its lines: with what was paid up front, without what only moved, in two invoices and one that is still to come.
#[tokio::test]
async fn what_each_invoice_charges_is_on_record_and_changes_with_it() {
    let Bench { url, ledger, server: _server } = bench().await;
    machine_of(&ledger, "a", DAY, 1).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("bills-invoices");
    let of = |id: &str, kind: &str, resource: &str, usage: &str, cost: &str, plan: &str, invoice: &str| {
        line(id, kind, resource, usage, 0, "1", cost, plan).replacen(",,", &format!(",{invoice},"), 1)
    };
    let lines = |of_tax: &str| {
        [
            of("u", "SavingsPlanCoveredUsage", "i-a", "BoxUsage:g6.xlarge", "3.00", "0.70", "INV-1"),
            of("n", "SavingsPlanNegation", "", "ComputeSP:1yrAllUpfront", "-3.00", "", "INV-1"),
            of("f", "SavingsPlanUpfrontFee", "arn:aws:savingsplans::1:savingsplan/s", "ComputeSP:1yrAllUpfront", "6000.00", "", "INV-2"),
            of("c", "Credit", "i-a", "BoxUsage:g6.xlarge", "-0.25", "", "INV-1"),
            of("t", "Tax", "", "", "2.00", "", of_tax),
        ]
        .concat()
    };
    let charged = "SELECT string_agg(concat_ws(' ', nullif(i ->> 'invoice', ''), i ->> 'charged', i ->> 'currency'), ', ') || ' of ' || total::numeric(10,2)
                   FROM ledger.statements, jsonb_array_elements(invoices) i WHERE state = 'holds' GROUP BY total";
    for (tax, said) in [("", "2 USD, INV-1 -0.25 USD, INV-2 6000 USD of 2.45"), ("INV-1", "INV-1 1.75 USD, INV-2 6000 USD of 2.45")] {
        for again in [false, true] {
            let file = bill(&folder, &format!("{tax}-{again}"), &lines(tax));
            let done = taken(&mut connection, Format::Cur, &file).await.unwrap();
            assert_eq!(done.statements[0].same, again, "{tax}");
            assert_eq!(sqlx::query_scalar::<_, String>(charged).fetch_one(&mut connection).await.unwrap(), said);
        }
    }
    let listed = lowtide::ledger::report::statements(&mut connection, &Default::default()).await.unwrap();
    let at = listed.columns.iter().position(|column| *column == "invoices").unwrap();
    let shown: Vec<_> = listed.rows.iter().map(|row| row[at].clone().unwrap()).collect();
    assert_eq!(shown, ["INV-1 1.75 USD; INV-2 6000 USD", "on no invoice yet 2 USD; INV-1 -0.25 USD; INV-2 6000 USD"]);
}
