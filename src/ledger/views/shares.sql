-- Who paid what: postings and what is not posted yet, as one. `share` has every row; `allocation` what they add up to for each share;
-- `share_daily` reads the rollups where they are current (`share_rolled_up`), and is what reports sum.

CREATE OR REPLACE FUNCTION ledger.basis_of(running boolean, cost_usd numeric, feed_usd numeric, bill_usd numeric, entered_usd numeric) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN running THEN 'running' WHEN entered_usd <> 0 THEN CASE WHEN entered_usd = cost_usd THEN 'entered' ELSE 'mixed' END
                WHEN feed_usd = 0 AND bill_usd = 0 THEN 'estimate' WHEN bill_usd = cost_usd THEN 'bill' WHEN feed_usd = cost_usd THEN 'feed' ELSE 'mixed' END;

-- The use of machines and of data moved to run there: the only lines that savings are counted from. src/core/accounting/allocation.rs says the same.
CREATE OR REPLACE FUNCTION ledger.is_use(line text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN line IN ('pod', 'double-running', 'lost-work', 'boot', 'idle', 'drain', 'egress');

CREATE VIEW ledger.workload_history AS
SELECT id AS workload, workload_kind, workload_namespace, workload_name, at AS valid_from,
       lead(at) OVER (PARTITION BY workload_kind, workload_namespace, workload_name ORDER BY at) AS valid_to,
       team, service, environment, cost_center, product_area, component
FROM ledger.workload_version WHERE retag IS NULL;

-- Corrections of the labels of past days; of one label the last that was not taken back holds.
CREATE VIEW ledger.retags AS
SELECT r.id, r.workload_namespace, r.workload_name, ledger.utc_day(r.at) AS from_day, ledger.utc_day(r.until) - 1 AS last_day, r.labels, r.reason, r.taken_by,
       r.posted_at AS taken_at, r.withdraws,
       CASE WHEN r.withdraws IS NOT NULL THEN 'takes back'
            WHEN EXISTS (SELECT FROM ledger.retag w WHERE w.withdraws = r.id AND w.posted_at < (SELECT ledger.known_before())) THEN 'taken back'
            ELSE 'holds' END AS state
FROM ledger.retag r WHERE r.posted_at < (SELECT ledger.known_before()) ORDER BY r.n;

CREATE VIEW ledger.share AS
SELECT p.at, ledger.utc_day(p.at) AS day, p.span_ms, p.claim_uid, p.hour::bigint AS hour, p.line, p.pod_uid, p.workload,
       w.workload_kind, w.workload_namespace, w.workload_name, w.team, w.service, w.environment, w.cost_center, w.product_area, w.component,
       p.kind, p.cause, p.posted_at, p.gpu_ms, p.cost_usd, p.b0_usd, p.b1_usd, p.b2_usd, p.feed_usd, p.bill_usd
FROM ledger.posting p LEFT JOIN ledger.workload_version w ON w.id = p.workload
WHERE p.posted_at < (SELECT ledger.known_before())
UNION ALL
SELECT u.at, u.day, u.span_ms, u.claim_uid, u.hour, u.line, u.pod_uid, NULL,
       u.workload_kind, u.workload_namespace, u.workload_name, u.team, u.service, u.environment, u.cost_center, u.product_area, u.component,
       CASE u.basis WHEN 'running' THEN 'running' ELSE 'estimate' END, 'not-posted', NULL, u.gpu_ms,
       u.cost_micro * 0.000001, u.b0_micro * 0.000001, u.b1_micro * 0.000001, u.b2_micro * 0.000001, 0, 0
FROM ledger.unposted_share u WHERE ledger.known_before() = 'infinity';

-- What shares that begin in a span of time add up to. Partitions beside it are not read.
CREATE FUNCTION ledger.allocation_of(from_at timestamptz, to_at timestamptz)
RETURNS TABLE (claim_uid text, claim text, instance text, region text, zone text, instance_type text, capacity_type text, hour bigint, at timestamptz,
               span_ms bigint, day date, line text, pod_uid text, pod_namespace text, pod_name text, decision uuid, workload_kind text,
               workload_namespace text, workload_name text, team text, service text, environment text, cost_center text, product_area text, component text,
               basis text, gpu_ms bigint, cost_usd numeric, b0_usd numeric, b1_usd numeric, b2_usd numeric, feed_usd numeric, bill_usd numeric)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
WITH net AS (
    SELECT min(at) AS at, max(span_ms) AS span_ms, day, claim_uid, hour, line, pod_uid, workload, workload_kind, workload_namespace, workload_name,
           team, service, environment, cost_center, product_area, component, bool_or(kind = 'running') AS running,
           sum(gpu_ms)::bigint AS gpu_ms, sum(cost_usd) AS cost_usd, CASE WHEN bool_or(b0_usd IS NOT NULL) THEN sum(b0_usd) END AS b0_usd,
           CASE WHEN bool_or(b1_usd IS NOT NULL) THEN sum(b1_usd) END AS b1_usd, CASE WHEN bool_or(b2_usd IS NOT NULL) THEN sum(b2_usd) END AS b2_usd,
           sum(feed_usd) AS feed_usd, sum(bill_usd) AS bill_usd
    FROM ledger.share s WHERE s.at >= from_at AND s.at < to_at
    GROUP BY day, claim_uid, hour, line, pod_uid, workload, workload_kind, workload_namespace, workload_name, team, service, environment, cost_center,
             product_area, component
    -- A share that late facts took back is no share.
    HAVING sum(gpu_ms) <> 0 OR sum(cost_usd) <> 0
)
SELECT n.claim_uid, m.claim, m.instance, m.region, m.zone, m.instance_type, m.capacity_type, n.hour, n.at,
       -- The first minute is charged whole.
       ledger.length_of(n.at, n.span_ms, e.ended, m.at + interval '1 minute') AS span_ms,
       n.day, n.line,
       n.pod_uid, o.pod_namespace, o.pod_name, coalesce(o.decision, m.decision) AS decision, n.workload_kind, n.workload_namespace, n.workload_name,
       n.team, n.service, n.environment, n.cost_center, n.product_area, n.component,
       CASE n.line WHEN 'overhead' THEN 'entered' ELSE ledger.basis_of(n.running, n.cost_usd, n.feed_usd, n.bill_usd, 0) END AS basis,
       n.gpu_ms, n.cost_usd, n.b0_usd, n.b1_usd, n.b2_usd, n.feed_usd, n.bill_usd
FROM net n
LEFT JOIN LATERAL (SELECT * FROM ledger.interval_opened x WHERE x.claim_uid = n.claim_uid ORDER BY x.posted_at, x.at LIMIT 1) m ON true
LEFT JOIN LATERAL (SELECT x.pod_namespace, x.pod_name, x.decision FROM ledger.occupancy_opened x
                   WHERE x.claim_uid = n.claim_uid AND x.pod_uid = n.pod_uid ORDER BY x.posted_at, x.at LIMIT 1) o ON true
LEFT JOIN LATERAL (SELECT x.at AS ended FROM ledger.interval_closed x WHERE x.claim_uid = n.claim_uid AND x.posted_at < (SELECT ledger.known_before())
                   ORDER BY x.posted_at, x.at LIMIT 1) e ON true
$$;

CREATE VIEW ledger.allocation AS SELECT * FROM ledger.allocation_of('-infinity', 'infinity');

CREATE VIEW ledger.share_rolled_up AS
SELECT r.day, w.workload_kind, w.workload_namespace, w.workload_name, w.team, w.service, w.environment, w.cost_center, w.product_area, w.component,
       r.line, nullif(r.region, '') AS region, nullif(r.instance_type, '') AS instance_type, nullif(r.capacity_type, '') AS capacity_type, false AS running,
       r.gpu_ms, r.cost_usd, r.b0_usd, r.b1_usd, r.b2_usd, r.without_b0_usd, r.without_b1_usd, r.without_b2_usd, r.feed_usd, r.bill_usd, r.true_up_usd
FROM ledger.cost_rollup r LEFT JOIN ledger.workload_version w ON w.id = r.workload
-- Hashed once. NOT EXISTS reads as well and ends as a loop over the queue for every sum: it is mostly empty, so the planner thinks it cheap.
WHERE (r.day, r.workload) NOT IN (SELECT q.day, q.workload FROM ledger.rollup_queue q) AND ledger.known_before() = 'infinity';

CREATE VIEW ledger.share_not_rolled_up AS
-- Keys whose rollup is about to be rebuilt.
SELECT q.day, w.workload_kind, w.workload_namespace, w.workload_name, w.team, w.service, w.environment, w.cost_center, w.product_area, w.component,
       p.line, m.region, m.instance_type, m.capacity_type, false AS running,
       p.gpu_ms, p.cost_usd, coalesce(p.b0_usd, 0) AS b0_usd, coalesce(p.b1_usd, 0) AS b1_usd, coalesce(p.b2_usd, 0) AS b2_usd,
       CASE WHEN p.b0_usd IS NULL THEN p.cost_usd ELSE 0 END AS without_b0_usd,
       CASE WHEN p.line = 'pod' AND p.b1_usd IS NULL THEN p.cost_usd ELSE 0 END AS without_b1_usd,
       CASE WHEN p.line = 'pod' AND p.b2_usd IS NULL THEN p.cost_usd ELSE 0 END AS without_b2_usd, p.feed_usd, p.bill_usd,
       CASE WHEN p.kind IN ('feed', 'bill') AND p.claim_uid IS NOT NULL THEN p.cost_usd ELSE 0 END AS true_up_usd
FROM (SELECT DISTINCT day, workload FROM ledger.rollup_queue) q
JOIN ledger.posting p ON p.workload = q.workload AND p.at >= q.day::timestamp AT TIME ZONE 'UTC' AND p.at < (q.day + 1)::timestamp AT TIME ZONE 'UTC'
LEFT JOIN ledger.workload_version w ON w.id = p.workload
LEFT JOIN LATERAL (SELECT x.region, x.instance_type, x.capacity_type FROM ledger.interval_opened x WHERE x.claim_uid = p.claim_uid
                   ORDER BY x.posted_at, x.at LIMIT 1) m ON true
WHERE ledger.known_before() = 'infinity'
UNION ALL
SELECT u.day, u.workload_kind, u.workload_namespace, u.workload_name, u.team, u.service, u.environment, u.cost_center, u.product_area, u.component,
       u.line, u.region, u.instance_type, u.capacity_type, u.basis = 'running',
       u.gpu_ms, u.cost_micro * 0.000001, coalesce(u.b0_micro, 0) * 0.000001, coalesce(u.b1_micro, 0) * 0.000001, coalesce(u.b2_micro, 0) * 0.000001,
       CASE WHEN u.b0_micro IS NULL THEN u.cost_micro ELSE 0 END * 0.000001, CASE WHEN u.line = 'pod' AND u.b1_micro IS NULL THEN u.cost_micro ELSE 0 END * 0.000001,
       CASE WHEN u.line = 'pod' AND u.b2_micro IS NULL THEN u.cost_micro ELSE 0 END * 0.000001, 0, 0, 0
FROM ledger.unposted_share u WHERE ledger.known_before() = 'infinity';

-- What was known on a day, from the postings themselves; nothing unless lowtide.as_of says a day.
CREATE VIEW ledger.share_as_of AS
SELECT ledger.utc_day(p.at) AS day, w.workload_kind, w.workload_namespace, w.workload_name, w.team, w.service, w.environment, w.cost_center, w.product_area,
       w.component, p.line, m.region, m.instance_type, m.capacity_type, false AS running,
       p.gpu_ms, p.cost_usd, coalesce(p.b0_usd, 0) AS b0_usd, coalesce(p.b1_usd, 0) AS b1_usd, coalesce(p.b2_usd, 0) AS b2_usd,
       CASE WHEN p.b0_usd IS NULL THEN p.cost_usd ELSE 0 END AS without_b0_usd,
       CASE WHEN p.line = 'pod' AND p.b1_usd IS NULL THEN p.cost_usd ELSE 0 END AS without_b1_usd,
       CASE WHEN p.line = 'pod' AND p.b2_usd IS NULL THEN p.cost_usd ELSE 0 END AS without_b2_usd, p.feed_usd, p.bill_usd,
       CASE WHEN p.kind IN ('feed', 'bill') AND p.claim_uid IS NOT NULL THEN p.cost_usd ELSE 0 END AS true_up_usd
FROM ledger.posting p
LEFT JOIN ledger.workload_version w ON w.id = p.workload
LEFT JOIN LATERAL (SELECT x.region, x.instance_type, x.capacity_type FROM ledger.interval_opened x WHERE x.claim_uid = p.claim_uid
                   ORDER BY x.posted_at, x.at LIMIT 1) m ON true
WHERE ledger.known_before() <> 'infinity' AND p.posted_at < (SELECT ledger.known_before());

CREATE VIEW ledger.share_daily AS
SELECT * FROM ledger.share_rolled_up UNION ALL SELECT * FROM ledger.share_not_rolled_up UNION ALL SELECT * FROM ledger.share_as_of;

CREATE VIEW ledger.cost_daily AS
SELECT day, team, service, environment, cost_center, product_area, component, workload_namespace, workload_kind, workload_name, line,
       region, instance_type, capacity_type,
       sum(gpu_ms) / 3600000.0 AS gpu_hours, sum(cost_usd) AS cost_usd, sum(b0_usd) AS b0_usd, sum(b1_usd) AS b1_usd, sum(b2_usd) AS b2_usd,
       sum(feed_usd) AS feed_usd, sum(bill_usd) AS bill_usd, sum(true_up_usd) AS true_up_usd,
       CASE line WHEN 'overhead' THEN 'entered' ELSE ledger.basis_of(bool_or(running), sum(cost_usd), sum(feed_usd), sum(bill_usd), 0) END AS basis
FROM ledger.share_daily
GROUP BY day, team, service, environment, cost_center, product_area, component, workload_namespace, workload_kind, workload_name, line, region,
         instance_type, capacity_type;

-- Spend of which it is not known what would have been bought otherwise is on neither side of a saving.
-- Of machines alone: what stands beside their use (other costs, credits, refunds, discounts, taxes, transfers, volumes) is `beside_usd`, and moves no saving.
CREATE VIEW ledger.savings_daily AS
WITH summed AS (
    SELECT day, team, service, environment, cost_center, product_area, component,
           coalesce(sum(cost_usd) FILTER (WHERE ledger.is_use(line)), 0) AS spend, coalesce(sum(cost_usd) FILTER (WHERE line = 'pod'), 0) AS useful,
           coalesce(sum(cost_usd) FILTER (WHERE line = 'boot'), 0) AS boot, coalesce(sum(cost_usd) FILTER (WHERE line = 'idle'), 0) AS idle,
           coalesce(sum(cost_usd) FILTER (WHERE line = 'drain'), 0) AS drain, coalesce(sum(cost_usd) FILTER (WHERE line = 'double-running'), 0) AS moves,
           coalesce(sum(cost_usd) FILTER (WHERE line = 'lost-work'), 0) AS lost, coalesce(sum(cost_usd) FILTER (WHERE line = 'egress'), 0) AS egress,
           coalesce(sum(cost_usd) FILTER (WHERE line = 'overhead'), 0) AS overhead,
           coalesce(sum(cost_usd) FILTER (WHERE NOT ledger.is_use(line)), 0) AS beside,
           sum(b0_usd) AS b0, sum(b1_usd) AS b1, sum(b2_usd) AS b2, coalesce(sum(without_b0_usd) FILTER (WHERE ledger.is_use(line)), 0) AS without_b0,
           sum(without_b1_usd) AS without_b1, sum(without_b2_usd) AS without_b2, coalesce(sum(feed_usd) FILTER (WHERE ledger.is_use(line)), 0) AS feed,
           coalesce(sum(bill_usd) FILTER (WHERE ledger.is_use(line)), 0) AS bill, bool_or(running) AS running
    FROM ledger.share_daily GROUP BY day, team, service, environment, cost_center, product_area, component
)
SELECT day, team, service, environment, cost_center, product_area, component, spend AS spend_usd, b0 AS b0_usd, b1 AS b1_usd, b2 AS b2_usd,
       b1 - (useful - without_b1) AS gross_saving_b1_usd, boot AS boot_usd, idle AS idle_usd, drain AS drain_usd, moves AS moves_usd, lost AS lost_work_usd,
       egress AS egress_usd, overhead AS overhead_usd, b0 - (spend - without_b0) AS net_saving_b0_usd,
       b1 - (spend - without_b1) AS net_saving_b1_usd, b2 - (spend - without_b2) AS net_saving_b2_usd,
       without_b0 AS spend_without_b0_usd, without_b1 AS spend_without_b1_usd, without_b2 AS spend_without_b2_usd,
       ledger.basis_of(running, spend, feed, bill, 0) AS basis, beside AS beside_usd
FROM summed;
