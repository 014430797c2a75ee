//! The Cost and Usage Report: CUR 2.0 as CSV; older reports with `lineItem/...` names as well.
//!
//! Decides: which lines are about instances and of which kind, and which amount holds when a commitment paid.
//! Sources: AWS Data Exports user guide, "CUR 2.0" and "Line item columns".
//!
//! Lines that are not about an EC2 instance are left out and counted: a report holds the whole account.

use std::path::{Path, PathBuf};

use sqlx::PgConnection;

use super::lines::{BillImport, ImportedLine, LineKey, store};
use super::table::{Line, each_csv_line};
use super::{ImportFault, Taken, text_of};
use crate::core::units::money::BilledUsd;
use crate::core::units::time::Millis;

const REQUIRED: [&str; 7] = [
    "line_item_line_item_type",
    "line_item_resource_id",
    "line_item_usage_type",
    "line_item_usage_start_date",
    "line_item_usage_end_date",
    "line_item_usage_amount",
    "line_item_unblended_cost",
];
/// Hours are read as units of 10^-10.
const HOUR_UNITS: i128 = 10_000_000_000;
const HOUR_MS: i128 = 3_600_000;

/// Takes the files of a report, all of them at once: lines that belong together may be spread over files.
///
/// # Errors
/// [`ImportFault`]; then nothing was taken.
pub async fn import_cur(connection: &mut PgConnection, paths: &[PathBuf]) -> Result<(BillImport, Taken), ImportFault> {
    let mut import = BillImport::default();
    for path in paths {
        read(path, &text_of(path)?, &mut import)?;
    }
    let taken = store(connection, &import).await?;
    Ok((import, taken))
}

fn read(path: &Path, text: &str, import: &mut BillImport) -> Result<(), ImportFault> {
    each_csv_line(path, text, &REQUIRED, |line| {
        match read_line(line)? {
            Some((key, line)) => import.add(key, line),
            None => import.left_out += 1,
        }
        Ok(())
    })
}

/// `None` for what is not about an instance, and for lines that only move money between others (Savings Plan negations, fees, taxes).
fn read_line(line: &Line) -> Result<Option<(LineKey, ImportedLine)>, ImportFault> {
    let Some(instance) = line.get("line_item_resource_id").filter(|id| id.starts_with("i-")) else { return Ok(None) };
    let usage_type = line.get("line_item_usage_type").unwrap_or_default();
    let line_type = line.need("line_item_line_item_type", "a type, as in Usage")?;
    let machine = ["SpotUsage", "BoxUsage", "DedicatedUsage"].iter().any(|word| usage_type.contains(word));
    let (kind, amount) = match line_type {
        "Usage" if usage_type.contains("Bytes") => ("transfer", "line_item_unblended_cost"),
        "Usage" if machine => ("usage", "line_item_unblended_cost"),
        "SavingsPlanCoveredUsage" if machine => ("commitment", "savings_plan_savings_plan_effective_cost"),
        "DiscountedUsage" if machine => ("commitment", "reservation_effective_cost"),
        "Credit" | "Refund" => ("adjustment", "line_item_unblended_cost"),
        kind if kind.ends_with("Discount") => ("adjustment", "line_item_unblended_cost"),
        _ => return Ok(None),
    };
    if let Some(currency) = line.get("line_item_currency_code").filter(|currency| *currency != "USD") {
        return Err(line.fault("line_item_currency_code", currency, "USD: the ledger holds US dollars only"));
    }
    let (from, to) = (line.time("line_item_usage_start_date")?, line.time("line_item_usage_end_date")?);
    if to <= from {
        return Err(line.fault(
            "line_item_usage_end_date",
            line.get("line_item_usage_end_date").unwrap_or_default(),
            "a time after the start",
        ));
    }
    let used = if kind == "usage" || kind == "commitment" { Some(hours(line)?) } else { None };
    let public_on_demand =
        line.get("pricing_public_on_demand_cost").and_then(|text| text.parse::<BilledUsd>().ok()).filter(|cost| cost.0 > 0);
    let key = LineKey {
        source: "bill",
        kind,
        account: line.get("line_item_usage_account_id").unwrap_or_default().to_owned(),
        instance: instance.to_owned(),
        usage_type: usage_type.to_owned(),
        operation: line.get("line_item_operation").unwrap_or_default().to_owned(),
        from,
        to,
    };
    let invoice = line.get("bill_invoice_id").map(String::from);
    Ok(Some((key, ImportedLine { cost: line.usd(amount)?, used, public_on_demand, invoice })))
}

