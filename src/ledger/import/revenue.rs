//! What workloads earned, by day.
//!
//! Decides: how the files are read: a period is a calendar month, whichever it is given by (the month itself or its invoices' days), and a newer version of
//! it replaces the older whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;
use sqlx::PgConnection;

use super::checks::Checks;
use super::delivery::each_file_once;
use super::entries::{
    Origin, Said, Spoken, Version, Words, known_workloads, look_over_month, new_version, period_in_words, reasonable, source_of,
};
use super::reading::{ReadFile, each_known_line};
use super::statement::{Cell, Held, Kind, Outcome};
use super::table::{Line, is_in_reach};
use super::usage::{day_of, midnight, month_cell, workload_of, write};
use super::{ImportFault, Options};
use crate::core::units::ids::{ObjectRef, derive_uuid};
use crate::core::units::money::MicroUsd;
use crate::core::units::time::{Millis, Timestamp};
use crate::ledger::rows::Table;
use crate::ledger::store::LedgerFault;
use crate::ledger::turns::{self, Turn};

const REVENUE_DAY: Table =
    Table { name: "revenue_day", columns: "id, at, workload_namespace, workload_name, revision, revenue_usd, statement, lines" };
const REQUIRED: [&str; 3] = ["period", "workload", "revenue_usd"];
const KNOWN: [&str; 4] = ["period", "workload", "revenue_usd", "currency"];
const DAY: i64 = 86_400_000;

type Days = BTreeMap<(ObjectRef, Timestamp), i128>;

/// Takes files of revenue in a transaction of the caller's: columns `period` (a day, or a month that is spread evenly over its days), `workload`,
/// `revenue_usd` and, for other currencies, `currency`.
///
/// # Errors
/// [`ImportFault`]; then the transaction must be rolled back.
pub(super) async fn take(connection: &mut PgConnection, paths: &[PathBuf], options: &mut Options) -> Result<Vec<Outcome>, ImportFault> {
    turns::take(connection, Turn::Import).await?;
    let (mut days, mut spoken) = (Days::new(), Spoken::default());
    let files = each_file_once(paths, |file, path| read_file(path, file, &mut days, &mut spoken, options))?;
    known_workloads(connection, &days.keys().map(|(workload, _)| workload.clone()).collect(), &mut options.checks).await?;
    let mut by_month: BTreeMap<Timestamp, Days> = BTreeMap::new();
    for ((workload, day), amount) in days {
        by_month.entry(month_cell(day).0).or_default().insert((workload, day), amount);
    }
    let mut outcomes = Vec::new();
    for (month, days) in by_month {
        let (from, until) = month_cell(month);
        let cell = Cell { kind: Kind::Revenue, source: source_of(options, Kind::Revenue), from, until };
        outcomes.push(take_month(connection, cell, &days, &files, &mut options.checks).await?);
    }
    Ok(outcomes)
}

fn read_file(path: &Path, file: usize, days: &mut Days, spoken: &mut Spoken, options: &mut Options) -> Result<ReadFile, ImportFault> {
    let mut said = Said::default();
    let read = each_known_line(path, (&REQUIRED, &KNOWN), options, |line, options| {
        said.count(line);
        let workload = workload_of(line, "workload")?;
        let parts = per_day(line, "revenue_usd", options)?;
        spoken.once(&mut options.checks, (file, line.part), &workload.to_string(), &parts)?;
        for (day, amount) in parts {
            *days.entry((workload.clone(), day)).or_default() += i128::from(amount.0);
        }
        Ok(())
    })?;
    said.refuse_repeated(&mut options.checks, &read)?;
    Ok(read)
}

async fn take_month(
    connection: &mut PgConnection,
    cell: Cell,
    days: &Days,
    files: &[ReadFile],
    checks: &mut Checks,
) -> Result<Outcome, ImportFault> {
    const WORDS: Words = Words { amounts: "revenue", of: "the workload", verb: "earned" };
    let before = there(connection, &cell, true).await?;
    let others = there(connection, &cell, false).await?;
    let month = period_in_words(cell.from, 7);
    let refuse = |checks: &mut Checks, holds: Option<&Held>| {
        look_over_month(checks, &month, &WORDS, |(workload, _)| workload.to_string(), [&before, days, &others], holds.is_some())
    };
    let from = Origin { files, made_at: None };
    let Version { outcome, differences } = new_version(connection, cell, from, [&before, days], checks, refuse).await?;
    let (id, version) = (outcome.id, outcome.version);
    let row = |((workload, day), micro, lines): &((ObjectRef, Timestamp), i128, i32)| {
        json!({
            "id": derive_uuid(&["revenue", &id.to_string(), &workload.namespace, &workload.name, &day.0.to_string()]), "at": day.to_rfc3339(),
            "workload_namespace": workload.namespace, "workload_name": workload.name, "revision": version,
            "revenue_usd": MicroUsd(i64::try_from(*micro).unwrap_or(i64::MAX)), "statement": id, "lines": lines,
        })
    };
    write(connection, REVENUE_DAY, &differences.iter().map(row).collect::<Vec<_>>()).await?;
    Ok(outcome)
}

