-- The billing and allocation rules in SQL: what src/core/accounting computes, a test compares both.
--
-- Each function answers for everything (an audit from the events alone) or only for what is not posted yet: hours that run, and machines
-- whose news the next posting will take up.

CREATE FUNCTION ledger.machines_of(everything boolean)
RETURNS TABLE (claim_uid text, claim text, instance text, decision uuid, region text, zone text, instance_type text, capacity_type text, gpus bigint,
               price_usd_h numeric, on_demand_usd_h numeric, running_from timestamptz, running_to timestamptz, ended_by text, from_ms bigint, ran_ms bigint,
               billed_ms bigint, waived boolean, first_hour bigint, exact_cost numeric, exact_b0 numeric)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH scope AS (
        SELECT DISTINCT o.claim_uid, 0::bigint AS first_hour, 0::numeric AS exact_cost, 0::numeric AS exact_b0
        FROM ledger.interval_opened o WHERE everything
        UNION ALL
        SELECT q.claim_uid, coalesce(p.hours, 0), coalesce(p.exact_cost, 0), coalesce(p.exact_b0, 0)
        FROM (SELECT claim_uid FROM ledger.posting_queue WHERE claim_uid IS NOT NULL
              UNION SELECT claim_uid FROM ledger.posted_machine WHERE NOT complete) q
        LEFT JOIN ledger.posted_machine p ON p.claim_uid = q.claim_uid
        WHERE NOT everything AND NOT coalesce(p.complete, false)
    ), timed AS (
        SELECT s.claim_uid, s.first_hour, s.exact_cost, s.exact_b0, o.claim, o.instance, o.decision, o.region, o.zone, o.instance_type, o.capacity_type, o.gpus,
               o.price_usd_h, o.on_demand_usd_h, o.at AS running_from, c.at AS running_to, c.ended_by, ledger.ms(o.at) AS from_ms,
               greatest(ledger.ms(coalesce(c.at, now())) - ledger.ms(o.at), 0) AS ran_ms
        FROM scope s
        CROSS JOIN LATERAL (SELECT * FROM ledger.interval_opened x WHERE x.claim_uid = s.claim_uid ORDER BY x.posted_at, x.at LIMIT 1) o
        LEFT JOIN LATERAL (SELECT * FROM ledger.interval_closed x WHERE x.claim_uid = s.claim_uid ORDER BY x.posted_at, x.at LIMIT 1) c ON true
    )
    SELECT t.claim_uid, t.claim, t.instance, t.decision, t.region, t.zone, t.instance_type, t.capacity_type, t.gpus, t.price_usd_h, t.on_demand_usd_h,
           t.running_from, t.running_to, t.ended_by, t.from_ms, t.ran_ms, greatest(t.ran_ms, 60000),
           coalesce(t.capacity_type = 'spot' AND t.ended_by = 'ec2-interruption' AND t.ran_ms < 3600000, false),
           t.first_hour, t.exact_cost, t.exact_b0
    FROM timed t
$$;

-- Instance-hours. Cost is rounded from the running total, so that the hours add up to the whole rounded once.
CREATE FUNCTION ledger.segments_of(everything boolean)
RETURNS TABLE (claim_uid text, claim text, instance text, decision uuid, region text, zone text, instance_type text, capacity_type text, gpus bigint,
               running_from timestamptz, running_to timestamptz, ended_by text, waived boolean, from_ms bigint, ran_ms bigint, hour bigint,
               segment_from_ms bigint, segment_ms bigint, hour_usd_h numeric, hour_on_demand_usd_h numeric, price_is_own boolean,
               cost_micro numeric, b0_micro numeric)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH hours AS (
        SELECT i.*, h.hour, i.from_ms + h.hour * 3600000 AS segment_from_ms, least(3600000, i.billed_ms - h.hour * 3600000) AS segment_ms,
               coalesce(p.price_usd_h, i.price_usd_h) AS hour_usd_h,
               coalesce(d.on_demand_usd_h, i.on_demand_usd_h,
                        CASE WHEN i.capacity_type = 'on-demand' THEN coalesce(p.price_usd_h, i.price_usd_h) END) AS hour_on_demand_usd_h,
               h.hour = 0 OR p.hour = h.hour AS price_is_own
        FROM ledger.machines_of(everything) i
        CROSS JOIN LATERAL ledger.numbers(i.first_hour, (i.billed_ms - 1) / 3600000) AS h(hour)
        LEFT JOIN LATERAL (SELECT q.hour, q.price_usd_h FROM ledger.hour_priced q WHERE q.claim_uid = i.claim_uid AND q.hour <= h.hour
                           ORDER BY q.hour DESC, q.posted_at LIMIT 1) p ON true
        LEFT JOIN LATERAL (SELECT q.on_demand_usd_h FROM ledger.hour_priced q
                           WHERE q.claim_uid = i.claim_uid AND q.hour <= h.hour AND q.on_demand_usd_h IS NOT NULL
                           ORDER BY q.hour DESC, q.posted_at LIMIT 1) d ON true
    ), exact AS (
        SELECT *, CASE WHEN waived THEN 0 ELSE hour_usd_h * segment_ms END AS cost_exact,
                  hour_on_demand_usd_h * CASE WHEN waived THEN 0 ELSE segment_ms END AS b0_exact
        FROM hours
    ), running AS (
        SELECT *, exact_cost + sum(cost_exact) OVER w AS cost_total, exact_b0 + sum(coalesce(b0_exact, 0)) OVER w AS b0_total
        FROM exact WINDOW w AS (PARTITION BY claim_uid ORDER BY hour)
    )
    SELECT claim_uid, claim, instance, decision, region, zone, instance_type, capacity_type, gpus, running_from, running_to, ended_by, waived,
           from_ms, ran_ms, hour, segment_from_ms, segment_ms, hour_usd_h, hour_on_demand_usd_h, price_is_own,
           ledger.micro_usd(cost_total) - ledger.micro_usd(cost_total - cost_exact),
           CASE WHEN b0_exact IS NOT NULL THEN ledger.micro_usd(b0_total) - ledger.micro_usd(b0_total - b0_exact) END
    FROM running
