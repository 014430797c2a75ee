-- Recommendations that were kept, held against the two weeks after the day on which they were made.
--
-- Useful cost is that of `gpu_use`, which is line pod of `cost_daily`. A recommendation is followed when GPU time fell at least halfway to what was recommended,
-- or when at least half of it was on the recommended type, or shared. What was saved compares cost for the same requests where at least four fifths of the cost on
-- both sides lie in hours whose requests are known, else cost by day.

CREATE FUNCTION ledger.recommendation_score_of(from_day date, to_day date)
RETURNS TABLE (id uuid, made_at timestamptz, workload_namespace text, workload_name text, team text, what text, change text, basis text,
               predicted_usd_per_month numeric, scored_from date, scored_to date, state text, predicted_usd numeric, saved_usd numeric, saved_by text,
               days_before integer, usd_before numeric, usd_after numeric, gpu_hours_before numeric, gpu_hours_after numeric,
               usd_per_1000_requests_before numeric, usd_per_1000_requests_after numeric)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH made AS MATERIALIZED (
        SELECT r.*, ledger.utc_day(r.measured_from) AS before_from, ledger.utc_day(r.measured_to) AS before_to, ledger.utc_day(r.at) + 1 AS after_from,
               ledger.utc_day(r.at) + 15 AS after_to
        FROM ledger.recommendation r
        WHERE ledger.utc_day(r.at) >= from_day AND ledger.utc_day(r.at) < to_day AND r.posted_at < (SELECT ledger.known_before())
    ), due AS MATERIALIZED (
        SELECT * FROM made WHERE after_to <= (SELECT ledger.open_day())
    ), sides AS MATERIALIZED (
        SELECT d.id, d.workload_namespace, d.workload_name, d.types, s.side, s.a, s.b
        FROM due d CROSS JOIN LATERAL (VALUES ('before', d.before_from, d.before_to), ('after', d.after_from, d.after_to)) AS s(side, a, b)
    ), hours AS MATERIALIZED (
        -- Once for each span, however many recommendations were made on its day.
        SELECT w.a, w.b, u.workload_namespace, u.workload_name, u.hour, u.instance_type, coalesce(u.shared, false) AS shared, sum(u.gpu_hours) AS gpu_hours,
               sum(u.cost_usd) AS usd
        FROM (SELECT DISTINCT a, b FROM sides) w
        CROSS JOIN LATERAL ledger.gpu_use_of(w.a::timestamp AT TIME ZONE 'UTC', w.b::timestamp AT TIME ZONE 'UTC') u
        WHERE (u.workload_namespace, u.workload_name) IN (SELECT d.workload_namespace, d.workload_name FROM due d)
        GROUP BY 1, 2, 3, 4, 5, 6, 7
    ), used AS MATERIALIZED (
        SELECT s.id, s.side, sum(h.usd) AS usd, sum(h.gpu_hours) AS gpu_hours, coalesce(sum(h.gpu_hours) FILTER (WHERE h.shared), 0) AS on_shared,
               coalesce(sum(h.gpu_hours) FILTER (WHERE h.instance_type = ANY (s.types)), 0) AS on_types
        FROM sides s JOIN hours h USING (a, b, workload_namespace, workload_name) GROUP BY 1, 2
    ), requests AS MATERIALIZED (
        SELECT s.id, s.side, sum(h.usd) AS usd, sum(u.quantity) AS requests
        FROM sides s
        JOIN (SELECT a, b, workload_namespace, workload_name, hour, sum(usd) AS usd FROM hours GROUP BY 1, 2, 3, 4, 5) h
             USING (a, b, workload_namespace, workload_name)
        JOIN ledger.usage_by_vendor u ON u.vendor IS NULL AND u.unit = 'requests' AND u.hour = h.hour AND u.workload_namespace = h.workload_namespace AND u.workload_name = h.workload_name
        GROUP BY 1, 2
    ), held AS (
        SELECT m.*, d.id IS NOT NULL AS is_due, m.before_to - m.before_from AS days, coalesce(b.usd, 0) AS b_usd, coalesce(a.usd, 0) AS a_usd,
               coalesce(b.gpu_hours, 0) AS b_hours, coalesce(a.gpu_hours, 0) AS a_hours, coalesce(a.on_shared, 0) AS a_shared, coalesce(a.on_types, 0) AS a_types,
               rb.usd AS rb_usd, ra.usd AS ra_usd, nullif(rb.requests, 0) AS rb, nullif(ra.requests, 0) AS ra
        FROM made m LEFT JOIN due d USING (id)
        LEFT JOIN used b ON b.id = m.id AND b.side = 'before' LEFT JOIN used a ON a.id = m.id AND a.side = 'after'
        LEFT JOIN requests rb ON rb.id = m.id AND rb.side = 'before' LEFT JOIN requests ra ON ra.id = m.id AND ra.side = 'after'
    ), judged AS (
        SELECT h.*, rb IS NOT NULL AND ra IS NOT NULL AND rb_usd * 5 >= b_usd * 4 AND ra_usd * 5 >= a_usd * 4 AS by_requests,
               CASE WHEN NOT is_due THEN 'early' WHEN a_hours = 0 AND gpu_ms_after > 0 THEN 'gone'
                    WHEN CASE h.what WHEN 'sharing' THEN 2 * a_shared >= a_hours WHEN 'smaller-gpu' THEN 2 * a_types >= a_hours
                              ELSE 2 * a_hours * days <= 14 * (b_hours + gpu_ms_after / 3600000.0) END THEN 'followed'
                    ELSE 'not-followed' END AS state
        FROM held h
    )
    SELECT j.id, j.at, j.workload_namespace, j.workload_name, j.team, j.what, j.change, j.basis, j.predicted_usd_per_month, j.after_from, j.after_to, j.state,
           round(j.predicted_usd_per_month * 14 / 30, 6),
           CASE WHEN j.state = 'followed' THEN CASE WHEN j.by_requests THEN round(j.rb_usd * j.ra / j.rb, 6) - j.ra_usd
                                                    ELSE round(j.b_usd * 14 / j.days, 6) - j.a_usd END END,
           CASE WHEN j.state = 'followed' THEN CASE WHEN j.by_requests THEN 'requests' ELSE 'days' END END,
           j.days, CASE WHEN j.is_due THEN j.b_usd END, CASE WHEN j.is_due THEN j.a_usd END, CASE WHEN j.is_due THEN round(j.b_hours, 6) END,
           CASE WHEN j.is_due THEN round(j.a_hours, 6) END, round(1000 * j.rb_usd / j.rb, 6), round(1000 * j.ra_usd / j.ra, 6)
    FROM judged j
$$;

CREATE VIEW ledger.recommendation_score AS SELECT * FROM ledger.recommendation_score_of('-infinity', 'infinity');
