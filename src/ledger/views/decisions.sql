-- Decisions, the moves they made, and how often capacity was taken back.

CREATE VIEW ledger.explain_decision AS
SELECT d.id AS decision, d.at AS decided_at, d.cluster, d.trigger, d.outcome, d.text, d.node_pool,
       d.workload_kind, d.workload_namespace, d.workload_name, d.team, d.service, d.environment, d.cost_center, d.product_area, d.component,
       d.pods, d.need, d.region, d.zone, d.instance_type, d.capacity_type, d.price_usd_h, d.per_replica_usd_h, d.replicas,
       d.price_age_ms, d.price_source,
       (SELECT count(*) FROM ledger.candidate c WHERE c.decision = d.id) AS refused_shown, d.refused_counts, d.offers_hash,
       d.b0, d.b1, d.b2, d.b0_usd_h, d.b1_replica_usd_h, d.b2_replica_usd_h,
       d.claim, d.from_claim, d.instance, d.policy_hash, d.code_version
FROM ledger.decision d;

-- When the old pod was gone is told by the end of its stay: the move is recorded before, when its replacement is Ready.
CREATE VIEW ledger.migration_timing AS
WITH moved AS (
    SELECT m.*, coalesce(m.old_gone_at, gone.at) AS left_at
    FROM ledger.migration m
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
       greatest(ledger.ms(m.pod_ready_at) - ledger.ms(m.left_at), 0) AS gap_ms
FROM moved m;

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
