-- Why a month cost other than the month before: the steps of src/core/accounting/variance.rs in SQL, workload by workload. They add up
-- to the difference exactly; a test compares both statements.

-- a * part / whole in whole numbers, half up.
CREATE OR REPLACE FUNCTION ledger.scaled(amount numeric, part numeric, whole numeric) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN div(2 * amount * part + whole, 2 * whole);

-- Millionths of units of a month whose usage is known on days with `known` of its `whole` useful GPU time: the other days count as these. People of a month are
-- counted once.
CREATE OR REPLACE FUNCTION ledger.whole_month(unit text, units numeric, known numeric, whole numeric) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN unit <> 'monthly_users' AND known > 0 AND known < whole THEN div(units * 1000000 * whole, known) ELSE units * 1000000 END;

-- A month that still runs is compared by its full days, with the same days of the other.
CREATE VIEW ledger.variance_month AS
WITH today AS (
    SELECT ledger.open_day() AS day, date_trunc('month', ledger.open_day())::date AS month
), costs AS (
    SELECT date_trunc('month', day)::date AS month, extract(day FROM day) < extract(day FROM (SELECT day FROM today)) AS early, coalesce(workload_namespace, '') AS namespace, coalesce(workload_name, '') AS name, line,
           coalesce(region, '') || ' ' || coalesce(instance_type, '') AS machine, capacity_type,
           sum(gpu_ms) AS gpu_ms, sum(cost_usd - true_up_usd) * 1000000 AS computed, sum(true_up_usd) * 1000000 AS true_up
    FROM ledger.share_daily GROUP BY 1, 2, 3, 4, 5, 6, 7
), pairs AS (
    SELECT p.month, p.before, t.month IN (p.month, p.before) AS running
    FROM (SELECT DISTINCT (m.month + n.after * interval '1 month')::date AS month, (m.month + (n.after - 1) * interval '1 month')::date AS before
          FROM (SELECT DISTINCT month FROM costs) m CROSS JOIN (VALUES (0), (1)) AS n(after)) p CROSS JOIN today t
), used AS (
    SELECT p.month, c.namespace, c.name, c.machine, c.capacity_type,
           coalesce(sum(c.gpu_ms) FILTER (WHERE c.month = p.before), 0) AS g0, coalesce(sum(c.computed) FILTER (WHERE c.month = p.before), 0) AS c0,
           coalesce(sum(c.gpu_ms) FILTER (WHERE c.month = p.month), 0) AS g1, coalesce(sum(c.computed) FILTER (WHERE c.month = p.month), 0) AS c1
    FROM pairs p JOIN costs c ON c.month IN (p.month, p.before) AND (c.early OR NOT p.running) WHERE c.line = 'pod' GROUP BY 1, 2, 3, 4, 5
), machines AS (
    SELECT month, namespace, name, machine, sum(g0) AS g0_t, sum(c0) AS c0_t, sum(g1) AS g1_t, sum(c1) AS c1_t FROM used GROUP BY 1, 2, 3, 4
), priced AS (
    SELECT u.month, u.namespace, u.name,
           sum(CASE WHEN m.g0_t = 0 THEN u.c1
                    WHEN u.capacity_type = 'spot' AND u.g0 > 0 AND u.g1 > 0 THEN ledger.scaled(u.c1, m.g1_t * u.g0, m.g0_t * u.g1)
                    ELSE ledger.scaled(u.c0, m.g1_t, m.g0_t) END) AS spot,
           sum(CASE WHEN m.g0_t > 0 AND u.capacity_type <> 'spot' AND u.g0 > 0 THEN ledger.scaled(u.c0, u.g1, u.g0) ELSE u.c1 END) AS market
    FROM used u JOIN machines m USING (month, namespace, name, machine) GROUP BY 1, 2, 3
), mixed AS (
    SELECT month, namespace, name, sum(g0_t) AS g0, sum(c0_t) AS c0, sum(g1_t) AS g1, sum(c1_t) AS c1,
           sum(CASE WHEN g0_t = 0 THEN c1_t ELSE ledger.scaled(c0_t, g1_t, g0_t) END) AS mix
    FROM machines GROUP BY 1, 2, 3
), used_days AS (
    SELECT ledger.utc_day(hour) AS day, workload_namespace AS namespace, workload_name AS name, unit, sum(quantity) AS units
    -- What a vendor did says nothing of the time of our GPUs.
    FROM ledger.usage_by_vendor WHERE vendor IS NULL GROUP BY 1, 2, 3, 4
), worked_days AS (
    SELECT day, workload_namespace AS namespace, workload_name AS name, sum(gpu_ms) AS gpu_ms FROM ledger.share_daily WHERE line = 'pod' GROUP BY 1, 2, 3
), produced AS (
    SELECT date_trunc('month', day)::date AS month, extract(day FROM day) < extract(day FROM (SELECT day FROM today)) AS early, namespace, name, unit,
           sum(units) AS units, coalesce(sum(gpu_ms), 0) AS known
    FROM used_days LEFT JOIN worked_days USING (day, namespace, name) GROUP BY 1, 2, 3, 4, 5
), of_pairs AS (
    SELECT p.month, u.namespace, u.name, u.unit, sum(u.units) FILTER (WHERE u.month = p.before) AS u0, sum(u.units) FILTER (WHERE u.month = p.month) AS u1,
           sum(u.known) FILTER (WHERE u.month = p.before) AS k0, sum(u.known) FILTER (WHERE u.month = p.month) AS k1
    FROM pairs p JOIN produced u ON u.month IN (p.month, p.before) AND (u.early OR NOT p.running) GROUP BY 1, 2, 3, 4
), both_units AS (
    SELECT DISTINCT ON (month, namespace, name) month, namespace, name, unit, u0, u1, k0, k1
    FROM of_pairs WHERE u0 > 0 AND u1 > 0
    ORDER BY month, namespace, name, array_position(ARRAY['requests', 'transactions', 'tokens', 'users', 'tokens_in', 'tokens_out', 'monthly_users'], unit)
), useful AS (
    SELECT m.month, m.namespace, m.name, m.c0 AS start, m.c1 AS until,
           CASE WHEN m.g0 = 0 OR m.g1 = 0 THEN m.c1 ELSE ledger.scaled(m.c0, coalesce(ledger.whole_month(b.unit, b.u1, b.k1, m.g1), m.g1), coalesce(ledger.whole_month(b.unit, b.u0, b.k0, m.g0), m.g0)) END AS volume,
           CASE WHEN m.g0 = 0 OR m.g1 = 0 THEN m.c1 ELSE ledger.scaled(m.c0, m.g1, m.g0) END AS efficiency,
           CASE WHEN m.g0 = 0 OR m.g1 = 0 THEN m.c1 ELSE m.mix END AS mix,
           CASE WHEN m.g0 = 0 OR m.g1 = 0 THEN m.c1 ELSE p.spot END AS spot,
           CASE WHEN m.g0 = 0 OR m.g1 = 0 THEN m.c1 ELSE p.market END AS market
    FROM mixed m JOIN priced p USING (month, namespace, name) LEFT JOIN both_units b USING (month, namespace, name)
), rest AS (
    SELECT p.month, c.namespace, c.name, CASE WHEN c.month = p.month THEN 1 ELSE -1 END AS sign, c.line, c.computed, c.true_up
    FROM pairs p JOIN costs c ON c.month IN (p.month, p.before) AND (c.early OR NOT p.running)
), steps AS (
    SELECT u.month, u.namespace, u.name, s.step_order, s.step, s.micro
    FROM useful u CROSS JOIN LATERAL (VALUES (1, 'volume', volume - start), (2, 'efficiency', efficiency - volume), (3, 'instance mix', mix - efficiency),
        (4, 'spot price', spot - mix), (5, 'market mix', market - spot), (10, 'other', until - market)) AS s(step_order, step, micro)
    UNION ALL
    SELECT r.month, r.namespace, r.name, s.step_order, s.step, s.micro
    FROM rest r CROSS JOIN LATERAL (VALUES
        (6, 'moves and waste', CASE WHEN r.line IN ('double-running', 'lost-work', 'boot', 'drain') THEN r.sign * r.computed END),
        (7, 'idle', CASE WHEN r.line = 'idle' THEN r.sign * r.computed END), (8, 'egress', CASE WHEN r.line = 'egress' THEN r.sign * r.computed END),
        (9, 'coverage', r.sign * r.true_up), (10, 'other', CASE WHEN r.line = 'overhead' THEN r.sign * r.computed END)) AS s(step_order, step, micro)
    WHERE s.micro IS NOT NULL
)
SELECT month, (month - interval '1 month')::date AS month_before, nullif(namespace, '') AS workload_namespace, nullif(name, '') AS workload_name,
       step_order, step, sum(micro) * 0.000001 AS difference_usd
FROM steps GROUP BY month, namespace, name, step_order, step HAVING sum(micro) <> 0;
