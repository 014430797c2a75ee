# shellcheck shell=bash
# Helm: bad values are refused by name, the chart installs, upgrades, and its optional parts are valid
expect_refused "no cluster name" "at '/cluster/name'" helm template lowtide "$CHART"
expect_refused "unknown value" "additional properties 'replica' not allowed" \
  helm template lowtide "$CHART" --set cluster.name=test,operator.replica=3
expect_refused "too many replicas" "at '/operator/replicas': maximum: got 9, want 5" \
  helm template lowtide "$CHART" --set cluster.name=test,operator.replicas=9
expect_refused "a region that is none" "at '/aws/regions/0'" helm template lowtide "$CHART" --set 'cluster.name=test,aws.regions={us-east}'
expect_ok "lint" helm lint "$CHART" --set cluster.name=test

expect_ok "install" helm install lowtide "$CHART" -n "$NAMESPACE" --create-namespace \
  --set cluster.name=test,hooks.enabled=false,operator.enabled=false
expect_ok "upgrade with the operator" helm upgrade lowtide "$CHART" -n "$NAMESPACE" \
  --set cluster.name=test,hooks.enabled=false,networkPolicy.enabled=true,ledger.secretName=ledger,aws.credentialsSecretName=aws \
  --set 'aws.regions={us-east-1,eu-west-2},aws.endpointUrl=http://127.0.0.1:4566'
expect_equal "operator replicas" 2 "$(kubectl -n "$NAMESPACE" get deployment lowtide-operator -o 'jsonpath={.spec.replicas}')"
for part in release-pods tests/reach; do
  rendered=$(helm template lowtide "$CHART" -n "$NAMESPACE" --set cluster.name=test --show-only "templates/$part.yaml")
  expect_ok "$part is valid" kubectl -n "$NAMESPACE" create --dry-run=server -f - <<<"$rendered"
done

refuses_a_bad_pod() { ! try_as_owner "$(pod probe '{"lowtide.dev/workload":"x"}')"; }
expect "the validating policy acts" eventually 20 refuses_a_bad_pod
changes_a_good_pod() { [ "$(as_owner create --dry-run=server -o "$SHAPE" -f - <<<"$(pod probe '{"lowtide.dev/workload":"batch"}')")" = "$OURS" ]; }
expect "the mutating policy acts" eventually 20 changes_a_good_pod
expect_equal "type checks of the policy" '{}' \
  "$(kubectl get validatingadmissionpolicy lowtide-annotations -o 'jsonpath={.status.typeChecking}')"
