#!/usr/bin/env bash
# Checks the ledger's queries against a freshly migrated Postgres and renews .sqlx; `scripts/sqlx.sh --check` only says whether it is up to
# date.
#
# The schema is created by psql, not by lowtide: lowtide itself does not compile while .sqlx is behind.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

programs=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1 || true)
[[ -n $programs ]] || programs=$(dirname "$(command -v initdb || { echo 'sqlx.sh: no Postgres server found: make tools installs it on Debian' >&2; exit 1; })")
dir=$(mktemp -d)
chmod 755 "$dir"
as=()
if ((EUID == 0)); then
    chown postgres "$dir"
    as=(runuser -u postgres --)
fi
server=
trap '[[ -z $server ]] || { "${as[@]}" "$programs/pg_ctl" stop -D "$dir/data" -m immediate >/dev/null 2>&1 || true; }; rm -rf "$dir"' EXIT
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
# The folder belongs to the server's user, which must not need access to this one.
(cd "$dir" && "${as[@]}" "$programs/initdb" -D "$dir/data" -U postgres --auth=trust >/dev/null)
(cd "$dir" && "${as[@]}" "$programs/pg_ctl" start -w -D "$dir/data" -l "$dir/log" \
    -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off -c timezone=UTC" >/dev/null)
server=started
url="postgres://postgres@127.0.0.1:$port/postgres?sslmode=disable"
# The order of the views is that of src/ledger/migrate.rs.
mapfile -t views < <(grep -o 'views/[a-z_]*\.sql' src/ledger/migrate.rs | sed 's,^,src/ledger/,')
for file in src/ledger/migrations/*.sql "${views[@]}"; do
    "$programs/psql" -X -q -v ON_ERROR_STOP=1 -d "$url" -f "$file" >/dev/null 2>"$dir/said" || { cat "$dir/said" >&2; exit 1; }
done

mkdir "$dir/found"
# The macros query the database when they are expanded again. All queries are in the ledger: AWS and Kubernetes need not be compiled.
touch src/lib.rs
SQLX_OFFLINE=false SQLX_OFFLINE_DIR="$dir/found" DATABASE_URL="$url" cargo check --quiet --lib --no-default-features --features ledger
if diff -r "$dir/found" .sqlx >/dev/null; then
    echo ".sqlx is up to date: $(find .sqlx -name '*.json' | wc -l) queries."
elif [[ ${1:-} == --check ]]; then
    echo '.sqlx is behind the queries or the schema: run make sqlx, and commit .sqlx.' >&2
    diff -rq "$dir/found" .sqlx >&2 || true
    exit 1
else
    rm -rf .sqlx
    cp -r "$dir/found" .sqlx
    echo ".sqlx renewed: $(find .sqlx -name '*.json' | wc -l) queries."
fi
