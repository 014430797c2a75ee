# shellcheck shell=bash
# What the pre-delete hook runs, with the chart's ServiceAccount and nothing else: every gate is lifted (needs LOWTIDE, the built binary)
if [ -z "${LOWTIDE:-}" ]; then
  echo "   left out: LOWTIDE is not set"
else
  token=$(kubectl create token lowtide -n "$NAMESPACE")
  sed "s/token: test-admin-token/token: $token/" "$KUBECONFIG" >"$CLUSTER_DIR/operator-kubeconfig"
  gates() { kubectl get pods -A -o 'jsonpath={.items[*].spec.schedulingGates[*].name}'; }
  expect "pods wait behind our gate" eval '[[ "$(gates)" == *lowtide.dev/placement* ]]'
  expect_ok "dry run" env KUBECONFIG="$CLUSTER_DIR/operator-kubeconfig" "$LOWTIDE" release-pods --dry-run
  expect "a dry run lifts nothing" eval '[[ "$(gates)" == *lowtide.dev/placement* ]]'
  expect_ok "release" env KUBECONFIG="$CLUSTER_DIR/operator-kubeconfig" "$LOWTIDE" release-pods
  expect_equal "gates left" "" "$(gates)"
fi
