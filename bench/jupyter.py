"""1+1, ten images of 4 MB and 20,000 displays over a kernel's WebSocket, beside two other servers.

    python bench/jupyter.py --binary bin/k2sandbox --python bin/jupyter/bin/python [--quick]

The interpreter has what make jupyter installs: jupyter_server, jupyter_kernel_gateway and websocket-client;
it runs all kernels. A client decodes every message of the v1 subprotocol. Nothing is asserted about time.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from stats import percentile, ratio

V1 = "v1.kernel.websocket.jupyter.org"
TOKEN = "k2_bench_0123456789abcdef0123456789abcdef"
IMAGES = """
import os
from IPython.display import Image, display
for _ in range({n}): display(Image(data=os.urandom(4_000_000), format='png'))
"""
DISPLAYS = "for i in range({n}): display(i)"


class Kernel:
    """A kernel of a server, and its WebSocket."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.id = self.call("POST", "/api/kernels", {})["id"]
        websocket: Any = importlib.import_module("websocket")
        at = f"{url.replace('http', 'ws', 1)}/api/kernels/{self.id}/channels?session_id=bench"
        header = [f"Authorization: token {TOKEN}"]
        self.sock = websocket.create_connection(at, subprotocols=[V1], header=header, timeout=300)
        self.sock.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent = 0

    def call(self, method: str, path: str, body: Any = None) -> Any:
        head = {"Authorization": f"token {TOKEN}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, head, method=method)
        with urllib.request.urlopen(request, timeout=300) as answer:
            return json.loads(answer.read() or b"null")

    def run(self, code: str, pause: float = 0) -> tuple[int, int, str]:
        """Return how many results a run had, how many bytes of them, and the last, when it has ended."""
        self.sent += 1
        header = {"msg_id": f"run-{self.sent}", "msg_type": "execute_request", "session": "bench"}
        header |= {"username": "", "version": "5.3", "date": "2026-01-01T00:00:00.000000Z"}
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
        parts = [b"shell", json.dumps(header).encode(), b"{}", b"{}", json.dumps(content).encode()]
        self.sock.send_binary(frame(parts))
        results, size, last, ends = 0, 0, "", 0
        while ends < 2:
            data = self.sock.recv()
            channel, head, parent, _, body, *_ = split(data)
            if json.loads(parent).get("msg_id") != header["msg_id"]:
                continue
            kind, said = json.loads(head)["msg_type"], json.loads(body)
            if kind in ("execute_result", "display_data"):
                results, size, last = results + 1, size + len(body), said["data"].get("text/plain", "")
                time.sleep(pause)
                pause = 0
            ends += channel == b"shell" or said.get("execution_state") == "idle"
        return results, size, last

    def close(self) -> None:
        self.sock.close()
        self.call("DELETE", f"/api/kernels/{self.id}")


def frame(parts: list[bytes]) -> bytes:
    offsets = [8 * (len(parts) + 2)]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    numbers = [len(offsets), *offsets]
    return b"".join([*(number.to_bytes(8, "little") for number in numbers), *parts])


def split(data: bytes) -> list[bytes]:
    count = int.from_bytes(data[:8], "little")
    offsets = [int.from_bytes(data[8 * i : 8 * i + 8], "little") for i in range(1, count + 1)]
    return [data[a:b] for a, b in pairwise(offsets)]


@contextmanager
def server(name: str, binary: str, python: str) -> Iterator[tuple[str, int]]:
    """Start a server, and yield its URL and its process."""
    with tempfile.TemporaryDirectory(prefix="k2b-") as folder:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        ours = [
            binary,
            "serve",
            "--listen",
            f"127.0.0.1:{port}",
            "--python",
            python,
            "--state-dir",
            f"{folder}/state",
        ]
        theirs = {
            "Jupyter Server": ["jupyter_server", "--allow-root", "--no-browser", f"--port={port}"],
            "Kernel Gateway": ["kernel_gateway", f"--KernelGatewayApp.port={port}"],
        }
        limits = [
            "--ZMQChannelsWebsocketConnection.limit_rate=False"
        ]  # Jupyter Server drops output past 1 MB/s
        tokens = {
            "Jupyter Server": [
                *limits,
                f"--IdentityProvider.token={TOKEN}",
                f"--ServerApp.root_dir={folder}",
            ],
            "Kernel Gateway": [*limits, f"--KernelGatewayApp.auth_token={TOKEN}"],
        }
        command = [python, "-m", *theirs[name], *tokens[name]] if name in theirs else ours
        own = {f"JUPYTER_{kind}_DIR": f"{folder}/{kind}" for kind in ("DATA", "CONFIG", "RUNTIME")}
        environment = {**os.environ, **own, "IPYTHONDIR": f"{folder}/ipython", "K2_API_KEYS": TOKEN}
        with (
            open(f"{folder}/log", "w") as log,
            subprocess.Popen(command, stdout=log, stderr=log, env=environment) as process,
        ):
            try:
                yield ready(f"http://127.0.0.1:{port}", process, Path(folder) / "log"), process.pid
            finally:
                process.terminate()


def ready(url: str, process: subprocess.Popen[bytes], log: Path) -> str:
    while process.poll() is None:
        try:
            request = urllib.request.Request(f"{url}/api", headers={"Authorization": f"token {TOKEN}"})
            urllib.request.urlopen(request, timeout=5).close()
        except OSError:
            time.sleep(0.1)
        else:
            return url
    raise RuntimeError(f"a server did not start: {log.read_text()[-2000:]}")


NAMES = ("k2sandbox", "Jupyter Server", "Kernel Gateway")


def measure(binary: str, python: str, quick: bool) -> dict[str, Any]:
    runs, images, displays, pause = (50, 2, 2000, 2.0) if quick else (500, 10, 20000, 10.0)
    with ExitStack() as stack:
        kernels = {}
        for name in NAMES:
            url, _ = stack.enter_context(server(name, binary, python))
            kernels[name] = Kernel(url)
            stack.callback(kernels[name].close)
        times: dict[str, list[float]] = {name: [] for name in NAMES}
        bulk: dict[str, list[float]] = {name: [] for name in NAMES}
        for n in range(-20, runs):
            for name in random.sample(NAMES, len(NAMES)):
                took, (_, _, value) = timed(kernels[name], "1+1")
                if value != "2":
                    raise RuntimeError(f"{name} says that 1+1 is {value!r}")
                if n >= 0:  # the first ones only warm up
                    times[name].append(took)
        for _ in range(2 if quick else 5):
            for name in random.sample(NAMES, len(NAMES)):
                took, (count, size, _) = timed(kernels[name], IMAGES.format(n=images))
                if count != images or size < images * 5_000_000:
                    raise RuntimeError(f"{name}: {count} images, {size} bytes")
                bulk[name].append(took)
        return {"1+1": times, "images": bulk, "arrived": arrived(kernels, displays, pause), "sent": displays}


def timed(kernel: Kernel, code: str) -> tuple[float, tuple[int, int, str]]:
    gc.disable()
    start = time.perf_counter()
    out = kernel.run(code)
    took = time.perf_counter() - start
    gc.enable()
    return took, out


def arrived(kernels: dict[str, Kernel], displays: int, pause: float) -> dict[str, str]:
    """Return how many displays reach a reader that pauses after the first, or what it hears instead."""
    told = {}
    for name, kernel in kernels.items():
        kernel.sock.settimeout(30)
        try:
            told[name] = f"{kernel.run(DISPLAYS.format(n=displays), pause)[0]:,}"
        except Exception as error:  # the end does not come
            told[name] = f"no end: {re.sub(r'0x[0-9a-f]+', '', repr(error))}"
    return told


def page(results: dict[str, Any]) -> str:
    lines = ["| 1+1 | p50 ms | p95 ms | theirs / ours (95 %) |", "|---|---|---|---|"]
    ours = results["1+1"][NAMES[0]]
    for name, took in results["1+1"].items():
        value, low, high = ratio(took, ours)
        numbers = [f"{percentile(took, p) * 1000:.2f}" for p in (50, 95)]
        lines.append(f"| {name} | {numbers[0]} | {numbers[1]} | {value:.1f} ({low:.1f}-{high:.1f}) |")
    lines += ["", "| | images: median s | displays that arrived |", "|---|---|---|"]
    for name, took in results["images"].items():
        lines.append(f"| {name} | {median(took):.2f} | {results['arrived'][name]} of {results['sent']:,} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True, help="k2sandbox")
    parser.add_argument("--python", default=sys.executable, help="interpreter with the other servers")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    options = parser.parse_args()
    print(page(measure(options.binary, options.python, options.quick)))


if __name__ == "__main__":
    main()
