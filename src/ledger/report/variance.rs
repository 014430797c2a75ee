//! Why a month cost other than another, step by step and in words.
//!
//! Decides: the sentence and what is said of each step. Does not: compute a step (see [`crate::core::accounting::variance`]).

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::reasons::Reasons;
use super::{Month, Report, dollars, known_by, signed_dollars, six_decimals};
use crate::core::accounting::variance::{Drivers, Step, Use, bridge};
use crate::core::market::CapacityType;
use crate::core::units::ids::ObjectRef;
use crate::core::units::money::MicroUsd;
use crate::core::units::time::Timestamp;
use crate::core::workload::need::UsageUnit;
use crate::ledger::import::micro_units;
use crate::ledger::store::LedgerFault;

/// What a variance is shown by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum VarianceBy {
    /// The ten steps, over all workloads.
    #[default]
    Step,
    /// Workloads, those that changed most first.
    Workload,
}

/// Both months of each workload.
type Months = BTreeMap<ObjectRef, [Drivers; 2]>;

/// The bridge between two months. Its steps add up to the difference.
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
    now: Timestamp,
) -> Result<Report, LedgerFault> {
    let days = running_days(before, after, now);
    let spans = [before, after].map(|month| Span::of(month, days));
    let months = months(connection, &spans).await?;
    let mut steps: BTreeMap<Step, MicroUsd> = Step::ALL.map(|step| (step, MicroUsd(0))).into();
    for [was, is] in months.values() {
        for (step, amount) in bridge(was, is) {
            *steps.entry(step).or_default() = steps.get(&step).copied().unwrap_or_default() + amount;
        }
    }
    let total = |n: usize| months.values().map(|pair| pair[n].total()).sum::<MicroUsd>();
    let mut sentence = sentence(before, after, total(0), total(1), &steps);
    if let Some(days) = days {
        sentence.push_str(&format!(" {} still runs: the first {days} full days of each month are compared.", before.max(after)));
    }
    if let Some(day) = known_by(connection).await? {
        sentence.push_str(&format!(" So it was known at the end of {day}."));
    }
    match by {
        VarianceBy::Step => {
            let reasons = Reasons::read(connection, &spans, &months, None).await?;
            let columns = ["step", "difference_usd", "why"].map(String::from).to_vec();
            let mut rows = vec![vec![Some(format!("{before}")), Some(six_decimals(total(0))), None]];
            rows.extend(
                steps
                    .into_iter()
                    .map(|(step, amount)| vec![Some(step.as_str().to_owned()), Some(six_decimals(amount)), Some(reasons.of(step, amount))]),
            );
            rows.push(vec![Some(format!("{after}")), Some(six_decimals(total(1))), None]);
            Ok(Report { sentence, columns, rows })
        }
        VarianceBy::Workload => {
            let rows = by_workload(connection, &spans, &months).await?;
            Ok(Report { sentence, columns: WORKLOAD_COLUMNS.map(String::from).to_vec(), rows })
        }
    }
}

const WORKLOAD_COLUMNS: [&str; 6] = ["workload", "before_usd", "after_usd", "difference_usd", "mostly", "why"];
/// For how many workloads, those that changed most, it is said why.
const EXPLAINED: usize = 20;

