"""Images that sandboxes are made of, in a store of their own."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path
from typing import Any

from packages import make_wheel

MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
GLIBC = ("libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1", "libresolv.so.2")
NEEDLESS = {"test", "tests", "idlelib", "lib2to3", "tkinter", "ensurepip", "site-packages", "dist-packages"}
PACKAGES = ("k2benchone", "k2benchtwo", "k2benchthree")
INSTALL = "apt-get -qq update && apt-get -qqy install --no-install-recommends python3-ipykernel"


class Store:
    """A data folder of k2sandbox, with templates. Nothing comes from outside."""

    def __init__(self, binary: str, python: str, folder: Path) -> None:
        self.binary, self.python = binary, python
        self.folder = folder / "data"
        self.image = folder / "image.tar"
        self.wheels = folder / "wheels"
        self.wheels.mkdir()
        for name in PACKAGES:
            make_wheel(self.wheels, name)
        self.list = folder / "requirements.txt"
        self.list.write_text("\n".join(PACKAGES))

    def _do(self, *args: str) -> None:
        command = [self.binary, "template", *args, "--data-dir", str(self.folder)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise RuntimeError(f"template {args[0]}: {done.stdout[-1000:]}")

    def scratch(self, name: str) -> None:
        """Import an image of no more than a shell and its C library."""
        write_scratch(self.image)
        self._do("import", str(self.image), "--name", name)

    def with_own_python(self, name: str) -> None:
        """Import one that has this Python, and its ipykernel, too."""
        write_python(self.image)
        self._do("import", str(self.image), "--name", name)

    def has_debian(self) -> bool:
        return os.path.exists(os.environ.get("K2_TEST_DEBIAN", ""))

    def debian(self, name: str) -> None:
        """Import the Debian that debootstrap made."""
        self._do("import", os.environ["K2_TEST_DEBIAN"], "--name", name)

    def _build(self, name: str, *args: str) -> None:
        self._do("build", name, *args, "--python", self.python, "--network", "none")

    def with_packages(self, name: str, *of: str) -> None:
        """Build a template with the packages, of the server's own, or of another."""
        where = ("--package-find-links", str(self.wheels), "--package-no-index")
        self._build(name, *of, "--requirements", str(self.list), *where)

    def with_debians_python(self, name: str, base: str) -> None:
        """Build a template of the Debian with its own Python, by apt-get."""
        self._build(name, "--from", base, "--env", "DEBIAN_FRONTEND=noninteractive", "--run", INSTALL)


def write_scratch(file: Path) -> None:
    """Write an image of a shell of this machine and its C library."""
    with tarfile.open(file.with_suffix(".layer"), "w", dereference=True) as tar:
        add_shell(tar)
    write_image(file, {})


def write_python(file: Path) -> None:
    """Write an image of a shell and the Python that runs this, with its ipykernel among its own packages."""
    program, stdlib = os.path.realpath(sys.executable), Path(sysconfig.get_path("stdlib"))
    folder = Path(program).parent
    with tarfile.open(file.with_suffix(".layer"), "w", dereference=True) as tar:
        add_shell(tar)
        tar.add(program)
        tar.add(program, str(folder / "python3"))
        tar.add(stdlib, filter=needed)
        linked = [program, *map(str, stdlib.rglob("*.so"))]
        here, there = Path(sysconfig.get_path("purelib")), stdlib / "site-packages"
        for name in names_of("ipykernel"):
            tar.add(here / name, str(there / name))
            linked += map(str, (here / name).rglob("*.so"))
        for path in libraries(*linked):
            if not path.startswith(str(here)):
                tar.add(path)
    write_image(file, {"Env": [f"PATH={folder}:/usr/bin:/bin"]})


def add_shell(tar: tarfile.TarFile) -> None:
    linked = libraries("/bin/sh")
    (libc,) = (Path(path).parent for path in linked if "/libc.so" in path)
    for path in ["/bin/sh", *linked, *(str(libc / name) for name in GLIBC)]:
        if os.path.exists(path):
            tar.add(path)


def libraries(*files: str) -> list[str]:
    """Return what programs and libraries are linked with."""
    told = subprocess.run(["ldd", *files], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return sorted(set(re.findall(r"^\t.*?(/\S+) \(0x", told.stdout, re.MULTILINE)))


def names_of(distribution: str) -> set[str]:
    """Return what a distribution, and those that it needs, have put into this environment."""
    wanted, seen, names = {distribution}, {"debugpy"}, set()  # it works without that one
    while new := wanted - seen:
        seen |= new
        for name in new:
            try:
                found = importlib.metadata.distribution(name)
            except importlib.metadata.PackageNotFoundError:  # of other platforms
                continue
            names |= {file.parts[0] for file in found.files or []}
            needs = [r for r in found.requires or [] if "extra ==" not in r]
            wanted |= {re.split(r"[^\w.-]", r)[0] for r in needs}
    return names - {"..", "__pycache__"}


def needed(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leave out what of Python no kernel needs."""
    name = info.name.rpartition("/")[2]
    return None if name in NEEDLESS or name.startswith("config-") or ".opt-" in name else info


def write_image(file: Path, settings: dict[str, Any]) -> None:
    """Write an image as "docker save" does, of the layer beside it."""
    layer, config, manifest = (file.with_suffix(end) for end in (".layer", ".config", ".manifest"))
    digest = hashlib.sha256(layer.read_bytes()).hexdigest()
    layers = {"type": "layers", "diff_ids": [f"sha256:{digest}"]}
    machine = MACHINES[platform.machine()]
    about = {"os": "linux", "architecture": machine, "config": settings, "rootfs": layers}
    config.write_text(json.dumps(about))
    parts = {"Config": "config.json", "RepoTags": ["bench/image:1"], "Layers": ["layer.tar"]}
    manifest.write_text(json.dumps([parts]))
    with tarfile.open(file, "w") as tar:
        for path, name in ((manifest, "manifest.json"), (config, "config.json"), (layer, "layer.tar")):
            tar.add(path, name)
            path.unlink()
