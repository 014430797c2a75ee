#!/bin/sh
# Puts a Python 3.13 into the folder that is given, on a Debian or Ubuntu whose own is older: that of Debian 13 with its libraries, from the machine's own
# mirror, checked by apt as every package. Needs no root and changes nothing of the system: its libraries are found by the program alone.
set -eu
to=$1
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || {
    echo "no apt to take a Python of Debian 13 with" >&2
    exit 1
}
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' 'Origin: Debian' 'Label: Debian' 2>/dev/null | head -1)
keys=/usr/share/keyrings/debian-archive-keyring.gpg
[ -n "$mirror" ] && [ -r "$keys" ] || {
    echo "no mirror of Debian among this machine's sources of packages" >&2
    exit 1
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/packages" "$work/root"
echo "deb [signed-by=$keys] $mirror trixie main" >"$work/sources.list"
get() {
    (cd "$work/packages" && apt-get -qq -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts="$work/none" -o Dir::State::Lists="$work/lists" \
        -o Dir::State::status=/dev/null -o Dir::Cache="$work/cache" -o APT::Sandbox::User=root "$@")
}
get update
get download python3.13 python3.13-minimal libpython3.13-minimal libpython3.13-stdlib python3-pip-whl libc6 libgcc-s1 libstdc++6 libssl3t64 libffi8 zlib1g \
    libbz2-1.0 liblzma5 libsqlite3-0 libexpat1 libuuid1 libncursesw6 libtinfo6 libreadline8t64 libzstd1
for package in "$work"/packages/*.deb; do dpkg-deb -x "$package" "$work/root"; done
rm -rf "$to"
mkdir -p "$(dirname "$to")"
rm "$work/root/usr/bin/python3" 2>/dev/null || true
mv "$work/root" "$to"
# The program starts by the loader and with the libraries that lie beside it; scripts and virtual environments name the one that says so.
libraries="$to/usr/lib/$(dpkg --print-architecture | sed 's/amd64/x86_64/; s/arm64/aarch64/')-linux-gnu"
loader=$(find "$libraries" -maxdepth 1 -name 'ld-linux-*.so.*' | head -1)
cat >"$to/usr/bin/python3" <<END
#!/bin/sh
exec "$loader" --library-path "$libraries" --argv0 "\$0" "$to/usr/bin/python3.13" "\$@"
END
chmod +x "$to/usr/bin/python3"
"$to/usr/bin/python3" -c 'import bz2, ctypes, lzma, sqlite3, ssl, sys; assert sys.version_info >= (3, 12)'
