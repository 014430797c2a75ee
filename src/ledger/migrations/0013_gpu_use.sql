-- How hard the GPUs of a pod worked in a clock hour, as Prometheus has it of NVIDIA's DCGM exporter: in milliseconds of one GPU what was held, active, and
-- sampled (how much of what was held there were readings of). The highest revision of an hour holds. What there is no row of was not measured.
CREATE TABLE ledger.gpu_use_hour (
    id uuid NOT NULL, at timestamptz NOT NULL,
    posted_at timestamptz NOT NULL, xid bigint NOT NULL, content_hash bytea NOT NULL,
    claim_uid text NOT NULL, pod_uid text NOT NULL, revision integer NOT NULL,
    allocated_gpu_ms bigint NOT NULL CHECK (allocated_gpu_ms > 0), active_gpu_ms bigint NOT NULL, sampled_gpu_ms bigint NOT NULL,
    -- Of one GPU. Serving engines take all of it, so that it says nothing of use.
    most_memory_mib bigint CHECK (most_memory_mib >= 0),
    -- The exporter's metric that activity rests on; none where nothing was sampled.
    metric text,
    -- The readings are those of a GPU that several pods share.
    shared boolean NOT NULL, source text NOT NULL,
    CHECK (0 <= active_gpu_ms AND active_gpu_ms <= sampled_gpu_ms AND sampled_gpu_ms <= allocated_gpu_ms),
    CHECK ((metric IS NULL) = (sampled_gpu_ms = 0)),
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);
COMMENT ON TABLE ledger.gpu_use_hour IS 'how hard the GPUs of a pod worked in a clock hour, version by version';
CREATE INDEX ON ledger.gpu_use_hour (claim_uid, pod_uid, at);

-- Seals name tables by their place here: only ever add at the end.
CREATE OR REPLACE FUNCTION ledger.event_tables() RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ARRAY['decision', 'candidate_set', 'interval_opened', 'hour_priced', 'interval_closed', 'occupancy_opened',
                 'occupancy_closed', 'migration', 'interruption', 'price_quote',
                 'checkpoint', 'posting', 'billed_line', 'true_up', 'usage_hour', 'revenue_day', 'external_cost', 'workload_version',
                 'archived_month', 'statement', 'definition', 'retag', 'fetched', 'gpu_use_hour'];

CREATE INDEX ON ledger.gpu_use_hour USING brin (xid) WITH (pages_per_range = 16);
CREATE TRIGGER stamp BEFORE INSERT ON ledger.gpu_use_hour FOR EACH ROW EXECUTE FUNCTION ledger.stamp();
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON ledger.gpu_use_hour FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();
CREATE TABLE ledger.gpu_use_hour_default PARTITION OF ledger.gpu_use_hour DEFAULT;
DO $$ BEGIN
    PERFORM ledger.guard_truncate('gpu_use_hour');
    PERFORM ledger.guard_truncate('gpu_use_hour_default');
END $$;