$$;

-- A pod's time on a machine, within the machine's own. From `doubled_from_ms` on its replacement ran as well; from `lost_from_ms` on its
-- work was lost with the machine.
CREATE FUNCTION ledger.stays_of(everything boolean)
RETURNS TABLE (claim_uid text, claim text, pod_uid text, pod_namespace text, pod_name text, workload_kind text, workload_namespace text, workload_name text,
               kind text, team text, service text, environment text, cost_center text, product_area text, component text, gpus bigint, decision uuid,
               b1_replica_usd_h numeric, b2_replica_usd_h numeric, from_ms bigint, to_ms bigint, doubled_from_ms bigint, lost_from_ms bigint,
               egress_micro numeric, carried_gib bigint)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH timed AS (
        SELECT i.claim, i.ended_by, i.from_ms + i.ran_ms AS machine_to_ms, o.*, greatest(ledger.ms(o.at), i.from_ms) AS from_ms,
               least(coalesce(ledger.ms(c.at), i.from_ms + i.ran_ms), i.from_ms + i.ran_ms) AS to_ms
        FROM ledger.machines_of(everything) i
        CROSS JOIN LATERAL (SELECT DISTINCT ON (x.pod_uid) * FROM ledger.occupancy_opened x WHERE x.claim_uid = i.claim_uid
                            ORDER BY x.pod_uid, x.posted_at, x.at) o
        LEFT JOIN LATERAL (SELECT x.at FROM ledger.occupancy_closed x WHERE x.claim_uid = i.claim_uid AND x.pod_uid = o.pod_uid
                           ORDER BY x.posted_at, x.at LIMIT 1) c ON true
    )
    SELECT t.claim_uid, t.claim, t.pod_uid, t.pod_namespace, t.pod_name, t.workload_kind, t.workload_namespace, t.workload_name, t.kind,
           t.team, t.service, t.environment, t.cost_center, t.product_area, t.component, t.gpus, t.decision, t.b1_replica_usd_h, t.b2_replica_usd_h,
           t.from_ms, greatest(t.to_ms, t.from_ms), CASE WHEN r.from_ms < t.to_ms THEN greatest(r.from_ms, t.from_ms) END,
           CASE WHEN t.kind = 'batch' AND t.ended_by IN ('ec2-interruption', 'unknown') AND t.to_ms >= t.machine_to_ms
                THEN coalesce(k.last_ms, t.from_ms) END,
           CASE WHEN t.carried_gib > 0 THEN round(t.carried_gib * t.carried_usd_per_gib * 1000000) END, t.carried_gib
    FROM timed t
    LEFT JOIN LATERAL (
        SELECT min(greatest(ledger.ms(n.at), ledger.ms(j.at))) AS from_ms
        FROM ledger.migration m
        CROSS JOIN LATERAL (SELECT x.claim_uid, x.at FROM ledger.interval_opened x WHERE x.claim = m.to_claim ORDER BY x.posted_at, x.at LIMIT 1) j
        CROSS JOIN LATERAL (SELECT DISTINCT ON (x.pod_uid) * FROM ledger.occupancy_opened x WHERE x.claim_uid = j.claim_uid
                            ORDER BY x.pod_uid, x.posted_at, x.at) n
        WHERE m.pod_uid = t.pod_uid AND m.from_claim = t.claim AND n.pod_uid <> m.pod_uid
          AND (n.workload_kind, n.workload_namespace, n.workload_name) = (t.workload_kind, t.workload_namespace, t.workload_name)
          AND greatest(ledger.ms(n.at), ledger.ms(j.at)) >= ledger.ms(m.decided_at)
    ) r ON true
    LEFT JOIN LATERAL (SELECT max(ledger.ms(x.at)) AS last_ms FROM ledger.checkpoint x
                       WHERE x.claim_uid = t.claim_uid AND x.pod_uid = t.pod_uid AND ledger.ms(x.at) BETWEEN t.from_ms AND t.to_ms) k ON true
