#!/bin/sh
# Installs an S3 that is not ours (moto, 100 MB, once), which tests/ledger/fetching.rs fetches bills from. Without it the test says that it left S3 out.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv="${LOWTIDE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lowtide}/venv-s3"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
if ! cmp -s "$here/requirements.txt" "$venv/installed.txt"; then
    "$venv/bin/python" -m pip install --quiet --requirement "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/installed.txt"
fi
