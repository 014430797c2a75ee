#!/usr/bin/env bash
# Puts a release together in target/release, or another folder that is not there yet: image, binaries, chart, CRDs, Terraform, checksums.
#   scripts/image/release.sh [OUT]
#   IMAGE=FOLDER      what scripts/image/build.sh wrote, when it is not target/image; without one, it is built first
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
out=${1:-target/release}
image=${IMAGE:-target/image}
if [[ -e $out ]]; then
    echo "$out is there already: remove it first" >&2
    exit 1
fi
[[ -e $image ]] || "$here/build.sh" "$image"
PYTHONDONTWRITEBYTECODE=1 python3 "$here/release.py" --image "$image" --root . --epoch "${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}" --out "$out"
