//! Files with the full headers that AWS writes: the older report, CUR 2.0, what Athena prints of either, and FOCUS 1.0 to 1.3. What each column family is
//! for (reservations, Savings Plans, net amounts, tags) is in the lines.

use std::collections::BTreeMap;

use lowtide::core::units::time::{Millis, Timestamp};
use lowtide::lab::postgres::PrivatePostgres;
use lowtide::ledger::connect;
use lowtide::ledger::import::{Format, Mapping};
use lowtide::ledger::reconcile::reconcile;

use crate::facts::{Bench, DAY, bench};
use crate::imports::{Folder, changed, taken};
use crate::statements::{cost, machine_of, of_line};

/// The older report's columns, with resource identifiers, hours, split cost allocation and net columns.
const OLDER: &str = "identity/LineItemId,identity/TimeInterval,bill/InvoiceId,bill/InvoicingEntity,bill/BillingEntity,bill/BillType,bill/PayerAccountId,\
    bill/BillingPeriodStartDate,bill/BillingPeriodEndDate,lineItem/UsageAccountId,lineItem/LineItemType,lineItem/UsageStartDate,lineItem/UsageEndDate,\
    lineItem/ProductCode,lineItem/UsageType,lineItem/Operation,lineItem/AvailabilityZone,lineItem/ResourceId,lineItem/UsageAmount,\
    lineItem/NormalizationFactor,lineItem/NormalizedUsageAmount,lineItem/CurrencyCode,lineItem/UnblendedRate,lineItem/UnblendedCost,lineItem/BlendedRate,\
    lineItem/BlendedCost,lineItem/LineItemDescription,lineItem/TaxType,lineItem/NetUnblendedRate,lineItem/NetUnblendedCost,lineItem/LegalEntity,\
    product/ProductName,product/availability,product/instanceFamily,product/instanceType,product/location,product/operatingSystem,product/region,\
    product/regionCode,product/servicecode,product/sku,product/usagetype,product/vcpu,pricing/LeaseContractLength,pricing/OfferingClass,\
    pricing/PurchaseOption,pricing/RateCode,pricing/RateId,pricing/currency,pricing/publicOnDemandCost,pricing/publicOnDemandRate,pricing/term,pricing/unit,\
    reservation/AmortizedUpfrontCostForUsage,reservation/AmortizedUpfrontFeeForBillingPeriod,reservation/AvailabilityZone,reservation/EffectiveCost,\
    reservation/EndTime,reservation/ModificationStatus,reservation/NetAmortizedUpfrontCostForUsage,\
    reservation/NetAmortizedUpfrontFeeForBillingPeriod,reservation/NetEffectiveCost,reservation/NetRecurringFeeForUsage,\
    reservation/NetUnusedAmortizedUpfrontFeeForBillingPeriod,reservation/NetUnusedRecurringFee,reservation/NetUpfrontValue,\
    reservation/NormalizedUnitsPerReservation,reservation/NumberOfReservations,reservation/RecurringFeeForUsage,reservation/ReservationARN,\
    reservation/StartTime,reservation/SubscriptionId,reservation/TotalReservedNormalizedUnits,reservation/TotalReservedUnits,\
    reservation/UnitsPerReservation,reservation/UnusedAmortizedUpfrontFeeForBillingPeriod,reservation/UnusedNormalizedUnitQuantity,\
    reservation/UnusedQuantity,reservation/UnusedRecurringFee,reservation/UpfrontValue,savingsPlan/TotalCommitmentToDate,savingsPlan/SavingsPlanARN,\
    savingsPlan/SavingsPlanRate,savingsPlan/UsedCommitment,savingsPlan/SavingsPlanEffectiveCost,\
    savingsPlan/AmortizedUpfrontCommitmentForBillingPeriod,savingsPlan/RecurringCommitmentForBillingPeriod,savingsPlan/NetSavingsPlanEffectiveCost,\
    savingsPlan/NetAmortizedUpfrontCommitmentForBillingPeriod,savingsPlan/NetRecurringCommitmentForBillingPeriod,savingsPlan/StartTime,\
    savingsPlan/EndTime,savingsPlan/OfferingType,savingsPlan/PaymentOption,savingsPlan/PurchaseTerm,savingsPlan/Region,savingsPlan/InstanceTypeFamily,\
    discount/EdpDiscount,discount/TotalDiscount,resourceTags/aws:createdBy,resourceTags/user:team,resourceTags/user:lowtide-claim-uid,costCategory/Team,\
    splitLineItem/ActualUsage,splitLineItem/NetSplitCost,splitLineItem/ParentResourceId,splitLineItem/PublicOnDemandSplitCost,splitLineItem/ReservedUsage,\
    splitLineItem/SplitCost,splitLineItem/SplitUsage,splitLineItem/SplitUsageRatio,splitLineItem/UnusedCost";

