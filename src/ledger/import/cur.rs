//! Lines of the Cost and Usage Report: CUR 2.0, the older report with `lineItem/...` names, and what Athena makes of either.
//!
//! Decides: what a line is for, which machine it names, and which amount holds: the effective one where a commitment paid, and the net one where the
//! report has it, the difference being a discount on a line of its own.
//! Does not: store anything (see [`super::bill`]).
//! Sources: AWS Data Exports user guide, "CUR 2.0", "Line item columns", "Savings Plans columns", "Reservation columns"; CUR user guide, "Net columns".

mod columns;

pub(super) use self::columns::{REQUIRED, is_known_column, is_read};
use super::ImportFault;
use super::checks::{Check, Checks, LARGEST_USD, beyond_reason};
use super::gateways::{Gateway, SHARE_TAG, gateway_of};
use super::rates::Rates;
use super::table::Line;
use super::tags::Tags;
use crate::core::accounting::bill::CARRIED;
use crate::core::units::money::BilledUsd;
use crate::core::units::time::{Millis, Timestamp};

/// Hours are read as units of 10^-10.
const HOUR_UNITS: i128 = 10_000_000_000;
const HOUR_MS: i128 = 3_600_000;

/// The kind of lines that only move a commitment's money between lines that are read, Savings Plan negations: they are on the invoice and cost nothing more.
pub(super) const MOVED: &str = "moved";

/// An amount as an invoice says it: in the invoice's currency, when it is paid, before what is paid up front is spread.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Charged {
    pub currency: String,
    pub amount: BilledUsd,
}

/// A line as it is staged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CurLine {
    /// Names the line within its version; empty where the report does not.
    pub line_id: String,
    /// Who pays.
    pub payer: String,
    /// First day of the billing period, as 2026-07-01.
    pub period: String,
    /// What for: `usage` and `commitment` of machines, or the line that it is beside them (see [`crate::core::accounting::bill::LineKind`]; `egress`
    /// is data carried to another region); `unused-commitment` and `other` are kept and not posted.
    pub kind: &'static str,
    /// Whose use.
    pub account: String,
    /// The machine; empty for what names none.
    pub instance: String,
    /// The claim that the resource is tagged with; empty without.
    pub claim_uid: String,
    /// The gateway that it is of, where our machines use that by its tag.
    pub gateway: Option<Gateway>,
    /// As in `USE1-SpotUsage:g6.xlarge`.
    pub usage_type: String,
    /// As in `RunInstances:SV001`.
    pub operation: String,
    /// As in `AmazonEC2`.
    pub service: String,
    /// Start of what it is about.
    pub from: Timestamp,
    /// End of it; the start where the line has no span.
    pub to: Timestamp,
    /// The amount before negotiated discounts.
    pub cost: BilledUsd,
    /// Negotiated discounts on it, where the report has net columns; else nothing.
    pub discount: BilledUsd,
    /// Billed time, of machines.
    pub used: Option<Millis>,
    /// What it would have cost on demand, where said.
    pub public_on_demand: Option<BilledUsd>,
    /// The invoice that charges it; empty before there is one.
    pub invoice: String,
    /// What that invoice charges for it.
    pub charged: Charged,
}

