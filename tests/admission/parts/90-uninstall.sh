# shellcheck shell=bash
# Uninstalling takes the policies away and leaves definitions, claims and decisions
expect_ok "uninstall" helm uninstall lowtide -n "$NAMESPACE"
admits_anything() { try_as_owner "$(pod probe '{"lowtide.dev/workload":"x"}')"; }
expect "nothing is refused any more" eventually 20 admits_anything
expect_ok "the claim is still there" kubectl get gpunodeclaim probe
expect_ok "the decision is still there" kubectl get gpudecision probe
expect_ok "install again" helm install lowtide "$CHART" -n "$NAMESPACE" --set cluster.name=test,hooks.enabled=false,operator.enabled=false
expect_ok "uninstall again" helm uninstall lowtide -n "$NAMESPACE"
