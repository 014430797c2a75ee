-- How long moves of the last 30 days took from the decision on, in milliseconds: the median, and 95 of 100.
SELECT count(*)::text AS moves,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY ledger.ms(launched_at) - ledger.ms(decided_at)) FILTER (WHERE launched_at >= decided_at)::text AS launched_p50,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY ledger.ms(launched_at) - ledger.ms(decided_at)) FILTER (WHERE launched_at >= decided_at)::text AS launched_p95,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY ledger.ms(node_ready_at) - ledger.ms(decided_at)) FILTER (WHERE node_ready_at >= decided_at)::text AS node_p50,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY ledger.ms(node_ready_at) - ledger.ms(decided_at)) FILTER (WHERE node_ready_at >= decided_at)::text AS node_p95,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY ledger.ms(pod_ready_at) - ledger.ms(decided_at))::text AS pod_p50,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY ledger.ms(pod_ready_at) - ledger.ms(decided_at))::text AS pod_p95
FROM ledger.migration
WHERE at > now() - interval '30 days' AND posted_at < (SELECT ledger.known_before())