/// Reads a line.
pub(super) fn read_line(line: &Line, rates: &Rates, checks: &mut Checks) -> Result<CurLine, ImportFault> {
    let line_type = line.need("line_item_line_item_type", "a type, as in Usage")?;
    let usage_type = line.get("line_item_usage_type").unwrap_or_default();
    let resource = line.get("line_item_resource_id").unwrap_or_default();
    let instance = instance_of(resource);
    // What has no time of its own is of the billing period.
    let from = match (line.get("line_item_usage_start_date"), line.get("bill_billing_period_start_date")) {
        (None, Some(_)) => line.time("bill_billing_period_start_date")?,
        _ => line.time("line_item_usage_start_date")?,
    };
    let to = line.get("line_item_usage_end_date").map_or(Ok(from), |_| line.time("line_item_usage_end_date"))?;
    let kind = kind_of(line_type, usage_type, resource, instance.is_some());
    let rate = rates.of_named(line, "line_item_currency_code", from, checks)?;
    let (cost, net) = amounts(line, line_type)?;
    let cost = rate.times(cost);
    let discount = net.map_or(BilledUsd(0), |net| BilledUsd(rate.times(net).0 - cost.0));
    if beyond_reason(cost) {
        checks.refuse(Check::BeyondReason, || {
            line.fault("line_item_unblended_cost", &cost.to_string(), &format!("at most ${LARGEST_USD} on one line")).to_string()
        })?;
    }
    let machine = matches!(kind, "usage" | "commitment") && instance.is_some();
    // AWS writes taxes that end before they start; hours of a machine it does not.
    if machine && to < from {
        checks.refuse(Check::BeyondReason, || {
            let end = line.get("line_item_usage_end_date").unwrap_or_default();
            line.fault("line_item_usage_end_date", end, "a time that is not before line_item_usage_start_date").to_string()
        })?;
    }
    let to = to.max(from);
    let text = |name: &str| line.get(name).unwrap_or_default().to_owned();
    let identity = |id: &str| format!("{id} {} {line_type}", line.get("identity_time_interval").unwrap_or_default());
    let account = text("line_item_usage_account_id");
    let share = || tag_of(line, "resource_tags_user_lowtide_share", SHARE_TAG);
    let gateway = gateway_of(resource, share, checks)?;
    Ok(CurLine {
        line_id: line.get("identity_line_item_id").map(identity).unwrap_or_default(),
        payer: line.get("bill_payer_account_id").map_or_else(|| account.clone(), str::to_owned),
        period: period_of(line, from)?,
        kind,
        account,
        instance: instance.unwrap_or_default().to_owned(),
        claim_uid: tag_of(line, "resource_tags_user_lowtide_claim_uid", "lowtide-claim-uid").unwrap_or_default(),
        gateway,
        usage_type: usage_type.to_owned(),
        operation: text("line_item_operation"),
        service: text("line_item_product_code"),
        from,
        to,
        cost,
        discount,
        used: if machine { Some(hours(line)?) } else { None },
        public_on_demand: line
            .get("pricing_public_on_demand_cost")
            .and_then(|text| text.parse::<BilledUsd>().ok())
            .filter(|cost| cost.0 > 0)
            .map(|cost| rate.times(cost)),
        invoice: text("bill_invoice_id"),
        charged: Charged { currency: text("line_item_currency_code"), amount: charged(line)? },
    })
}

/// The instance that a resource is: by its id, or at the end of its ARN.
fn instance_of(resource: &str) -> Option<&str> {
    let last = resource.rsplit('/').next().unwrap_or_default();
    let digits = last.strip_prefix("i-")?;
    (!digits.is_empty()).then_some(last)
}

/// What a line is for.
fn kind_of(line_type: &str, usage_type: &str, resource: &str, is_instance: bool) -> &'static str {
    let has = |words: &[&str]| words.iter().any(|word| usage_type.contains(word));
    match line_type {
        "SavingsPlanNegation" => MOVED,
        "Credit" => "credit",
        "Refund" => "refund",
        "Tax" => "tax",
        "RIFee" | "SavingsPlanRecurringFee" | "SavingsPlanUpfrontFee" => "unused-commitment",
        "Fee" => "fee",
        discount if discount.ends_with("Discount") => "discount",
        // Endpoints are what takes a gateway's place for one service.
        _ if has(&["NatGateway", "VpcEndpoint"]) => "nat",
        // What is carried to another region was posted when it was carried, at the price of the time: told apart, so that it is not counted twice.
        _ if has(&["AWS-Out-Bytes", "AWS-In-Bytes"]) => CARRIED,
        _ if has(&["Bytes"]) => "transfer",
        "SavingsPlanCoveredUsage" | "DiscountedUsage" if is_instance => "commitment",
        _ if is_instance && has(&["SpotUsage", "BoxUsage", "DedicatedUsage", "HostUsage"]) => "usage",
        _ if has(&["EBS:Volume", "EBS:Snapshot"]) || resource.contains("vol-") || resource.contains("snap-") => "volume",
        _ if is_instance || has(&["PublicIPv4", "ElasticIP"]) => "fee",
        _ => "other",
    }
}

