//! What AI costs by endpoint, by model or by month: per request, per 1,000 tokens in and out, per active user; of what it earned; and what is left.
//!
//! Decides: the sentence. Does not: compute (the views do).

use sqlx::{PgConnection, Row};

use super::{Days, Report, ask, dollars, with_day_of_knowledge};
use crate::core::units::money::MicroUsd;
use crate::ledger::store::LedgerFault;

/// What unit economics are shown by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum EconomicsBy {
    /// Workloads: what serves requests, on our machines or at a vendor.
    #[default]
    Endpoint,
    /// Models, as usage files name them.
    Model,
    /// Calendar months.
    Month,
    /// Percentiles of each unit over endpoints and hours.
    Percentiles,
}

const FROM: &str = "coalesce($1::date, (now() AT TIME ZONE 'UTC')::date - 30)";
const TO: &str = "coalesce($2::date, (now() AT TIME ZONE 'UTC')::date + 1)";

/// Unit economics of these days. Months are those whose first day lies in them.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn unit_economics(connection: &mut PgConnection, days: &Days, by: EconomicsBy) -> Result<Report, LedgerFault> {
    let six = |names: &[&str]| names.iter().map(|name| format!("{name}::numeric(24,6)::text AS {name}")).collect::<Vec<_>>().join(", ");
    let plain = |names: &[&str]| names.iter().map(|name| format!("trim_scale({name})::text AS {name}")).collect::<Vec<_>>().join(", ");
    let parts = six(&["machines_usd", "vendor_api_usd", "transfer_usd", "storage_usd", "other_usd", "cost_usd"]);
    let sql = match by {
        EconomicsBy::Endpoint => format!(
            "SELECT coalesce(workload_namespace || '/' || workload_name, '(no endpoint named)') AS endpoint, {parts}, {}, {}
             FROM ledger.unit_economics_of({FROM}, {TO}) ORDER BY unit_economics_of.cost_usd DESC, 1",
            plain(&[
                "requests",
                "tokens_in",
                "tokens_out",
                "monthly_users",
                "usd_per_request",
                "usd_per_1000_tokens_in",
                "usd_per_1000_tokens_out",
                "usd_per_1000_tokens",
                "usd_per_user",
                "coverage_percent"
            ]),
            six(&["revenue_usd", "margin_usd"]) + ", cost_percent_of_revenue::text"
        ),
        EconomicsBy::Model => format!(
            "SELECT model, endpoints::text, {}, {} FROM ledger.unit_economics_by_model_of({FROM}, {TO}) ORDER BY unit_economics_by_model_of.cost_usd DESC, 1",
            six(&["cost_usd"]),
            plain(&[
                "requests",
                "tokens_in",
                "tokens_out",
                "usd_per_request",
                "usd_per_1000_tokens_in",
                "usd_per_1000_tokens_out",
                "usd_per_1000_tokens"
            ])
        ),
        EconomicsBy::Month => format!(
            "SELECT to_char(month, 'YYYY-MM') AS month, {parts}, {}, cost_percent_of_revenue::text, margin_percent::text
             FROM ledger.ai_cost_month WHERE ai_cost_month.month >= {FROM} AND ai_cost_month.month < {TO} ORDER BY 1",
            six(&["revenue_usd", "margin_usd"])
        ),
        EconomicsBy::Percentiles => format!(
            "SELECT unit, {}, endpoint_hours::text FROM ledger.unit_cost_percentiles_of({FROM}, {TO}) ORDER BY 1",
            plain(&["units", "mean", "p50", "p95", "p99"])
        ),
    };
    let mut report = ask(connection, sql, days).await?;
    report.sentence = sentence(connection, days).await?;
    with_day_of_knowledge(connection, report).await
}

/// What it comes to in all, of these days.
async fn sentence(connection: &mut PgConnection, days: &Days) -> Result<String, LedgerFault> {
    let sum = |name: &str| format!("(coalesce(sum({name}), 0) * 1000000)::bigint AS {name}");
    let sums = ["machines_usd", "vendor_api_usd", "transfer_usd", "storage_usd", "other_usd", "cost_usd"].map(sum).join(", ");
    let sql = format!(
        "SELECT {sums}, (coalesce(sum(cost_usd) FILTER (WHERE workload_namespace = ''), 0) * 1000000)::bigint AS unnamed,
                (SELECT (sum(revenue_usd) * 1000000)::bigint FROM ledger.revenue WHERE day >= {FROM} AND day < {TO}) AS revenue
         FROM ledger.ai_cost_of({FROM}, {TO})"
    );
    let row = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&days.from).bind(&days.to).fetch_one(connection).await;
    let row = row.map_err(LedgerFault::during("add up what AI cost"))?;
    let usd = |name: &str| MicroUsd(row.get::<i64, _>(name));
    if usd("cost_usd") == MicroUsd(0) {
        return Ok("No spend is recorded for these days.".into());
    }
    let mut sentence = format!(
        "AI cost {}: machines {}, vendors' APIs {}, data transfer {}, storage {}, other {}.",
        dollars(usd("cost_usd")),
        dollars(usd("machines_usd")),
        dollars(usd("vendor_api_usd")),
        dollars(usd("transfer_usd")),
        dollars(usd("storage_usd")),
        dollars(usd("other_usd"))
    );
    match row.get::<Option<i64>, _>("revenue").filter(|revenue| *revenue > 0) {
        Some(revenue) => {
            let cost = usd("cost_usd").0;
            let per_mille = (i128::from(cost) * 1_000 + i128::from(revenue) / 2) / i128::from(revenue);
            sentence.push_str(&format!(
                " That is {}.{} % of the {} earned, and leaves {}.",
                per_mille / 10,
                (per_mille % 10).abs(),
                dollars(MicroUsd(revenue)),
                dollars(MicroUsd(revenue - cost))
            ));
        }
        None => sentence.push_str(" What was earned is not known: import revenue to see the margin."),
    }
    if usd("unnamed") != MicroUsd(0) {
        sentence.push_str(&format!(" {} of it names no endpoint and is in no cost per unit.", dollars(usd("unnamed"))));
    }
    Ok(sentence)
}
