-- Postings: every settled share of every instance-hour as a row that is never edited, trued up by further rows; what AWS billed; and the
-- rollups that reports read.
--
-- Events keep the shape of 0001. Beside them stand derived tables, which may be rebuilt from the events at any time: `posted_machine`,
-- `cost_rollup` and the two queues. They are not sealed; `lowtide ledger verify` compares them with what they are derived from.

ALTER TABLE ledger.decision ADD COLUMN component text;
ALTER TABLE ledger.occupancy_opened ADD COLUMN component text;
-- Data carried across regions for the pod to run here, at the price of the time.
ALTER TABLE ledger.occupancy_opened ADD COLUMN carried_gib bigint;
ALTER TABLE ledger.occupancy_opened ADD COLUMN carried_from text;
ALTER TABLE ledger.occupancy_opened ADD COLUMN carried_usd_per_gib numeric(20,10);
ALTER TABLE ledger.occupancy_opened ADD COLUMN carried_by uuid;

CREATE TABLE ledger.checkpoint (
    id uuid NOT NULL, at timestamptz NOT NULL,
    posted_at timestamptz NOT NULL, xid bigint NOT NULL, content_hash bytea NOT NULL,
    claim_uid text NOT NULL, pod_uid text NOT NULL,
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);

-- `at` is the start of the part of the instance-hour that lies in the UTC day, so that a row's day and month are those of `at`. Amounts
-- are differences: those of all rows of a share add up to the share. `feed_usd` and `bill_usd` are the part of the cost that rests on
-- the spot data feed and on the bill. A baseline that is not known is NULL; rows in which it is known add up apart from the others.
CREATE TABLE ledger.posting (
    id uuid NOT NULL, at timestamptz NOT NULL,
    posted_at timestamptz NOT NULL, xid bigint NOT NULL, content_hash bytea NOT NULL,
    workload uuid NOT NULL, gpu_ms bigint NOT NULL, span_ms bigint NOT NULL, hour integer,
    claim_uid text, line text NOT NULL, pod_uid text,
    kind text NOT NULL CHECK (kind IN ('estimate', 'correction', 'feed', 'bill')), cause text NOT NULL,
    cost_usd numeric(24,10) NOT NULL, b0_usd numeric(24,10), b1_usd numeric(24,10), b2_usd numeric(24,10),
    feed_usd numeric(24,10) NOT NULL, bill_usd numeric(24,10) NOT NULL,
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);

-- What AWS said. A line that changes in a later report is a further revision; the highest holds.
CREATE TABLE ledger.billed_line (
    id uuid NOT NULL, at timestamptz NOT NULL,
    posted_at timestamptz NOT NULL, xid bigint NOT NULL, content_hash bytea NOT NULL,
    source text NOT NULL CHECK (source IN ('feed', 'bill')), kind text NOT NULL CHECK (kind IN ('usage', 'commitment', 'adjustment', 'transfer')),
    account text NOT NULL, instance text NOT NULL, usage_type text NOT NULL, operation text NOT NULL, until timestamptz NOT NULL,
    revision integer NOT NULL, cost_usd numeric(24,10) NOT NULL, used_ms bigint, public_on_demand_usd numeric(24,10), invoice text,
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);

-- How an instance-hour compares with what AWS said, each time that changed.
CREATE TABLE ledger.true_up (
    id uuid NOT NULL, at timestamptz NOT NULL,
    posted_at timestamptz NOT NULL, xid bigint NOT NULL, content_hash bytea NOT NULL,
    claim_uid text NOT NULL, hour integer NOT NULL, source text NOT NULL, cause text NOT NULL,
    computed_usd numeric(24,10) NOT NULL, billed_usd numeric(24,10) NOT NULL,
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);

-- What a workload produced in a clock hour. The highest revision holds.
CREATE TABLE ledger.usage_hour (
    id uuid NOT NULL, at timestamptz NOT NULL,
    posted_at timestamptz NOT NULL, xid bigint NOT NULL, content_hash bytea NOT NULL,
    workload_namespace text NOT NULL, workload_name text NOT NULL,
    unit text NOT NULL CHECK (unit IN ('requests', 'transactions', 'tokens', 'users')),
    revision integer NOT NULL, quantity numeric(24,6) NOT NULL CHECK (quantity >= 0), source text NOT NULL,
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);

