-- Statements: a bill, a spot data feed, usage, revenue or other costs of one source and one period, version by version. A newer version replaces the
-- older whole. Nothing is edited for it: each version adds rows that carry the difference to the version before, so what holds is the sum of all
-- rows of a key, and what held on a day is the sum of those posted until then.
--
-- A row with a statement carries differences, `lines` included: a key is there while its `lines` add up to more than none. Rows without one are
-- of Prometheus, which revises hour by hour; those of earlier releases are written again below, as first versions.

CREATE TABLE ledger.statement (
    id uuid NOT NULL PRIMARY KEY, at timestamptz NOT NULL,
    posted_at timestamptz NOT NULL, xid bigint NOT NULL, content_hash bytea NOT NULL,
    kind text NOT NULL CHECK (kind IN ('bill', 'feed', 'usage', 'revenue', 'costs')),
    source text NOT NULL, until timestamptz NOT NULL, version integer NOT NULL CHECK (version >= 1),
    -- The version that is taken back by this one, which brings back the version before.
    retracts uuid,
    -- What the source calls the version, where it names it.
    said_version text,
    -- Name, SHA-256 and lines of each file; the digest is of all of them, in whatever order they came.
    files jsonb NOT NULL, digest text NOT NULL, lines bigint NOT NULL, total numeric(24,10) NOT NULL, invoiced boolean NOT NULL,
    -- Which refusals a person overruled.
    accepted text[] NOT NULL, taken_by text NOT NULL
);
CREATE UNIQUE INDEX ON ledger.statement (kind, source, at, version);
COMMENT ON TABLE ledger.statement IS 'what came from outside: versions of bills, feeds, usage, revenue and other costs, by source and period';

ALTER TABLE ledger.billed_line ADD COLUMN statement uuid;
ALTER TABLE ledger.billed_line ADD COLUMN lines integer;
-- What a line without a machine is about: the service, as in AmazonRDS.
ALTER TABLE ledger.billed_line ADD COLUMN service text;
ALTER TABLE ledger.usage_hour ADD COLUMN statement uuid;
ALTER TABLE ledger.usage_hour ADD COLUMN lines integer;
ALTER TABLE ledger.revenue_day ADD COLUMN statement uuid;
ALTER TABLE ledger.revenue_day ADD COLUMN lines integer;
ALTER TABLE ledger.external_cost ADD COLUMN statement uuid;
ALTER TABLE ledger.external_cost ADD COLUMN lines integer;
-- The version that a posting, or a comparison, comes of.
ALTER TABLE ledger.posting ADD COLUMN statement uuid;
ALTER TABLE ledger.true_up ADD COLUMN statement uuid;

-- Partitions have their constraints as their own as well.
DO $$
DECLARE parent text; rule text; child regclass;
BEGIN
    FOR parent, rule IN VALUES ('billed_line', 'billed_line_kind_check'), ('usage_hour', 'usage_hour_quantity_check'), ('posting', 'posting_kind_check') LOOP
        EXECUTE format('ALTER TABLE ledger.%I DROP CONSTRAINT %I', parent, rule);
        FOR child IN SELECT inhrelid FROM pg_inherits WHERE inhparent = format('ledger.%I', parent)::regclass LOOP
            EXECUTE format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS %I', child, rule);
        END LOOP;
    END LOOP;
END $$;
ALTER TABLE ledger.usage_hour ADD CONSTRAINT usage_hour_quantity_check CHECK (statement IS NOT NULL OR quantity >= 0);
ALTER TABLE ledger.posting ADD CONSTRAINT posting_kind_check CHECK (kind IN ('estimate', 'correction', 'feed', 'bill', 'entered'));

CREATE INDEX ON ledger.billed_line (statement);
CREATE INDEX ON ledger.usage_hour (statement);
CREATE INDEX ON ledger.revenue_day (statement);
CREATE INDEX ON ledger.external_cost (statement);

-- Seals name tables by their place here: only ever add at the end.
CREATE OR REPLACE FUNCTION ledger.event_tables() RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ARRAY['decision', 'candidate_set', 'interval_opened', 'hour_priced', 'interval_closed', 'occupancy_opened',
                 'occupancy_closed', 'migration', 'interruption', 'price_quote',
                 'checkpoint', 'posting', 'billed_line', 'true_up', 'usage_hour', 'revenue_day', 'external_cost', 'workload_version',
                 'archived_month', 'statement'];

CREATE OR REPLACE FUNCTION ledger.partitioned_tables() RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN array_remove(array_remove(array_remove(ledger.event_tables(), 'workload_version'), 'archived_month'), 'statement');

CREATE INDEX ON ledger.statement USING brin (xid) WITH (pages_per_range = 16);
CREATE TRIGGER stamp BEFORE INSERT ON ledger.statement FOR EACH ROW EXECUTE FUNCTION ledger.stamp();
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON ledger.statement FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();
DO $$ BEGIN PERFORM ledger.guard_truncate('statement'); END $$;

-- Lines about machines are news of them; others are not.
CREATE OR REPLACE FUNCTION ledger.queue_billed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO ledger.posting_queue (instance) SELECT DISTINCT instance FROM added WHERE instance LIKE 'i-%';
    RETURN NULL;
END $$;

-- An invoice changes what hours cost that no line speaks of: machines are news though none of their lines changed.
CREATE FUNCTION ledger.queue_instances(instances text[]) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS
    'INSERT INTO ledger.posting_queue (instance) SELECT unnest(instances)';

