{{/* What the policy on owners' marks looks at and says; why, in admission-marks.yaml. */}}
{{- define "lowtide.marksSpec" -}}
{{- $username := include "lowtide.username" . }}
{{- $pin := "lowtide.node-restriction.kubernetes.io/claim" }}
# Whatever admission.failurePolicy says of the others: it is evaluated in the API server and asks nobody, so that a failure is somebody's attempt.
failurePolicy: Fail
matchConstraints:
  {{- with include "lowtide.notExempt" . }}
  namespaceSelector:
    matchExpressions:
      {{- . | nindent 6 }}
  {{- end }}
  resourceRules:
    # The status too: through it a kubelet could write annotations.
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [pods, pods/status]}
matchConditions:
  - name: not-the-operator
    expression: 'request.userInfo.username != "{{ $username }}"'
# Plain values only: an optional kept in a variable would let everything pass.
variables:
  - name: notes
    expression: 'object.metadata.?annotations.orValue({})'
  - name: oldNotes
    expression: 'request.operation == "CREATE" ? {} : oldObject.metadata.?annotations.orValue({})'
  - name: managed
    expression: 'object.metadata.?labels[?"lowtide.dev/managed"].orValue("")'
  - name: wasManaged
    expression: 'request.operation == "CREATE" ? "" : oldObject.metadata.?labels[?"lowtide.dev/managed"].orValue("")'
  - name: gated
    expression: 'object.spec.?schedulingGates.orValue([]).exists(g, g.name == "lowtide.dev/placement")'
  - name: wasGated
    expression: 'request.operation != "CREATE" && oldObject.spec.?schedulingGates.orValue([]).exists(g, g.name == "lowtide.dev/placement")'
  - name: pin
    expression: 'object.spec.?nodeSelector[?"{{ $pin }}"].orValue("")'
  - name: oldPin
    expression: 'request.operation == "CREATE" ? "" : oldObject.spec.?nodeSelector[?"{{ $pin }}"].orValue("")'
  # Affinity to a machine is also a pin; affinity that avoids all of them is not.
  - name: pinnedByAffinity
    expression: >-
      object.spec.?affinity.?nodeAffinity.?requiredDuringSchedulingIgnoredDuringExecution.?nodeSelectorTerms.orValue([])
      .exists(t, t.?matchExpressions.orValue([]).exists(e, e.key == "{{ $pin }}" && e.operator in ["In", "Exists"]))
  - name: wasPinnedByAffinity
    expression: >-
      request.operation != "CREATE" &&
      oldObject.spec.?affinity.?nodeAffinity.?requiredDuringSchedulingIgnoredDuringExecution.?nodeSelectorTerms.orValue([])
      .exists(t, t.?matchExpressions.orValue([]).exists(e, e.key == "{{ $pin }}" && e.operator in ["In", "Exists"]))
  - name: tolerated
    expression: 'object.spec.?tolerations.orValue([]).filter(t, t.?key.orValue("").startsWith("lowtide.dev/")).size()'
  - name: oldTolerated
    expression: 'request.operation == "CREATE" ? 0 : oldObject.spec.?tolerations.orValue([]).filter(t, t.?key.orValue("").startsWith("lowtide.dev/")).size()'
  - name: ignored
    expression: '{{ .Values.admission.ignoreLabel | toJson }} in namespaceObject.metadata.?labels.orValue({})'
  - name: bound
    expression: '"lowtide.dev/claim" in variables.oldNotes'
  - name: ofDaemonSet
    expression: 'request.userInfo.username == "system:serviceaccount:kube-system:daemon-set-controller"'
  # The device plugin, and agents for logs and metrics, where the platform team says so.
  - name: agent
    expression: 'variables.ofDaemonSet && request.namespace in {{ .Values.admission.agentNamespaces | toJson }}'
  {{- if .Values.admission.mutating.enabled }}
  # A toleration of everything tolerates the taints of our machines too, and a pod that names its node asks no scheduler. The policy -keep-off gives
  # such pods an affinity that avoids them, but for DaemonSets, pods that are static, and pods that our gate holds, which go where lowtide pins them.
  - name: everywhere
    expression: >-
      (request.operation == "CREATE" && object.spec.?nodeName.orValue("") != "") || {{ include "lowtide.toleratesEverything" "object" }}
  - name: wasEverywhere
    expression: >-
      request.operation != "CREATE" && {{ include "lowtide.toleratesEverything" "oldObject" }}
  - name: keepsOff
    expression: {{ include "lowtide.keepsOff" "object" | toJson }}
  - name: stranger
    expression: >-
      variables.everywhere && !variables.wasEverywhere && !variables.keepsOff && !variables.gated && variables.pin == "" && !variables.ofDaemonSet
      && !("system:nodes" in request.userInfo.?groups.orValue([]))
  {{- else }}
  - {name: stranger, expression: 'false'}
  {{- end }}
  # A new pod's annotations are checked by the other policy, which reports everything that is wrong with them at once (the API server says what one policy says,
  # and which one is chance); it skips ignored namespaces, this one does not.
  - name: errors
    expression: >-
      {{ include "lowtide.operatorKeys" . }}.filter(k, (request.operation != "CREATE" || variables.ignored || {{ not .Values.admission.validating.enabled }}) && ("lowtide.dev/" + k) in variables.notes &&
        variables.oldNotes[?("lowtide.dev/" + k)].orValue("") != variables.notes["lowtide.dev/" + k])
        .map(k, "lowtide.dev/" + k + " is written only by lowtide, remove it")
      + {{ include "lowtide.operatorKeys" . }}.filter(k, ("lowtide.dev/" + k) in variables.oldNotes && !(("lowtide.dev/" + k) in variables.notes))
        .map(k, "lowtide.dev/" + k + " was written by lowtide, leave it as it is")
      + (variables.bound && variables.oldNotes[?"lowtide.dev/workload"].orValue("") != variables.notes[?"lowtide.dev/workload"].orValue("") ?
        ["lowtide.dev/workload cannot change while the pod has a machine: change its template, or delete the pod"] : [])
      + (variables.wasManaged != "" && variables.managed != variables.wasManaged ?
        ["the label lowtide.dev/managed was set at admission, leave it as it is"] : [])
      + (request.operation == "UPDATE" && variables.wasManaged == "" && variables.managed != "" ?
        ["the label lowtide.dev/managed is set at admission and cannot be added later"] : [])
      + (request.operation == "CREATE" && variables.managed != "" && !("lowtide.dev/workload" in variables.notes) ?
        ["the label lowtide.dev/managed is for pods with the annotation lowtide.dev/workload: lowtide holds every pod that carries it, so leave it out"] : [])
      + (request.operation == "CREATE" && variables.ignored && (variables.managed != "" || variables.gated) ?
        ["this namespace is labelled {{ .Values.admission.ignoreLabel }}: lowtide leaves its pods alone, so remove the label lowtide.dev/managed and the gate lowtide.dev/placement"] : [])
      + (variables.wasGated && !variables.gated ?
        ["the gate lowtide.dev/placement is lifted by lowtide when the pod's machine is ready; without lowtide, the platform team runs lowtide release-pods"] : [])
      + (variables.pin != variables.oldPin || (variables.pinnedByAffinity && !variables.wasPinnedByAffinity) ?
        ["{{ $pin }} is reserved for lowtide: a pod cannot choose its machine"] : [])
      + (variables.tolerated > variables.oldTolerated && !variables.agent ?
        ["a toleration for lowtide.dev/ is added only by lowtide, remove it" + (variables.ofDaemonSet ?
          ", or have the platform team add the namespace to admission.agentNamespaces" : "")] : [])
      + (variables.stranger ?
        ["a toleration of everything, or a node named in the pod, would put the pod on machines that others pay for: name the toleration's key, or add a required node affinity with lowtide.dev/node-class DoesNotExist to every term"] : [])
  # Evaluated last, and only if needed: most pods have no mark.
  - name: byPlatform
    expression: {{ include "lowtide.byPlatform" . | toJson }}
