"""What can go wrong: each the right error, with a message that says what to do; in both worlds."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import Server, serving
from proxy import proxied

from k2sandbox import (
    AuthenticationError,
    ConnectionLost,
    InvalidRequest,
    K2Error,
    LimitExceeded,
    NotFound,
    RequestTimeout,
    Sandbox,
    SandboxExpired,
    SandboxNotFound,
    ServerError,
)
from k2sandbox.errors import of_answer


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"cwd": "relative"}, "cwd"),
        ({"cwd": "/none"}, "cwd"),
        ({"cwd": 7}, "cwd"),
        ({"template": "none"}, "template"),
        ({"template": b"bytes"}, "template"),
        ({"envs": "A=B"}, "envs"),
        ({"envs": {"A": 1}}, "envs"),
        ({"envs": {"A": object()}}, "envs"),
        ({"envs": {"A=": "b"}}, "envs"),
        ({"metadata": ["a"]}, "metadata"),
        ({"metadata": {"a": None}}, "metadata"),
        ({"timeout": -1}, "timeout"),
        ({"timeout": "long"}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": 1e9}, "timeout"),
        ({"limits": {"memory": 1}}, "limits.memory"),
        ({"limits": {"pids": 1.5}}, "limits.pids"),
        ({"network": {"mode": "some"}}, "network.mode"),
        ({"request_timeout": 0}, "request_timeout"),
        ({"request_timeout": "1"}, "request_timeout"),
        ({"api_key": "two\nlines"}, "api_key"),
        ({"api_key": "ключ"}, "api_key"),
        ({"api_url": ""}, "api_url"),
        ({"api_url": "ftp://example.org"}, "api_url"),
        ({"api_url": "unix:relative"}, "api_url"),
        ({"api_url": "http://host:port"}, "api_url"),
        ({"api_url": 80}, "api_url"),
    ],
)
def test_arguments_of_a_sandbox(make: Any, options: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{field}") as caught:
        make(**options)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"code": None}, "code"),
        ({"code": 7}, "code"),
        ({"code": b"1"}, "code"),
        ({"code": "'\ud800'"}, "code"),
        ({"code": "1", "cwd": "relative"}, "cwd"),
        ({"code": "1", "envs": ["A"]}, "envs"),
        ({"code": "1", "envs": {"A": None}}, "envs"),
        ({"code": "1", "timeout": -1}, "timeout"),
        ({"code": "1", "timeout": "1"}, "timeout"),
        ({"code": "1", "timeout": float("inf")}, "timeout"),
        ({"code": "1", "context": 7}, "context"),
        ({"code": "1", "on_stdout": 7}, "on_stdout"),
        ({"code": "1", "on_results": "print"}, "on_results"),
    ],
)
def test_arguments_of_a_run(box: Any, options: dict[str, Any], field: str) -> None:
    for call in (box.run_code, box.start_code):
        with pytest.raises(InvalidRequest, match=f"^{field}"):
            call(**options)
    assert box.run_code("1").text == "1"


def test_ids_that_are_none(make: Any, box: Any) -> None:
    for call in (make.connect, lambda id: make.set_timeout(id, timeout=1)):
        for odd in ("sb_none", "../x", "a/b", "ä", "%2e%2e"):
            with pytest.raises(SandboxNotFound) as caught:
                call(odd)
            assert (caught.value.code, caught.value.status) == ("not_found", 404)
        for wrong in ("", "..", None, 1.5, "\ud800"):
            with pytest.raises(InvalidRequest, match=r"^sandbox_id: "):
                call(wrong)
    with pytest.raises(NotFound, match="ctx_none") as missing:
        box.run_code("1", context="ctx_none")
    assert not isinstance(missing.value, SandboxNotFound)
    assert missing.value.sandbox_id == box.sandbox_id
    assert missing.value.request_id
    with pytest.raises(NotFound):
        box.delete_context("none")
    with pytest.raises(InvalidRequest, match=r"^execution_id: "):
        box.attach("")
    with pytest.raises(InvalidRequest, match=r"^state: "):
        make.list(state="\ud800")
    with pytest.raises(InvalidRequest, match=r"^template: "):
        make.connect(box.sandbox_id, template=[])


def test_times_to_wait(box: Any) -> None:
    run, handle = box.start_code("1"), box.process.start("true", background=True)
    heard = box.process.start("true", on_stdout=print, background=True)
    for wait in (run.wait, handle.wait, heard.wait):
        for wrong in ("1", [1], True, float("nan")):
            with pytest.raises(InvalidRequest, match=r"^timeout: "):
                wait(timeout=wrong)
        assert wait(timeout=float("inf"))
        assert wait(timeout=-1)


def test_code_that_is_too_long(box: Any) -> None:
    with pytest.raises(LimitExceeded, match="code: ") as caught:
        box.run_code("#" * (11 << 20))
    assert (caught.value.kind, caught.value.retry_after, caught.value.retryable) == ("size", None, False)


def test_no_server(make: Any, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        for url, shown in (
            (f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port}"),
            (f"unix:{tmp_path}/none", f"unix:{tmp_path}/none"),
            (f"http+unix://{str(tmp_path).replace('/', '%2F')}%2Fnone", f"unix:{tmp_path}/none"),
        ):
            with pytest.raises(ConnectionLost, match=rf"cannot reach the server at {shown}: .*K2_API_URL") as caught:
                make(api_url=url)
            assert isinstance(caught.value, ConnectionError)
            assert caught.value.retryable


@pytest.mark.parametrize(("status", "message"), [(502, "status 502, which does not come from"), (200, "does not answer as")])
def test_something_else_answers(make: Any, status: int, message: str) -> None:
    """A web server that knows nothing of sandboxes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(65536)
                client.sendall(f"HTTP/1.1 {status} Odd\r\nContent-Length: 18\r\n\r\n<html>oh no</html>".encode())

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ServerError, match=message) as caught:
            make(api_url=f"127.0.0.1:{listener.getsockname()[1]}")
        thread.join()
    assert (caught.value.code, caught.value.status, caught.value.retryable) == ("bad_answer", status, status == 502)


