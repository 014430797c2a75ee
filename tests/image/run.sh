#!/usr/bin/env bash
# Makes an image as `make image` does, of a small build (no AWS, no Kubernetes, one architecture), twice, and looks into it. As root it also
# runs the program from nothing but what the image holds. Then it puts a release together, as `make release` does, twice. It takes a minute of one core the first time.
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

# A release of that image: the same bytes twice, checksums that hold, a program that runs, and a chart that Helm reads.
for turn in one two; do IMAGE=$work/one "$root/scripts/image/release.sh" "$work/release-$turn" >/dev/null; done
diff -r "$work/release-one" "$work/release-two" || { echo "FAULT two releases of one commit differ" >&2; exit 1; }
cd "$work/release-one"
sha256sum --quiet --check SHA256SUMS
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -1)
[[ $("./lowtide-$version-linux-amd64" --version) == "lowtide $version" ]] || { echo "FAULT the released program does not say $version" >&2; exit 1; }
helm=${LOWTIDE_TOOLS:-${LOWTIDE_CACHE:-$HOME/.cache/lowtide}/bin}/helm
"$helm" template lowtide "lowtide-chart-$version.tgz" --set cluster.name=a,ledger.secretName=b,image.repository=registry.example.com/lowtide >released.yaml
"$helm" template lowtide "$root/charts/lowtide" --set cluster.name=a,ledger.secretName=b,image.repository=registry.example.com/lowtide >tree.yaml
diff released.yaml tree.yaml || { echo "FAULT the packaged chart renders otherwise than the one in the tree" >&2; exit 1; }
[[ $(grep -c '^kind: CustomResourceDefinition' "lowtide-crds-$version.yaml") == $(find "$root/crds" -name '*.yaml' | wc -l) ]] ||
    { echo "FAULT lowtide-crds-$version.yaml does not hold every CRD" >&2; exit 1; }
echo "release: ok"
