# shellcheck shell=bash
# Objects with an old bad value stay changeable; good ones cannot become bad; the operator pins and lifts in one patch
expect_ok "old pod is relabelled" as_owner -n work label pod old touched=yes
expect_ok "old pod gets a finalizer" kubectl -n work patch pod old --type merge -p '{"metadata":{"finalizers":["example.com/hold"]}}'
expect_ok "old pod loses it" kubectl -n work patch pod old --type merge -p '{"metadata":{"finalizers":[]}}'
expect_ok "old Deployment is scaled" as_owner -n work patch deployment old --type merge -p '{"spec":{"replicas":0,"paused":true}}'
expect_refused "another bad value" 'lowtide.dev/workload is "x"' as_owner -n work annotate --overwrite pod old lowtide.dev/workload=x
expect_ok "the bad value is mended" as_owner -n work annotate --overwrite pod old lowtide.dev/workload=batch
expect_ok "old pod is deleted" as_owner -n work delete pod old --wait=false

expect_ok "new pod" as_owner create -f - <<<"$(pod new '{"lowtide.dev/workload":"inference"}')"
expect_refused "a good pod becomes bad" 'lowtide.dev/standby is "many"' as_owner -n work annotate pod new lowtide.dev/standby=many
expect_refused "an owner claims a machine" "lowtide.dev/claim is written only by lowtide" \
  as_owner -n work annotate pod new lowtide.dev/claim=mine
expect_refused "a Deployment loses its GPUs" "no container has a limit nvidia.com/gpu" as_owner -n work patch deployment made-by-deployment \
  --type json -p '[{"op":"remove","path":"/spec/template/spec/containers/0/resources/limits"}]'

expect_ok "the operator binds" as_operator -n work patch pod new --type merge -p '{"metadata":{"annotations":{"lowtide.dev/claim":"c1","lowtide.dev/attempt":"1"}}}'
expect_ok "an owner relabels a bound pod" as_owner -n work label pod new touched=yes
expect_refused "an owner moves a bound pod" "lowtide.dev/claim is written only by lowtide" \
  as_owner -n work annotate --overwrite pod new lowtide.dev/claim=c2
pin='{"spec":{"nodeSelector":{"lowtide.node-restriction.kubernetes.io/claim":"c1"},"schedulingGates":[{"$patch":"delete","name":"lowtide.dev/placement"}]}}'
expect_ok "the operator pins and lifts" as_operator -n work patch pod new --type strategic -p "$pin"
expect_equal "the gate is gone" "true||NoSchedule" "$(kubectl -n work get pod new -o "$SHAPE")"
expect_ok "lifting twice is harmless" as_operator -n work patch pod new --type strategic -p "$pin"
