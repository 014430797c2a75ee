# shellcheck shell=bash
# The operator may do what it does, and nothing else
may() { # verb, resource, more flags
  kubectl auth can-i --as "$OPERATOR" --as-group system:serviceaccounts "$@" -q 2>/dev/null
}
while read -r verdict verbs resource flags; do
  for verb in ${verbs//,/ }; do
    # shellcheck disable=SC2086
    if [ "$verdict" = may ]; then
      expect "the operator may $verb $resource $flags" may "$verb" "$resource" $flags
    else
      expect "the operator may not $verb $resource $flags" eval '! may "$verb" "$resource" $flags'
    fi
  done
done <<'TABLE'
may get,list,watch pods -A
may patch,delete pods -A
may create pods --subresource=eviction -A
may create pods -A
may get,list,watch,patch,delete nodes
may list,watch namespaces
may list,watch replicasets.apps -A
may list,watch deployments.apps -A
may list,watch endpointslices.discovery.k8s.io -A
may create events.events.k8s.io -A
may list,watch,patch gpunodepools.lowtide.dev
may list,watch gpunodeclasses.lowtide.dev
may patch gpunodepools.lowtide.dev --subresource=status
may patch gpunodeclasses.lowtide.dev --subresource=status
may create,patch,delete,list,watch gpunodeclaims.lowtide.dev
may patch gpunodeclaims.lowtide.dev --subresource=status
may create,get,list,delete gpudecisions.lowtide.dev
may create leases.coordination.k8s.io -n kube-system
may get,update leases.coordination.k8s.io/lowtide -n kube-system
not get,update leases.coordination.k8s.io/kube-scheduler -n kube-system
not list,watch,patch,delete leases.coordination.k8s.io -n kube-system
may create leases.coordination.k8s.io -n lowtide-system
may get,update leases.coordination.k8s.io/lowtide -n lowtide-system
not get,update leases.coordination.k8s.io/another -n lowtide-system
not create,get,update leases.coordination.k8s.io -n work
not update pods -A
not update,patch pods --subresource=status -A
not update,patch pods --subresource=ephemeralcontainers -A
not update,patch pods --subresource=resize -A
not patch gpunodeclasses.lowtide.dev
not get,update gpunodeclaims.lowtide.dev
not update,patch gpudecisions.lowtide.dev
not get,list jobs.batch -A
not create,patch events -A
not create pods --subresource=binding -A
not create pods --subresource=exec -A
not create,update nodes
not get,list secrets -A
not get,list secrets -n lowtide-system
not get,list configmaps -A
not update,patch,delete deployments.apps -A
not update,patch,delete jobs.batch -A
not create,delete gpunodepools.lowtide.dev
not create,delete gpunodeclasses.lowtide.dev
not get,update leases.coordination.k8s.io -n kube-system
not patch,delete mutatingadmissionpolicies.admissionregistration.k8s.io
not create,patch clusterroles.rbac.authorization.k8s.io
not impersonate users
TABLE
