{{/*
Every annotation an owner may write: its key under lowtide.dev/, the CEL test of its value `v`, and what is expected, in words. Durations
are days, hours, minutes and seconds in that order, e.g. 1h30m; a test on "[1-9]" keeps 0h out.
*/}}
{{- define "lowtide.annotations" -}}
- key: workload
  test: v in ["inference", "batch"]
  expected: inference or batch
- key: gpu-memory
  test: v.matches("^[0-9]{1,6}([.][0-9]{1,3})?(Mi|Gi)$") && quantity(v).isGreaterThan(quantity("0"))
  expected: memory per GPU in Mi or Gi, above 0, e.g. 20Gi
- key: gpu-models
  test: v.size() <= 512 && v.matches("^[a-z0-9]+(-[a-z0-9]+)*(,[a-z0-9]+(-[a-z0-9]+)*)*$")
  expected: GPU models in lower case, separated by commas without spaces, e.g. l4,a10g
- key: regions
  test: v.size() <= 512 && v.matches("^[a-z0-9*]+(-[a-z0-9*]+)*(,[a-z0-9*]+(-[a-z0-9*]+)*)*$")
  expected: AWS regions or patterns, separated by commas without spaces, e.g. us-*,eu-west-1
- key: capacity
  test: v in ["spot-first", "spot-only", "on-demand"]
  expected: spot-first, spot-only or on-demand
- key: max-price-per-gpu-hour
  test: v.matches("^[0-9]{1,4}([.][0-9]{1,6})?$") && v.matches("[1-9]")
  expected: US dollars per GPU-hour above 0, with at most six decimals and no currency sign, e.g. 1.20
- key: deadline
  test: v.matches("[1-9]") && (v.matches("^([0-9]{1,4}d)?([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,8}s)?$") || !format.datetime().validate(v).hasValue())
  expected: a duration from the pod's creation, e.g. 26h, 1h30m or 2d, or a point in time, e.g. 2026-12-31T18:00:00Z
- key: expected-runtime
  test: v.matches("[1-9]") && v.matches("^([0-9]{1,4}d)?([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,8}s)?$")
  expected: a duration in days, hours, minutes and seconds, e.g. 6h or 1h30m
- key: checkpoint-grace
  test: v.matches("[1-9]") && v.matches("^([0-9]{1,4}d)?([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,8}s)?$")
  expected: a duration in days, hours, minutes and seconds, e.g. 60s
- key: standby
  test: v.matches("^(1000|[1-9]?[0-9]{1,2})$") && (v == "0" || !v.startsWith("0"))
  expected: a whole number of warm slots from 0 to 1000
- key: data-gib
  test: v.matches("^[0-9]{1,6}$")
  expected: a whole number of GiB, e.g. 40
- key: data-region
  test: v.matches("^[a-z]{2}(-[a-z]+)+-[0-9]{1,2}$")
  expected: one AWS region, e.g. us-east-1
- key: max-pool-share
  test: v.matches("^(100|[1-9][0-9]?)%$")
  expected: a whole percentage from 1% to 100%, e.g. 50%
- key: gang
  test: v.matches("^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$")
  expected: a name of 1 to 63 lower-case letters, digits, dots and hyphens
- key: checkpointed-at
  test: "!format.datetime().validate(v).hasValue()"
  expected: a point in time, e.g. 2026-12-31T18:00:00Z
- key: usage-query
  test: v.size() <= 2048 && v.matches("^(requests|transactions|tokens|tokens_in|tokens_out|users)=.*[^ ].*$")
  expected: requests, transactions, tokens, tokens_in, tokens_out or users, then = and a PromQL query for one hour's amount
- key: spares
  test: v.matches("^(1000|[1-9]?[0-9]{1,2})$") && (v == "0" || !v.startsWith("0"))
  expected: a whole number of replicas from 0 to 1000
- key: availability-goal
  test: v.matches("^[5-9][0-9]([.][0-9]{1,4})?%$")
  expected: a percentage from 50% to below 100%, e.g. 99.5%
- key: quiet-hours
  test: v.matches("^([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]( [+]((0[0-9]|1[0-3]):[0-5][0-9]|14:00)| -((0[0-9]|1[01]):[0-5][0-9]|12:00))?$") && v.substring(0, 5) != v.substring(6, 11)
  expected: hours of the day in UTC, e.g. 22:00-06:00, or at a distance from it, e.g. 22:00-06:00 +02:00
- key: do-not-disrupt
  test: v == "true" || v == "false" || (v.matches("[1-9]") && v.matches("^([0-9]{1,4}d)?([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,8}s)?$"))
  expected: true, false, or a duration from the pod's start, e.g. 90m
{{- end -}}

{{/* Annotations only lowtide writes, on pods. */}}
{{- define "lowtide.operatorKeys" -}}
["claim", "decision", "baseline", "attempt", "replaces", "let-go", "workload-ref"]
{{- end -}}

{{/* The annotations of the pod, or of the pod template, in `object` or `oldObject`: a plain map, never an optional. */}}
{{- define "lowtide.notesOf" -}}
(request.kind.kind == "Pod" ? dyn({{ . }}).metadata :
 request.kind.kind == "CronJob" ? dyn({{ . }}).spec.jobTemplate.spec.template.?metadata.orValue({}) :
 dyn({{ . }}).spec.template.?metadata.orValue({})).?annotations.orValue({})
{{- end -}}

{{/* Whether a container of the pod, or of the pod template, in `object` or `oldObject` has a GPU limit. */}}
{{- define "lowtide.hasGpuIn" -}}
[request.kind.kind == "Pod" ? dyn({{ . }}).spec :
 request.kind.kind == "CronJob" ? dyn({{ . }}).spec.jobTemplate.spec.template.spec :
 dyn({{ . }}).spec.template.spec].exists(s,
   (s.?containers.orValue([]) + s.?initContainers.orValue([])).exists(c,
     quantity(string(c.?resources.?limits[?"nvidia.com/gpu"].orValue("0"))).isGreaterThan(quantity("0"))))
{{- end -}}