/// The columns of CUR 2.0, as the table configurations of Data Exports have them.
const CUR_2: &str = "bill_bill_type,bill_billing_entity,bill_billing_period_end_date,bill_billing_period_start_date,bill_invoice_id,bill_invoicing_entity,\
    bill_payer_account_id,bill_payer_account_name,cost_category,discount,discount_bundled_discount,discount_total_discount,identity_line_item_id,\
    identity_time_interval,line_item_availability_zone,line_item_blended_cost,line_item_blended_rate,line_item_currency_code,line_item_legal_entity,\
    line_item_line_item_description,line_item_line_item_type,line_item_net_unblended_cost,line_item_net_unblended_rate,line_item_normalization_factor,\
    line_item_normalized_usage_amount,line_item_operation,line_item_product_code,line_item_resource_id,line_item_tax_type,line_item_unblended_cost,\
    line_item_unblended_rate,line_item_usage_account_id,line_item_usage_account_name,line_item_usage_amount,line_item_usage_end_date,\
    line_item_usage_start_date,line_item_usage_type,pricing_currency,pricing_lease_contract_length,pricing_offering_class,pricing_public_on_demand_cost,\
    pricing_public_on_demand_rate,pricing_purchase_option,pricing_rate_code,pricing_rate_id,pricing_term,pricing_unit,product,product_comment,\
    product_fee_code,product_fee_description,product_from_location,product_from_location_type,product_from_region_code,product_instance_family,\
    product_instance_type,product_instancesku,product_location,product_location_type,product_operation,product_pricing_unit,product_product_family,\
    product_region_code,product_servicecode,product_sku,product_to_location,product_to_location_type,product_to_region_code,product_usagetype,\
    reservation_amortized_upfront_cost_for_usage,reservation_amortized_upfront_fee_for_billing_period,reservation_availability_zone,\
    reservation_effective_cost,reservation_end_time,reservation_modification_status,reservation_net_amortized_upfront_cost_for_usage,\
    reservation_net_amortized_upfront_fee_for_billing_period,reservation_net_effective_cost,reservation_net_recurring_fee_for_usage,\
    reservation_net_unused_amortized_upfront_fee_for_billing_period,reservation_net_unused_recurring_fee,reservation_net_upfront_value,\
    reservation_normalized_units_per_reservation,reservation_number_of_reservations,reservation_recurring_fee_for_usage,reservation_reservation_a_r_n,\
    reservation_start_time,reservation_subscription_id,reservation_total_reserved_normalized_units,reservation_total_reserved_units,\
    reservation_units_per_reservation,reservation_unused_amortized_upfront_fee_for_billing_period,reservation_unused_normalized_unit_quantity,\
    reservation_unused_quantity,reservation_unused_recurring_fee,reservation_upfront_value,resource_tags,\
    savings_plan_amortized_upfront_commitment_for_billing_period,savings_plan_end_time,savings_plan_instance_type_family,\
    savings_plan_net_amortized_upfront_commitment_for_billing_period,savings_plan_net_recurring_commitment_for_billing_period,\
    savings_plan_net_savings_plan_effective_cost,savings_plan_offering_type,savings_plan_payment_option,savings_plan_purchase_term,\
    savings_plan_recurring_commitment_for_billing_period,savings_plan_region,savings_plan_savings_plan_a_r_n,savings_plan_savings_plan_effective_cost,\
    savings_plan_savings_plan_rate,savings_plan_start_time,savings_plan_total_commitment_to_date,savings_plan_used_commitment,\
    split_line_item_actual_usage,split_line_item_net_split_cost,split_line_item_net_unused_cost,split_line_item_parent_resource_id,\
    split_line_item_public_on_demand_split_cost,split_line_item_public_on_demand_unused_cost,split_line_item_reserved_usage,split_line_item_split_cost,\
    split_line_item_split_usage,split_line_item_split_usage_ratio,split_line_item_unused_cost";

