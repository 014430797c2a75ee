#!/usr/bin/env bash
# Builds static binaries of lowtide for amd64 and arm64 and puts them into an OCI image index. No Docker.
#   scripts/image/build.sh [OUT]        OUT is target/image, or another folder that is not there yet
#   ARCHITECTURES="amd64"               only one of them
#   PROFILE=dev FEATURES=""             smaller and faster, to try the script: no AWS, no Kubernetes
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cd "$root"
out=${1:-target/image}
cache=${LOWTIDE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lowtide}/image
profile=${PROFILE:-release}
features=${FEATURES-live}
target_dir=${CARGO_TARGET_DIR:-target}/image-build

declare -A triples=([amd64]=x86_64-unknown-linux-musl [arm64]=aarch64-unknown-linux-musl)
declare -A compilers=([x86_64]=x86_64-linux-gnu-gcc [aarch64]=aarch64-linux-gnu-gcc)

say() { printf '%s\n' "$*" >&2; }

# ring is the only C code in it; a compiler for the architecture is enough, musl itself comes with Rust.
compiler() {
    local machine=$1
    if [[ $machine == "$(uname -m)" ]]; then
        command -v gcc || command -v cc
    else
        command -v "${compilers[$machine]}"
    fi || { say "no C compiler for $machine: Debian has it as gcc-${machine/_/-}-linux-gnu, with libc6-dev-${1/aarch64/arm64}-cross"; exit 1; }
}

if [[ -e $out ]]; then
    say "$out is there already: remove it first"
    exit 1
fi
mkdir -p "$cache"
[[ -x $cache/venv/bin/python ]] || python3 -m venv "$cache/venv"
wheels=$cache/wheels-$(sha256sum "$here/requirements.txt" | cut -c1-16)
if [[ ! -d $wheels ]]; then
    "$cache/venv/bin/python" -m pip download --quiet --no-deps --only-binary :all: --require-hashes --requirement "$here/requirements.txt" --dest "$wheels.new"
    mv "$wheels.new" "$wheels"
fi

# The time of the commit, so that the same commit gives the same image.
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
revision=$(git rev-parse HEAD)
[[ -z $(git status --porcelain -- src Cargo.toml Cargo.lock data) ]] || say "the work tree differs from commit $revision: the image will say that commit all the same"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)

binaries=()
for architecture in ${ARCHITECTURES:-amd64 arm64}; do
    triple=${triples[$architecture]}
    machine=${triple%%-*}
    cc=$(compiler "$machine")
    rustup target add "$triple" >/dev/null 2>&1 || { say "rustup cannot add the target $triple"; exit 1; }
    say "building lowtide for linux/$architecture ($profile, features: ${features:-none}) ..."
    upper=${triple^^}
    env "CC_${triple//-/_}=$cc" "CARGO_TARGET_${upper//-/_}_LINKER=$cc" CARGO_TARGET_DIR="$target_dir" \
        RUSTFLAGS="-C strip=symbols --remap-path-prefix=$root=/src --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo" \
        cargo build --locked --profile "$profile" --no-default-features --features "$features" --bin lowtide --target "$triple" >&2
    binaries+=(--binary "$architecture=$target_dir/$triple/${profile/#dev/debug}/lowtide")
done

"$cache/venv/bin/python" "$here/layout.py" --out "$out" --version "$version" --revision "$revision" --epoch "$epoch" --wheels "$wheels" \
    --lock Cargo.lock --toolchain "$(rustc --version)" "${binaries[@]}"
