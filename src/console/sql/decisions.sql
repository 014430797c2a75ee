-- The last decisions of 30 days about the pod $1/$2: those that name it, and those that placed it.
SELECT d.decision::text AS decision, ledger.ms(d.decided_at)::text AS decided_ms, d.trigger, d.outcome, d.text,
       d.region, d.zone, d.instance_type, d.capacity_type, trim_scale(d.price_usd_h)::text AS price_usd_h,
       trim_scale(d.per_replica_usd_h)::text AS per_replica_usd_h, d.replicas::text AS replicas,
       trim_scale(d.b0_usd_h)::text AS b0_usd_h, trim_scale(d.b1_replica_usd_h)::text AS b1_replica_usd_h,
       trim_scale(d.b2_replica_usd_h)::text AS b2_replica_usd_h, d.refused_counts::text AS refused_counts, d.claim, d.from_claim
FROM ledger.explain_decision d
WHERE d.decided_at > now() - interval '30 days'
  AND (d.pods @> jsonb_build_array(jsonb_build_object('namespace', $1::text, 'name', $2::text))
       OR d.decision IN (SELECT o.decision FROM ledger.occupancy_opened o WHERE o.pod_namespace = $1 AND o.pod_name = $2))
ORDER BY d.decided_at DESC, d.decision
LIMIT 5
