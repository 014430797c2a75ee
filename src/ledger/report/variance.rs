//! Why a month cost other than another, driver by driver and in words.
//!
//! Decides: the sentence and what is said of each driver. Does not: compute what it is worth (see [`crate::core::accounting::variance`]).

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::reasons::{LessBilled, LinesOf, OfLine, Reasons};
use super::{By, Keys, Month, Only, Report, condition, dollars, known_by, signed_dollars, six_decimals};
use crate::core::accounting::variance::{Driver, Drivers, Use, bridge, whole_month};
use crate::core::market::CapacityType;
use crate::core::units::ids::ObjectRef;
use crate::core::units::money::MicroUsd;
use crate::core::units::time::Timestamp;
use crate::core::workload::need::UsageUnit;
use crate::ledger::import::micro_units;
use crate::ledger::store::LedgerFault;

/// What a variance is shown by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum VarianceBy {
    /// The ten drivers (`--by step`), over all workloads.
    #[default]
    Step,
    /// Workloads, those that changed most first.
    Workload,
    /// Owners by these labels, or regions and the like, those that changed most first.
    Keys(Keys),
}

impl VarianceBy {
    /// As the words of a command line say it.
    ///
    /// # Errors
    /// When drivers are mixed with other keys, or by a key that a month has one value of.
    pub fn of(words: &[VarianceKey]) -> Result<VarianceBy, &'static str> {
        match words {
            [] | [VarianceKey::Step] => Ok(VarianceBy::Step),
            [VarianceKey::By(By::Workload)] => Ok(VarianceBy::Workload),
            words => {
                let keys = words.iter().map(|word| match word {
                    VarianceKey::By(By::Day | By::Month) => Err("a variance compares months: it cannot be grouped by day or month"),
                    VarianceKey::By(By::Line) => Err("lines are steps of a variance: expected --by step"),
                    VarianceKey::By(by) => Ok(*by),
                    VarianceKey::Step => Err("steps stand alone: expected --by step, or other keys without it"),
                });
                Ok(VarianceBy::Keys(keys.collect::<Result<Vec<By>, _>>()?.into()))
            }
        }
    }
}

/// A key on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VarianceKey {
    /// The ten drivers (`--by step`).
    Step,
    /// One of the keys of every report.
    By(By),
}

impl std::str::FromStr for VarianceKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "step" {
            return Ok(VarianceKey::Step);
        }
        <By as clap::ValueEnum>::from_str(&text.replace('_', "-"), false)
            .map(VarianceKey::By)
            .map_err(|_| "expected step, workload, namespace, team, service, environment, cost-center, product-area, component, region, instance-type or capacity-type".into())
    }
}

/// Both months of each workload.
type Months = BTreeMap<ObjectRef, [Drivers; 2]>;
/// The same for each value of the keys.
type Keyed = BTreeMap<Vec<String>, Months>;

/// The bridge between two months. Its drivers add up to the difference.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
///
/// A month that runs at `now` is compared by its full days, with the same days of the other.
pub async fn variance(
    connection: &mut PgConnection,
    before: &Month,
    after: &Month,
    by: VarianceBy,
    only: &[Only],
    now: Timestamp,
) -> Result<Report, LedgerFault> {
    let days = running_days(before, after, now);
    let spans = [before, after].map(|month| Span::of(month, days));
    let keys = if let VarianceBy::Keys(keys) = &by { Some(keys) } else { None };
    let (keyed, lines) = months(connection, &spans, keys, only).await?;
    let mut moved: BTreeMap<Driver, MicroUsd> = Driver::ALL.map(|driver| (driver, MicroUsd(0))).into();
    for [was, is] in keyed.values().flat_map(Months::values) {
        add(&mut moved, was, is);
    }
    let total = |n: usize| keyed.values().flat_map(Months::values).map(|pair| pair[n].total()).sum::<MicroUsd>();
    let mut sentence = sentence(before, after, total(0), total(1), &moved);
    if days == Some(0) {
        sentence = format!("{} has no full day yet: there is nothing to compare.", before.max(after));
    } else if let Some(days) = days {
        sentence.push_str(&format!(" {} still runs: the first {days} full days of each month are compared.", before.max(after)));
    }
    if let Some(less) = LessBilled::of(lines.values()) {
        sentence.push_str(&format!(" {}: what its bill will charge, give back or correct is not in it yet.", less.in_words(&spans)));
    }
    if let Some(day) = known_by(connection).await? {
        sentence.push_str(&format!(" This is what was known at the end of {day}."));
    }
    let all = || keyed.values().next().cloned().unwrap_or_default();
    let narrowed = !only.is_empty();
    match &by {
        VarianceBy::Step => {
            let mut reasons = Reasons::of_each(connection, &spans, &all(), &lines, narrowed).await?;
            let columns = ["step", "difference_usd", "why"].map(String::from).to_vec();
            let mut rows = vec![vec![Some(format!("{before}")), Some(six_decimals(total(0))), None]];
            rows.extend(
                moved
                    .into_iter()
                    .map(|(driver, amount)| vec![Some(driver.as_str().to_owned()), Some(six_decimals(amount)), reasons.remove(&driver)]),
            );
            rows.push(vec![Some(format!("{after}")), Some(six_decimals(total(1))), None]);
            Ok(Report { sentence, columns, rows })
        }
        VarianceBy::Workload => {
            let rows = by_workload(connection, &spans, &all(), &lines).await?;
            Ok(Report { sentence, columns: WORKLOAD_COLUMNS.map(String::from).to_vec(), rows })
        }
        VarianceBy::Keys(keys) => {
            let columns = keys.headings().chain(KEY_COLUMNS).map(String::from).collect();
            Ok(Report { sentence, columns, rows: by_keys(&keyed) })
        }
    }
}

