"""The REST API of a kernel gateway: kernels, kernelspecs and sessions over all sandboxes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from .client import Channels, Server

Start = Callable[..., str]
Connect = Callable[..., Channels]

NOBODY = "00000000-0000-4000-8000-000000000000"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,6}Z"


def is_kernel(model: Any) -> bool:
    return bool(
        re.fullmatch(r"\w+-\w+-\w+-\w+-\w+", model["id"])
        and re.fullmatch(TIME, model["last_activity"])
        and isinstance(model["connections"], int)
        and model["execution_state"] in ("starting", "idle", "busy")
        and model["name"] == "python3"
    )


def test_version(server: Server) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", server.call("GET", "/api")["version"])


def test_kernelspecs(server: Server) -> None:
    told = server.call("GET", "/api/kernelspecs")
    assert told["default"] == "python3"
    assert all({"name", "spec", "resources"} <= one.keys() for one in told["kernelspecs"].values())
    one = server.call("GET", "/api/kernelspecs/python3")
    assert one == told["kernelspecs"]["python3"]
    assert one["spec"]["language"] == "python"
    assert isinstance(one["spec"]["argv"], list)
    for path in one["resources"].values():
        logo = server.send("GET", path)
        assert logo.status_code == 200, path
        assert logo.headers["content-type"].startswith("image/")
    server.refused("GET", "/api/kernelspecs/klingon", status=404)
    assert server.send("GET", "/kernelspecs/python3/logo-none.png").status_code == 404


def test_kernels(server: Server) -> None:
    answer = server.send("POST", "/api/kernels", {"name": "python3"})
    assert answer.status_code == 201
    made = answer.json()
    assert is_kernel(made)
    assert answer.headers["location"].endswith(f"/api/kernels/{made['id']}")
    assert made["id"] in [model["id"] for model in server.call("GET", "/api/kernels") if is_kernel(model)]
    assert is_kernel(server.call("GET", f"/api/kernels/{made['id']}"))
    server.stop(made["id"])
    server.refused("GET", f"/api/kernels/{made['id']}", status=404)
    assert made["id"] not in [model["id"] for model in server.call("GET", "/api/kernels")]


@pytest.mark.parametrize("body", [b"", b"{}"])
def test_kernel_by_default(server: Server, body: bytes) -> None:
    answer = server.http.post(server.url + "/api/kernels", content=body)
    assert answer.status_code == 201, answer.text
    assert is_kernel(answer.json())
    server.stop(answer.json()["id"])


def test_counts(server: Server, start: Start, connect: Connect) -> None:
    """The fields that culling goes by: connections, last activity and state."""
    kernel = start()
    before = server.call("GET", f"/api/kernels/{kernel}")
    assert before["connections"] == 0
    one, two = connect(kernel), connect(kernel)
    one.run("1")
    now = server.call("GET", f"/api/kernels/{kernel}")
    assert (now["connections"], now["execution_state"]) == (2, "idle")
    assert now["last_activity"] > before["last_activity"]
    two.close()
    one.run("2")
    while server.call("GET", f"/api/kernels/{kernel}")["connections"] != 1:
        pass


def test_environment(start: Start, connect: Connect) -> None:
    """Variables KERNEL_… of a request reach its kernel, and the server's keys do not."""
    kernel = start(env={"KERNEL_GREETING": "hello"})
    code = (
        "import os; print(os.environ['KERNEL_GREETING'], os.environ.get('KERNEL_GATEWAY'), dict(os.environ))"
    )
    said = connect(kernel).run(code).text
    assert said.startswith("hello 1 ")
    assert os.environ["JUPYTER_TOKEN"] not in said


