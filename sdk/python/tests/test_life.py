"""Threads, tasks, forks and the interpreter's exit: who starts something ends it."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import Server

from k2sandbox import AsyncSandbox, Sandbox, SandboxExpired

SRC = str(Path(__file__).resolve().parents[1] / "src")


def script(code: str, *flags: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a program that uses the package, and return what it said."""
    return subprocess.run(
        [sys.executable, *flags, "-c", code],
        env={**os.environ, "PYTHONPATH": SRC, **env},
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_many_threads_use_one_sandbox(sandbox: Sandbox) -> None:
    before = set(threading.enumerate())
    with ThreadPoolExecutor(20) as pool:
        texts = list(pool.map(lambda n: sandbox.run_code(f"{n} * 2").text, range(100)))
    assert texts == [str(n * 2) for n in range(100)]
    assert set(threading.enumerate()) == before


def test_one_thread_kills_what_another_one_uses(server: Server) -> None:
    for name in ("close", "kill"):
        sandbox = Sandbox()
        end = threading.Thread(target=getattr(sandbox, name))
        with pytest.raises(SandboxExpired) as caught:
            sandbox.run_code(
                "import time\nprint('ready', flush=True)\ntime.sleep(1000)",
                on_stdout=lambda data, end=end: end.start(),  # type: ignore[misc]
            )
        end.join()
        assert caught.value.execution is not None
        assert caught.value.execution.stdout == "ready\n"


def test_many_tasks_use_one_sandbox(server: Server) -> None:
    async def main() -> list[str]:
        async with AsyncSandbox() as sandbox:
            threads = threading.active_count()
            runs = await asyncio.gather(*(sandbox.run_code(f"{n} * 2") for n in range(100)))
            assert threading.active_count() == threads
        return [run.text for run in runs]

    assert asyncio.run(main()) == [str(n * 2) for n in range(100)]


def test_an_async_sandbox_goes_on_in_another_loop(server: Server) -> None:
    sandbox = asyncio.run(AsyncSandbox.create())
    assert asyncio.run(sandbox.run_code("x = 1; x")).text == "1"
    assert asyncio.run(sandbox.run_code("x")).text == "1"
    assert asyncio.run(sandbox.kill()) is True


def test_async_callbacks_are_awaited(server: Server) -> None:
    async def main() -> None:
        lines: asyncio.Queue[str] = asyncio.Queue(1)

        async def on_line(data: dict[str, Any]) -> None:
            await lines.put(data["line"])

        async def take() -> list[str]:
            return [await lines.get() for _ in range(3)]

        async with AsyncSandbox() as sandbox:
            taken = asyncio.create_task(take())
            await sandbox.run_code("for i in range(3): print(i)", on_stdout=on_line)
            assert await taken == ["0", "1", "2"]

    asyncio.run(main())


def test_cancellation_interrupts_the_run(server: Server) -> None:
    async def main() -> None:
        async with AsyncSandbox() as sandbox:
            begun = asyncio.Event()
            code = "import time\nprint('ready', flush=True)\ntime.sleep(1000)"
            task = asyncio.create_task(sandbox.run_code(code, on_stdout=lambda data: begun.set()))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await sandbox.run_code("1 + 1")).text == "2"  # the kernel is free again
            begun.clear()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(sandbox.run_code("time.sleep(1000)"), 0.5)
            assert (await sandbox.run_code("1 + 1")).text == "2"
            queued = [asyncio.create_task(sandbox.run_code("time.sleep(1000)")) for _ in range(3)]
            await asyncio.sleep(0.5)  # most are under way or queued
            for each in queued:
                each.cancel()
            await asyncio.wait(queued)
            assert (await sandbox.run_code("1 + 1")).text == "2"
            assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_ctrl_c_interrupts_the_run(sandbox: Sandbox) -> None:
    code = "import time\nprint('ready', flush=True)\ntime.sleep(1000)"
    with pytest.raises(KeyboardInterrupt):
        sandbox.run_code(code, on_stdout=lambda data: threading.Thread(target=interrupt).start())
    assert sandbox.run_code("1 + 1").text == "2"


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_a_fork_has_connections_of_its_own(sandbox: Sandbox) -> None:
    """Parent and children use the sandbox at the same time; what one reads is not another's."""
    sandbox.run_code("x = 1")
    children = []
    for n in range(3):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                good = all(sandbox.run_code(f"x + {n} + {i}").text == str(1 + n + i) for i in range(10))
                status = 0 if good else 2
            finally:
                os._exit(status)
        children.append(pid)
    for i in range(10):
        assert sandbox.run_code(f"x + {i}").text == str(1 + i)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
    assert sandbox.run_code("x").text == "1"


