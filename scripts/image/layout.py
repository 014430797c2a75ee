#!/usr/bin/env python3
"""Writes an OCI image index from static binaries, without Docker and without a base image: the program, CA certificates, time
zones, and a user that is not root. The same inputs give the same bytes.

    layout.py --out FOLDER --version V --revision COMMIT --epoch SECONDS --wheels FOLDER --lock Cargo.lock --binary ARCH=FILE...

FOLDER gets `layout/` (an OCI image layout), `sbom.cdx.json` (CycloneDX, from the lock file), `provenance.json` (in-toto, unsigned) and
`SHA256SUMS`. Decides what is in the image and how it is written; builds nothing and pushes nothing.
"""
import argparse
import datetime
import gzip
import hashlib
import io
import json
import pathlib
import tarfile
import tomllib
import uuid
import zipfile

USER = 65532
PROGRAM = "usr/bin/lowtide"
AUTHORITIES = "etc/ssl/certs/ca-certificates.crt"
ARCHITECTURES = {"amd64": 0x3E, "arm64": 0xB7}
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def static_binary(architecture, path):
    """The program's bytes; rejects what would not run in an empty image on that architecture."""
    data = path.read_bytes()
    if data[:5] != b"\x7fELF\x02" or int.from_bytes(data[18:20], "little") != ARCHITECTURES[architecture]:
        raise SystemExit(f"{path}: expected a 64-bit ELF program for {architecture}")
    # A program header of type PT_INTERP requires a loader, and the image has none.
    offset, size, count = (int.from_bytes(data[at:at + width], "little") for at, width in ((32, 8), (54, 2), (56, 2)))
    if any(int.from_bytes(data[offset + n * size:offset + n * size + 4], "little") == 3 for n in range(count)):
        raise SystemExit(f"{path}: expected a static program, this one needs a loader (build it for a musl target)")
    return data


def wheel(folder, name):
    found = sorted(folder.glob(f"{name}-*.whl"))
    if len(found) != 1:
        raise SystemExit(f"{folder}: expected one wheel of {name}, found {[path.name for path in found]}")
    return zipfile.ZipFile(found[0]), found[0]


def contents(program, wheels):
    """Path: (mode, bytes) of every file; folders follow from the paths."""
    authorities, _ = wheel(wheels, "certifi")
    zones, _ = wheel(wheels, "tzdata")
    files = {
        PROGRAM: (0o755, program),
        AUTHORITIES: (0o644, authorities.read("certifi/cacert.pem")),
        "etc/passwd": (0o644, f"root:x:0:0:root:/:/none\nlowtide:x:{USER}:{USER}:lowtide:/:/none\n".encode()),
        "etc/group": (0o644, f"root:x:0:\nlowtide:x:{USER}:\n".encode()),
        "etc/nsswitch.conf": (0o644, b"hosts: files dns\n"),
    }
    for name in zones.namelist():
        if name.startswith("tzdata/zoneinfo/") and not name.endswith((".py", "/")):
            files["usr/share/zoneinfo/" + name.removeprefix("tzdata/zoneinfo/")] = (0o644, zones.read(name))
    return files


