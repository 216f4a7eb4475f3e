"""Whoever gives a run up leaves none behind, at whatever moment of its beginning that happens."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from conftest import run


def test_cancelled_at_each_moment_of_the_beginning(async_sandbox: Any) -> None:
    async def main() -> None:
        async with async_sandbox() as sandbox:
            await sandbox.run_code("1")
            for turns in (*range(1, 12), 20, 40):
                task = asyncio.create_task(sandbox.run_code("while True: pass"))
                for _ in range(turns):  # of the event loop
                    await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert (await sandbox.run_code("6 * 7")).text == "42"  # which would wait for what is left

    run(main())