$$;

-- Each instance-hour's cost, split over the pods that ran there by GPU time; what is left is boot, idle or drain; egress stands beside.
-- Shares are whole micro-dollars and add up to the instance-hour (largest remainder).
CREATE FUNCTION ledger.shares_of(everything boolean)
RETURNS TABLE (claim_uid text, claim text, instance text, region text, zone text, instance_type text, capacity_type text, hour bigint, at timestamptz,
               span_ms bigint, day date, line text, pod_uid text, pod_namespace text, pod_name text, decision uuid, workload_kind text,
               workload_namespace text, workload_name text, team text, service text, environment text, cost_center text, product_area text, component text,
               basis text, gpu_ms bigint, cost_micro numeric, b0_micro numeric, b1_micro numeric, b2_micro numeric)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH stays AS MATERIALIZED (
        SELECT * FROM ledger.stays_of(everything)
    ), segments AS MATERIALIZED (
        SELECT * FROM ledger.segments_of(everything)
    ), bounds AS (
        SELECT claim_uid, min(from_ms) AS first_ms, max(to_ms) AS last_ms FROM stays GROUP BY claim_uid
    ), pieces AS (
        SELECT s.*, d.day, greatest(s.segment_from_ms, d.day * 86400000) AS a, least(s.segment_from_ms + s.segment_ms, (d.day + 1) * 86400000) AS b,
               coalesce(x.first_ms, 9223372036854775807) AS first_ms, coalesce(x.last_ms, 9223372036854775807) AS last_ms
        FROM segments s
        CROSS JOIN LATERAL ledger.numbers(s.segment_from_ms / 86400000, (s.segment_from_ms + s.segment_ms - 1) / 86400000) AS d(day)
        LEFT JOIN bounds x USING (claim_uid)
    ), used AS (
        SELECT p.claim_uid, p.hour, p.day, p.a, p.b, l.line_order, l.line, o.pod_uid, o.gpus * ledger.shared_ms(p.a, p.b, l.f, l.t) AS weight,
               ledger.shared_ms(p.a, p.b, l.f, l.t) AS ms
        FROM pieces p JOIN stays o USING (claim_uid)
        CROSS JOIN LATERAL (SELECT coalesce(o.lost_from_ms, o.to_ms) AS lost, least(coalesce(o.doubled_from_ms, o.to_ms), coalesce(o.lost_from_ms, o.to_ms)) AS doubled) c
        CROSS JOIN LATERAL (VALUES (0, 'pod', o.from_ms, c.doubled), (1, 'double-running', c.doubled, c.lost), (2, 'lost-work', c.lost, o.to_ms)) AS l(line_order, line, f, t)
    ), rest AS (
        SELECT p.claim_uid, p.hour, p.day, p.a, p.b, l.line_order, l.line, '' AS pod_uid, l.weight, l.weight / greatest(p.gpus, 1) AS ms
        FROM pieces p
        LEFT JOIN (SELECT u.claim_uid, u.hour, u.day, sum(u.weight) AS weight FROM used u GROUP BY 1, 2, 3) u USING (claim_uid, hour, day)
        CROSS JOIN LATERAL (VALUES
            (3, 'boot', greatest(p.gpus, 1) * ledger.shared_ms(p.a, p.b, p.a, p.first_ms)),
            (4, 'idle', greatest(greatest(p.gpus, 1) * ledger.shared_ms(p.a, p.b, p.first_ms, p.last_ms) - coalesce(u.weight, 0), 0)::bigint),
            (5, 'drain', greatest(p.gpus, 1) * ledger.shared_ms(p.a, p.b, p.last_ms, p.b))) AS l(line_order, line, weight)
    ), cells AS (
        SELECT * FROM used WHERE weight > 0 UNION ALL SELECT * FROM rest WHERE weight > 0
    ), split AS (
        SELECT c.*, s.cost_micro, s.b0_micro,
               div(s.cost_micro * c.weight, sum(c.weight) OVER seg) AS cost_base, mod(s.cost_micro * c.weight, sum(c.weight) OVER seg) AS cost_rem,
               div(s.b0_micro * c.weight, sum(c.weight) OVER seg) AS b0_base, mod(s.b0_micro * c.weight, sum(c.weight) OVER seg) AS b0_rem
        FROM cells c JOIN segments s USING (claim_uid, hour)
        WINDOW seg AS (PARTITION BY c.claim_uid, c.hour)
    ), ranked AS (
        SELECT *, cost_micro - sum(cost_base) OVER seg AS cost_left, b0_micro - sum(b0_base) OVER seg AS b0_left,
               row_number() OVER (PARTITION BY claim_uid, hour ORDER BY cost_rem DESC, day, line_order, pod_uid COLLATE "C") AS cost_rank,
               row_number() OVER (PARTITION BY claim_uid, hour ORDER BY b0_rem DESC, day, line_order, pod_uid COLLATE "C") AS b0_rank
        FROM split WINDOW seg AS (PARTITION BY claim_uid, hour)
    ), shares AS (
        SELECT r.claim_uid, r.hour, r.day, r.a, r.b - r.a AS span_ms, r.line, r.pod_uid, r.weight AS gpu_ms,
               r.cost_base + (r.cost_rank <= r.cost_left)::integer AS cost_micro, r.b0_base + (r.b0_rank <= r.b0_left)::integer AS b0_micro,
               CASE WHEN r.line <> 'pod' THEN 0 ELSE ledger.micro_usd(o.b1_replica_usd_h * r.ms) END AS b1_micro,
               CASE WHEN r.line <> 'pod' THEN 0 ELSE ledger.micro_usd(o.b2_replica_usd_h * r.ms) END AS b2_micro
        FROM ranked r LEFT JOIN stays o ON o.claim_uid = r.claim_uid AND o.pod_uid = r.pod_uid
        UNION ALL
        SELECT m.claim_uid, greatest(o.from_ms - m.from_ms, 0) / 3600000, o.from_ms / 86400000, o.from_ms, 0, 'egress', o.pod_uid, 0, o.egress_micro, 0, 0, 0
        FROM stays o JOIN ledger.machines_of(everything) m USING (claim_uid)
        WHERE o.egress_micro > 0 AND greatest(o.from_ms - m.from_ms, 0) / 3600000 >= m.first_hour
    )
    SELECT r.claim_uid, m.claim, m.instance, m.region, m.zone, m.instance_type, m.capacity_type, r.hour, to_timestamp(r.a / 1000.0), r.span_ms,
           date '1970-01-01' + r.day::integer, r.line, nullif(r.pod_uid, ''), o.pod_namespace, o.pod_name,
           CASE WHEN o.pod_uid IS NULL THEN m.decision ELSE o.decision END,
           CASE WHEN o.pod_uid IS NULL THEN d.workload_kind ELSE o.workload_kind END,
           CASE WHEN o.pod_uid IS NULL THEN d.workload_namespace ELSE o.workload_namespace END,
           CASE WHEN o.pod_uid IS NULL THEN d.workload_name ELSE o.workload_name END,
           CASE WHEN o.pod_uid IS NULL THEN d.team ELSE o.team END, CASE WHEN o.pod_uid IS NULL THEN d.service ELSE o.service END,
           CASE WHEN o.pod_uid IS NULL THEN d.environment ELSE o.environment END, CASE WHEN o.pod_uid IS NULL THEN d.cost_center ELSE o.cost_center END,
           CASE WHEN o.pod_uid IS NULL THEN d.product_area ELSE o.product_area END, CASE WHEN o.pod_uid IS NULL THEN d.component ELSE o.component END,
           CASE WHEN m.running_to IS NULL THEN 'running' ELSE 'estimate' END, r.gpu_ms::bigint, r.cost_micro, r.b0_micro, r.b1_micro, r.b2_micro
    FROM shares r
    JOIN ledger.machines_of(everything) m USING (claim_uid)
    LEFT JOIN stays o ON o.claim_uid = r.claim_uid AND o.pod_uid = r.pod_uid
    LEFT JOIN LATERAL (SELECT * FROM ledger.decision x WHERE x.id = m.decision ORDER BY x.posted_at, x.at LIMIT 1) d ON true
$$;

CREATE VIEW ledger.price_segment AS SELECT * FROM ledger.segments_of(true);
CREATE VIEW ledger.occupancy AS SELECT * FROM ledger.stays_of(true);
CREATE VIEW ledger.recomputed_share AS SELECT * FROM ledger.shares_of(true);
CREATE VIEW ledger.unposted_share AS SELECT * FROM ledger.shares_of(false);
