-- The model that a vendor's bill names: what it was billed is then no share of its endpoint's cost. A column that is empty leaves hashes as they are.
ALTER TABLE ledger.external_cost ADD COLUMN model text;
