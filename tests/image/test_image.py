"""The image that run.sh made: what is in it, that it hangs together, that it runs, and what the writer refuses."""
import gzip
import hashlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import unittest

OUT = pathlib.Path(os.environ["LAYOUT"])
ROOT = pathlib.Path(os.environ["ROOT"])
sys.path.insert(0, str(ROOT / "scripts" / "image"))
import layout  # noqa: E402


def blob(descriptor):
    algorithm, value = descriptor["digest"].split(":")
    data = (OUT / "layout" / "blobs" / algorithm / value).read_bytes()
    assert hashlib.new(algorithm, data).hexdigest() == value, f"{value} is not its content's"
    assert len(data) == descriptor["size"]
    return data


class Image(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.outer = json.loads((OUT / "layout" / "index.json").read_text())
        cls.index = json.loads(blob(cls.outer["manifests"][0]))
        cls.manifest = json.loads(blob(cls.index["manifests"][0]))
        cls.config = json.loads(blob(cls.manifest["config"]))
        cls.packed = blob(cls.manifest["layers"][0])
        cls.tar = tarfile.open(fileobj=io.BytesIO(gzip.decompress(cls.packed)))

    def test_every_blob_is_named_and_nothing_else_is_there(self):
        named = {self.outer["manifests"][0]["digest"], self.index["manifests"][0]["digest"], self.manifest["config"]["digest"], self.manifest["layers"][0]["digest"]}
        self.assertEqual({"sha256:" + path.name for path in (OUT / "layout" / "blobs" / "sha256").iterdir()}, named)
        self.assertEqual(json.loads((OUT / "layout" / "oci-layout").read_text()), {"imageLayoutVersion": "1.0.0"})
        self.assertIn(self.outer["manifests"][0]["digest"], os.environ["SAID"])

    def test_the_layer_is_what_the_configuration_says(self):
        self.assertEqual(self.config["rootfs"]["diff_ids"], ["sha256:" + hashlib.sha256(gzip.decompress(self.packed)).hexdigest()])
        self.assertEqual(self.index["manifests"][0]["platform"], {"architecture": "amd64", "os": "linux"})
        self.assertLess(len(self.packed), 40_000_000)

    def test_it_is_nobody_and_has_no_shell(self):
        self.assertEqual(self.config["config"]["User"], "65532:65532")
        self.assertEqual(self.config["config"]["Entrypoint"], ["/usr/bin/lowtide"])
        programs = {entry.name for entry in self.tar if entry.isreg() and entry.mode & 0o111}
        self.assertEqual(programs, {"usr/bin/lowtide"})

    def test_nobody_but_root_owns_or_writes_anything(self):
        times = {entry.mtime for entry in self.tar}
        self.assertEqual(len(times), 1)
        for entry in self.tar:
            self.assertEqual((entry.uid, entry.gid, entry.uname, entry.gname), (0, 0, "", ""), entry.name)
            self.assertTrue(entry.isreg() or entry.isdir(), entry.name)
            self.assertFalse(entry.mode & 0o022 and entry.name != "tmp", f"{entry.name} may be written")
            self.assertFalse(entry.mode & 0o6000, f"{entry.name} is set-user-id")

    def test_authorities_and_time_zones_are_there(self):
        authorities = self.tar.extractfile("etc/ssl/certs/ca-certificates.crt").read()
        self.assertGreater(authorities.count(b"BEGIN CERTIFICATE"), 100)
        self.assertEqual(self.tar.extractfile("usr/share/zoneinfo/Europe/Madrid").read(4), b"TZif")

    def test_labels_say_what_it_is(self):
        labels = self.config["config"]["Labels"]
        self.assertEqual(labels, self.manifest["annotations"])
        revision = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
        self.assertEqual(labels["org.opencontainers.image.revision"], revision)
        self.assertEqual(labels["org.opencontainers.image.licenses"], "Apache-2.0")

    def test_the_bill_of_materials_is_the_lock_file(self):
        bill = json.loads((OUT / "sbom.cdx.json").read_text())
        crates = {(one["name"], one["version"]) for one in bill["components"] if one["purl"].startswith("pkg:cargo/")}
        locked = {(one["name"], one["version"]) for one in tomllib.loads((ROOT / "Cargo.lock").read_text())["package"] if "source" in one}
        self.assertEqual(crates, locked)
        self.assertEqual({one["name"] for one in bill["components"] if one["purl"].startswith("pkg:pypi/")}, {"certifi", "tzdata"})

    def test_the_provenance_is_about_this_image(self):
        statement = json.loads((OUT / "provenance.json").read_text())
        self.assertEqual("sha256:" + statement["subject"][0]["digest"]["sha256"], self.outer["manifests"][0]["digest"])

    @unittest.skipUnless(os.geteuid() == 0, "chroot needs root")
    def test_it_runs_from_nothing_but_itself_as_nobody(self):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            self.tar.extractall(folder, filter="data")
            # The filter for foreign archives takes a folder's sticky bit away.
            os.chmod(f"{folder}/tmp", 0o1777)
            answer = subprocess.run(["chroot", "--userspec=65532:65532", folder, "/usr/bin/lowtide", "--version"], capture_output=True, text=True)
            version = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]
            self.assertEqual((answer.returncode, answer.stdout.strip()), (0, f"lowtide {version}"), answer.stderr)


class Refusals(unittest.TestCase):
    def refused(self, architecture, path):
        with self.assertRaises(SystemExit) as raised:
            layout.static_binary(architecture, pathlib.Path(path))
        return str(raised.exception)

    def test_a_program_that_wants_a_loader(self):
        self.assertIn("expected a static program", self.refused("amd64", os.path.realpath("/bin/ls")))

    def test_a_program_for_another_machine(self):
        self.assertIn("expected a 64-bit ELF program for arm64", self.refused("arm64", os.path.realpath("/bin/ls")))

    def test_no_program(self):
        self.assertIn("expected a 64-bit ELF program", self.refused("amd64", __file__))

    def test_an_architecture_that_is_none(self):
        with self.assertRaises(layout.argparse.ArgumentTypeError):
            layout.binary("sparc=/bin/ls")


if __name__ == "__main__":
    unittest.main()
