#!/usr/bin/env bash
# Alerts: the rules' syntax, one firing and one silent case of each, and where the example Alertmanager sends them.
# Needs promtool and amtool, which scripts/tools.sh fetches; without them it says so and passes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
tools=${LOWTIDE_TOOLS:-${LOWTIDE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lowtide}/bin}
rules=charts/lowtide/files/alerts/lowtide.yaml
config=examples/alertmanager/alertmanager.yaml

for tool in promtool amtool; do
    [[ -x $tools/$tool ]] || { echo "left out: no $tool in $tools; scripts/tools.sh fetches it on Debian"; exit 0; }
done

"$tools/promtool" check rules "$rules"
"$tools/promtool" test rules tests/alerts/rules.yaml
"$tools/amtool" check-config "$config"

# What is expected, and the labels of the alert.
goes_to() {
    local receiver=$1 found
    shift
    found=$("$tools/amtool" config routes test --config.file="$config" "$@" 2>/dev/null)
    [[ $found == "$receiver" ]] || { echo "$*: goes to $found, expected $receiver"; exit 1; }
}
count=0
while IFS=$'\t' read -r name severity area; do
    case $area/$severity in
        finance/*) receiver=finance-slack ;;
        integrity/critical) receiver=integrity-pagerduty ;;
        capacity/critical) receiver=capacity-pagerduty ;;
        *) receiver=platform-slack ;;
    esac
    goes_to "$receiver" alertname="$name" severity="$severity" area="$area" cluster=c
    count=$((count + 1))
done < <(awk '/- alert:/ { name = $3 } /labels: \{severity/ { gsub(/[{},]/, ""); print name "\t" $3 "\t" $5 }' "$rules")
expected=$(grep -c -- '- alert:' "$rules")
((count == expected)) || { echo "routes of $count alerts were looked at, there are $expected"; exit 1; }
goes_to platform-slack alertname=Other severity=critical cluster=c
echo "$count alerts: each fires, is silent and finds its receiver"
[[ -x $tools/alertmanager && -e /usr/share/prometheus/alertmanager/default.tmpl ]] || { echo "left out: no alertmanager with its templates"; exit 0; }
python3 tests/alerts/delivery.py "$tools"
