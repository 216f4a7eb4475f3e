"""The control plane: create, connect, list, info, timeouts, kill, pause, metrics."""

from __future__ import annotations

import datetime
import os
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from typing import Any

import e2b
import pytest
from e2b import AuthenticationException, NotFoundException, SandboxException, SandboxQuery, SandboxState

from .worlds import World

UTC = datetime.timezone.utc
Create = Callable[..., Any]


def ended(box: Any) -> None:
    """ended waits until the sandbox does not run any more."""
    while box.is_running():
        pass


def listed(world: World, **options: Any) -> list[Any]:
    """listed returns what all pages list."""
    pages = world.Sandbox.list(**options)
    found: list[Any] = []
    while pages.has_next:
        found += pages.next_items()
    return found


def test_create_and_info(world: World, create: Create) -> None:
    before = datetime.datetime.now(UTC)
    box = create(timeout=120, metadata={"user": "Ada & Co=1"}, envs={"A": "1"})
    assert box.is_running()
    for info in (box.get_info(), world.Sandbox.get_info(box.sandbox_id)):
        assert info.sandbox_id == box.sandbox_id
        assert info.template_id
        assert info.metadata == {"user": "Ada & Co=1"}
        assert info.state == SandboxState.RUNNING
        assert info.cpu_count >= 1
        assert info.memory_mb >= 1
        assert info.envd_version
        assert before - datetime.timedelta(seconds=1) <= info.started_at
        assert 118 <= (info.end_at - info.started_at).total_seconds() <= 180  # with its start
    assert box.connection_config
    assert box.envd_api_url == box.envd_direct_url == os.environ["E2B_SANDBOX_URL"]
    assert box.sandbox_domain
    assert box.get_host(8000).startswith("8000-" + box.sandbox_id)
    assert box.traffic_access_token


@pytest.mark.parametrize("template", ["base", "code-interpreter-v1"])
def test_templates(create: Create, template: str) -> None:
    assert create(template, timeout=60).is_running()


def test_unknown_template(world: World) -> None:
    with pytest.raises(SandboxException, match=r"404.*no-such-template"):
        world.Sandbox.create("no-such-template")


@pytest.mark.parametrize("timeout", [-1, 10**9])
def test_bad_timeout(world: World, timeout: int) -> None:
    with pytest.raises(SandboxException, match=r"400.*[Tt]imeout"):
        world.Sandbox.create(timeout=timeout)


def test_wrong_key(world: World, box: Any) -> None:
    wrong = "e2b_" + "0" * 40
    with pytest.raises(AuthenticationException):
        world.Sandbox.create(api_key=wrong)
    with pytest.raises(AuthenticationException):
        world.Sandbox.connect(box.sandbox_id, api_key=wrong)
    with pytest.raises(AuthenticationException):
        listed(world, api_key=wrong)
    with pytest.raises(AuthenticationException):
        world.Sandbox.kill(box.sandbox_id, api_key=wrong)
    assert box.is_running()


def test_explicit_client(world: World) -> None:
    client = e2b.E2B(
        api_key=os.environ["E2B_API_KEY"],
        api_url=os.environ["E2B_API_URL"],
        sandbox_url=os.environ["E2B_SANDBOX_URL"],
    )
    sandboxes = world.loop.drive(client.AsyncSandbox) if world.loop else client.Sandbox
    with sandboxes.create(timeout=60) as box:
        assert box.commands.run("echo mine").stdout == "mine\n"
    assert not box.is_running()


def test_connect(world: World, create: Create) -> None:
    box = create(timeout=300)
    box.files.write("kept", "yes")
    end = box.get_info().end_at
    other = world.Sandbox.connect(box.sandbox_id, timeout=60)
    assert other.files.read("kept") == "yes"
    assert box.get_info().end_at == end  # a shorter timeout takes nothing away
    box.connect(timeout=600)
    assert 250 <= (box.get_info().end_at - end).total_seconds() <= 310
    with pytest.raises(NotFoundException, match="not found"):
        world.Sandbox.connect("i" + uuid.uuid4().hex[:20])


