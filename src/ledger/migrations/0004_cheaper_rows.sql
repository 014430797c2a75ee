-- Writing a decision takes little more than half the time it took: refused offers are text that nobody parses on the way in, content is hashed without
-- making JSON of it, and one row queues all claims of a statement.

-- A refused offer is a line; its values stand between commas, in this order (an empty one is unknown): region, zone, instance type,
-- capacity type, price, price per replica, replicas, age of the price in milliseconds, its source, why not, interruptions per million hours,
-- score. Sets written before this stay in `candidates`; `ledger.candidate` reads both.
ALTER TABLE ledger.candidate_set ADD COLUMN offers text;
ALTER TABLE ledger.candidate_set ALTER COLUMN candidates DROP NOT NULL;

ALTER TABLE ledger.posting_queue ADD COLUMN claims text[];

CREATE OR REPLACE FUNCTION ledger.queue_bought() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO ledger.posting_queue (claims)
    SELECT array_agg(DISTINCT claim) FROM added WHERE outcome = 'launch' AND claim IS NOT NULL HAVING count(*) > 0;
    RETURN NULL;
END $$;

-- Canonical content, version 2: the row as Postgres writes a composite value, with times in UTC, without the bookkeeping columns
-- `content_hash` and `xid`, and without the empty columns at its end (so that a column added later leaves old hashes as they are). What
-- is in a column stands in quotes where it could be taken for the end: nothing else is cut off.
CREATE FUNCTION ledger.canonical_v2(content text) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN 'lowtide-ledger-v2 '::bytea || rtrim(convert_to(content, 'UTF8'), ',)'::bytea);

-- A row in the form its hash is made of, whatever the session's settings.
CREATE FUNCTION ledger.plain_text(content anyelement) RETURNS text LANGUAGE plpgsql STABLE
    SET timezone = 'UTC' SET datestyle = 'ISO' SET bytea_output = 'hex' AS $$
BEGIN
    RETURN content::text;
END $$;

-- Settings of a function are put in place and taken back for every row: only sessions that need it pay for that.
CREATE OR REPLACE FUNCTION ledger.stamp() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE content text;
BEGIN
    NEW.posted_at := clock_timestamp();
    NEW.xid := NULL;
    NEW.content_hash := NULL;
    IF current_setting('timezone') = 'UTC' AND current_setting('datestyle') LIKE 'ISO%' AND current_setting('bytea_output') = 'hex' THEN
        content := NEW::text;
    ELSE
        content := ledger.plain_text(NEW);
    END IF;
    NEW.content_hash := sha256(ledger.canonical_v2(content));
    NEW.xid := pg_current_xact_id()::text::bigint;
    RETURN NEW;
END $$;
