"""Talk to k2sandbox over HTTP with nothing but Python's standard library.

Usage: demo.py BINARY FOLDER. It starts an endpoint of its own, runs a few cells in
one context, shows every event, saves the plot in FOLDER, and ends.
"""

from __future__ import annotations

import base64
import http.client
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Event = dict[str, Any]

PRINTS = """
import sys
for i in range(3):
    print("line", i)
print("and this is stderr", file=sys.stderr)
"""

FRAME = """
import pandas as pd
frame = pd.DataFrame({"planet": ["Mercury", "Venus", "Earth", "Mars"],
                      "distance": [0.39, 0.72, 1.00, 1.52],
                      "year": [0.24, 0.62, 1.00, 1.88]})
frame
"""

PLOT = """
import numpy as np
import matplotlib.pyplot as plt
figure, axes = plt.subplots(figsize=(6, 3.4), dpi=100)
a = np.linspace(0.3, 1.7)
axes.plot(a, a ** 1.5, label="Kepler's third law")
axes.plot(frame.distance, frame.year, "o")
for row in frame.itertuples():
    axes.annotate(row.planet, (row.distance, row.year), xytext=(6, -12), textcoords="offset points")
axes.set(xlabel="distance from the sun (AU)", ylabel="length of the year (years)")
axes.legend()
plt.show()
"""

ERROR = "frame.distance / frame.missing"

LOOP = """
n = 0
print("looping", flush=True)
while True:
    n += 1
"""

STATE = 'print("the kernel still knows", len(frame), "planets, and counted to n > 0:", n > 0)'


class Client:
    """A client of the endpoint at an address such as http://127.0.0.1:8900."""

    def __init__(self, address: str) -> None:
        self.host = urlsplit(address).netloc

    def post(self, path: str, payload: dict[str, Any]) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(self.host, timeout=120)
        connection.request("POST", path, json.dumps(payload), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status >= 300:
            raise RuntimeError(f"{path}: {response.status} {response.read().decode()}")
        return response

    def run(self, code: str) -> Iterator[Event]:
        """Run a cell and yield its events as they happen."""
        for line in self.post("/v1/code", {"code": code}):
            yield json.loads(line)

    def interrupt(self, execution: str) -> None:
        self.post(f"/v1/executions/{execution}/interrupt", {}).read()


def show(event: Event, plot: Path) -> None:
    kind = event["type"]
    if kind in ("stdout", "stderr"):
        print("\n".join(f"{kind:7} {line}" for line in event["text"].splitlines()))
    elif kind == "result":
        print(f"result  {', '.join(event['data'])}")
        if "image/png" in event["data"]:
            plot.write_bytes(base64.b64decode(event["data"]["image/png"]))
            print(f"        saved as {plot}")
        else:
            print(event["data"]["text/plain"])
    elif kind == "error":
        print(f"error   {event['name']}: {event['value']}")
    elif kind == "end":
        print(f"end     {event['status']} after {event.get('duration', 0):.3f} s")


def demo(client: Client, plot: Path) -> None:
    endings: list[str] = []
    for title, code in [
        ("Output, as it is printed", PRINTS),
        ("A DataFrame", FRAME),
        ("A plot", PLOT),
        ("An error", ERROR),
        ("An endless loop, interrupted", LOOP),
        ("The state is kept", STATE),
    ]:
        print(f"\n# {title}\n{code.strip()}\n")
        execution = ""
        for event in client.run(code):
            show(event, plot)
            if event["type"] == "start":
                execution = event["execution_id"]
            if event["type"] == "stdout" and "looping" in event["text"]:
                threading.Thread(target=client.interrupt, args=[execution]).start()
            if event["type"] == "end":
                endings.append(event["status"])
    if endings != ["ok", "ok", "ok", "error", "interrupted", "ok"]:
        raise RuntimeError(f"the cells ended otherwise than they should: {endings}")


def main() -> None:
    binary, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    command = [binary, "serve", "--listen", "127.0.0.1:0", "--log-level", "warn"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            first = server.stdout.readline()  # "listening on http://127.0.0.1:40123", once it is ready
            if first:
                demo(Client(first.split()[-1]), folder / "plot.png")
        finally:
            server.terminate()
    if server.returncode != 0 or not first:
        raise SystemExit(f"the endpoint ended with status {server.returncode}")


if __name__ == "__main__":
    main()
