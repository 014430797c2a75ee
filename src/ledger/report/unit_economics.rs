//! What AI costs by endpoint, by model or by month: per request, per 1,000 tokens in and out, per active user; of what it earned; and what is left.
//!
//! Decides: the sentence. Does not: compute (the views do, of days that are over).

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row};

use super::{Days, Report, ask_with, dollars, with_day_of_knowledge};
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

/// Only what has this label, workload or model, as `--only team=search`. Several of one key are one or the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EconomicsOnly {
    key: &'static str,
    value: String,
}

/// What unit economics can be filtered by.
const FILTERS: [&str; 8] = ["team", "service", "environment", "cost_center", "product_area", "component", "workload", "model"];

impl std::str::FromStr for EconomicsOnly {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("expected one of {} and its value, as in team=search or model=gpt-5", FILTERS.join(", "));
        let (key, value) = text.split_once('=').ok_or_else(expected)?;
        // An endpoint is a workload.
        let key = if key == "endpoint" { "workload".to_owned() } else { key.replace('-', "_") };
        let key = FILTERS.into_iter().find(|filter| *filter == key).ok_or_else(expected)?;
        Ok(EconomicsOnly { key, value: value.to_owned() })
    }
}

/// Filters for the views' functions, by key its values; and the models.
fn filters(only: &[EconomicsOnly]) -> (String, Vec<String>) {
    let mut wanted: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for only in only.iter().filter(|only| only.key != "model") {
        wanted.entry(only.key).or_default().push(&only.value);
    }
    let models = only.iter().filter(|only| only.key == "model").map(|only| only.value.clone()).collect();
    (serde_json::json!(wanted).to_string(), models)
}

