-- Why a person retracted a version.
ALTER TABLE ledger.statement ADD COLUMN reason text;
