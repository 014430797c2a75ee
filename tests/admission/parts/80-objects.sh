# shellcheck shell=bash
# lowtide's own objects: defaults, bad fields refused with a sentence, an immutable claim
object() { # kind, name, spec
  echo "{\"apiVersion\":\"lowtide.dev/v1\",\"kind\":\"$1\",\"metadata\":{\"name\":\"$2\"},\"spec\":$3}"
}
try() { kubectl create --dry-run=server -f - <<<"$1"; }
pool() { # more fields
  object GpuNodePool probe "{\"namespaceSelector\":{},\"nodeClasses\":[\"us-east-1\"],\"homeRegion\":\"us-east-1\"$1}"
}
expect_ok "pool with the least" try "$(pool '')"
expect_equal "defaults of a pool" '["spot","on-demand"]|15|600|60|300|180|3600|true' "$(kubectl create --dry-run=server -f - <<<"$(pool '')" \
  -o 'jsonpath={.spec.capacityTypes}|{.spec.return.minSavingPercent}|{.spec.return.minDwellSeconds}|{.spec.emptyGraceSeconds}|{.spec.joinTimeoutSeconds}|{.spec.coolDown.baseSeconds}|{.spec.coolDown.maxSeconds}|{.spec.fallback.onDemand}')"
expect_refused "pool without a namespace selector" "spec.namespaceSelector: Required value" \
  try "$(object GpuNodePool probe '{"nodeClasses":["a"],"homeRegion":"us-east-1"}')"
expect_refused "pool without a class" "spec.nodeClasses" try "$(object GpuNodePool probe '{"namespaceSelector":{},"nodeClasses":[],"homeRegion":"us-east-1"}')"
expect_refused "price cap of 0" "a price cap must be above 0" try "$(pool ',"maxPricePerGpuHour":"0.00"')"
expect_refused "price cap as a number" "maxPricePerGpuHour" try "$(pool ',"maxPricePerGpuHour":1.2')"
expect_refused "unknown capacity type" 'Unsupported value: "cheap"' try "$(pool ',"capacityTypes":["cheap"]')"
expect_refused "cool-down upside down" "coolDown.baseSeconds must not be above coolDown.maxSeconds" try "$(pool ',"coolDown":{"baseSeconds":600,"maxSeconds":60}')"
budget() { pool ",\"disruption\":{\"budgets\":[$1]}"; }
expect_equal "the budget of a pool with none" '10%' "$(kubectl create --dry-run=server -f - <<<"$(pool ',"disruption":{}')" -o 'jsonpath={.spec.disruption.budgets[*].nodes}')"
expect_ok "no budgets: no limit" try "$(budget '')"
expect_ok "budgets with windows" try "$(budget '{"nodes":"10%"},{"nodes":"0","schedule":"0 9 * * mon-FRI","duration":"8h","timeZone":"Europe/Berlin"},
  {"nodes":"5","reasons":["Drift","Expiry"],"schedule":"*/20,59 1-3/2 ? JAN,jul,12 Sat","duration":"1d2h30m"},{"nodes":"100%","schedule":"@hourly","duration":"10m","timeZone":"America/Argentina/Buenos_Aires"}')"
expect_refused "a budget without nodes" "spec.disruption.budgets[0].nodes: Required value" try "$(budget '{"reasons":["Drift"]}')"
expect_refused "nodes as a number" "spec.disruption.budgets[0].nodes" try "$(budget '{"nodes":5}')"
for nodes in ten 101% -1 5.5 ''; do
  expect_refused "a budget of '$nodes' nodes" "nodes must be a number such as \"5\" or a share from \"0%\" to \"100%\"" try "$(budget "{\"nodes\":\"$nodes\"}")"
done
expect_refused "a reason of Karpenter's" 'Unsupported value: "Underutilized": supported values: "SavingsMove", "Consolidation", "Drift", "Expiry"' \
  try "$(budget '{"nodes":"0","reasons":["Underutilized"]}')"
expect_refused "a schedule without a duration" "schedule and duration belong together: set both or neither" try "$(budget '{"nodes":"0","schedule":"@daily"}')"
expect_refused "a duration without a schedule" "schedule and duration belong together: set both or neither" try "$(budget '{"nodes":"0","duration":"8h"}')"
expect_refused "a time zone without a schedule" "timeZone is that of schedule: set schedule and duration as well" try "$(budget '{"nodes":"0","timeZone":"UTC"}')"
for schedule in '0 25 * * *' '60 9 * * *' '0 9 0 * *' '0 9 32 * *' '0 9 * 13 *' '0 9 * * 7' '0 9 * * funday' '0 9 * *' '0 9 * * * *' '*/0 * * * *' '0 9- * * *' @fortnightly ''; do
  expect_refused "the schedule '$schedule'" "schedule must be a cron expression (minute, hour, day of the month, month, day of the week), e.g. 0 9 * * mon-fri" \
    try "$(budget "{\"nodes\":\"0\",\"schedule\":\"$schedule\",\"duration\":\"8h\"}")"
