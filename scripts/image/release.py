#!/usr/bin/env python3
"""Puts a release together from an image that `make image` wrote: the image, the binaries in it, the chart as a package and as an OCI
layout, the CRDs, the Terraform modules, and checksums of all. The same commit gives the same bytes.

    release.py --image target/image --root . --epoch SECONDS --out target/release

Decides what a release holds; builds nothing and pushes nothing.
"""
import argparse
import gzip
import io
import json
import pathlib
import shutil
import tarfile
import tomllib

from layout import PROGRAM, Layout, digest, text

CHART_CONFIG = "application/vnd.cncf.helm.config.v1+json"
CHART_LAYER = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
# What Helm leaves out by charts/lowtide/.helmignore, and what Terraform writes beside modules.
LEFT_OUT = {"ci", ".terraform", ".terraform.lock.hcl", "terraform.tfstate", ".helmignore", ".DS_Store"}


def package(folder, top, epoch):
    """A compressed tar of a folder's files under another name: sorted, owned by root, one timestamp."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            inside = path.relative_to(folder)
            if LEFT_OUT & set(inside.parts):
                continue
            entry = tarfile.TarInfo(f"{top}/{inside}")
            entry.size, entry.mtime, entry.mode = path.stat().st_size, epoch, 0o755 if path.stat().st_mode & 0o100 else 0o644
            with path.open("rb") as file:
                tar.addfile(entry, file)
    return gzip.compress(plain.getvalue(), 9, mtime=0)


def chart_metadata(chart):
    """Chart.yaml as Helm writes it into a chart's OCI config: ours has only plain `key: value` lines and one list."""
    found = {}
    for line in (chart / "Chart.yaml").read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        key, _, value = line.partition(": ")
        value = value.strip().strip('"')
        found[key] = [one.strip() for one in value[1:-1].split(",")] if value.startswith("[") else value
    missing = {"apiVersion", "name", "version", "appVersion"} - set(found)
    if missing:
        raise SystemExit(f"{chart}/Chart.yaml: expected plain lines with {sorted(missing)}")
    return found


def chart_layout(packed, metadata, out):
    """An OCI layout that `oras cp --from-oci-layout` and `crane push` take, and that Helm then pulls."""
    layout = Layout()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": layout.put(text(metadata), CHART_CONFIG),
        "layers": [layout.put(packed, CHART_LAYER)],
        "annotations": {"org.opencontainers.image.title": metadata["name"], "org.opencontainers.image.version": metadata["version"]},
    }
    top = layout.put(text(manifest), MANIFEST)
    layout.write(out, top, metadata["version"])
    index = json.loads((out / "index.json").read_text())
    index["manifests"][0]["mediaType"] = MANIFEST
    (out / "index.json").write_bytes(text(index))
    return top["digest"]


def binaries(image):
    """Architecture and bytes of the program in each image of the layout: what runs outside is what runs inside."""
    def blob(reference):
        return (image / "layout/blobs/sha256" / reference["digest"].removeprefix("sha256:")).read_bytes()

    top = json.loads((image / "layout/index.json").read_text())["manifests"][0]
    for one in json.loads(blob(top))["manifests"]:
        layer = json.loads(blob(one))["layers"][0]
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob(layer)))) as tar:
            yield one["platform"]["architecture"], tar.extractfile(PROGRAM).read()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--image", type=pathlib.Path, required=True)
    parser.add_argument("--root", type=pathlib.Path, required=True)
    parser.add_argument("--epoch", type=int, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    root, out, image = arguments.root, arguments.out, arguments.image
    if not (image / "layout/index.json").is_file():
        raise SystemExit(f"{image} is not what `make image` writes: run that first")
    version = tomllib.loads((root / "Cargo.toml").read_text())["package"]["version"]
    chart = root / "charts/lowtide"
    metadata = chart_metadata(chart)
    if metadata["appVersion"] != version:
        raise SystemExit(f"charts/lowtide/Chart.yaml: expected appVersion {version}, as in Cargo.toml, found {metadata['appVersion']}")
    out.mkdir(parents=True, exist_ok=False)
    shutil.copytree(image, out / "image")
    for architecture, program in binaries(image):
        path = out / f"lowtide-{version}-linux-{architecture}"
        path.write_bytes(program)
        path.chmod(0o755)
    packed = package(chart, metadata["name"], arguments.epoch)
    (out / f"lowtide-chart-{metadata['version']}.tgz").write_bytes(packed)
    (out / "chart").mkdir()
    chart_digest = chart_layout(packed, metadata, out / "chart")
    crds = "".join(f"---\n{path.read_text().strip().removeprefix('---').strip()}\n" for path in sorted((root / "crds").glob("*.yaml")))
    (out / f"lowtide-crds-{version}.yaml").write_text(crds)
    (out / f"lowtide-terraform-{version}.tgz").write_bytes(package(root / "terraform", "terraform", arguments.epoch))
    sums = []
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        sums.append(f"{digest(path.read_bytes()).removeprefix('sha256:')}  {path.relative_to(out)}\n")
    (out / "SHA256SUMS").write_text("".join(sums))
    print(f"chart.digest: {chart_digest}")


if __name__ == "__main__":
    main()
