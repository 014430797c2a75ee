# shellcheck shell=bash
# Every annotation: good values pass, bad ones are refused with a sentence (values.tsv)
while IFS=$'\t' read -r -d $'\n' line || [ -n "${line:-}" ]; do
  case $line in '' | '#'*) continue ;; esac
  # read would take two tabs for one: an empty value is a value.
  kind=${line%%$'\t'*} rest=${line#*$'\t'}
  key=${rest%%$'\t'*} rest=${rest#*$'\t'}
  value=${rest%%$'\t'*} verdict=${rest#*$'\t'}
  value=${value//%n/\\n}
  manifest=$(pod probe "{\"lowtide.dev/workload\":\"$kind\",\"lowtide.dev/$key\":\"$value\"}")
  if [ "$verdict" = admitted ]; then
    expect_ok "$kind $key=$value" try_as_owner "$manifest"
  else
    expect_refused "$kind $key=$value" "$verdict" try_as_owner "$manifest"
  fi
done <tests/admission/values.tsv

long=$(printf 'x%.0s' {1..7000})
expect_refused "a value of 7 kB" 'lowtide.dev/gpu-memory is "xxxxxxxxxx' \
  try_as_owner "$(pod probe "{\"lowtide.dev/workload\":\"batch\",\"lowtide.dev/gpu-memory\":\"$long\"}")"
expect_refused "a key of 63 characters" 'is not known, expected one of workload' \
  try_as_owner "$(pod probe "{\"lowtide.dev/workload\":\"batch\",\"lowtide.dev/${long:0:63}\":\"1\"}")"
expect_refused "no workload" "lowtide.dev/workload is missing, expected inference or batch together with lowtide.dev/gpu-memory" \
  try_as_owner "$(pod probe '{"lowtide.dev/gpu-memory":"20Gi"}')"

all='{"lowtide.dev/workload":"x","lowtide.dev/gpu-memory":"x","lowtide.dev/capacity":"x","lowtide.dev/standby":"x","lowtide.dev/wish":"x","lowtide.dev/attempt":"1"}'
answer_of try_as_owner "$(pod probe "$all")"
for part in 'workload is "x"' 'gpu-memory is "x"' 'capacity is "x"' 'standby is "x"' 'lowtide.dev/wish is not known' 'lowtide.dev/attempt is written only by'; do
  expect "all faults at once: $part in: $ANSWER" eval '[[ "$ANSWER" == *"$part"* ]]'
done

no_gpu='{"containers":[{"name":"c","image":"example/model:1"}]}'
zero_gpu='{"containers":[{"name":"c","image":"example/model:1","resources":{"limits":{"nvidia.com/gpu":0}}}]}'
init_gpu="{\"initContainers\":[$GPU_CONTAINER],\"containers\":[{\"name\":\"d\",\"image\":\"example/model:1\"}]}"
sentence="no container has a limit nvidia.com/gpu, expected at least 1 with lowtide.dev/workload"
expect_refused "no GPU limit" "$sentence" try_as_owner "$(pod probe '{"lowtide.dev/workload":"batch"}' "$no_gpu")"
expect_refused "a GPU limit of 0" "$sentence" try_as_owner "$(pod probe '{"lowtide.dev/workload":"batch"}' "$zero_gpu")"
expect_ok "a GPU limit in an init container" try_as_owner "$(pod probe '{"lowtide.dev/workload":"batch"}' "$init_gpu")"
expect_ok "no annotation of ours, no GPU" try_as_owner "$(pod probe '{"example.com/workload":"x"}' "$no_gpu")"
expect_ok "no annotations at all" try_as_owner "$(pod probe null "$no_gpu")"
