#!/usr/bin/env bash
# Tests the chart without a cluster: its suites (helm-unittest), and that values, schema and README agree. tests/admission installs it.
#
#   tests/chart/run.sh           all of it
#   tests/chart/run.sh --docs    writes README's table of values again
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
chart=$here/../../charts/lowtide
bin=${LOWTIDE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lowtide}/bin

if [[ ${1:-} == --docs ]]; then
    exec python3 "$here/values.py" "$chart" --write
fi

stamp=$(cat "$here"/unittest/go.* | sha256sum | cut -d' ' -f1)
if [[ ! -x $bin/helm-unittest || ! -f $bin/.helm-unittest.stamp || $(<"$bin/.helm-unittest.stamp") != "$stamp" ]]; then
    echo "building helm-unittest (once; a minute and a half of one core) ..."
    mkdir -p "$bin"
    (cd "$here/unittest" && CGO_ENABLED=0 GOFLAGS="-mod=readonly -buildvcs=false" \
        go build -trimpath -ldflags "-s -w" -o "$bin/helm-unittest" github.com/helm-unittest/helm-unittest/cmd/helm-unittest)
    echo "$stamp" >"$bin/.helm-unittest.stamp"
fi
faults=0
python3 "$here/values.py" "$chart" || faults=1
# Paths of suites are relative to the chart.
"$bin/helm-unittest" -f '../../tests/chart/*_test.yaml' "$chart" || faults=1
exit "$faults"
