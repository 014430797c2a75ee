-- The offers that decision $1 refused, the best first.
SELECT c.rank::text AS rank, c.instance_type, c.capacity_type, c.zone, trim_scale(c.price_usd_h)::text AS price_usd_h,
       trim_scale(c.per_replica_usd_h)::text AS per_replica_usd_h, c.refusal
FROM ledger.candidate c
WHERE c.decision = $1::text::uuid AND c.decided_at > now() - interval '31 days'
ORDER BY c.rank