fn hours(line: &Line) -> Result<Millis, ImportFault> {
    let expected = "a number of hours, as in 0.2672222222";
    let text = line.need("line_item_usage_amount", expected)?;
    let hours: BilledUsd = text.parse().map_err(|_| line.fault("line_item_usage_amount", text, expected))?;
    let ms = (hours.0 * HOUR_MS + HOUR_UNITS / 2) / HOUR_UNITS;
    Ok(Millis(i64::try_from(ms).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "bill_invoice_id,line_item_usage_account_id,line_item_line_item_type,line_item_resource_id,line_item_usage_type,\
        line_item_operation,line_item_usage_start_date,line_item_usage_end_date,line_item_usage_amount,line_item_unblended_cost,\
        line_item_currency_code,savings_plan_savings_plan_effective_cost,pricing_public_on_demand_cost\n";

    fn line(kind: &str, resource: &str, usage: &str, amount: &str, cost: &str, plan: &str) -> String {
        format!(
            "INV-1,123456789012,{kind},{resource},{usage},RunInstances:SV001,2026-07-20T07:00:00.000Z,2026-07-20T08:00:00.000Z,{amount},{cost},USD,{plan},0.0\n"
        )
    }

    fn taken(lines: &[String]) -> Result<BillImport, String> {
        let mut import = BillImport::default();
        read(Path::new("cur.csv"), &format!("{HEADER}{}", lines.concat()), &mut import).map_err(|fault| fault.to_string())?;
        Ok(import)
    }

    #[test]
    fn lines_about_instances_are_kept_by_kind_and_the_others_counted() {
        let import = taken(&[
            line("Usage", "i-1", "USE1-SpotUsage:g6.xlarge", "0.5", "0.04565", ""),
            line("Usage", "i-1", "USE1-SpotUsage:g6.xlarge", "0.25", "0.0228250000", ""),
            line("Credit", "i-1", "USE1-SpotUsage:g6.xlarge", "0", "-0.01", ""),
            line("EdpDiscount", "i-1", "USE1-SpotUsage:g6.xlarge", "0", "-0.001", ""),
            line("SavingsPlanCoveredUsage", "i-2", "USE1-BoxUsage:g6.xlarge", "1", "0.8048", "0.5"),
            line("SavingsPlanNegation", "i-2", "USE1-BoxUsage:g6.xlarge", "1", "-0.8048", ""),
            line("Usage", "i-1", "USE1-EUS2-AWS-Out-Bytes", "20", "0.4", ""),
            line("Usage", "vol-1", "USE1-EBS:VolumeUsage.gp3", "1", "0.1", ""),
            line("Usage", "i-1", "USE1-EBSOptimized:g6.xlarge", "1", "0", ""),
        ])
        .unwrap();
        assert_eq!(import.left_out, 3);
        let found: Vec<_> = import
            .lines
            .iter()
            .map(|(key, line)| (key.kind, key.instance.as_str(), line.cost.to_micro_usd().0, line.used.map(|used| used.0)))
            .collect();
        assert_eq!(
            found,
            [
                ("adjustment", "i-1", -11_000, None),
                ("commitment", "i-2", 500_000, Some(3_600_000)),
                ("transfer", "i-1", 400_000, None),
                ("usage", "i-1", 68_475, Some(2_700_000)),
            ]
        );
    }

    #[test]
    fn what_cannot_be_read_is_refused_where_it_is() {
        let good = line("Usage", "i-1", "USE1-SpotUsage:g6.xlarge", "0.5", "0.04565", "");
        for (text, said) in [
            (good.replace("0.04565", "n/a"), "line 2: column line_item_unblended_cost holds \"n/a\""),
            (good.replace(",USD,", ",CNY,"), "the ledger holds US dollars only"),
            (good.replace("08:00:00", "07:00:00"), "expected a time after the start"),
            (good.replace("0.5,", ","), "line_item_usage_amount holds \"nothing\""),
            (good.replace("INV-1,", ""), "12 values for 13 columns"),
        ] {
            let fault = taken(&[text]).unwrap_err();
            assert!(fault.contains(said), "{fault}");
        }
        let fault = read(Path::new("x.csv"), "a,b\n1,2\n", &mut BillImport::default()).unwrap_err().to_string();
        assert!(fault.contains("line_item_resource_id"), "{fault}");
    }
}
