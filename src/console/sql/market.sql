-- The price that holds for every offer: the last one that EC2 gave, and since when.
SELECT DISTINCT ON (region, zone, instance_type, capacity_type)
       region, zone, instance_type, capacity_type, trim_scale(price_usd_h)::text AS price_usd_h, source,
       ledger.ms(at)::text AS since_ms
FROM ledger.price_quote
WHERE at > now() - interval '90 days' AND posted_at < (SELECT ledger.known_before())
ORDER BY region, zone, instance_type, capacity_type, at DESC