def test_the_exit_of_a_fork_leaves_streams_of_its_parent_alone(server: Server) -> None:
    code = """
import os, queue
from k2sandbox import Sandbox
events = queue.Queue()
with Sandbox() as sandbox:
    watch = sandbox.filesystem.watch_dir("/home/user", events.put)
    pid = os.fork()
    if pid == 0:
        watch.stop()
        raise SystemExit(sandbox.disconnect())
    print(os.waitpid(pid, 0)[1])
    sandbox.filesystem.make_dir("/home/user/new")
    print(events.get(timeout=60).event_type)
"""
    done = script(code, "-X", "dev", "-W", "error", "-W", "ignore::DeprecationWarning")
    assert (done.stdout, done.stderr) == ("0\ncreated\n", "")


def test_two_loops_use_one_sandbox_at_a_time(server: Server) -> None:
    sandbox = asyncio.run(AsyncSandbox.create())
    clients = []

    async def use() -> None:
        for n in range(20):
            assert (await sandbox.process.start(f"echo {n}")).stdout == f"{n}\n"
            clients.append(sandbox.transport._client.get())
        await sandbox.transport.close()

    threads = [threading.Thread(target=asyncio.run, args=(use(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(clients), len(set(clients))) == (40, 2)
    assert asyncio.run(sandbox.kill()) is True


def test_a_sandbox_is_not_copied(shared: Sandbox) -> None:
    for use in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match=f"{shared.sandbox_id}.*connect"):
            use(shared.filesystem)


def test_nothing_is_said_at_exit(server: Server) -> None:
    """Sandboxes that nobody closed, also while something follows them in the background."""
    sync = """
from k2sandbox import Sandbox
sandbox = Sandbox(timeout=20)
print(sandbox.run_code("1 + 1").text)
watch = sandbox.filesystem.watch_dir("/home/user", print)
pty = sandbox.terminal.start(lambda data: None)
run = sandbox.start_code("import time; time.sleep(5)")
events = iter(run)
print(next(events)["type"])
"""
    asynchronous = """
import asyncio
from k2sandbox import AsyncSandbox
async def main():
    sandbox = await AsyncSandbox.create(timeout=20)
    print((await sandbox.run_code("1 + 1")).text)
    watch = await sandbox.filesystem.watch_dir("/home/user", print)
    run = await sandbox.start_code("import time; time.sleep(5)")
    async for event in run:
        print(event["type"])
        break
asyncio.run(main())
"""
    for code, flags in ((sync, ("-X", "dev", "-W", "error")), (sync, ()), (asynchronous, ())):
        done = script(code, *flags)
        assert (done.stdout, done.stderr, done.returncode) == ("2\nstart\n", "", 0)


def test_an_exception_ends_the_program_at_once(server: Server) -> None:
    done = script("from k2sandbox import Sandbox\nwith Sandbox() as sandbox:\n    sandbox.run_code('x')\n    raise KeyError(7)")
    assert done.returncode == 1
    assert done.stderr.endswith("KeyError: 7\n")


def test_nothing_runs_in_the_background_afterwards(server: Server) -> None:
    before = set(threading.enumerate())
    fds = len(os.listdir("/proc/self/fd"))
    with Sandbox() as sandbox:
        sandbox.run_code("1")
        sandbox.filesystem.watch_dir("/home/user", lambda event: None)
        pty = sandbox.terminal.start(lambda data: None)
        pty.send_data(b"echo hello\n")
        handle = sandbox.process.start("sleep 1000", on_stdout=print, background=True)
        assert handle.pid
    assert set(threading.enumerate()) == before
    assert len(os.listdir("/proc/self/fd")) == fds


def test_importing_takes_no_other_package(server: Server) -> None:
    code = "import sys, k2sandbox; dir(k2sandbox); print([name for name in ('httpx', 'asyncio', 'ssl') if name in sys.modules])"
    assert script(code).stdout == "[]\n"
    wrong = script("import k2sandbox; k2sandbox.Nothing")
    assert "module 'k2sandbox' has no attribute 'Nothing'" in wrong.stderr
