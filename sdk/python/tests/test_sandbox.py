"""Sandboxes: made, found, listed, used by several, and ended; in both worlds."""

from __future__ import annotations

import uuid
from datetime import datetime, timezone
from typing import Any

import httpx
import pytest
from conftest import Server, serving
from proxy import proxied

from k2sandbox import AsyncSandbox, Conflict, ConnectionLost, InvalidRequest, K2Error, Sandbox, SandboxExpired, SandboxNotFound


def test_it_is_what_was_asked_for(make: Any) -> None:
    options = {"envs": {"GREETING": "hello"}, "timeout": 600, "metadata": {"user": "ada"}, "limits": {"memory_mb": 256}}
    with make(template="k2sandbox/python:latest", cwd="/home/user", **options) as sandbox:
        info = sandbox.get_info()
        assert (info.sandbox_id, info.template) == (sandbox.sandbox_id, "k2sandbox/python:latest")
        assert (info.state, info.cwd, info.timeout, info.metadata) == ("running", "/home/user", 600, {"user": "ada"})
        assert info.limits["memory_mb"] == 256
        assert info.expires_at is not None
        assert info.created_at < info.expires_at
        assert sandbox.run_code("import os; print(os.getcwd(), os.environ['GREETING'])").text == "/home/user hello\n"
        assert sandbox.sandbox_id in repr(sandbox)


def test_the_end_of_a_block_ends_it(make: Any) -> None:
    with make() as sandbox:
        assert sandbox.is_running()
    assert not sandbox.is_running()
    with pytest.raises(SandboxExpired) as caught:
        sandbox.run_code("1")
    assert (caught.value.reason, caught.value.sandbox_id) == ("closed", sandbox.sandbox_id)
    with pytest.raises(SandboxExpired) as caught:
        make.connect(sandbox.sandbox_id)
    assert (caught.value.reason, caught.value.status) == ("closed", 410)


def test_an_error_in_a_block_is_what_comes_out(make: Any) -> None:
    def fail() -> None:
        with make() as sandbox:
            make.kill(sandbox.sandbox_id)
            raise KeyError

    with pytest.raises(KeyError):
        fail()


def test_one_that_is_kept_lives_on(make: Any) -> None:
    with make(keep=True) as sandbox:
        sandbox.run_code("x = 42")
    with pytest.raises(SandboxExpired, match="disconnected"):
        sandbox.run_code("1")
    with make.connect(sandbox.sandbox_id) as again:
        assert again.run_code("x").text == "42"
    assert not again.is_running()


def test_close_and_kill_can_be_called_again(make: Any) -> None:
    for first in ("close", "kill"):
        sandbox = make()
        getattr(sandbox, first)()
        sandbox.close()
        assert sandbox.kill() is False
    with make() as sandbox:
        assert sandbox.kill() is True


def test_kill_and_set_timeout_by_id(make: Any) -> None:
    with make() as sandbox:
        assert make.set_timeout(sandbox_id=sandbox.sandbox_id, timeout=600) is None
        assert sandbox.get_info().timeout == 600
        assert sandbox.set_timeout(timeout=300) is None
        assert sandbox.get_info().timeout == 300
        assert make.kill(sandbox_id=sandbox.sandbox_id) is True
        assert make.kill(sandbox_id=sandbox.sandbox_id) is False
        assert not sandbox.is_running()
        with pytest.raises(SandboxExpired) as caught:
            sandbox.set_timeout(10)
        assert caught.value.reason == "killed"
    assert make.kill("sb_none") is False
    with pytest.raises(SandboxNotFound):
        make.set_timeout("sb_none", timeout=10)


def test_set_network(make: Any) -> None:
    with make() as sandbox:
        assert sandbox.set_network({"allow": ["example.org", "93.184.216.0/24:443"]}) is None
        assert sandbox.info.network == {"mode": "allow", "allow": ["example.org", "93.184.216.0/24:443"]}
        assert make.set_network(sandbox_id=sandbox.sandbox_id, network={"mode": "none"}) is None
        assert sandbox.get_info().network == {"mode": "none"}
        for wrong, field in (
            ({"mode": "some"}, "mode"),
            ({"allow": ["a b"]}, r"allow\[0\]"),
            ({}, "mode"),
            ("full", "network"),
            (None, "mode"),
        ):
            with pytest.raises(InvalidRequest, match=f"^{field}: "):
                sandbox.set_network(wrong)
        sandbox.set_network(network={"mode": "full"})
        assert sandbox.get_info().network == {"mode": "full"}
    with make(network={"mode": "none"}) as sandbox:
        with pytest.raises(K2Error, match="has no device") as caught:
            sandbox.set_network({"mode": "full"})
        assert (caught.value.code, caught.value.status) == ("unprocessable", 422)
        assert sandbox.get_info().network == {"mode": "none"}
    with pytest.raises(SandboxNotFound):
        make.set_network("sb_none", {"mode": "full"})


def test_list_finds_by_metadata_and_state(make: Any) -> None:
    me = uuid.uuid4().hex
    with make(metadata={"test": me, "n": "1"}) as first, make(metadata={"test": me, "n": "2"}) as second:
        assert {first.sandbox_id, second.sandbox_id} <= {info.sandbox_id for info in make.list()}
        assert [info.sandbox_id for info in make.list(metadata={"test": me})] == [second.sandbox_id, first.sandbox_id]
        assert [info.sandbox_id for info in make.list(metadata={"test": me, "n": "1"})] == [first.sandbox_id]
        first.close()
        assert [info.sandbox_id for info in make.list(metadata={"test": me}, state="ended")] == [first.sandbox_id]
    with pytest.raises(InvalidRequest, match="state"):
        make.list(state="sleeping")


