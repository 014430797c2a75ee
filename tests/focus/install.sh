#!/bin/sh
# Installs the FinOps Foundation's validator (600 MB, once), which tests/ledger/focus.rs asks about our export. It needs Python 3.12 or later: the machine's, or
# where that is older and its packages are Debian's, one of Debian 13 beside it (python.sh). Where there is neither, the test says that it left the validator
# out, and CI fails. `install.sh --find` only prints a Python that is there.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cache="${LOWTIDE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lowtide}"
venv="$cache/venv-focus"
beside="$cache/python-focus"
for python in python3 python3.14 python3.13 python3.12 "$HOME"/.pyenv/versions/3.1[2-9]*/bin/python "$beside/usr/bin/python3"; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then found=$python; break; fi
done
if [ -z "${found:-}" ] && [ "${1:-}" != --find ] && "$here/python.sh" "$beside" >&2; then
    found="$beside/usr/bin/python3"
fi
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
if ! [ -x "$venv/bin/python" ]; then
    if [ "$found" = "$beside/usr/bin/python3" ]; then
        # Debian's own has no pip for new environments: the one that came with it installs itself.
        "$found" -m venv --without-pip "$venv"
        "$venv/bin/python" "$(find "$beside/usr/share/python-wheels" -name 'pip-*.whl')/pip" install --quiet pip
    else
        "$found" -m venv "$venv"
    fi
fi
if ! cmp -s "$here/requirements.txt" "$venv/installed.txt"; then
    if "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 13))'; then
        # It asks for a NumPy below 2, of which there is none for this Python. Its own code works with either; pip lets nobody overrule it.
        "$venv/bin/python" -m pip install --quiet uv
        echo 'numpy>=2.1,<3' >"$venv/overrides.txt"
        "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --overrides "$venv/overrides.txt" --requirement "$here/requirements.txt"
    else
        "$venv/bin/python" -m pip install --quiet --requirement "$here/requirements.txt"
    fi
    cp "$here/requirements.txt" "$venv/installed.txt"
fi
