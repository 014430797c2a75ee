#!/usr/bin/env bash
# Tests terraform/ without an account and without a provider registry: format, validate and `terraform test` against the AWS provider's
# published schema, the modules' READMEs, and the policies of the operator and of its queue evaluated call by call.
#
#   tests/terraform/run.sh            all of it; with OpenTofu too where that has been built
#   tests/terraform/run.sh --tofu     builds OpenTofu first (once; nine minutes of one core)
#   tests/terraform/run.sh --docs     writes the modules' READMEs again
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${LOWTIDE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lowtide}/terraform
venv=$cache/venv
folders=(modules/hub modules/region-target examples/eks-single-region examples/k3s-three-regions)
version=6.25.0
description=cdktf-cdktf-provider-aws==21.22.1

faults=0
fault() { printf 'FAULT %s\n' "$*" >&2; faults=$((faults + 1)); }

python_packages() {
    [[ -x $venv/bin/python ]] || python3 -m venv "$venv"
    if ! cmp -s "$here/requirements.txt" "$venv/installed.txt"; then
        "$venv/bin/python" -m pip install --quiet --requirement "$here/requirements.txt"
        cp "$here/requirements.txt" "$venv/installed.txt"
    fi
    # Only its description is wanted, not what it would install.
    compgen -G "$cache/description/*.whl" >/dev/null || "$venv/bin/python" -m pip download --quiet --no-deps --dest "$cache/description" "$description"
}

# name, folder, package ("." for the module itself), linker flags
go_program() {
    local stamp
    stamp=$(find "$here/$2" -name 'go.*' -o -name '*.go' | LC_ALL=C sort | xargs cat | sha256sum | cut -d' ' -f1)
    [[ -x $cache/$1 && -f $cache/.$1.stamp && $(<"$cache/.$1.stamp") == "$stamp" ]] && return
    echo "building $1 ..."
    (cd "$here/$2" && CGO_ENABLED=0 GOFLAGS="-mod=readonly -buildvcs=false" go build -trimpath -ldflags "-s -w ${4:-}" -o "$cache/$1" "$3")
    echo "$stamp" >"$cache/.$1.stamp"
}

terraform() { "$venv/bin/python" "$here/terraform.py" "$@"; }
tofu() { "$cache/tofu" "$@"; }

