"""Connections that break: nothing of a run is lost, and nothing happens twice."""

from __future__ import annotations

import uuid
from typing import Any, Optional

import pytest
from conftest import Server
from proxy import Proxy, proxied

from k2sandbox import ConnectionLost, Sandbox

LINES = 500
CODE = f"""
import sys
for i in range({LINES}):
    print(f"{{i}} " + "x" * 80, flush=True)
    print(f"{{i}} " + "y" * 80, file=sys.stderr, flush=True)
    display(i)
"the end"
"""


def test_a_run_survives_a_hundred_cuts(make: Any, server: Server) -> None:
    def budget(connection: int) -> Optional[int]:
        return 1500 + connection * 37 % 500 if proxy.cuts < 100 else None

    out: list[str] = []
    err: list[str] = []
    results: list[str] = []
    with make() as direct, proxied(server.url, budget) as proxy:
        with connected(make, direct, proxy) as sandbox:
            execution = sandbox.run_code(
                CODE,
                on_stdout=lambda data: out.append(data["line"]),
                on_stderr=lambda data: err.append(data["line"]),
                on_results=lambda data: results.append(data["data"]["text/plain"]),
            )
        assert proxy.cuts >= 100
    assert out == [f"{i} " + "x" * 80 for i in range(LINES)]
    assert err == [f"{i} " + "y" * 80 for i in range(LINES)]
    assert results == [*map(str, range(LINES)), "'the end'"]
    assert execution.stdout == "".join(f"{line}\n" for line in out)
    assert execution.stderr == "".join(f"{line}\n" for line in err)
    assert [result.text for result in execution.results] == results
    assert (execution.status, execution.text) == ("ok", "'the end'")


def connected(make: Any, direct: Any, proxy: Proxy) -> Any:
    """Return a sandbox that was made directly, with what is asked of it going through the proxy."""
    return make.connect(direct.sandbox_id, api_url=proxy.url, keep=True)


def test_a_run_whose_answer_is_lost_runs_once(make: Any, server: Server) -> None:
    """The server has begun the run, and the client does not know; twice in a row."""

    def budget(connection: int) -> Optional[int]:
        return 0 if 1 <= connection <= 2 else None

    with make() as direct, proxied(server.url, budget) as proxy:
        direct.run_code("ran = 0")
        with connected(make, direct, proxy) as sandbox:
            sandbox.transport.request("GET", sandbox.path(), headers={"Connection": "close"})
            assert sandbox.run_code("ran += 1; print(ran)").stdout == "1\n"
            assert proxy.cuts == 2
        assert direct.run_code("ran").text == "1"


def test_a_run_is_started_once(make: Any, server: Server) -> None:
    def budget(connection: int) -> Optional[int]:
        return 0 if 1 <= connection <= 2 else None

    with make() as direct, proxied(server.url, budget) as proxy:
        direct.run_code("ran = 0")
        with connected(make, direct, proxy) as sandbox:
            sandbox.transport.request("GET", sandbox.path(), headers={"Connection": "close"})
            assert sandbox.start_code("ran += 1; print(ran)").wait().stdout == "1\n"
            assert proxy.cuts == 2
        assert direct.run_code("ran").text == "1"


def test_a_sandbox_whose_answer_is_lost_is_made_once(make: Any, server: Server) -> None:
    me = {"test": uuid.uuid4().hex}
    with proxied(server.url, lambda connection: 0 if connection < 2 else None) as proxy:
        with make(api_url=proxy.url, metadata=me) as sandbox:
            assert [info.sandbox_id for info in Sandbox.list(metadata=me)] == [sandbox.sandbox_id]
        assert proxy.cuts == 2
    assert Sandbox.list(metadata=me) == []


def test_a_connection_that_never_holds_is_lost(make: Any, server: Server) -> None:
    """Tries are bounded. What came until then is not lost."""

    def budget(connection: int) -> Optional[int]:
        return 700 if connection == 1 else 0 if connection else None

    with make() as direct, proxied(server.url, budget) as proxy:
        with connected(make, direct, proxy) as sandbox:
            sandbox.transport.request("GET", sandbox.path(), headers={"Connection": "close"})
            with pytest.raises(ConnectionLost) as caught:
                sandbox.run_code("print('first', flush=True)\ndisplay('x' * 1000)\nprint('last')")
            assert caught.value.sandbox_id == sandbox.sandbox_id
            assert caught.value.retryable
            execution = caught.value.execution
            assert execution is not None
            assert execution.stdout == "first\n"
        with pytest.raises(ConnectionLost):
            connected(make, direct, proxy)
        assert direct.attach(execution.execution_id).wait().stdout == "first\nlast\n"
