# shellcheck shell=bash
# Annotated pods get label, gate and toleration, whoever makes them; nothing is doubled, nobody else is touched
notes='{"lowtide.dev/workload":"inference"}'
gate='{"name":"lowtide.dev/placement"}'
expect_shape "bare pod" "$OURS" "$(pod probe "$notes")"
expect_shape "foreign gate" "true|example.com/quota lowtide.dev/placement|NoSchedule" \
  "$(pod probe "$notes" "$(pod_spec ',"schedulingGates":[{"name":"example.com/quota"}]')")"
expect_shape "own gate already there" "$OURS" "$(pod probe "$notes" "$(pod_spec ",\"schedulingGates\":[$gate]")")"
expect_shape "GPUs already tolerated" "$OURS" \
  "$(pod probe "$notes" "$(pod_spec ',"tolerations":[{"key":"nvidia.com/gpu","operator":"Exists","effect":"NoSchedule"}]')")"
expect_shape "everything tolerated" "true|lowtide.dev/placement|" \
  "$(pod probe "$notes" "$(pod_spec ',"tolerations":[{"operator":"Exists"}]')")"
expect_shape "another value of the taint tolerated" "true|lowtide.dev/placement|NoSchedule NoSchedule" \
  "$(pod probe "$notes" "$(pod_spec ',"tolerations":[{"key":"nvidia.com/gpu","operator":"Equal","value":"a","effect":"NoSchedule"}]')")"
expect_shape "not annotated" "||" "$(pod probe null)"
expect_shape "already on a node" "||" "$(pod probe "$notes" "$(pod_spec ',"nodeName":"n1"')")"
expect_shape "ignored namespace" "||" "$(pod probe "$notes" | sed 's/"namespace":"work"/"namespace":"ignored"/')"

first_pod() { # label selector
  kubectl -n work get pods -l "$1" -o 'jsonpath={.items[0].metadata.name}'
}
for kind in Deployment StatefulSet Job; do
  manifest=$(workload "$kind" "made-by-${kind,,}" "$notes" | sed "s/\"app\":\"a\"/\"app\":\"${kind,,}\"/g; s/inference/batch/")
  expect_ok "$kind is created" as_owner create -f - <<<"$manifest"
  expect "$kind makes a pod" eventually 20 first_pod "app=${kind,,}"
  expect_equal "pod of a $kind" "$OURS" "$(kubectl -n work get pod "$(first_pod "app=${kind,,}")" -o "$SHAPE")"
done

# Another policy changes the pod afterwards and so brings ours in again.
kubectl create -f - >/dev/null <<'YAML'
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: zz-later}
spec:
  failurePolicy: Fail
  reinvocationPolicy: Never
  matchConstraints:
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]
  mutations:
    - patchType: ApplyConfiguration
      applyConfiguration: {expression: 'Object{metadata: Object.metadata{labels: {"later": "true"}}}'}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: zz-later}
spec: {policyName: zz-later}
YAML
later_acts() { as_owner create --dry-run=server -o 'jsonpath={.metadata.labels.later}' -f - <<<"$(pod probe "$notes")" | grep -q true; }
expect "the later policy acts" eventually 20 later_acts
expect_shape "after another policy" "$OURS" "$(pod probe "$notes")"
kubectl delete mutatingadmissionpolicybinding/zz-later mutatingadmissionpolicy/zz-later >/dev/null
