-- What workloads produced and earned, and what a unit of it cost.

-- What the versions of files add up to; where no file speaks, what Prometheus said last.
CREATE VIEW ledger.usage AS
SELECT DISTINCT ON (workload_namespace, workload_name, unit, at) at AS hour, workload_namespace, workload_name, unit, quantity, source
FROM (
    SELECT at, workload_namespace, workload_name, unit, sum(quantity) AS quantity, source, 0 AS rank, max(posted_at) AS posted_at
    FROM ledger.usage_hour WHERE statement IS NOT NULL GROUP BY at, workload_namespace, workload_name, unit, source HAVING sum(lines) > 0
    UNION ALL
    SELECT at, workload_namespace, workload_name, unit, quantity, source, 1 - revision + 2147483646, posted_at FROM ledger.usage_hour
    WHERE statement IS NULL AND source <> 'file'
) u ORDER BY workload_namespace, workload_name, unit, at, rank, posted_at DESC;

CREATE VIEW ledger.revenue AS
SELECT ledger.utc_day(at) AS day, workload_namespace, workload_name, sum(revenue_usd) AS revenue_usd
FROM ledger.revenue_day WHERE statement IS NOT NULL GROUP BY at, workload_namespace, workload_name HAVING sum(lines) > 0;

-- What came from outside: versions by source and period; one `holds` unless it was taken back.
CREATE VIEW ledger.statements AS
SELECT s.id, s.kind, s.source, s.at AS period_from, s.until AS period_to, s.version, s.said_version, s.lines, s.total, s.invoiced, s.accepted, s.taken_by,
       s.posted_at AS taken_at, s.retracts, s.files,
       CASE WHEN s.retracts IS NOT NULL THEN 'takes back' WHEN EXISTS (SELECT FROM ledger.statement r WHERE r.retracts = s.id) THEN 'taken back'
            WHEN s.kind = 'feed' OR s.version = max(s.version) FILTER (WHERE s.retracts IS NULL AND NOT EXISTS (SELECT FROM ledger.statement r WHERE r.retracts = s.id))
                                    OVER (PARTITION BY s.kind, s.source, s.at) THEN 'holds'
            ELSE 'replaced' END AS state
FROM ledger.statement s;

-- Cost by clock hour. An instance-hour lies across two of them: its shares are spread evenly over its time; egress stays at its moment.
CREATE FUNCTION ledger.hourly_cost(from_at timestamptz, to_at timestamptz)
RETURNS TABLE (hour timestamptz, workload_namespace text, workload_name text, team text, service text, component text, cost_usd numeric, useful_gpu_ms numeric)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT h.hour, s.workload_namespace, s.workload_name, s.team, s.service, s.component, sum(s.cost_usd * h.part),
           coalesce(sum(s.gpu_ms * h.part) FILTER (WHERE s.line = 'pod'), 0)
    FROM ledger.share s
    CROSS JOIN LATERAL (
        SELECT to_timestamp((ledger.ms(s.at) / 3600000 + n) * 3600.0) AS hour,
               CASE WHEN s.span_ms = 0 THEN 1 ELSE ledger.shared_ms(ledger.ms(s.at), ledger.ms(s.at) + s.span_ms, (ledger.ms(s.at) / 3600000 + n) * 3600000,
                    (ledger.ms(s.at) / 3600000 + n + 1) * 3600000)::numeric / s.span_ms END AS part
        FROM ledger.numbers(0, (ledger.ms(s.at) % 3600000 + greatest(s.span_ms, 1) - 1) / 3600000) AS n
    ) h
    WHERE s.at >= from_at - interval '1 hour' AND s.at < to_at AND h.hour >= from_at AND h.hour < to_at
    GROUP BY h.hour, s.workload_namespace, s.workload_name, s.team, s.service, s.component
$$;

CREATE FUNCTION ledger.unit_cost(from_at timestamptz, to_at timestamptz)
RETURNS TABLE (hour timestamptz, day date, team text, service text, component text, workload_namespace text, workload_name text, unit text, units numeric,
               cost_usd numeric, usd_per_unit numeric, useful_gpu_hours numeric, usd_per_useful_gpu_hour numeric)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH cost AS (
        SELECT hour, workload_namespace, workload_name, max(team) AS team, max(service) AS service, max(component) AS component, sum(cost_usd) AS cost_usd,
               sum(useful_gpu_ms) AS useful_gpu_ms
        FROM ledger.hourly_cost(from_at, to_at) GROUP BY hour, workload_namespace, workload_name
    )
    SELECT c.hour, ledger.utc_day(c.hour), c.team, c.service, c.component, c.workload_namespace, c.workload_name, u.unit, u.quantity,
           round(c.cost_usd, 10), round(c.cost_usd / nullif(u.quantity, 0), 12), round(c.useful_gpu_ms / 3600000, 6),
           round(c.cost_usd * 3600000 / nullif(c.useful_gpu_ms, 0), 6)
    FROM cost c
    LEFT JOIN ledger.usage u ON u.hour = c.hour AND u.workload_namespace = c.workload_namespace AND u.workload_name = c.workload_name
$$;

CREATE VIEW ledger.unit_cost_hourly AS SELECT * FROM ledger.unit_cost('-infinity', 'infinity');
