-- The ledger's views: made anew by every `lowtide ledger migrate`. They hold no data.
--
-- The billing rules here are those of src/core/accounting; a test compares both over random intervals.
-- Inner arithmetic is in whole micro-dollars and milliseconds; columns named `_usd` are dollars.

CREATE OR REPLACE FUNCTION ledger.ms(at timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN floor(extract(epoch FROM at AT TIME ZONE 'UTC') * 1000)::bigint;

-- Dollars per hour times milliseconds, as whole micro-dollars, half to even: the one division an amount sees.
CREATE OR REPLACE FUNCTION ledger.micro_usd(usd_h_ms numeric) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN div(usd_h_ms * 1000000, 3600000)
         + CASE WHEN 2 * mod(usd_h_ms * 1000000, 3600000) > 3600000
                  OR (2 * mod(usd_h_ms * 1000000, 3600000) = 3600000 AND mod(div(usd_h_ms * 1000000, 3600000), 2) = 1)
                THEN 1 ELSE 0 END;

-- Length of the part that two spans share.
CREATE OR REPLACE FUNCTION ledger.shared_ms(a_from bigint, a_to bigint, b_from bigint, b_to bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN greatest(least(a_to, b_to) - greatest(a_from, b_from), 0);

-- The numbers from `first` to `last`. Unlike generate_series it tells the planner how few there are.
CREATE OR REPLACE FUNCTION ledger.numbers(first bigint, last bigint) RETURNS SETOF bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 6
    AS 'SELECT generate_series(first, last)';

DROP VIEW IF EXISTS ledger.focus_1_2, ledger.unit_cost_hourly, ledger.trust, ledger.reliability, ledger.migration_timing, ledger.explain_decision, ledger.savings_daily, ledger.cost_daily,
    ledger.allocation, ledger.occupancy, ledger.price_segment, ledger.capacity_interval, ledger.candidate;

CREATE VIEW ledger.candidate AS
SELECT s.id AS decision, s.at AS decided_at, c.rank,
       c.offer ->> 'region' AS region, c.offer ->> 'zone' AS zone, c.offer ->> 'instance_type' AS instance_type,
       c.offer ->> 'capacity_type' AS capacity_type, (c.offer ->> 'price_usd_h')::numeric AS price_usd_h,
       (c.offer ->> 'per_replica_usd_h')::numeric AS per_replica_usd_h, (c.offer ->> 'replicas')::bigint AS replicas,
       (c.offer ->> 'price_age_ms')::bigint AS price_age_ms, c.offer ->> 'price_source' AS price_source, c.offer ->> 'refusal' AS refusal
FROM ledger.candidate_set s, jsonb_array_elements(s.candidates) WITH ORDINALITY AS c(offer, rank);

-- An instance from its first to its last paid millisecond. The first event posted wins: history does not change.
CREATE VIEW ledger.capacity_interval AS
WITH opened AS (
    SELECT DISTINCT ON (claim_uid) * FROM ledger.interval_opened ORDER BY claim_uid, posted_at, at
), closed AS (
    SELECT DISTINCT ON (claim_uid) * FROM ledger.interval_closed ORDER BY claim_uid, posted_at, at
), timed AS (
    SELECT o.*, c.at AS running_to, c.ended_by, c.decision AS ending_decision,
           ledger.ms(o.at) AS from_ms, greatest(ledger.ms(coalesce(c.at, now())) - ledger.ms(o.at), 0) AS ran_ms
    FROM opened o LEFT JOIN closed c USING (claim_uid)
)
SELECT claim_uid, claim, instance, decision, region, zone, instance_type, capacity_type, gpus, price_usd_h, on_demand_usd_h,
       at AS running_from, running_to, ended_by, ending_decision, from_ms, ran_ms,
       greatest(ran_ms, 60000) AS billed_ms,
       coalesce(capacity_type = 'spot' AND ended_by = 'ec2-interruption' AND ran_ms < 3600000, false) AS waived,
       CASE WHEN running_to IS NULL THEN 'estimate' ELSE 'computed' END AS basis
FROM timed;

-- One row per instance-hour. Cost is rounded from the running total, so that the hours add up to the whole rounded once.
CREATE VIEW ledger.price_segment AS
WITH hours AS (
    SELECT i.*, h.hour, i.from_ms + h.hour * 3600000 AS segment_from_ms, least(3600000, i.billed_ms - h.hour * 3600000) AS segment_ms,
           coalesce(p.price_usd_h, i.price_usd_h) AS hour_usd_h,
           coalesce(d.on_demand_usd_h, i.on_demand_usd_h,
                    CASE WHEN i.capacity_type = 'on-demand' THEN coalesce(p.price_usd_h, i.price_usd_h) END) AS hour_on_demand_usd_h,
           h.hour = 0 OR p.hour = h.hour AS price_is_own
    FROM ledger.capacity_interval i
    CROSS JOIN LATERAL ledger.numbers(0, (i.billed_ms - 1) / 3600000) AS h(hour)
    LEFT JOIN LATERAL (SELECT hour, price_usd_h FROM ledger.hour_priced q WHERE q.claim_uid = i.claim_uid AND q.hour <= h.hour
                       ORDER BY q.hour DESC, q.posted_at LIMIT 1) p ON true
    LEFT JOIN LATERAL (SELECT on_demand_usd_h FROM ledger.hour_priced q
                       WHERE q.claim_uid = i.claim_uid AND q.hour <= h.hour AND q.on_demand_usd_h IS NOT NULL
                       ORDER BY q.hour DESC, q.posted_at LIMIT 1) d ON true
), exact AS (
    SELECT *, CASE WHEN waived THEN 0 ELSE hour_usd_h * segment_ms END AS cost_exact,
              hour_on_demand_usd_h * CASE WHEN waived THEN 0 ELSE segment_ms END AS b0_exact
    FROM hours
), running AS (
    SELECT *, sum(cost_exact) OVER w AS cost_total, sum(coalesce(b0_exact, 0)) OVER w AS b0_total
    FROM exact WINDOW w AS (PARTITION BY claim_uid ORDER BY hour)
)
SELECT claim_uid, claim, instance, decision, region, zone, instance_type, capacity_type, gpus, running_from, running_to, ended_by, basis,
       waived, from_ms, ran_ms, hour, segment_from_ms, segment_ms, hour_usd_h, hour_on_demand_usd_h, price_is_own,
       ledger.micro_usd(cost_total) - ledger.micro_usd(cost_total - cost_exact) AS cost_micro,
       CASE WHEN b0_exact IS NOT NULL THEN ledger.micro_usd(b0_total) - ledger.micro_usd(b0_total - b0_exact) END AS b0_micro
FROM running;

-- A pod's time on a machine, within the machine's own. From `doubled_from_ms` on its replacement ran as well.
CREATE VIEW ledger.occupancy AS
WITH opened AS (
    SELECT DISTINCT ON (claim_uid, pod_uid) * FROM ledger.occupancy_opened ORDER BY claim_uid, pod_uid, posted_at, at
), closed AS (
    SELECT DISTINCT ON (claim_uid, pod_uid) * FROM ledger.occupancy_closed ORDER BY claim_uid, pod_uid, posted_at, at
), timed AS (
    SELECT o.*, i.claim, greatest(ledger.ms(o.at), i.from_ms) AS from_ms,
           least(coalesce(ledger.ms(c.at), i.from_ms + i.ran_ms), i.from_ms + i.ran_ms) AS to_ms,
           c.at IS NULL AND i.running_to IS NULL AS still_open
    FROM opened o JOIN ledger.capacity_interval i USING (claim_uid) LEFT JOIN closed c USING (claim_uid, pod_uid)
)
SELECT t.claim_uid, t.claim, t.pod_uid, t.pod_namespace, t.pod_name, t.workload_kind, t.workload_namespace, t.workload_name, t.kind,
       t.team, t.service, t.environment, t.cost_center, t.product_area, t.gpus, t.decision, t.b1_replica_usd_h, t.b2_replica_usd_h,
       t.from_ms, greatest(t.to_ms, t.from_ms) AS to_ms, t.still_open,
       CASE WHEN r.from_ms < t.to_ms THEN greatest(r.from_ms, t.from_ms) END AS doubled_from_ms
FROM timed t
LEFT JOIN LATERAL (
    SELECT min(n.from_ms) AS from_ms
    FROM ledger.migration m JOIN timed n ON n.claim = m.to_claim AND n.pod_uid <> m.pod_uid
     AND (n.workload_kind, n.workload_namespace, n.workload_name) = (t.workload_kind, t.workload_namespace, t.workload_name)
     AND n.from_ms >= ledger.ms(m.decided_at)
    WHERE m.pod_uid = t.pod_uid AND m.from_claim = t.claim
) r ON true;

-- Each instance-hour's cost, split over the pods that ran there by GPU time; what is left is boot, idle or drain.
-- Shares are whole micro-dollars and add up to the instance-hour (largest remainder).
CREATE VIEW ledger.allocation AS
WITH bounds AS (
    SELECT claim_uid, min(from_ms) AS first_ms, max(to_ms) AS last_ms FROM ledger.occupancy GROUP BY claim_uid
), pieces AS (
    SELECT s.*, d.day, greatest(s.segment_from_ms, d.day * 86400000) AS a, least(s.segment_from_ms + s.segment_ms, (d.day + 1) * 86400000) AS b,
           coalesce(x.first_ms, 9223372036854775807) AS first_ms, coalesce(x.last_ms, 9223372036854775807) AS last_ms
    FROM ledger.price_segment s
    CROSS JOIN LATERAL ledger.numbers(s.segment_from_ms / 86400000, (s.segment_from_ms + s.segment_ms - 1) / 86400000) AS d(day)
    LEFT JOIN bounds x USING (claim_uid)
), used AS (
    SELECT p.claim_uid, p.hour, p.day, l.line_order, l.line, o.pod_uid, o.gpus * ledger.shared_ms(p.a, p.b, l.f, l.t) AS weight,
           ledger.shared_ms(p.a, p.b, l.f, l.t) AS ms
    FROM pieces p JOIN ledger.occupancy o USING (claim_uid)
    CROSS JOIN LATERAL (VALUES (0, 'pod', o.from_ms, coalesce(o.doubled_from_ms, o.to_ms)),
                               (1, 'double-running', o.doubled_from_ms, o.to_ms)) AS l(line_order, line, f, t)
    WHERE l.f IS NOT NULL
), rest AS (
    SELECT p.claim_uid, p.hour, p.day, l.line_order, l.line, '' AS pod_uid, l.weight, l.weight / greatest(p.gpus, 1) AS ms
    FROM pieces p
    LEFT JOIN LATERAL (SELECT sum(u.weight) AS weight FROM used u WHERE (u.claim_uid, u.hour, u.day) = (p.claim_uid, p.hour, p.day)) u ON true
    CROSS JOIN LATERAL (VALUES
        (2, 'boot', greatest(p.gpus, 1) * ledger.shared_ms(p.a, p.b, p.a, p.first_ms)),
        (3, 'idle', greatest(greatest(p.gpus, 1) * ledger.shared_ms(p.a, p.b, p.first_ms, p.last_ms) - coalesce(u.weight, 0), 0)::bigint),
        (4, 'drain', greatest(p.gpus, 1) * ledger.shared_ms(p.a, p.b, p.last_ms, p.b))) AS l(line_order, line, weight)
), cells AS (
    SELECT * FROM used WHERE weight > 0 UNION ALL SELECT * FROM rest WHERE weight > 0
), split AS (
    SELECT c.*, s.cost_micro, s.b0_micro,
           div(s.cost_micro * c.weight, sum(c.weight) OVER seg) AS cost_base, mod(s.cost_micro * c.weight, sum(c.weight) OVER seg) AS cost_rem,
           div(s.b0_micro * c.weight, sum(c.weight) OVER seg) AS b0_base, mod(s.b0_micro * c.weight, sum(c.weight) OVER seg) AS b0_rem,
           s.decision, s.claim, s.instance, s.region, s.zone, s.instance_type, s.capacity_type, s.basis, s.waived
    FROM cells c JOIN ledger.price_segment s USING (claim_uid, hour)
    WINDOW seg AS (PARTITION BY c.claim_uid, c.hour)
), ranked AS (
    SELECT *, cost_micro - sum(cost_base) OVER seg AS cost_left, b0_micro - sum(b0_base) OVER seg AS b0_left,
           row_number() OVER (PARTITION BY claim_uid, hour ORDER BY cost_rem DESC, day, line_order, pod_uid COLLATE "C") AS cost_rank,
           row_number() OVER (PARTITION BY claim_uid, hour ORDER BY b0_rem DESC, day, line_order, pod_uid COLLATE "C") AS b0_rank
    FROM split WINDOW seg AS (PARTITION BY claim_uid, hour)
)
SELECT r.claim_uid, r.claim, r.instance, r.region, r.zone, r.instance_type, r.capacity_type, r.hour,
       date '1970-01-01' + r.day::integer AS day, r.line, nullif(r.pod_uid, '') AS pod_uid, o.pod_namespace, o.pod_name,
       CASE WHEN o.pod_uid IS NULL THEN r.decision ELSE o.decision END AS decision,
       CASE WHEN o.pod_uid IS NULL THEN d.workload_kind ELSE o.workload_kind END AS workload_kind,
       CASE WHEN o.pod_uid IS NULL THEN d.workload_namespace ELSE o.workload_namespace END AS workload_namespace,
       CASE WHEN o.pod_uid IS NULL THEN d.workload_name ELSE o.workload_name END AS workload_name, o.kind,
       coalesce(o.team, CASE WHEN o.pod_uid IS NULL THEN d.team END) AS team,
       coalesce(o.service, CASE WHEN o.pod_uid IS NULL THEN d.service END) AS service,
       coalesce(o.environment, CASE WHEN o.pod_uid IS NULL THEN d.environment END) AS environment,
       coalesce(o.cost_center, CASE WHEN o.pod_uid IS NULL THEN d.cost_center END) AS cost_center,
       coalesce(o.product_area, CASE WHEN o.pod_uid IS NULL THEN d.product_area END) AS product_area,
       r.basis, r.waived, r.weight AS gpu_ms, r.ms,
       r.cost_base + (r.cost_rank <= r.cost_left)::integer AS cost_micro,
       r.b0_base + (r.b0_rank <= r.b0_left)::integer AS b0_micro,
       CASE WHEN r.line <> 'pod' OR (r.waived AND o.kind = 'batch') THEN 0 ELSE ledger.micro_usd(o.b1_replica_usd_h * r.ms) END AS b1_micro,
       CASE WHEN r.line <> 'pod' OR (r.waived AND o.kind = 'batch') THEN 0 ELSE ledger.micro_usd(o.b2_replica_usd_h * r.ms) END AS b2_micro
FROM ranked r
LEFT JOIN ledger.occupancy o ON o.claim_uid = r.claim_uid AND o.pod_uid = r.pod_uid
LEFT JOIN LATERAL (SELECT * FROM ledger.decision d WHERE d.id = r.decision LIMIT 1) d ON true;

CREATE VIEW ledger.cost_daily AS
SELECT day, team, service, environment, cost_center, product_area, workload_namespace, workload_kind, workload_name, line,
       region, instance_type, capacity_type,
       sum(gpu_ms) / 3600000.0 AS gpu_hours, sum(cost_micro) / 1000000.0 AS cost_usd, sum(b0_micro) / 1000000.0 AS b0_usd,
       sum(b1_micro) / 1000000.0 AS b1_usd, sum(b2_micro) / 1000000.0 AS b2_usd,
       CASE WHEN bool_or(basis = 'estimate') THEN 'estimate' ELSE 'computed' END AS basis
FROM ledger.allocation
GROUP BY day, team, service, environment, cost_center, product_area, workload_namespace, workload_kind, workload_name, line, region,
         instance_type, capacity_type;

CREATE VIEW ledger.savings_daily AS
WITH lines AS (
    SELECT day, team, service, environment, cost_center, product_area, basis,
           cost_micro, b0_micro, b1_micro, b2_micro, line,
           line = 'pod' AND b1_micro IS NULL AS b1_unknown, line = 'pod' AND b2_micro IS NULL AS b2_unknown
    FROM ledger.allocation
), summed AS (
    SELECT day, team, service, environment, cost_center, product_area,
           sum(cost_micro) AS spend, coalesce(sum(cost_micro) FILTER (WHERE line = 'pod'), 0) AS useful,
           coalesce(sum(cost_micro) FILTER (WHERE line = 'boot'), 0) AS boot, coalesce(sum(cost_micro) FILTER (WHERE line = 'idle'), 0) AS idle,
           coalesce(sum(cost_micro) FILTER (WHERE line = 'drain'), 0) AS drain,
           coalesce(sum(cost_micro) FILTER (WHERE line = 'double-running'), 0) AS moves,
           coalesce(sum(b0_micro), 0) AS b0, coalesce(sum(b1_micro), 0) AS b1, coalesce(sum(b2_micro), 0) AS b2,
           coalesce(sum(cost_micro) FILTER (WHERE b0_micro IS NULL), 0) AS without_b0,
           coalesce(sum(cost_micro) FILTER (WHERE b1_unknown), 0) AS without_b1,
           coalesce(sum(cost_micro) FILTER (WHERE b2_unknown), 0) AS without_b2,
           CASE WHEN bool_or(basis = 'estimate') THEN 'estimate' ELSE 'computed' END AS basis
    FROM lines GROUP BY day, team, service, environment, cost_center, product_area
)
SELECT day, team, service, environment, cost_center, product_area,
       spend * 0.000001 AS spend_usd, b0 * 0.000001 AS b0_usd, b1 * 0.000001 AS b1_usd, b2 * 0.000001 AS b2_usd,
       (b1 - useful) * 0.000001 AS gross_saving_b1_usd,
       boot * 0.000001 AS boot_usd, idle * 0.000001 AS idle_usd, drain * 0.000001 AS drain_usd, moves * 0.000001 AS moves_usd,
       (b0 - spend) * 0.000001 AS net_saving_b0_usd, (b1 - spend) * 0.000001 AS net_saving_b1_usd, (b2 - spend) * 0.000001 AS net_saving_b2_usd,
       without_b0 * 0.000001 AS spend_without_b0_usd, without_b1 * 0.000001 AS spend_without_b1_usd,
       without_b2 * 0.000001 AS spend_without_b2_usd, basis
FROM summed;

CREATE VIEW ledger.explain_decision AS
SELECT d.id AS decision, d.at AS decided_at, d.cluster, d.trigger, d.outcome, d.text, d.node_pool,
       d.workload_kind, d.workload_namespace, d.workload_name, d.team, d.service, d.environment, d.cost_center, d.product_area,
       d.pods, d.need, d.region, d.zone, d.instance_type, d.capacity_type, d.price_usd_h, d.per_replica_usd_h, d.replicas,
       d.price_age_ms, d.price_source,
       (SELECT count(*) FROM ledger.candidate c WHERE c.decision = d.id) AS refused_shown, d.refused_counts, d.offers_hash,
       d.b0, d.b1, d.b2, d.b0_usd_h, d.b1_replica_usd_h, d.b2_replica_usd_h,
       d.claim, d.from_claim, d.instance, d.policy_hash, d.code_version
FROM ledger.decision d;

CREATE VIEW ledger.migration_timing AS
SELECT m.decision, m.pod_namespace, m.pod_name, m.pod_uid, m.from_claim, m.to_claim, m.at AS noticed_at, m.deadline, m.decided_at,
       m.launched_at, m.node_ready_at, m.pod_ready_at, m.old_gone_at, m.egress_gib,
       ledger.ms(m.decided_at) - ledger.ms(m.at) AS notice_to_decision_ms,
       ledger.ms(m.launched_at) - ledger.ms(m.decided_at) AS decision_to_launched_ms,
       ledger.ms(m.node_ready_at) - ledger.ms(m.launched_at) AS launched_to_node_ready_ms,
       ledger.ms(m.pod_ready_at) - ledger.ms(coalesce(m.node_ready_at, m.decided_at)) AS node_ready_to_pod_ready_ms,
       ledger.ms(m.pod_ready_at) - ledger.ms(m.at) AS recovery_ms,
       greatest(ledger.ms(m.pod_ready_at) - ledger.ms(m.old_gone_at), 0) AS gap_ms
FROM ledger.migration m;

-- Interruptions by pool of capacity, with 95 % intervals: per launch (Wilson) and per 1,000 instance-hours (Byar's for a Poisson count).
CREATE VIEW ledger.reliability AS
WITH exposure AS (
    SELECT region, zone, instance_type, capacity_type, count(*)::float8 AS launches, sum(ran_ms) / 3600000.0::float8 AS hours,
           count(*) FILTER (WHERE EXISTS (SELECT FROM ledger.interruption x WHERE x.claim_uid = i.claim_uid))::float8 AS n
    FROM ledger.capacity_interval i GROUP BY region, zone, instance_type, capacity_type
), rates AS (
    SELECT *, n / launches AS p, 1.96::float8 AS z FROM exposure
)
SELECT region, zone, instance_type, capacity_type, launches::bigint AS launches, round(hours::numeric, 3) AS instance_hours,
       n::bigint AS interruptions, round(p::numeric, 4) AS per_launch,
       round(greatest((p + z*z/(2*launches) - z*sqrt(p*(1-p)/launches + z*z/(4*launches*launches))) / (1 + z*z/launches), 0)::numeric, 4) AS per_launch_low,
       round(least((p + z*z/(2*launches) + z*sqrt(p*(1-p)/launches + z*z/(4*launches*launches))) / (1 + z*z/launches), 1)::numeric, 4) AS per_launch_high,
       round((1000 * n / nullif(hours, 0))::numeric, 3) AS per_1000_hours,
       round((CASE WHEN n = 0 THEN 0 ELSE 1000 * n * power(1 - 1/(9*n) - z/(3*sqrt(n)), 3) / nullif(hours, 0) END)::numeric, 3) AS per_1000_hours_low,
       round((1000 * (n+1) * power(1 - 1/(9*(n+1)) + z/(3*sqrt(n+1)), 3) / nullif(hours, 0))::numeric, 3) AS per_1000_hours_high
FROM rates;

-- How far the figures can be relied on: dollars by basis, and facts that miss their counterpart.
CREATE VIEW ledger.trust AS
SELECT 'spend, machines still running' AS item, sum(cost_micro) * 0.000001 AS usd, count(DISTINCT claim_uid) AS count
FROM ledger.price_segment WHERE basis = 'estimate'
UNION ALL SELECT 'spend, machines ended', sum(cost_micro) * 0.000001, count(DISTINCT claim_uid) FROM ledger.price_segment WHERE basis = 'computed'
UNION ALL SELECT 'spend, hour without a price of its own', sum(cost_micro) * 0.000001, count(*) FROM ledger.price_segment WHERE NOT price_is_own
UNION ALL SELECT 'spend, no on-demand price known', sum(cost_micro) * 0.000001, count(*) FROM ledger.price_segment WHERE b0_micro IS NULL
UNION ALL SELECT 'machine ended but never opened', NULL, count(*) FROM ledger.interval_closed c
    WHERE NOT EXISTS (SELECT FROM ledger.interval_opened o WHERE o.claim_uid = c.claim_uid)
UNION ALL SELECT 'pod left but never came', NULL, count(*) FROM ledger.occupancy_closed c
    WHERE NOT EXISTS (SELECT FROM ledger.occupancy_opened o WHERE (o.claim_uid, o.pod_uid) = (c.claim_uid, c.pod_uid))
UNION ALL SELECT 'pod on a machine never opened', NULL, count(*) FROM ledger.occupancy_opened c
    WHERE NOT EXISTS (SELECT FROM ledger.interval_opened o WHERE o.claim_uid = c.claim_uid)
UNION ALL SELECT 'bought by a decision that is missing', NULL, count(*) FROM ledger.interval_opened c
    WHERE NOT EXISTS (SELECT FROM ledger.decision d WHERE d.id = c.decision)
UNION ALL SELECT 'machines whose split does not add up', sum(abs(difference)) * 0.000001, count(*) FROM (
    SELECT s.claim_uid, s.hour, min(s.cost_micro) - coalesce(sum(a.cost_micro), 0) AS difference
    FROM ledger.price_segment s LEFT JOIN ledger.allocation a USING (claim_uid, hour) GROUP BY s.claim_uid, s.hour) x WHERE difference <> 0;

-- What one hour of useful GPU time cost, idle and all included: a ratio of sums.
CREATE VIEW ledger.unit_cost_hourly AS
SELECT day, team, service, workload_namespace, workload_name, sum(cost_micro) * 0.000001 AS cost_usd,
       round(sum(gpu_ms) FILTER (WHERE line = 'pod') / 3600000.0, 6) AS useful_gpu_hours,
       round(sum(cost_micro) * 3.6 / nullif(sum(gpu_ms) FILTER (WHERE line = 'pod'), 0), 6) AS usd_per_useful_gpu_hour
FROM ledger.allocation GROUP BY day, team, service, workload_namespace, workload_name;

-- FOCUS 1.2 rows for our share of the bill: an enrichment, so BilledCost is 0 (only the invoicer may bill) and savings are x_ columns.
CREATE VIEW ledger.focus_1_2 AS
SELECT 0::numeric AS "BilledCost", a.cost_micro * 0.000001 AS "EffectiveCost",
       coalesce(a.b0_micro, a.cost_micro) * 0.000001 AS "ListCost", coalesce(a.b0_micro, a.cost_micro) * 0.000001 AS "ContractedCost",
       'USD' AS "BillingCurrency", to_char(date_trunc('month', a.day), 'YYYY-MM-DD"T00:00:00Z"') AS "BillingPeriodStart",
       to_char(date_trunc('month', a.day) + interval '1 month', 'YYYY-MM-DD"T00:00:00Z"') AS "BillingPeriodEnd",
       to_char(a.day, 'YYYY-MM-DD"T00:00:00Z"') AS "ChargePeriodStart", to_char(a.day + 1, 'YYYY-MM-DD"T00:00:00Z"') AS "ChargePeriodEnd",
       'Usage' AS "ChargeCategory", NULL::text AS "ChargeClass", a.instance_type || ' ' || a.capacity_type || ', ' || a.line AS "ChargeDescription",
       CASE a.capacity_type WHEN 'spot' THEN 'Dynamic' WHEN 'reserved' THEN 'Committed' ELSE 'Standard' END AS "PricingCategory",
       round(a.gpu_ms / 3600000.0, 10) AS "PricingQuantity", 'GPU-Hours' AS "PricingUnit", 'Compute' AS "ServiceCategory",
       'Amazon Elastic Compute Cloud' AS "ServiceName", 'AWS' AS "ProviderName", 'AWS' AS "PublisherName", 'AWS' AS "InvoiceIssuerName",
       a.region AS "RegionId", a.instance AS "ResourceId", a.instance_type AS "ResourceType",
       jsonb_strip_nulls(jsonb_build_object('team', a.team, 'service', a.service, 'environment', a.environment, 'cost-center', a.cost_center,
                                            'product-area', a.product_area))::text AS "Tags",
       a.decision AS "x_DecisionId", a.basis AS "x_Basis", a.line AS "x_WasteCategory", 'B1' AS "x_BaselineId",
       a.b1_micro * 0.000001 AS "x_BaselineCost", (a.b1_micro - a.cost_micro) * 0.000001 AS "x_NetSavings"
FROM ledger.allocation a;
