"""Puts the program k2sandbox into the wheel of a platform, as `make wheel` does.

$K2SANDBOX_BINARY is the program, and $K2SANDBOX_PLATFORM the tag of what it runs on.
Without them a wheel has Python alone, which finds the program on PATH.
"""

from __future__ import annotations

import os
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class WheelHook(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        binary = os.environ.get("K2SANDBOX_BINARY")
        if not binary or version == "editable":
            return
        build_data["shared_scripts"][binary] = "k2sandbox"  # beside the environment's python
        build_data["tag"] = "py3-none-" + os.environ["K2SANDBOX_PLATFORM"]
        build_data["pure_python"] = False