/// Unit economics cannot be shown this way.
#[derive(Debug, thiserror::Error)]
pub enum EconomicsFault {
    /// The keys or filters do not go together.
    #[error("{0}")]
    Keys(&'static str),
    /// The ledger could not be used.
    #[error(transparent)]
    Ledger(#[from] LedgerFault),
}

const FROM: &str = "coalesce($1::date, (now() AT TIME ZONE 'UTC')::date - 30)";
const TO: &str = "coalesce($2::date, (now() AT TIME ZONE 'UTC')::date)";

/// Unit economics of these days, by one of endpoint, model and percentiles, or by month, or by month and one of them.
///
/// # Errors
/// [`EconomicsFault`] when keys do not go together, or Postgres refuses or does not answer.
pub async fn unit_economics(
    connection: &mut PgConnection,
    days: &Days,
    by: &[EconomicsBy],
    only: &[EconomicsOnly],
) -> Result<Report, EconomicsFault> {
    let (wanted, models) = filters(only);
    let monthly = by.contains(&EconomicsBy::Month);
    let mut kinds: Vec<EconomicsBy> = by.iter().copied().filter(|by| *by != EconomicsBy::Month).collect();
    kinds.dedup();
    let kind = match (kinds.as_slice(), monthly) {
        ([], true) => EconomicsBy::Month,
        ([], false) => EconomicsBy::Endpoint,
        ([kind], _) => *kind,
        _ => {
            return Err(EconomicsFault::Keys(
                "expected one of endpoint, model and percentiles, alone or with month: they describe different things",
            ));
        }
    };
    if !models.is_empty() && matches!(kind, EconomicsBy::Month | EconomicsBy::Percentiles) {
        return Err(EconomicsFault::Keys(
            "a month and percentiles are of all models: expected --by model or --by endpoint (with month, if you like), or no model to filter by",
        ));
    }
    let (function, columns, order) = shown(kind, !models.is_empty());
    let of_models = if function == "unit_economics_of_models" { ", $4::text[]" } else { "" };
    let of_model = if kind == EconomicsBy::Model && !models.is_empty() { "e.model = ANY($4)" } else { "true" };
    // Of each month the days that are asked for.
    let sql = if monthly {
        format!(
            "SELECT to_char(m.month, 'YYYY-MM') AS month, {columns}
             FROM generate_series(date_trunc('month', {FROM}::timestamp), {TO}::timestamp - interval '1 day', interval '1 month') m(month)
             CROSS JOIN LATERAL ledger.{function}(greatest(m.month::date, {FROM}), least((m.month + interval '1 month')::date, {TO}), $3::jsonb{of_models}) e
             WHERE {of_model} AND $4::text[] IS NOT NULL ORDER BY m.month, {order}"
        )
    } else {
        format!(
            "SELECT {columns} FROM ledger.{function}({FROM}, {TO}, $3::jsonb{of_models}) e WHERE {of_model} AND $4::text[] IS NOT NULL ORDER BY {order}"
        )
    };
    let mut report = ask_with(connection, sql, days, |query| query.bind(wanted.clone()).bind(models.clone())).await?;
    report.sentence = sentence(connection, days, &wanted).await?;
    if kind != EconomicsBy::Month {
        report.sentence.push_str(&without_cost(connection, days, &wanted).await?);
        report.sentence.push_str(&without_vendor_bill(connection, days, &wanted).await?);
    }
    if kind == EconomicsBy::Model || !models.is_empty() {
        report.sentence.push_str(&rests_on(connection, days, &wanted).await?);
        let known = known_by_model(connection, days, &wanted).await?;
        if let Some((known, whole)) = known.filter(|(known, whole)| known != whole && whole.0 > 0) {
            report.sentence.push_str(&format!(
                " By model {} is known of the {} that these endpoints cost ({} %): hours whose usage is not known are left out.",
                dollars(known),
                dollars(whole),
                per_cent_of(known, whole)
            ));
        }
    }
    if !only.iter().all(|only| only.key != "model") {
        let of_models: MicroUsd = report.rows.iter().filter_map(|row| report.figure::<MicroUsd>(row, "cost_usd")).sum();
        report
            .sentence
            .push_str(&format!(" Of the hours whose usage is known by model, {} is for the models asked for.", dollars(of_models)));
    }
    Ok(with_day_of_knowledge(connection, report).await?)
}

/// The views' function that answers, what of it is shown, and in which order; `of_models` says that some models are asked for.
fn shown(kind: EconomicsBy, of_models: bool) -> (&'static str, String, &'static str) {
    let six = |names: &[&str]| names.iter().map(|name| format!("e.{name}::numeric(24,6)::text AS {name}")).collect::<Vec<_>>().join(", ");
    let plain = |names: &[&str]| names.iter().map(|name| format!("trim_scale(e.{name})::text AS {name}")).collect::<Vec<_>>().join(", ");
    let what_for = ["machines_usd", "vendor_api_usd", "transfer_usd", "storage_usd", "other_usd"];
    let parts = six(&what_for.into_iter().chain(["cost_usd"]).collect::<Vec<_>>());
    // After what there was before: files are read by position too.
    let billed_and_parts = six(&["billed_usd"].into_iter().chain(what_for).collect::<Vec<_>>());
    let per_token = ["usd_per_1000_tokens_in", "usd_per_1000_tokens_out", "usd_per_1000_tokens"];
    let shares = ["requests_coverage_percent", "tokens_coverage_percent"];
    let per_token_and_share: Vec<&str> = per_token.into_iter().chain(shares).collect();
    match kind {
        EconomicsBy::Endpoint if of_models => (
            "unit_economics_of_models",
            format!(
                "e.workload_namespace || '/' || e.workload_name AS endpoint, {}, e.cost_percent_of_models::text, {}, {}, {}",
                six(&["cost_usd"]),
                plain(&["requests", "tokens_in", "tokens_out", "usd_per_request"]),
                plain(&per_token_and_share),
                billed_and_parts
            ),
            "e.cost_usd DESC, e.workload_namespace, e.workload_name",
        ),
        EconomicsBy::Endpoint => (
            "unit_economics_of",
            format!(
                "coalesce(e.workload_namespace || '/' || e.workload_name, '(no endpoint named)') AS endpoint, {parts}, {}, {}, {}, {}, e.cost_percent_of_revenue::text, e.revenue_coverage_percent::text, {}",
                plain(&["requests", "tokens_in", "tokens_out", "monthly_users", "usd_per_request"]),
                plain(&per_token),
                plain(&["usd_per_user", "requests_coverage_percent", "tokens_coverage_percent", "users_coverage_percent"]),
                six(&["revenue_usd", "margin_usd"]),
                plain(&["requests_costed_percent", "tokens_costed_percent"])
            ),
            "e.cost_usd DESC, e.workload_namespace, e.workload_name",
        ),
        EconomicsBy::Model => (
            "unit_economics_by_model_of",
            format!(
                "e.model, e.endpoints::text, {}, {}, {}, {}",
                six(&["cost_usd"]),
                plain(&["requests", "tokens_in", "tokens_out", "usd_per_request"]),
                plain(&per_token_and_share),
                billed_and_parts
            ),
            "e.cost_usd DESC, e.model",
        ),
        EconomicsBy::Month => (
            "ai_cost_month_of",
            format!(
                "{parts}, {}, e.cost_percent_of_revenue::text, e.margin_percent::text, e.revenue_coverage_percent::text",
                six(&["revenue_usd", "margin_usd"])
            ),
            "e.month",
        ),
        EconomicsBy::Percentiles => (
            "unit_cost_percentiles_of",
            format!("e.unit, {}, e.endpoint_hours::text", plain(&["units", "mean", "p50", "p95", "p99", "coverage_percent"])),
            "e.unit",
        ),
    }
}

/// Percent with one decimal.
fn per_cent_of(part: MicroUsd, whole: MicroUsd) -> String {
    format!("{:.1}", part.0 as f64 * 100.0 / whole.0 as f64)
}

/// What the costs of models rest on: on bills that name the model, or on tokens. Says which billed models nobody used as far as is known.
async fn rests_on(connection: &mut PgConnection, days: &Days, wanted: &str) -> Result<String, LedgerFault> {
    let sql = format!(
        "WITH hours AS MATERIALIZED (SELECT * FROM ledger.model_hours({FROM}, {TO}, $3::jsonb)),
              unused AS (SELECT b.model, sum(b.cost_usd) AS cost FROM ledger.billed_models({FROM}, {TO}, $3::jsonb) b
                         WHERE NOT EXISTS (SELECT FROM hours h WHERE (h.workload_namespace, h.workload_name, h.model) = (b.workload_namespace, b.workload_name, b.model)
                                             AND ledger.utc_day(h.hour) = b.day) GROUP BY 1 HAVING sum(b.cost_usd) <> 0)
         SELECT (coalesce(sum(billed_usd), 0) * 1000000)::bigint AS billed, (coalesce(sum(cost_usd - billed_usd), 0) * 1000000)::bigint AS shared,
                (SELECT (coalesce(sum(cost), 0) * 1000000)::bigint FROM unused) AS unused, (SELECT string_agg(model, ', ' ORDER BY model) FROM unused) AS models
         FROM hours"
    );
    let row = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&days.from).bind(&days.to).bind(wanted).fetch_one(connection).await;
    let row = row.map_err(LedgerFault::during("see what the costs of models rest on"))?;
    let usd = |name: &str| MicroUsd(row.get::<i64, _>(name));
    let (billed, shared, unused) = (usd("billed"), usd("shared"), usd("unused"));
    let mut sentence = if billed == MicroUsd(0) {
        " A model's cost is a share of its endpoint's by tokens, whatever the vendor charges for each model: no bill names one.".to_owned()
    } else {
        format!(
            " {} is what vendors' bills name these models for; {} is a share of their endpoints' other cost by tokens, among the models that no bill of the day \
             names, or among all of them where each is named.",
            dollars(billed),
            dollars(shared)
        )
    };
    if let Some(models) = row.get::<Option<String>, _>("models") {
        sentence.push_str(&format!(
            " {} is billed for models of whose usage nothing is known on the day ({models}), and is in no model's cost: is the name the one that usage has?",
            dollars(unused)
        ));
    }
    Ok(sentence)
}

/// How much of what endpoints with usage by model cost lies in hours whose usage is known: what each figure of a model rests on. `None` where there is no
/// such endpoint.
async fn known_by_model(connection: &mut PgConnection, days: &Days, wanted: &str) -> Result<Option<(MicroUsd, MicroUsd)>, LedgerFault> {
    let sql = format!(
        "WITH known AS (SELECT workload_namespace, workload_name, sum(cost_usd) AS cost FROM ledger.model_hours({FROM}, {TO}, $3::jsonb) GROUP BY 1, 2)
         SELECT (sum(k.cost) * 1000000)::bigint AS known, (sum(c.cost) * 1000000)::bigint AS whole
         FROM known k JOIN (SELECT workload_namespace, workload_name, sum(cost_usd) AS cost FROM ledger.ai_cost_of({FROM}, {TO}, $3::jsonb) GROUP BY 1, 2) c
              USING (workload_namespace, workload_name)"
    );
    let row = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&days.from).bind(&days.to).bind(wanted).fetch_one(connection).await;
    let row = row.map_err(LedgerFault::during("see what is known by model"))?;
    let usd = |name: &str| row.get::<Option<i64>, _>(name).map(MicroUsd);
    Ok(usd("known").zip(usd("whole")))
}

