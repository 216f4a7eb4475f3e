"""Kernels that nobody but their client is connected to."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import tempfile
from pathlib import Path
from typing import Any

LAUNCHER = Path(__file__).parents[1] / "kernel" / "python" / "launcher.py"
OURS, STOCK = [str(LAUNCHER)], ["-m", "ipykernel_launcher"]


class Kernel:
    """A kernel over unix sockets, by our launcher or by ipykernel's own."""

    def __init__(self, python: str, launcher: list[str]) -> None:
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
        environment = {**os.environ, "COLUMNS": "80", "LINES": "24", "IPYTHONDIR": f"{self.dir.name}/ipython"}
        self.process = subprocess.Popen(
            [python, *launcher, "-f", str(self.connection_file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
        )

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.dir.cleanup()
