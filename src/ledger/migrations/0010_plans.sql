-- What people plan: budgets, hours that are planned to cost more, and what was forecast. Written once, like events, but not sealed: they are
-- intentions, and no figure of the ledger rests on them.

-- The last row of a name whose month is not after the one asked for holds; without an amount the budget has ended. A scope of no label is all.
CREATE TABLE ledger.budget (
    n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    entered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    name text NOT NULL, from_month date NOT NULL CHECK (from_month = date_trunc('month', from_month)::date),
    label text CHECK (label IN ('team', 'service', 'environment', 'cost_center', 'product_area', 'component')), value text,
    monthly_usd numeric(24,6) CHECK (monthly_usd >= 0),
    CHECK ((label IS NULL) = (value IS NULL))
);
CREATE INDEX ON ledger.budget (name, from_month);

CREATE TABLE ledger.anomaly_mark (
    n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    entered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    team text, service text, from_at timestamptz NOT NULL, to_at timestamptz NOT NULL CHECK (to_at > from_at),
    mark text NOT NULL CHECK (mark IN ('planned', 'expected', 'wrong')), note text NOT NULL
);

CREATE TABLE ledger.forecast (
    n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    made_at timestamptz NOT NULL DEFAULT clock_timestamp(), month date NOT NULL, scenario text NOT NULL, component text NOT NULL,
    low_usd numeric(24,6) NOT NULL, middle_usd numeric(24,6) NOT NULL, high_usd numeric(24,6) NOT NULL, origins integer NOT NULL
);
CREATE INDEX ON ledger.forecast (month);

DO $$
DECLARE relation text;
BEGIN
    FOREACH relation IN ARRAY ARRAY['budget', 'anomaly_mark', 'forecast'] LOOP
        EXECUTE format('CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON ledger.%I FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change()', relation);
        PERFORM ledger.guard_truncate(relation);
    END LOOP;
END $$;
