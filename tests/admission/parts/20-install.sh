# shellcheck shell=bash
# Helm: bad values are refused by name, the chart installs, upgrades, and its optional parts are valid
expect_refused "no cluster name" "at '/cluster/name'" helm template lowtide "$CHART"
expect_refused "unknown value" "additional properties 'replica' not allowed" \
  helm template lowtide "$CHART" --set cluster.name=test,operator.replica=3
expect_refused "too many replicas" "at '/operator/replicas': maximum: got 9, want 5" \
  helm template lowtide "$CHART" --set cluster.name=test,operator.replicas=9
expect_refused "an address that is none" "at '/aws/endpointUrl'" helm template lowtide "$CHART" --set cluster.name=test,aws.endpointUrl=localhost
expect_refused "an operator without a ledger" "ledger.secretName is needed" helm template lowtide "$CHART" --set "cluster.name=test,$IMAGE"
expect_refused "an operator without an image" "image.repository is needed" helm template lowtide "$CHART" --set cluster.name=test,ledger.secretName=ledger
expect_refused "an image of nobody's" 'image.repository is "lowtide/lowtide", expected a name with its registry' \
  helm template lowtide "$CHART" --set cluster.name=test,ledger.secretName=ledger,image.repository=lowtide/lowtide
expect_refused "an old cluster" "Kubernetes v1.34.2 has no MutatingAdmissionPolicy v1" \
  helm template lowtide "$CHART" --set "cluster.name=test,ledger.secretName=ledger,$IMAGE" --kube-version 1.34.2
expect_refused "an old cluster without the mutating policy" "the validating policy is verified on Kubernetes 1.36 and later, this is v1.34.2" \
  helm template lowtide "$CHART" --set "cluster.name=test,ledger.secretName=ledger,$IMAGE,admission.mutating.enabled=false" --kube-version 1.34.2
expect_ok "an old cluster without policies" helm template lowtide "$CHART" --kube-version 1.34.2 \
  --set "cluster.name=test,ledger.secretName=ledger,$IMAGE,admission.mutating.enabled=false,admission.validating.enabled=false"
expect_ok "lint" helm lint "$CHART" --set "cluster.name=test,ledger.secretName=ledger,$IMAGE" --kube-version 1.36.0

expect_ok "install" helm install lowtide "$CHART" -n "$NAMESPACE" --create-namespace \
  --set cluster.name=test,hooks.enabled=false,operator.enabled=false
expect_ok "upgrade with the operator" helm upgrade lowtide "$CHART" -n "$NAMESPACE" \
  --set "cluster.name=test,$IMAGE,ledger.secretName=ledger,ledger.tls.ca.secretName=rds-ca,aws.credentialsSecretName=aws" \
  --set hooks.timeoutSeconds=10,aws.endpointUrl=http://127.0.0.1:4566
expect_refused "a second release" "lowtide is already installed in this cluster, as release lowtide in namespace $NAMESPACE, expected one release per cluster" \
  helm install other "$CHART" -n elsewhere --create-namespace --set cluster.name=other,operator.enabled=false
expect_refused "a second release that takes over the definitions" "lowtide is already installed in this cluster" \
  helm install other "$CHART" -n elsewhere --create-namespace --set cluster.name=other,operator.enabled=false --take-ownership
expect_ok "the same release again" helm upgrade lowtide "$CHART" -n "$NAMESPACE" --reuse-values
expect_equal "operator replicas" 2 "$(kubectl -n "$NAMESPACE" get deployment lowtide-operator -o 'jsonpath={.spec.replicas}')"
for part in release-pods tests/reach; do
  rendered=$(helm template lowtide "$CHART" -n "$NAMESPACE" --set "cluster.name=test,ledger.secretName=ledger,$IMAGE" --show-only "templates/$part.yaml")
  expect_ok "$part is valid" kubectl -n "$NAMESPACE" create --dry-run=server -f - <<<"$rendered"
done

# What the sets of values under ci/ make is valid to the letter.
for values in "$CHART"/ci/*-values.yaml; do
  rendered=$(helm template lowtide "$CHART" -n "$NAMESPACE" --kube-version 1.36.0 --values "$values" --no-hooks)
  expect_ok "$(basename "$values")" kubectl apply --dry-run=server --validate=strict -f - <<<"$rendered"
done

refuses_a_bad_pod() { ! try_as_owner "$(pod probe '{"lowtide.dev/workload":"x"}')"; }
expect "the validating policy acts" eventually 20 refuses_a_bad_pod
changes_a_good_pod() { [ "$(as_owner create --dry-run=server -o "$SHAPE" -f - <<<"$(pod probe '{"lowtide.dev/workload":"batch"}')")" = "$OURS" ]; }
expect "the mutating policy acts" eventually 20 changes_a_good_pod
for policy in annotations marks guard; do
  expect_equal "type checks of the policy $policy" '{}' \
    "$(kubectl get validatingadmissionpolicy "lowtide-$policy" -o 'jsonpath={.status.typeChecking}')"
done
