#!/usr/bin/env bash
# Builds the program of the released version 0.1.0 from this repository's history into a persistent folder, with its chart, for the tests that play
# upgrade and rollback with it. Its source is that of its commit; its dependencies are this version's, so that nothing is compiled twice for it.
# A clone without that history says so, and the tests are left out.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
version=0.1.0
# The definitions of this commit are those in tests/released/0.1.0-crds.
commit=b8d1b29c9e725688d42a261e7ad46ad1295ce34f
cache=${LOWTIDE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lowtide}
folder=$cache/earlier/$version

say() { printf '%s\n' "$*" >&2; }

if [[ -x $folder/lowtide && -f $folder/.stamp && $(<"$folder/.stamp") == "$commit" ]]; then
    say "  lowtide $version is there: $folder/lowtide"
    exit
fi
if ! git -C "$here" cat-file -e "$commit^{commit}" 2>/dev/null; then
    echo "NOT RUN: upgrade and rollback with the program of $version itself: this clone has no commit $commit; git fetch --unshallow brings it"
    exit
fi

rm -rf "$folder"
mkdir -p "$folder/source"
git -C "$here" archive "$commit" | tar -x -C "$folder/source"
cp "$here/Cargo.lock" "$here/rust-toolchain.toml" "$folder/source/"
# Another name, or it would take the place of this version's program in the folder of cargo's output.
sed "/^\[\[bin\]\]/,/^name = / s/^name = \"lowtide\"/name = \"lowtide-earlier\"/; s/^default-run = .*/default-run = \"lowtide-earlier\"/" \
    "$here/Cargo.toml" >"$folder/source/Cargo.toml"
# What that version does not have.
python3 - "$folder/source" "$version" <<'PYTHON'
import pathlib, re, sys
source = pathlib.Path(sys.argv[1])
manifest = (source / "Cargo.toml").read_text()
parts = re.split(r"(?m)^(?=\[)", manifest)
def there(part):
    if not part.startswith(("[[bin]]", "[[bench]]")):
        return True
    path, name = re.search(r'path = "(.*)"', part), re.search(r'name = "(.*)"', part).group(1)
    return (source / (path.group(1) if path else f"benches/{name}.rs")).exists()
manifest = "".join(part for part in parts if there(part))
(source / "Cargo.toml").write_text(re.sub(r'(?m)^version = ".*"', f'version = "{sys.argv[2]}"', manifest, count=1))
lock = source / "Cargo.lock"
lock.write_text(re.sub(r'(name = "lowtide"\nversion = )".*"', rf'\g<1>"{sys.argv[2]}"', lock.read_text()))
PYTHON
say "  building lowtide $version from $commit (once; minutes on a small machine) ..."
output=${CARGO_TARGET_DIR:-$here/target}
(cd "$folder/source" && CARGO_TARGET_DIR=$output cargo build --locked --features lab --bin lowtide-earlier)
cp "$output/debug/lowtide-earlier" "$folder/lowtide"
printf '%s' "$commit" >"$folder/.stamp"
