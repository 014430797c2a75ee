-- What the chosen offer was judged by beside its price. Columns that are empty leave hashes as they are (`ledger.canonical_v1`).
--
-- Refused offers are kept by position from here on and not by name (`ledger.candidate` reads both): region, zone, instance type, capacity
-- type, price, price per replica, replicas, age of the price in milliseconds, its source, why not, interruptions per million hours, score.

ALTER TABLE ledger.decision ADD COLUMN interruptions_per_million_hours bigint;
ALTER TABLE ledger.decision ADD COLUMN placement_score bigint;

-- The same content and the same hash as `ledger.canonical_v1` gives, with two copies of the row less: empty columns are no content, so the
-- two bookkeeping columns are filled in last.
CREATE OR REPLACE FUNCTION ledger.stamp() RETURNS trigger LANGUAGE plpgsql SET timezone = 'UTC' AS $$
BEGIN
    NEW.posted_at := clock_timestamp();
    NEW.xid := NULL;
    NEW.content_hash := NULL;
    NEW.content_hash := sha256(convert_to('lowtide-ledger-v1 ' || jsonb_strip_nulls(to_jsonb(NEW))::text, 'UTF8'));
    NEW.xid := pg_current_xact_id()::text::bigint;
    RETURN NEW;
END $$;