/// One line, by the column names of CUR 2.0; tags each in a column of their own.
type Row = BTreeMap<&'static str, String>;

/// A column of the older report as Athena names it: `savingsPlan/SavingsPlanARN` is `savings_plan_savings_plan_a_r_n`.
fn athena(name: &str) -> String {
    let mut found = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !found.is_empty() && !found.ends_with('_') {
            found.push('_');
        }
        found.push(if matches!(c, '/' | ':' | '-') { '_' } else { c.to_ascii_lowercase() });
    }
    found
}

/// A line of `hour` with what every line has; `more` are its own columns.
fn row(id: &str, kind: &str, resource: &str, usage: &str, hour: i64, more: &[(&'static str, &str)]) -> Row {
    let at = |hour: i64| (DAY + Millis::from_hours(hour)).to_rfc3339();
    let mut row: Row = BTreeMap::from([
        ("identity_line_item_id", id.to_owned()),
        ("identity_time_interval", format!("{}/{}", at(hour), at(hour + 1))),
        ("bill_payer_account_id", "111122223333".to_owned()),
        ("bill_bill_type", "Anniversary".to_owned()),
        ("bill_billing_entity", "AWS".to_owned()),
        ("bill_billing_period_start_date", Timestamp::from_date(2026, 7, 1).to_rfc3339()),
        ("bill_billing_period_end_date", Timestamp::from_date(2026, 8, 1).to_rfc3339()),
        ("line_item_usage_account_id", "444455556666".to_owned()),
        ("line_item_line_item_type", kind.to_owned()),
        ("line_item_resource_id", resource.to_owned()),
        ("line_item_usage_type", usage.to_owned()),
        ("line_item_operation", "RunInstances".to_owned()),
        ("line_item_product_code", "AmazonEC2".to_owned()),
        ("line_item_usage_start_date", at(hour)),
        ("line_item_usage_end_date", at(hour + 1)),
        ("line_item_usage_amount", "1.0000000000".to_owned()),
        ("line_item_currency_code", "USD".to_owned()),
        ("line_item_line_item_description", "$0.00, as \"agreed\", per hour".to_owned()),
    ]);
    row.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
    row
}

/// A spot hour with a negotiated discount, one under a reservation, one under a Savings Plan, one as agreed; what goes with them.
fn rows() -> Vec<Row> {
    let cost = "line_item_unblended_cost";
    let net = "line_item_net_unblended_cost";
    vec![
        row("1", "Usage", "i-a", "SpotUsage:g6.xlarge", 0, &[(cost, "1.10"), (net, "0.99")]),
        row(
            "2",
            "DiscountedUsage",
            "i-a",
            "BoxUsage:g6.xlarge",
            1,
            &[(cost, "0.0000000000"), (net, "0"), ("reservation_effective_cost", "0.80"), ("reservation_net_effective_cost", "0.72")],
        ),
        row(
            "3",
            "SavingsPlanCoveredUsage",
            "i-a",
            "BoxUsage:g6.xlarge",
            2,
            &[
                (cost, "3.00"),
                (net, "2.70"),
                ("savings_plan_savings_plan_effective_cost", "0.70"),
                ("savings_plan_net_savings_plan_effective_cost", "0.63"),
            ],
        ),
        row("4", "SavingsPlanNegation", "", "ComputeSP:1yrNoUpfront", 2, &[(cost, "-3.00"), (net, "-2.70")]),
        row("5", "Usage", "i-a", "SpotUsage:g6.xlarge", 3, &[(cost, "1.00"), (net, "0.90")]),
        // The part of the discounts that stands on a line of its own is in the net columns already.
        row("6", "EdpDiscount", "i-a", "SpotUsage:g6.xlarge", 0, &[(cost, "-0.11"), (net, "0")]),
        row(
            "7",
            "RIFee",
            "arn:aws:ec2:us-east-1:444455556666:reserved-instances/r",
            "HeavyUsage:g6.xlarge",
            0,
            &[
                (cost, "8.00"),
                ("reservation_unused_recurring_fee", "5.00"),
                ("reservation_net_unused_recurring_fee", "4.50"),
                ("reservation_unused_amortized_upfront_fee_for_billing_period", "1.00"),
                ("reservation_net_unused_amortized_upfront_fee_for_billing_period", "0.90"),
            ],
        ),
        row(
            "8",
            "SavingsPlanRecurringFee",
            "arn:aws:savingsplans::444455556666:savingsplan/s",
            "ComputeSP:1yrNoUpfront",
            0,
            &[(cost, "9.00"), ("savings_plan_total_commitment_to_date", "9.00"), ("savings_plan_used_commitment", "7.00")],
        ),
        row("9", "Usage", "i-a", "USE1-DataTransfer-Out-Bytes", 0, &[(cost, "0.05")]),
        row("10", "Usage", "i-a", "USE1-EUS2-AWS-Out-Bytes", 0, &[(cost, "0.04")]),
        row("11", "Usage", "vol-1", "EBS:VolumeUsage.gp3", 0, &[(cost, "0.30"), ("resource_tags_user_lowtide_claim_uid", "uid-a")]),
        row("12", "Tax", "", "", 0, &[(cost, "2.00"), ("line_item_tax_type", "VAT")]),
    ]
}

fn quoted(value: &str) -> String {
    if value.contains([',', '"']) { format!("\"{}\"", value.replace('"', "\"\"")) } else { value.to_owned() }
}

/// A file of these columns; `value` gives what a line has in one.
fn file_of(columns: &[String], value: impl Fn(&Row, &str) -> String, quote: impl Fn(&str) -> String) -> String {
    let line = |row: &Row| columns.iter().map(|name| quote(&value(row, name))).collect::<Vec<_>>().join(",");
    let header = columns.iter().map(|name| quote(name)).collect::<Vec<_>>().join(",");
    format!("{header}\n{}\n", rows().iter().map(line).collect::<Vec<_>>().join("\n"))
}

fn own(row: &Row, name: &str) -> String {
    row.get(name).cloned().unwrap_or_default()
}

/// The tag of a line among others, as JSON or as Athena prints a map.
fn with_map(row: &Row, name: &str, json: bool) -> String {
    match (name, row.get("resource_tags_user_lowtide_claim_uid"), json) {
        ("resource_tags", Some(claim), true) => format!("{{\"user_team\":\"search\",\"user_lowtide_claim_uid\":\"{claim}\"}}"),
        ("resource_tags", Some(claim), false) => format!("{{user_team=search, user_lowtide_claim_uid={claim}}}"),
        ("resource_tags" | "product" | "discount" | "cost_category", None, _) => "{}".to_owned(),
        _ => own(row, name),
    }
}

/// Athena's timestamps: without a zone, with milliseconds.
fn of_athena(text: String) -> String {
    let is_time = text.len() == 20 && text.ends_with('Z');
    if is_time { text.replace('T', " ").replace('Z', ".000") } else { text }
}

/// What Data Exports writes of a column into Parquet.
enum Written {
    Map,
    Time,
    Amount,
    Text,
}

fn written(name: &str) -> Written {
    let of_amounts = ["_cost", "_fee", "_amount", "_for_billing_period", "_to_date", "_commitment", "_for_usage"];
    match name {
        "resource_tags" | "product" | "discount" | "cost_category" => Written::Map,
        name if name.ends_with("_date") && !name.ends_with("_to_date") => Written::Time,
        name if of_amounts.iter().any(|end| name.ends_with(end)) => Written::Amount,
        _ => Written::Text,
    }
}

/// The same lines as Parquet: maps as maps, times as milliseconds, amounts as doubles, and nothing where a line says nothing.
fn as_parquet(columns: &[String]) -> Vec<u8> {
    use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
    let one = |name: &String| match written(name) {
        Written::Map => format!(
            "optional group {name} (MAP) {{ repeated group key_value {{ required binary key (STRING); optional binary value (STRING); }} }}"
        ),
        Written::Time => format!("optional int64 {name} (TIMESTAMP(MILLIS,true));"),
        Written::Amount => format!("optional double {name};"),
        Written::Text => format!("optional binary {name} (STRING);"),
    };
    let schema = format!("message m {{ {} }}", columns.iter().map(one).collect::<Vec<_>>().join(" "));
    let schema = std::sync::Arc::new(parquet::schema::parser::parse_message_type(&schema).unwrap());
    let packing = parquet::file::properties::WriterProperties::builder().set_compression(parquet::basic::Compression::SNAPPY).build();
    let mut writer = parquet::file::writer::SerializedFileWriter::new(Vec::new(), schema, std::sync::Arc::new(packing)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let text = |value: &str| ByteArray::from(value.as_bytes().to_vec());
    for name in columns {
        let values: Vec<String> = rows().iter().map(|row| own(row, name)).filter(|value| !value.is_empty()).collect();
        let defined: Vec<i16> = rows().iter().map(|row| i16::from(!own(row, name).is_empty())).collect();
        match written(name) {
            Written::Map => {
                let tagged = |row: &Row| name == "resource_tags" && row.contains_key("resource_tags_user_lowtide_claim_uid");
                let claims: Vec<String> =
                    rows().iter().filter(|row| tagged(row)).map(|row| own(row, "resource_tags_user_lowtide_claim_uid")).collect();
                // A map with two entries, or one that is empty.
                let per_row =
                    |deep: i16| rows().iter().flat_map(|row| if tagged(row) { vec![deep; 2] } else { vec![1] }).collect::<Vec<i16>>();
                let again: Vec<i16> = rows().iter().flat_map(|row| if tagged(row) { vec![0, 1] } else { vec![0] }).collect();
                let keys = claims.iter().flat_map(|_| [text("user_team"), text("user_lowtide_claim_uid")]).collect::<Vec<_>>();
                let entries = claims.iter().flat_map(|claim| [text("search"), text(claim)]).collect::<Vec<_>>();
                for (deep, values) in [(2, keys), (3, entries)] {
                    let mut column = group.next_column().unwrap().unwrap();
                    column.typed::<ByteArrayType>().write_batch(&values, Some(&per_row(deep)), Some(&again)).unwrap();
                    column.close().unwrap();
                }
            }
            Written::Time => {
                let times: Vec<i64> = values.iter().map(|value| value.parse::<jiff::Timestamp>().unwrap().as_millisecond()).collect();
                let mut column = group.next_column().unwrap().unwrap();
                column.typed::<Int64Type>().write_batch(&times, Some(&defined), None).unwrap();
                column.close().unwrap();
            }
            Written::Amount => {
                let amounts: Vec<f64> = values.iter().map(|value| value.parse().unwrap()).collect();
                let mut column = group.next_column().unwrap().unwrap();
                column.typed::<DoubleType>().write_batch(&amounts, Some(&defined), None).unwrap();
                column.close().unwrap();
            }
            Written::Text => {
                let texts: Vec<ByteArray> = values.iter().map(|value| text(value)).collect();
                let mut column = group.next_column().unwrap().unwrap();
                column.typed::<ByteArrayType>().write_batch(&texts, Some(&defined), None).unwrap();
                column.close().unwrap();
            }
        }
    }
    group.close().unwrap();
    writer.into_inner().unwrap()
}

#[tokio::test]
async fn a_bill_with_the_headers_that_aws_writes_is_the_same_in_every_form() {
    let Bench { url, ledger, server } = bench().await;
    machine_of(&ledger, "a", DAY, 4).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("headers");
    let older: Vec<String> = OLDER.split(',').map(|name| name.trim().to_owned()).collect();
    let cur_2: Vec<String> = CUR_2.split(',').map(|name| name.trim().to_owned()).collect();
    let mut of_older_by_athena: Vec<String> = older.iter().map(|name| athena(name)).collect();
    of_older_by_athena.extend(["year".to_owned(), "month".to_owned()]);
    let all_quoted = |value: &str| format!("\"{}\"", value.replace('"', "\"\""));
    let partition = |row: &Row, name: &str| match name {
        "year" => "2026".to_owned(),
        "month" => "7".to_owned(),
        name => of_athena(own(row, name)),
    };
    let files = [
        ("older", file_of(&older, |row, name| own(row, &athena(name)), quoted)),
        ("cur-2", file_of(&cur_2, |row, name| with_map(row, name, true), quoted)),
        ("older-by-athena", file_of(&of_older_by_athena, partition, all_quoted)),
        ("cur-2-by-athena", file_of(&cur_2, |row, name| of_athena(with_map(row, name, false)), all_quoted)),
    ];
    for (n, (name, text)) in files.iter().enumerate() {
        let done = taken(&mut connection, Format::Cur, &[folder.file(&format!("{name}/cur.csv"), text)]).await;
        let done = done.unwrap_or_else(|fault| panic!("{name}: {fault}"));
        assert_eq!(changed(&done).is_some(), n == 0, "{name} says the same as the first: {:?}", changed(&done));
    }
    let columnar = folder.0.join("cur-2.snappy.parquet");
    std::fs::write(&columnar, as_parquet(&cur_2)).unwrap();
    let done = taken(&mut connection, Format::Cur, &[columnar]).await.unwrap_or_else(|fault| panic!("cur-2 as Parquet: {fault}"));
    assert!(changed(&done).is_none(), "cur-2 as Parquet says the same as the first: {:?}", changed(&done));
    let mut of = async |line: &str| of_line(&mut connection, line).await;
    assert_eq!(
        [of("pod").await, of("discount").await, of("transfer").await, of("volume").await],
        ["3.60", "-0.36", "0.09", "0.30"],
        "1.10, 0.80, 0.70 and 1.00; a tenth off each; both kinds of transfer; the volume that is tagged"
    );
    assert_eq!(causes(&server), "commitment 2, confirmed 1, price-differed 1");
    let said = reconcile(&mut connection, &"2026-07".parse().unwrap()).await.unwrap().sentence;
    assert!(said.contains("AWS confirmed 1 instance-hours and 3 were trued up by -$0.40, $3.60 in all"), "{said}");
    assert!(said.contains("data carried across regions, of our machines $0.04"), "{said}");
    assert!(said.contains("commitments left unused, of the account $7.40") && said.contains("taxes, of the account $2.00"), "{said}");
    assert_eq!(cost(&mut connection).await, "3.63");
}

fn causes(server: &PrivatePostgres) -> String {
    let sql = "SELECT string_agg(cause || ' ' || n, ', ' ORDER BY cause) FROM (SELECT cause, count(*) AS n FROM
               (SELECT DISTINCT ON (claim_uid, hour) * FROM ledger.true_up ORDER BY claim_uid, hour, posted_at DESC) t GROUP BY cause) x";
    server.psql("postgres", sql).unwrap().trim().to_owned()
}

/// FOCUS 1.0 as AWS exports it, its own columns included; what 1.1 and 1.2 added.
const FOCUS_1_0: &str = "AvailabilityZone,BilledCost,BillingAccountId,BillingAccountName,BillingCurrency,BillingPeriodEnd,BillingPeriodStart,ChargeCategory,\
    ChargeClass,ChargeDescription,ChargeFrequency,ChargePeriodEnd,ChargePeriodStart,CommitmentDiscountCategory,CommitmentDiscountId,CommitmentDiscountName,\
    CommitmentDiscountStatus,CommitmentDiscountType,ConsumedQuantity,ConsumedUnit,ContractedCost,ContractedUnitPrice,EffectiveCost,InvoiceIssuerName,ListCost,\
    ListUnitPrice,PricingCategory,PricingQuantity,PricingUnit,ProviderName,PublisherName,RegionId,RegionName,ResourceId,ResourceName,ResourceType,\
    ServiceCategory,ServiceName,SkuId,SkuPriceId,SubAccountId,SubAccountName,Tags,x_CostCategories,x_Discounts,x_Operation,x_ServiceCode,x_UsageType";
const ADDED_BY_1_1: &str = "CapacityReservationId,CapacityReservationStatus,CommitmentDiscountQuantity,CommitmentDiscountUnit,ServiceSubcategory,SkuMeter,\
    SkuPriceDetails";
const ADDED_BY_1_2: &str = "BillingAccountType,InvoiceId,PricingCurrency,PricingCurrencyContractedUnitPrice,PricingCurrencyEffectiveCost,PricingCurrencyListUnitPrice,SubAccountType";

/// 1.3 says who provides and who hosts where 1.2 says `ProviderName` and `PublisherName`.
const ADDED_BY_1_3: &str = "AllocatedMethodDetails,AllocatedMethodId,AllocatedResourceId,AllocatedResourceName,AllocatedTags,ContractApplied,HostProviderName,\
    ServiceProviderName";

/// A file with one row of storage, one that a commitment covers, and one of a machine of ours.
fn focus(columns: &str) -> String {
    let columns: Vec<&str> = columns.split(',').map(str::trim).collect();
    let row = |own: &[(&str, &str)]| {
        let value = |name: &&str| {
            let given = own.iter().find(|(of, _)| of == name).map(|(_, value)| *value);
            let always = match *name {
                "BillingAccountId" => "111122223333",
                "BillingCurrency" | "PricingCurrency" => "USD",
                "BillingPeriodStart" => "2026-07-01T00:00:00.000Z",
                "BillingPeriodEnd" => "2026-08-01T00:00:00.000Z",
                "ChargePeriodStart" => "2026-07-20T00:00:00.000Z",
                "ChargePeriodEnd" => "2026-07-21T00:00:00.000Z",
                "ChargeCategory" => "Usage",
                "ProviderName" | "PublisherName" | "InvoiceIssuerName" | "HostProviderName" | "ServiceProviderName" => "AWS",
                "AllocatedMethodDetails" | "AllocatedTags" | "ContractApplied" | "SkuPriceDetails" | "x_Discounts" | "x_CostCategories" => {
                    "{}"
                }
                _ => "",
            };
            quoted(given.unwrap_or(always))
        };
        columns.iter().map(value).collect::<Vec<_>>().join(",")
    };
    let tags = ("Tags", "{\"user_Squad\":\"search\"}");
    let rows = [
        row(&[
            // The effective cost is the one after negotiated discounts, of the four.
            ("ListCost", "16.00"),
            ("ContractedCost", "14.00"),
            ("EffectiveCost", "12.00"),
            ("BilledCost", "13.00"),
            ("ServiceName", "Amazon Simple Storage Service"),
            ("ServiceCategory", "Storage"),
            tags,
        ]),
        row(&[
            ("EffectiveCost", "3.00"),
            ("BilledCost", "0"),
            ("ServiceName", "Amazon SageMaker"),
            ("CommitmentDiscountId", "arn:aws:savingsplans::1:savingsplan/s"),
            ("CommitmentDiscountStatus", "Used"),
            tags,
        ]),
        row(&[("EffectiveCost", "99.00"), ("BilledCost", "99.00"), ("ServiceName", "Amazon Elastic Compute Cloud"), ("ResourceId", "i-a")]),
    ];
    format!("{}\n{}\n", columns.join(","), rows.join("\n"))
}

#[tokio::test]
async fn focus_with_the_headers_of_each_version_is_the_same() {
    let Bench { url, ledger, server } = bench().await;
    machine_of(&ledger, "a", DAY, 4).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("headers-focus");
    let mapping = Mapping::read(&folder.file("tags.csv", "label,tag\nteam,Squad\n")).unwrap();
    let (v11, v12) = (format!("{FOCUS_1_0},{ADDED_BY_1_1}"), format!("{FOCUS_1_0},{ADDED_BY_1_1},{ADDED_BY_1_2}"));
    let v13 = format!("{v12},{ADDED_BY_1_3}").replace("ProviderName,PublisherName,", "");
    for (n, columns) in [FOCUS_1_0, &v11, &v12, &v13].into_iter().enumerate() {
        let file = folder.file(&format!("{n}/focus.csv"), &focus(columns));
        let done = taken(&mut connection, Format::Focus(&mapping), &[file]).await.unwrap_or_else(|fault| panic!("1.{n}: {fault}"));
        assert_eq!((done.left_out, changed(&done).is_some()), (1, n == 0), "1.{n}");
    }
    let costs = "SELECT string_agg(concat_ws(' ', team, workload_name, component, cost_usd::numeric(10,2)), '; ' ORDER BY cost_usd)
                 FROM ledger.cost_daily WHERE line = 'overhead'";
    assert_eq!(
        server.psql("postgres", costs).unwrap().trim(),
        "search AWS: Amazon SageMaker api 3.00; search AWS: Amazon Simple Storage Service storage 12.00"
    );
}
