# shellcheck shell=bash
# What a stolen token of the operator can do: no more than lowtide
guard="lowtide-guard:"
# kubectl reads before it patches, and lowtide does not. The rights to change a pod's status, to add containers to it and to change a class are
# not its own: the guard must hold without RBAC too.
kubectl create clusterrole more-than-lowtide --verb get,patch,update \
  --resource pods/status,pods/ephemeralcontainers,gpunodepools.lowtide.dev,gpunodeclasses.lowtide.dev,gpunodeclasses.lowtide.dev/status,gpunodeclaims.lowtide.dev,gpunodeclaims.lowtide.dev/status >/dev/null
kubectl create clusterrolebinding more-than-lowtide --clusterrole more-than-lowtide --serviceaccount "$NAMESPACE:lowtide" >/dev/null
node() { # name, labels
  echo "{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"metadata\":{\"name\":\"$1\",\"labels\":{${2:-}}}}"
}
expect_ok "a control-plane node" kubectl create -f - <<<"$(node control-plane '"node-role.kubernetes.io/control-plane":""')"
expect_ok "a machine's node" kubectl create -f - <<<"$(node machine '"lowtide.dev/instance-id":"i-1","lowtide.dev/node-class":"us-east-1"')"
expect_refused "deleting a control-plane node" "$guard lowtide may only change and delete nodes of its own machines" as_operator delete node control-plane
expect_refused "labelling it as a machine" "$guard lowtide may only change and delete nodes" \
  as_operator patch node control-plane --type merge -p '{"metadata":{"labels":{"lowtide.dev/instance-id":"i-1"}}}'
expect_refused "tainting it" "$guard" as_operator patch node control-plane --type merge -p '{"spec":{"taints":[{"key":"a","effect":"NoExecute"}]}}'
expect_ok "marking a machine's node" as_operator patch node machine --type merge -p '{"metadata":{"labels":{"lowtide.node-restriction.kubernetes.io/claim":"c1"}}}'
expect_ok "deleting a machine's node" as_operator delete node machine

system='{"apiVersion":"v1","kind":"Pod","metadata":{"name":"system","namespace":"kube-system"},"spec":{"hostNetwork":true,"containers":[{"name":"c","image":"example/system:1"}]}}'
kubectl -n kube-system get serviceaccount default >/dev/null 2>&1 || eventually 20 kubectl -n kube-system get serviceaccount default
expect_ok "a pod of the system" kubectl create -f - <<<"$system"
expect_refused "changing its image" "$guard lowtide may only change and delete pods that it manages" \
  as_operator -n kube-system patch pod system --type json -p '[{"op":"replace","path":"/spec/containers/0/image","value":"example/evil:1"}]'
expect_refused "calling it managed" "$guard" as_operator -n kube-system label pod system lowtide.dev/managed=true
expect_refused "deleting it" "$guard" as_operator -n kube-system delete pod system --wait=false
expect_refused "its status" "$guard" as_operator -n kube-system patch pod system --subresource status --type merge -p '{"status":{"reason":"x"}}'
evict() { # namespace, pod
  as_operator create --raw "/api/v1/namespaces/$1/pods/$2/eviction" -f - <<<"{\"apiVersion\":\"policy/v1\",\"kind\":\"Eviction\",\"metadata\":{\"name\":\"$2\",\"namespace\":\"$1\"}}"
}
expect_refused "evicting it" "$guard lowtide may not evict anything in this namespace" evict kube-system system
expect_ok "it is still there" kubectl -n kube-system get pod system

lease() { # name
  echo "{\"apiVersion\":\"coordination.k8s.io/v1\",\"kind\":\"Lease\",\"metadata\":{\"name\":\"$1\",\"namespace\":\"kube-system\"}}"
}
expect_refused "another's Lease" "$guard lowtide may make no Lease but its own" as_operator create -f - <<<"$(lease kube-scheduler)"
expect_ok "its own Lease" as_operator create -f - <<<"$(lease lowtide)"

expect_refused "making a pod" "$guard lowtide makes no pods" as_operator create -f - <<<"$(pod made '{"lowtide.dev/workload":"inference"}')"
expect_ok "asking whether one would be admitted" as_operator create --dry-run=server -f - <<<"$(pod asked '{"lowtide.dev/workload":"inference"}')"

expect_ok "a managed pod" as_owner create -f - <<<"$(pod guarded '{"lowtide.dev/workload":"inference"}')"
expect_refused "its image" "$guard lowtide may not change the containers, images, volumes or service account of a pod" \
  as_operator -n work patch pod guarded --type json -p '[{"op":"replace","path":"/spec/containers/0/image","value":"example/evil:1"}]'
debugged() { # namespace, pod: the pod with an ephemeral container more
  kubectl -n "$1" get pod "$2" -o json | sed 's/"spec": {/"spec": {"ephemeralContainers": [{"name": "debug", "image": "example\/debug:1"}],/'
}
expect_refused "an ephemeral container" "$guard" as_operator replace --raw /api/v1/namespaces/work/pods/guarded/ephemeralcontainers -f - <<<"$(debugged work guarded)"
expect_ok "an ephemeral container of its owner" kubectl replace --raw /api/v1/namespaces/work/pods/guarded/ephemeralcontainers -f - <<<"$(debugged work guarded)"
expect_equal "it changes no mark" inference "$(kubectl -n work get pod guarded -o 'jsonpath={.metadata.annotations.lowtide\.dev/workload}')"
expect_ok "its annotations" as_operator -n work annotate pod guarded lowtide.dev/claim=c1
expect_ok "its status" as_operator -n work patch pod guarded --subresource status --type merge -p '{"status":{"reason":"x"}}'
expect_ok "its controller's label" as_operator -n work label pod guarded pod-template-hash-
expect_ok "evicting it" evict work guarded
expect_refused "an unmanaged pod" "$guard lowtide may only change and delete pods that it manages" as_operator -n work delete pod plain --wait=false

expect_ok "a pool and its finalizer" eval 'kubectl apply -f examples/nodepool.yaml >/dev/null && name=$(kubectl get gpunodepools -o "jsonpath={.items[0].metadata.name}") &&
  as_operator patch gpunodepool "$name" --type merge -p "{\"metadata\":{\"finalizers\":[\"lowtide.dev/claims\"]}}" &&
  as_operator patch gpunodepool "$name" --type merge -p "{\"metadata\":{\"finalizers\":null}}"'
pool=$(kubectl get gpunodepools -o 'jsonpath={.items[0].metadata.name}')
expect_refused "a pool's budget" "$guard policy belongs to the platform team" as_operator patch gpunodepool "$pool" --type merge -p '{"spec":{"monthlyBudgetUsd":"999999"}}'
expect_refused "a pool's labels" "$guard policy belongs to the platform team" as_operator label gpunodepool "$pool" a=b
class=$(kubectl get gpunodeclasses -o 'jsonpath={.items[0].metadata.name}')
expect_refused "a class' image" "$guard policy belongs to the platform team" as_operator patch gpunodeclass "$class" --type merge -p '{"spec":{"image":"ami-evil"}}'
expect_ok "a class' status" as_operator patch gpunodeclass "$class" --subresource status --type merge -p '{"status":{"observedGeneration":1}}'