/// What it comes to in all, of these days.
async fn sentence(connection: &mut PgConnection, days: &Days, wanted: &str) -> Result<String, LedgerFault> {
    let sum = |name: &str| format!("(coalesce(sum({name}), 0) * 1000000)::bigint AS {name}");
    let sums = ["machines_usd", "vendor_api_usd", "transfer_usd", "storage_usd", "other_usd", "cost_usd"].map(sum).join(", ");
    let sql = format!(
        "WITH earned AS MATERIALIZED (SELECT * FROM ledger.revenue_of({FROM}, {TO}, $3::jsonb))
         SELECT {sums}, ledger.open_day()::text AS open_day, {TO} > ledger.open_day() AS is_cut, {FROM} >= ledger.open_day() AS none_is_over, (coalesce(sum(cost_usd) FILTER (WHERE workload_namespace = ''), 0) * 1000000)::bigint AS unnamed,
                (SELECT (sum(revenue_usd) * 1000000)::bigint FROM earned) AS revenue,
                (coalesce(sum(cost_usd) FILTER (WHERE EXISTS (SELECT FROM earned e WHERE date_trunc('month', e.day) = c.month
                    AND e.workload_namespace = c.workload_namespace AND e.workload_name = c.workload_name)), 0) * 1000000)::bigint AS of_earning
         FROM ledger.ai_cost_of({FROM}, {TO}, $3::jsonb) c"
    );
    let row = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&days.from).bind(&days.to).bind(wanted).fetch_one(connection).await;
    let row = row.map_err(LedgerFault::during("add up what AI cost"))?;
    let usd = |name: &str| MicroUsd(row.get::<i64, _>(name));
    let open_day: String = row.get("open_day");
    if row.get("none_is_over") {
        return Ok(format!("Of these days none is over: {open_day} still runs, and only full days are counted."));
    }
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
            if usd("of_earning").0 != cost {
                let percent = per_cent_of(usd("of_earning"), usd("cost_usd"));
                sentence.push_str(&format!(" Revenue is known for the workloads and months of {percent} % of the cost."));
            }
        }
        None => sentence.push_str(" What was earned is not known: import revenue to see the margin."),
    }
    if usd("unnamed") != MicroUsd(0) {
        sentence.push_str(&format!(" {} of it names no endpoint and is in no cost per unit.", dollars(usd("unnamed"))));
    }
    if row.get("is_cut") {
        sentence.push_str(&format!(" Only days that are over are counted: those before {open_day}."));
    }
    Ok(sentence)
}

