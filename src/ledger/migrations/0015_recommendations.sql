-- Recommendations that were kept, to be scored two weeks later against what happened. Sealed as all events are: a prediction that could be changed afterwards
-- would prove nothing.
CREATE TABLE ledger.recommendation (
    id uuid NOT NULL PRIMARY KEY, at timestamptz NOT NULL,
    posted_at timestamptz NOT NULL, xid bigint NOT NULL, content_hash bytea NOT NULL,
    workload_namespace text NOT NULL, workload_name text NOT NULL, team text,
    what text NOT NULL CHECK (what IN ('fewer-replicas', 'sharing', 'smaller-gpu', 'batch')),
    -- In words, as in "at most 4 replicas instead of 10".
    change text NOT NULL,
    -- The days whose use it rests on.
    measured_from timestamptz NOT NULL, measured_to timestamptz NOT NULL CHECK (measured_to > measured_from),
    -- GPU time of these days, and what it would have been, in milliseconds of one GPU.
    gpu_ms bigint NOT NULL CHECK (gpu_ms > 0), gpu_ms_after bigint NOT NULL CHECK (gpu_ms_after >= 0),
    -- The instance types that have the smaller GPU.
    types text[],
    predicted_usd_per_month numeric(24,6) NOT NULL,
    -- Where prices come from.
    basis text NOT NULL, assumes text NOT NULL, evidence jsonb NOT NULL, taken_by text NOT NULL,
    CHECK ((types IS NULL) = (what <> 'smaller-gpu'))
);
COMMENT ON TABLE ledger.recommendation IS 'recommendations that were kept, with what they rest on and what they predict';
CREATE INDEX ON ledger.recommendation (workload_namespace, workload_name, at);

-- Seals name tables by their place here: only ever add at the end.
CREATE OR REPLACE FUNCTION ledger.event_tables() RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ARRAY['decision', 'candidate_set', 'interval_opened', 'hour_priced', 'interval_closed', 'occupancy_opened',
                 'occupancy_closed', 'migration', 'interruption', 'price_quote',
                 'checkpoint', 'posting', 'billed_line', 'true_up', 'usage_hour', 'revenue_day', 'external_cost', 'workload_version',
                 'archived_month', 'statement', 'definition', 'retag', 'fetched', 'gpu_use_hour', 'recommendation'];

CREATE OR REPLACE FUNCTION ledger.partitioned_tables() RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (SELECT array_agg(name ORDER BY n) FROM unnest(ledger.event_tables()) WITH ORDINALITY AS t(name, n)
            WHERE name NOT IN ('workload_version', 'archived_month', 'statement', 'definition', 'retag', 'fetched', 'recommendation'));

CREATE INDEX ON ledger.recommendation USING brin (xid) WITH (pages_per_range = 16);
CREATE TRIGGER stamp BEFORE INSERT ON ledger.recommendation FOR EACH ROW EXECUTE FUNCTION ledger.stamp();
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON ledger.recommendation FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();
DO $$ BEGIN PERFORM ledger.guard_truncate('recommendation'); END $$;
