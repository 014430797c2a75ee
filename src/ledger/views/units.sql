-- What workloads produced and earned, and what a unit of it cost.

-- Of several sources that speak of one hour of a workload and unit, those that count, the newest first: sources add up where they speak of different models or are
-- different vendors; of those that speak of the same requests the newest counts. `models` are those each names; an empty one is usage that names none. The
-- rule by which src/ledger/import/usage.rs refuses figures that differ.
CREATE OR REPLACE FUNCTION ledger.sources_that_count(sources text[], models jsonb[]) RETURNS text[] LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    vendors CONSTANT text[] := ARRAY['anthropic', 'openai'];
    counted integer[] := '{}';
BEGIN
    FOR n IN 1 .. cardinality(sources) LOOP
        IF NOT EXISTS (
            SELECT FROM unnest(counted) AS m
            WHERE NOT (sources[m] = ANY (vendors) AND sources[n] = ANY (vendors) AND sources[m] <> sources[n])
              AND (models[m] ? '' OR models[n] ? '' OR models[m] ?| ARRAY(SELECT jsonb_array_elements_text(models[n])))
        ) THEN
            counted := counted || n;
        END IF;
    END LOOP;
    RETURN ARRAY(SELECT sources[m] FROM unnest(counted) AS m);
END $$;