/// Workloads, those that changed most first, each with its largest step and what stands behind that step in this workload alone.
async fn by_workload(connection: &mut PgConnection, spans: &[Span; 2], months: &Months) -> Result<Vec<Vec<Option<String>>>, LedgerFault> {
    let mut found: Vec<(MicroUsd, &ObjectRef, Option<(Step, MicroUsd)>)> = Vec::new();
    for (workload, [was, is]) in months {
        let largest = bridge(was, is).into_iter().max_by_key(|(step, amount)| (amount.0.abs(), std::cmp::Reverse(*step)));
        found.push((is.total() - was.total(), workload, largest.filter(|(_, amount)| amount.0 != 0)));
    }
    found.sort_by_key(|(difference, workload, _)| (std::cmp::Reverse(difference.0.abs()), *workload));
    let mut rows = Vec::new();
    for (n, (difference, workload, largest)) in found.into_iter().enumerate() {
        let name = match (workload.namespace.as_str(), workload.name.as_str()) {
            ("", "") => "(none)".to_owned(),
            ("", item) => item.to_owned(),
            _ => workload.to_string(),
        };
        let why = match largest {
            Some((step, amount)) if n < EXPLAINED => Some(Reasons::read(connection, spans, months, Some(workload)).await?.of(step, amount)),
            _ => None,
        };
        let totals = months.get(workload).map(|pair| [pair[0].total(), pair[1].total()]).unwrap_or_default();
        let mostly = largest.map(|(step, amount)| format!("{} {}", step.as_str(), signed_dollars(amount)));
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

fn sentence(before: &Month, after: &Month, was: MicroUsd, is: MicroUsd, steps: &BTreeMap<Step, MicroUsd>) -> String {
    let difference = is - was;
    if was == MicroUsd(0) && is == MicroUsd(0) {
        return format!("Neither {before} nor {after} has any spend.");
    }
    let (word, largest) = if difference.0 >= 0 {
        ("more", steps.iter().max_by_key(|(step, amount)| (amount.0, std::cmp::Reverse(**step))))
    } else {
        ("less", steps.iter().min_by_key(|(step, amount)| (amount.0, **step)))
    };
    let percent = if was.0 > 0 { format!(" ({:+.1} %)", (difference.0 * 1_000 / was.0) as f64 / 10.0) } else { String::new() };
    let mostly = largest
        .filter(|(_, amount)| amount.0 != 0)
        .map_or_else(String::new, |(step, amount)| format!("; mostly {} ({})", step.as_str(), signed_dollars(*amount)));
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

async fn months(connection: &mut PgConnection, [before, after]: &[Span; 2]) -> Result<Months, LedgerFault> {
    let doing = LedgerFault::during;
    let rows = sqlx::query!(
        r#"SELECT day >= $3::text::date AND day < $4::text::date AS "after!", coalesce(workload_namespace, '') AS "namespace!",
                  coalesce(workload_name, '') AS "name!", line AS "line!", coalesce(region, '') || ' ' || coalesce(instance_type, '') AS "machine!", capacity_type,
                  sum(gpu_ms)::bigint AS "gpu_ms!", (sum(cost_usd - true_up_usd) * 1000000)::bigint AS "computed!", (sum(true_up_usd) * 1000000)::bigint AS "true_up!"
           FROM ledger.share_daily
           WHERE (day >= $1::text::date AND day < $2::text::date) OR (day >= $3::text::date AND day < $4::text::date)
           GROUP BY 1, 2, 3, 4, 5, 6"#,
        before.from,
        before.to,
        after.from,
        after.to
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(doing("read the months"))?;
    let mut months = Months::new();
    for row in rows {
        let workload = ObjectRef { namespace: row.namespace, name: row.name };
        let drivers = &mut months.entry(workload).or_default()[usize::from(row.after)];
        let computed = MicroUsd(row.computed);
        drivers.coverage = drivers.coverage + MicroUsd(row.true_up);
        match row.line.as_str() {
            "pod" => {
                let capacity = row.capacity_type.as_deref().map_or(CapacityType::OnDemand, capacity_of);
                let used = drivers.useful.entry((row.machine, capacity)).or_default();
                *used = Use { gpu_ms: used.gpu_ms + row.gpu_ms, cost: used.cost + computed };
            }
            "idle" => drivers.idle = drivers.idle + computed,
            "egress" => drivers.egress = drivers.egress + computed,
            "overhead" => drivers.overhead = drivers.overhead + computed,
            _ => drivers.moves_and_waste = drivers.moves_and_waste + computed,
        }
    }
    let produced = sqlx::query!(
        r#"SELECT hour >= ($3::text::date)::timestamp AT TIME ZONE 'UTC' AND hour < ($4::text::date)::timestamp AT TIME ZONE 'UTC' AS "after!",
                  workload_namespace AS "namespace!", workload_name AS "name!", unit AS "unit!", sum(quantity)::text AS "quantity!"
           FROM ledger.usage
           WHERE (hour >= ($1::text::date)::timestamp AT TIME ZONE 'UTC' AND hour < ($2::text::date)::timestamp AT TIME ZONE 'UTC')
              OR (hour >= ($3::text::date)::timestamp AT TIME ZONE 'UTC' AND hour < ($4::text::date)::timestamp AT TIME ZONE 'UTC')
           GROUP BY 1, 2, 3, 4"#,
        before.from,
        before.to,
        after.from,
        after.to
    )
    .fetch_all(connection)
    .await
    .map_err(doing("read what was produced"))?;
    for row in produced {
        let workload = ObjectRef { namespace: row.namespace, name: row.name };
        if let (Some(pair), Some(unit), Some(units)) = (months.get_mut(&workload), UsageUnit::of(&row.unit), micro_units(&row.quantity)) {
            pair[usize::from(row.after)].units.insert(unit, units);
        }
    }
    Ok(months)
}

fn capacity_of(text: &str) -> CapacityType {
    match text {
        "spot" => CapacityType::Spot,
        "reserved" => CapacityType::Reserved,
        _ => CapacityType::OnDemand,
    }
}
