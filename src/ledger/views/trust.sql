-- How far the figures can be relied on: dollars by whose word they rest on, what is not attributed, and facts that miss their counterpart.

-- Of the days from `from_day` up to, and without, `to_day`.
CREATE FUNCTION ledger.trust_of(from_day date, to_day date) RETURNS TABLE (item text, usd numeric, share_percent numeric, count bigint)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
WITH span AS MATERIALIZED (
    SELECT from_day::timestamp AT TIME ZONE 'UTC' AS from_at, to_day::timestamp AT TIME ZONE 'UTC' AS to_at
), spend AS (
    SELECT sum(cost_usd) AS total, sum(bill_usd) FILTER (WHERE line <> 'overhead') AS bill, sum(feed_usd) AS feed,
           sum(cost_usd) FILTER (WHERE line = 'overhead') AS entered,
           sum(cost_usd - bill_usd - feed_usd) FILTER (WHERE NOT running AND line <> 'overhead') AS estimate,
           sum(cost_usd) FILTER (WHERE running) AS running, sum(cost_usd) FILTER (WHERE team IS NULL) AS untagged,
           sum(without_b0_usd) AS without_b0, sum(without_b1_usd) AS without_b1
    FROM ledger.share_daily WHERE day >= from_day AND day < to_day
), billed AS (
    SELECT source, kind, instance, date_trunc('month', at AT TIME ZONE 'UTC') AS month, sum(cost_usd) AS cost_usd FROM ledger.billed_line l, span
    WHERE at >= from_at AND at < to_at AND statement IS NOT NULL AND instance <> '' AND kind IN ('usage', 'commitment')
      AND posted_at < (SELECT ledger.known_before())
    GROUP BY source, kind, account, instance, usage_type, operation, at, until HAVING sum(lines) > 0
)
SELECT 'spend resting on the bill' AS item, coalesce(bill, 0) AS usd, round(100 * coalesce(bill, 0) / nullif(total, 0), 1) AS share_percent, NULL::bigint AS count FROM spend
UNION ALL SELECT 'spend resting on the spot data feed', coalesce(feed, 0), round(100 * coalesce(feed, 0) / nullif(total, 0), 1), NULL FROM spend
UNION ALL SELECT 'spend entered by hand or by others'' files', coalesce(entered, 0), round(100 * coalesce(entered, 0) / nullif(total, 0), 1), NULL FROM spend
UNION ALL SELECT 'spend computed from recorded prices', coalesce(estimate, 0), round(100 * coalesce(estimate, 0) / nullif(total, 0), 1), NULL FROM spend
UNION ALL SELECT 'spend of machines still running', coalesce(running, 0), round(100 * coalesce(running, 0) / nullif(total, 0), 1), NULL FROM spend
UNION ALL SELECT 'spend without a team', coalesce(untagged, 0), round(100 * coalesce(untagged, 0) / nullif(total, 0), 1), NULL FROM spend
UNION ALL SELECT 'spend, no on-demand price known (B0)', coalesce(without_b0, 0), round(100 * coalesce(without_b0, 0) / nullif(total, 0), 1), NULL FROM spend
UNION ALL SELECT 'spend, no on-demand price at home known (B1)', coalesce(without_b1, 0), round(100 * coalesce(without_b1, 0) / nullif(total, 0), 1), NULL FROM spend
UNION ALL SELECT 'billed lines of machines that are not ours', sum(b.cost_usd), NULL, count(*) FROM billed b
    WHERE NOT EXISTS (SELECT FROM ledger.interval_opened o WHERE o.instance = b.instance)
      -- The feed's lines are on the bill as well, once there is one.
      AND (b.source = 'bill' OR NOT EXISTS (SELECT FROM billed x WHERE x.source = 'bill' AND x.instance = b.instance AND x.month = b.month))
UNION ALL SELECT 'machines with news that is not posted yet', NULL, NULL, count(DISTINCT name)
    FROM ledger.posting_queue q CROSS JOIN LATERAL unnest(coalesce(q.claims, ARRAY[coalesce(q.claim_uid, q.claim, q.instance)])) AS name
UNION ALL SELECT 'posted hours priced as the hour before', NULL, NULL,
    coalesce(sum(greatest(p.hours - 1 - (SELECT count(*) FROM ledger.hour_priced h WHERE h.claim_uid = p.claim_uid AND h.hour BETWEEN 1 AND p.hours - 1), 0)), 0)::bigint
    FROM ledger.posted_machine p, span
    WHERE EXISTS (SELECT FROM ledger.interval_opened o WHERE o.claim_uid = p.claim_uid AND o.at >= from_at AND o.at < to_at)
UNION ALL SELECT 'machine ended but never opened', NULL, NULL, count(*) FROM ledger.interval_closed c, span
    WHERE c.posted_at < (SELECT ledger.known_before()) AND c.at >= from_at AND c.at < to_at AND NOT EXISTS (SELECT FROM ledger.interval_opened o WHERE o.claim_uid = c.claim_uid)
UNION ALL SELECT 'pod left but never came', NULL, NULL, count(*) FROM ledger.occupancy_closed c, span
    WHERE c.posted_at < (SELECT ledger.known_before()) AND c.at >= from_at AND c.at < to_at
      AND NOT EXISTS (SELECT FROM ledger.occupancy_opened o WHERE (o.claim_uid, o.pod_uid) = (c.claim_uid, c.pod_uid))
UNION ALL SELECT 'pod on a machine never opened', NULL, NULL, count(*) FROM ledger.occupancy_opened c, span
    WHERE c.posted_at < (SELECT ledger.known_before()) AND c.at >= from_at AND c.at < to_at AND NOT EXISTS (SELECT FROM ledger.interval_opened o WHERE o.claim_uid = c.claim_uid)
UNION ALL SELECT 'bought by a decision that is missing', NULL, NULL, count(*) FROM ledger.interval_opened c, span
    WHERE c.posted_at < (SELECT ledger.known_before()) AND c.at >= from_at AND c.at < to_at AND NOT EXISTS (SELECT FROM ledger.decision d WHERE d.id = c.decision)
$$;

CREATE VIEW ledger.trust AS SELECT * FROM ledger.trust_of('-infinity', 'infinity');