validations:
  - expression: variables.errors.size() == 0 || variables.byPlatform
    messageExpression: '"lowtide: " + variables.errors.join("; ")'
    message: "lowtide: only lowtide may change what it writes on a pod"
    reason: Invalid
{{- end }}

{{/* What the policy on the operator's own rights looks at and says; why, in admission-guard.yaml. */}}
{{- define "lowtide.guardSpec" -}}
failurePolicy: Fail
matchConstraints:
  resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [UPDATE, DELETE], resources: [pods, pods/status, pods/ephemeralcontainers, pods/resize, nodes]}
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods, pods/eviction]}
    - {apiGroups: [coordination.k8s.io], apiVersions: ["*"], operations: [CREATE], resources: [leases]}
    - {apiGroups: [lowtide.dev], apiVersions: ["*"], operations: [UPDATE], resources: [gpunodepools, gpunodeclasses]}
matchConditions:
  - name: the-operator
    expression: 'request.userInfo.username == "{{ include "lowtide.username" . }}"'
variables:
  - {name: kind, expression: 'request.resource.resource'}
  # Absent, not empty, if the request is for the object itself.
  - {name: subResource, expression: 'request.?subResource.orValue("")'}
  - name: changesPod
    expression: 'variables.kind == "pods" && variables.subResource in ["", "ephemeralcontainers", "resize"] && request.operation == "UPDATE"'
