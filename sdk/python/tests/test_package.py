"""The package as users get it: a wheel with the program in it, installed into an environment of its own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from conftest import BINARY

from k2sandbox import __version__

PROJECT = Path(__file__).parent.parent
PLATFORM = "manylinux_2_17_{0}.manylinux2014_{0}.musllinux_1_1_{0}".format(platform.machine())

SCRIPT = """
from k2sandbox import Sandbox, _program
with Sandbox() as sandbox:
    print(_program.find(), sandbox.run_code("6 * 7").text)
"""


def build(folder: Path, **environ: str) -> Path:
    """Build a wheel."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=PROJECT, env={**os.environ, **environ}, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("dist"), K2SANDBOX_BINARY=BINARY, K2SANDBOX_PLATFORM=PLATFORM)


def test_wheel_has_the_program(wheel: Path) -> None:
    assert wheel.name == f"k2sandbox-{__version__}-py3-none-{PLATFORM}.whl"
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read(f"k2sandbox-{__version__}.data/scripts/k2sandbox") == Path(BINARY).read_bytes()
        assert "k2sandbox/py.typed" in archive.namelist()
        told = archive.read(f"k2sandbox-{__version__}.dist-info/WHEEL").decode()
    assert "Root-Is-Purelib: false" in told
    assert all(f"Tag: py3-none-{tag}\n" in told for tag in PLATFORM.split("."))


def test_wheel_without_the_program(tmp_path: Path) -> None:
    first, second = (build(tmp_path / name, K2SANDBOX_BINARY="") for name in ("a", "b"))
    assert first.name == f"k2sandbox-{__version__}-py3-none-any.whl"
    assert first.read_bytes() == second.read_bytes()


def test_installing_is_all(wheel: Path, tmp_path: Path, server: object) -> None:
    where = tmp_path / "env"
    venv.create(where)
    python = where / "bin" / "python"
    install = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "install",
        "--quiet",
        "--offline",
        "--no-deps",
        "--python",
        str(python),
        str(wheel),
    ]
    subprocess.run(install, check=True)
    others = {name: os.environ[name] for name in ("HOME", "TMPDIR", "K2_API_URL") if name in os.environ}
    environ = {
        **others,
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if "site-packages" in path),
    }
    done = subprocess.run([str(python), "-c", SCRIPT], env=environ, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"{where / 'bin' / 'k2sandbox'} 42\n", "")
    version = subprocess.run([str(where / "bin" / "k2sandbox"), "version"], capture_output=True, text=True, check=True)
    assert version.stdout.startswith("k2sandbox ")


def test_import_is_cheap() -> None:
    """What takes time is imported when it is needed, and not by `import k2sandbox`."""
    code = "import sys, k2sandbox; print(*(name for name in ('httpx', 'asyncio', 'IPython', 'ssl') if name in sys.modules))"
    environ = {**os.environ, "PYTHONPATH": str(PROJECT / "src")}
    assert subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True).stdout == "\n"


def test_licence_is_the_projects() -> None:
    """A copy: installers refuse links that lead out of a source archive."""
    mine = PROJECT / "LICENSE"
    assert not mine.is_symlink()
    assert mine.read_bytes() == (PROJECT.parent.parent / "LICENSE").read_bytes()