fn add(moved: &mut BTreeMap<Driver, MicroUsd>, was: &Drivers, is: &Drivers) {
    for (driver, amount) in bridge(was, is) {
        let sum = moved.entry(driver).or_default();
        *sum = *sum + amount;
    }
}

const KEY_COLUMNS: [&str; 5] = ["before_usd", "after_usd", "difference_usd", "mostly", "workload_that_changed_most"];

/// Values of the keys, those that changed most first, each with its largest driver and the workload that changed most.
fn by_keys(keyed: &Keyed) -> Vec<Vec<Option<String>>> {
    let mut found = Vec::new();
    for (key, months) in keyed {
        let total = |n: usize| months.values().map(|pair| pair[n].total()).sum::<MicroUsd>();
        let mut moved = BTreeMap::new();
        for [was, is] in months.values() {
            add(&mut moved, was, is);
        }
        let largest = moved
            .into_iter()
            .max_by_key(|(driver, amount)| (amount.0.abs(), std::cmp::Reverse(*driver)))
            .filter(|(_, amount)| amount.0 != 0);
        let change = |pair: &[Drivers; 2]| pair[1].total() - pair[0].total();
        let most = months
            .iter()
            .map(|(workload, pair)| (workload, change(pair)))
            .max_by_key(|(workload, change)| (change.0.abs(), std::cmp::Reverse(*workload)));
        let difference = total(1) - total(0);
        let row = [
            Some(six_decimals(total(0))),
            Some(six_decimals(total(1))),
            Some(six_decimals(difference)),
            largest.map(|(driver, amount)| format!("{} {}", driver.as_str(), signed_dollars(amount))),
            most.filter(|(_, change)| change.0 != 0).map(|(workload, change)| format!("{} {}", name_of(workload), signed_dollars(change))),
        ];
        found.push((difference, key.iter().cloned().map(Some).chain(row).collect()));
    }
    found.sort_by_key(|(difference, row): &(MicroUsd, Vec<Option<String>>)| (std::cmp::Reverse(difference.0.abs()), row.clone()));
    found.into_iter().map(|(_, row)| row).collect()
}

/// A workload as it is shown: what names none is its item.
pub(super) fn name_of(workload: &ObjectRef) -> String {
    match (workload.namespace.as_str(), workload.name.as_str()) {
        ("", "") => "(none)".to_owned(),
        ("", item) => item.to_owned(),
        _ => workload.to_string(),
    }
}

const WORKLOAD_COLUMNS: [&str; 6] = ["workload", "before_usd", "after_usd", "difference_usd", "mostly", "why"];
/// For how many workloads, those that changed most, the reason is given.
const EXPLAINED: usize = 20;

/// The driver that moved a cost most, and by how much.
type Largest = (Driver, MicroUsd);

/// Workloads, those that changed most first, each with its largest driver and what stands behind that driver in this workload alone.
async fn by_workload(
    connection: &mut PgConnection,
    spans: &[Span; 2],
    months: &Months,
    lines: &LinesOf,
) -> Result<Vec<Vec<Option<String>>>, LedgerFault> {
    let mut found: Vec<(MicroUsd, &ObjectRef, Option<Largest>)> = Vec::new();
    for (workload, [was, is]) in months {
        let largest = bridge(was, is).into_iter().max_by_key(|(driver, amount)| (amount.0.abs(), std::cmp::Reverse(*driver)));
        found.push((is.total() - was.total(), workload, largest.filter(|(_, amount)| amount.0 != 0)));
    }
    found.sort_by_key(|(difference, workload, _)| (std::cmp::Reverse(difference.0.abs()), *workload));
    let mut rows = Vec::new();
    for (n, (difference, workload, largest)) in found.into_iter().enumerate() {
        let name = name_of(workload);
        let why = match largest {
            Some((driver, amount)) if n < EXPLAINED => {
                let one = months.get(workload).map(|pair| Months::from([(workload.clone(), pair.clone())])).unwrap_or_default();
                Some(Reasons::read(connection, spans, &one, lines, true).await?.of(driver, amount))
            }
            _ => None,
        };
        let totals = months.get(workload).map(|pair| [pair[0].total(), pair[1].total()]).unwrap_or_default();
        let mostly = largest.map(|(driver, amount)| format!("{} {}", driver.as_str(), signed_dollars(amount)));
        rows.push(vec![
            Some(name),
            Some(six_decimals(totals[0])),
            Some(six_decimals(totals[1])),
            Some(six_decimals(difference)),
            mostly,
            why,
        ]);
    }
    Ok(rows)
}

