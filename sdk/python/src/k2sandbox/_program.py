"""The program k2sandbox: a wheel has it; else it is on PATH."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from .errors import StartError


def find() -> str:
    """Return the path of the program.

    Raises:
        StartError: it is nowhere, or does not run on this platform; the hint says what to do.
    """
    if sys.platform != "linux":
        raise StartError(
            f"no k2sandbox server runs on {sys.platform}",
            hint="run `k2sandbox serve` on Linux and set K2_API_URL, or pass api_url=…",
        )
    for folder in _folders():
        path = folder / "k2sandbox"
        if os.access(path, os.X_OK) and path.is_file():
            return str(path)
    found = shutil.which("k2sandbox")
    if found is None:
        raise StartError(
            "there is no program k2sandbox, which this installation of the package came without",
            hint="install a wheel for Linux on x86_64 or aarch64 (pip install --only-binary k2sandbox k2sandbox), "
            "or build it: git clone https://github.com/k2sandbox/k2sandbox && make -C k2sandbox build, "
            "and put k2sandbox/bin on PATH; or set K2_API_URL to a server that runs",
        )
    return os.path.abspath(found)


def _folders() -> Iterator[Path]:
    """Where installers put programs: an environment's, a user's (--user), beside the package (--prefix, --target)."""
    yield Path(sysconfig.get_path("scripts"))
    if "posix_user" in sysconfig.get_scheme_names():
        yield Path(sysconfig.get_path("scripts", "posix_user"))
    packages = Path(__file__).resolve().parent.parent
    yield packages / "bin"
    if packages.name in ("site-packages", "dist-packages"):
        yield packages.parents[2] / "bin"
