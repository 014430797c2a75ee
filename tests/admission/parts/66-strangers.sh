# shellcheck shell=bash
# Pods that tolerate everything stay off machines that others pay for; agents run there where the platform team says so
# The label that our nodes register with.
avoid=lowtide.dev/node-class
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

# A DaemonSet is judged by its template. Its controller's pods are let be, but for those that name our taints.
as_daemonset_controller() {
  kubectl --as system:serviceaccount:kube-system:daemon-set-controller --as-group system:serviceaccounts --as-group system:authenticated "$@"
}
daemonset() { # name, namespace, rest of the pod's spec
  echo "{\"apiVersion\":\"apps/v1\",\"kind\":\"DaemonSet\",\"metadata\":{\"name\":\"$1\",\"namespace\":\"$2\"},\"spec\":{\"selector\":{\"matchLabels\":{\"app\":\"$1\"}},
    \"template\":{\"metadata\":{\"labels\":{\"app\":\"$1\"}},\"spec\":$(pod_spec "$3")}}}"
}
template_terms=${required/\{.spec./{.spec.template.spec.}
expect_daemonset() { # what, keys of the terms, who, DaemonSet
  expect_equal "$1" "$2" "$("$3" create --dry-run=server -o "jsonpath=$template_terms" -f - <<<"$4" 2>&1)"
}
claim=',"tolerations":[{"key":"lowtide.dev/claim","operator":"Exists"}]'
agent=$(pod agent null "$(pod_spec "$claim")")
expect_daemonset "an owner's DaemonSet that tolerates everything" "$avoid" as_owner "$(daemonset rider work "$everything")"
expect_daemonset "one with a wish" "disk $avoid" as_owner "$(daemonset rider work "$everything,\"affinity\":{\"nodeAffinity\":{\"requiredDuringSchedulingIgnoredDuringExecution\":{\"nodeSelectorTerms\":[$ssd]}}}")"
expect_daemonset "one that keeps company" "$avoid" as_owner "$(daemonset rider work "$everything,\"affinity\":{\"podAffinity\":{}}")"
expect_daemonset "one in an ignored namespace" "$avoid" as_owner "$(daemonset rider ignored "$everything")"
expect_daemonset "one that tolerates nothing of ours" "" as_owner "$(daemonset plain work ',"tolerations":[{"key":"nvidia.com/gpu","operator":"Exists"}]')"
expect_daemonset "the platform team's" "" as_platform "$(daemonset monitor work "$everything")"
expect_daemonset "one of the system" "" kubectl "$(daemonset monitor kube-system "$everything")"
expect_refused "one with more wishes than are looked through" "would put this DaemonSet on machines that others pay for" as_owner create --dry-run=server -f - \
  <<<"$(daemonset rider work "$everything,\"affinity\":{\"nodeAffinity\":{\"requiredDuringSchedulingIgnoredDuringExecution\":{\"nodeSelectorTerms\":[${many%,}]}}}")"
expect_refused "a DaemonSet that tolerates our taint" "have the platform team add the namespace to admission.agentNamespaces" \
  as_owner create --dry-run=server -f - <<<"$(daemonset rider work "$claim")"
expect_refused "its pods, however it came to be" "have the platform team add the namespace to admission.agentNamespaces" \
  as_daemonset_controller create --dry-run=server -f - <<<"$agent"
expect_ok "the pods of a DaemonSet that tolerates everything" as_daemonset_controller create --dry-run=server -f - <<<"$(pod agent null "$(pod_spec "$everything")")"
expect_ok "a DaemonSet of an owner" as_owner create -f - <<<"$(daemonset later work '')"
expect_ok "one that was made by the platform team" as_platform create -f - <<<"$(daemonset there work "$everything")"
tolerate='{"spec":{"template":{"spec":{"tolerations":[{"operator":"Exists"}]}}}}'
expect_ok "an owner changes both" eval 'as_owner -n work patch daemonset later --type merge -p "$tolerate" && as_owner -n work patch daemonset there --type merge -p "{\"spec\":{\"minReadySeconds\":1}}"'
expect_equal "the one that tolerates everything later is kept off" "$avoid" "$(kubectl -n work get daemonset later -o "jsonpath=$template_terms")"
expect_equal "the one that was there stays as it is" "" "$(kubectl -n work get daemonset there -o "jsonpath=$template_terms")"
expect_refused "that one names our taint too" "would put this DaemonSet on machines" as_owner -n work patch daemonset there --type merge \
  -p '{"spec":{"template":{"spec":{"tolerations":[{"operator":"Exists"},{"key":"lowtide.dev/claim","operator":"Exists"}]}}}}'
expect_ok "both go" kubectl -n work delete daemonset later there --now
expect_ok "agents of this namespace are admitted" helm upgrade lowtide "$CHART" -n "$NAMESPACE" --reuse-values --set 'admission.agentNamespaces={work}'
try_agent() {
  as_daemonset_controller create --dry-run=server -f - <<<"$agent"
}
expect "an admitted agent" eventually 20 try_agent
try_daemonset() { # rest of the pod's spec
  as_owner create --dry-run=server -o "jsonpath=$template_terms" -f - <<<"$(daemonset agent work "$1")" 2>&1
}
expect "an admitted DaemonSet that tolerates our taint" eventually 20 try_daemonset "$claim"
everything_admitted() {
  [ -z "$(try_daemonset "$everything")" ]
}
expect "an admitted DaemonSet that tolerates everything" eventually 20 everything_admitted
expect_refused "an owner who says to be one" "a toleration for lowtide.dev/ is added only by lowtide" try_as_owner "$agent"

# A controller that applies what tenants write may change node pools, as it may change everything.
expect_ok "whoever is named is not the platform team" helm upgrade lowtide "$CHART" -n "$NAMESPACE" --reuse-values --set 'admission.notPlatform={platform}'
kept_off_too() {
  [ "$(as_platform create --dry-run=server -o "jsonpath=$template_terms" -f - <<<"$(daemonset monitor ignored "$everything")" 2>&1)" = "$avoid" ]
}
expect "its DaemonSet that tolerates everything is kept off" eventually 20 kept_off_too
refused_too() {
  as_platform create --dry-run=server -f - <<<"$(pod probe null "$(pod_spec "$claim")")" 2>&1 | grep -q "a toleration for lowtide.dev/ is added only by lowtide"
}
expect "its pod that tolerates a machine is refused" eventually 20 refused_too
expect_ok "it is the platform team again" helm upgrade lowtide "$CHART" -n "$NAMESPACE" --reuse-values --set-json 'admission.notPlatform=[]'
as_before() {
  [ -z "$(as_platform create --dry-run=server -o "jsonpath=$template_terms" -f - <<<"$(daemonset monitor ignored "$everything")" 2>&1)" ]
}
expect "its DaemonSet is let be" eventually 20 as_before
