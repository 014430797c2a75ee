-- Machines: candidates they beat, their lives, their hours. The views are made again by every `lowtide ledger migrate` and hold no data.
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

-- How long a share that begins `at` is. Where the end of a machine came late its last hour was posted, and corrected, as a whole one: what is left of it
-- lies before the end, or before `charged_to`, up to which it is charged in any case.
CREATE OR REPLACE FUNCTION ledger.length_of(at timestamptz, span_ms bigint, ended timestamptz, charged_to timestamptz) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN ended > at THEN least(span_ms, ledger.ms(greatest(ended, charged_to)) - ledger.ms(at)) ELSE span_ms END;

-- The numbers from `first` to `last`. Unlike generate_series it tells the planner how few there are.
CREATE OR REPLACE FUNCTION ledger.numbers(first bigint, last bigint) RETURNS SETOF bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 6
    AS 'SELECT generate_series(first, last)';

-- The UTC day of a point in time.
CREATE OR REPLACE FUNCTION ledger.utc_day(at timestamptz) RETURNS date LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (at AT TIME ZONE 'UTC')::date;

-- What was posted from this point on is in no view: the setting lowtide.as_of, as in SET lowtide.as_of = '2026-08-11'. Without it everything is.
CREATE OR REPLACE FUNCTION ledger.known_before() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE
    RETURN coalesce(nullif(current_setting('lowtide.as_of', true), '')::timestamp AT TIME ZONE 'UTC', 'infinity');

-- The UTC day that is not over yet, as of what is known: days from it on are no full days.
CREATE OR REPLACE FUNCTION ledger.open_day() RETURNS date LANGUAGE sql STABLE PARALLEL SAFE
    RETURN ledger.utc_day(least(now(), ledger.known_before()));

-- Views and functions that build on each other, from the top.
DROP VIEW IF EXISTS ledger.recommendation_score, ledger.gpu_use, ledger.unit_economics, ledger.unit_economics_by_model, ledger.unit_cost_percentiles, ledger.ai_cost_month, ledger.usage_by_model,
    ledger.focus_1_2, ledger.variance_month, ledger.unit_cost_hourly, ledger.trust, ledger.reliability, ledger.migration_timing,
    ledger.explain_decision, ledger.savings_daily, ledger.cost_daily, ledger.share_daily, ledger.share_as_of, ledger.share_rolled_up, ledger.share_not_rolled_up, ledger.allocation, ledger.share, ledger.unposted_share,
    ledger.recomputed_share, ledger.usage, ledger.usage_by_vendor, ledger.usage_that_counts, ledger.revenue, ledger.statements, ledger.fetches, ledger.retags, ledger.workload_history, ledger.occupancy, ledger.price_segment,
    ledger.capacity_interval, ledger.candidate;
DROP FUNCTION IF EXISTS ledger.vendor_sources(), ledger.vendor_billed(timestamptz, timestamptz), ledger.usage_of(timestamptz, timestamptz),
    ledger.recommendation_score_of(date, date), ledger.ai_cost_month_of(date, date, jsonb), ledger.ai_cost_of(date, date, jsonb), ledger.hourly_units(date, date, jsonb),
    ledger.unit_economics_of(date, date, jsonb), ledger.unit_economics_by_model_of(date, date, jsonb), ledger.unit_economics_of_models(date, date, jsonb, text[]), ledger.model_hours(date, date, jsonb), ledger.billed_models(date, date, jsonb),
    ledger.unit_cost_percentiles_of(date, date, jsonb),
    ledger.revenue_of(date, date, jsonb), ledger.wanted_cost(timestamptz, timestamptz, jsonb);
DROP FUNCTION IF EXISTS ledger.ai_cost_of(date, date), ledger.hourly_units(date, date), ledger.unit_economics_of(date, date),
    ledger.unit_economics_by_model_of(date, date), ledger.unit_cost_percentiles_of(date, date), ledger.basis_of(boolean, numeric, numeric, numeric), ledger.trust_of(date, date), ledger.exposure_of(timestamptz, timestamptz), ledger.interruption_rates(numeric, numeric, numeric),
    ledger.focus_of(timestamptz, timestamptz), ledger.gpu_use_of(timestamptz, timestamptz), ledger.allocation_of(timestamptz, timestamptz), ledger.unit_cost(timestamptz, timestamptz), ledger.hourly_cost(timestamptz, timestamptz), ledger.shares_of(boolean), ledger.stays_of(boolean), ledger.segments_of(boolean), ledger.machines_of(boolean);

-- Offers are lines of text; those written before 0004 JSON by position, those before 0003 JSON by name.
CREATE VIEW ledger.candidate AS
WITH known AS NOT MATERIALIZED (
    SELECT * FROM ledger.candidate_set WHERE posted_at < (SELECT ledger.known_before())
), refused AS (
    SELECT s.id, s.at, l.rank, string_to_array(l.line, ',', '') AS o
    FROM known s, string_to_table(s.offers, E'\n') WITH ORDINALITY AS l(line, rank)
    UNION ALL
    SELECT s.id, s.at, c.rank,
           CASE jsonb_typeof(c.offer) WHEN 'array' THEN ARRAY(SELECT jsonb_array_elements_text(c.offer))
           ELSE ARRAY[c.offer ->> 'region', c.offer ->> 'zone', c.offer ->> 'instance_type', c.offer ->> 'capacity_type', c.offer ->> 'price_usd_h',
                      c.offer ->> 'per_replica_usd_h', c.offer ->> 'replicas', c.offer ->> 'price_age_ms', c.offer ->> 'price_source',
                      c.offer ->> 'refusal', c.offer ->> 'interruptions_per_million_hours', c.offer ->> 'placement_score'] END
    FROM known s, jsonb_array_elements(s.candidates) WITH ORDINALITY AS c(offer, rank)
)
SELECT id AS decision, at AS decided_at, rank,
       o[1] AS region, o[2] AS zone, o[3] AS instance_type, o[4] AS capacity_type, o[5]::numeric AS price_usd_h,
       o[6]::numeric AS per_replica_usd_h, o[7]::bigint AS replicas, o[8]::bigint AS price_age_ms, o[9] AS price_source,
       o[10] AS refusal, o[11]::bigint AS interruptions_per_million_hours, o[12]::bigint AS placement_score
FROM refused;

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
