#!/usr/bin/env bash
# Installs the chart with real Helm into a real API server and tries what it admits, refuses, changes and may do.
#
#   LOWTIDE_TOOLS=DIR tests/admission/run.sh     DIR holds etcd, kube-apiserver, kube-controller-manager, kubectl and helm
#   LOWTIDE=FILE                                 the built lowtide binary: tries release-pods and Postgres over TLS too
#   LOWTIDE_KEEP=1                               keeps logs and data of the control plane
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
. tests/admission/cluster.sh
. tests/admission/expect.sh

trap cluster_stop EXIT
trap 'exit 130' INT TERM
cluster_start || exit 1
export PATH="$LOWTIDE_TOOLS:$PATH"

for part in tests/admission/parts/*.sh; do
  echo "== $(sed -n '2s/^# //p' "$part")"
  . "$part"
done
expect_report
