-- FOCUS 1.2 rows for our share of the bill: an enrichment, so BilledCost is 0 (only the invoicer may bill) and savings are x_ columns.
CREATE VIEW ledger.focus_1_2 AS
SELECT 0::numeric AS "BilledCost", a.cost_usd AS "EffectiveCost",
       coalesce(a.b0_usd, a.cost_usd) AS "ListCost", coalesce(a.b0_usd, a.cost_usd) AS "ContractedCost",
       'USD' AS "BillingCurrency", to_char(date_trunc('month', a.day), 'YYYY-MM-DD"T00:00:00Z"') AS "BillingPeriodStart",
       to_char(date_trunc('month', a.day) + interval '1 month', 'YYYY-MM-DD"T00:00:00Z"') AS "BillingPeriodEnd",
       to_char(a.day, 'YYYY-MM-DD"T00:00:00Z"') AS "ChargePeriodStart", to_char(a.day + 1, 'YYYY-MM-DD"T00:00:00Z"') AS "ChargePeriodEnd",
       'Usage' AS "ChargeCategory", NULL::text AS "ChargeClass", a.instance_type || ' ' || a.capacity_type || ', ' || a.line AS "ChargeDescription",
       CASE a.capacity_type WHEN 'spot' THEN 'Dynamic' WHEN 'reserved' THEN 'Committed' ELSE 'Standard' END AS "PricingCategory",
       round(a.gpu_ms / 3600000.0, 10) AS "PricingQuantity", 'GPU-Hours' AS "PricingUnit", 'Compute' AS "ServiceCategory",
       'Amazon Elastic Compute Cloud' AS "ServiceName", 'AWS' AS "ProviderName", 'AWS' AS "PublisherName", 'AWS' AS "InvoiceIssuerName",
       a.region AS "RegionId", a.instance AS "ResourceId", a.instance_type AS "ResourceType",
       jsonb_strip_nulls(jsonb_build_object('team', a.team, 'service', a.service, 'environment', a.environment, 'cost-center', a.cost_center,
                                            'product-area', a.product_area))::text AS "Tags",
       a.decision AS "x_DecisionId", a.basis AS "x_Basis", a.line AS "x_WasteCategory", 'B1' AS "x_BaselineId",
       a.b1_usd AS "x_BaselineCost", a.b1_usd - a.cost_usd AS "x_NetSavings"
FROM ledger.allocation a;