def test_set_timeout(world: World, create: Create) -> None:
    box = create(timeout=300)
    before = box.get_info().end_at
    box.set_timeout(30)
    assert 260 <= (before - box.get_info().end_at).total_seconds() <= 275
    world.Sandbox.set_timeout(box.sandbox_id, 900)
    assert 590 <= (box.get_info().end_at - before).total_seconds() <= 610
    with pytest.raises(NotFoundException):
        world.Sandbox.set_timeout("i" + uuid.uuid4().hex[:20], 30)


def test_timeout_ends(world: World, create: Create) -> None:
    box = create(timeout=2)
    ended(box)
    with pytest.raises(e2b.TimeoutException, match=r"was not found.*time"):
        box.commands.run("true")
    with pytest.raises(e2b.TimeoutException, match=r"was not found.*time"):
        box.run_code("1")
    with pytest.raises(e2b.TimeoutException, match=r"was not found.*time"):
        box.files.read("x")
    with pytest.raises(NotFoundException):
        box.get_info()
    world.Sandbox.kill(box.sandbox_id)  # waits, should it still be about to end
    assert not world.Sandbox.kill(box.sandbox_id)


def test_timeout_is_absolute(create: Create) -> None:
    box = create(timeout=2)

    def be_busy() -> None:
        while True:
            box.commands.run("true")

    with pytest.raises(e2b.TimeoutException):
        be_busy()


def test_list(world: World, create: Create) -> None:
    mark = uuid.uuid4().hex
    query = SandboxQuery(metadata={"mark": mark})
    ids = [create(timeout=60, metadata={"mark": mark, "n o=&%": f"ü {n}"}).sandbox_id for n in range(3)]
    assert [info.sandbox_id for info in listed(world, query=query)] == ids[::-1]
    assert [info.sandbox_id for info in listed(world, query=query, order="asc")] == ids
    assert [info.sandbox_id for info in listed(world, query=query, limit=1)] == ids[::-1]
    assert [info.sandbox_id for info in listed(world, query=query, limit=2)] == ids[::-1]
    odd = SandboxQuery(metadata={"mark": mark, "n o=&%": "ü 1"})
    assert [info.metadata["n o=&%"] for info in listed(world, query=odd)] == ["ü 1"]
    assert listed(world, query=SandboxQuery(metadata={"mark": mark, "n o=&%": "ü 7"})) == []

    pages = world.Sandbox.list(query=query, limit=2)
    first = pages.next_items()
    assert pages.has_next
    more = world.Sandbox.list(query=query, limit=2, next_token=pages.next_token)
    assert [info.sandbox_id for info in first + more.next_items()] == ids[::-1]
    assert not more.has_next

    world.Sandbox.pause(ids[0])
    for states in (
        [SandboxState.PAUSED],
        [SandboxState.RUNNING],
        [SandboxState.RUNNING, SandboxState.PAUSED],
    ):
        found = listed(world, query=SandboxQuery(metadata={"mark": mark}, state=states))
        assert {info.state for info in found} == set(states)
    assert len(listed(world, query=query)) == 3
    with pytest.raises(SandboxException):
        listed(world, next_token="nonsense")


def test_kill(world: World, create: Create) -> None:
    box, other = create(), create()
    assert box.kill()
    assert not box.is_running()
    assert not box.kill()
    with pytest.raises(e2b.TimeoutException, match=r"was not found.*kill"):
        box.commands.run("true")
    with pytest.raises(e2b.TimeoutException, match=r"was not found.*kill"):
        box.files.list("/")
    with pytest.raises(e2b.TimeoutException, match=r"was not found.*kill"):
        box.list_code_contexts()
    assert world.Sandbox.kill(other.sandbox_id)
    assert not other.is_running()
    assert not world.Sandbox.kill("i" + uuid.uuid4().hex[:20])


def test_kill_during_a_run(world: World, create: Create) -> None:
    box = create()
    with pytest.raises(e2b.TimeoutException, match="was killed"):
        box.run_code(
            "import time\nprint('up', flush=True)\ntime.sleep(300)",
            on_stdout=lambda _: urllib.request.urlopen(deleting(box.sandbox_id)).close(),
        )
    assert not box.is_running()


def deleting(sandbox_id: str) -> urllib.request.Request:
    """deleting is what Sandbox.kill sends, for callbacks: a loop that calls them can not wait for itself."""
    headers = {"X-API-KEY": os.environ["E2B_API_KEY"]}
    return urllib.request.Request(
        f"{os.environ['E2B_API_URL']}/sandboxes/{sandbox_id}", method="DELETE", headers=headers
    )


