#!/bin/sh
# Installs the FinOps Foundation's validator (600 MB, once), which tests/ledger/focus.rs asks about our export. It needs Python 3.12 or later; without one the
# test says that it left the validator out, and CI fails. `install.sh --find` only prints that Python.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv="${LOWTIDE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lowtide}/venv-focus"
for python in python3 python3.14 python3.13 python3.12 "$HOME"/.pyenv/versions/3.1[2-9]*/bin/python; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then found=$python; break; fi
done
if [ -z "${found:-}" ]; then
    echo "no Python 3.12 or later for the public FOCUS validator" >&2
    if [ -n "${CI:-}" ] || [ "${1:-}" = --find ]; then exit 1; fi
    echo "it is left out" >&2
    exit 0
fi
if [ "${1:-}" = --find ]; then
    echo "$found"
    exit 0
fi
[ -x "$venv/bin/python" ] || "$found" -m venv "$venv"
if ! cmp -s "$here/requirements.txt" "$venv/installed.txt"; then
    "$venv/bin/python" -m pip install --quiet --requirement "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/installed.txt"
fi
