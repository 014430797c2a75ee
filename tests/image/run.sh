#!/usr/bin/env bash
# Makes an image as `make image` does, of a small build (no AWS, no Kubernetes, one architecture), twice, and looks into it. As root it also
# runs the program from nothing but what the image holds. It takes a minute of one core the first time.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
if [[ $(uname -m) != x86_64 || $(uname -s) != Linux ]]; then
    echo "left out: the small build is for x86_64 Linux"
    exit 0
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/lowtide-image.XXXXXX")
trap 'rm -rf "$work"' EXIT
export PROFILE=dev FEATURES="" ARCHITECTURES=amd64 PYTHONDONTWRITEBYTECODE=1
for turn in one two; do
    "$root/scripts/image/build.sh" "$work/$turn" >"$work/$turn.said"
done
diff -r "$work/one" "$work/two" || { echo "FAULT two images of one build differ" >&2; exit 1; }
(cd "$work/one" && sha256sum --quiet --check SHA256SUMS)
LAYOUT=$work/one ROOT=$root SAID=$(<"$work/one.said") python3 -m unittest -v "$here/test_image.py"