def test_sessions(server: Server) -> None:
    body = {"path": "one.ipynb", "name": "one", "type": "notebook", "kernel": {"name": "python3"}}
    made = server.call("POST", "/api/sessions", body, 201)
    assert {key: made[key] for key in ("path", "name", "type")} == {
        key: body[key] for key in ("path", "name", "type")
    }
    assert is_kernel(made["kernel"])
    assert server.call("POST", "/api/sessions", body, 201)["id"] == made["id"], "the path has a session"
    url = f"/api/sessions/{made['id']}"
    assert server.call("GET", url)["kernel"]["id"] == made["kernel"]["id"]
    assert made["id"] in [session["id"] for session in server.call("GET", "/api/sessions")]
    moved = server.call("PATCH", url, {"path": "two.ipynb", "name": "two"})
    assert (moved["path"], moved["name"], moved["kernel"]["id"]) == ("two.ipynb", "two", made["kernel"]["id"])
    other = server.call("PATCH", url, {"kernel": {"name": "python3"}})
    assert other["kernel"]["id"] != made["kernel"]["id"]
    server.call("DELETE", url, status=204)
    server.refused("GET", url, status=404)
    server.refused("DELETE", url, status=404)
    server.refused("GET", f"/api/kernels/{other['kernel']['id']}", status=404)


def test_session_of_a_kernel(server: Server, start: Start) -> None:
    kernel = start()
    body = {"path": "console-1", "name": "", "type": "console", "kernel": {"id": kernel}}
    made = server.call("POST", "/api/sessions", body, 201)
    assert made["kernel"]["id"] == kernel
    legacy = {"notebook": {"path": "legacy.ipynb"}, "kernel": {"id": kernel}}
    old = server.call("POST", "/api/sessions", legacy, 201)
    assert old["notebook"]["path"] == "legacy.ipynb"
    for session in (made, old):
        server.send("DELETE", f"/api/sessions/{session['id']}")


@pytest.fixture
def anybody(server: Server) -> Iterator[httpx.Client]:
    """A client without a token."""
    with httpx.Client(base_url=server.url) as client:
        yield client


def test_tokens(server: Server, anybody: httpx.Client, kernel: str) -> None:
    token = server.token
    for given in (f"token {token}", f"Token {token}", f"Bearer {token}"):
        answer = anybody.get("/api/kernels", headers={"Authorization": given})
        assert answer.status_code == 200, given
    assert anybody.get("/api/kernels", params={"token": token}).status_code == 200
    for given in ("", "token", f"token {token}x", "token x" + token, "Basic x", "Bearer é"):
        answer = anybody.get("/api/kernels", headers=[(b"Authorization", given.encode())])
        assert answer.status_code in (401, 403), given
        assert token not in answer.text
    for params in ({}, {"token": ""}, {"token": "wrong"}):
        assert anybody.get(f"/api/kernels/{kernel}", params=params).status_code in (401, 403)


def test_not_found(server: Server) -> None:
    server.refused("GET", f"/api/kernels/{NOBODY}", status=404)
    server.refused("DELETE", f"/api/kernels/{NOBODY}", status=404)
    server.refused("POST", f"/api/kernels/{NOBODY}/interrupt", {}, 404)
    server.refused("POST", f"/api/kernels/{NOBODY}/restart", {}, 404)
    server.refused("GET", f"/api/sessions/{NOBODY}", status=404)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"x"',
        b'{"name": 7}',
        b'{"name": "klingon"}',
        b'{"name": "../../x"}',
        b'{"env": []}',
        b'{"env": {"KERNEL_X": 7}}',
        b'{"env": {"KERNEL_X": "\\u0000"}}',
    ],
)
def test_no_kernel_of_nonsense(server: Server, body: bytes) -> None:
    before = len(server.call("GET", "/api/kernels"))
    answer = server.http.post(server.url + "/api/kernels", content=body)
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.json()["message"]
    assert len(server.call("GET", "/api/kernels")) == before


@pytest.mark.parametrize(
    "body", [{}, {"path": "x"}, {"kernel": {"name": "klingon"}, "path": "x", "type": "notebook"}]
)
def test_no_session_of_nonsense(server: Server, body: Any) -> None:
    assert server.send("POST", "/api/sessions", body).status_code in (400, 404, 501)
