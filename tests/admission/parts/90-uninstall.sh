# shellcheck shell=bash
# Uninstalling never hangs, takes every policy away, and lifts the gates with an identity that is there only for that
HOOK=system:serviceaccount:$NAMESPACE:lowtide-release-pods
policies() { kubectl get mutatingadmissionpolicies,validatingadmissionpolicies,mutatingadmissionpolicybindings,validatingadmissionpolicybindings -o name | grep -c lowtide || true; }
left_of_the_hook() { kubectl -n "$NAMESPACE" get serviceaccount/lowtide-release-pods clusterrole/lowtide-release-pods clusterrolebinding/lowtide-release-pods job/lowtide-release-pods --ignore-not-found -o name; }
gates() { kubectl get pods -A -o 'jsonpath={.items[*].spec.schedulingGates[*].name}'; }
# `lowtide release-pods` with the hook's own token; without the binary, what it sends in the hook's name.
lift_as_hook() {
  local namespace name
  if [ -n "${LOWTIDE:-}" ]; then
    sed "s/token: test-admin-token/token: $(kubectl create token lowtide-release-pods -n "$NAMESPACE")/" "$KUBECONFIG" >"$CLUSTER_DIR/hook-kubeconfig"
    KUBECONFIG="$CLUSTER_DIR/hook-kubeconfig" "$LOWTIDE" release-pods >"$CLUSTER_DIR/farewell" 2>&1
    return
  fi
  while read -r namespace name; do
    kubectl --as "$HOOK" --as-group system:serviceaccounts -n "$namespace" patch pod "$name" --type strategic \
      -p '{"spec":{"schedulingGates":[{"$patch":"delete","name":"lowtide.dev/placement"}]}}' >/dev/null
  done < <(kubectl --as "$HOOK" --as-group system:serviceaccounts get pods -A \
    -o 'jsonpath={range .items[?(@.spec.schedulingGates)]}{.metadata.namespace} {.metadata.name}{"\n"}{end}')
}
# The hook's pod, played: nothing schedules or runs it here.
play_the_hook() {
  local pod=
  until [ -n "$pod" ]; do
    pod=$(kubectl -n "$NAMESPACE" get pods -l app.kubernetes.io/component=release-pods -o 'jsonpath={.items[*].metadata.name}' 2>/dev/null)
    sleep 0.2
  done
  policies >"$CLUSTER_DIR/policies-at-hook"
  lift_as_hook
  kubectl -n "$NAMESPACE" patch pod "$pod" --subresource status --type merge -p '{"status":{"phase":"Succeeded"}}' >/dev/null
}

expect_ok "a pod that waits" as_owner create -f - <<<"$(pod waiting '{"lowtide.dev/workload":"inference"}')"
expect "it is gated" eval '[[ "$(gates)" == *lowtide.dev/placement* ]]'
kubectl create clusterrole reads-pods --verb get --resource pods >/dev/null
# kubectl reads before it patches, and lowtide does not.
kubectl create clusterrolebinding reads-pods --clusterrole reads-pods --serviceaccount "$NAMESPACE:lowtide-release-pods" >/dev/null
play_the_hook &
player=$!
expect_ok "uninstall" helm uninstall lowtide -n "$NAMESPACE"
wait "$player"
expect_equal "policies when the gates are lifted" 0 "$(cat "$CLUSTER_DIR/policies-at-hook")"
if [ -n "${LOWTIDE:-}" ]; then
  expect "the hook may list the machines that still run: $(cat "$CLUSTER_DIR/farewell")" grep -Eq "machines? .*still runs?" "$CLUSTER_DIR/farewell"
fi
expect_equal "policies left" 0 "$(policies)"
expect_equal "gates left" "" "$(gates)"
expect_equal "left of the hook" "" "$(left_of_the_hook)"
admits_anything() { try_as_owner "$(pod probe '{"lowtide.dev/workload":"x"}')"; }
expect "nothing is refused any more" eventually 20 admits_anything
expect_ok "the claim is still there" kubectl get gpunodeclaim probe
expect_ok "the decision is still there" kubectl get gpudecision probe

# Without a node for the hook: bounded, said, and nothing of ours is left but the pods that wait.
expect_ok "install again" helm install lowtide "$CHART" -n "$NAMESPACE" --set "cluster.name=test,operator.enabled=false,hooks.timeoutSeconds=10,$IMAGE"
gates_again() { as_owner create --dry-run=server -o "$SHAPE" -f - <<<"$(pod probe '{"lowtide.dev/workload":"batch"}')" | grep -q placement; }
expect "it gates again" eventually 20 gates_again
expect_ok "another pod that waits" as_owner create -f - <<<"$(pod waiting-still '{"lowtide.dev/workload":"inference"}')"
began=$SECONDS
expect_refused "uninstall without a node" "lowtide-release-pods" helm uninstall lowtide -n "$NAMESPACE"
expect "it took $((SECONDS - began)) s, at most 40" [ $((SECONDS - began)) -le 40 ]
expect_equal "policies left without a node" 0 "$(policies)"
expect_equal "left of the hook without a node" "" "$(left_of_the_hook)"
expect_refused "the release is gone" "not found" helm status lowtide -n "$NAMESPACE"
expect_ok "install once more" helm install lowtide "$CHART" -n "$NAMESPACE" --set cluster.name=test,operator.enabled=false
expect_ok "uninstall once more" helm uninstall lowtide -n "$NAMESPACE"