/// The amount that holds, and the net one where the report has it.
fn amounts(line: &Line, line_type: &str) -> Result<(BilledUsd, Option<BilledUsd>), ImportFault> {
    let net = |name: &str| line.get(name).map(|_| line.usd(name)).transpose();
    let or_none = |name: &str| line.get(name).map_or(Ok(BilledUsd(0)), |_| line.usd(name));
    match line_type {
        "SavingsPlanNegation" => Ok((BilledUsd(0), None)),
        "SavingsPlanCoveredUsage" => {
            Ok((line.usd("savings_plan_savings_plan_effective_cost")?, net("savings_plan_net_savings_plan_effective_cost")?))
        }
        "DiscountedUsage" => Ok((line.usd("reservation_effective_cost")?, net("reservation_net_effective_cost")?)),
        // Of a commitment's fee only what nobody used is a cost: the used part is the effective cost of what used it.
        "RIFee" => {
            let (recurring, upfront) = ("unused_recurring_fee", "unused_amortized_upfront_fee_for_billing_period");
            let of = |column: &str| or_none(&format!("reservation_{column}"));
            let net_of = |column: &str| net(&format!("reservation_net_{column}"));
            let (net_recurring, net_upfront) = (net_of(recurring)?, net_of(upfront)?);
            let (recurring, upfront) = (of(recurring)?, of(upfront)?);
            // Of two fees one may have a net amount and the other none.
            let net = net_recurring.or(net_upfront).map(|_| net_recurring.unwrap_or(recurring) + net_upfront.unwrap_or(upfront));
            Ok((net.unwrap_or(recurring + upfront), None))
        }
        "SavingsPlanRecurringFee" | "SavingsPlanUpfrontFee" => {
            let committed = or_none("savings_plan_total_commitment_to_date")?;
            Ok((BilledUsd(committed.0 - or_none("savings_plan_used_commitment")?.0), None))
        }
        // Where there are net columns, discounts are in them: the line of its own has nothing left.
        discount if discount.ends_with("Discount") && line.get("line_item_net_unblended_cost").is_some() => {
            Ok((line.usd("line_item_net_unblended_cost")?, None))
        }
        _ => Ok((line.usd("line_item_unblended_cost")?, net("line_item_net_unblended_cost")?)),
    }
}

/// What the invoice has of a line: the unblended cost, of which discounts, payments up front and negations have lines of their own.
fn charged(line: &Line) -> Result<BilledUsd, ImportFault> {
    line.get("line_item_unblended_cost").map_or(Ok(BilledUsd(0)), |_| line.usd("line_item_unblended_cost"))
}

/// The first day of the billing period; where the report does not say it, of the month in which the use began.
fn period_of(line: &Line, from: Timestamp) -> Result<String, ImportFault> {
    let at = match line.get("bill_billing_period_start_date") {
        Some(_) => line.time("bill_billing_period_start_date")?,
        None => from,
    };
    Ok(format!("{}-01", at.to_rfc3339().get(..7).unwrap_or("1970-01")))
}

