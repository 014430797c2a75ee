-- The price that holds for every offer: the last one that AWS gave, and since when. On-demand prices, which have no zone, may hold for years.
WITH recent AS (
    SELECT DISTINCT ON (region, zone, instance_type, capacity_type) region, zone, instance_type, capacity_type, price_usd_h, source, at
    FROM ledger.price_quote
    WHERE at > now() - interval '90 days' AND posted_at < (SELECT ledger.known_before())
    ORDER BY region, zone, instance_type, capacity_type, at DESC
), older AS (
    SELECT q.region, q.zone, q.instance_type, q.capacity_type, q.price_usd_h, q.source, q.at
    FROM (SELECT DISTINCT instance_type FROM recent) AS sold
    JOIN ledger.price_quote q ON q.instance_type = sold.instance_type AND q.zone IS NULL
    WHERE q.at <= now() - interval '90 days' AND q.posted_at < (SELECT ledger.known_before())
)
SELECT DISTINCT ON (region, zone, instance_type, capacity_type)
       region, zone, instance_type, capacity_type, trim_scale(price_usd_h)::text AS price_usd_h, source,
       ledger.ms(at)::text AS since_ms
FROM (SELECT * FROM recent UNION ALL SELECT * FROM older) AS known
ORDER BY region, zone, instance_type, capacity_type, at DESC
