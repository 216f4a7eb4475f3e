"""Compares POST /v1/packages of a wheel that is in uv's cache with `uv pip install` of it.

    python bench/packages.py --binary bin/k2sandbox [--rounds N]

Each round installs another package, whose wheel was installed once before, so that it is in the
cache, into the sandbox and into a virtual environment of uv's own, in an order that is shuffled.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from engine import Engine
from report import against, table
from stats import percentile

FILES = 50  # of a package
OURS = "POST /v1/packages"


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


def uv_install(python: str, interpreter: Path, wheels: Path, *names: str) -> None:
    uv = [python, "-m", "uv", "pip", "install", "--quiet", "--python", str(interpreter), "--no-index"]
    subprocess.run([*uv, "--find-links", str(wheels), *names], check=True)


def post(address: tuple[str, int], name: str) -> None:
    with closing(http.client.HTTPConnection(*address)) as connection:
        connection.request("POST", "/v1/packages", json.dumps({"packages": [name]}))
        *_, end = connection.getresponse().read().splitlines()
    last = json.loads(end)
    if last["status"] != "ok" or [d["name"] for d in last["installed"]] != [name]:
        raise RuntimeError(f"{name} was not installed: {last}")


def timed(install: Callable[[], None]) -> float:
    start = time.perf_counter()
    install()
    return time.perf_counter() - start


def measure(binary: str, python: str, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each installation, by lane."""
    for name in ("UV_FIND_LINKS", "PIP_FIND_LINKS"):  # both look at our wheels alone
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory(prefix="k2b-") as place:
        folder = Path(place)
        names = [f"k2bench{i}" for i in range(rounds + 2)]
        for name in names:
            make_wheel(folder, name)
        for env in ("cache", "uv"):
            subprocess.run([python, "-m", "venv", "--without-pip", folder / env], check=True)
        interpreter = folder / "uv" / "bin" / "python"
        uv_install(python, folder / "cache" / "bin" / "python", folder, *names)
        options = ("--package-find-links", place, "--package-no-index")
        ours: list[float] = []
        theirs: list[float] = []
        with closing(Engine(binary, python, *options)) as engine:
            for n, name in enumerate(names):
                lanes: list[tuple[list[float], Callable[[], None]]] = [
                    (ours, lambda name=name: post(engine.address, name)),  # type: ignore[misc]
                    (theirs, lambda name=name: uv_install(python, interpreter, folder, name)),  # type: ignore[misc]
                ]
                for times, install in random.sample(lanes, 2):
                    seconds = timed(install)
                    if n >= 2:  # the first ones only warm up
                        times.append(seconds)
        return {OURS: ours, "uv pip install": theirs}


def page(times: dict[str, list[float]]) -> str:
    """Return the results as a table."""
    rows = []
    for lane, values in times.items():
        numbers = [f"{percentile(values, p) * 1000:.0f}" for p in (50, 90)]
        share = "" if lane == OURS else against(times[OURS], values)
        rows.append([lane, *numbers, str(len(values)), share])
    return table(["by", "p50 ms", "p90 ms", "rounds", f"{OURS} / this"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True, help="k2sandbox")
    parser.add_argument("--python", default=sys.executable, help="interpreter of the kernel, which has uv")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    print(page(measure(options.binary, options.python, options.rounds)))


if __name__ == "__main__":
    main()
