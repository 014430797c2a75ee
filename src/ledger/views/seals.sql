-- Rows under a seal and their Merkle tree, computed where the rows are: a hundred thousand rows need not travel to be hashed.
-- `lowtide ledger verify` computes the same apart from this, from the rows it reads.

-- The rows written by transactions from `from_xid` up to but without `to_xid`, as leaves: one byte of table, sixteen of id, thirty-two of
-- content hash, in that order.
CREATE OR REPLACE FUNCTION ledger.leaves_between(from_xid bigint, to_xid bigint) RETURNS bytea[] LANGUAGE plpgsql STABLE SET search_path = pg_catalog AS $$
DECLARE relation text; place integer := 0; leaves bytea[] := '{}'; found bytea[];
BEGIN
    FOREACH relation IN ARRAY ledger.event_tables() LOOP
        EXECUTE format('SELECT array_agg($3 || uuid_send(id) || content_hash ORDER BY id, content_hash) FROM ledger.%I WHERE xid >= $1 AND xid < $2', relation)
            INTO found USING from_xid, to_xid, set_byte('\x00'::bytea, 0, place);
        leaves := leaves || coalesce(found, '{}');
        place := place + 1;
    END LOOP;
    RETURN leaves;
END $$;

-- RFC 6962's tree: leaves and nodes are hashed with different prefixes; an odd node moves up as it is.
CREATE OR REPLACE FUNCTION ledger.merkle_root(leaves bytea[]) RETURNS bytea LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog AS $$
DECLARE level bytea[];
BEGIN
    SELECT array_agg(sha256('\x00'::bytea || leaf) ORDER BY n) INTO level FROM unnest(leaves) WITH ORDINALITY AS u(leaf, n);
    WHILE cardinality(level) > 1 LOOP
        SELECT array_agg(CASE WHEN next IS NULL THEN node ELSE sha256('\x01'::bytea || node || next) END ORDER BY n) INTO level
        FROM (SELECT node, n, lead(node) OVER (ORDER BY n) AS next FROM unnest(level) WITH ORDINALITY AS u(node, n)) AS pairs WHERE n % 2 = 1;
    END LOOP;
    RETURN coalesce(level[1], sha256(''::bytea));
END $$;

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
