-- The rows under a seal. `lowtide ledger verify` finds them apart from this.

-- The rows written by transactions from `from_xid` up to but without `to_xid`, as leaves: one byte of table, sixteen of id, thirty-two of
-- content hash, in that order.
DROP FUNCTION IF EXISTS ledger.leaves_between(bigint, bigint);
CREATE FUNCTION ledger.leaves_between(from_xid bigint, to_xid bigint) RETURNS bytea LANGUAGE plpgsql STABLE SET search_path = pg_catalog AS $$
DECLARE relation text; place integer := 0; leaves bytea := ''; found bytea;
BEGIN
    FOREACH relation IN ARRAY ledger.event_tables() LOOP
        EXECUTE format('SELECT string_agg($3 || uuid_send(id) || content_hash, ''''::bytea ORDER BY id, content_hash) FROM ledger.%I WHERE xid >= $1 AND xid < $2', relation)
            INTO found USING from_xid, to_xid, set_byte('\x00'::bytea, 0, place);
        leaves := leaves || coalesce(found, '');
        place := place + 1;
    END LOOP;
    RETURN leaves;
END $$;

-- Roots are made by lowtide: from SQL they took longer than reading the rows.
DROP FUNCTION IF EXISTS ledger.merkle_root(bytea[]);

-- Whether a row is what its hash says, by either form of canonical content: `ledger.intact(row)` for a row of every table of events.
-- Sessions that ask must have their times in UTC.
DO $$
DECLARE relation text; fields text;
BEGIN
    FOREACH relation IN ARRAY ledger.event_tables() LOOP
        SELECT string_agg(CASE WHEN attname IN ('xid', 'content_hash') THEN 'NULL' ELSE format('r.%I', attname) END, ', ' ORDER BY attnum) INTO fields
        FROM pg_attribute WHERE attrelid = format('ledger.%I', relation)::regclass AND attnum > 0 AND NOT attisdropped;
        EXECUTE format('CREATE OR REPLACE FUNCTION ledger.intact(r ledger.%I) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS $body$
            SELECT coalesce(r.content_hash = sha256(ledger.canonical_v2(ROW(%s)::text))
                            OR r.content_hash = sha256(convert_to(ledger.canonical_v1(to_jsonb(r)), ''UTF8'')), false)
            $body$', relation, fields);
    END LOOP;
END $$;