fn sentence(before: &Month, after: &Month, was: MicroUsd, is: MicroUsd, moved: &BTreeMap<Driver, MicroUsd>) -> String {
    let difference = is - was;
    if was == MicroUsd(0) && is == MicroUsd(0) {
        return format!("Neither {before} nor {after} has any spend.");
    }
    let (word, largest) = if difference.0 >= 0 {
        ("more", moved.iter().max_by_key(|(driver, amount)| (amount.0, std::cmp::Reverse(**driver))))
    } else {
        ("less", moved.iter().min_by_key(|(driver, amount)| (amount.0, **driver)))
    };
    let percent = if was.0 > 0 { format!(" ({:+.1} %)", (difference.0 * 1_000 / was.0) as f64 / 10.0) } else { String::new() };
    let mostly = largest
        .filter(|(_, amount)| amount.0 != 0)
        .map_or_else(String::new, |(driver, amount)| format!("; mostly {} ({})", driver.as_str(), signed_dollars(*amount)));
    format!("{after} cost {}, {} {word} than {before}{percent}{mostly}.", dollars(is), dollars(MicroUsd(difference.0.abs())))
}

/// UTC days of a month that are compared, the last not included.
pub(super) struct Span {
    pub from: String,
    pub to: String,
}

impl Span {
    fn of(month: &Month, days: Option<u32>) -> Span {
        let end = days.map(|days| format!("{month}-{:02}", days + 1)).filter(|day| day.parse::<jiff::civil::Date>().is_ok());
        Span { from: month.first_day(), to: end.unwrap_or_else(|| month.next().first_day()) }
    }
}

/// How many full days the running month has, when one of the two runs.
fn running_days(before: &Month, after: &Month, now: Timestamp) -> Option<u32> {
    let today = now.to_rfc3339();
    let runs = |month: &Month| today.get(..7) == Some(month.to_string().as_str());
    let day: u32 = today.get(8..10)?.parse().ok()?;
    (runs(before) || runs(after)).then(|| day - 1)
}

async fn months(
    connection: &mut PgConnection,
    [before, after]: &[Span; 2],
    keys: Option<&Keys>,
    only: &[Only],
) -> Result<(Keyed, LinesOf), LedgerFault> {
    let (key, condition) = (keys.map_or_else(|| "ARRAY[]::text[]".to_owned(), Keys::array), condition(only));
    // Columns come from a closed list, values are quoted.
    let sql = format!(
        "SELECT {key} AS key, true{condition} AS wanted, day >= $3::date AND day < $4::date AS after, coalesce(workload_namespace, '') AS namespace,
                coalesce(workload_name, '') AS name, line, coalesce(region, '') || ' ' || coalesce(instance_type, '') AS machine, capacity_type,
                sum(gpu_ms)::bigint AS gpu_ms, (sum(cost_usd - true_up_usd) * 1000000)::bigint AS computed, (sum(true_up_usd) * 1000000)::bigint AS true_up,
                (sum(bill_usd) * 1000000)::bigint AS billed
         FROM ledger.share_daily WHERE (day >= $1::date AND day < $2::date) OR (day >= $3::date AND day < $4::date) GROUP BY 1, 2, 3, 4, 5, 6, 7, 8"
    );
    let query = sqlx::query(AssertSqlSafe(sql)).bind(&before.from).bind(&before.to).bind(&after.from).bind(&after.to);
    let rows = query.fetch_all(&mut *connection).await.map_err(LedgerFault::during("read the months"))?;
    let (mut keyed, mut lines) = (Keyed::new(), LinesOf::new());
    // GPU time of each workload and month, whoever is asked for: what it produced is shared by it.
    let mut useful: BTreeMap<(ObjectRef, bool), i64> = BTreeMap::new();
    for row in rows {
        let text = |name: &str| row.try_get::<String, _>(name).unwrap_or_default();
        let figure = |name: &str| row.try_get::<i64, _>(name).unwrap_or_default();
        let flag = |name: &str| row.try_get::<bool, _>(name).unwrap_or_default();
        let workload = ObjectRef { namespace: text("namespace"), name: text("name") };
        let (is_after, line, gpu_ms) = (flag("after"), text("line"), figure("gpu_ms"));
        if line == "pod" {
            *useful.entry((workload.clone(), is_after)).or_default() += gpu_ms;
        }
        if !flag("wanted") {
            continue;
        }
        let computed = MicroUsd(figure("computed"));
        let of_line = &mut lines.entry(workload.clone()).or_default().entry(line.clone()).or_default()[usize::from(is_after)];
        let (cost, billed) = (computed.0 + figure("true_up"), figure("billed"));
        *of_line = of_line.and(OfLine { gpu_ms, computed: computed.0, cost, billed });
        let of_key = keyed.entry(row.try_get("key").unwrap_or_default()).or_default();
        let drivers = &mut of_key.entry(workload).or_default()[usize::from(is_after)];
        drivers.coverage = drivers.coverage + MicroUsd(figure("true_up"));
        match line.as_str() {
            "pod" => {
                let capacity = row.try_get::<Option<String>, _>("capacity_type").ok().flatten();
                let capacity = capacity.as_deref().map_or(CapacityType::OnDemand, capacity_of);
                let used = drivers.useful.entry((text("machine"), capacity)).or_default();
                *used = Use { gpu_ms: used.gpu_ms + gpu_ms, cost: used.cost + computed };
            }
            "idle" => drivers.idle = drivers.idle + computed,
            "egress" => drivers.egress = drivers.egress + computed,
            "overhead" => drivers.overhead = drivers.overhead + computed,
            _ => drivers.moves_and_waste = drivers.moves_and_waste + computed,
        }
    }
    produced(connection, [before, after], &useful, &mut keyed).await?;
    Ok((keyed, lines))
}

