# shellcheck shell=bash
# Templates of Deployment, StatefulSet, Job and CronJob are checked where they are written
for kind in Deployment StatefulSet Job CronJob; do
  expect_ok "$kind with good annotations" try_as_owner "$(workload "$kind" probe '{"lowtide.dev/workload":"batch","lowtide.dev/deadline":"26h"}')"
  expect_ok "$kind without annotations" try_as_owner "$(workload "$kind" probe null)"
  expect_refused "$kind with a bad value" 'lowtide.dev/gpu-memory is "20GB"' \
    try_as_owner "$(workload "$kind" probe '{"lowtide.dev/workload":"batch","lowtide.dev/gpu-memory":"20GB"}')"
  expect_refused "$kind without a GPU limit" "no container has a limit nvidia.com/gpu" \
    try_as_owner "$(workload "$kind" probe '{"lowtide.dev/workload":"batch"}' | sed 's/,"resources":{"limits":{"nvidia.com\/gpu":1}}//')"
  expect_refused "$kind that claims a machine" "lowtide.dev/claim is written only by lowtide" \
    try_as_owner "$(workload "$kind" probe '{"lowtide.dev/workload":"batch","lowtide.dev/claim":"c"}')"
done
expect_ok "an ignored namespace" kubectl --user owner -n ignored create --dry-run=server -f - \
  <<<"$(pod probe '{"lowtide.dev/workload":"x"}' | sed 's/"namespace":"work"/"namespace":"ignored"/')"

for file in nodeclasses nodepool inference batch; do
  expect_ok "examples/$file.yaml" kubectl apply -f "examples/$file.yaml"
done
expect_refused "examples/bad-annotation.yaml" 'lowtide.dev/gpu-memory is "20GB"' kubectl apply -f examples/bad-annotation.yaml
gated_replicas() {
  local shapes
  shapes=$(kubectl -n gpu-work get pods -l app=chat -o 'jsonpath={range .items[*]}{.spec.schedulingGates[*].name}{"\n"}{end}')
  [ "$shapes" = $'lowtide.dev/placement\nlowtide.dev/placement\nlowtide.dev/placement' ]
}
expect "three gated replicas of the example" eventually 20 gated_replicas
