-- Attribution of days that are over, corrected: labels that a workload's work of these days should have had. What pods said of themselves stays as it is; the
-- postings move from one owner to the other by rows of their own, with the correction as their cause. A later correction holds before an earlier one, label by
-- label; `withdraws` takes one back.
CREATE TABLE ledger.retag (
    id uuid NOT NULL PRIMARY KEY, at timestamptz NOT NULL,
    posted_at timestamptz NOT NULL, xid bigint NOT NULL, content_hash bytea NOT NULL,
    until timestamptz NOT NULL CHECK (until > at), workload_namespace text NOT NULL, workload_name text NOT NULL,
    -- By label its value; null is none.
    labels jsonb NOT NULL, reason text NOT NULL, taken_by text NOT NULL, withdraws uuid, n bigint NOT NULL UNIQUE
);
COMMENT ON TABLE ledger.retag IS 'labels of past days that people corrected, with who, when and why';
CREATE INDEX ON ledger.retag (workload_namespace, workload_name);

-- The correction that a version of labels comes of; empty is what pods said.
ALTER TABLE ledger.workload_version ADD COLUMN retag uuid;

-- Usage by model, and tokens in and out apart. Columns that are empty leave hashes as they are.
ALTER TABLE ledger.usage_hour ADD COLUMN model text;
DO $$
DECLARE child regclass;
BEGIN
    FOR child IN SELECT 'ledger.usage_hour'::regclass UNION ALL SELECT inhrelid FROM pg_inherits WHERE inhparent = 'ledger.usage_hour'::regclass LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS usage_hour_unit_check', child);
    END LOOP;
END $$;
ALTER TABLE ledger.usage_hour ADD CONSTRAINT usage_hour_unit_check
    CHECK (unit IN ('requests', 'transactions', 'tokens', 'users', 'tokens_in', 'tokens_out', 'monthly_users'));

-- Seals name tables by their place here: only ever add at the end.
CREATE OR REPLACE FUNCTION ledger.event_tables() RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ARRAY['decision', 'candidate_set', 'interval_opened', 'hour_priced', 'interval_closed', 'occupancy_opened',
                 'occupancy_closed', 'migration', 'interruption', 'price_quote',
                 'checkpoint', 'posting', 'billed_line', 'true_up', 'usage_hour', 'revenue_day', 'external_cost', 'workload_version',
                 'archived_month', 'statement', 'definition', 'retag'];

CREATE OR REPLACE FUNCTION ledger.partitioned_tables() RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN array_remove(array_remove(array_remove(array_remove(array_remove(ledger.event_tables(), 'workload_version'), 'archived_month'), 'statement'),
                                     'definition'), 'retag');

CREATE INDEX ON ledger.retag USING brin (xid) WITH (pages_per_range = 16);
CREATE TRIGGER stamp BEFORE INSERT ON ledger.retag FOR EACH ROW EXECUTE FUNCTION ledger.stamp();
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON ledger.retag FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();
DO $$ BEGIN PERFORM ledger.guard_truncate('retag'); END $$;

-- Machines that a correction speaks of are news.
CREATE FUNCTION ledger.queue_retagged() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO ledger.posting_queue (claim_uid)
    SELECT DISTINCT p.claim_uid FROM added r
    JOIN ledger.workload_version w ON w.workload_namespace = r.workload_namespace AND w.workload_name = r.workload_name
    JOIN ledger.posting p ON p.workload = w.id AND p.at >= r.at AND p.at < r.until AND p.claim_uid IS NOT NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER queue AFTER INSERT ON ledger.retag REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION ledger.queue_retagged();
