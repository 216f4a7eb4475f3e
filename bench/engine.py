"""What the clients talk to: our engine, and a kernel that nobody else is connected to."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import tempfile
from pathlib import Path
from typing import Any

LAUNCHER = Path(__file__).parents[1] / "kernel" / "python" / "launcher.py"


class Engine:
    """`k2sandbox agent` in a process of its own, with one kernel."""

    def __init__(self, binary: str, python: str, *options: str) -> None:
        self.dir = tempfile.TemporaryDirectory(prefix="k2b-")
        agent = [binary, "agent", "--listen", "127.0.0.1:0", "--python", python, "--log-level", "error"]
        self.process = subprocess.Popen(
            [*agent, *options],
            stdout=subprocess.PIPE,
            env={**os.environ, "TMPDIR": self.dir.name},
            text=True,
        )
        assert self.process.stdout
        line = self.process.stdout.readline()
        found = re.search(r"http://([\d.]+):(\d+)", line)
        if not found:
            raise RuntimeError(f"the engine did not start: {line!r}")
        self.address = found[1], int(found[2])

    @property
    def connection_file(self) -> Path:
        """The connection file of the engine's kernel: it lies in the engine's temporary directory."""
        (file,) = Path(self.dir.name).glob("k2-*/connection.json")
        return file

    def memory(self, field: str) -> float:
        """Return VmRSS (resident now) or VmHWM (its peak) of the engine's process, in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
        assert found
        return int(found[1]) * 1024 / 1e6

    def reset_peak(self) -> None:
        """Have VmHWM start anew (proc(5), clear_refs)."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        self.dir.cleanup()


class Twin:
    """The same kernel, by the same launcher and interpreter, that no engine is connected to."""

    def __init__(self, python: str) -> None:
        self.dir = tempfile.TemporaryDirectory(prefix="k2b-")
        self.connection_file = Path(self.dir.name) / "connection.json"
        info: dict[str, Any] = {
            "transport": "ipc",
            "ip": f"{self.dir.name}/s",
            "key": secrets.token_hex(),
            "signature_scheme": "hmac-sha256",
            "kernel_name": "python3",
        }
        names = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")
        info.update((name, i) for i, name in enumerate(names, 1))
        self.connection_file.write_text(json.dumps(info))
        self.process = subprocess.Popen(
            [python, str(LAUNCHER), "-f", str(self.connection_file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "COLUMNS": "80", "LINES": "24"},
        )

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.dir.cleanup()
