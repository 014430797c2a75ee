# shellcheck shell=bash
# Postgres' certificate is verified, by what the chart sets and the program does with it (needs LOWTIDE, the built binary)
if [ -z "${LOWTIDE:-}" ]; then
  echo "   left out: LOWTIDE is not set"
else
  pg=$CLUSTER_DIR/postgres
  mkdir -p "$pg" && chmod 711 "$CLUSTER_DIR"
  programs=$(dirname "$(compgen -G '/usr/lib/postgresql/*/bin/initdb' | sort -V | tail -1 || command -v initdb)")
  as_postgres() { if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }
  # In the place of the shell that starts it: the process that is ended is the server itself.
  serve_as_postgres() { if [ "$(id -u)" = 0 ]; then exec setpriv --reuid postgres --regid postgres --init-groups "$@"; else exec "$@"; fi; }
  # An authority, and a certificate of it for localhost; an authority of somebody else.
  for who in ca other; do
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=$who" -keyout "$pg/$who.key" -out "$pg/$who.crt" 2>/dev/null
  done
  openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout "$pg/server.key" -out "$pg/server.csr" 2>/dev/null
  openssl x509 -req -in "$pg/server.csr" -CA "$pg/ca.crt" -CAkey "$pg/ca.key" -CAcreateserial -days 2 -out "$pg/server.crt" \
    -extfile <(echo 'subjectAltName=DNS:localhost') 2>/dev/null
  chmod 600 "$pg/server.key"
  [ "$(id -u)" = 0 ] && chown -R postgres "$pg"
  read -r port plain _ < <(cluster_free_ports)
  as_postgres "$programs/initdb" -D "$pg/data" -U owner --auth trust >"$CLUSTER_DIR/initdb.log" 2>&1
  serve_as_postgres "$programs/postgres" -D "$pg/data" -p "$port" -h localhost -k "$pg" -F -c ssl=on -c "ssl_cert_file=$pg/server.crt" \
    -c "ssl_key_file=$pg/server.key" >"$CLUSTER_DIR/postgres.log" 2>&1 &
  CLUSTER_PIDS+=($!)
  expect "Postgres answers" eventually 20 as_postgres "$programs/pg_isready" -h localhost -p "$port" -q

  # What the chart puts into the operator's environment.
  env_of() { # more values
    helm template lowtide "$CHART" --set "cluster.name=test,ledger.secretName=ledger,$IMAGE" "$@" --show-only templates/deployment.yaml |
      kubectl create --dry-run=client -f - -o 'jsonpath={range .spec.template.spec.containers[0].env[?(@.value)]}{.name}={.value}{"\n"}{end}' | grep '^PGSSL'
  }
  migrate() { # host, file of the authority or nothing, more values
    local host=$1 authority=$2 settings
    shift 2
    settings=$(env_of "$@" | sed "s|/etc/lowtide/postgres-ca/ca.crt|$authority|")
    # shellcheck disable=SC2086
    timeout 60 env $settings "$LOWTIDE" ledger migrate --database-url "postgres://owner@$host:$port/postgres"
  }
  ca=(--set ledger.tls.ca.secretName=rds-ca)
  expect_refused "an authority that the system does not know" "ertificate" migrate localhost ""
  expect_refused "another's authority" "ertificate" migrate localhost "$pg/other.crt" "${ca[@]}"
  expect_refused "another name than the certificate's" "ertificate" migrate 127.0.0.1 "$pg/ca.crt" "${ca[@]}"
  expect_ok "its own authority" migrate localhost "$pg/ca.crt" "${ca[@]}"

  # Somebody who answers in Postgres' place, and says that he has no TLS.
  as_postgres "$programs/initdb" -D "$pg/plain" -U owner --auth trust >>"$CLUSTER_DIR/initdb.log" 2>&1
  serve_as_postgres "$programs/postgres" -D "$pg/plain" -p "$plain" -h localhost -k "$pg" -F -c ssl=off >"$CLUSTER_DIR/postgres-plain.log" 2>&1 &
  CLUSTER_PIDS+=($!)
  expect "the other Postgres answers" eventually 20 as_postgres "$programs/pg_isready" -h localhost -p "$plain" -q
  port=$plain
  expect_refused "a server without TLS" "TLS" migrate localhost "$pg/ca.crt" "${ca[@]}"
  expect_ok "a server without TLS behind a proxy" migrate localhost "" --set ledger.tls.mode=disable
fi
