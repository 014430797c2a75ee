-- What each invoice charges by the lines of a bill's version, as the invoice says it; of versions that were taken before this nothing is known.
ALTER TABLE ledger.statement ADD COLUMN invoices jsonb;