done
for duration in 0h 8 8hours 1h2h -8h 90s ''; do
  expect_refused "the duration '$duration'" "duration must be above 0, in days, hours and minutes, e.g. 8h or 1h30m" \
    try "$(budget "{\"nodes\":\"0\",\"schedule\":\"@daily\",\"duration\":\"$duration\"}")"
done
for zone in Mars/Base CEST +02:00 'Europe Berlin' ../etc/passwd; do
  expect_refused "the time zone '$zone'" "timeZone must be a name of the IANA database such as Europe/Berlin or UTC" \
    try "$(budget "{\"nodes\":\"0\",\"schedule\":\"@daily\",\"duration\":\"8h\",\"timeZone\":\"$zone\"}")"
done
expect_refused "unknown field" 'unknown field "spec.budget"' try "$(pool ',"budget":"1"')"
expect_refused "zone for a region" "spec.homeRegion" try "$(pool ',"homeRegion":"us-east-1a"' | sed 's/"homeRegion":"us-east-1",//')"

class() { # bootstrap, more fields
  object GpuNodeClass probe "{\"region\":\"us-east-1\",\"subnets\":[\"subnet-1\"],\"image\":\"ami-1\",\"securityGroups\":[\"sg-1\"],\"bootstrap\":$1${2:-}}"
}
k3s='{"kind":"k3s","serverUrl":"https://10.0.0.10:6443","tokenParameter":"/lowtide/token"}'
expect_ok "class" try "$(class "$k3s")"
expect_refused "k3s without a token parameter" "bootstrap.tokenParameter is required for k3s and kubeadm" \
  try "$(class '{"kind":"k3s","serverUrl":"https://10.0.0.10:6443"}')"
expect_refused "a token for its parameter's name" "spec.bootstrap.tokenParameter" \
  try "$(class '{"kind":"k3s","serverUrl":"https://10.0.0.10:6443","tokenParameter":"K10abc::server:def"}')"
expect_refused "eks without its cluster" "bootstrap.extra requires clusterName, certificateAuthority and serviceCidr" \
  try "$(class '{"kind":"eks","serverUrl":"https://a.example"}')"
expect_ok "eks" try "$(class '{"kind":"eks","serverUrl":"https://a.example","extra":{"clusterName":"a","certificateAuthority":"b","serviceCidr":"10.0.0.0/16"}}')"
expect_refused "sharing without replicas" "gpuSharing.replicas must be 1 for exclusive and at least 2 otherwise" try "$(class "$k3s" ',"gpuSharing":{"mode":"mps"}')"
expect_refused "a tag key with a slash" "a tag key must not contain /" try "$(class "$k3s" ',"tags":{"a/b":"c"}')"
bare() { class "$k3s" "$1" | sed 's/"image":"ami-1",//'; }
expect_refused "a class without an image" "spec needs either image" try "$(bare '')"
expect_refused "a class with both" "spec needs either image" try "$(class "$k3s" ',"images":[{"architecture":"amd64","id":"ami-1"}]')"
expect_refused "an image named twice" "exactly one of id, parameter, alias and newest" try "$(bare ',"images":[{"architecture":"amd64","id":"ami-1","alias":"al2023-nvidia@1.33"}]')"
expect_ok "images by architecture" try "$(bare ',"images":[{"architecture":"amd64","alias":"al2023-nvidia@1.33"},{"architecture":"arm64","newest":{"owner":"self","name":"gpu-*"}}]')"
expect_ok "disks, kubelet, labels, taints, scripts and placement" try "$(class "$k3s" ',"labels":{"tier":"gpu","node.kubernetes.io/x":"why"},
  "taints":[{"key":"team","value":"ml","effect":"NoSchedule"}],"startupTaints":[{"key":"cilium.io/agent-not-ready","effect":"NoExecute"}],
  "kubelet":{"maxPods":60,"kubeReserved":{"cpuMillicores":300},"imageGcHighThresholdPercent":90,"imageGcLowThresholdPercent":70},
  "blockDevices":[{"deviceName":"/dev/xvda","sizeGib":200,"throughputMibps":500,"encrypted":true,"kmsKeyId":"alias/x","holdsPods":true}],
  "userData":{"before":"#!/bin/sh","after":"#!/bin/sh"},"associatePublicIpAddress":false,"metadataHopLimit":2,"placementGroup":"g","dedicatedTenancy":true,"detailedMonitoring":true')"
