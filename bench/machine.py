"""Where and with what something was measured."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib.metadata import version
from typing import Any

from options import Options

PACKAGES = (
    "ipykernel",
    "ipython",
    "pyzmq",
    "jupyter_client",
    "jupyter_server",
    "jupyter_kernel_gateway",
    "nbclient",
    "uv",
    "pip",
)


def machine(o: Options) -> dict[str, Any]:
    told = subprocess.run([o.binary, "--version"], capture_output=True, text=True, check=True)
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "scale": o.scale,
        "cpus": os.cpu_count(),
        "load before": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "k2sandbox": told.stdout.strip(),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }
