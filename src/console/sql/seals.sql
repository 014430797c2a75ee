-- The last seals: each covers every row written since the one before.
SELECT number::text AS seal, sealed_at::text AS sealed_at, rows::text AS rows, encode(root, 'hex') AS root
FROM ledger.seal
ORDER BY number DESC
LIMIT 5