/// What holds of a month: of its source, or of all others.
async fn there(connection: &mut PgConnection, cell: &Cell, own: bool) -> Result<Days, LedgerFault> {
    let rows = sqlx::query!(
        r#"SELECT r.workload_namespace, r.workload_name, ledger.ms(r.at) AS "at_ms!", (sum(r.revenue_usd) * 1000000)::bigint AS "micro!"
           FROM ledger.revenue_day r JOIN ledger.statement s ON s.id = r.statement
           WHERE s.kind = 'revenue' AND s.at = $2::text::timestamptz AND (s.source = $1) = $3
           GROUP BY r.workload_namespace, r.workload_name, r.at HAVING sum(r.lines) > 0"#,
        cell.source,
        cell.from.to_rfc3339(),
        own
    );
    let rows = rows.fetch_all(connection).await.map_err(LedgerFault::during("read the revenue that holds"))?;
    let key = |namespace, name, ms| (ObjectRef { namespace, name }, Timestamp(ms));
    Ok(rows.into_iter().map(|row| (key(row.workload_namespace, row.workload_name, row.at_ms), i128::from(row.micro))).collect())
}

/// The days of a line's period, each with its part of an amount in micro-dollars; the parts add up.
pub(super) fn per_day(line: &Line, column: &str, options: &mut Options) -> Result<Vec<(Timestamp, MicroUsd)>, ImportFault> {
    let expected = "a day as 2026-07-20, or a month as 2026-07, from 2000 to 2199";
    let text = line.need("period", expected)?;
    let (first, days) = match day_of(line, "period") {
        Ok(day) => (day, 1),
        Err(_) => {
            let first: Option<jiff::civil::Date> = format!("{text}-01").parse().ok();
            let first = first.filter(|first| is_in_reach(midnight(*first))).ok_or_else(|| line.fault("period", text, expected))?;
            (midnight(first), i64::from(first.days_in_month()))
        }
    };
    let amount = options.rates.of(line, "currency", first, &mut options.checks)?.times(line.usd(column)?);
    reasonable(&mut options.checks, amount, || line.fault(column, &amount.to_string(), "at most $10,000,000 on one line"))?;
    let amount = amount.to_micro_usd().0;
    let upto = |n: i64| i64::try_from(i128::from(amount) * i128::from(n) / i128::from(days)).unwrap_or(i64::MAX);
    Ok((0..days).map(|n| (first + Millis(n * DAY), MicroUsd(upto(n + 1) - upto(n)))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::import::checks::Check;
    use crate::ledger::import::reading::each_csv_record;
    use crate::mutation::REACH;

    #[test]
    fn a_month_is_spread_over_its_days_to_the_micro_dollar() {
        let mut days = Vec::new();
        let text = "period,workload,revenue_usd\n2026-02,ml/chat,100\n2026-03-05,ml/chat,-1.5\n";
        each_csv_record(Path::new("revenue.csv"), &mut text.as_bytes(), (&["period"], &|_| true), &mut |line| {
            days.extend(per_day(line, "revenue_usd", &mut Options::default())?);
            Ok(())
        })
        .unwrap();
        assert_eq!(days.len(), 29);
        assert_eq!(days[..28].iter().map(|(_, micro)| micro.0).sum::<i64>(), 100_000_000);
        assert_eq!(days[28], (Timestamp::from_date(2026, 3, 5), MicroUsd(-1_500_000)));
    }

    const REVENUE: &str =
        "period,workload,revenue_usd,currency\n2026-02,ml/chat,100,USD\n2026-03-05,ml/chat,-1.5,\n2026-03-05,ml/other,7e3,USD\n";

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::mutation::CASES))]

        #[test]
        fn whatever_a_file_of_revenue_holds_is_read_by_the_day_or_refused_with_a_sentence(
            text in crate::mutation::csv(&[REVENUE]), accepted in proptest::bool::ANY
        ) {
            let (mut days, mut spoken, mut options) = (Days::new(), Spoken::default(), Options::default());
            if accepted {
                options.checks = Checks::accepting([Check::BeyondReason, Check::UnknownColumns, Check::HoursTwice]);
            }
            match crate::mutation::read_file(&text, |path| read_file(path, 1, &mut days, &mut spoken, &mut options)) {
                Ok(_) => for ((workload, day), amount) in days {
                    assert!(!workload.namespace.is_empty() && !workload.name.contains('/') && REACH.contains(&day.0) && day.0 % DAY == 0);
                    assert!(accepted || amount.abs() <= 10_000_000 * 1_000_000 * 3, "{amount}");
                },
                Err(fault) => assert!(fault.to_string().contains("nothing was imported"), "{fault}"),
            }
        }
    }
}
