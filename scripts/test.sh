#!/usr/bin/env bash
# Runs all tests, step by step; continues after a failure and ends with `N passed, N failed`, counted in steps.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

passed=0
failed=()
# Everything that is said below, and what tests print that pass: those of cargo are asked for it by --show-output.
said=target/said.log
mkdir -p target
: >"$said"

# What tests print that pass is in the file, and not on the terminal.
without_what_passed() {
    awk '/^successes:$/ { hidden = 1 } /^(failures:|test result: .*)$/ { hidden = 0 } !hidden { print; fflush() }'
}

step() {
    local heading=$1 began=$SECONDS
    shift
    printf '\n== %s\n' "$heading"
    if "$@" 2>&1 | tee -a "$said" | without_what_passed; then
        passed=$((passed + 1))
        printf -- '-- %s: passed in %d s\n' "$heading" $((SECONDS - began))
    else
        failed+=("$heading")
        printf -- '-- %s: FAILED after %d s\n' "$heading" $((SECONDS - began))
    fi
}

# The passwords and keys that tests give to what they start are words of one form, and none is in anything that was said; nor is an address with a password of
# another form (user:password stands for one in help). tests/harm looks into what its programs wrote to logs and objects.
no_secrets() {
    local word='(pw|key)-of-[a-z]+(-[a-z]+)*-[0-9a-f]{4}|tiger.lily' address='://[^/@:[:space:]"]*:[^/@[:space:]"]+@' others
    [[ $(grep -rhoE "$word" src tests | sort -u | wc -l) -ge 10 ]] || { echo 'expected ten secrets in the tests'; return 1; }
    grep -q '^successes:$' "$said" || { echo "expected what passed tests print in $said"; return 1; }
    # Whoever logs in somewhere by another word would not be found.
    others=$(grep -rnE "PASSWORD '|$address|Credentials::new\(" src tests --include=*.rs --include=*.py --include=*.sh |
        grep -vE "$word|://[{a-z}]+:([{][a-z]*[}]|password)@|PASSWORD '[{][}]'|Credentials::new\((\"\", \"\"|id, secret)" || true)
    [[ -z $others ]] || { printf 'expected passwords of the form pw-of-NAME-1ab5:\n%s\n' "$others"; return 1; }
    if sed 's|://user:password@||g' "$said" | grep -anE "$word|$address" | cut -d: -f1; then
        echo "a secret is in $said, in the lines of these numbers"
        return 1
    fi
}

step 'format' cargo fmt --check
step 'licences, bans and sources of all crates' scripts/supply-chain.sh
step 'core, engine and backtests, without AWS and Kubernetes' env CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/core" cargo test --profile sim --no-default-features --no-fail-fast -- --show-output
step 'the control plane and Postgres (built once)' scripts/tools.sh
step 'the public FOCUS validator (installed once)' tests/focus/install.sh
step 'an AWS of others: S3, EC2 and SQS (installed once)' tests/s3/install.sh
step 'the program of the released version (built once, where the clone has its history)' scripts/earlier.sh
# What is asked of AWS in these tests is recorded, and held against AWS's service models in the next step.
requests="$PWD/target/requests"
rm -rf "$requests"
step 'everything, on the real control plane' env LOWTIDE_RECORD_REQUESTS="$requests" cargo test --features lab --no-fail-fast -- --show-output
step 'the console in a real browser, and what axe-core finds (Chromium and Node installed once)' tests/console/run.sh
step "the EC2 simulator against AWS's own Python SDK, and every request against AWS's service models" \
    env LOWTIDE_RECORD_REQUESTS="$requests" tests/fidelity/run.sh
step 'alerts: rules, cases and routes' tests/alerts/run.sh
step "Terraform against the provider's schema, and the rights it gives" tests/terraform/run.sh
step 'the chart: suites, values and schema' tests/chart/run.sh
if [[ -x tests/admission/run.sh ]]; then
    step 'the chart: admission and rights' env LOWTIDE="${CARGO_TARGET_DIR:-target}/debug/lowtide" tests/admission/run.sh
fi

step 'the image, of a small build' tests/image/run.sh
step 'no password and no key in anything that was said' no_secrets

# What could not be tried here is the last word, whatever passed.
grep -a '^NOT RUN: ' "$said" || true
if ((${#failed[@]})); then
    printf '\nfailed: %s\n' "${failed[@]}"
fi
printf '\n%d passed, %d failed\n' "$passed" "${#failed[@]}"
((${#failed[@]} == 0))
