-- Decisions, the moves they made, and how often capacity was taken back.

CREATE VIEW ledger.explain_decision AS
SELECT d.id AS decision, d.at AS decided_at, d.cluster, d.trigger, d.outcome, d.text, d.node_pool,
       d.workload_kind, d.workload_namespace, d.workload_name, d.team, d.service, d.environment, d.cost_center, d.product_area, d.component,
       d.pods, d.need, d.region, d.zone, d.instance_type, d.capacity_type, d.price_usd_h, d.per_replica_usd_h, d.replicas,
       d.price_age_ms, d.price_source, d.interruptions_per_million_hours, d.placement_score,
       (SELECT count(*) FROM ledger.candidate c WHERE c.decision = d.id) AS refused_shown, d.refused_counts, d.offers_hash,
       d.b0, d.b1, d.b2, d.b0_usd_h, d.b1_replica_usd_h, d.b2_replica_usd_h,
       d.claim, d.from_claim, d.instance, d.policy_hash, d.code_version
FROM ledger.decision d WHERE d.posted_at < (SELECT ledger.known_before());

-- When the old pod was gone follows from the end of its stay: the move is recorded before, when its replacement is Ready.
CREATE VIEW ledger.migration_timing AS
WITH moved AS (
    SELECT m.*, coalesce(m.old_gone_at, gone.at) AS left_at
    FROM (SELECT * FROM ledger.migration WHERE posted_at < (SELECT ledger.known_before())) m
    LEFT JOIN LATERAL (
        SELECT least(stay.at, life.at) AS at
        FROM (SELECT o.claim_uid FROM ledger.interval_opened o WHERE o.claim = m.from_claim ORDER BY o.posted_at, o.at LIMIT 1) machine
        LEFT JOIN LATERAL (SELECT c.at FROM ledger.occupancy_closed c WHERE c.claim_uid = machine.claim_uid AND c.pod_uid = m.pod_uid
                           ORDER BY c.posted_at, c.at LIMIT 1) stay ON true
        LEFT JOIN LATERAL (SELECT c.at FROM ledger.interval_closed c WHERE c.claim_uid = machine.claim_uid
                           ORDER BY c.posted_at, c.at LIMIT 1) life ON true
    ) gone ON true
)
SELECT m.decision, m.pod_namespace, m.pod_name, m.pod_uid, m.from_claim, m.to_claim, m.at AS noticed_at, m.deadline, m.decided_at,
       m.launched_at, m.node_ready_at, m.pod_ready_at, m.left_at AS old_gone_at, m.egress_gib,
       ledger.ms(m.decided_at) - ledger.ms(m.at) AS notice_to_decision_ms,
       ledger.ms(m.launched_at) - ledger.ms(m.decided_at) AS decision_to_launched_ms,
       ledger.ms(m.node_ready_at) - ledger.ms(m.launched_at) AS launched_to_node_ready_ms,
       ledger.ms(m.pod_ready_at) - ledger.ms(coalesce(m.node_ready_at, m.decided_at)) AS node_ready_to_pod_ready_ms,
       ledger.ms(m.pod_ready_at) - ledger.ms(m.at) AS recovery_ms,
       -- greatest() alone would take an unknown gap for none.
       CASE WHEN m.pod_ready_at IS NOT NULL AND m.left_at IS NOT NULL THEN greatest(ledger.ms(m.pod_ready_at) - ledger.ms(m.left_at), 0) END AS gap_ms
FROM moved m;

-- What ran in a span of time, by pool of capacity: machines that ran in it, for how long of it, and how many of them EC2 gave notice in it.
CREATE FUNCTION ledger.exposure_of(from_at timestamptz, to_at timestamptz)
RETURNS TABLE (region text, zone text, instance_type text, capacity_type text, launches bigint, ran_ms numeric, interruptions bigint)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH span AS (
        SELECT CASE WHEN isfinite(from_at) THEN ledger.ms(from_at) ELSE 0 END AS from_ms, CASE WHEN isfinite(to_at) THEN ledger.ms(to_at) ELSE 9e15::bigint END AS to_ms
    )
    SELECT i.region, i.zone, i.instance_type, i.capacity_type, count(*), sum(ledger.shared_ms(i.from_ms, i.until_ms, s.from_ms, s.to_ms)),
           count(*) FILTER (WHERE EXISTS (SELECT FROM ledger.interruption x WHERE x.claim_uid = i.claim_uid AND x.at >= from_at AND x.at < to_at
                                                                             AND x.posted_at < (SELECT ledger.known_before())))
    FROM span s, LATERAL (
        -- By what was known on a day a machine whose end was not known yet still ran.
        SELECT c.*, CASE WHEN ledger.known_before() = 'infinity' THEN c.from_ms + c.ran_ms
                         WHEN EXISTS (SELECT FROM ledger.interval_closed e WHERE e.claim_uid = c.claim_uid AND e.posted_at < ledger.known_before()) THEN c.from_ms + c.ran_ms
                         ELSE least(ledger.ms(ledger.known_before()), ledger.ms(now())) END AS until_ms
        FROM ledger.capacity_interval c
        WHERE ledger.known_before() = 'infinity'
           OR EXISTS (SELECT FROM ledger.interval_opened o WHERE o.claim_uid = c.claim_uid AND o.posted_at < ledger.known_before())
    ) i
    WHERE i.from_ms < s.to_ms AND (i.until_ms > s.from_ms OR i.from_ms >= s.from_ms)
    GROUP BY i.region, i.zone, i.instance_type, i.capacity_type
$$;

-- Rates with 95 % intervals: per launch (Wilson) and per 1,000 instance-hours (Byar's for a Poisson count).
CREATE FUNCTION ledger.interruption_rates(launches numeric, ran_ms numeric, interruptions numeric)
RETURNS TABLE (instance_hours numeric, per_launch numeric, per_launch_low numeric, per_launch_high numeric,
               per_1000_hours numeric, per_1000_hours_low numeric, per_1000_hours_high numeric)
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT round(hours::numeric, 3), round(p::numeric, 4),
           round(greatest((p + z*z/(2*m) - z*sqrt(p*(1-p)/m + z*z/(4*m*m))) / (1 + z*z/m), 0)::numeric, 4),
           round(least((p + z*z/(2*m) + z*sqrt(p*(1-p)/m + z*z/(4*m*m))) / (1 + z*z/m), 1)::numeric, 4),
           round((1000 * n / nullif(hours, 0))::numeric, 3),
           round((CASE WHEN n = 0 THEN 0 ELSE 1000 * n * power(1 - 1/(9*n) - z/(3*sqrt(n)), 3) / nullif(hours, 0) END)::numeric, 3),
           round((1000 * (n+1) * power(1 - 1/(9*(n+1)) + z/(3*sqrt(n+1)), 3) / nullif(hours, 0))::numeric, 3)
    FROM (SELECT launches::float8 AS m, interruptions::float8 AS n, (ran_ms / 3600000.0)::float8 AS hours, interruptions::float8 / launches::float8 AS p,
                 1.96::float8 AS z) figures
$$;

CREATE VIEW ledger.reliability AS
SELECT e.region, e.zone, e.instance_type, e.capacity_type, e.launches, r.instance_hours, e.interruptions, r.per_launch, r.per_launch_low,
       r.per_launch_high, r.per_1000_hours, r.per_1000_hours_low, r.per_1000_hours_high
FROM ledger.exposure_of('-infinity', 'infinity') e CROSS JOIN LATERAL ledger.interruption_rates(e.launches, e.ran_ms, e.interruptions) r;
