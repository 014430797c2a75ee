-- FOCUS 1.2 rows for our share of the bill: an enrichment, so BilledCost is 0 (only the invoicer may bill) and savings are x_ columns.
--
-- ListCost is the exact product of on-demand price and machine-hours (ten decimals each); it may differ from B0, which is split in whole
-- micro-dollars. Where no on-demand price is known the list price is what was paid, and x_ListPriceKnown says so. Hours that EC2 gave for free
-- have quantity 0. Costs entered by hand are not AWS's and not here. The billing account is the payer that the Cost and Usage Report
-- names, the sub account the one that used the machine; else both are the setting lowtide.billing_account. Commitments and capacity reservations are not told
-- apart by share: their columns are empty.
CREATE FUNCTION ledger.focus_of(from_at timestamptz, to_at timestamptz)
RETURNS TABLE ("AvailabilityZone" text, "BilledCost" numeric, "BillingAccountId" text, "BillingAccountName" text, "BillingCurrency" text,
               "BillingPeriodEnd" text, "BillingPeriodStart" text, "ChargeCategory" text, "ChargeClass" text, "ChargeDescription" text,
               "ChargeFrequency" text, "ChargePeriodEnd" text, "ChargePeriodStart" text, "ConsumedQuantity" numeric, "ConsumedUnit" text,
               "ContractedCost" numeric, "ContractedUnitPrice" numeric, "EffectiveCost" numeric, "InvoiceId" text, "InvoiceIssuerName" text,
               "ListCost" numeric, "ListUnitPrice" numeric, "PricingCategory" text, "PricingQuantity" numeric, "PricingUnit" text, "ProviderName"
               text, "PublisherName" text, "RegionId" text, "RegionName" text, "ResourceId" text, "ResourceName" text, "ResourceType" text,
               "ServiceCategory" text, "ServiceName" text, "ServiceSubcategory" text, "SkuId" text, "SkuMeter" text, "SkuPriceDetails" text,
               "SkuPriceId" text, "Tags" text, "x_DecisionId" text, "x_Basis" text, "x_WasteCategory" text, "x_BaselineId" text, "x_BaselineCost"
               numeric, "x_NetSavings" numeric, "x_ListPriceKnown" text, "CapacityReservationId" text,
               "CapacityReservationStatus" text, "CommitmentDiscountCategory" text, "CommitmentDiscountId" text, "CommitmentDiscountName" text,
               "CommitmentDiscountQuantity" numeric, "CommitmentDiscountStatus" text, "CommitmentDiscountType" text, "CommitmentDiscountUnit" text,
               "PricingCurrency" text, "PricingCurrencyContractedUnitPrice" numeric, "PricingCurrencyEffectiveCost" numeric,
               "PricingCurrencyListUnitPrice" numeric, "SubAccountId" text, "SubAccountName" text)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