def layer(files, epoch):
    """A compressed tar and the digest of the uncompressed one: sorted, owned by root, one timestamp, no header that depends on the machine."""
    folders = {str(parent) for name in files for parent in pathlib.PurePosixPath(name).parents if str(parent) != "."} | {"tmp"}
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(folders | set(files)):
            entry = tarfile.TarInfo(name)
            entry.mtime = epoch
            if name in folders:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
                tar.addfile(entry)
            else:
                entry.mode, data = files[name]
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    return gzip.compress(plain.getvalue(), 9, mtime=0), digest(plain.getvalue())


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def text(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


class Layout:
    def __init__(self):
        self.blobs = {}

    def put(self, data, kind):
        self.blobs[digest(data)] = data
        return {"mediaType": kind, "digest": digest(data), "size": len(data)}

    def image(self, architecture, files, labels, created, epoch):
        packed, plain = layer(files, epoch)
        config = {
            "architecture": architecture,
            "os": "linux",
            "created": created,
            "config": {
                "User": f"{USER}:{USER}",
                "Entrypoint": ["/" + PROGRAM],
                "WorkingDir": "/",
                "Env": ["PATH=/usr/bin", f"SSL_CERT_FILE=/{AUTHORITIES}"],
                "Labels": labels,
            },
            "rootfs": {"type": "layers", "diff_ids": [plain]},
            "history": [{"created": created, "created_by": "scripts/image/layout.py"}],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.put(text(config), CONFIG),
            "layers": [self.put(packed, LAYER)],
            "annotations": labels,
        }
        return self.put(text(manifest), MANIFEST) | {"platform": {"architecture": architecture, "os": "linux"}}

    def write(self, folder, top, tag):
        (folder / "blobs" / "sha256").mkdir(parents=True)
        for name, data in self.blobs.items():
            (folder / "blobs" / "sha256" / name.removeprefix("sha256:")).write_bytes(data)
        (folder / "oci-layout").write_bytes(text({"imageLayoutVersion": "1.0.0"}))
        named = top | {"annotations": {"org.opencontainers.image.ref.name": tag}}
        (folder / "index.json").write_bytes(text({"schemaVersion": 2, "mediaType": INDEX, "manifests": [named]}))


def bill_of_materials(lock, wheels, version, created):
    """CycloneDX 1.5: every crate in the lock file, and the two packages whose data is in the image."""
    packages = tomllib.loads(lock.read_text())["package"]
    components = []
    for package in sorted(packages, key=lambda one: (one["name"], one["version"])):
        if "source" not in package:
            continue
        purl = f"pkg:cargo/{package['name']}@{package['version']}"
        components.append({
            "type": "library", "bom-ref": purl, "name": package["name"], "version": package["version"], "purl": purl,
            "hashes": [{"alg": "SHA-256", "content": package["checksum"]}],
        })
    for name in ("certifi", "tzdata"):
        _, path = wheel(wheels, name)
        number = path.name.split("-")[1]
        purl = f"pkg:pypi/{name}@{number}"
        components.append({
            "type": "data", "bom-ref": purl, "name": name, "version": number, "purl": purl,
            "hashes": [{"alg": "SHA-256", "content": digest(path.read_bytes()).removeprefix("sha256:")}],
        })
    return {
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "serialNumber": "urn:uuid:" + str(uuid.uuid5(uuid.NAMESPACE_URL, digest(text(components)))),
        "metadata": {"timestamp": created, "component": {"type": "application", "name": "lowtide", "version": version}},
        "components": components,
    }


def provenance(top, arguments, lock, wheels):
    """What it was built from, as an in-toto statement; whoever signs it vouches for it."""
    materials = [{"uri": f"git+revision:{arguments.revision}", "digest": {"gitCommit": arguments.revision}}]
    materials.append({"uri": "Cargo.lock", "digest": {"sha256": digest(lock.read_bytes()).removeprefix("sha256:")}})
    for name in ("certifi", "tzdata"):
        _, path = wheel(wheels, name)
        materials.append({"uri": f"pkg:pypi/{path.name}", "digest": {"sha256": digest(path.read_bytes()).removeprefix("sha256:")}})
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "lowtide", "digest": {"sha256": top["digest"].removeprefix("sha256:")}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "make image",
                "externalParameters": {"version": arguments.version, "architectures": sorted(arguments.binary)},
                "internalParameters": {"toolchain": arguments.toolchain},
                "resolvedDependencies": materials,
            },
            "runDetails": {"builder": {"id": "scripts/image/build.sh"}},
        },
    }


def binary(value):
    architecture, _, path = value.partition("=")
    if architecture not in ARCHITECTURES or not path:
        raise argparse.ArgumentTypeError(f"expected {'|'.join(ARCHITECTURES)}=FILE, found {value!r}")
    return architecture, pathlib.Path(path)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--revision", required=True)
    parser.add_argument("--epoch", type=int, required=True)
    parser.add_argument("--wheels", type=pathlib.Path, required=True)
    parser.add_argument("--lock", type=pathlib.Path, required=True)
    parser.add_argument("--toolchain", default="")
    parser.add_argument("--binary", type=binary, action="append", required=True)
    arguments = parser.parse_args()
    arguments.binary = dict(arguments.binary)
    created = datetime.datetime.fromtimestamp(arguments.epoch, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    labels = {
        "org.opencontainers.image.title": "lowtide",
        "org.opencontainers.image.description": "Buys the cheapest GPU capacity the AWS market has, and proves every cent.",
        "org.opencontainers.image.version": arguments.version,
        "org.opencontainers.image.revision": arguments.revision,
        "org.opencontainers.image.created": created,
        "org.opencontainers.image.licenses": "Apache-2.0",
    }
    layout = Layout()
    images = [
        layout.image(architecture, contents(static_binary(architecture, path), arguments.wheels), labels, created, arguments.epoch)
        for architecture, path in sorted(arguments.binary.items())
    ]
    top = layout.put(text({"schemaVersion": 2, "mediaType": INDEX, "manifests": images, "annotations": labels}), INDEX)
    arguments.out.mkdir(parents=True, exist_ok=False)
    layout.write(arguments.out / "layout", top, arguments.version)
    (arguments.out / "sbom.cdx.json").write_bytes(text(bill_of_materials(arguments.lock, arguments.wheels, arguments.version, created)))
    (arguments.out / "provenance.json").write_bytes(text(provenance(top, arguments, arguments.lock, arguments.wheels)))
    sums = []
    for path in sorted(path for path in arguments.out.rglob("*") if path.is_file()):
        sums.append(f"{digest(path.read_bytes()).removeprefix('sha256:')}  {path.relative_to(arguments.out)}\n")
    (arguments.out / "SHA256SUMS").write_text("".join(sums))
    for image in images:
        size = sum(one["size"] for one in json.loads(layout.blobs[image["digest"]])["layers"])
        print(f"linux/{image['platform']['architecture']}: {size / 1e6:.1f} MB compressed")
        if size >= 40_000_000:
            raise SystemExit("expected less than 40 MB")
    print(f"image.digest: {top['digest']}")


if __name__ == "__main__":
    main()
