#!/usr/bin/env bash
# The console in a real browser: keyboard, narrow screen, dark, without JavaScript, and what axe-core finds.
#
#   tests/console/run.sh                             all of that
#   tests/console/run.sh --speed                     instead: how long pages take with 5,000 machines
#   tests/console/run.sh --screenshot ADDRESS TOKEN  instead: writes docs/console.png from a console that runs (lowtide-lab demo --stay says both)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
cache=${LOWTIDE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lowtide}
export LOWTIDE_TOOLS=${LOWTIDE_TOOLS:-$cache/bin}

if [[ ${1:-} == --speed ]]; then
    # A debug build, so that nothing is compiled for it alone: its figures are upper bounds.
    exec cargo test --features lab --test console -- --ignored --nocapture pages_with_thousands_of_machines
fi

# Debian's packages of what is missing.
CHROMIUM=${CHROMIUM:-$(command -v chromium || true)}
missing=()
[[ -n $CHROMIUM ]] || missing+=(chromium)
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
if ((${#missing[@]})); then
    if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
        echo "expected ${missing[*]}: install them (Debian: apt-get install ${missing[*]}), or name a browser in CHROMIUM" >&2
        exit 1
    fi
    echo "installing ${missing[*]} (once) ..."
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    CHROMIUM=${CHROMIUM:-$(command -v chromium)}
fi

modules=$cache/console
if ! cmp -s "$here/package-lock.json" "$modules/package-lock.json"; then
    mkdir -p "$modules"
    cp "$here/package.json" "$here/package-lock.json" "$modules/"
    # A failed installation is tried again.
    npm ci --prefix "$modules" --ignore-scripts --no-audit --no-fund --silent || {
        rm -f "$modules/package-lock.json"
        echo 'playwright-core and axe-core could not be installed from npm' >&2
        exit 1
    }
fi
export CHROMIUM CONSOLE_MODULES=$modules

if [[ ${1:-} == --screenshot ]]; then
    exec node "$here/screenshot.mjs" "${2:?the address of a console}" "${3:?a token}"
fi
exec cargo test --features lab --test console -- --ignored --nocapture people_can_use_it
