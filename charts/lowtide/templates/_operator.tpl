{{/* The environment of every process of ours that talks to the cluster, AWS or Postgres. */}}
{{- define "lowtide.env" -}}
- {name: LOWTIDE_CLUSTER, value: {{ required "cluster.name is needed: every instance is tagged with it" .Values.cluster.name | quote }}}
- {name: LOWTIDE_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
- {name: LOWTIDE_IDENTITY, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: LOWTIDE_LISTEN, value: "0.0.0.0:{{ .Values.metrics.port }}"}
- {name: RUST_LOG, value: {{ .Values.operator.logLevel | quote }}}
{{- with .Values.aws.regions }}
- {name: LOWTIDE_REGIONS, value: {{ join "," . | quote }}}
{{- end }}
{{- with .Values.aws.endpointUrl }}
- {name: LOWTIDE_AWS_ENDPOINT_URL, value: {{ . | quote }}}
{{- end }}
{{- with .Values.attributionLabels }}
- name: LOWTIDE_ATTRIBUTION_LABELS
  value: "team={{ .team }},service={{ .service }},environment={{ .environment }},cost-center={{ .costCenter }},product-area={{ .productArea }}"
{{- end }}
{{- with .Values.ledger }}
{{- if .secretName }}
- {name: LOWTIDE_DATABASE_URL, valueFrom: {secretKeyRef: {name: {{ .secretName }}, key: {{ .secretKey }}}}}
{{- end }}
{{- end }}
{{- with .Values.operator.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "lowtide.envFrom" -}}
{{- with .Values.aws.credentialsSecretName }}
envFrom: [{secretRef: {name: {{ . }}}}]
{{- end }}
{{- end -}}
