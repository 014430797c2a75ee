-- What useful pod time cost while GPUs were active, while they were held and idle, and while nobody read them, by pod and clock hour.
--
-- The split is that of src/core/accounting/gpu_use.rs; a test compares both. What was not measured is a part of its own: it is neither idle nor zero. How much
-- memory was used moves no amount.

-- A part of an amount, half away from zero; all of it for all of the whole.
CREATE OR REPLACE FUNCTION ledger.part_of(amount numeric, part bigint, whole bigint, decimals integer) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN part >= whole THEN amount ELSE round(amount * part / whole, decimals) END;

-- The hours that begin in a span of time. Of line `pod` alone: what else was paid for has no use.
CREATE FUNCTION ledger.gpu_use_of(from_at timestamptz, to_at timestamptz)
RETURNS TABLE (hour timestamptz, day date, team text, service text, environment text, cost_center text, product_area text, component text,
               workload_namespace text, workload_name text, pod_namespace text, pod_name text, pod_uid text, claim text, region text, zone text,
               instance_type text, capacity_type text, gpu_hours numeric, active_gpu_hours numeric, idle_gpu_hours numeric, unmeasured_gpu_hours numeric,
               cost_usd numeric, active_usd numeric, idle_usd numeric, unmeasured_usd numeric, most_memory_mib bigint, metric text, shared boolean)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH net AS MATERIALIZED (
        SELECT s.claim_uid, s.pod_uid, s.hour AS instance_hour, s.day, s.team, s.service, s.environment, s.cost_center, s.product_area, s.component,
               s.workload_namespace, s.workload_name, min(s.at) AS at, max(s.span_ms) AS span_ms, sum(s.gpu_ms)::bigint AS gpu_ms, sum(s.cost_usd) AS cost_usd
        FROM ledger.share s WHERE s.line = 'pod' AND s.at >= from_at - interval '1 hour' AND s.at < to_at
        GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
        -- A share that late facts took back is no share.
        HAVING sum(s.gpu_ms) <> 0 OR sum(s.cost_usd) <> 0
    ), stays AS MATERIALIZED (
        -- Once for each pod on a machine, and not for each of its hours.
        SELECT p.*, m.claim, m.region, m.zone, m.instance_type, m.capacity_type, m.at AS opened, e.at AS ended, o.pod_namespace, o.pod_name,
               ledger.ms(o.at) AS came_ms, ledger.ms(c.at) AS left_ms
        FROM (SELECT DISTINCT claim_uid, pod_uid FROM net) p
        LEFT JOIN LATERAL (SELECT * FROM ledger.interval_opened x WHERE x.claim_uid = p.claim_uid ORDER BY x.posted_at, x.at LIMIT 1) m ON true
        LEFT JOIN LATERAL (SELECT x.at FROM ledger.interval_closed x WHERE x.claim_uid = p.claim_uid AND x.posted_at < (SELECT ledger.known_before())
                           ORDER BY x.posted_at, x.at LIMIT 1) e ON true
        LEFT JOIN LATERAL (SELECT * FROM ledger.occupancy_opened x WHERE x.claim_uid = p.claim_uid AND x.pod_uid = p.pod_uid
                           ORDER BY x.posted_at, x.at LIMIT 1) o ON true
        LEFT JOIN LATERAL (SELECT x.at FROM ledger.occupancy_closed x WHERE x.claim_uid = p.claim_uid AND x.pod_uid = p.pod_uid
                             AND x.posted_at < (SELECT ledger.known_before()) ORDER BY x.posted_at, x.at LIMIT 1) c ON true
    ), shares AS MATERIALIZED (
        SELECT n.*, t.claim, t.region, t.zone, t.instance_type, t.capacity_type, t.pod_namespace, t.pod_name, t.came_ms, t.left_ms, ledger.ms(n.at) AS from_ms,
               -- The first minute is charged whole.
               ledger.ms(n.at) + greatest(ledger.length_of(n.at, n.span_ms, t.ended, t.opened + interval '1 minute'), 1) AS to_ms
        FROM net n LEFT JOIN stays t USING (claim_uid, pod_uid)
    ), present AS (
        -- A share is paid for the time that its pod was there; where that is not known, for all of its own.
        SELECT s.*, CASE WHEN there THEN greatest(from_ms, came_ms) ELSE from_ms END AS begins,
               CASE WHEN there THEN least(to_ms, coalesce(left_ms, to_ms)) ELSE to_ms END AS ends
        FROM (SELECT *, coalesce(greatest(from_ms, came_ms) < least(to_ms, coalesce(left_ms, to_ms)), false) AS there FROM shares) s
    ), upto AS (
        -- Hours are differences of rounded running totals, so that they add up to the share.
        SELECT p.*, h.n3600 * 3600000 AS hour_ms, least(p.ends, (h.n3600 + 1) * 3600000) - p.begins AS upto_ms,
               greatest(p.begins, h.n3600 * 3600000) - p.begins AS before_ms
        FROM present p CROSS JOIN LATERAL ledger.numbers(p.begins / 3600000, (p.ends - 1) / 3600000) AS h(n3600)
    ), hours AS MATERIALIZED (
        -- Kept as they are: each amount is named several times below, and would be computed as often.
        SELECT u.*, ledger.part_of(u.cost_usd, u.upto_ms, u.ends - u.begins, 6) - ledger.part_of(u.cost_usd, u.before_ms, u.ends - u.begins, 6) AS usd,
               ledger.part_of(u.gpu_ms, u.upto_ms, u.ends - u.begins, 0) - ledger.part_of(u.gpu_ms, u.before_ms, u.ends - u.begins, 0) AS held
        FROM upto u
    ), uses AS MATERIALIZED (
        SELECT DISTINCT ON (x.claim_uid, x.pod_uid, x.at) x.claim_uid, x.pod_uid, ledger.ms(x.at) AS hour_ms, x.allocated_gpu_ms AS allocated,
               x.active_gpu_ms AS active, x.sampled_gpu_ms AS sampled, x.most_memory_mib, x.metric, x.shared
        FROM ledger.gpu_use_hour x WHERE x.at >= from_at AND x.at < to_at AND x.posted_at < (SELECT ledger.known_before())
        ORDER BY x.claim_uid, x.pod_uid, x.at, x.revision DESC
    ), split AS MATERIALIZED (
        SELECT h.*, coalesce(ledger.part_of(h.usd, u.active, u.allocated, 6), 0) AS active, coalesce(ledger.part_of(h.usd, u.sampled, u.allocated, 6), 0) AS measured,
               coalesce(ledger.part_of(h.held, u.active, u.allocated, 0), 0) AS active_ms, coalesce(ledger.part_of(h.held, u.sampled, u.allocated, 0), 0) AS measured_ms,
               u.most_memory_mib, u.metric, u.shared
        FROM hours h LEFT JOIN uses u USING (claim_uid, pod_uid, hour_ms)
    )
    SELECT to_timestamp(hour_ms / 1000.0), s.day, s.team, s.service, s.environment, s.cost_center, s.product_area, s.component, s.workload_namespace,
           s.workload_name, s.pod_namespace, s.pod_name, s.pod_uid, s.claim, s.region, s.zone, s.instance_type, s.capacity_type,
           sum(held) / 3600000.0, sum(active_ms) / 3600000.0, sum(measured_ms - active_ms) / 3600000.0, sum(held - measured_ms) / 3600000.0,
           sum(usd), sum(active), sum(measured - active), sum(usd - measured), max(s.most_memory_mib), max(s.metric), bool_or(s.shared)
    FROM split s
    WHERE hour_ms >= ledger.ms(greatest(from_at, 'epoch')) AND hour_ms < ledger.ms(least(to_at, '9999-01-01Z'))
    GROUP BY hour_ms, s.day, s.team, s.service, s.environment, s.cost_center, s.product_area, s.component, s.workload_namespace, s.workload_name,
             s.pod_namespace, s.pod_name, s.pod_uid, s.claim, s.region, s.zone, s.instance_type, s.capacity_type
$$;

CREATE VIEW ledger.gpu_use AS SELECT * FROM ledger.gpu_use_of('-infinity', 'infinity');
