# shellcheck shell=bash
# What lowtide writes on a pod is not for its owner to write, change or take away, in ignored namespaces neither
kubectl create clusterrolebinding platform --clusterrole admin --user platform >/dev/null
bound='{"lowtide.dev/workload":"inference"}'
expect_ok "a pod to bind" as_owner create -f - <<<"$(pod marked "$bound")"
expect_ok "the operator binds it" as_operator -n work patch pod marked --type merge \
  -p '{"metadata":{"annotations":{"lowtide.dev/claim":"c1","lowtide.dev/decision":"d1","lowtide.dev/attempt":"1","lowtide.dev/baseline":"{}"}}}'
for key in claim decision attempt baseline; do
  expect_refused "an owner takes $key away" "lowtide.dev/$key was written by lowtide, leave it as it is" as_owner -n work annotate pod marked "lowtide.dev/$key-"
  expect_refused "an owner changes $key" "lowtide.dev/$key is written only by lowtide" as_owner -n work annotate --overwrite pod marked "lowtide.dev/$key=7"
done
for key in replaces let-go workload-ref; do
  expect_refused "an owner forges $key" "lowtide.dev/$key is written only by lowtide" as_owner -n work annotate pod marked "lowtide.dev/$key={}"
done
expect_refused "an owner takes the workload from a bound pod" "lowtide.dev/workload cannot change while the pod has a machine" \
  as_owner -n work annotate pod marked lowtide.dev/workload-
expect_refused "an owner makes batch of it" "lowtide.dev/workload cannot change while the pod has a machine" \
  as_owner -n work annotate --overwrite pod marked lowtide.dev/workload=batch
expect_refused "an owner takes the label away" "the label lowtide.dev/managed was set at admission" as_owner -n work label pod marked lowtide.dev/managed-
expect_refused "an owner changes the label" "the label lowtide.dev/managed was set at admission" as_owner -n work label --overwrite pod marked lowtide.dev/managed=no
expect_refused "an owner lifts the gate" "the gate lowtide.dev/placement is lifted by lowtide" \
  as_owner -n work patch pod marked --type json -p '[{"op":"remove","path":"/spec/schedulingGates/0"}]'
pin=lowtide.node-restriction.kubernetes.io/claim
expect_refused "an owner pins a waiting pod" "$pin is reserved for lowtide: a pod cannot choose its machine" \
  as_owner -n work patch pod marked --type merge -p "{\"spec\":{\"nodeSelector\":{\"$pin\":\"c2\"}}}"
tolerate='[{"op":"add","path":"/spec/tolerations/-","value":{"key":"lowtide.dev/claim","operator":"Equal","value":"c2","effect":"NoSchedule"}}]'
expect_refused "an owner tolerates another's machine" "a toleration for lowtide.dev/ is added only by lowtide" \
  as_owner -n work patch pod marked --type json -p "$tolerate"
expect_ok "an owner tolerates something else" as_owner -n work patch pod marked --type json -p "${tolerate/lowtide.dev/example.com}"
expect_ok "an owner labels a bound pod" as_owner -n work label pod marked team=blue
expect_ok "the operator tolerates for it" as_operator -n work patch pod marked --type json -p "$tolerate"
expect_refused "a pod made unmanaged gets the label later" "is set at admission and cannot be added later" eval \
  'as_owner create -f - <<<"$(pod plain null "$(pod_spec)")" >/dev/null && as_owner -n work label pod plain lowtide.dev/managed=true'

# On the way in.
expect_refused "a new pod with the label and without our annotation" "the label lowtide.dev/managed is for pods with the annotation lowtide.dev/workload" \
  try_as_owner "$(pod probe null "$(pod_spec)" | sed 's/"metadata":{"name"/"metadata":{"labels":{"lowtide.dev\/managed":"true"},"name"/')"
for key in claim attempt replaces; do
  expect_refused "a new pod with $key" "lowtide.dev/$key is written only by lowtide" try_as_owner "$(pod probe "{\"lowtide.dev/$key\":\"7\"}")"
done
expect_refused "a new pod with a pin" "a pod cannot choose its machine" try_as_owner "$(pod probe null "$(pod_spec ",\"nodeSelector\":{\"$pin\":\"c1\"}")")"
affinity() { # operator, values
  pod_spec ",\"affinity\":{\"nodeAffinity\":{\"requiredDuringSchedulingIgnoredDuringExecution\":{\"nodeSelectorTerms\":[{\"matchExpressions\":[{\"key\":\"$pin\",\"operator\":\"$1\"$2}]}]}}}"
}
expect_refused "a new pod with affinity for a machine" "a pod cannot choose its machine" try_as_owner "$(pod probe null "$(affinity In ',"values":["c1"]')")"
expect_refused "a new pod with affinity for any machine" "a pod cannot choose its machine" try_as_owner "$(pod probe null "$(affinity Exists '')")"
expect_ok "a new pod that keeps off machines" try_as_owner "$(pod probe null "$(affinity DoesNotExist '')")"
expect_refused "a new pod that tolerates a machine" "a toleration for lowtide.dev/ is added only by lowtide" \
  try_as_owner "$(pod probe null "$(pod_spec ',"tolerations":[{"key":"lowtide.dev/claim","operator":"Exists"}]')")"

# Where the other policies do not look.
in_ignored() { sed 's/"namespace":"work"/"namespace":"ignored"/'; }
forged='{"lowtide.dev/workload":"inference","lowtide.dev/attempt":"7"}'
expect_refused "a forged mark in an ignored namespace" "lowtide.dev/attempt is written only by lowtide" try_as_owner "$(pod probe "$forged" | in_ignored)"
labelled() { pod probe "$bound" "${1:-$(pod_spec)}" | sed 's/"metadata":{"name"/"metadata":{"labels":{"lowtide.dev\/managed":"true"},"name"/' | in_ignored; }
expect_refused "a pod in an ignored namespace that calls itself managed" "lowtide leaves its pods alone" try_as_owner "$(labelled)"
expect_refused "a pod in an ignored namespace behind our gate" "lowtide leaves its pods alone" \
  try_as_owner "$(pod probe null "$(pod_spec ',"schedulingGates":[{"name":"lowtide.dev/placement"}]')" | in_ignored)"
expect_ok "an ordinary pod in an ignored namespace" try_as_owner "$(pod probe null | in_ignored)"

# The status is a way to annotations too: owners have no right to it, kubelets do.
forge='{"metadata":{"annotations":{"lowtide.dev/claim":"c9"}}}'
expect_refused "an owner's mark through the status" "forbidden" as_owner -n work patch pod marked --subresource status --type merge -p "$forge"
kubectl create clusterrole writes-status --verb patch,get --resource pods/status >/dev/null
kubectl create clusterrolebinding writes-status --clusterrole writes-status --user kubelet-like >/dev/null
expect_refused "a node's mark through the status" "lowtide.dev/claim is written only by lowtide" \
  kubectl --as kubelet-like -n work patch pod marked --subresource status --type merge -p "$forge"
expect_ok "a node's status" kubectl --as kubelet-like -n work patch pod marked --subresource status --type merge -p '{"status":{"reason":"x"}}'
expect_equal "the claim is as it was" c1 "$(kubectl -n work get pod marked -o 'jsonpath={.metadata.annotations.lowtide\.dev/claim}')"

# The platform team may: without an operator it lifts gates, and it repairs what is wrong.
expect_ok "the platform team takes a mark away" as_platform -n work annotate pod marked lowtide.dev/baseline-
expect_ok "the platform team lifts the gate" as_platform -n work patch pod marked --type json -p '[{"op":"remove","path":"/spec/schedulingGates/0"}]'
