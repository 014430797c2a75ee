{{- define "lowtide.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "lowtide.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "lowtide.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "lowtide.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "lowtide.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "lowtide.fullname" .) -}}
{{- end -}}

{{- define "lowtide.selectorLabels" -}}
app.kubernetes.io/name: {{ include "lowtide.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "lowtide.labels" -}}
{{ include "lowtide.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The operator's user name at the API server. */}}
{{- define "lowtide.username" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "lowtide.serviceAccount" . }}
{{- end -}}

{{/*
The image, whose name must be given and must say where it comes from: a name without a registry is Docker Hub's, where it may be anybody's.
*/}}
{{- define "lowtide.image" -}}
{{- $name := required "image.repository is needed: no image is published, so build one (make image), push it to a registry of yours and name it here, with image.digest" .Values.image.repository -}}
{{- $host := splitList "/" $name | first -}}
{{- if or (not (contains "/" $name)) (not (or (contains "." $host) (contains ":" $host) (eq $host "localhost"))) -}}
{{- fail (printf "image.repository is %q, expected a name with its registry, e.g. registry.example.com/platform/lowtide: without one it means Docker Hub, where anyone may own the name" $name) -}}
{{- end -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $name .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* OpenShift chooses user and group itself, and refuses pods that do. */}}
{{- define "lowtide.onOpenShift" -}}
{{- if .Capabilities.APIVersions.Has "security.openshift.io/v1" }}yes{{ end -}}
{{- end -}}

{{/* The security context of all our pods. */}}
{{- define "lowtide.podSecurityContext" -}}
runAsNonRoot: true
{{- if not (include "lowtide.onOpenShift" .) }}
{{- with .Values.securityContext.fsGroup }}
fsGroup: {{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The security context of all our containers: no privileges. */}}
{{- define "lowtide.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
{{- if not (include "lowtide.onOpenShift" .) }}
{{- with .Values.securityContext.runAsUser }}
runAsUser: {{ . }}
{{- end }}
{{- end }}
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* Never on a node we bought: it may be gone in two minutes. */}}
{{- define "lowtide.notOnBoughtNodes" -}}
nodeAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    nodeSelectorTerms:
      - matchExpressions: [{key: lowtide.node-restriction.kubernetes.io/claim, operator: DoesNotExist}]
{{- end -}}

{{/* Whether the pod in `object` or `oldObject` tolerates every taint that keeps schedulers off. */}}
{{- define "lowtide.toleratesEverything" -}}
{{ . }}.spec.?tolerations.orValue([]).exists(t, t.?key.orValue("") == "" && t.?operator.orValue("Equal") == "Exists" && t.?effect.orValue("") in ["", "NoSchedule"])
{{- end -}}

{{/* Whether the pod, or the template of pods, in this variable cannot come onto a node we bought: each of its terms avoids them. */}}
{{- define "lowtide.keepsOff" -}}
[{{ . }}.spec.?affinity.?nodeAffinity.?requiredDuringSchedulingIgnoredDuringExecution.?nodeSelectorTerms.orValue([])].exists(terms, terms.size() > 0 && terms.all(t, t.?matchExpressions.orValue([]).exists(e, e.key == "lowtide.dev/node-class" && e.operator == "DoesNotExist")))
{{- end -}}

{{/*
The mutation that makes each node selector term of a pod, or of a template of pods, avoid the nodes we bought. Each term by itself would do, so each must.
By the label that our nodes register with: that of their claim comes later. More than sixteen terms are refused by validation. Needs `variables.terms`; `at` is where the pod is: "" or "template".
*/}}
{{- define "lowtide.keepOff" -}}
{{- $type := ternary "Object.spec.template.spec" "Object.spec" (eq .at "template") }}
{{- $path := ternary "/spec/template/spec" "/spec" (eq .at "template") }}
{{- $pod := ternary "object.spec.template" "object" (eq .at "template") }}
{{- $required := printf "%s.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution" $type }}
{{- $place := printf "%s/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution" $path }}
{{- $term := printf "%s.nodeSelectorTerms" $required }}
{{- $avoid := printf "%s.matchExpressions{key: %q, operator: \"DoesNotExist\"}" $term "lowtide.dev/node-class" }}
{{- $whole := printf "%s{nodeSelectorTerms: [%s{matchExpressions: [%s]}]}" $required $term $avoid -}}
- patchType: JSONPatch
  jsonPatch:
    expression: >-
      variables.terms.size() > 0 ?
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15].filter(i, i < variables.terms.size()).map(i,
          has(variables.terms[i].matchExpressions) ?
            JSONPatch{op: "add", path: "{{ $place }}/nodeSelectorTerms/" + string(i) + "/matchExpressions/-", value: {{ $avoid }}} :
            JSONPatch{op: "add", path: "{{ $place }}/nodeSelectorTerms/" + string(i) + "/matchExpressions",
              value: [{"key": "lowtide.dev/node-class", "operator": "DoesNotExist"}]}) :
      has({{ $pod }}.spec.affinity) && has({{ $pod }}.spec.affinity.nodeAffinity) ?
        [JSONPatch{op: "add", path: "{{ $place }}", value: {{ $whole }}}] :
      has({{ $pod }}.spec.affinity) ?
        [JSONPatch{op: "add", path: "{{ $path }}/affinity/nodeAffinity", value:
          {{ $type }}.affinity.nodeAffinity{requiredDuringSchedulingIgnoredDuringExecution: {{ $whole }}}}] :
        [JSONPatch{op: "add", path: "{{ $path }}/affinity", value:
          {{ $type }}.affinity{nodeAffinity: {{ $type }}.affinity.nodeAffinity{requiredDuringSchedulingIgnoredDuringExecution: {{ $whole }}}}}]
{{- end -}}

{{/* Whether whoever asks may change node pools: the platform team. Not a controller that applies what tenants write, whatever it may. */}}
{{- define "lowtide.byPlatform" -}}
{{- with .Values.admission.notPlatform }}!(request.userInfo.username in {{ toJson . }}) && ({{ end -}}
"system:masters" in request.userInfo.?groups.orValue([]) || authorizer.group("lowtide.dev").resource("gpunodepools").check("update").allowed()
{{- with .Values.admission.notPlatform }}){{ end -}}
{{- end -}}

{{/* Whether the operator looks at the policy on annotations: one that lets pass what it cannot evaluate is not counted on. */}}
{{- define "lowtide.watchesAnnotations" -}}
{{- if and .Values.admission.validating.enabled (eq .Values.admission.failurePolicy "Fail") }}true{{ end -}}
{{- end -}}

{{/* Namespaces that none of our policies applies to. */}}
{{- define "lowtide.notExempt" -}}
{{- with .Values.admission.exemptNamespaces -}}
- {key: kubernetes.io/metadata.name, operator: NotIn, values: {{ toJson . }}}
{{- end -}}
{{- end -}}

{{/* The same, and those whose DaemonSets may run on the machines we buy. */}}
{{- define "lowtide.notAgents" -}}
{{- with concat .Values.admission.exemptNamespaces .Values.admission.agentNamespaces | uniq -}}
- {key: kubernetes.io/metadata.name, operator: NotIn, values: {{ toJson . }}}
{{- end -}}
{{- end -}}

{{/* Annotations of a post-delete hook with the given weight; it leaves nothing behind, however it ends. */}}
{{- define "lowtide.hook" }}
    helm.sh/hook: post-delete
    helm.sh/hook-weight: {{ . | quote }}
    # Helm prints what the Job says: the machines that still run, and what they cost.
    helm.sh/hook-output-log-policy: hook-succeeded,hook-failed
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded,hook-failed
{{- end }}

{{/* The console's pods have a name of their own: what holds for the operator's (its network policy) does not hold for them. */}}
{{- define "lowtide.consoleSelector" -}}
app.kubernetes.io/name: {{ include "lowtide.name" . }}-console
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "lowtide.consoleLabels" -}}
{{ include "lowtide.consoleSelector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}
