-- What the chosen offer was judged by beside its price. Columns that are empty leave hashes as they are (`ledger.canonical_v1`).
--
-- Refused offers are kept by position from here on and not by name (`ledger.candidate` reads both): region, zone, instance type, capacity
-- type, price, price per replica, replicas, age of the price in milliseconds, its source, why not, interruptions per million hours, score.

ALTER TABLE ledger.decision ADD COLUMN interruptions_per_million_hours bigint;
ALTER TABLE ledger.decision ADD COLUMN placement_score bigint;
