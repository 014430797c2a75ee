#!/bin/sh
# Drives the EC2 simulator with AWS's own Python SDK and compares its instance types with moto's.
# LOWTIDE_EC2 names the built binary; without it the one of the debug build is used.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv="${XDG_CACHE_HOME:-$HOME/.cache}/lowtide/venv"
: "${LOWTIDE_EC2:=${CARGO_TARGET_DIR:-$here/../../target}/debug/lowtide-ec2}"
[ -x "$LOWTIDE_EC2" ] || { echo "no simulator at $LOWTIDE_EC2: build it with cargo build --bin lowtide-ec2 --features lab" >&2; exit 1; }
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
if ! cmp -s "$here/requirements.txt" "$venv/installed.txt"; then
    "$venv/bin/python" -m pip install --quiet --requirement "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/installed.txt"
fi
export PYTHONDONTWRITEBYTECODE=1 LOWTIDE_EC2 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=key-of-fidelity-8f21 AWS_EC2_METADATA_DISABLED=true AWS_DEFAULT_REGION=us-east-1
exec "$venv/bin/python" -m pytest -q -p no:cacheprovider "$here" "$@"
