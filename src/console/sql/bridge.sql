-- Why the month of $2 cost other than the month before, step by step; for workloads in the namespaces of $1, or all.
SELECT step_order::text AS step_order, step, sum(difference_usd)::numeric(24,6)::text AS difference_usd
FROM ledger.variance_month
WHERE month = $2::text::date AND ($1::text IS NULL OR workload_namespace = ANY (string_to_array($1, ',')))
GROUP BY variance_month.step_order, step
ORDER BY variance_month.step_order
