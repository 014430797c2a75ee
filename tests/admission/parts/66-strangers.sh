# shellcheck shell=bash
# Pods that tolerate everything stay off machines that others pay for; agents run there where the platform team says so
avoid=lowtide.node-restriction.kubernetes.io/claim
everything=',"tolerations":[{"operator":"Exists"}]'
required='{.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[*].matchExpressions[*].key}'
expect_terms() { # what, keys of the terms, pod
  expect_equal "$1" "$2" "$(as_owner create --dry-run=server -o "jsonpath=$required" -f - <<<"$3" 2>&1)"
}
terms() { # node selector terms
  pod_spec "$everything,\"affinity\":{\"nodeAffinity\":{\"requiredDuringSchedulingIgnoredDuringExecution\":{\"nodeSelectorTerms\":[$1]}}}"
}
ssd='{"matchExpressions":[{"key":"disk","operator":"In","values":["ssd"]}]}'
named='{"matchFields":[{"key":"metadata.name","operator":"In","values":["n1"]}]}'
expect_terms "a stranger" "$avoid" "$(pod rider null "$(pod_spec "$everything")")"
expect_terms "a stranger that names its effect" "$avoid" "$(pod rider null "$(pod_spec "${everything/\}/,\"effect\":\"NoSchedule\"\}}")")"
expect_terms "a stranger on a node of its choice, which its kubelet refuses" "$avoid" "$(pod rider null "$(pod_spec "$everything,\"nodeName\":\"n1\"")")"
expect_terms "a pod that names its node" "$avoid" "$(pod rider null "$(pod_spec ',"nodeName":"n1"')")"
expect_terms "a pod of ours that names its node" "$avoid" "$(pod rider '{"lowtide.dev/workload":"inference"}' "$(pod_spec ',"nodeName":"n1"')")"
expect_refused "a stranger that says to be of a DaemonSet" "machines that others pay for" try_as_owner "$(pod rider '{"lowtide.dev/workload":"inference"}' \
  "$(pod_spec "$everything")" | sed 's/"metadata":{/"metadata":{"ownerReferences":[{"apiVersion":"apps\/v1","kind":"DaemonSet","name":"x","uid":"u"}],/')"
expect_terms "a stranger with another wish" "disk $avoid" "$(pod rider null "$(terms "$ssd")")"
expect_terms "a stranger with two equal wishes" "disk $avoid disk $avoid" "$(pod rider null "$(terms "$ssd,$ssd")")"
expect_terms "a stranger that names its node by field" "disk $avoid $avoid" "$(pod rider null "$(terms "$ssd,$named")")"
expect_terms "a stranger that keeps company" "$avoid" "$(pod rider null "$(pod_spec "$everything,\"affinity\":{\"podAffinity\":{}}")")"
expect_terms "a stranger that prefers" "$avoid" "$(pod rider null "$(pod_spec "$everything,\"affinity\":{\"nodeAffinity\":{\"preferredDuringSchedulingIgnoredDuringExecution\":[]}}")")"
expect_terms "a stranger that is kept off already" "$avoid" "$(pod rider null "$(terms "{\"matchExpressions\":[{\"key\":\"$avoid\",\"operator\":\"DoesNotExist\"}]}")")"
expect_terms "a stranger in an ignored namespace" "$avoid" "$(pod rider null "$(pod_spec "$everything")" | sed 's/"namespace":"work"/"namespace":"ignored"/')"
expect_terms "a pod that tolerates evictions alone" "" "$(pod patient null "$(pod_spec "${everything/\}/,\"effect\":\"NoExecute\"\}}")")"
expect_terms "a pod that we place" "" "$(pod ours '{"lowtide.dev/workload":"inference"}' "$(pod_spec "$everything")")"
expect_equal "a debugging pod of the platform team" "" \
  "$(as_platform create --dry-run=server -o "jsonpath=$required" -f - <<<"$(pod debugger null "$(pod_spec "$everything,\"nodeName\":\"n1\"")")" 2>&1)"
many=$(printf "$ssd,%.0s" {1..17})
expect_refused "a stranger with more wishes than are looked through" "machines that others pay for" try_as_owner "$(pod rider null "$(terms "${many%,}")")"
everywhere='[{"op":"add","path":"/spec/tolerations/-","value":{"operator":"Exists"}}]'
expect_ok "a pod that waits for others" as_owner create -f - <<<"$(pod later null "$(pod_spec ',"schedulingGates":[{"name":"example.com/wait"}]')")"
expect_refused "a pod that tolerates everything later" "machines that others pay for" as_owner -n work patch pod later --type json -p "$everywhere"
expect_ok "a pod that tolerates something later" as_owner -n work patch pod later --type json -p "${everywhere/\{\"operator/{\"key\":\"example.com/x\",\"operator}"
expect_ok "that pod goes" as_owner -n work delete pod later --now

# DaemonSets run everywhere by design, as their controller makes them.
as_daemonset_controller() {
  kubectl --as system:serviceaccount:kube-system:daemon-set-controller --as-group system:serviceaccounts --as-group system:authenticated "$@"
}
agent=$(pod agent null "$(pod_spec ',"tolerations":[{"key":"lowtide.dev/claim","operator":"Exists"}]')")
expect_refused "an agent that nobody admitted" "have the platform team add the namespace to admission.agentNamespaces" \
  as_daemonset_controller create --dry-run=server -f - <<<"$agent"
expect_ok "an agent that tolerates everything" as_daemonset_controller create --dry-run=server -f - <<<"$(pod agent null "$(pod_spec "$everything")")"
expect_ok "agents of this namespace are admitted" helm upgrade lowtide "$CHART" -n "$NAMESPACE" --reuse-values --set 'admission.agentNamespaces={work}'
try_agent() {
  as_daemonset_controller create --dry-run=server -f - <<<"$agent"
}
expect "an admitted agent" eventually 20 try_agent
expect_refused "an owner who says to be one" "a toleration for lowtide.dev/ is added only by lowtide" try_as_owner "$agent"