-- Usage with its model, as files have it, of the sources that count; `usage` sums it over models.
CREATE VIEW ledger.usage_by_model AS
SELECT s.at AS hour, s.workload_namespace, s.workload_name, nullif(m.model, '') AS model, s.unit, m.quantity, s.source
FROM (
    SELECT by_source.*, count(*) OVER w AS speak, array_agg(source) OVER w AS sources, array_agg(to_jsonb(models)) OVER w AS models_of
    FROM (
        SELECT at, workload_namespace, workload_name, unit, source, array_agg(model) AS models, array_agg(quantity) AS quantities, max(posted_at) AS posted_at
        FROM (
            SELECT at, workload_namespace, workload_name, unit, source, coalesce(model, '') AS model, sum(quantity) AS quantity, max(posted_at) AS posted_at
            FROM ledger.usage_hour WHERE statement IS NOT NULL AND posted_at < (SELECT ledger.known_before())
            GROUP BY at, workload_namespace, workload_name, unit, source, coalesce(model, '') HAVING sum(lines) > 0
        ) versions GROUP BY at, workload_namespace, workload_name, unit, source
    ) by_source
    WINDOW w AS (PARTITION BY at, workload_namespace, workload_name, unit ORDER BY posted_at DESC, source ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
) s CROSS JOIN LATERAL unnest(s.models, s.quantities) AS m(model, quantity)
WHERE s.speak = 1 OR s.source = ANY (ledger.sources_that_count(s.sources, s.models_of));

-- Sources that are vendors' own words: those that are called so, and whatever was imported as usage of a vendor by another name.
CREATE FUNCTION ledger.vendor_sources() RETURNS text[] LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT ARRAY['anthropic', 'openai'] || coalesce(array_agg(DISTINCT s.source), '{}') FROM ledger.statement s
    WHERE s.kind = 'usage' AND s.files @> '[{"role": "vendor-usage"}]' AND s.posted_at < (SELECT ledger.known_before())
$$;

-- What counts of each hour, source by source. Prometheus speaks of our machines and a vendor of its own, so that both add up; any other file corrects
-- Prometheus and replaces it. `vendor` is empty of what is no vendor's word.
CREATE VIEW ledger.usage_that_counts AS
SELECT hour, workload_namespace, workload_name, model, unit, quantity, source, vendor
FROM (
    SELECT u.*, bool_or(NOT from_prometheus AND vendor IS NULL) OVER (PARTITION BY hour, workload_namespace, workload_name, unit) AS corrected
    FROM (
        SELECT hour, workload_namespace, workload_name, model, unit, quantity, source,
               CASE WHEN source = ANY ((SELECT ledger.vendor_sources())::text[]) THEN source END AS vendor, false AS from_prometheus
        FROM ledger.usage_by_model
        UNION ALL
        SELECT hour, workload_namespace, workload_name, NULL, unit, quantity, source, NULL, true
        FROM (SELECT DISTINCT ON (workload_namespace, workload_name, unit, at) at AS hour, workload_namespace, workload_name, unit, quantity, source
              FROM ledger.usage_hour WHERE statement IS NULL AND source <> 'file' AND posted_at < (SELECT ledger.known_before())
              ORDER BY workload_namespace, workload_name, unit, at, revision DESC, posted_at DESC) p
    ) u
) c WHERE NOT (from_prometheus AND corrected);

-- The same by vendor. Tokens are a total where anybody gives one; of who gives none, those in and out.
CREATE VIEW ledger.usage_by_vendor AS
SELECT hour, workload_namespace, workload_name, vendor, unit, sum(quantity) AS quantity, string_agg(DISTINCT source, ' and ') AS source
FROM ledger.usage_that_counts WHERE unit <> 'tokens' GROUP BY hour, workload_namespace, workload_name, vendor, unit
UNION ALL
SELECT hour, workload_namespace, workload_name, vendor, 'tokens', sum(quantity), string_agg(DISTINCT source, ' and ')
FROM (
    SELECT c.*, bool_or(unit = 'tokens') OVER (PARTITION BY hour, workload_namespace, workload_name) AS any_total, bool_or(unit = 'tokens') OVER of_vendor AS total,
           bool_or(unit = 'tokens' AND model IS NULL) OVER of_vendor AS nameless_total,
           bool_or(unit = 'tokens') OVER (PARTITION BY hour, workload_namespace, workload_name, vendor, model) AS model_total
    FROM ledger.usage_that_counts c WHERE unit IN ('tokens', 'tokens_in', 'tokens_out')
    WINDOW of_vendor AS (PARTITION BY hour, workload_namespace, workload_name, vendor)
) t
-- Beside totals of some models stand those in and out of the others.
WHERE any_total AND (unit = 'tokens' OR NOT total OR (model IS NOT NULL AND NOT nameless_total AND NOT model_total))
GROUP BY hour, workload_namespace, workload_name, vendor;

CREATE VIEW ledger.usage AS
SELECT hour, workload_namespace, workload_name, unit, sum(quantity) AS quantity, string_agg(source, ' and ' ORDER BY source) AS source
FROM ledger.usage_by_vendor GROUP BY hour, workload_namespace, workload_name, unit;

-- Days of workloads for which a vendor's bill, or a cost that was entered, is posted: of which vendor, where its source, its item or its model says so. An
-- empty one is of any.
CREATE FUNCTION ledger.vendor_billed(from_at timestamptz, to_at timestamptz) RETURNS TABLE (day date, workload_namespace text, workload_name text, vendor text)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH costs AS (
        SELECT ledger.utc_day(c.at) AS day, w.workload_namespace AS ns, w.workload_name AS name, c.model, lower(s.source || ' ' || c.item) AS words
        FROM ledger.external_cost c JOIN ledger.workload_version w ON w.id = c.workload LEFT JOIN ledger.statement s ON s.id = c.statement
        WHERE c.statement IS NOT NULL AND c.at >= from_at AND c.at < to_at AND c.posted_at < (SELECT ledger.known_before()) AND w.workload_namespace <> ''
          AND coalesce(w.component, 'api') NOT IN ('transfer', 'storage')
        GROUP BY 1, 2, 3, 4, 5 HAVING sum(c.cost_usd) <> 0
    ), models AS (
        SELECT DISTINCT ledger.utc_day(hour) AS day, workload_namespace AS ns, workload_name AS name, model, vendor FROM ledger.usage_that_counts
        WHERE vendor IS NOT NULL AND model IS NOT NULL AND hour >= from_at AND hour < to_at
    ), vendors AS (SELECT v AS vendor FROM unnest(ledger.vendor_sources()) v)
    SELECT DISTINCT c.day, c.ns, c.name, v.vendor
    FROM costs c LEFT JOIN vendors v ON position(lower(v.vendor) IN c.words) > 0
      OR EXISTS (SELECT FROM models m WHERE (m.day, m.ns, m.name, m.model, m.vendor) = (c.day, c.ns, c.name, c.model, v.vendor))
$$;

-- What was produced, by whether what it cost is known to be posted: of a vendor's usage on a day for which its bill is not there yet, it is not (`unbilled`). An
-- empty quantity is one of which nothing else is known.
CREATE FUNCTION ledger.usage_of(from_at timestamptz, to_at timestamptz)
RETURNS TABLE (hour timestamptz, workload_namespace text, workload_name text, unit text, quantity numeric, unbilled numeric, vendors text[])
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH used AS MATERIALIZED (
        SELECT u.*, ledger.utc_day(u.hour) AS day FROM ledger.usage_by_vendor u WHERE u.hour >= from_at AND u.hour < to_at
    ), billed AS MATERIALIZED (
        SELECT * FROM ledger.vendor_billed(from_at, to_at) WHERE EXISTS (SELECT FROM used WHERE vendor IS NOT NULL)
    ), open AS (
        SELECT DISTINCT day, workload_namespace, workload_name, vendor FROM used u
        WHERE vendor IS NOT NULL AND NOT EXISTS (
            SELECT FROM billed b WHERE (b.day, b.workload_namespace, b.workload_name) = (u.day, u.workload_namespace, u.workload_name)
              AND coalesce(b.vendor, u.vendor) = u.vendor)
    )
    SELECT u.hour, u.workload_namespace, u.workload_name, u.unit, sum(u.quantity) FILTER (WHERE o.vendor IS NULL), sum(u.quantity) FILTER (WHERE o.vendor IS NOT NULL),
           array_agg(o.vendor) FILTER (WHERE o.vendor IS NOT NULL)
    FROM used u LEFT JOIN open o USING (day, workload_namespace, workload_name, vendor) GROUP BY 1, 2, 3, 4
$$;

CREATE VIEW ledger.revenue AS
SELECT ledger.utc_day(at) AS day, workload_namespace, workload_name, sum(revenue_usd) AS revenue_usd
FROM ledger.revenue_day WHERE statement IS NOT NULL AND posted_at < (SELECT ledger.known_before()) GROUP BY at, workload_namespace, workload_name HAVING sum(lines) > 0;

-- What came from outside: versions by source and period; one `holds` unless it was taken back.
CREATE VIEW ledger.statements AS
WITH known AS (SELECT * FROM ledger.statement WHERE posted_at < (SELECT ledger.known_before()))
SELECT s.id, s.kind, s.source, s.at AS period_from, s.until AS period_to, s.version, s.said_version, s.lines, s.total, s.invoiced, s.invoices, s.accepted, s.taken_by,
       s.posted_at AS taken_at, s.retracts, s.reason, s.files,
       CASE WHEN s.retracts IS NOT NULL THEN 'takes back' WHEN EXISTS (SELECT FROM known r WHERE r.retracts = s.id) THEN 'taken back'
            WHEN s.kind = 'feed' OR s.version = max(s.version) FILTER (WHERE s.retracts IS NULL AND NOT EXISTS (SELECT FROM known r WHERE r.retracts = s.id))
                                    OVER (PARTITION BY s.kind, s.source, s.at) THEN 'holds'
            ELSE 'replaced' END AS state
FROM known s;

-- What was fetched from a bucket, and which versions came of it.
CREATE VIEW ledger.fetches AS
SELECT url, etag, at AS written_at, statements, taken_by, posted_at AS fetched_at FROM ledger.fetched WHERE posted_at < (SELECT ledger.known_before());

-- Whether labels, or the name of a workload, are what a filter asks for: an object of lists, as {"team": ["search", "vision"]}. An empty one asks for nothing.
CREATE OR REPLACE FUNCTION ledger.is_wanted(labels jsonb, team text, service text, environment text, cost_center text, product_area text, component text,
                                            namespace text, name text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN labels = '{}' OR ((labels -> 'team' IS NULL OR labels -> 'team' ? coalesce(team, '(untagged)'))
        AND (labels -> 'service' IS NULL OR labels -> 'service' ? coalesce(service, '(untagged)'))
        AND (labels -> 'environment' IS NULL OR labels -> 'environment' ? coalesce(environment, '(untagged)'))
        AND (labels -> 'cost_center' IS NULL OR labels -> 'cost_center' ? coalesce(cost_center, '(untagged)'))
        AND (labels -> 'product_area' IS NULL OR labels -> 'product_area' ? coalesce(product_area, '(untagged)'))
        AND (labels -> 'component' IS NULL OR labels -> 'component' ? coalesce(component, '(untagged)'))
        AND (labels -> 'workload' IS NULL OR labels -> 'workload' ? coalesce(CASE namespace WHEN '' THEN name ELSE namespace || '/' || name END, '(none)')));

-- What a cost is for: machines, api (vendors' APIs), transfer, storage or other. What a bill gives back on a machine counts with machines. Other costs are vendors'
-- APIs unless their component says otherwise.
CREATE OR REPLACE FUNCTION ledger.part_of(line text, component text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN line IN ('egress', 'transfer', 'nat') THEN 'transfer' WHEN line = 'volume' THEN 'storage' WHEN line IN ('tax', 'fee') THEN 'other'
                WHEN line <> 'overhead' THEN 'machines' WHEN coalesce(component, 'api') IN ('api', 'transfer', 'storage') THEN coalesce(component, 'api')
                ELSE 'other' END;

-- Cost by clock hour, and what for. An instance-hour lies across two of them: its shares are spread evenly over its time; egress stays at its moment.
CREATE FUNCTION ledger.hourly_cost(from_at timestamptz, to_at timestamptz)
RETURNS TABLE (hour timestamptz, workload_namespace text, workload_name text, team text, service text, environment text, cost_center text, product_area text,
               component text, cost_usd numeric, useful_gpu_ms numeric, machines_usd numeric, vendor_api_usd numeric, transfer_usd numeric,
               storage_usd numeric, other_usd numeric)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT h.hour, s.workload_namespace, s.workload_name, s.team, s.service, s.environment, s.cost_center, s.product_area, s.component, sum(s.cost_usd * h.part),
           coalesce(sum(s.gpu_ms * h.part) FILTER (WHERE s.line = 'pod'), 0),
           coalesce(sum(s.cost_usd * h.part) FILTER (WHERE s.what_for = 'machines'), 0), coalesce(sum(s.cost_usd * h.part) FILTER (WHERE s.what_for = 'api'), 0),
           coalesce(sum(s.cost_usd * h.part) FILTER (WHERE s.what_for = 'transfer'), 0), coalesce(sum(s.cost_usd * h.part) FILTER (WHERE s.what_for = 'storage'), 0),
           coalesce(sum(s.cost_usd * h.part) FILTER (WHERE s.what_for = 'other'), 0)
    FROM (
        SELECT p.*, ledger.part_of(p.line, p.component) AS what_for, ledger.ms(p.at) AS at_ms, ledger.length_of(p.at, p.span_ms, e.ended, p.at + interval '1 minute') AS length_ms
        FROM ledger.share p LEFT JOIN (
            SELECT DISTINCT ON (claim_uid) claim_uid, at AS ended FROM ledger.interval_closed
            WHERE at >= from_at - interval '1 hour' AND at < to_at + interval '1 hour' AND posted_at < (SELECT ledger.known_before())
            ORDER BY claim_uid, posted_at, at
        ) e ON e.claim_uid = p.claim_uid
    ) s
    CROSS JOIN LATERAL (
        SELECT to_timestamp((s.at_ms / 3600000 + n) * 3600.0) AS hour,
               CASE WHEN s.length_ms = 0 THEN 1 ELSE ledger.shared_ms(s.at_ms, s.at_ms + s.length_ms, (s.at_ms / 3600000 + n) * 3600000,
                    (s.at_ms / 3600000 + n + 1) * 3600000)::numeric / s.length_ms END AS part
        FROM ledger.numbers(0, (s.at_ms % 3600000 + greatest(s.length_ms, 1) - 1) / 3600000) AS n
    ) h
    WHERE s.at >= from_at - interval '1 hour' AND s.at < to_at AND h.hour >= from_at AND h.hour < to_at
    GROUP BY h.hour, s.workload_namespace, s.workload_name, s.team, s.service, s.environment, s.cost_center, s.product_area, s.component
    -- What was taken back, or moved to another owner, leaves rows that add up to nothing.
    HAVING sum(s.cost_usd * h.part) <> 0 OR sum(s.gpu_ms * h.part) <> 0
$$;

CREATE FUNCTION ledger.unit_cost(from_at timestamptz, to_at timestamptz)
RETURNS TABLE (hour timestamptz, day date, team text, service text, component text, workload_namespace text, workload_name text, unit text, units numeric,
               cost_usd numeric, usd_per_unit numeric, useful_gpu_hours numeric, usd_per_useful_gpu_hour numeric)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    -- Of an hour that several owners paid each has a row, and of its units what it paid of the hour.
    WITH cost AS (
        SELECT hour, workload_namespace, workload_name, team, service, component, sum(cost_usd) AS cost_usd, sum(useful_gpu_ms) AS useful_gpu_ms,
               CASE WHEN sum(sum(cost_usd)) OVER w = 0 THEN 1.0 / count(*) OVER w ELSE sum(cost_usd) / sum(sum(cost_usd)) OVER w END AS part
        FROM ledger.hourly_cost(from_at, to_at) GROUP BY hour, workload_namespace, workload_name, team, service, component
        WINDOW w AS (PARTITION BY hour, workload_namespace, workload_name)
    )
    SELECT c.hour, ledger.utc_day(c.hour), c.team, c.service, c.component, c.workload_namespace, c.workload_name, u.unit,
           CASE WHEN c.part = 1 THEN u.quantity ELSE round(u.quantity * c.part, 6) END, round(c.cost_usd, 10),
           round(c.cost_usd / nullif(u.quantity * c.part, 0), 12), round(c.useful_gpu_ms / 3600000, 6),
           round(c.cost_usd * 3600000 / nullif(c.useful_gpu_ms, 0), 6)
    FROM cost c
    LEFT JOIN ledger.usage_of(from_at, to_at) u
         ON u.quantity IS NOT NULL AND u.hour = c.hour AND u.workload_namespace = c.workload_namespace AND u.workload_name = c.workload_name
$$;

CREATE VIEW ledger.unit_cost_hourly AS SELECT * FROM ledger.unit_cost('-infinity', 'infinity');

-- What AI cost, by month and endpoint (a workload; an empty one is costs that name none), and what for. This and what follows is of days that are over: a running
-- month's revenue and costs may have been entered for all of it.
CREATE FUNCTION ledger.ai_cost_of(from_day date, to_day date, labels jsonb DEFAULT '{}')
RETURNS TABLE (month date, workload_namespace text, workload_name text, machines_usd numeric, vendor_api_usd numeric, transfer_usd numeric,
               storage_usd numeric, other_usd numeric, cost_usd numeric)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT date_trunc('month', day)::date, coalesce(workload_namespace, ''), CASE WHEN coalesce(workload_namespace, '') = '' THEN '' ELSE workload_name END,
           sum(cost_usd) FILTER (WHERE part = 'machines'), sum(cost_usd) FILTER (WHERE part = 'api'), sum(cost_usd) FILTER (WHERE part = 'transfer'),
           sum(cost_usd) FILTER (WHERE part = 'storage'), sum(cost_usd) FILTER (WHERE part = 'other'), sum(cost_usd)
    FROM (SELECT day, workload_namespace, workload_name, cost_usd,
                 ledger.part_of(line, component) AS part
          FROM ledger.share_daily s WHERE day >= from_day AND day < to_day AND day < (SELECT ledger.open_day())
            AND ledger.is_wanted(labels, s.team, s.service, s.environment, s.cost_center, s.product_area, s.component, s.workload_namespace, s.workload_name)) s
    GROUP BY 1, 2, 3
$$;

-- What a filter leaves of the hours of each workload, what for, and which part of the hour that is.
CREATE FUNCTION ledger.wanted_cost(from_at timestamptz, to_at timestamptz, labels jsonb)
RETURNS TABLE (hour timestamptz, workload_namespace text, workload_name text, cost_usd numeric, part numeric, machines_usd numeric, vendor_api_usd numeric,
               transfer_usd numeric, storage_usd numeric, other_usd numeric)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT hour, workload_namespace, workload_name, wanted, CASE WHEN wanted = whole THEN 1 ELSE wanted / nullif(whole, 0) END, machines, api, transfer, storage, other
    FROM (SELECT h.hour, h.workload_namespace, h.workload_name, sum(h.cost_usd) AS whole, sum(h.cost_usd) FILTER (WHERE is_wanted) AS wanted,
                 sum(h.machines_usd) FILTER (WHERE is_wanted) AS machines, sum(h.vendor_api_usd) FILTER (WHERE is_wanted) AS api,
                 sum(h.transfer_usd) FILTER (WHERE is_wanted) AS transfer, sum(h.storage_usd) FILTER (WHERE is_wanted) AS storage,
                 sum(h.other_usd) FILTER (WHERE is_wanted) AS other
          FROM (SELECT c.*, ledger.is_wanted(labels, c.team, c.service, c.environment, c.cost_center, c.product_area, c.component, c.workload_namespace,
                                             c.workload_name) AS is_wanted
                FROM ledger.hourly_cost(from_at, to_at) c) h GROUP BY 1, 2, 3) x
    WHERE wanted IS NOT NULL
$$;

-- Revenue by day and workload; of a filter for labels the part that the work of the day with these labels was, on a day without work as over all the days.
-- What runs at a vendor alone has no work of ours: there it is the part of the cost.
CREATE FUNCTION ledger.revenue_of(from_day date, to_day date, labels jsonb DEFAULT '{}')
RETURNS TABLE (day date, workload_namespace text, workload_name text, revenue_usd numeric)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH weighed AS (
        SELECT s.day, s.workload_namespace AS ns, s.workload_name AS name,
               CASE WHEN bool_or(s.line = 'pod' AND s.gpu_ms > 0) OVER (PARTITION BY s.workload_namespace, s.workload_name)
                    THEN CASE s.line WHEN 'pod' THEN s.gpu_ms ELSE 0 END ELSE s.cost_usd END AS weight,
               ledger.is_wanted(labels, s.team, s.service, s.environment, s.cost_center, s.product_area, s.component, s.workload_namespace,
                                s.workload_name) AS is_wanted
        FROM ledger.share_daily s WHERE labels <> '{}' AND s.day >= from_day AND s.day < to_day AND s.day < (SELECT ledger.open_day()) AND s.workload_namespace <> ''
    ), worked AS (
        SELECT day, ns, name, sum(weight) AS worked, coalesce(sum(weight) FILTER (WHERE is_wanted), 0) AS wanted FROM weighed GROUP BY 1, 2, 3
    ), over_all AS (SELECT ns, name, sum(wanted) / nullif(sum(worked), 0) AS part FROM worked GROUP BY 1, 2)
    SELECT r.day, r.workload_namespace, r.workload_name,
           r.revenue_usd * CASE WHEN labels = '{}' THEN 1 ELSE coalesce(w.wanted::numeric / nullif(w.worked, 0), a.part, 0) END
    FROM ledger.revenue r
    LEFT JOIN worked w ON w.day = r.day AND w.ns = r.workload_namespace AND w.name = r.workload_name
    LEFT JOIN over_all a ON a.ns = r.workload_namespace AND a.name = r.workload_name
    WHERE r.day >= from_day AND r.day < to_day AND r.day < (SELECT ledger.open_day()) AND (labels = '{}' OR coalesce(w.wanted::numeric / nullif(w.worked, 0), a.part, 0) > 0)
$$;

-- Hours of endpoints with what they cost and produced, by unit; tokens are those in and out where no total is known. Of a filter for labels the part of
-- an hour's units is its part of the hour's cost. The cost of an hour for which none is posted is empty, and so is that of what a vendor produced on a day for
-- which it has no bill yet: a row beside the hour's own.
CREATE FUNCTION ledger.hourly_units(from_day date, to_day date, labels jsonb DEFAULT '{}')
RETURNS TABLE (hour timestamptz, workload_namespace text, workload_name text, unit text, cost_usd numeric, quantity numeric)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH bounds AS (
        SELECT from_day::timestamp AT TIME ZONE 'UTC' AS first, least(to_day, ledger.open_day())::timestamp AT TIME ZONE 'UTC' AS next
    ), used AS MATERIALIZED (
        SELECT u.* FROM bounds b, LATERAL ledger.usage_of(b.first, b.next) u
    ), all_units AS (
        SELECT hour, workload_namespace, workload_name, unit, quantity, unbilled FROM used
        UNION ALL
        SELECT u.hour, u.workload_namespace, u.workload_name, 'tokens', sum(u.quantity), sum(u.unbilled) FROM used u
        WHERE u.unit IN ('tokens_in', 'tokens_out') AND NOT EXISTS (
            SELECT FROM used t WHERE t.unit = 'tokens' AND (t.hour, t.workload_namespace, t.workload_name) = (u.hour, u.workload_namespace, u.workload_name))
        GROUP BY 1, 2, 3
    ), cost AS MATERIALIZED (
        SELECT * FROM bounds b, LATERAL ledger.wanted_cost(b.first, b.next, labels) h
    )
    SELECT u.hour, u.workload_namespace, u.workload_name, u.unit, CASE WHEN p.is_billed THEN c.cost_usd END, p.quantity * coalesce(c.part, 1)
    FROM all_units u LEFT JOIN cost c USING (hour, workload_namespace, workload_name)
    CROSS JOIN LATERAL (VALUES (true, u.quantity), (false, u.unbilled)) AS p(is_billed, quantity)
    WHERE p.quantity IS NOT NULL
      AND (c.hour IS NOT NULL OR ledger.is_wanted(labels, NULL, NULL, NULL, NULL, NULL, NULL, u.workload_namespace, u.workload_name))
$$;

-- What an endpoint's requests and tokens cost, over the hours whose usage is known; its users and what it left of what it earned, over the months whose users
-- and revenue are known. Each says on which share of the cost it rests, and which share of the requests and tokens fell in hours that cost something. What a
-- vendor has no bill for yet, and what names no workload, is in none of it.
CREATE FUNCTION ledger.unit_economics_of(from_day date, to_day date, labels jsonb DEFAULT '{}')
RETURNS TABLE (workload_namespace text, workload_name text, machines_usd numeric, vendor_api_usd numeric, transfer_usd numeric, storage_usd numeric,
               other_usd numeric, cost_usd numeric, requests numeric, tokens_in numeric, tokens_out numeric, monthly_users numeric, usd_per_request numeric,
               usd_per_1000_tokens_in numeric, usd_per_1000_tokens_out numeric, usd_per_1000_tokens numeric, usd_per_user numeric,
               requests_coverage_percent numeric, tokens_coverage_percent numeric, users_coverage_percent numeric, revenue_usd numeric, margin_usd numeric,
               cost_percent_of_revenue numeric, revenue_coverage_percent numeric, requests_costed_percent numeric, tokens_costed_percent numeric)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH by_month AS MATERIALIZED (
        SELECT month, workload_namespace AS ns, workload_name AS name, machines_usd, vendor_api_usd, transfer_usd, storage_usd, other_usd, cost_usd
        FROM ledger.ai_cost_of(from_day, to_day, labels)
    ), whole AS (
        SELECT month, workload_namespace AS ns, workload_name AS name, cost_usd FROM ledger.ai_cost_of(from_day, to_day) WHERE labels <> '{}'
    ), cost AS (
        SELECT ns, name, sum(machines_usd) AS machines, sum(vendor_api_usd) AS api, sum(transfer_usd) AS transfer, sum(storage_usd) AS storage,
               sum(other_usd) AS other, sum(cost_usd) AS total
        FROM by_month GROUP BY 1, 2
    ), units AS (
        SELECT workload_namespace AS ns, workload_name AS name,
               sum(quantity) FILTER (WHERE unit = 'requests' AND is_posted) AS requests, sum(cost_usd) FILTER (WHERE unit = 'requests') AS of_requests,
               sum(quantity) FILTER (WHERE unit = 'tokens_in' AND is_posted) AS tokens_in, sum(cost_usd) FILTER (WHERE unit = 'tokens_in') AS of_in,
               sum(quantity) FILTER (WHERE unit = 'tokens_out' AND is_posted) AS tokens_out, sum(cost_usd) FILTER (WHERE unit = 'tokens_out') AS of_out,
               sum(quantity) FILTER (WHERE unit = 'tokens' AND is_posted) AS tokens, sum(cost_usd) FILTER (WHERE unit = 'tokens') AS of_tokens,
               sum(quantity) FILTER (WHERE unit = 'requests') AS all_requests, sum(quantity) FILTER (WHERE unit = 'tokens') AS all_tokens
        FROM (SELECT *, cost_usd IS NOT NULL AS is_posted FROM ledger.hourly_units(from_day, to_day, labels)) h GROUP BY 1, 2 HAVING bool_or(is_posted)
    ), counted AS (
        -- A month of which days are missing, or that is not over, has no cost per user and month.
        SELECT workload_namespace AS ns, workload_name AS name, date_trunc('month', hour AT TIME ZONE 'UTC')::date AS month, sum(quantity) AS users
        FROM ledger.usage WHERE unit = 'monthly_users' AND hour >= from_day::timestamp AT TIME ZONE 'UTC' AND hour < to_day::timestamp AT TIME ZONE 'UTC'
        GROUP BY 1, 2, 3 HAVING (date_trunc('month', min(hour) AT TIME ZONE 'UTC') + interval '1 month')::date <= least(to_day, ledger.open_day())
    ), people AS (
        -- Of a filter for labels the part of the users is its part of the month's cost.
        SELECT u.ns, u.name, sum(u.users * CASE WHEN labels = '{}' THEN 1 ELSE m.cost_usd / nullif(w.cost_usd, 0) END) AS users, sum(m.cost_usd) AS of_users
        FROM counted u LEFT JOIN by_month m USING (ns, name, month) LEFT JOIN whole w USING (ns, name, month)
        WHERE labels = '{}' OR m.cost_usd IS NOT NULL GROUP BY 1, 2
    ), earned AS (
        SELECT r.ns, r.name, sum(r.revenue) AS revenue, sum(m.cost_usd) AS of_revenue
        FROM (SELECT workload_namespace AS ns, workload_name AS name, date_trunc('month', day)::date AS month, sum(revenue_usd) AS revenue
              FROM ledger.revenue_of(from_day, to_day, labels) GROUP BY 1, 2, 3) r
        LEFT JOIN by_month m USING (ns, name, month) GROUP BY 1, 2
    )
    SELECT nullif(ns, ''), nullif(name, ''), coalesce(c.machines, 0), coalesce(c.api, 0), coalesce(c.transfer, 0), coalesce(c.storage, 0), coalesce(c.other, 0),
           coalesce(c.total, 0), u.requests, u.tokens_in, u.tokens_out, p.users, round(u.of_requests / nullif(u.requests, 0), 12),
           round(1000 * u.of_in / nullif(u.tokens_in, 0), 12), round(1000 * u.of_out / nullif(u.tokens_out, 0), 12),
           round(1000 * u.of_tokens / nullif(u.tokens, 0), 12), round(p.of_users / nullif(p.users, 0), 6),
           round(100 * u.of_requests / nullif(c.total, 0), 1), round(100 * least(u.of_in, u.of_out, u.of_tokens) / nullif(c.total, 0), 1),
           round(100 * p.of_users / nullif(c.total, 0), 1), e.revenue, e.revenue - coalesce(e.of_revenue, 0),
           round(100 * e.of_revenue / nullif(e.revenue, 0), 1), round(100 * e.of_revenue / nullif(c.total, 0), 1),
           round(100 * coalesce(u.requests, 0) / nullif(u.all_requests, 0), 1), round(100 * coalesce(u.tokens, 0) / nullif(u.all_tokens, 0), 1)
    FROM cost c FULL JOIN units u USING (ns, name) FULL JOIN people p USING (ns, name) FULL JOIN earned e USING (ns, name)
$$;

-- What vendors' bills name a model for, by day and endpoint, and what for: of a filter for labels the part that is wanted. What names no endpoint is in no cost per
-- unit.
CREATE FUNCTION ledger.billed_models(from_day date, to_day date, labels jsonb DEFAULT '{}')
RETURNS TABLE (day date, workload_namespace text, workload_name text, model text, cost_usd numeric, whole_usd numeric, vendor_api_usd numeric,
               transfer_usd numeric, storage_usd numeric, other_usd numeric)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT ledger.utc_day(at), workload_namespace, workload_name, model, coalesce(sum(cost_usd) FILTER (WHERE is_wanted), 0), sum(cost_usd),
           coalesce(sum(cost_usd) FILTER (WHERE is_wanted AND part = 'api'), 0), coalesce(sum(cost_usd) FILTER (WHERE is_wanted AND part = 'transfer'), 0),
           coalesce(sum(cost_usd) FILTER (WHERE is_wanted AND part = 'storage'), 0), coalesce(sum(cost_usd) FILTER (WHERE is_wanted AND part = 'other'), 0)
    FROM (SELECT c.at, w.workload_namespace, w.workload_name, c.model, c.cost_usd, c.lines, ledger.part_of('overhead', w.component) AS part,
                 ledger.is_wanted(labels, w.team, w.service, w.environment, w.cost_center, w.product_area, w.component, w.workload_namespace,
                                  w.workload_name) AS is_wanted
          FROM ledger.external_cost c JOIN ledger.workload_version w ON w.id = c.workload
          WHERE c.model IS NOT NULL AND c.statement IS NOT NULL AND w.workload_namespace <> '' AND c.posted_at < (SELECT ledger.known_before())
            AND c.at >= from_day::timestamp AT TIME ZONE 'UTC' AND c.at < least(to_day, ledger.open_day())::timestamp AT TIME ZONE 'UTC') x
    GROUP BY 1, 2, 3, 4 HAVING sum(lines) > 0
$$;

-- A part of a whole by tokens, where none are known by requests, else in equal parts.
CREATE OR REPLACE FUNCTION ledger.by_tokens(tokens numeric, all_tokens numeric, requests numeric, all_requests numeric, models bigint) RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN all_tokens > 0 THEN coalesce(tokens, 0) / all_tokens WHEN all_requests > 0 THEN coalesce(requests, 0) / all_requests
                ELSE 1.0 / models END;

-- What is left of a difference of divisions, where nothing is left.
CREATE OR REPLACE FUNCTION ledger.rest_of(whole numeric, named numeric) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN abs(whole - coalesce(named, 0)) < 0.000000001 THEN 0 ELSE whole - coalesce(named, 0) END;

-- Hours of endpoints by model: what each model cost, what for, and what it produced. What a vendor's bill names a model for is that model's, spread over its hours of the day by
-- its tokens. The rest of an hour's cost goes to the models that no bill of the day names, or where each is named to all of them, by their tokens, where no tokens
-- are known by requests.
CREATE FUNCTION ledger.model_hours(from_day date, to_day date, labels jsonb DEFAULT '{}')
RETURNS TABLE (hour timestamptz, workload_namespace text, workload_name text, model text, cost_usd numeric, requests numeric, tokens_in numeric,
               tokens_out numeric, tokens numeric, billed_usd numeric, machines_usd numeric, vendor_api_usd numeric, transfer_usd numeric,
               storage_usd numeric, other_usd numeric)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH bounds AS (
        SELECT from_day::timestamp AT TIME ZONE 'UTC' AS first, least(to_day, ledger.open_day())::timestamp AT TIME ZONE 'UTC' AS next
    ), cost AS MATERIALIZED (
        SELECT h.*, h.cost_usd AS cost FROM bounds b, LATERAL ledger.wanted_cost(b.first, b.next, labels) h
    ), open AS MATERIALIZED (
        SELECT DISTINCT ledger.utc_day(u.hour) AS day, u.workload_namespace, u.workload_name, v.vendor
        FROM bounds b, LATERAL ledger.usage_of(b.first, b.next) u, unnest(u.vendors) AS v(vendor)
    ), used AS (
        -- What a vendor has not billed yet is not paid for by what is posted.
        SELECT u.hour, u.workload_namespace, u.workload_name, u.model, sum(u.quantity) FILTER (WHERE u.unit = 'requests') AS requests,
               sum(u.quantity) FILTER (WHERE u.unit = 'tokens_in') AS tokens_in, sum(u.quantity) FILTER (WHERE u.unit = 'tokens_out') AS tokens_out,
               coalesce(sum(u.quantity) FILTER (WHERE u.unit = 'tokens'), sum(u.quantity) FILTER (WHERE u.unit IN ('tokens_in', 'tokens_out'))) AS tokens
        FROM ledger.usage_that_counts u, bounds b
        WHERE u.hour >= b.first AND u.hour < b.next AND u.unit NOT IN ('users', 'monthly_users')
          AND (ledger.utc_day(u.hour), u.workload_namespace, u.workload_name, coalesce(u.vendor, '')) NOT IN (SELECT * FROM open) GROUP BY 1, 2, 3, 4
    ), billed AS MATERIALIZED (
        SELECT * FROM ledger.billed_models(from_day, to_day, labels)
    ), named AS (
        -- Of a day of other costs each hour has an equal part.
        SELECT day, workload_namespace, workload_name, sum(cost_usd) / 24 AS wanted, sum(whole_usd) / 24 AS whole, sum(vendor_api_usd) / 24 AS api,
               sum(transfer_usd) / 24 AS transfer, sum(storage_usd) / 24 AS storage, sum(other_usd) / 24 AS other FROM billed GROUP BY 1, 2, 3
    ), known AS (
        SELECT u.*, r.rest, CASE WHEN n.day IS NULL THEN c.part ELSE round(r.rest / nullif(c.cost / nullif(c.part, 0) - n.whole, 0), 12) END AS part_of_rest,
               c.machines_usd AS machines, ledger.rest_of(c.vendor_api_usd, n.api) AS api, ledger.rest_of(c.transfer_usd, n.transfer) AS transfer,
               ledger.rest_of(c.storage_usd, n.storage) AS storage, ledger.rest_of(c.other_usd, n.other) AS other,
               m.cost_usd AS billed, m.whole_usd AS whole_billed, coalesce(m.vendor_api_usd, 0) AS billed_api, coalesce(m.transfer_usd, 0) AS billed_transfer,
               coalesce(m.storage_usd, 0) AS billed_storage, coalesce(m.other_usd, 0) AS billed_other, ledger.utc_day(u.hour) AS day,
               m.model IS NULL OR bool_and(m.model IS NOT NULL) OVER (PARTITION BY u.hour, u.workload_namespace, u.workload_name) AS has_rest
        FROM used u JOIN cost c USING (hour, workload_namespace, workload_name)
        LEFT JOIN named n ON (n.day, n.workload_namespace, n.workload_name) = (ledger.utc_day(u.hour), u.workload_namespace, u.workload_name)
        LEFT JOIN billed m ON (m.day, m.workload_namespace, m.workload_name, m.model) = (ledger.utc_day(u.hour), u.workload_namespace, u.workload_name, u.model)
        CROSS JOIN LATERAL (SELECT ledger.rest_of(c.cost, n.wanted) AS rest) r
    ), shared AS (
        -- Of a filter for labels the units of a model are its part of what is billed for it, of other models that of the rest.
        SELECT k.*, CASE WHEN labels = '{}' THEN 1 WHEN billed IS NOT NULL THEN billed / nullif(whole_billed, 0) ELSE part_of_rest END AS part,
               ledger.by_tokens(tokens, sum(tokens) OVER of_day, requests, sum(requests) OVER of_day, count(*) OVER of_day) AS of_bill,
               -- Tokens of some and requests of all: by tokens the others would cost nothing.
               CASE WHEN has_rest THEN ledger.by_tokens(tokens, CASE WHEN count(tokens) OVER of_hour = count(*) OVER of_hour OR count(requests) OVER of_hour < count(*) OVER of_hour
                                                                    THEN sum(tokens) OVER of_hour END,
                                                        requests, sum(requests) OVER of_hour, count(*) OVER of_hour)
                    ELSE 0 END AS of_rest
        FROM known k
        WINDOW of_day AS (PARTITION BY day, workload_namespace, workload_name, model),
               of_hour AS (PARTITION BY hour, workload_namespace, workload_name, has_rest)
    )
    SELECT hour, workload_namespace, workload_name, coalesce(model, '(no model named)'), c.billed + rest * of_rest, requests * part, tokens_in * part,
           tokens_out * part, tokens * part, c.billed, machines * of_rest, billed_api * of_bill + api * of_rest, billed_transfer * of_bill + transfer * of_rest,
           billed_storage * of_bill + storage * of_rest, billed_other * of_bill + other * of_rest
    FROM shared CROSS JOIN LATERAL (SELECT coalesce(shared.billed * of_bill, 0) AS billed) c
    WHERE part <> 0 OR c.billed + rest * of_rest <> 0
$$;

-- The same by model.
CREATE FUNCTION ledger.unit_economics_by_model_of(from_day date, to_day date, labels jsonb DEFAULT '{}')
RETURNS TABLE (model text, endpoints bigint, cost_usd numeric, requests numeric, tokens_in numeric, tokens_out numeric, usd_per_request numeric,
               usd_per_1000_tokens_in numeric, usd_per_1000_tokens_out numeric, usd_per_1000_tokens numeric, requests_coverage_percent numeric,
               tokens_coverage_percent numeric, billed_usd numeric, machines_usd numeric, vendor_api_usd numeric, transfer_usd numeric, storage_usd numeric,
               other_usd numeric)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH hours AS MATERIALIZED (SELECT * FROM ledger.model_hours(from_day, to_day, labels)), of_hours AS (
        -- Of an hour in which a model was not asked for its usage is known: none.
        SELECT hour, workload_namespace, workload_name, sum(cost_usd) AS cost, count(requests) > 0 AS has_requests, count(tokens_in) > 0 AS has_in,
               count(tokens_out) > 0 AS has_out, count(tokens) > 0 AS has_tokens FROM hours GROUP BY 1, 2, 3
    ), whole AS (
        SELECT workload_namespace, workload_name, sum(cost_usd) AS cost FROM ledger.ai_cost_of(from_day, to_day, labels) GROUP BY 1, 2
    ), endpoints AS (
        SELECT DISTINCT h.model, h.workload_namespace, h.workload_name, w.cost FROM hours h JOIN whole w USING (workload_namespace, workload_name)
    ), known AS (
        SELECT e.model, sum(o.cost) FILTER (WHERE CASE WHEN h.model IS NULL THEN o.has_requests ELSE h.requests IS NOT NULL END) AS requests,
               sum(o.cost) FILTER (WHERE CASE WHEN h.model IS NULL THEN o.has_in ELSE h.tokens_in IS NOT NULL END) AS tokens_in,
               sum(o.cost) FILTER (WHERE CASE WHEN h.model IS NULL THEN o.has_out ELSE h.tokens_out IS NOT NULL END) AS tokens_out,
               sum(o.cost) FILTER (WHERE CASE WHEN h.model IS NULL THEN o.has_tokens ELSE h.tokens IS NOT NULL END) AS tokens
        FROM endpoints e JOIN of_hours o USING (workload_namespace, workload_name)
        LEFT JOIN hours h ON (h.hour, h.workload_namespace, h.workload_name, h.model) = (o.hour, o.workload_namespace, o.workload_name, e.model) GROUP BY 1
    ), rests AS (SELECT model, k.requests, least(k.tokens_in, k.tokens_out, k.tokens) AS tokens, e.whole
                 FROM known k JOIN (SELECT model, sum(cost) AS whole FROM endpoints GROUP BY 1) e USING (model))
    SELECT h.model, count(DISTINCT (h.workload_namespace, h.workload_name)), round(sum(h.cost_usd), 10), sum(h.requests), sum(h.tokens_in), sum(h.tokens_out),
           round(sum(h.cost_usd) FILTER (WHERE h.requests IS NOT NULL) / nullif(sum(h.requests), 0), 12),
           round(1000 * sum(h.cost_usd) FILTER (WHERE h.tokens_in IS NOT NULL) / nullif(sum(h.tokens_in), 0), 12),
           round(1000 * sum(h.cost_usd) FILTER (WHERE h.tokens_out IS NOT NULL) / nullif(sum(h.tokens_out), 0), 12),
           round(1000 * sum(h.cost_usd) FILTER (WHERE h.tokens IS NOT NULL) / nullif(sum(h.tokens), 0), 12),
           round(100 * min(r.requests) / nullif(min(r.whole), 0), 1), round(100 * min(r.tokens) / nullif(min(r.whole), 0), 1), round(sum(h.billed_usd), 10),
           round(sum(h.machines_usd), 10), round(sum(h.vendor_api_usd), 10), round(sum(h.transfer_usd), 10), round(sum(h.storage_usd), 10),
           round(sum(h.other_usd), 10)
    FROM hours h LEFT JOIN rests r USING (model) GROUP BY h.model
$$;

-- What endpoints cost for some models: of each hour whose usage is known by model the part of the models that are asked for.
CREATE FUNCTION ledger.unit_economics_of_models(from_day date, to_day date, labels jsonb, models text[])
RETURNS TABLE (workload_namespace text, workload_name text, cost_usd numeric, cost_percent_of_models numeric, requests numeric, tokens_in numeric,
               tokens_out numeric, usd_per_request numeric, usd_per_1000_tokens_in numeric, usd_per_1000_tokens_out numeric, usd_per_1000_tokens numeric,
               requests_coverage_percent numeric, tokens_coverage_percent numeric, billed_usd numeric, machines_usd numeric, vendor_api_usd numeric,
               transfer_usd numeric, storage_usd numeric, other_usd numeric)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH wanted AS (SELECT h.*, h.model = ANY (models) AS of_models FROM ledger.model_hours(from_day, to_day, labels) h)
    SELECT workload_namespace, workload_name, round(sum(cost_usd) FILTER (WHERE of_models), 10),
           round(100 * sum(cost_usd) FILTER (WHERE of_models) / nullif(sum(cost_usd), 0), 1), sum(requests) FILTER (WHERE of_models),
           sum(tokens_in) FILTER (WHERE of_models), sum(tokens_out) FILTER (WHERE of_models),
           round(sum(cost_usd) FILTER (WHERE of_models AND requests IS NOT NULL) / nullif(sum(requests) FILTER (WHERE of_models), 0), 12),
           round(1000 * sum(cost_usd) FILTER (WHERE of_models AND tokens_in IS NOT NULL) / nullif(sum(tokens_in) FILTER (WHERE of_models), 0), 12),
           round(1000 * sum(cost_usd) FILTER (WHERE of_models AND tokens_out IS NOT NULL) / nullif(sum(tokens_out) FILTER (WHERE of_models), 0), 12),
           round(1000 * sum(cost_usd) FILTER (WHERE of_models AND tokens IS NOT NULL) / nullif(sum(tokens) FILTER (WHERE of_models), 0), 12),
           round(100 * sum(cost_usd) FILTER (WHERE of_models AND requests IS NOT NULL) / nullif(sum(cost_usd) FILTER (WHERE of_models), 0), 1),
           round(100 * least(sum(cost_usd) FILTER (WHERE of_models AND tokens_in IS NOT NULL), sum(cost_usd) FILTER (WHERE of_models AND tokens_out IS NOT NULL),
                             sum(cost_usd) FILTER (WHERE of_models AND tokens IS NOT NULL)) / nullif(sum(cost_usd) FILTER (WHERE of_models), 0), 1),
           round(sum(billed_usd) FILTER (WHERE of_models), 10), round(sum(machines_usd) FILTER (WHERE of_models), 10),
           round(sum(vendor_api_usd) FILTER (WHERE of_models), 10), round(sum(transfer_usd) FILTER (WHERE of_models), 10),
           round(sum(storage_usd) FILTER (WHERE of_models), 10), round(sum(other_usd) FILTER (WHERE of_models), 10)
    FROM wanted GROUP BY 1, 2 HAVING bool_or(of_models)
$$;

-- What a unit cost over endpoints and hours, weighted by units: half of all requests came in hours of endpoints in which one cost at most P50. An hour in
-- which nothing was asked for costs too: it is in the mean. The share is of the whole cost of the endpoints that have such units.
CREATE FUNCTION ledger.unit_cost_percentiles_of(from_day date, to_day date, labels jsonb DEFAULT '{}')
RETURNS TABLE (unit text, units numeric, endpoint_hours bigint, mean numeric, p50 numeric, p95 numeric, p99 numeric, coverage_percent numeric)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH known AS MATERIALIZED (
        SELECT * FROM ledger.hourly_units(from_day, to_day, labels) WHERE unit <> 'monthly_users' AND cost_usd IS NOT NULL
    ), rated AS (
        SELECT unit, cost_usd / quantity AS rate, sum(quantity) OVER (PARTITION BY unit ORDER BY cost_usd / quantity, hour, workload_namespace,
               workload_name) AS upto, sum(quantity) OVER (PARTITION BY unit) AS total
        FROM known WHERE quantity > 0
    ), percentiles AS (
        SELECT unit, round(min(rate) FILTER (WHERE upto >= 0.5 * total), 12) AS p50, round(min(rate) FILTER (WHERE upto >= 0.95 * total), 12) AS p95,
               round(min(rate) FILTER (WHERE upto >= 0.99 * total), 12) AS p99
        FROM rated GROUP BY unit
    ), whole AS (
        SELECT k.unit, sum(c.cost) AS cost FROM (SELECT DISTINCT unit, workload_namespace, workload_name FROM known) k
        JOIN (SELECT workload_namespace, workload_name, sum(cost_usd) AS cost FROM ledger.ai_cost_of(from_day, to_day, labels) GROUP BY 1, 2) c
             USING (workload_namespace, workload_name) GROUP BY k.unit
    )
    SELECT unit, sum(k.quantity), count(*), round(sum(k.cost_usd) / nullif(sum(k.quantity), 0), 12), min(p.p50), min(p.p95), min(p.p99),
           round(100 * sum(k.cost_usd) / nullif(min(w.cost), 0), 1)
    FROM known k JOIN percentiles p USING (unit) LEFT JOIN whole w USING (unit) GROUP BY unit
$$;

CREATE FUNCTION ledger.ai_cost_month_of(from_day date, to_day date, labels jsonb DEFAULT '{}')
RETURNS TABLE (month date, machines_usd numeric, vendor_api_usd numeric, transfer_usd numeric, storage_usd numeric, other_usd numeric, cost_usd numeric,
               revenue_usd numeric, cost_percent_of_revenue numeric, margin_usd numeric, margin_percent numeric, revenue_coverage_percent numeric)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
WITH earning AS MATERIALIZED (
    SELECT date_trunc('month', day)::date AS month, workload_namespace, workload_name, sum(revenue_usd) AS revenue
    FROM ledger.revenue_of(from_day, to_day, labels) GROUP BY 1, 2, 3
), cost AS (
    SELECT c.month, sum(c.machines_usd) AS machines, sum(c.vendor_api_usd) AS api, sum(c.transfer_usd) AS transfer, sum(c.storage_usd) AS storage,
           sum(c.other_usd) AS other, sum(c.cost_usd) AS total, coalesce(sum(c.cost_usd) FILTER (WHERE e.month IS NOT NULL), 0) AS of_earning
    FROM ledger.ai_cost_of(from_day, to_day, labels) c LEFT JOIN earning e USING (month, workload_namespace, workload_name) GROUP BY c.month
), earned AS (
    SELECT month, sum(revenue) AS revenue FROM earning GROUP BY 1
)
SELECT month, coalesce(machines, 0) AS machines_usd, coalesce(api, 0) AS vendor_api_usd, coalesce(transfer, 0) AS transfer_usd, coalesce(storage, 0) AS storage_usd,
       coalesce(other, 0) AS other_usd, coalesce(total, 0) AS cost_usd, revenue AS revenue_usd, round(100 * total / nullif(revenue, 0), 1) AS cost_percent_of_revenue,
       revenue - coalesce(total, 0) AS margin_usd, round(100 * (revenue - coalesce(total, 0)) / nullif(revenue, 0), 1) AS margin_percent,
       round(100 * of_earning / nullif(total, 0), 1) AS revenue_coverage_percent
FROM cost FULL JOIN earned USING (month)
$$;

CREATE VIEW ledger.ai_cost_month AS SELECT * FROM ledger.ai_cost_month_of('-infinity', 'infinity');

CREATE VIEW ledger.unit_economics AS
SELECT m.month, e.* FROM (SELECT month FROM ledger.ai_cost_month) m
CROSS JOIN LATERAL ledger.unit_economics_of(m.month, (m.month + interval '1 month')::date) e;

CREATE VIEW ledger.unit_economics_by_model AS
SELECT m.month, e.* FROM (SELECT month FROM ledger.ai_cost_month) m
CROSS JOIN LATERAL ledger.unit_economics_by_model_of(m.month, (m.month + interval '1 month')::date) e;

CREATE VIEW ledger.unit_cost_percentiles AS
SELECT m.month, e.* FROM (SELECT month FROM ledger.ai_cost_month) m
CROSS JOIN LATERAL ledger.unit_cost_percentiles_of(m.month, (m.month + interval '1 month')::date) e;