def test_connect_is_told_what_it_connects_to(make: Any) -> None:
    with make(metadata={"user": "ada"}, timeout=600) as sandbox:
        same = make.connect(
            sandbox.sandbox_id,
            template="k2sandbox/python",
            cwd="/tmp",
            envs={"HERE": "yes"},
            timeout=200,
            metadata={"user": "ada"},
        )
        assert same.info.timeout == 200
        assert same.run_code("import os; print(os.getcwd(), os.environ['HERE'])").text == "/tmp yes\n"
        assert same.run_code("import os; print(os.environ['HERE'])", envs={"HERE": "no"}).text == "no\n"
        assert sandbox.run_code("import os; print(os.getcwd(), os.environ.get('HERE'))").text == "/home/user None\n"
        same.disconnect()
        with pytest.raises(Conflict, match="template: "):
            make.connect(sandbox.sandbox_id, template="other")
        with pytest.raises(Conflict, match="metadata: "):
            make.connect(sandbox.sandbox_id, metadata={"user": "eve"})
        assert sandbox.is_running()


def test_pause_and_resume(make: Any) -> None:
    with make() as sandbox:
        sandbox.run_code("x = 1")
        sandbox.pause()
        assert not sandbox.is_running()
        assert sandbox.info.state == "paused"
        with pytest.raises(Conflict, match="paused"):
            sandbox.run_code("x")
        sandbox.resume()
        assert sandbox.run_code("x").text == "1"


def test_metrics(box: Any) -> None:
    assert box.metrics()


def test_contexts(make: Any) -> None:
    with make() as sandbox:
        other = sandbox.create_context(language="python", cwd="/tmp", envs={"WHERE": "there"})
        assert (other.language, other.cwd, other.state) == ("python", "/tmp", "idle")
        assert [context.context_id for context in sandbox.list_contexts()] == ["default", other.context_id]
        sandbox.run_code("x = 'default'")
        sandbox.run_code("x = 'other'", context=other)
        assert sandbox.run_code("x").text == "'default'"
        execution = sandbox.run_code("import os; print(x, os.getcwd(), os.environ['WHERE'])", context=other.context_id)
        assert (execution.text, execution.context) == ("other /tmp there\n", other.context_id)
        assert sandbox.restart_context(other).context_id == other.context_id
        assert sandbox.run_code("x", context=other).error.name == "NameError"
        sandbox.delete_context(other)
        with pytest.raises(Exception, match="context"):
            sandbox.run_code("1", context=other)
        sandbox.run_code("x = 2")
        sandbox.restart_context()
        assert sandbox.run_code("x").error.name == "NameError"
        with pytest.raises(InvalidRequest, match="cobol"):
            sandbox.create_context(language="cobol")


def test_an_async_sandbox_is_not_made_by_its_constructor() -> None:
    sandbox = AsyncSandbox()
    assert repr(sandbox) == "<AsyncSandbox, not made yet>"
    with pytest.raises(Exception, match="not made yet"):
        _ = sandbox.transport


def test_what_a_block_cannot_end_is_told(make: Any, server: Server) -> None:
    """The connection breaks before the end: an error of its own, but none that hides another one."""
    with proxied(server.url, lambda connection: None) as proxy:
        lost = make(api_url=proxy.url)
        also_lost = make(api_url=proxy.url)
    with pytest.raises(ConnectionLost):
        lost.close()
    with pytest.raises(KeyError), also_lost:
        raise KeyError
    for sandbox in (lost, also_lost):
        assert make.kill(sandbox.sandbox_id)


def test_a_server_inside_has_a_url(make: Any) -> None:
    code = """
import http.server, threading
class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello from " + self.path.encode())
server = http.server.HTTPServer(("127.0.0.1", 0), Hello)
threading.Thread(target=server.serve_forever, daemon=True).start()
server.server_port
"""
    with serving(listen="127.0.0.1:0") as other, make(api_url=other.url) as sandbox:
        port = int(sandbox.run_code(code).text)
        assert httpx.get(sandbox.url(port) + "page?q=1").text == "hello from /page?q=1"
        answer = sandbox.transport.request("GET", sandbox.path(f"/ports/{port}/other"))
        assert answer.text == "hello from /other"
        link = sandbox.preview(port, expires_in=60)
        address = httpx.URL(link.url)
        assert (address.host, link.port) == (f"{port}-{sandbox.sandbox_id}.localhost", port)
        assert link.expires_at > datetime.now(timezone.utc)
        head = {"Host": address.netloc.decode()}  # not every resolver knows names below localhost
        first = httpx.get(other.url, params=address.params, headers=head)
        assert (first.status_code, first.headers["location"]) == (303, "/")
        cookie = {"Cookie": first.headers["set-cookie"].partition(";")[0]}
        assert httpx.get(f"{other.url}/page", headers={**head, **cookie}).text == "hello from /page"
        with pytest.raises(InvalidRequest, match="expires_in"):
            sandbox.preview(port, expires_in=1e6)


def test_a_port_has_no_url_on_a_unix_socket(server: Server) -> None:
    sandbox = Sandbox()
    try:
        with pytest.raises(InvalidRequest, match="unix socket"):
            sandbox.url(8000)
        for port in (0, 65536, "80", True):
            with pytest.raises(InvalidRequest, match="port: "):
                sandbox.url(port)  # type: ignore[arg-type]
    finally:
        sandbox.kill()
