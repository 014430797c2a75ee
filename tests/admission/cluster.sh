# Starts a private control plane on loopback for the tests next to this file; sourced, not run.
#
# Needs the binaries etcd, kube-apiserver, kube-controller-manager, kubectl and helm in $LOWTIDE_TOOLS.
# Gives: KUBECONFIG (users admin and owner, who has no right yet), and the functions `cluster_start` and `cluster_stop`. Every process is
# ended by its own id.

LOWTIDE_TOOLS=${LOWTIDE_TOOLS:-$HOME/.cache/lowtide/bin}
CLUSTER_DIR=
CLUSTER_PIDS=()

cluster_need_tools() {
  local tool missing=()
  for tool in etcd kube-apiserver kube-controller-manager kubectl helm; do
    [ -x "$LOWTIDE_TOOLS/$tool" ] || missing+=("$tool")
  done
  if ! command -v openssl >/dev/null; then
    echo "openssl is missing: install it (Debian: apt-get install openssl)." >&2
    return 1
  fi
  if [ ${#missing[@]} -gt 0 ]; then
    echo "missing in $LOWTIDE_TOOLS: ${missing[*]}. Build them from tests/cluster (go build of the tools), or set LOWTIDE_TOOLS." >&2
    return 1
  fi
}

# Four ports nobody listens on.
cluster_free_ports() {
  local port found=()
  while [ ${#found[@]} -lt 4 ]; do
    port=$((20000 + RANDOM % 12000))
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && [[ " ${found[*]} " != *" $port "* ]]; then
      found+=("$port")
    fi
  done
  echo "${found[@]}"
}

cluster_wait() { # what, seconds, command...
  local what=$1 limit=$2 begun=$SECONDS
  shift 2
  until "$@" >/dev/null 2>&1; do
    if [ $((SECONDS - begun)) -ge "$limit" ]; then
      echo "$what did not answer within $limit s; logs: $CLUSTER_DIR/*.log" >&2
      return 1
    fi
    sleep 0.2
  done
}

cluster_start() {
  cluster_need_tools || return 1
  CLUSTER_DIR=$(mktemp -d "${TMPDIR:-/tmp}/lowtide-admission.XXXXXX")
  local etcd_port peer_port api_port kcm_port
  read -r etcd_port peer_port api_port kcm_port < <(cluster_free_ports)
  openssl genrsa -out "$CLUSTER_DIR/sa.key" 2048 2>/dev/null || return 1
  printf '%s\n' 'test-admin-token,admin,admin,system:masters' 'test-owner-token,owner,owner' >"$CLUSTER_DIR/tokens.csv"

  "$LOWTIDE_TOOLS/etcd" --data-dir "$CLUSTER_DIR/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls "http://127.0.0.1:$etcd_port" --advertise-client-urls "http://127.0.0.1:$etcd_port" \
    --listen-peer-urls "http://127.0.0.1:$peer_port" --initial-advertise-peer-urls "http://127.0.0.1:$peer_port" \
    --initial-cluster "default=http://127.0.0.1:$peer_port" >"$CLUSTER_DIR/etcd.log" 2>&1 &
  CLUSTER_PIDS+=($!)

  "$LOWTIDE_TOOLS/kube-apiserver" --etcd-servers "http://127.0.0.1:$etcd_port" --secure-port "$api_port" --bind-address 127.0.0.1 \
    --cert-dir "$CLUSTER_DIR/certs" --token-auth-file "$CLUSTER_DIR/tokens.csv" --authorization-mode Node,RBAC \
    --enable-admission-plugins NodeRestriction --service-account-issuer https://kubernetes.default.svc \
    --service-account-key-file "$CLUSTER_DIR/sa.key" --service-account-signing-key-file "$CLUSTER_DIR/sa.key" \
    --service-cluster-ip-range 10.96.0.0/16 >"$CLUSTER_DIR/kube-apiserver.log" 2>&1 &
  CLUSTER_PIDS+=($!)

  export KUBECONFIG=$CLUSTER_DIR/kubeconfig
  cat >"$KUBECONFIG" <<YAML
apiVersion: v1
kind: Config
current-context: test
clusters: [{name: test, cluster: {server: "https://127.0.0.1:$api_port", insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: test-admin-token}}, {name: owner, user: {token: test-owner-token}}]
contexts: [{name: test, context: {cluster: test, user: admin}}]
YAML
  cluster_wait "kube-apiserver" 60 "$LOWTIDE_TOOLS/kubectl" get --raw /readyz || return 1

  "$LOWTIDE_TOOLS/kube-controller-manager" --kubeconfig "$KUBECONFIG" --secure-port "$kcm_port" --bind-address 127.0.0.1 \
    --cert-dir "$CLUSTER_DIR/certs" --service-account-private-key-file "$CLUSTER_DIR/sa.key" --leader-elect=false \
    --use-service-account-credentials --controllers '*,-node-ipam-controller,-cloud-node-lifecycle-controller' \
    >"$CLUSTER_DIR/kube-controller-manager.log" 2>&1 &
  CLUSTER_PIDS+=($!)
  cluster_wait "the ServiceAccount controller" 60 "$LOWTIDE_TOOLS/kubectl" -n default get serviceaccount default
}

cluster_stop() {
  local index
  for ((index = ${#CLUSTER_PIDS[@]} - 1; index >= 0; index--)); do
    kill "${CLUSTER_PIDS[index]}" 2>/dev/null && wait "${CLUSTER_PIDS[index]}" 2>/dev/null
  done
  CLUSTER_PIDS=()
  if [ -n "$CLUSTER_DIR" ] && [ -z "${LOWTIDE_KEEP:-}" ]; then
    rm -rf "$CLUSTER_DIR"
  fi
}
