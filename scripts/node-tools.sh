#!/usr/bin/env bash
# Gets what a real node needs, once, into a persistent folder: kubelet, kubeadm and kube-proxy from the same pinned Go module as the
# control plane's release, the small programs of tests/cluster/node, and Debian's containerd, runc, CNI plugins and nft, unpacked but not
# installed. What is already there and current is skipped; concurrent runs wait for each other. Linux and amd64 or arm64 only.
#   scripts/node-tools.sh             everything
#   scripts/node-tools.sh --check     says what is missing, gets nothing
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${LOWTIDE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lowtide}
node=$cache/node
module=$here/tests/cluster/node

# name, package
programs() {
    cat <<EOF
kubelet k8s.io/kubernetes/cmd/kubelet
kubeadm k8s.io/kubernetes/cmd/kubeadm
kube-proxy k8s.io/kubernetes/cmd/kube-proxy
device-plugin ./device-plugin
workload ./workload
EOF
}

# Debian's packages; the libraries are nft's and runc's.
packages="containerd runc containernetworking-plugins nftables libnftables1 libnftnl11 libmnl0 libjansson4 libxtables12 libseccomp2"
# What of them is started.
unpacked="usr/bin/containerd usr/bin/containerd-shim-runc-v2 usr/bin/ctr usr/sbin/runc usr/sbin/nft usr/lib/cni/ptp usr/lib/cni/host-local usr/lib/cni/portmap usr/lib/cni/loopback"

say() { printf '%s\n' "$*" >&2; }

# Without these the Kubernetes programs report v0.0.0, and kubeadm refuses to join.
linker_flags() {
    local version major minor where=k8s.io/component-base/version
    version=$(awk '$1 == "k8s.io/kubernetes" || $2 == "k8s.io/kubernetes" { print $NF; exit }' "$module/go.mod")
    IFS=. read -r major minor _ <<<"${version#v}"
    echo "-s -w -X $where.gitVersion=$version -X $where.gitMajor=$major -X $where.gitMinor=$minor -X $where.gitTreeState=clean -X $where.gitCommit=0000000000000000000000000000000000000000"
}

