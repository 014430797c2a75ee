# shellcheck shell=bash
# Before the chart is there: namespaces, a workload owner, and objects with bad annotations
kubectl create namespace work >/dev/null
kubectl create namespace ignored >/dev/null
kubectl label namespace ignored lowtide.dev/ignore= >/dev/null
kubectl create clusterrolebinding owner-edits --clusterrole edit --user owner >/dev/null
for namespace in work ignored; do
  expect "ServiceAccount of namespace $namespace" eventually 20 kubectl -n "$namespace" get serviceaccount default
done

OLD_NOTES='{"lowtide.dev/workload":"inferenze"}'
expect_ok "old pod" kubectl create -f - <<<"$(pod old "$OLD_NOTES")"
expect_ok "old Deployment" kubectl create -f - <<<"$(workload Deployment old "$OLD_NOTES" | sed 's/"replicas":1/"replicas":0/')"