/// Which share of the requests and tokens fell into hours for which a cost is posted, where it is not all of them.
async fn without_cost(connection: &mut PgConnection, days: &Days, wanted: &str) -> Result<String, LedgerFault> {
    let sql = format!(
        "SELECT unit, round(100 * coalesce(sum(quantity) FILTER (WHERE cost_usd IS NOT NULL), 0) / sum(quantity), 1)::text AS percent
         FROM ledger.hourly_units({FROM}, {TO}, $3::jsonb) WHERE unit IN ('requests', 'tokens') GROUP BY unit
         HAVING sum(quantity) FILTER (WHERE cost_usd IS NULL) > 0 ORDER BY unit"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&days.from).bind(&days.to).bind(wanted).fetch_all(connection).await;
    let rows = rows.map_err(LedgerFault::during("see which usage has no cost"))?;
    let share = |row: &sqlx::postgres::PgRow| format!("{} % of the {}", row.get::<String, _>("percent"), row.get::<String, _>("unit"));
    let shares: Vec<String> = rows.iter().map(share).collect();
    if shares.is_empty() {
        return Ok(String::new());
    }
    Ok(format!(" {} fell into hours for which a cost is posted; the others are in no cost per unit.", shares.join(" and ")))
}

/// What vendors produced on days for which they have no bill yet: it is in no cost per unit.
async fn without_vendor_bill(connection: &mut PgConnection, days: &Days, wanted: &str) -> Result<String, LedgerFault> {
    let sql = format!(
        "WITH open AS MATERIALIZED (
             SELECT u.* FROM ledger.usage_of({FROM}::timestamp AT TIME ZONE 'UTC', least({TO}, ledger.open_day())::timestamp AT TIME ZONE 'UTC') u
             WHERE u.unbilled > 0 AND ($3::jsonb = '{{}}' OR (u.workload_namespace, u.workload_name) IN (
                 SELECT workload_namespace, workload_name FROM ledger.ai_cost_of({FROM}, {TO}, $3::jsonb)))
         )
         SELECT k.kind, round(sum(o.unbilled))::text AS units, count(DISTINCT ledger.utc_day(o.hour)) AS days,
                string_agg(DISTINCT array_to_string(o.vendors, ' and '), ' and ') AS vendors
         FROM open o JOIN (VALUES ('requests', 'requests'), ('tokens', 'tokens'), ('tokens', 'tokens_in'), ('tokens', 'tokens_out')) AS k(kind, unit) USING (unit)
         WHERE o.unit NOT IN ('tokens_in', 'tokens_out') OR NOT EXISTS (
             SELECT FROM open t WHERE t.unit = 'tokens' AND (t.hour, t.workload_namespace, t.workload_name) = (o.hour, o.workload_namespace, o.workload_name))
         GROUP BY 1 ORDER BY 1"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&days.from).bind(&days.to).bind(wanted).fetch_all(connection).await;
    let rows = rows.map_err(LedgerFault::during("see what vendors have not billed yet"))?;
    let units: Vec<String> = rows.iter().map(|row| super::unit_cost::without_a_bill(row, row.get("kind"))).collect();
    if units.is_empty() {
        return Ok(String::new());
    }
    Ok(format!(" Not included: {}, since what they cost is not known yet.", units.join(" and ")))
}