stamp() {
    { cat "$module/go.mod" "$module/go.sum"; [[ $1 != ./* ]] || cat "$module/$1"/*.go; linker_flags; } | sha256sum | cut -d' ' -f1
}

current() { [[ -x $node/bin/$1 && -f $node/bin/.$1.stamp && $(<"$node/bin/.$1.stamp") == "$(stamp "$2")" ]]; }

build() {
    local name=$1 package=$2 began=$SECONDS fresh=$node/bin/.$1.$$
    say "  building $name from $package (once; minutes on a small machine) ..."
    (cd "$module" && CGO_ENABLED=0 GOFLAGS="-mod=readonly -buildvcs=false" go build -trimpath -ldflags "$(linker_flags)" -o "$fresh" "$package") || {
        rm -f "$fresh"
        say "  $name could not be built; the lines above say why"
        exit 1
    }
    mv "$fresh" "$node/bin/$name"
    stamp "$package" >"$node/bin/.$name.stamp"
    say "  $name built in $((SECONDS - began)) s"
}

debian_there() {
    local one
    for one in $unpacked; do [[ -e $node/debian/$one ]] || return 1; done
    [[ $(cat "$node/debian/.packages" 2>/dev/null) == "$packages" ]]
}

debian() {
    debian_there && return
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || {
        say "  $node/debian lacks containerd, runc, CNI plugins or nft, and there is no apt-get to get them: unpack Debian's packages there ($packages)"
        exit 1
    }
    local folder
    folder=$(mktemp -d)
    say "  getting Debian's containerd, runc, CNI plugins and nft ..."
    # shellcheck disable=SC2086
    (cd "$folder" && apt-get download -qq $packages >/dev/null 2>"$folder/fault") || { cat "$folder/fault" >&2; say "  apt-get download failed (apt-get update first?)"; exit 1; }
    mkdir "$folder/unpacked"
    local deb
    for deb in "$folder"/*.deb; do dpkg -x "$deb" "$folder/unpacked"; done
    rm -rf "$node/debian"
    mv "$folder/unpacked" "$node/debian"
    chmod 755 "$node/debian"
    echo "$packages" >"$node/debian/.packages"
    rm -rf "$folder"
    debian_there || { say "  Debian's packages do not hold all of: $unpacked"; exit 1; }
}

# One image with one static program: the sandbox of pods and what runs in them. An OCI layout in a tar, for `ctr images import`.
image() {
    local archive=$node/workload.tar
    [[ -f $archive && ! $node/bin/workload -nt $archive ]] && return
    local folder machine
    folder=$(mktemp -d)
    machine=$(cd "$module" && go env GOARCH)
    mkdir -p "$folder/root" "$folder/layout/blobs/sha256"
    cp "$node/bin/workload" "$folder/root/workload"
    same_bytes() { tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 "$@"; }
    # Puts a file among the blobs and gives its digest.
    blob() { local sum; sum=$(sha256sum "$1" | cut -d' ' -f1); cp "$1" "$folder/layout/blobs/sha256/$sum"; echo "sha256:$sum"; }
    same_bytes -C "$folder/root" -cf "$folder/layer" workload
    local layer config manifest
    layer=$(blob "$folder/layer")
    echo "{\"architecture\":\"$machine\",\"os\":\"linux\",\"config\":{\"User\":\"65532:65532\",\"Entrypoint\":[\"/workload\"]},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"$layer\"]}}" >"$folder/config"
    config=$(blob "$folder/config")
    size() { stat -c %s "$1"; }
    local kind=application/vnd.oci.image
    echo "{\"schemaVersion\":2,\"mediaType\":\"$kind.manifest.v1+json\",\"config\":{\"mediaType\":\"$kind.config.v1+json\",\"digest\":\"$config\",\"size\":$(size "$folder/config")},\"layers\":[{\"mediaType\":\"$kind.layer.v1.tar\",\"digest\":\"$layer\",\"size\":$(size "$folder/layer")}]}" >"$folder/manifest"
    manifest=$(blob "$folder/manifest")
    echo '{"imageLayoutVersion":"1.0.0"}' >"$folder/layout/oci-layout"
    echo "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"$kind.manifest.v1+json\",\"digest\":\"$manifest\",\"size\":$(size "$folder/manifest"),\"annotations\":{\"io.containerd.image.name\":\"lab.local/workload:1\",\"org.opencontainers.image.ref.name\":\"1\"}}]}" >"$folder/layout/index.json"
    same_bytes -C "$folder/layout" -cf "$archive.new" oci-layout index.json blobs
    mv "$archive.new" "$archive"
    rm -rf "$folder"
    say "  image lab.local/workload:1 written"
}

main() {
    [[ $(uname -s) == Linux ]] || { say "real nodes need Linux"; exit 1; }
    if [[ ${1:-} == --check ]]; then
        local missing=0
        while read -r name package; do current "$name" "$package" || { echo "missing: $name"; missing=1; }; done < <(programs)
        debian_there || { echo "missing: Debian's containerd, runc, CNI plugins, nft"; missing=1; }
        [[ -f $node/workload.tar ]] || { echo "missing: the image of the workloads"; missing=1; }
        exit "$missing"
    fi
    mkdir -p "$node/bin"
    exec 9>"$node/.lock"
    flock -n 9 || { say "  another run is getting the node's programs; waiting for it"; flock 9; }
    debian
    while read -r name package; do
        current "$name" "$package" || {
            command -v go >/dev/null || { say "Go 1.26 or later is needed to build $name: https://go.dev/dl"; exit 1; }
            build "$name" "$package"
        }
    done < <(programs)
    image
}

main "$@"
