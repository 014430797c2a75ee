-- Offers that the decisions of the last 24 hours refused, and why; of the decisions about workloads in the namespaces of $1, or all.
SELECT c.region, c.zone, c.instance_type, c.capacity_type, c.refusal, count(*)::text AS times, max(ledger.ms(c.decided_at))::text AS last_ms
FROM ledger.candidate c
WHERE c.refusal IS NOT NULL AND c.decided_at > now() - interval '24 hours'
  AND ($1::text IS NULL OR EXISTS (SELECT FROM ledger.decision d WHERE d.id = c.decision AND d.at = c.decided_at
                                   AND d.workload_namespace = ANY (string_to_array($1, ','))))
GROUP BY 1, 2, 3, 4, 5
ORDER BY 1, 2, 3, 4, count(*) DESC, 5
