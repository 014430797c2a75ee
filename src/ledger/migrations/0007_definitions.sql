-- What every view, function, grant and trigger is, as of each migration: `lowtide ledger verify` compares it with what is there. Rows are sealed as all
-- others, so that a definition that is replaced is found, and one that is replaced and put on record is dated.
CREATE TABLE ledger.definition (
    id uuid NOT NULL PRIMARY KEY, at timestamptz NOT NULL,
    posted_at timestamptz NOT NULL, xid bigint NOT NULL, content_hash bytea NOT NULL,
    kind text NOT NULL, object text NOT NULL,
    -- Empty: it is gone.
    digest text NOT NULL, code_version text NOT NULL
);
COMMENT ON TABLE ledger.definition IS 'digests of views, functions, grants and triggers, as each migration left them';

-- Seals name tables by their place here: only ever add at the end.
CREATE OR REPLACE FUNCTION ledger.event_tables() RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ARRAY['decision', 'candidate_set', 'interval_opened', 'hour_priced', 'interval_closed', 'occupancy_opened',
                 'occupancy_closed', 'migration', 'interruption', 'price_quote',
                 'checkpoint', 'posting', 'billed_line', 'true_up', 'usage_hour', 'revenue_day', 'external_cost', 'workload_version',
                 'archived_month', 'statement', 'definition'];

CREATE OR REPLACE FUNCTION ledger.partitioned_tables() RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN array_remove(array_remove(array_remove(array_remove(ledger.event_tables(), 'workload_version'), 'archived_month'), 'statement'), 'definition');

CREATE INDEX ON ledger.definition USING brin (xid) WITH (pages_per_range = 16);
CREATE TRIGGER stamp BEFORE INSERT ON ledger.definition FOR EACH ROW EXECUTE FUNCTION ledger.stamp();
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON ledger.definition FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();
DO $$ BEGIN PERFORM ledger.guard_truncate('definition'); END $$;
