# Checks and objects for the parts of the admission test; sourced, not run.

CHECKS=0
FAULTS=()
CHART=charts/lowtide
NAMESPACE=lowtide-system
# The chart has no image of its own; none is pulled here.
IMAGE=image.repository=registry.example.com/platform/lowtide
OPERATOR=system:serviceaccount:$NAMESPACE:lowtide

expect() { # what, command...: passes when the command does
  local what=$1
  shift
  CHECKS=$((CHECKS + 1))
  if ! "$@"; then
    FAULTS+=("$what")
    echo "FAULT $what" >&2
  fi
}

# The answer of a command, both streams, in $ANSWER; its exit code in $CODE.
answer_of() {
  ANSWER=$("$@" 2>&1)
  CODE=$?
}

expect_ok() { # what, command...
  local what=$1
  shift
  answer_of "$@"
  expect "$what: $ANSWER" [ "$CODE" -eq 0 ]
}

expect_refused() { # what, part of the sentence, command...
  local what=$1 sentence=$2
  shift 2
  answer_of "$@"
  expect "$what: expected a refusal with: $sentence; came (exit $CODE): $ANSWER" \
    eval '[ "$CODE" -ne 0 ] && [[ "$ANSWER" == *"$sentence"* ]]'
}

expect_equal() { # what, expected, found
  expect "$1: expected '$2', found '$3'" [ "$2" = "$3" ]
}

eventually() { # seconds, command...
  local limit=$1 begun=$SECONDS
  shift
  until "$@" >/dev/null 2>&1; do
    [ $((SECONDS - begun)) -lt "$limit" ] || return 1
    sleep 0.2
  done
}

expect_report() {
  echo
  if [ ${#FAULTS[@]} -gt 0 ]; then
    echo "$CHECKS checks, ${#FAULTS[@]} faults"
    exit 1
  fi
  echo "$CHECKS checks, all as expected"
}

as_owner() {
  kubectl --user owner "$@"
}

as_operator() {
  kubectl --as "$OPERATOR" --as-group system:serviceaccounts --as-group system:authenticated "$@"
}

# The platform team: may change node pools, by the role that the chart adds to `admin`.
as_platform() {
  kubectl --as platform --as-group system:authenticated "$@"
}

# Applies standard input by server dry run, as a workload owner.
try_as_owner() {
  as_owner create --dry-run=server -o json -f - <<<"$1"
}

GPU_CONTAINER='{"name":"c","image":"example/model:1","resources":{"limits":{"nvidia.com/gpu":1}}}'

pod_spec() { # more fields of the pod's spec, as ',"key":value'
  echo "{\"containers\":[$GPU_CONTAINER]${1:-}}"
}

pod() { # name, annotations, spec
  echo "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"$1\",\"namespace\":\"work\",\"annotations\":$2},\"spec\":${3:-$(pod_spec)}}"
}

template() { # annotations, more fields of the pod's spec
  echo "{\"metadata\":{\"labels\":{\"app\":\"a\"},\"annotations\":$1},\"spec\":$(pod_spec "${2:-}")}"
}

workload() { # kind, name, annotations
  local body
  case $1 in
    Deployment) body="\"apiVersion\":\"apps/v1\",\"spec\":{\"replicas\":1,\"selector\":{\"matchLabels\":{\"app\":\"a\"}},\"template\":$(template "$3")}" ;;
    StatefulSet) body="\"apiVersion\":\"apps/v1\",\"spec\":{\"serviceName\":\"a\",\"replicas\":1,\"selector\":{\"matchLabels\":{\"app\":\"a\"}},\"template\":$(template "$3")}" ;;
    DaemonSet) body="\"apiVersion\":\"apps/v1\",\"spec\":{\"selector\":{\"matchLabels\":{\"app\":\"a\"}},\"template\":$(template "$3")}" ;;
    Job) body="\"apiVersion\":\"batch/v1\",\"spec\":{\"template\":$(template "$3" ',"restartPolicy":"Never"')}" ;;
    CronJob) body="\"apiVersion\":\"batch/v1\",\"spec\":{\"schedule\":\"0 3 * * *\",\"jobTemplate\":{\"spec\":{\"template\":$(template "$3" ',"restartPolicy":"Never"')}}}" ;;
  esac
  echo "{\"kind\":\"$1\",\"metadata\":{\"name\":\"$2\",\"namespace\":\"work\"},$body}"
}

# What the mutating policy changes on a pod, for -o: label|gates|effects of tolerations of nvidia.com/gpu.
SHAPE='jsonpath={.metadata.labels.lowtide\.dev/managed}|{.spec.schedulingGates[*].name}|{.spec.tolerations[?(@.key=="nvidia.com/gpu")].effect}'
OURS='true|lowtide.dev/placement|NoSchedule'

expect_shape() { # what, expected, pod
  expect_equal "$1" "$2" "$(as_owner create --dry-run=server -o "$SHAPE" -f - <<<"$3" 2>&1)"
}
