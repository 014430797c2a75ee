//! FOCUS 1.2: our share of the bill in the FinOps Foundation's format, and a validator of our own.
//!
//! Decides: what each column holds, and which rules a file must keep (see [`rules`]). The public validator passes wrong values (a
//! PricingCategory "Spot", a ListCost that is no product): ours has to catch them.
//! Does not: compute the rows (the view `focus_1_2` does).

mod decimal;
pub mod rules;
mod validate;

pub use validate::{Finding, ValidateFault, validate};

use std::path::Path;

use futures::TryStreamExt;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::report::Days;
use super::store::LedgerFault;
use super::table_file::{Column, Format, Kind, TableFileFault, TableWriter};

/// The view could not be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportFault {
    /// Postgres.
    #[error(transparent)]
    Ledger(#[from] LedgerFault),
    /// The file.
    #[error(transparent)]
    File(#[from] TableFileFault),
}

/// Columns of the view `focus_1_2`, in order.
pub fn columns() -> Vec<Column> {
    let kind = |name: &str| match name {
        "BilledCost"
        | "ConsumedQuantity"
        | "ContractedCost"
        | "ContractedUnitPrice"
        | "EffectiveCost"
        | "ListCost"
        | "ListUnitPrice"
        | "PricingQuantity"
        | "CommitmentDiscountQuantity"
        | "PricingCurrencyContractedUnitPrice"
        | "PricingCurrencyEffectiveCost"
        | "PricingCurrencyListUnitPrice"
        | "x_BaselineCost"
        | "x_NetSavings" => Kind::Decimal,
        "BillingPeriodEnd" | "BillingPeriodStart" | "ChargePeriodEnd" | "ChargePeriodStart" => Kind::Time,
        _ => Kind::Text,
    };
    rules::OURS.into_iter().map(|name| Column { name: name.to_owned(), kind: kind(name) }).collect()
}

/// Writes the rows of these days to a file; gives how many. `account` is the AWS account of rows whose bill is not imported.
///
/// # Errors
/// [`ExportFault`].
pub async fn export(
    connection: &mut PgConnection,
    days: &Days,
    account: Option<&str>,
    path: &Path,
    format: Format,
) -> Result<u64, ExportFault> {
    let doing = LedgerFault::during;
    if let Some(account) = account {
        let set = sqlx::query("SELECT set_config('lowtide.billing_account', $1, false)").bind(account).execute(&mut *connection);
        set.await.map_err(doing("set the billing account"))?;
    }
    let columns = columns();
    let select: Vec<String> = columns
        .iter()
        .map(|column| match column.kind {
            Kind::Decimal => format!("trim_scale(\"{0}\")::text AS \"{0}\"", column.name),
            _ => format!("\"{0}\" AS \"{0}\"", column.name),
        })
        .collect();
    // Columns come from the constants in `rules`; the days are bound.
    let sql = format!(
        "SELECT {} FROM ledger.focus_of(coalesce($1::date, (now() AT TIME ZONE 'UTC')::date - 30)::timestamp AT TIME ZONE 'UTC',
                                        coalesce($2::date, (now() AT TIME ZONE 'UTC')::date + 1)::timestamp AT TIME ZONE 'UTC')",
        select.join(", ")
    );
    let mut writer = TableWriter::create(path, columns, format)?;
    let mut rows = sqlx::query(AssertSqlSafe(sql)).bind(&days.from).bind(&days.to).fetch(connection);
    let mut count = 0;
    while let Some(row) = rows.try_next().await.map_err(doing("read the view"))? {
        let value = |at: usize| row.try_get::<Option<String>, _>(at).map_err(doing("read a value"));
        writer.add((0..row.len()).map(value).collect::<Result<_, _>>()?)?;
        count += 1;
    }
    writer.finish()?;
    Ok(count)
}
