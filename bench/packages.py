"""Installing a package whose wheel is in the installer's cache, or in a folder: nothing comes from outside.

Each round installs another package of FILES files.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

from engine import Engine, ask
from options import Options
from report import SPREAD, against, failures, spread, table
from turns import take_turns

FILES = 50
WARM = 2
OURS = "k2sandbox, POST /v1/packages"


def make_wheel(folder: Path, name: str) -> None:
    info = f"{name}-1.0.dist-info"
    files = {f"{name}/m{i}.py": f"x = {i}\n" * 100 for i in range(FILES)}
    files[f"{name}/__init__.py"] = ""
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    files[f"{info}/WHEEL"] = (
        "Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        for file, text in files.items():
            wheel.writestr(file, text)


class Installer:
    """A command that installs into a virtual environment of its own, from a folder of wheels."""

    def __init__(self, python: str, command: list[str], folder: Path, name: str) -> None:
        subprocess.run([python, "-m", "venv", "--without-pip", folder / name], check=True)
        self.interpreter = folder / name / "bin" / "python"
        self.command = [arg.format(python=python, interpreter=self.interpreter) for arg in command]
        self.command += ["--quiet", "--no-index", "--find-links", str(folder)]

    def install(self, *names: str) -> None:
        subprocess.run([*self.command, *names], check=True)
        for name in names:
            found = list(self.interpreter.parents[1].glob(f"lib/python*/site-packages/{name}/m0.py"))
            if not found:
                raise RuntimeError(f"{name} was not installed")


def post(engine: Engine, name: str) -> None:
    last = ask(engine.address, "POST", "/v1/packages", json.dumps({"packages": [name]}))
    if last["status"] != "ok" or [d["name"] for d in last["installed"]] != [name]:
        raise RuntimeError(f"{name} was not installed: {last}")


def timed(install: Callable[[str], None], names: list[str]) -> float:
    """Return the seconds that it took to install the next of the packages."""
    name = names.pop()
    start = time.perf_counter()
    install(name)
    return time.perf_counter() - start


def measure(o: Options) -> dict[str, Any]:
    """Return the seconds of each installation, by lane."""
    for name in ("UV_FIND_LINKS", "PIP_FIND_LINKS"):  # all look at our wheels alone
        os.environ.pop(name, None)
    rounds = o.pick(3, 20)
    names = [f"k2bench{i}" for i in range(rounds + WARM)]
    failed: dict[str, str] = {}
    with ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="k2b-"))
        folder = Path(place)
        for name in names:
            make_wheel(folder, name)
        uv = ["{python}", "-m", "uv", "pip", "install", "--python", "{interpreter}"]
        pip = ["{python}", "-m", "pip", "--python", "{interpreter}", "install", "--disable-pip-version-check"]
        Installer(o.python, uv, folder, "cache").install(*names)  # which puts them into uv's cache
        options = ("--package-find-links", place, "--package-no-index")
        engine = stack.enter_context(closing(Engine(o.binary, o.python, *options)))
        lanes: dict[str, Callable[[str], None]] = {
            OURS: partial(post, engine),
            "uv pip install": Installer(o.python, uv, folder, "uv").install,
            "pip install": Installer(o.python, pip, folder, "pip").install,
        }
        turns = {name: partial(timed, lane, list(names)) for name, lane in lanes.items()}
        return {"times": take_turns(turns, rounds, failed, warm=WARM), "failed": failed}


def page(found: dict[str, Any]) -> str:
    times = found["times"]
    rows = [[n, *spread(t, 0), str(len(t)), against(times[OURS], t)] for n, t in times.items()]
    return table(["", *SPREAD, "rounds", "k2sandbox / this"], rows) + failures(found["failed"])
