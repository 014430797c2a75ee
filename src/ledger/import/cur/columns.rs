//! The columns of the Cost and Usage Report, by the names that a header is read with.
//!
//! Decides: which columns are needed, which are read, and which are AWS's own. Does not: read a line (see [`super`]).
//! Sources: AWS Data Exports user guide, "CUR 2.0", "Line item columns", "Savings Plans columns", "Reservation columns"; CUR user guide, "Net columns".

/// Without these no line can be read.
pub(in crate::ledger::import) const REQUIRED: [&str; 6] = [
    "line_item_line_item_type",
    "line_item_resource_id",
    "line_item_usage_type",
    "line_item_usage_start_date",
    "line_item_unblended_cost",
    "line_item_currency_code",
];
/// What is read where it is there.
const ALSO_READ: [&str; 26] = [
    "identity_line_item_id",
    "identity_time_interval",
    "bill_invoice_id",
    "bill_payer_account_id",
    "bill_billing_period_start_date",
    "line_item_usage_account_id",
    "line_item_usage_end_date",
    "line_item_product_code",
    "line_item_operation",
    "line_item_usage_amount",
    "line_item_net_unblended_cost",
    "pricing_public_on_demand_cost",
    "reservation_effective_cost",
    "reservation_net_effective_cost",
    "reservation_unused_recurring_fee",
    "reservation_net_unused_recurring_fee",
    "reservation_unused_amortized_upfront_fee_for_billing_period",
    "reservation_net_unused_amortized_upfront_fee_for_billing_period",
    "savings_plan_savings_plan_effective_cost",
    "savings_plan_net_savings_plan_effective_cost",
    "savings_plan_total_commitment_to_date",
    "savings_plan_used_commitment",
    "resource_tags",
    "resource_tags_user_lowtide_claim_uid",
    "resource_tags_user_lowtide_share",
    "billing_period",
];

/// Whether a column is read; of a Parquet file only these are.
pub(in crate::ledger::import) fn is_read(name: &str) -> bool {
    REQUIRED.contains(&name) || ALSO_READ.contains(&name)
}

/// What the columns begin with of which a report may have any: products, prices and tags bring their own.
const FAMILIES: [&str; 15] = [
    "identity_",
    "bill_",
    "product_",
    "product",
    "pricing_",
    "resource_tags",
    "cost_category",
    "discount",
    "split_line_item_",
    "capacity_reservation_",
    "billing_period",
    "tags",
    "account_tags",
    "iam_principal",
    "usage_account_tags",
];

/// What the families of which the columns are listed begin with: amounts are read from them, and one by a name that nobody has would be left out unseen.
const LISTED: [(&str, &[&str]); 3] = [("line_item_", &LINE_ITEM), ("reservation_", &RESERVATION), ("savings_plan_", &SAVINGS_PLAN)];

const LINE_ITEM: [&str; 25] = [
    "availability_zone",
    "blended_cost",
    "blended_rate",
    "currency_code",
    "iam_principal",
    "legal_entity",
    "line_item_description",
    "line_item_type",
    "net_unblended_cost",
    "net_unblended_rate",
    "normalization_factor",
    "normalized_usage_amount",
    "operation",
    "product_code",
    "resource_id",
    "tax_type",
    "unblended_cost",
    "unblended_rate",
    "usage_account_id",
    "usage_account_name",
    "usage_amount",
    "usage_end_date",
    "usage_start_date",
    "usage_type",
    "user_identifier",
];
const RESERVATION: [&str; 28] = [
    "amortized_upfront_cost_for_usage",
    "amortized_upfront_fee_for_billing_period",
    "availability_zone",
    "effective_cost",
    "end_time",
    "modification_status",
    "net_amortized_upfront_cost_for_usage",
    "net_amortized_upfront_fee_for_billing_period",
    "net_effective_cost",
    "net_recurring_fee_for_usage",
    "net_unused_amortized_upfront_fee_for_billing_period",
    "net_unused_recurring_fee",
    "net_upfront_value",
    "normalized_units_per_reservation",
    "number_of_reservations",
    "recurring_fee_for_usage",
    "reservation_a_r_n",
    "reservation_arn",
    "start_time",
    "subscription_id",
    "total_reserved_normalized_units",
    "total_reserved_units",
    "units_per_reservation",
    "unused_amortized_upfront_fee_for_billing_period",
    "unused_normalized_unit_quantity",
    "unused_quantity",
    "unused_recurring_fee",
    "upfront_value",
];
const SAVINGS_PLAN: [&str; 18] = [
    "amortized_upfront_commitment_for_billing_period",
    "end_time",
    "instance_type_family",
    "net_amortized_upfront_commitment_for_billing_period",
    "net_recurring_commitment_for_billing_period",
    "net_savings_plan_effective_cost",
    "offering_type",
    "payment_option",
    "purchase_term",
    "recurring_commitment_for_billing_period",
    "region",
    "savings_plan_a_r_n",
    "savings_plan_arn",
    "savings_plan_effective_cost",
    "savings_plan_rate",
    "start_time",
    "total_commitment_to_date",
    "used_commitment",
];

/// Whether a report may have such a column.
pub(in crate::ledger::import) fn is_known_column(name: &str) -> bool {
    if let Some((rest, columns)) = LISTED.iter().find_map(|(family, columns)| Some((name.strip_prefix(family)?, columns))) {
        return columns.contains(&rest);
    }
    FAMILIES.iter().any(|family| name.starts_with(family)) || matches!(name, "year" | "month")
}
