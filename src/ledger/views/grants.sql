-- Roles and what they may do: run again by every `lowtide ledger migrate`, harmless each time.
DO $$
DECLARE role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['lowtide_writer', 'lowtide_reader', 'lowtide_sealer'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL; -- another migrate was faster; roles belong to the whole server
            END;
        END IF;
    END LOOP;
END $$;

REVOKE ALL ON ALL TABLES IN SCHEMA ledger FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA ledger FROM PUBLIC;
GRANT USAGE ON SCHEMA ledger TO lowtide_writer, lowtide_reader, lowtide_sealer;
-- Writes go through the parents; nobody but the owner may name a partition.
GRANT INSERT ON ledger.decision, ledger.candidate_set, ledger.interval_opened, ledger.hour_priced, ledger.interval_closed,
    ledger.occupancy_opened, ledger.occupancy_closed, ledger.migration, ledger.interruption, ledger.price_quote, ledger.checkpoint,
    ledger.posting, ledger.true_up, ledger.workload_version, ledger.billed_line, ledger.usage_hour, ledger.revenue_day, ledger.external_cost,
    ledger.statement, ledger.retag, ledger.fetched, ledger.gpu_use_hour, ledger.recommendation TO lowtide_writer;
-- Posting reads the facts it posts from, and of decisions no more than whose work they were about.
GRANT SELECT ON ledger.interval_opened, ledger.hour_priced, ledger.interval_closed, ledger.occupancy_opened, ledger.occupancy_closed, ledger.migration,
    ledger.checkpoint, ledger.posting, ledger.true_up, ledger.workload_version, ledger.billed_line, ledger.usage_hour, ledger.revenue_day,
    ledger.external_cost, ledger.archived_month, ledger.statement, ledger.retag, ledger.fetched, ledger.gpu_use_hour, ledger.recommendation TO lowtide_writer;
GRANT SELECT (id, at, posted_at, claim, workload_kind, workload_namespace, workload_name, team, service, environment, cost_center, product_area, component)
    ON ledger.decision TO lowtide_writer;
GRANT SELECT, DELETE ON ledger.posting_queue TO lowtide_writer;
GRANT SELECT, INSERT, UPDATE ON ledger.posted_machine TO lowtide_writer;
GRANT SELECT ON ledger.rollup_queue TO lowtide_writer;
GRANT EXECUTE ON FUNCTION ledger.ensure_month(date), ledger.canonical_v2(text), ledger.plain_text(anyelement), ledger.ms(timestamptz), ledger.utc_day(timestamptz),
    ledger.rebuild_rollups(integer), ledger.queue_instances(text[]), ledger.is_use(text) TO lowtide_writer;
GRANT SELECT ON ALL TABLES IN SCHEMA ledger TO lowtide_reader, lowtide_sealer;
-- Plans are people's: those who import may enter them.
GRANT INSERT, SELECT ON ledger.budget, ledger.anomaly_mark, ledger.forecast TO lowtide_writer;
-- Readers may run everything that only reads. Functions that act with the owner's rights are those that writers, partitions and triggers need.
DO $$
DECLARE name text;
BEGIN
    FOR name IN SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = 'ledger'::regnamespace AND NOT p.prosecdef AND p.provolatile <> 'v' LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO lowtide_reader, lowtide_sealer', name);
    END LOOP;
END $$;
GRANT INSERT ON ledger.seal TO lowtide_sealer;
-- The views' plans are wide and their inputs small: compiling them takes seconds, running them milliseconds. Needs the database's owner.
DO $$
BEGIN
    EXECUTE format('ALTER DATABASE %I SET jit = off', current_database());
    -- Sums are grouped in memory, and a long queue of sums to rebuild is still hashed.
    EXECUTE format('ALTER DATABASE %I SET work_mem = ''32MB''', current_database());
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'could not set jit = off and work_mem = 32MB for this database: set them in sessions that read the ledger''s views';
END $$;

-- Refused offers are most of what is written, and lz4 packs them in less time. A server that was built without it keeps its own.
DO $$
BEGIN
    EXECUTE format('ALTER DATABASE %I SET default_toast_compression = lz4', current_database());
EXCEPTION WHEN insufficient_privilege OR invalid_parameter_value OR feature_not_supported THEN
    NULL;
END $$;