# The provider is found in folders that look like a registry's, and nowhere else.
prepare() {
    local registry place
    for registry in registry.terraform.io registry.opentofu.org; do
        place=$work/plugins/$registry/hashicorp/aws/$version/$(go env GOOS)_$(go env GOARCH)
        mkdir -p "$place"
        ln -s "$cache/terraform-provider-aws" "$place/terraform-provider-aws_v$version"
    done
    printf 'provider_installation {\n  filesystem_mirror {\n    path = "%s"\n  }\n}\n' "$work/plugins" >"$work/terraformrc"
    export TF_CLI_CONFIG_FILE=$work/terraformrc SCHEMA_FILE=$work/schema.json CHECKPOINT_DISABLE=1 TF_IN_AUTOMATION=1
    # Dummies: nothing here may find a real account.
    export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=key-of-terraform-b6a3 AWS_EC2_METADATA_DISABLED=true PYTHONDONTWRITEBYTECODE=1
    cp -R "$root/terraform" "$work/terraform"
    "$venv/bin/python" "$here/schema.py" "$cache"/description/*.whl "$SCHEMA_FILE" "$work/terraform"
}

# program, arguments of `test`
validate_and_test() {
    local folder program=$1
    shift
    for folder in "${folders[@]}"; do
        printf '== %s, %s\n' "$folder" "$program"
        (
            cd "$work/terraform/$folder"
            rm -rf .terraform .terraform.lock.hcl
            [[ $program != tofu ]] || rm -f tests/region.tftest.hcl
            "$program" init -backend=false -input=false -no-color >"$work/init.log" 2>&1 || { cat "$work/init.log" >&2; exit 1; }
            "$program" validate -no-color
        ) || fault "$folder does not validate with $program"
    done
    for folder in "${tested[@]}"; do
        printf '== tests of %s, %s\n' "$folder" "$program"
        (cd "$work/terraform/$folder" && "$program" test -no-color) || fault "a test of $folder fails with $program"
    done
}

# Schemas that take anything would pass everything: each of these changes must be refused.
planted() { # what, file, sed expression, expected text
    local copy=$work/planted
    rm -rf "$copy"
    cp -R "$root/terraform" "$copy"
    sed -i "$3" "$copy/$2"
    cmp -s "$root/terraform/$2" "$copy/$2" && { fault "planted: $1 changed nothing"; return; }
    local answer
    if answer=$(cd "$copy/$(dirname "$2")" && terraform init -backend=false -input=false -no-color 2>&1 && terraform validate -no-color 2>&1); then
        fault "planted: $1 was not found"
    elif [[ $(tr -s '\n ' ' ' <<<"$answer") != *"$4"* ]]; then
        fault "planted: $1 was refused without '$4': $answer"
    fi
}

documents() { # check | write
    local folder
    for folder in "${folders[@]}"; do
        cp "$root/terraform/$folder/README.md" "$work/README.before" 2>/dev/null || { fault "terraform/$folder has no README.md"; continue; }
        (cd "$root/terraform/$folder" && "$cache/terraform-docs" markdown table --output-file "$work/README.new" --output-mode replace --hide requirements,providers,modules,resources,data-sources --output-template '{{ .Content }}' . >/dev/null)
        "$venv/bin/python" - "$work/README.before" "$work/README.new" "$work/README.after" <<'PY'
import re, sys
before, new, after = sys.argv[1:]
text, tables = open(before).read(), open(new).read().strip()
begin, end = "<!-- inputs and outputs: tests/terraform/run.sh --docs -->", "<!-- end -->"
head, found, rest = text.partition(begin)
if not found or end not in rest:
    sys.exit(f"{before}: no lines {begin} and {end}")
open(after, "w").write(f"{head}{begin}\n\n{tables}\n\n{end}{rest.split(end, 1)[1]}")
PY
        if [[ $1 == write ]]; then
            cp "$work/README.after" "$root/terraform/$folder/README.md"
        else
            diff -u "$work/README.before" "$work/README.after" || fault "terraform/$folder/README.md is not what its variables and outputs say: tests/terraform/run.sh --docs"
        fi
    done
}

mkdir -p "$cache"
work=$(mktemp -d "${TMPDIR:-/tmp}/lowtide-terraform.XXXXXX")
trap 'rm -rf "$work"' EXIT
python_packages
go_program terraform-provider-aws provider .
go_program terraform-docs docs github.com/terraform-docs/terraform-docs
if [[ ${1:-} == --tofu ]]; then
    go_program tofu tofu github.com/opentofu/opentofu/cmd/tofu "-X github.com/opentofu/opentofu/version.dev=no"
fi
prepare
if [[ ${1:-} == --docs ]]; then
    documents write
    exit "$faults"
fi

terraform fmt -check -diff -recursive "$root/terraform" || fault "terraform fmt would change files"
tested=("${folders[@]}")
validate_and_test terraform
planted 'an attribute that no queue has' modules/region-target/main.tf 's/sqs_managed_sse_enabled/sse_managed_by_sqs/' 'Unsupported argument'
planted 'a rule without its target' modules/region-target/main.tf '/^  arn       = aws_sqs_queue/d' 'The argument "arn" is required'
planted 'a list for a number' modules/region-target/main.tf 's/receive_wait_time_seconds = 20/receive_wait_time_seconds = [20]/' 'number required'
planted 'an attribute that is only read' modules/region-target/main.tf 's/receive_wait_time_seconds = 20/url = "x"/' 'read-only'
planted 'an output of nothing' modules/region-target/outputs.tf 's/aws_sqs_queue.interruption.url/aws_sqs_queue.interruption.address/' 'Unsupported attribute'
documents check

mkdir "$work/plans"
for planned in hub:policy region-target:region; do
    (cd "$work/terraform/modules/${planned%:*}" && terraform test -no-color -verbose -json -filter="tests/${planned#*:}.tftest.hcl" >"$work/plans/${planned%:*}.json") || fault "the policies of ${planned%:*} cannot be planned"
done
PLANS=$work/plans "$venv/bin/python" -m pytest -q -p no:cacheprovider "$here/iam" || fault "the operator's IAM policy, or the queue's"

if [[ -x $cache/tofu ]]; then
    # OpenTofu's tests cannot override one instance of a data source (it refuses even to read such a file), and fill collections in otherwise:
    # two folders are only validated with it.
    tested=(modules/hub examples/k3s-three-regions)
    validate_and_test tofu
else
    echo "OpenTofu is not built here (tests/terraform/run.sh --tofu): left out"
fi

((faults == 0)) || { printf '%d faults\n' "$faults" >&2; exit 1; }
echo "terraform/: all as expected"