-- What a workload earned, by UTC day. The highest revision holds.
CREATE TABLE ledger.revenue_day (
    id uuid NOT NULL, at timestamptz NOT NULL,
    posted_at timestamptz NOT NULL, xid bigint NOT NULL, content_hash bytea NOT NULL,
    workload_namespace text NOT NULL, workload_name text NOT NULL,
    revision integer NOT NULL, revenue_usd numeric(24,10) NOT NULL,
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);

-- Costs that are not machines of lowtide's: what lowtide itself runs on, bought APIs. By UTC day; the highest revision holds.
CREATE TABLE ledger.external_cost (
    id uuid NOT NULL, at timestamptz NOT NULL,
    posted_at timestamptz NOT NULL, xid bigint NOT NULL, content_hash bytea NOT NULL,
    item text NOT NULL, workload uuid NOT NULL, revision integer NOT NULL, cost_usd numeric(24,10) NOT NULL,
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);

-- Who pays: a workload with its labels from `at` on. Re-tagging adds a version; what was posted to an older one stays there.
-- Few rows that everything joins: not partitioned.
CREATE TABLE ledger.workload_version (
    id uuid NOT NULL PRIMARY KEY, at timestamptz NOT NULL,
    posted_at timestamptz NOT NULL, xid bigint NOT NULL, content_hash bytea NOT NULL,
    workload_kind text NOT NULL, workload_namespace text NOT NULL, workload_name text NOT NULL,
    team text, service text, environment text, cost_center text, product_area text, component text
);

-- A month of a table that was exported, checked and dropped. `row_ids` names its rows (16 bytes each, in order), so that `verify` knows
-- which sealed rows are archived and which are missing. Not partitioned.
CREATE TABLE ledger.archived_month (
    id uuid NOT NULL PRIMARY KEY, at timestamptz NOT NULL,
    posted_at timestamptz NOT NULL, xid bigint NOT NULL, content_hash bytea NOT NULL,
    table_name text NOT NULL, until timestamptz NOT NULL, rows bigint NOT NULL, row_ids bytea NOT NULL,
    merkle_root bytea NOT NULL, file_name text NOT NULL, file_sha256 bytea NOT NULL, last_seal bigint NOT NULL
);

CREATE INDEX ON ledger.checkpoint (claim_uid);
CREATE INDEX ON ledger.posting (claim_uid, at);
CREATE INDEX ON ledger.posting (workload, at);
CREATE INDEX ON ledger.billed_line (instance);
CREATE INDEX ON ledger.true_up (claim_uid, hour);
CREATE INDEX ON ledger.usage_hour (workload_namespace, workload_name, at);
CREATE INDEX ON ledger.revenue_day (workload_namespace, workload_name, at);
CREATE INDEX ON ledger.external_cost (item, at);
CREATE INDEX ON ledger.workload_version (workload_namespace, workload_name);
CREATE INDEX ON ledger.migration (to_claim);
CREATE INDEX ON ledger.interval_opened (instance);

-- Seals name tables by their place here: only ever add at the end.
CREATE OR REPLACE FUNCTION ledger.event_tables() RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ARRAY['decision', 'candidate_set', 'interval_opened', 'hour_priced', 'interval_closed', 'occupancy_opened',
                 'occupancy_closed', 'migration', 'interruption', 'price_quote',
                 'checkpoint', 'posting', 'billed_line', 'true_up', 'usage_hour', 'revenue_day', 'external_cost', 'workload_version',
                 'archived_month'];

CREATE FUNCTION ledger.partitioned_tables() RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN array_remove(array_remove(ledger.event_tables(), 'workload_version'), 'archived_month');

DO $$
DECLARE relation text;
BEGIN
    FOREACH relation IN ARRAY (ledger.event_tables())[11:] LOOP
        EXECUTE format('CREATE INDEX ON ledger.%I USING brin (xid) WITH (pages_per_range = 16)', relation);
        EXECUTE format('CREATE TRIGGER stamp BEFORE INSERT ON ledger.%I FOR EACH ROW EXECUTE FUNCTION ledger.stamp()', relation);
        EXECUTE format('CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON ledger.%I FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change()',
                       relation);
        PERFORM ledger.guard_truncate(relation);
        IF relation = ANY(ledger.partitioned_tables()) THEN
            EXECUTE format('CREATE TABLE ledger.%I PARTITION OF ledger.%I DEFAULT', relation || '_default', relation);
            PERFORM ledger.guard_truncate(relation || '_default');
        END IF;
    END LOOP;
END $$;

