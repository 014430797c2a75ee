#!/bin/sh
# Installs an AWS that is not ours (moto, 100 MB, once): the S3 that tests/ledger/fetching.rs fetches bills from, and the EC2 and SQS that the operator
# runs on in tests/moto. Without it these tests say that they left it out.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv="${LOWTIDE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lowtide}/venv-s3"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
if ! cmp -s "$here/requirements.txt" "$venv/installed.txt"; then
    "$venv/bin/python" -m pip install --quiet --requirement "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/installed.txt"
fi
