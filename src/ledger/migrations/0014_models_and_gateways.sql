-- The model that a vendor's bill names: what it was billed is then no share of its endpoint's cost. A column that is empty leaves hashes as they are.
ALTER TABLE ledger.external_cost ADD COLUMN model text;

-- Gateways that were tagged as a machine's were kept and not posted. From here on they are: those machines are news.
INSERT INTO ledger.posting_queue (instance) SELECT DISTINCT instance FROM ledger.billed_line WHERE kind = 'nat' AND instance LIKE 'i-%';
