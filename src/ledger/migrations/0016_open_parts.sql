-- The part of an instance-hour that a bill does not cover rests on what was computed, no longer on the bill: what was posted for machines on a bill is looked at
-- again. Costs stay as they are; the difference is in `bill_usd` of the rows that are added, and in the comparisons with the bill.
INSERT INTO ledger.posting_queue (claim_uid) SELECT DISTINCT claim_uid FROM ledger.true_up WHERE source = 'bill';
