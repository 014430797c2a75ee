-- What was fetched from where AWS writes it, so that no version is taken twice: objects of a bucket with their ETags, and the statements that came of them.
CREATE TABLE ledger.fetched (
    id uuid NOT NULL PRIMARY KEY, at timestamptz NOT NULL,
    posted_at timestamptz NOT NULL, xid bigint NOT NULL, content_hash bytea NOT NULL,
    -- As s3://bucket/key. `at` is when it was written there.
    url text NOT NULL, etag text NOT NULL,
    -- None where nothing was in it, as in files of hours without machines, or where it said what the version that holds says.
    statements uuid[] NOT NULL, taken_by text NOT NULL
);
CREATE INDEX ON ledger.fetched (url, etag);
COMMENT ON TABLE ledger.fetched IS 'objects that were fetched from a bucket, with the statements that came of them';

-- Seals name tables by their place here: only ever add at the end.
CREATE OR REPLACE FUNCTION ledger.event_tables() RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ARRAY['decision', 'candidate_set', 'interval_opened', 'hour_priced', 'interval_closed', 'occupancy_opened',
                 'occupancy_closed', 'migration', 'interruption', 'price_quote',
                 'checkpoint', 'posting', 'billed_line', 'true_up', 'usage_hour', 'revenue_day', 'external_cost', 'workload_version',
                 'archived_month', 'statement', 'definition', 'retag', 'fetched'];

CREATE OR REPLACE FUNCTION ledger.partitioned_tables() RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (SELECT array_agg(name ORDER BY n) FROM unnest(ledger.event_tables()) WITH ORDINALITY AS t(name, n)
            WHERE name NOT IN ('workload_version', 'archived_month', 'statement', 'definition', 'retag', 'fetched'));

CREATE INDEX ON ledger.fetched USING brin (xid) WITH (pages_per_range = 16);
CREATE TRIGGER stamp BEFORE INSERT ON ledger.fetched FOR EACH ROW EXECUTE FUNCTION ledger.stamp();
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON ledger.fetched FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();
DO $$ BEGIN PERFORM ledger.guard_truncate('fetched'); END $$;