-- A day of postings is found by where it lies.
CREATE INDEX ON ledger.posting USING brin (at) WITH (pages_per_range = 32);

CREATE OR REPLACE FUNCTION ledger.ensure_month(month date) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
    SET timezone = 'UTC' SET lock_timeout = '2s' AS $$
DECLARE
    first timestamptz := date_trunc('month', month::timestamp) AT TIME ZONE 'UTC';
    next timestamptz := (date_trunc('month', month::timestamp) + interval '1 month') AT TIME ZONE 'UTC';
    parent text; name text; made integer := 0; in_default boolean;
BEGIN
    IF month < date '2006-08-01' OR month > date '2199-12-31' THEN
        RETURN 0; -- before EC2 existed or absurdly late: the default partition keeps it
    END IF;
    PERFORM pg_advisory_xact_lock(7239462801);
    FOREACH parent IN ARRAY ledger.partitioned_tables() LOOP
        name := parent || to_char(first AT TIME ZONE 'UTC', '_YYYY_MM');
        CONTINUE WHEN to_regclass(format('ledger.%I', name)) IS NOT NULL;
        EXECUTE format('SELECT EXISTS (SELECT FROM ledger.%I WHERE at >= $1 AND at < $2)', parent || '_default')
            INTO in_default USING first, next;
        CONTINUE WHEN in_default;
        EXECUTE format('CREATE TABLE ledger.%I (LIKE ledger.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name, parent);
        EXECUTE format('ALTER TABLE ledger.%I ATTACH PARTITION ledger.%I FOR VALUES FROM (%L) TO (%L)', parent, name, first, next);
        PERFORM ledger.guard_truncate(name);
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;

-- Machines with news: every event about one puts it here, in the event's own transaction. Rows are never looked up, only taken: two
-- that wait for the same machine are better than one that was missed.
CREATE TABLE ledger.posting_queue (
    n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    claim_uid text, claim text, instance text, since timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- How far a machine is posted, and where its exact running totals (dollars per hour times milliseconds) stand after its posted hours.
CREATE TABLE ledger.posted_machine (
    claim_uid text PRIMARY KEY,
    hours bigint NOT NULL, complete boolean NOT NULL, due_at timestamptz,
    exact_cost numeric NOT NULL, exact_b0 numeric NOT NULL
);
CREATE INDEX ON ledger.posted_machine (due_at) WHERE NOT complete;

CREATE TABLE ledger.rollup_queue (
    n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    day date NOT NULL, workload uuid NOT NULL
);

-- Sums of postings by UTC day, owner and machine type. An empty text is a cost without a machine.
CREATE TABLE ledger.cost_rollup (
    day date NOT NULL, workload uuid NOT NULL, line text NOT NULL, region text NOT NULL, instance_type text NOT NULL, capacity_type text NOT NULL,
    gpu_ms bigint NOT NULL, cost_usd numeric NOT NULL, b0_usd numeric NOT NULL, b1_usd numeric NOT NULL, b2_usd numeric NOT NULL,
    without_b0_usd numeric NOT NULL, without_b1_usd numeric NOT NULL, without_b2_usd numeric NOT NULL,
    feed_usd numeric NOT NULL, bill_usd numeric NOT NULL, true_up_usd numeric NOT NULL,
    PRIMARY KEY (day, workload, line, region, instance_type, capacity_type)
);

CREATE FUNCTION ledger.queue_machine() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO ledger.posting_queue (claim_uid) SELECT DISTINCT claim_uid FROM added;
    RETURN NULL;
END $$;

-- A move changes the machine that was left; a decision names its claim; a billed line its instance.
CREATE FUNCTION ledger.queue_claim() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO ledger.posting_queue (claim) SELECT DISTINCT from_claim FROM added;
    RETURN NULL;
END $$;
CREATE FUNCTION ledger.queue_bought() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO ledger.posting_queue (claim) SELECT DISTINCT claim FROM added WHERE outcome = 'launch' AND claim IS NOT NULL;
    RETURN NULL;
END $$;
CREATE FUNCTION ledger.queue_billed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO ledger.posting_queue (instance) SELECT DISTINCT instance FROM added WHERE kind <> 'transfer';
    RETURN NULL;
END $$;
CREATE FUNCTION ledger.queue_rollup() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog SET timezone = 'UTC' AS $$
BEGIN
    INSERT INTO ledger.rollup_queue (day, workload) SELECT DISTINCT at::date, workload FROM added;
    RETURN NULL;
END $$;

DO $$
DECLARE relation text;
BEGIN
    FOREACH relation IN ARRAY ARRAY['interval_opened', 'interval_closed', 'hour_priced', 'occupancy_opened', 'occupancy_closed', 'checkpoint'] LOOP
        EXECUTE format('CREATE TRIGGER queue AFTER INSERT ON ledger.%I REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION ledger.queue_machine()',
                       relation);
    END LOOP;
END $$;
CREATE TRIGGER queue AFTER INSERT ON ledger.migration REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION ledger.queue_claim();
CREATE TRIGGER queue AFTER INSERT ON ledger.decision REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION ledger.queue_bought();
CREATE TRIGGER queue AFTER INSERT ON ledger.billed_line REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION ledger.queue_billed();
CREATE TRIGGER queue AFTER INSERT ON ledger.posting REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION ledger.queue_rollup();

-- What was written before this migration is news too.
INSERT INTO ledger.posting_queue (claim_uid) SELECT DISTINCT claim_uid FROM ledger.interval_opened;

-- Rebuilds the rollups of at most `most` queued keys, day by day; gives how many keys. Days that are archived stay as they are.
CREATE FUNCTION ledger.rebuild_rollups(most integer) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
    SET timezone = 'UTC' AS $$
DECLARE
    of_day date; workloads uuid[]; rebuilt integer := 0; archived timestamptz;
BEGIN
    PERFORM pg_advisory_xact_lock(7239462805);
    SELECT max(until) INTO archived FROM ledger.archived_month WHERE table_name = 'posting';
    -- One statement takes the keys: a posting that it does not see keeps its own key in the queue.
    FOR of_day, workloads IN
        WITH taken AS (
            DELETE FROM ledger.rollup_queue WHERE n IN (SELECT n FROM ledger.rollup_queue ORDER BY n LIMIT most) RETURNING day, workload
        )
        SELECT t.day, array_agg(DISTINCT t.workload) FROM taken t GROUP BY t.day ORDER BY t.day
    LOOP
        rebuilt := rebuilt + cardinality(workloads);
        CONTINUE WHEN of_day::timestamptz < archived;
        DELETE FROM ledger.cost_rollup r WHERE r.day = of_day AND r.workload = ANY(workloads);
        INSERT INTO ledger.cost_rollup
        WITH sums AS (
            SELECT p.workload, p.line, p.claim_uid, sum(p.gpu_ms) AS gpu_ms, sum(p.cost_usd) AS cost, sum(p.b0_usd) AS b0, sum(p.b1_usd) AS b1,
                   sum(p.b2_usd) AS b2, sum(p.cost_usd) FILTER (WHERE p.b0_usd IS NULL) AS without_b0,
                   sum(p.cost_usd) FILTER (WHERE p.line = 'pod' AND p.b1_usd IS NULL) AS without_b1,
                   sum(p.cost_usd) FILTER (WHERE p.line = 'pod' AND p.b2_usd IS NULL) AS without_b2,
                   sum(p.feed_usd) AS feed, sum(p.bill_usd) AS bill, sum(p.cost_usd) FILTER (WHERE p.kind IN ('feed', 'bill') AND p.claim_uid IS NOT NULL) AS true_up
            FROM ledger.posting p
            WHERE p.at >= of_day::timestamptz AND p.at < (of_day + 1)::timestamptz AND p.workload = ANY(workloads)
            GROUP BY p.workload, p.line, p.claim_uid
        )
        SELECT of_day, s.workload, s.line, coalesce(m.region, ''), coalesce(m.instance_type, ''), coalesce(m.capacity_type, ''),
               sum(s.gpu_ms), sum(s.cost), coalesce(sum(s.b0), 0), coalesce(sum(s.b1), 0), coalesce(sum(s.b2), 0),
               coalesce(sum(s.without_b0), 0), coalesce(sum(s.without_b1), 0), coalesce(sum(s.without_b2), 0), sum(s.feed), sum(s.bill),
               coalesce(sum(s.true_up), 0)
        FROM sums s
        LEFT JOIN LATERAL (SELECT o.region, o.instance_type, o.capacity_type FROM ledger.interval_opened o WHERE o.claim_uid = s.claim_uid
                           ORDER BY o.posted_at, o.at LIMIT 1) m ON true
        GROUP BY s.workload, s.line, m.region, m.instance_type, m.capacity_type;
    END LOOP;
    RETURN rebuilt;
END $$;