-- What earlier releases took, as first versions of its months. The highest revision of each line is what held.
DO $$
BEGIN
    CREATE TEMPORARY TABLE held_before AS
    SELECT 'bill'::text AS kind, date_trunc('month', at AT TIME ZONE 'UTC') AS month, count(*) AS lines, sum(cost_usd) AS total, bool_or(invoice IS NOT NULL) AS invoiced
    FROM (SELECT DISTINCT ON (source, l.kind, account, instance, usage_type, operation, at, until) l.* FROM ledger.billed_line l WHERE source = 'bill'
          ORDER BY source, l.kind, account, instance, usage_type, operation, at, until, revision DESC) x GROUP BY 2
    UNION ALL SELECT 'feed', date_trunc('month', at AT TIME ZONE 'UTC'), count(*), sum(cost_usd), false
    FROM (SELECT DISTINCT ON (instance, usage_type, operation, at, until) l.* FROM ledger.billed_line l WHERE source = 'feed'
          ORDER BY instance, usage_type, operation, at, until, revision DESC) x GROUP BY 2
    UNION ALL SELECT 'usage', date_trunc('day', at AT TIME ZONE 'UTC'), count(*), sum(quantity), false
    FROM (SELECT DISTINCT ON (workload_namespace, workload_name, unit, at) u.* FROM ledger.usage_hour u WHERE u.source = 'file'
          ORDER BY workload_namespace, workload_name, unit, at, revision DESC) x GROUP BY 2
    UNION ALL SELECT 'revenue', date_trunc('month', at AT TIME ZONE 'UTC'), count(*), sum(revenue_usd), false
    FROM (SELECT DISTINCT ON (workload_namespace, workload_name, at) r.* FROM ledger.revenue_day r ORDER BY workload_namespace, workload_name, at, revision DESC) x
    GROUP BY 2
    UNION ALL SELECT 'costs', date_trunc('month', at AT TIME ZONE 'UTC'), count(*), sum(cost_usd), false
    FROM (SELECT DISTINCT ON (item, workload, at) c.* FROM ledger.external_cost c ORDER BY item, workload, at, revision DESC) x GROUP BY 2;

    INSERT INTO ledger.statement (id, at, kind, source, until, version, files, digest, lines, total, invoiced, accepted, taken_by)
    SELECT gen_random_uuid(), month AT TIME ZONE 'UTC', kind, CASE kind WHEN 'bill' THEN 'unknown' WHEN 'feed' THEN 'unknown' ELSE kind END,
           (month + CASE kind WHEN 'usage' THEN interval '1 day' ELSE interval '1 month' END) AT TIME ZONE 'UTC', 1, '[]', '', lines, total, invoiced, '{}',
           'an earlier release'
    FROM held_before;
    DROP TABLE held_before;

    INSERT INTO ledger.billed_line (id, at, source, kind, account, instance, usage_type, operation, until, revision, cost_usd, used_ms, public_on_demand_usd,
                                    invoice, statement, lines)
    SELECT gen_random_uuid(), x.at, x.source, CASE x.kind WHEN 'adjustment' THEN 'credit' ELSE x.kind END, x.account, x.instance, x.usage_type, x.operation,
           x.until, x.revision + 1, x.cost_usd, x.used_ms, x.public_on_demand_usd, x.invoice, s.id, 1
    FROM (SELECT DISTINCT ON (source, kind, account, instance, usage_type, operation, at, until) * FROM ledger.billed_line
          ORDER BY source, kind, account, instance, usage_type, operation, at, until, revision DESC) x
    JOIN ledger.statement s ON s.kind = x.source AND s.at = date_trunc('month', x.at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
    INSERT INTO ledger.usage_hour (id, at, workload_namespace, workload_name, unit, revision, quantity, source, statement, lines)
    SELECT gen_random_uuid(), x.at, x.workload_namespace, x.workload_name, x.unit, x.revision + 1, x.quantity, x.source, s.id, 1
    FROM (SELECT DISTINCT ON (workload_namespace, workload_name, unit, at) * FROM ledger.usage_hour WHERE source = 'file'
          ORDER BY workload_namespace, workload_name, unit, at, revision DESC) x
    JOIN ledger.statement s ON s.kind = 'usage' AND s.at = date_trunc('day', x.at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
    INSERT INTO ledger.revenue_day (id, at, workload_namespace, workload_name, revision, revenue_usd, statement, lines)
    SELECT gen_random_uuid(), x.at, x.workload_namespace, x.workload_name, x.revision + 1, x.revenue_usd, s.id, 1
    FROM (SELECT DISTINCT ON (workload_namespace, workload_name, at) * FROM ledger.revenue_day ORDER BY workload_namespace, workload_name, at, revision DESC) x
    JOIN ledger.statement s ON s.kind = 'revenue' AND s.at = date_trunc('month', x.at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
    INSERT INTO ledger.external_cost (id, at, item, workload, revision, cost_usd, statement, lines)
    SELECT gen_random_uuid(), x.at, x.item, x.workload, x.revision + 1, x.cost_usd, s.id, 1
    FROM (SELECT DISTINCT ON (item, workload, at) * FROM ledger.external_cost ORDER BY item, workload, at, revision DESC) x
    JOIN ledger.statement s ON s.kind = 'costs' AND s.at = date_trunc('month', x.at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
END $$;
