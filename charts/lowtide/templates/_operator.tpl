{{/* SHA-256 of the spec of a policy, given as text, as the operator computes it of the one in the cluster: kube::validation_check. */}}
{{- define "lowtide.policySum" -}}
{{- $spec := . | fromYaml }}
{{- $lines := list }}
{{- range $spec.matchConditions }}{{ $lines = append $lines (printf "condition %s: %s" .name .expression) }}{{ end }}
{{- range $spec.variables }}{{ $lines = append $lines (printf "variable %s: %s" .name .expression) }}{{ end }}
{{- range $spec.validations }}{{ $lines = append $lines (printf "validation: %s" .expression) }}{{ end }}
{{- range $spec.matchConstraints.resourceRules }}
{{- $lines = append $lines (printf "rule: %s %s %s %s %s" (join "," .apiGroups) (join "," .apiVersions) (join "," .operations) (join "," .resources) (join "," .resourceNames)) }}
{{- end }}
{{- with $spec.matchConstraints.namespaceSelector }}
{{- range $key, $value := .matchLabels }}{{ $lines = append $lines (printf "namespaces: %s %s" $key $value) }}{{ end }}
{{- range .matchExpressions }}{{ $lines = append $lines (printf "namespaces: %s %s %s" .key .operator (join "," .values)) }}{{ end }}
{{- end }}
{{- join "\n" $lines | sha256sum }}
{{- end }}

{{/* The environment of the operator. */}}
{{- define "lowtide.env" -}}
- {name: LOWTIDE_CLUSTER, value: {{ .Values.cluster.name | quote }}}
- {name: LOWTIDE_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
- {name: LOWTIDE_INSTANCE, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: LOWTIDE_LISTEN, value: "0.0.0.0:{{ .Values.metrics.port }}"}
- {name: LOWTIDE_LOG, value: {{ .Values.operator.logLevel | quote }}}
- {name: LOWTIDE_LOG_JSON, value: {{ .Values.operator.logJson | quote }}}
- {name: LOWTIDE_PRICE_SECONDS, value: {{ .Values.operator.priceSeconds | quote }}}
- {name: LOWTIDE_INSTANCE_SECONDS, value: {{ .Values.operator.instanceSeconds | quote }}}
- {name: LOWTIDE_MAX_PRICE_AGE_SECONDS, value: {{ .Values.operator.maxPriceAgeSeconds | quote }}}
- {name: LOWTIDE_ORPHAN_GRACE_SECONDS, value: {{ .Values.operator.orphanGraceSeconds | quote }}}
- {name: LOWTIDE_MARKS_POLICY, value: "{{ include "lowtide.fullname" . }}-marks"}
{{- if .Values.admission.marks.enabled }}
- {name: LOWTIDE_MARKS_POLICY_SUM, value: {{ include "lowtide.policySum" (include "lowtide.marksSpec" .) | quote }}}
{{- end }}
{{- if .Values.admission.guard.enabled }}
- {name: LOWTIDE_GUARD_POLICY, value: "{{ include "lowtide.fullname" . }}-guard"}
- {name: LOWTIDE_GUARD_POLICY_SUM, value: {{ include "lowtide.policySum" (include "lowtide.guardSpec" .) | quote }}}
{{- end }}
{{- if include "lowtide.watchesAnnotations" . }}
- {name: LOWTIDE_ANNOTATIONS_POLICY, value: "{{ include "lowtide.fullname" . }}-annotations"}
- {name: LOWTIDE_ANNOTATIONS_POLICY_SUM, value: {{ include "lowtide.policySum" (include "lowtide.annotationsSpec" .) | quote }}}
{{- end }}
- {name: LOWTIDE_IGNORE_LABEL, value: {{ .Values.admission.ignoreLabel | quote }}}
{{- with .Values.admission.exemptNamespaces }}
- {name: LOWTIDE_EXEMPT_NAMESPACES, value: {{ join "," . | quote }}}
{{- end }}
{{- if not .Values.admission.marks.enabled }}
- {name: LOWTIDE_SERVE_WITHOUT_VALIDATION, value: "true"}
{{- end }}
- {name: LOWTIDE_POST_SECONDS, value: {{ .Values.ledger.postSeconds | quote }}}
- {name: LOWTIDE_PROMETHEUS_URL, value: {{ .Values.ledger.prometheusUrl | quote }}}
- {name: LOWTIDE_GPU_USE, value: {{ .Values.ledger.gpuUse.enabled | quote }}}
{{- with .Values.ledger.gpuUse.selector }}
- {name: LOWTIDE_GPU_USE_SELECTOR, value: {{ . | quote }}}
{{- end }}
{{- with .Values.ledger.fetch.cur }}
- {name: LOWTIDE_FETCH_CUR, value: {{ . | quote }}}
{{- end }}
{{- with .Values.ledger.fetch.feed }}
- {name: LOWTIDE_FETCH_FEED, value: {{ . | quote }}}
{{- end }}
- {name: LOWTIDE_LABEL_TEAM, value: {{ .Values.ledger.labels.team | quote }}}
- {name: LOWTIDE_LABEL_SERVICE, value: {{ .Values.ledger.labels.service | quote }}}
- {name: LOWTIDE_LABEL_ENVIRONMENT, value: {{ .Values.ledger.labels.environment | quote }}}
- {name: LOWTIDE_LABEL_COST_CENTER, value: {{ .Values.ledger.labels.costCenter | quote }}}
- {name: LOWTIDE_LABEL_PRODUCT_AREA, value: {{ .Values.ledger.labels.productArea | quote }}}
- {name: LOWTIDE_LABEL_COMPONENT, value: {{ .Values.ledger.labels.component | quote }}}
- {name: LOWTIDE_ATTRIBUTION_FROM_NAMESPACE, value: {{ .Values.ledger.labels.fromNamespace | quote }}}
- name: LOWTIDE_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ required "ledger.secretName is needed: a Secret with the Postgres URL of the operator's role (Postgres itself may come later)" .Values.ledger.secretName }}
      key: {{ .Values.ledger.secretKey }}
# Used together with the URL, whose own sslmode takes precedence.
- {name: PGSSLMODE, value: {{ .Values.ledger.tls.mode | quote }}}
{{- if include "lowtide.postgresCa" . }}
- {name: PGSSLROOTCERT, value: /etc/lowtide/postgres-ca/ca.crt}
{{- end }}
{{- with .Values.aws.endpointUrl }}
- {name: AWS_ENDPOINT_URL, value: {{ . | quote }}}
{{- end }}
{{- if .Values.aws.allowInsecureEndpoint }}
- {name: LOWTIDE_ALLOW_INSECURE_ENDPOINT, value: "true"}
{{- end }}
{{- with .Values.operator.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The volume with Postgres' CA certificate; empty if the system's CAs are used. */}}
{{- define "lowtide.postgresCa" -}}
{{- $ca := .Values.ledger.tls.ca -}}
{{- if and $ca.secretName $ca.configMapName -}}
{{- fail "ledger.tls.ca has both a Secret and a ConfigMap, expected one of them" -}}
{{- end -}}
{{- with $ca.secretName }}
secret: {secretName: {{ . }}, items: [{key: {{ $ca.key }}, path: ca.crt}]}
{{- end -}}
{{- with $ca.configMapName }}
configMap: {name: {{ . }}, items: [{key: {{ $ca.key }}, path: ca.crt}]}
{{- end -}}
{{- end -}}