validations:
  - expression: >-
      variables.kind != "pods" || request.operation == "CREATE" || dyn(oldObject).metadata.?labels[?"lowtide.dev/managed"].orValue("") == "true"
    message: "lowtide-guard: lowtide may only change and delete pods that it manages"
  - expression: >-
      variables.kind != "pods" || variables.subResource != "" || request.operation != "CREATE" || request.?dryRun.orValue(false)
    message: "lowtide-guard: lowtide makes no pods; it may only ask, as a dry run, whether one would be admitted"
  # An eviction does not carry the pod, so namespaces have to do: others' pods on a machine that is going away are evicted too.
  - expression: >-
      variables.subResource != "eviction" || !(request.namespace in {{ .Values.admission.exemptNamespaces | toJson }})
    message: "lowtide-guard: lowtide may not evict anything in this namespace"
  - expression: >-
      !variables.changesPod || (
        dyn(object).spec.containers == dyn(oldObject).spec.containers
        && dyn(object).spec.?initContainers.orValue([]) == dyn(oldObject).spec.?initContainers.orValue([])
        && dyn(object).spec.?ephemeralContainers.orValue([]) == dyn(oldObject).spec.?ephemeralContainers.orValue([])
        && dyn(object).spec.?volumes.orValue([]) == dyn(oldObject).spec.?volumes.orValue([])
        && dyn(object).spec.?serviceAccountName.orValue("") == dyn(oldObject).spec.?serviceAccountName.orValue(""))
    message: "lowtide-guard: lowtide may not change the containers, images, volumes or service account of a pod"
  - expression: >-
      variables.kind != "nodes" || dyn(oldObject).metadata.?labels.orValue({}).exists(k, k in ["lowtide.dev/instance-id", "lowtide.dev/node-class"])
    message: "lowtide-guard: lowtide may only change and delete nodes of its own machines"
  # RBAC cannot limit `create` to a name.
  - expression: >-
      variables.kind != "leases" || dyn(object).metadata.?name.orValue("") == "lowtide"
    message: "lowtide-guard: lowtide may make no Lease but its own"
  - expression: >-
      !(variables.kind in ["gpunodepools", "gpunodeclasses"]) || variables.subResource != "" || (
        dyn(object).spec == dyn(oldObject).spec
        && dyn(object).metadata.?labels.orValue({}) == dyn(oldObject).metadata.?labels.orValue({})
        && dyn(object).metadata.?annotations.orValue({}) == dyn(oldObject).metadata.?annotations.orValue({}))
    message: "lowtide-guard: policy belongs to the platform team, lowtide may not change it"
{{- end }}