def test_a_server_that_does_not_answer(make: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with pytest.raises(RequestTimeout, match="request_timeout") as caught:
            make(api_url=f"http://127.0.0.1:{listener.getsockname()[1]}", request_timeout=0.2)
        assert isinstance(caught.value, TimeoutError)


def test_a_run_that_the_server_does_not_answer(make: Any, server: Server) -> None:
    """request_timeout is the time until the answer begins, and not that of the run."""
    with make() as direct:
        slow = make.connect(direct.sandbox_id, request_timeout=4)
        assert slow.run_code("import time; time.sleep(5); 'done'").text == "'done'"
        slow.disconnect()
        with proxied(server.url, lambda connection: None if connection == 0 else -1) as proxy:
            hung = make.connect(direct.sandbox_id, request_timeout=3, api_url=proxy.url)
            hung.transport.request("GET", hung.path(), headers={"Connection": "close"})
            with pytest.raises(RequestTimeout):
                hung.run_code("1 + 1")
            hung.disconnect()


@pytest.fixture(scope="module")
def keyed() -> Any:
    """A server that wants keys."""
    with serving("--max-sandboxes-per-key", "1", env={"K2_API_KEYS": "ada:key-of-ada,eve:key-of-eve"}) as server:
        yield server


def test_keys(make: Any, keyed: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in (None, "wrong"):
        with pytest.raises(AuthenticationError, match="K2_API_KEY") as caught:
            make(api_url=keyed.url, api_key=key)
        assert (caught.value.code, caught.value.status) == ("unauthenticated", 401)
    monkeypatch.setenv("K2_API_KEY", "key-of-ada")
    monkeypatch.setenv("K2_API_URL", keyed.url)
    with make() as sandbox:
        assert sandbox.run_code("1 + 1").text == "2"
        with pytest.raises(SandboxNotFound):
            make.connect(sandbox.sandbox_id, api_key="key-of-eve")
        assert make.kill(sandbox.sandbox_id, api_key="key-of-eve") is False
        token = sandbox.info.raw["access_token"]
        with make.connect(sandbox.sandbox_id, api_key=token, keep=True) as again:
            assert again.run_code("2 + 2").text == "4"
        with pytest.raises(LimitExceeded) as limit:
            make()
        assert (limit.value.kind, limit.value.retryable) == ("rate", True)
        assert limit.value.retry_after is not None
        assert [info.sandbox_id for info in make.list()] == [sandbox.sandbox_id]
        assert make.list(api_key="key-of-eve") == []


def test_a_server_that_is_killed_in_the_midst_of_a_run(make: Any) -> None:
    with serving() as server:
        sandbox = make(api_url=server.url)

        def kill(data: Any) -> None:
            os.kill(server.process.pid, signal.SIGKILL)
            server.process.wait()

        with pytest.raises(ConnectionLost, match="cannot reach the server") as caught:
            sandbox.run_code("import time\nprint('partial', flush=True)\ntime.sleep(1000)", on_stdout=kill)
        assert caught.value.execution is not None
        assert caught.value.execution.stdout == "partial\n"
        with pytest.raises(ConnectionLost):
            sandbox.is_running()
        with pytest.raises(ConnectionLost):
            sandbox.close()


def test_a_server_that_is_stopped_in_the_midst_of_a_run(make: Any) -> None:
    with serving() as server:
        sandbox = make(api_url=server.url)
        with pytest.raises((SandboxExpired, ConnectionLost)) as caught:
            sandbox.run_code(
                "import time\nprint('partial', flush=True)\ntime.sleep(1000)",
                on_stdout=lambda data: server.process.terminate(),
            )
        assert caught.value.execution is not None
        assert caught.value.execution.stdout == "partial\n"


def test_the_disk_of_a_sandbox_is_full(make: Any) -> None:
    with make(limits={"disk_mb": 16}) as sandbox:
        execution = sandbox.run_code("open('/home/user/large', 'wb').write(b'x' * (64 << 20))")
        assert execution.error.name == "OSError"
        assert "space" in execution.error.value or "quota" in execution.error.value
        with pytest.raises(LimitExceeded) as caught:
            sandbox.filesystem.write("/home/user/too-large", b"x" * (64 << 20))
        assert (caught.value.kind, caught.value.code) == ("disk", "disk_full")


def test_a_sandbox_that_runs_out_of_time(make: Any) -> None:
    sandbox = make(timeout=0.2)
    while sandbox.is_running():
        threading.Event().wait(0.5)  # each question counts as use
    with pytest.raises(SandboxExpired) as caught:
        sandbox.run_code("1")
    assert caught.value.reason == "timed_out"
    assert "create a new one" in str(caught.value)
    sandbox.close()


def test_errors_are_a_tree_and_survive_pickling() -> None:
    error = of_answer(
        410,
        {"error": {"code": "gone", "message": "sandbox sb_1 was killed", "details": {"reason": "killed"}}},
        {"x-request-id": "req_1"},
        "sb_1",
    )
    again = pickle.loads(pickle.dumps(error))
    for each in (error, again):
        assert isinstance(each, SandboxExpired)
        assert (each.reason, each.request_id, each.sandbox_id, each.status) == ("killed", "req_1", "sb_1", 410)
        assert str(each) == "sandbox sb_1 was killed [request req_1] (create a new one with Sandbox())"
    for status, kind in {400: InvalidRequest, 409: K2Error, 429: LimitExceeded, 500: ServerError, 504: RequestTimeout}.items():
        assert isinstance(of_answer(status, None, {}, None), kind)
    busy = of_answer(409, {"error": {"code": "busy", "message": "busy"}}, {}, None)
    assert (type(busy).__name__, busy.retryable) == ("Busy", True)


def test_values_that_can_not_be_sent(shared: Sandbox) -> None:
    with pytest.raises(InvalidRequest, match=r"^metadata: cannot be sent"):
        Sandbox(metadata={"a": {1, 2}})  # type: ignore[dict-item]
    with pytest.raises(InvalidRequest, match=r"^timeout: cannot be sent"):
        shared.set_timeout(float("nan"))
