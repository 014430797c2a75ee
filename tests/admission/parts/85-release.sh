# shellcheck shell=bash
# `lowtide release-pods`, as whoever runs it without the hook: every gate is lifted (needs LOWTIDE, the built binary)
if [ -z "${LOWTIDE:-}" ]; then
  echo "   left out: LOWTIDE is not set"
else
  gates() { kubectl get pods -A -o 'jsonpath={.items[*].spec.schedulingGates[*].name}'; }
  expect "pods wait behind our gate" eval '[[ "$(gates)" == *lowtide.dev/placement* ]]'
  expect_ok "dry run" "$LOWTIDE" release-pods --dry-run
  expect "a dry run lifts nothing" eval '[[ "$(gates)" == *lowtide.dev/placement* ]]'
  expect_ok "release" "$LOWTIDE" release-pods
  expect_equal "gates left" "" "$(gates)"
fi
