-- A ledger of a hundred days: two teams, and one whose names are hostile. The last three hours of ml cost three times as much.
DO $$ BEGIN
    FOR n IN 0..4 LOOP PERFORM ledger.ensure_month((date_trunc('month', now()) - n * interval '1 month')::date); END LOOP;
END $$;
INSERT INTO ledger.workload_version (id, at, workload_kind, workload_namespace, workload_name, team, service, component) VALUES
    ('00000000-0000-5000-8000-000000000001', now() - interval '120 days', 'Deployment', 'ml', 'chat', 'ml-team', 'chat', 'inference'),
    ('00000000-0000-5000-8000-000000000002', now() - interval '120 days', 'Deployment', 'web', 'site', 'web-team', 'site', 'inference'),
    ('00000000-0000-5000-8000-000000000003', now() - interval '120 days', 'Job', 'web', '<script>alert(1)</script>', '"><img src=x onerror=alert(1)>', '<b>bold</b>', 'training');
INSERT INTO ledger.posting (id, at, workload, gpu_ms, span_ms, hour, claim_uid, line, pod_uid, kind, cause, cost_usd, b0_usd, b1_usd, b2_usd, feed_usd, bill_usd)
SELECT gen_random_uuid(), h, ('00000000-0000-5000-8000-00000000000' || w)::uuid, 3600000 * f, 3600000, extract(epoch FROM h)::bigint / 3600, 'c' || w, line, 'p' || w,
       'estimate', 'settled', 20 * f * part, 60 * f * part, CASE line WHEN 'pod' THEN 50 * f END, CASE line WHEN 'pod' THEN 20 * f END, 0, 0
FROM (SELECT h, w, CASE WHEN w = 1 AND h >= date_trunc('hour', now()) - interval '3 hours' THEN 3 ELSE w END AS f
      FROM generate_series(date_trunc('hour', now()) - interval '100 days', date_trunc('hour', now()) - interval '1 hour', interval '1 hour') h, generate_series(1, 3) w) x
CROSS JOIN (VALUES ('pod', 1.0), ('idle', 0.1)) AS l(line, part);
INSERT INTO ledger.price_quote (id, at, region, zone, instance_type, capacity_type, price_usd_h, source)
SELECT gen_random_uuid(), now() - age * interval '1 hour', region, zone, kind, capacity, usd, 'spot-price-history'
FROM (VALUES ('us-east-1', 'use1-az1', 'g6.xlarge', 'spot', 0.25, 30), ('us-east-1', 'use1-az1', 'g6.xlarge', 'spot', 0.31, 3),
             ('us-east-1', 'use1-az2', 'g6.xlarge', 'spot', 0.40, 5), ('us-east-1', 'use1-az2', 'g5.xlarge', 'spot', 0.95, 2),
             ('us-east-1', NULL, 'g6.xlarge', 'on-demand', 0.8048, 800), ('us-east-1', NULL, 'g5.xlarge', 'on-demand', 1.006, 800),
             ('eu-west-1', 'euw1-az1', 'g6.xlarge', 'spot', 0.36, 1)) AS q(region, zone, kind, capacity, usd, age);
INSERT INTO ledger.decision (id, at, cluster, trigger, outcome, text, workload_kind, workload_namespace, workload_name, team, service, component, pods,
    region, zone, instance_type, capacity_type, price_usd_h, per_replica_usd_h, replicas, refused_counts, offers_hash, b0_usd_h, b1_replica_usd_h, b2_replica_usd_h, claim, policy_hash, code_version)
VALUES ('00000000-0000-5000-8000-0000000000d1', date_trunc('hour', now()) - interval '20 minutes', 'test', 'pending-pod', 'launch',
        'Bought g6.xlarge spot in use1-az1 for ml/chat <script>alert(2)</script>', 'Deployment', 'ml', 'chat', 'ml-team', 'chat', 'inference',
        '[{"namespace": "ml", "name": "chat-0", "uid": "u0"}]', 'us-east-1', 'use1-az1', 'g6.xlarge', 'spot', 0.31, 0.32, 1,
        '{"dearer": 3, "cooling-down": 1}', 'x', 0.8048, 0.8048, 0.35, 'lt-ml-1', 'p', 'v'),
       ('00000000-0000-5000-8000-0000000000d2', date_trunc('hour', now()) - interval '30 minutes', 'test', 'pending-pod', 'launch',
        'Bought g5.xlarge spot in use1-az2 for web/site', 'Deployment', 'web', 'site', 'web-team', 'site', 'inference',
        '[{"namespace": "web", "name": "site-0", "uid": "u1"}]', 'us-east-1', 'use1-az2', 'g5.xlarge', 'spot', 0.95, 0.96, 1,
        '{"quota": 1}', 'x', 1.006, 1.006, 0.98, 'lt-web-1', 'p', 'v');
INSERT INTO ledger.candidate_set (id, at, offers)
SELECT d.id, d.at, o.offers FROM ledger.decision d JOIN (VALUES
    ('00000000-0000-5000-8000-0000000000d1'::uuid, E'us-east-1,use1-az2,g6.xlarge,spot,0.4,0.4,1,1000,spot-price-history,dearer,,\nus-east-1,use1-az2,g5.xlarge,spot,0.95,0.95,1,1000,spot-price-history,cooling-down,,'),
    ('00000000-0000-5000-8000-0000000000d2'::uuid, 'us-east-1,use1-az1,g6.xlarge,spot,0.31,0.31,1,1000,spot-price-history,quota,,')) AS o(id, offers) USING (id);
INSERT INTO ledger.migration (id, at, decision, pod_namespace, pod_name, pod_uid, from_claim, to_claim, deadline, decided_at, launched_at, node_ready_at, pod_ready_at, egress_gib)
SELECT gen_random_uuid(), t, '00000000-0000-5000-8000-0000000000d1', 'ml', 'chat-' || n, 'm' || n, 'lt-a', 'lt-b', t + interval '120 s', t + interval '1 s',
       t + interval '4 s', t + (40 + n) * interval '1 s', t + (70 + n) * interval '1 s', 0
FROM (SELECT n, now() - n * interval '1 day' AS t FROM generate_series(1, 9) n) x;
INSERT INTO ledger.budget (name, from_month, label, value, monthly_usd) VALUES
    ('everything', date_trunc('month', now() - interval '2 months')::date, NULL, NULL, 50000),
    ('ml', date_trunc('month', now() - interval '2 months')::date, 'team', 'ml-team', 1000);
