"""The launcher's tests, over kernels whose messages take ipykernel's own ways."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
from launcher_test import *  # noqa: F403  # its tests, over what start is here
from launcher_test import Kernel


@pytest.fixture(scope="module", name="start")
def start_stock() -> Callable[..., Kernel]:
    return functools.partial(Kernel, ["--App.stock=True"])
