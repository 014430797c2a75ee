-- MACHINES machines that run since yesterday, each with a pod and a price for every hour, as the operator writes them; and what the market of many regions costs.
INSERT INTO ledger.interval_opened (id, at, claim_uid, claim, decision, instance, region, zone, instance_type, capacity_type, gpus, price_usd_h, on_demand_usd_h)
SELECT gen_random_uuid(), now() - interval '20 hours' - n * interval '1 second', 'load-uid-' || n, 'lt-load-' || n, gen_random_uuid(), 'i-' || n, 'us-east-1', 'use1-az1', 'g6.xlarge', 'spot', 1, 0.31, 0.8048
FROM generate_series(1, MACHINES) n;
INSERT INTO ledger.occupancy_opened (id, at, claim_uid, pod_namespace, pod_name, pod_uid, workload_kind, workload_namespace, workload_name, kind, team, service, gpus, decision, b1_replica_usd_h, b2_replica_usd_h, component)
SELECT gen_random_uuid(), now() - interval '19 hours', 'load-uid-' || n, 'web', 'load-' || n, 'pod-uid-' || n, 'Deployment', 'web', 'load-' || n % 50, 'inference', 'team-' || n % 20, 'load', 1, gen_random_uuid(), 0.8048, 0.33, 'inference'
FROM generate_series(1, MACHINES) n;
INSERT INTO ledger.hour_priced (id, at, claim_uid, hour, price_usd_h, on_demand_usd_h)
SELECT gen_random_uuid(), now() - interval '20 hours' + h * interval '1 hour', 'load-uid-' || n, h, 0.31, 0.8048 FROM generate_series(1, MACHINES) n, generate_series(1, 19) h;
INSERT INTO ledger.price_quote (id, at, region, zone, instance_type, capacity_type, price_usd_h, source)
SELECT gen_random_uuid(), now() - h * interval '6 hours' - t * interval '1 minute', 'us-east-' || r, 'use' || r || '-az' || z, 'g' || t || '.xlarge', 'spot', 0.2 + t * 0.05 + h * 0.001, 'spot-price-history'
FROM generate_series(1, 4) r, generate_series(1, 6) z, generate_series(1, 60) t, generate_series(0, 40) h;
