#!/usr/bin/env bash
# The console in a real browser: keyboard, narrow screen, dark, without JavaScript, and what axe-core finds.
#
#   tests/console/run.sh                 all of that
#   tests/console/run.sh --screenshot    and writes docs/console.png again
#   tests/console/run.sh --speed         instead: how long pages take with 5,000 machines
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
cache=${LOWTIDE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lowtide}
export LOWTIDE_TOOLS=${LOWTIDE_TOOLS:-$cache/bin}

if [[ ${1:-} == --speed ]]; then
    exec cargo test --features lab --test console -- --ignored --nocapture pages_with_thousands_of_machines
fi

if [[ -z ${CHROMIUM:-} ]]; then
    if ! command -v chromium >/dev/null; then
        if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
            echo 'installing Debian'"'"'s chromium (once) ...'
            apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null
        else
            echo 'expected a chromium: install it, or name one in CHROMIUM' >&2
            exit 1
        fi
    fi
    CHROMIUM=$(command -v chromium)
fi
command -v npm >/dev/null || { echo 'expected Node with npm' >&2; exit 1; }
modules=$cache/console
if ! cmp -s "$here/package-lock.json" "$modules/package-lock.json"; then
    mkdir -p "$modules"
    cp "$here/package.json" "$modules/"
    # Copied last but for this: a failed installation is tried again.
    cp "$here/package-lock.json" "$modules/package-lock.json.new"
    mv "$modules/package-lock.json.new" "$modules/package-lock.json"
    npm ci --prefix "$modules" --ignore-scripts --no-audit --no-fund --silent || { rm -f "$modules/package-lock.json"; exit 1; }
fi
export CHROMIUM CONSOLE_MODULES=$modules
[[ ${1:-} == --screenshot ]] && export SCREENSHOT=docs/console.png
exec cargo test --features lab --test console -- --ignored --nocapture people_can_use_it
