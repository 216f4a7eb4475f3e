"""Measures k2sandbox beside its peers: see README.md here.

    python bench/bench.py --binary bin/k2sandbox [--scale quick|long] [--only PART,...] [--out doc/bench]

What is compared takes turns, in an order that is shuffled in each round. Nothing is asserted about
time; an answer that is not the right one is an error. A part that fails is told of, and the others
go on: each runs in a process of its own, in bounded time. Exit status: 0, or 1 where we or a part failed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import aims
import results
from lanes import is_ours
from machine import machine
from options import SCALES, Options
from parts import PARTS, Part, chosen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True, help="k2sandbox")
    parser.add_argument("--python", default=sys.executable, help="interpreter of the kernels")
    parser.add_argument("--scale", default="default", help=f"how much is done: {', '.join(SCALES)}")
    parser.add_argument("--only", default="", help=f"parts, with commas between them, of {', '.join(PARTS)}")
    parser.add_argument(
        "--out", type=Path, help="folder of results.md and results.json, which keeps other parts"
    )
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)  # what a part found: we are its process
    options = parser.parse_args()
    if options.scale not in SCALES:
        parser.error(f"there is no scale {options.scale!r}: want {', '.join(SCALES)}")
    try:
        parts = chosen(options.only, options.scale)
    except ValueError as error:
        parser.error(str(error))
    if not os.access(options.binary, os.X_OK):
        parser.error(f"--binary: {options.binary} is not a program: make build")
    o = Options(os.path.abspath(options.binary), options.python, options.scale)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("it was asked to end"))
    if options.into:
        measure(o, parts[0], options.into)
        return 0
    return run(o, parts, options.out)


def measure(o: Options, part: Part, into: Path) -> None:
    """Measure one part in this process."""
    into.write_text(json.dumps(part.measure(o)))


def run(o: Options, parts: list[Part], out: Path | None) -> int:
    """Run parts, write what they found as it comes, and return the exit status."""
    found = results.read(out)
    start, failed = time.monotonic(), False
    for number, part in enumerate(parts, 1):
        print(f"{part.module} ({number} of {len(parts)}) …", file=sys.stderr, flush=True)
        begun, about = time.monotonic(), machine(o)
        result = apart(o, part)
        result |= {"machine": about, "took": time.monotonic() - begun}
        found[part.module] = result
        failed |= wrong(result)
        print(f"  {result['took']:.0f} s", file=sys.stderr, flush=True)
        print(results.section(part.module, result), flush=True)
        if out:
            results.write(out, found)
    print(aims.page({part.module: found[part.module] for part in parts}))
    print(f"all took {time.monotonic() - start:.0f} s", file=sys.stderr)
    return int(failed)


def apart(o: Options, part: Part) -> dict[str, Any]:
    """Run a part in a process of its own, of which nothing is left."""
    with tempfile.TemporaryDirectory(prefix="k2b-") as folder:
        into = Path(folder) / "found"
        command = [sys.executable, __file__, "--binary", o.binary, "--python", o.python, "--scale", o.scale]
        limit = part.minutes * 60 * (10 if o.scale == "long" else 1)
        environment = {**os.environ, "TMPDIR": folder}
        process = subprocess.Popen(
            [*command, "--only", part.module, "--into", into],
            stdout=sys.stderr,
            env=environment,
            start_new_session=True,
        )
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            return {"error": f"it had not ended after {limit / 60:.0f} minutes"}
        finally:
            end(process)
        if status:
            return {"error": f"it ended with status {status}"}
        return {"found": json.loads(into.read_text())}


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process that may have ended, and what is left of its session, gently and then by force."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(90)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wrong(found: Any) -> bool:
    """Report whether a part failed, or what is ours in it."""
    if isinstance(found, dict):
        mine = any(is_ours(name) for name in found.get("failed", ()))
        return "error" in found or mine or any(wrong(value) for value in found.values())
    return False


if __name__ == "__main__":
    sys.exit(main())