/// A tag: in a column of its own, or among others.
fn tag_of(line: &Line, column: &str, tag: &str) -> Option<String> {
    let among = || Tags::read(line.get("resource_tags")?)?.get(tag).map(str::to_owned);
    line.get(column).map(str::to_owned).or_else(among)
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
    use crate::ledger::import::reading::each_csv_record;
    use proptest::strategy::Strategy;
    use std::path::Path;

    const HEADER: &str = "identity/LineItemId,bill/InvoiceId,lineItem/UsageAccountId,lineItem/LineItemType,lineItem/ResourceId,lineItem/UsageType,\
        lineItem/UsageStartDate,lineItem/UsageEndDate,lineItem/UsageAmount,lineItem/UnblendedCost,lineItem/NetUnblendedCost,\
        lineItem/CurrencyCode,savingsPlan/SavingsPlanEffectiveCost,savingsPlan/TotalCommitmentToDate,savingsPlan/UsedCommitment,resourceTags\n";

    fn line(kind: &str, resource: &str, usage: &str, amount: &str, cost: &str, rest: &str) -> String {
        format!(
            "x1,INV-1,123456789012,{kind},{resource},{usage},2026-07-20T07:00:00.000Z,2026-07-20T08:00:00.000Z,{amount},{cost},{rest}\n"
        )
    }

    fn read(lines: &[String]) -> Result<Vec<CurLine>, String> {
        read_text(&format!("{HEADER}{}", lines.concat()))
    }

    fn read_text(text: &str) -> Result<Vec<CurLine>, String> {
        let (mut found, mut checks) = (Vec::new(), Checks::default());
        each_csv_record(Path::new("cur.csv"), &mut text.as_bytes(), (&REQUIRED, &is_read), &mut |line| {
            found.push(read_line(line, &Rates::default(), &mut checks)?);
            Ok(())
        })
        .map_err(|fault| fault.to_string())?;
        Ok(found)
    }

    #[test]
    fn every_line_has_its_kind_its_machine_and_the_amount_that_holds() {
        let spot = "USE1-SpotUsage:g6.xlarge";
        let found = read(&[
            line("Usage", "i-1", spot, "0.5", "0.04565", ",USD,,,,"),
            line("Usage", "i-1", spot, "0.5", "0.05", "0.04,USD,,,,"),
            line("Credit", "i-1", spot, "0", "-0.01", ",USD,,,,"),
            line("EdpDiscount", "i-1", spot, "0", "-0.001", ",USD,,,,"),
            line("EdpDiscount", "i-1", spot, "0", "-0.001", "0,USD,,,,"),
            line("SavingsPlanCoveredUsage", "i-2", "USE1-BoxUsage:g6.xlarge", "1", "0.8048", ",USD,0.5,,,"),
            line("SavingsPlanNegation", "", "USE1-BoxUsage:g6.xlarge", "1", "-0.8048", ",USD,,,,"),
            line("SavingsPlanRecurringFee", "arn:aws:savingsplans::1:savingsplan/x", "ComputeSP", "1", "9", ",USD,,9,7,"),
            line("Usage", "i-1", "USE1-EUS2-AWS-Out-Bytes", "20", "0.4", ",USD,,,,"),
            line("Usage", "i-1", "USE1-DataTransfer-Out-Bytes", "20", "1.8", ",USD,,,,"),
            line("Usage", "vol-1", "EBS:VolumeUsage.gp3", "1", "0.1", ",USD,,,,\"{\"\"user_lowtide_claim_uid\"\":\"\"u-7\"\"}\""),
            line("Usage", "vol-2", "EBS:VolumeUsage.gp3", "1", "0.1", ",USD,,,,\"{user_team=a, user_lowtide_claim_uid=u-8}\""),
            line("Usage", "arn:aws:ec2:us-east-1:1:natgateway/nat-1", "NatGateway-Bytes", "1", "0.045", ",USD,,,,"),
            line("Usage", "arn:aws:ec2:us-east-1:1:instance/i-0a", spot, "1", "0.1", ",USD,,,,"),
            line("Tax", "", "", "1", "3", ",USD,,,,"),
            line("Usage", "db-1", "InstanceUsage:db.m5", "1", "0.4", ",USD,,,,"),
        ])
        .unwrap();
        let said: Vec<_> = found
            .iter()
            .map(|l| format!("{} {} {} {} {}", l.kind, l.instance, l.cost.to_micro_usd().0, l.discount.to_micro_usd().0, l.claim_uid))
            .collect();
        assert_eq!(
            said,
            [
                "usage i-1 45650 0 ",
                "usage i-1 50000 -10000 ",
                "credit i-1 -10000 0 ",
                "discount i-1 -1000 0 ",
                "discount i-1 0 0 ",
                "commitment i-2 500000 0 ",
                "moved  0 0 ",
                "unused-commitment  2000000 0 ",
                "egress i-1 400000 0 ",
                "transfer i-1 1800000 0 ",
                "volume  100000 0 u-7",
                "volume  100000 0 u-8",
                "nat  45000 0 ",
                "usage i-0a 100000 0 ",
                "tax  3000000 0 ",
                "other  400000 0 ",
            ]
        );
        assert_eq!(found[0].used, Some(Millis(1_800_000)));
        assert_eq!((found[0].period.as_str(), found[0].invoice.as_str()), ("2026-07-01", "INV-1"));
    }

    #[test]
    fn what_cannot_be_read_is_refused_where_it_is() {
        let good = line("Usage", "i-1", "USE1-SpotUsage:g6.xlarge", "0.5", "0.04565", ",USD,,,,");
        for (text, said) in [
            (good.replace("0.04565", "n/a"), "line 2: column line_item_unblended_cost holds \"n/a\""),
            (good.replace(",USD,", ",CNY,"), "give a file of rates"),
            (good.replace("0.5,0", ",0"), "line_item_usage_amount holds \"nothing\""),
            (good.replace("INV-1,", ""), "15 values for 16 columns"),
            (good.replace("0.04565", "10000001"), "accept beyond-reason"),
            (good.replace("08:00:00", "06:00:00"), "a time that is not before line_item_usage_start_date"),
        ] {
            let fault = read(&[text]).unwrap_err();
            assert!(fault.contains(said), "{fault}");
        }
        let backwards = read(&[good.replace("Usage,", "Tax,").replace("08:00:00", "06:00:00")]).unwrap();
        assert_eq!(backwards[0].from, backwards[0].to, "of a tax, as AWS writes them, an end before the start is a point");
        for (name, known) in [
            ("line_item_blended_rate", true),
            ("resource_tags_user_team", true),
            ("reservation_reservation_a_r_n", true),
            ("kosten", false),
            ("line_item_net_unblended_costs", false),
            ("savings_plan_effective_cost", false),
        ] {
            assert_eq!(is_known_column(name), known, "{name}");
        }
    }

    #[test]
    fn what_has_no_time_of_its_own_is_of_the_billing_period() {
        let header = "bill/BillingPeriodStartDate,lineItem/LineItemType,lineItem/ResourceId,lineItem/UsageType,lineItem/UsageStartDate,lineItem/UnblendedCost,lineItem/CurrencyCode\n";
        let text = format!("{header}2026-07-01T00:00:00Z,Refund,,,,-3,USD\n");
        let mut found = Vec::new();
        each_csv_record(Path::new("cur.csv"), &mut text.as_bytes(), (&REQUIRED, &is_read), &mut |line| {
            found.push(read_line(line, &Rates::default(), &mut Checks::default())?);
            Ok(())
        })
        .unwrap();
        assert_eq!((found[0].kind, found[0].period.as_str(), found[0].from), ("refund", "2026-07-01", Timestamp::from_date(2026, 7, 1)));
        let fault = read(&[line("Usage", "i-1", "x", "1", "1", ",USD,,,,").replace("2026-07-20T07:00:00.000Z", "")]).unwrap_err();
        assert!(fault.contains("line_item_usage_start_date holds \"nothing\""), "{fault}");
    }

    fn valid_lines() -> [String; 4] {
        [
            line("Usage", "i-1", "USE1-SpotUsage:g6.xlarge", "0.5", "0.04565", ",USD,,,,"),
            line("SavingsPlanCoveredUsage", "i-2", "USE1-BoxUsage:g6.xlarge", "1", "0.8048", ",USD,0.5,,,"),
            line("SavingsPlanRecurringFee", "arn:aws:savingsplans::1:savingsplan/x", "ComputeSP", "1", "9", ",USD,,9,7,"),
            line("Refund", "", "", "", "-9.5", ",USD,,,,"),
        ]
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::mutation::CASES))]

        #[test]
        fn whatever_a_bill_holds_is_read_or_refused_with_a_sentence(
            text in proptest::prop_oneof![
                crate::mutation::text(&valid_lines().each_ref().map(String::as_str)).prop_map(|line| format!("{HEADER}{line}")),
                crate::mutation::csv(&[&format!("{HEADER}{}", valid_lines().concat())]),
            ]
        ) {
            match read_text(&text) {
                Ok(lines) => for line in &lines {
                    assert!(line.to >= line.from && line.cost.0.abs() <= LARGEST_USD.0, "{line:?}");
                    assert!(line.period.len() == 10 && line.period.ends_with("-01"), "{line:?}");
                },
                Err(fault) => assert!(fault.contains("nothing was imported"), "{fault}"),
            }
        }
    }
}