{{/* What the policy on owners' annotations looks at and says; why, in admission-validating.yaml. */}}
{{- define "lowtide.annotationsSpec" -}}
{{- $keys := include "lowtide.annotations" . | fromYamlArray }}
{{- $operatorKeys := include "lowtide.operatorKeys" . }}
{{- $known := list }}
{{- range $keys }}{{ $known = append $known .key }}{{ end -}}
failurePolicy: {{ .Values.admission.failurePolicy }}
matchConstraints:
  namespaceSelector:
    matchExpressions:
      - {key: {{ .Values.admission.ignoreLabel | quote }}, operator: DoesNotExist}
      {{- include "lowtide.notExempt" . | nindent 6 }}
  resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [pods]}
    - {apiGroups: [apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [deployments, statefulsets]}
    - {apiGroups: [batch], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [jobs, cronjobs]}
# Plain values only: an optional kept in a variable would let every bad value pass.
variables:
  - name: notes
    expression: >-
      {{- include "lowtide.notesOf" "object" | nindent 6 }}
  - name: oldNotes
    expression: >-
      request.operation == "CREATE" ? {} :
      {{- include "lowtide.notesOf" "oldObject" | nindent 6 }}
  - name: hasGpu
    expression: >-
      {{- include "lowtide.hasGpuIn" "object" | nindent 6 }}
  - name: hadGpu
    expression: >-
      request.operation != "CREATE" &&
      {{- include "lowtide.hasGpuIn" "oldObject" | nindent 6 }}
  - name: keys
    expression: 'variables.notes.map(k, k.startsWith("lowtide.dev/"), k.substring(12)).sort()'
  # What the owner wrote.
  - name: ours
    expression: 'variables.keys.filter(k, !(k in {{ $operatorKeys }}))'
  # An object with an old bad value must still be changeable: relabelled, finalized, scaled.
  - name: unchanged
    expression: >-
      request.operation != "CREATE" && (variables.hasGpu || !variables.hadGpu) &&
      variables.ours.all(k, ("lowtide.dev/" + k) in variables.oldNotes && variables.oldNotes["lowtide.dev/" + k] == variables.notes["lowtide.dev/" + k])
  - name: byOperator
    expression: >-
      request.userInfo.username == "{{ include "lowtide.username" . }}" ||
      "system:masters" in request.userInfo.?groups.orValue([])
  # One list per kind of fault: only the first failing validation is returned, so a single one returns them all.
  - name: badValues
    expression: >-
      []
      {{- range $keys }}
      + (("lowtide.dev/{{ .key }}" in variables.notes) ? [variables.notes["lowtide.dev/{{ .key }}"]] : [])
        .filter(v, !({{ .test }}))
        .map(v, (v.size() > 60 ? v.substring(0, 60) + "..." : v).replace("\n", " ").replace("\r", " "))
        .map(v, "lowtide.dev/{{ .key }} is \"" + v + "\", expected {{ .expected }}")
      {{- end }}
  - name: unknownKeys
    expression: >-
      variables.ours.filter(k, !(k in {{ $known | toJson }}))
      .map(k, "lowtide.dev/" + (k.size() > 60 ? k.substring(0, 60) + "..." : k) + " is not known, expected one of {{ join ", " $known }}")
  - name: foreignKeys
    expression: >-
      variables.keys.filter(k, k in {{ $operatorKeys }} && !variables.byOperator && !(("lowtide.dev/" + k) in variables.oldNotes
        && variables.oldNotes["lowtide.dev/" + k] == variables.notes["lowtide.dev/" + k]))
      .map(k, "lowtide.dev/" + k + " is written only by lowtide, remove it")
  - name: badTogether
    expression: >-
      (variables.ours.size() == 0 || "workload" in variables.ours ? [] :
        ["lowtide.dev/workload is missing, expected inference or batch together with lowtide.dev/" + variables.ours[0]])
      + (!("workload" in variables.ours) || variables.hasGpu ? [] :
        ["no container has a limit nvidia.com/gpu, expected at least 1 with lowtide.dev/workload"])
      + (variables.notes[?"lowtide.dev/workload"].orValue("") != "inference" ? [] :
        variables.ours.filter(k, k in ["deadline", "expected-runtime", "checkpoint-grace"])
        .map(k, "lowtide.dev/" + k + " is for lowtide.dev/workload batch, but this is inference"))
      + (variables.notes[?"lowtide.dev/workload"].orValue("") != "batch" ? [] :
        variables.ours.filter(k, k in ["standby", "spares", "availability-goal"])
        .map(k, "lowtide.dev/" + k + " is for lowtide.dev/workload inference, but this is batch"))
  - name: errors
    expression: >-
      (variables.unchanged ? [] : variables.badValues + variables.unknownKeys + variables.badTogether) + variables.foreignKeys
validations:
  - expression: variables.errors.size() == 0
    messageExpression: '"lowtide: " + variables.errors.join("; ")'
    message: "lowtide: an annotation under lowtide.dev/ is not valid"
    reason: Invalid
{{- end }}