expect_refused "a label of lowtide's" "labels of lowtide.dev are lowtide's" try "$(class "$k3s" ',"labels":{"lowtide.dev/x":"y"}')"
expect_refused "a label that no kubelet may set" "kubelets may not set those of kubernetes.io" try "$(class "$k3s" ',"labels":{"topology.kubernetes.io/zone":"y"}')"
expect_refused "image collection upside down" "the low one below the high one" try "$(class "$k3s" ',"kubelet":{"imageGcHighThresholdPercent":70,"imageGcLowThresholdPercent":90}')"
expect_refused "iops of gp2" "iops can be set for gp3, io1 and io2 only" try "$(class "$k3s" ',"blockDevices":[{"deviceName":"/dev/xvda","sizeGib":20,"volumeType":"gp2","iops":3000}]')"
expect_refused "a key without encryption" "kmsKeyId requires encrypted: true" try "$(class "$k3s" ',"blockDevices":[{"deviceName":"/dev/xvda","sizeGib":20,"kmsKeyId":"x"}]')"
expect_refused "a public address with a reservation" "associatePublicIpAddress cannot be combined with capacityReservations" \
  try "$(class "$k3s" ',"associatePublicIpAddress":true,"capacityReservations":[{"id":"cr-1"}]')"
expect_refused "a script after nodeadm" "nodeadm joins after all scripts" \
  try "$(class '{"kind":"eks","serverUrl":"https://a.example","extra":{"clusterName":"a","certificateAuthority":"b","serviceCidr":"10.0.0.0/16"}}' ',"userData":{"after":"#!/bin/sh"}')"
expect_refused "bottlerocket without its cluster" "bootstrap.extra requires clusterName and certificateAuthority for bottlerocket" \
  try "$(class '{"kind":"bottlerocket","serverUrl":"https://a.example","extra":{"clusterName":"a"}}')"
expect_ok "class is created" kubectl create -f - <<<"$(class "$k3s")"
expect_refused "class moves" "spec.region cannot change" kubectl patch gpunodeclass probe --type merge -p '{"spec":{"region":"us-east-2"}}'
expect_ok "class gets another image" kubectl patch gpunodeclass probe --type merge -p '{"spec":{"image":"ami-2"}}'

claim=$(object GpuNodeClaim probe '{"nodePool":"gpus","nodeClass":"us-east-1","region":"us-east-1","zone":"use1-az4","instanceType":"g6.xlarge",
  "capacityType":"spot","pricePerHour":"0.3020","onDemandPerHour":"0.8048","savedPerHour":"0.5028","gpus":1,"decisionId":"d1","reason":"pending-pod","attempt":1,
  "launch":{"launchTemplate":"lowtide-1","launchTemplateVersion":"1","subnet":"subnet-1"}}')
expect_ok "claim is created" as_operator create -f - <<<"$claim"
expect_refused "claim changes" "the spec of a GpuNodeClaim is immutable" as_operator patch gpunodeclaim probe --type merge -p '{"spec":{"gpus":2}}'
expect_refused "claim loses its spec" "spec: Required value" as_operator patch gpunodeclaim probe --type merge -p '{"spec":null}'
expect_ok "claim is launched" as_operator patch gpunodeclaim probe --subresource status --type merge \
  -p '{"status":{"phase":"Launched","instanceId":"i-1","launchedAt":"2026-11-23T20:00:00.123Z"}}'
expect_equal "milliseconds are kept" "2026-11-23T20:00:00.123Z" "$(kubectl get gpunodeclaim probe -o 'jsonpath={.status.launchedAt}')"
expect "columns of a claim" eval 'kubectl get gpunodeclaim probe | grep -qE "g6.xlarge +use1-az4 +spot +0.3020 +0.5028 +Launched"'

decision=$(object GpuDecision probe '{"recordId":"6c6f7774-6964-5500-8000-646576000001","kind":"decision","happenedAt":"2026-11-23T20:00:00.123Z","trigger":"pending-pod",
  "outcome":"launch","subject":"work/new","text":"bought","record":{"record":"decision","deep":{"kept":[1,"0.30"]}}}')
expect_ok "decision is written" as_operator create -f - <<<"$decision"
expect_refused "the same decision again" "already exists" as_operator create -f - <<<"$decision"
expect_equal "the record is kept as it is" '{"deep":{"kept":[1,"0.30"]},"record":"decision"}' "$(kubectl get gpudecision probe -o 'jsonpath={.spec.record}')"
expect_refused "decision changes" "a GpuDecision is immutable" kubectl patch gpudecision probe --type merge -p '{"spec":{"kind":"migration"}}'
