-- What a bill says is posted month by month: of an hour across midnight of the 1st each month has its own amount, what is billed beside the use in another month
-- is posted there, what a final bill has nothing of has no baselines, and a line longer than an hour confirms its use and no more. Machines on a bill are looked at
-- again; the differences are rows of their own.
INSERT INTO ledger.posting_queue (instance) SELECT DISTINCT instance FROM ledger.billed_line WHERE source = 'bill' AND instance LIKE 'i-%';
