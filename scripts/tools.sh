#!/usr/bin/env bash
# Builds the real control plane's programs (etcd, Kubernetes, kwok, Helm) from pinned Go modules into a persistent folder, and finds or
# installs a Postgres server. What is already there and current is skipped; concurrent runs wait for each other.
#   scripts/tools.sh             everything
#   scripts/tools.sh --check     says what is missing, builds nothing
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${LOWTIDE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lowtide}
bin=$cache/bin
modules=$here/tests/cluster

# name, module folder, package
tools() {
    cat <<EOF
etcd kubernetes go.etcd.io/etcd/server/v3
kube-apiserver kubernetes k8s.io/kubernetes/cmd/kube-apiserver
kube-controller-manager kubernetes k8s.io/kubernetes/cmd/kube-controller-manager
kube-scheduler kubernetes k8s.io/kubernetes/cmd/kube-scheduler
kubectl kubernetes k8s.io/kubernetes/cmd/kubectl
kwok kwok sigs.k8s.io/kwok/cmd/kwok
helm helm helm.sh/helm/v4/cmd/helm
EOF
}

say() { printf '%s\n' "$*" >&2; }

# The version that a module's go.mod pins, e.g. v1.36.3.
pinned() { awk -v module="$2" '$1 == module { print $2; exit }' "$modules/$1/go.mod"; }

# Without these the Kubernetes programs report v0.0.0, and clients believe them.
linker_flags() {
    case $1 in
        kubernetes)
            local version major minor
            version=$(pinned kubernetes k8s.io/kubernetes)
            IFS=. read -r major minor _ <<<"${version#v}"
            local where=k8s.io/component-base/version
            echo "-s -w -X $where.gitVersion=$version -X $where.gitMajor=$major -X $where.gitMinor=$minor"
            ;;
        *) echo "-s -w" ;;
    esac
}

# What a binary was built from: go.mod, go.sum and the flags.
stamp_of() {
    { cat "$modules/$1/go.mod" "$modules/$1/go.sum"; linker_flags "$1"; } | sha256sum | cut -d' ' -f1
}

current() { [[ -x $bin/$1 && -f $bin/.$1.stamp && $(<"$bin/.$1.stamp") == "$(stamp_of "$2")" ]]; }

# Binaries from before there were stamps are accepted if they report the pinned version.
adopt() {
    local name=$1 module=$2 says wanted
    [[ -x $bin/$name && ! -f $bin/.$name.stamp ]] || return 1
    case $name in
        etcd) says=$("$bin/etcd" --version); wanted=$(pinned kubernetes go.etcd.io/etcd/server/v3); wanted=${wanted#v} ;;
        kubectl) says=$("$bin/kubectl" version --client); wanted=$(pinned kubernetes k8s.io/kubernetes) ;;
        kube-*) says=$("$bin/$name" --version); wanted=$(pinned kubernetes k8s.io/kubernetes) ;;
        kwok) says=$("$bin/kwok" --version); wanted=$(pinned kwok sigs.k8s.io/kwok) ;;
        helm) says=$(go version -m "$bin/helm"); wanted=$(pinned helm helm.sh/helm/v4) ;;
    esac
    [[ $says == *"$wanted"* ]] || return 1
    stamp_of "$module" >"$bin/.$name.stamp"
}

build() {
    local name=$1 module=$2 package=$3 began=$SECONDS
    local fresh=$bin/.$name.$$
    say "  building $name from $package (once; minutes on a small machine) ..."
    (cd "$modules/$module" && CGO_ENABLED=0 GOFLAGS="-mod=readonly -buildvcs=false" \
        go build -trimpath -ldflags "$(linker_flags "$module")" -o "$fresh" "$package") &
    local builder=$!
    while kill -0 "$builder" 2>/dev/null; do
        sleep 1
        (((SECONDS - began) % 15 == 0)) && say "  building $name ... $((SECONDS - began)) s"
    done
    wait "$builder" || { rm -f "$fresh"; say "  $name could not be built; the lines above say why"; exit 1; }
    mv "$fresh" "$bin/$name"
    stamp_of "$module" >"$bin/.$name.stamp"
    say "  $name built in $((SECONDS - began)) s"
}

postgres_there() { compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || { command -v initdb && command -v postgres; } >/dev/null; }

# Debian's package would start a cluster of its own; the lab needs only the programs.
postgres() {
    postgres_there && return
    if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        say "  installing a Postgres server (apt-get install postgresql) ..."
        mkdir -p /etc/postgresql-common
        [[ -e /etc/postgresql-common/createcluster.conf ]] || echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
        apt-get update -qq >&2
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >&2
        postgres_there && return
    fi
    say "no Postgres server found under /usr/lib/postgresql/*/bin or in PATH: install one (Debian: apt-get install postgresql; macOS: brew install postgresql)"
    exit 1
}

# For the test of usage queries against a real Prometheus: Debian's programs, unpacked but not installed. Only that test needs them.
prometheus() {
    [[ -x $bin/prometheus && -x $bin/promtool ]] && return
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || { say "  no Prometheus on this machine: its test is left out"; return; }
    local folder
    folder=$(mktemp -d)
    if (cd "$folder" && apt-get download -qq prometheus 2>/dev/null >&2 && dpkg -x prometheus_*.deb unpacked); then
        mv "$folder"/unpacked/usr/bin/prom{etheus,tool} "$bin/"
    else
        say "  Debian's Prometheus could not be fetched: its test is left out"
    fi
    rm -rf "$folder"
}

# amtool says where the example Alertmanager would send an alert. Only the alert tests need it.
alertmanager() {
    [[ -x $bin/amtool && -x $bin/alertmanager ]] && return
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || { say "  no amtool on this machine: the test of alert routes is left out"; return; }
    local folder
    folder=$(mktemp -d)
    if (cd "$folder" && apt-get download -qq prometheus-alertmanager 2>/dev/null >&2 && dpkg -x prometheus-alertmanager_*.deb unpacked); then
        mv "$folder"/unpacked/usr/bin/amtool "$bin/"
        mv "$folder"/unpacked/usr/bin/prometheus-alertmanager "$bin/alertmanager"
        # Debian's build reads its message templates only from there.
        local templates=/usr/share/prometheus/alertmanager
        [[ -e $templates/default.tmpl ]] || { mkdir -p "$templates" && cp "$folder/unpacked$templates/"*.tmpl "$templates/"; } 2>/dev/null ||
            say "  $templates cannot be written: the test of deliveries is left out"
    else
        say "  Debian's Alertmanager could not be fetched: the test of alert routes is left out"
    fi
    rm -rf "$folder"
}

main() {
    if [[ ${1:-} == --check ]]; then
        local missing=0
        while read -r name module _; do current "$name" "$module" || { echo "missing: $name"; missing=1; }; done < <(tools)
        postgres_there || { echo "missing: a Postgres server"; missing=1; }
        exit "$missing"
    fi
    mkdir -p "$bin"
    exec 9>"$bin/.lock"
    flock -n 9 || { say "  another run is building the tools; waiting for it"; flock 9; }
    while read -r name module package; do
        current "$name" "$module" || adopt "$name" "$module" || {
            command -v go >/dev/null || { say "Go 1.26 or later is needed to build $name: https://go.dev/dl"; exit 1; }
            build "$name" "$module" "$package"
        }
    done < <(tools)
    postgres
    prometheus
    alertmanager
}

main "$@"