WITH priced AS (
    SELECT a.*, i.gpus, a.line = 'egress' AS is_transfer, e.carried_gib, e.carried_usd_per_gib,
           coalesce(h.on_demand_usd_h, i.on_demand_usd_h, CASE WHEN i.capacity_type = 'on-demand' THEN i.price_usd_h END) AS list_usd_h,
           CASE WHEN a.cost_usd = 0 AND coalesce(a.b0_usd, 0) = 0 THEN 0 ELSE round(a.gpu_ms / (greatest(i.gpus, 1) * 3600000.0), 10) END AS hours,
           date_trunc('second', a.at AT TIME ZONE 'UTC') AS charge_from,
           date_trunc('second', (a.at + greatest(a.span_ms, 1) * interval '1 millisecond' + interval '999 milliseconds') AT TIME ZONE 'UTC') AS charge_to,
           coalesce(b.payer, b.account, nullif(current_setting('lowtide.billing_account', true), ''), 'unknown') AS account,
           coalesce(b.account, nullif(current_setting('lowtide.billing_account', true), ''), 'unknown') AS sub_account
    FROM (SELECT * FROM ledger.allocation_of(from_at, to_at) WHERE ledger.is_use(line)) a
    JOIN LATERAL (SELECT x.gpus, x.on_demand_usd_h, x.price_usd_h, x.capacity_type FROM ledger.interval_opened x WHERE x.claim_uid = a.claim_uid
                  ORDER BY x.posted_at, x.at LIMIT 1) i ON true
    LEFT JOIN LATERAL (SELECT q.on_demand_usd_h FROM ledger.hour_priced q WHERE q.claim_uid = a.claim_uid AND q.hour <= a.hour AND q.on_demand_usd_h IS NOT NULL
                       ORDER BY q.hour DESC, q.posted_at LIMIT 1) h ON true
    LEFT JOIN LATERAL (SELECT x.carried_gib, x.carried_usd_per_gib FROM ledger.occupancy_opened x WHERE x.claim_uid = a.claim_uid AND x.pod_uid = a.pod_uid
                       AND a.line = 'egress' ORDER BY x.posted_at, x.at LIMIT 1) e ON true
    LEFT JOIN LATERAL (SELECT x.account, CASE WHEN s.source ~ '^[0-9]{12}$' THEN s.source END AS payer
                       FROM ledger.billed_line x LEFT JOIN ledger.statement s ON s.id = x.statement
                       WHERE x.instance = a.instance AND x.source = 'bill' ORDER BY x.posted_at DESC LIMIT 1) b ON true
), quantified AS (
    SELECT *, CASE WHEN is_transfer THEN carried_gib::numeric ELSE hours END AS quantity,
           CASE WHEN is_transfer THEN carried_usd_per_gib ELSE coalesce(list_usd_h, CASE WHEN hours > 0 THEN greatest(round(cost_usd / hours, 10), 0) END, 0) END AS unit_price
    FROM priced
)
SELECT zone AS "AvailabilityZone", 0::numeric AS "BilledCost", account AS "BillingAccountId", account AS "BillingAccountName", 'USD' AS "BillingCurrency",
       to_char(date_trunc('month', charge_from) + interval '1 month', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS "BillingPeriodEnd",
       to_char(date_trunc('month', charge_from), 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS "BillingPeriodStart",
       'Usage' AS "ChargeCategory", NULL::text AS "ChargeClass",
       CASE WHEN is_transfer THEN 'data carried to ' || region ELSE instance_type || ' ' || capacity_type || ', ' || line END AS "ChargeDescription",
       'Usage-Based' AS "ChargeFrequency", to_char(charge_to, 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS "ChargePeriodEnd",
       to_char(charge_from, 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS "ChargePeriodStart",
       quantity AS "ConsumedQuantity", CASE WHEN is_transfer THEN 'GB' ELSE 'Hours' END AS "ConsumedUnit",
       unit_price * quantity AS "ContractedCost", unit_price AS "ContractedUnitPrice", cost_usd AS "EffectiveCost", NULL::text AS "InvoiceId",
       'AWS' AS "InvoiceIssuerName", unit_price * quantity AS "ListCost", unit_price AS "ListUnitPrice",
       CASE WHEN is_transfer THEN 'Standard' WHEN capacity_type = 'spot' THEN 'Dynamic' WHEN capacity_type = 'reserved' THEN 'Committed' ELSE 'Standard' END AS "PricingCategory",
       quantity AS "PricingQuantity", CASE WHEN is_transfer THEN 'GB' ELSE 'Hours' END AS "PricingUnit", 'AWS' AS "ProviderName", 'AWS' AS "PublisherName",
       region AS "RegionId", region AS "RegionName", instance AS "ResourceId", NULL::text AS "ResourceName", 'EC2 instance' AS "ResourceType",
       CASE WHEN is_transfer THEN 'Networking' ELSE 'Compute' END AS "ServiceCategory",
       CASE WHEN is_transfer THEN 'AWS Data Transfer' ELSE 'Amazon Elastic Compute Cloud' END AS "ServiceName",
       CASE WHEN is_transfer THEN 'Network Infrastructure' ELSE 'Virtual Machines' END AS "ServiceSubcategory",
       CASE WHEN is_transfer THEN 'data-transfer' ELSE 'ec2/' || instance_type END AS "SkuId", CASE WHEN is_transfer THEN 'Data carried between regions' ELSE 'Machine hours' END AS "SkuMeter",
       NULL::text AS "SkuPriceDetails", CASE WHEN is_transfer THEN 'data-transfer/' || region ELSE 'ec2/' || instance_type || '/' || region END AS "SkuPriceId",
       jsonb_strip_nulls(jsonb_build_object('team', team, 'service', service, 'environment', environment, 'cost-center', cost_center,
                                            'product-area', product_area, 'component', component))::text AS "Tags",
       decision::text AS "x_DecisionId", basis AS "x_Basis", line AS "x_WasteCategory", 'B1' AS "x_BaselineId", b1_usd AS "x_BaselineCost",
       b1_usd - cost_usd AS "x_NetSavings", CASE WHEN list_usd_h IS NOT NULL OR is_transfer THEN 'true' ELSE 'false' END AS "x_ListPriceKnown",
       NULL::text AS "CapacityReservationId", NULL::text AS "CapacityReservationStatus", NULL::text AS "CommitmentDiscountCategory",
       NULL::text AS "CommitmentDiscountId", NULL::text AS "CommitmentDiscountName", NULL::numeric AS "CommitmentDiscountQuantity",
       NULL::text AS "CommitmentDiscountStatus", NULL::text AS "CommitmentDiscountType", NULL::text AS "CommitmentDiscountUnit", 'USD' AS "PricingCurrency",
       unit_price AS "PricingCurrencyContractedUnitPrice", cost_usd AS "PricingCurrencyEffectiveCost", unit_price AS "PricingCurrencyListUnitPrice",
       sub_account AS "SubAccountId", sub_account AS "SubAccountName"
FROM quantified
$$;

CREATE VIEW ledger.focus_1_2 AS SELECT * FROM ledger.focus_of('-infinity', 'infinity');