/// What workloads produced on our machines in both months. Where a workload belongs to several values of the keys in a month, each has the part of it that it has of the GPU
/// time.
async fn produced(
    connection: &mut PgConnection,
    [before, after]: [&Span; 2],
    useful: &BTreeMap<(ObjectRef, bool), i64>,
    keyed: &mut Keyed,
) -> Result<(), LedgerFault> {
    let produced = sqlx::query!(
        r#"WITH used AS (
             SELECT ledger.utc_day(hour) AS day, workload_namespace AS namespace, workload_name AS name, unit, sum(quantity) AS quantity FROM ledger.usage_by_vendor
             WHERE vendor IS NULL AND ((hour >= ($1::text::date)::timestamp AT TIME ZONE 'UTC' AND hour < ($2::text::date)::timestamp AT TIME ZONE 'UTC')
                OR (hour >= ($3::text::date)::timestamp AT TIME ZONE 'UTC' AND hour < ($4::text::date)::timestamp AT TIME ZONE 'UTC'))
             GROUP BY 1, 2, 3, 4
           ), worked AS (
             SELECT day, workload_namespace AS namespace, workload_name AS name, sum(gpu_ms) AS gpu_ms FROM ledger.share_daily
             WHERE line = 'pod' AND ((day >= $1::text::date AND day < $2::text::date) OR (day >= $3::text::date AND day < $4::text::date)) GROUP BY 1, 2, 3
           )
           SELECT day >= $3::text::date AND day < $4::text::date AS "after!", namespace AS "namespace!", name AS "name!", unit AS "unit!",
                  sum(quantity)::text AS "quantity!", coalesce(sum(gpu_ms), 0)::bigint AS "known!"
           FROM used LEFT JOIN worked USING (day, namespace, name) GROUP BY 1, 2, 3, 4"#,
        before.from,
        before.to,
        after.from,
        after.to
    )
    .fetch_all(connection)
    .await
    .map_err(LedgerFault::during("read what was produced"))?;
    for row in produced {
        let workload = ObjectRef { namespace: row.namespace, name: row.name };
        let (Some(unit), Some(units)) = (UsageUnit::of(&row.unit), micro_units(&row.quantity)) else { continue };
        let whole = useful.get(&(workload.clone(), row.after)).copied().unwrap_or_default();
        let units = whole_month(unit, units, row.known, whole);
        for months in keyed.values_mut() {
            let Some(pair) = months.get_mut(&workload) else { continue };
            let drivers = &mut pair[usize::from(row.after)];
            let part: i64 = drivers.useful.values().map(|used| used.gpu_ms).sum();
            let units = if part == whole { units } else { units * i128::from(part) / i128::from(whole.max(1)) };
            drivers.units.insert(unit, units);
            if unit != UsageUnit::MonthlyUsers && whole > 0 {
                drivers.known_per_mille.insert(unit, row.known * 1_000 / whole);
            }
        }
    }
    Ok(())
}

fn capacity_of(text: &str) -> CapacityType {
    match text {
        "spot" => CapacityType::Spot,
        "reserved" => CapacityType::Reserved,
        _ => CapacityType::OnDemand,
    }
}
