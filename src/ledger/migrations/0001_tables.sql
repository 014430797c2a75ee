-- The ledger's tables: append-only events, partitioned by the month they happened in.
--
-- Every row: `id` is derived from what the row is about (writing twice is harmless), `at` is when it happened and decides the
-- partition (never the clock), `posted_at` is when it was written, `content_hash` covers all other columns.
-- What follows from the events (intervals, cost, savings) is derived by views and stored nowhere.

CREATE SCHEMA IF NOT EXISTS ledger;
COMMENT ON SCHEMA ledger IS 'lowtide: every decision, every cent, and what it would have cost otherwise';

-- Rows are written once.
CREATE FUNCTION ledger.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only: % on %.% is refused; post a correcting row instead', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END $$;

-- Canonical content, version 1: the row as JSON with times in UTC, without empty columns (so that a column added later leaves old
-- hashes as they are) and without the bookkeeping columns `content_hash` and `xid`.
CREATE FUNCTION ledger.canonical_v1(content jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN 'lowtide-ledger-v1 ' || jsonb_strip_nulls(content - 'content_hash' - 'xid')::text;

CREATE FUNCTION ledger.stamp() RETURNS trigger LANGUAGE plpgsql SET timezone = 'UTC' AS $$
BEGIN
    NEW.posted_at := clock_timestamp();
    NEW.xid := pg_current_xact_id()::text::bigint;
    NEW.content_hash := sha256(convert_to(ledger.canonical_v1(to_jsonb(NEW)), 'UTF8'));
    RETURN NEW;
END $$;

CREATE TABLE ledger.decision (
    id uuid NOT NULL, at timestamptz NOT NULL,
    posted_at timestamptz NOT NULL, xid bigint NOT NULL, content_hash bytea NOT NULL,
    cluster text NOT NULL, trigger text NOT NULL, outcome text NOT NULL, text text NOT NULL, node_pool text,
    workload_kind text, workload_namespace text, workload_name text,
    team text, service text, environment text, cost_center text, product_area text,
    pods jsonb NOT NULL, need jsonb,
    region text, zone text, instance_type text, capacity_type text,
    price_usd_h numeric(20,10), per_replica_usd_h numeric(20,10), replicas bigint, price_age_ms bigint, price_source text,
    refused_counts jsonb NOT NULL, offers_hash text NOT NULL,
    b0 jsonb, b1 jsonb, b2 jsonb,
    b0_usd_h numeric(20,10), b1_replica_usd_h numeric(20,10), b2_replica_usd_h numeric(20,10),
    claim text, from_claim text, instance text, policy_hash text NOT NULL, code_version text NOT NULL,
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);

-- One row per decision and not one per offer: twenty rows with a hash each would make every decision twenty times dearer to write.
CREATE TABLE ledger.candidate_set (
    id uuid NOT NULL, at timestamptz NOT NULL,
    posted_at timestamptz NOT NULL, xid bigint NOT NULL, content_hash bytea NOT NULL,
    candidates jsonb NOT NULL,
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);

CREATE TABLE ledger.interval_opened (
    id uuid NOT NULL, at timestamptz NOT NULL,
    posted_at timestamptz NOT NULL, xid bigint NOT NULL, content_hash bytea NOT NULL,
    claim_uid text NOT NULL, claim text NOT NULL, decision uuid NOT NULL, instance text NOT NULL,
    region text NOT NULL, zone text NOT NULL, instance_type text NOT NULL, capacity_type text NOT NULL, gpus bigint NOT NULL,
    price_usd_h numeric(20,10) NOT NULL, on_demand_usd_h numeric(20,10),
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);

CREATE TABLE ledger.hour_priced (
    id uuid NOT NULL, at timestamptz NOT NULL,
    posted_at timestamptz NOT NULL, xid bigint NOT NULL, content_hash bytea NOT NULL,
    claim_uid text NOT NULL, hour bigint NOT NULL, price_usd_h numeric(20,10) NOT NULL, on_demand_usd_h numeric(20,10),
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);

CREATE TABLE ledger.interval_closed (
    id uuid NOT NULL, at timestamptz NOT NULL,
    posted_at timestamptz NOT NULL, xid bigint NOT NULL, content_hash bytea NOT NULL,
    claim_uid text NOT NULL, ended_by text NOT NULL, decision uuid,
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);

CREATE TABLE ledger.occupancy_opened (
    id uuid NOT NULL, at timestamptz NOT NULL,
    posted_at timestamptz NOT NULL, xid bigint NOT NULL, content_hash bytea NOT NULL,
    claim_uid text NOT NULL, pod_namespace text NOT NULL, pod_name text NOT NULL, pod_uid text NOT NULL,
    workload_kind text NOT NULL, workload_namespace text NOT NULL, workload_name text NOT NULL, kind text NOT NULL,
    team text, service text, environment text, cost_center text, product_area text,
    gpus bigint NOT NULL, decision uuid NOT NULL, b1_replica_usd_h numeric(20,10), b2_replica_usd_h numeric(20,10),
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);

CREATE TABLE ledger.occupancy_closed (
    id uuid NOT NULL, at timestamptz NOT NULL,
    posted_at timestamptz NOT NULL, xid bigint NOT NULL, content_hash bytea NOT NULL,
    claim_uid text NOT NULL, pod_uid text NOT NULL,
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);

CREATE TABLE ledger.migration (
    id uuid NOT NULL, at timestamptz NOT NULL,
    posted_at timestamptz NOT NULL, xid bigint NOT NULL, content_hash bytea NOT NULL,
    decision uuid NOT NULL, pod_namespace text NOT NULL, pod_name text NOT NULL, pod_uid text NOT NULL,
    from_claim text NOT NULL, to_claim text,
    deadline timestamptz, decided_at timestamptz NOT NULL, launched_at timestamptz, node_ready_at timestamptz,
    pod_ready_at timestamptz, old_gone_at timestamptz, egress_gib bigint NOT NULL,
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);

CREATE TABLE ledger.interruption (
    id uuid NOT NULL, at timestamptz NOT NULL,
    posted_at timestamptz NOT NULL, xid bigint NOT NULL, content_hash bytea NOT NULL,
    claim_uid text NOT NULL, instance text NOT NULL,
    region text NOT NULL, zone text NOT NULL, instance_type text NOT NULL, capacity_type text NOT NULL,
    deadline timestamptz NOT NULL, source text NOT NULL, ran_for_ms bigint NOT NULL,
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);

-- EC2 forgets spot prices after 90 days; the ledger does not.
CREATE TABLE ledger.price_quote (
    id uuid NOT NULL, at timestamptz NOT NULL,
    posted_at timestamptz NOT NULL, xid bigint NOT NULL, content_hash bytea NOT NULL,
    region text NOT NULL, zone text, instance_type text NOT NULL, capacity_type text NOT NULL,
    price_usd_h numeric(20,10) NOT NULL, source text NOT NULL,
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);

CREATE INDEX ON ledger.decision (claim, at);
CREATE INDEX ON ledger.decision (workload_namespace, workload_name, at);
CREATE INDEX ON ledger.interval_opened (claim_uid);
CREATE INDEX ON ledger.interval_opened (claim);
CREATE INDEX ON ledger.interval_closed (claim_uid);
CREATE INDEX ON ledger.hour_priced (claim_uid, hour);
CREATE INDEX ON ledger.occupancy_opened (claim_uid);
CREATE INDEX ON ledger.occupancy_opened (pod_namespace, pod_name);
CREATE INDEX ON ledger.occupancy_closed (claim_uid, pod_uid);
CREATE INDEX ON ledger.migration (pod_uid);
CREATE INDEX ON ledger.interruption (claim_uid);
CREATE INDEX ON ledger.price_quote (instance_type, zone, at);

-- A seal lists the rows of a range of finished transactions: table, id and hash of each, their Merkle root, chained to the seal before.
CREATE TABLE ledger.seal (
    number bigint PRIMARY KEY CHECK (number >= 1),
    xid_from bigint NOT NULL, xid_to bigint NOT NULL CHECK (xid_to > xid_from),
    rows bigint NOT NULL, leaves bytea NOT NULL, merkle_root bytea NOT NULL, previous_root bytea NOT NULL, root bytea NOT NULL,
    sealed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE FUNCTION ledger.event_tables() RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ARRAY['decision', 'candidate_set', 'interval_opened', 'hour_priced', 'interval_closed', 'occupancy_opened',
                 'occupancy_closed', 'migration', 'interruption', 'price_quote'];

-- A TRUNCATE trigger of a partitioned table does not hold for its partitions: each gets its own.
CREATE FUNCTION ledger.guard_truncate(relation text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON ledger.%I FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change()',
                   relation);
END $$;

DO $$
DECLARE parent text;
BEGIN
    FOREACH parent IN ARRAY ledger.event_tables() LOOP
        EXECUTE format('CREATE INDEX ON ledger.%I USING brin (xid) WITH (pages_per_range = 16)', parent);
        EXECUTE format('CREATE TRIGGER stamp BEFORE INSERT ON ledger.%I FOR EACH ROW EXECUTE FUNCTION ledger.stamp()', parent);
        EXECUTE format('CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON ledger.%I FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change()',
                       parent);
        EXECUTE format('CREATE TABLE ledger.%I PARTITION OF ledger.%I DEFAULT', parent || '_default', parent);
        PERFORM ledger.guard_truncate(parent);
        PERFORM ledger.guard_truncate(parent || '_default');
    END LOOP;
    CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON ledger.seal FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();
    PERFORM ledger.guard_truncate('seal');
END $$;

-- Makes the partitions of one month. Writers may call it (they own nothing). A month whose rows went to the default partition
-- before it was made stays there: nothing is lost, and nothing is moved.
CREATE FUNCTION ledger.ensure_month(month date) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
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
    FOREACH parent IN ARRAY ledger.event_tables() LOOP
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