def test_kill_during_a_command(world: World, create: Create) -> None:
    box = create()
    running = world.start(box, "echo up; sleep 300")
    running.hear("up")
    box.kill()
    with pytest.raises(e2b.TimeoutException):
        running.wait()


def test_pause_and_connect(world: World, create: Create) -> None:
    box = create(timeout=300)
    box.run_code("x = 41")
    box.files.write("kept", "yes")
    running = world.start(box, "sleep 300", timeout=0)
    assert box.pause()
    assert not box.pause()
    assert not box.is_running()
    assert box.get_info().state == SandboxState.PAUSED
    with pytest.raises(e2b.TimeoutException):
        box.commands.run("true")
    box.connect()
    assert box.is_running()
    assert box.get_info().state == SandboxState.RUNNING
    assert box.run_code("x + 1").text == "42"
    assert box.files.read("kept") == "yes"
    assert running.pid in [p.pid for p in box.commands.list()]

    assert world.Sandbox.beta_pause(box.sandbox_id)
    assert world.Sandbox.connect(box.sandbox_id).run_code("x").text == "41"
    assert box.beta_pause()
    assert world.Sandbox.pause(box.sandbox_id) is False
    assert box.kill()  # also while it is paused
    with pytest.raises(NotFoundException):
        world.Sandbox.pause(box.sandbox_id)


def test_pause_at_timeout(create: Create) -> None:
    box = create(timeout=300, lifecycle={"on_timeout": "pause"})
    box.run_code("x = 41")
    box.set_timeout(0)
    ended(box)
    assert box.get_info().state == SandboxState.PAUSED
    box.connect(timeout=60)
    assert box.run_code("x").text == "41"


def test_auto_resume(create: Create) -> None:
    box = create(timeout=300, lifecycle={"on_timeout": "pause", "auto_resume": True})
    box.pause()
    assert box.commands.run("echo woken").stdout == "woken\n"
    assert box.get_info().state == SandboxState.RUNNING


def test_metrics(world: World, create: Create) -> None:
    started = datetime.datetime.now(UTC)
    box = create()
    while not (samples := box.get_metrics()):
        pass
    for sample in samples + world.Sandbox.get_metrics(box.sandbox_id):
        assert sample.cpu_count >= 1
        assert 0 < sample.mem_used <= sample.mem_total
        assert 0 < sample.disk_used <= sample.disk_total or sample.disk_used == 0
        assert sample.timestamp.timestamp() >= started.timestamp() - 1
    hour = datetime.timedelta(hours=1)
    assert box.get_metrics(start=started - hour, end=started + hour)
    assert box.get_metrics(start=started - 2 * hour, end=started - hour) == []
    with pytest.raises(NotFoundException):
        world.Sandbox.get_metrics("i" + uuid.uuid4().hex[:20])


def test_envs_of_a_sandbox(box: Any) -> None:
    assert box.commands.run("echo $GREETING").stdout == "hello\n"
    assert box.run_code("import os; os.environ['GREETING']").text == "hello"
    assert box.commands.run("echo $GREETING", envs={"GREETING": "hi"}).stdout == "hi\n"


def test_no_internet(create: Create) -> None:
    box = create(allow_internet_access=False)
    code = "import socket\nsocket.create_connection(('192.0.2.1', 80), timeout=5)"
    assert box.run_code(code).error.name in ("OSError", "ConnectionRefusedError", "PermissionError")


def test_other_ports(world: World, box: Any, server: str) -> None:
    box.files.write("served/page.txt", "served")
    running = world.start(box, "python3 -u -m http.server 8123 -d served 2>&1", timeout=0)
    running.hear("Serving HTTP")
    headers = {"E2b-Sandbox-Id": box.sandbox_id, "E2b-Sandbox-Port": "8123"}
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(urllib.request.Request(f"{server}/page.txt", headers=headers))
    headers["E2B-Traffic-Access-Token"] = box.traffic_access_token
    with urllib.request.urlopen(urllib.request.Request(f"{server}/page.txt", headers=headers)) as answer:
        assert answer.read() == b"served"
    running.handle.kill()
