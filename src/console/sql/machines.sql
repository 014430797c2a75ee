-- Machines that run, as the ledger has them: what was paid for each when it was bought, and what on-demand of its type did.
SELECT claim, instance, region, zone, instance_type, capacity_type, gpus::text AS gpus, trim_scale(price_usd_h)::text AS price_usd_h,
       trim_scale(on_demand_usd_h)::text AS on_demand_usd_h, running_from::text AS running_from, decision::text AS decision
FROM ledger.capacity_interval
WHERE running_to IS NULL
ORDER BY claim
