"""What this server does not have: each call says so at once, in the client's own exceptions."""

from __future__ import annotations

from typing import Any

import e2b
import pytest
from e2b import SandboxException, Template, Volume

from .worlds import World


def test_snapshots(world: World, box: Any) -> None:
    with pytest.raises(SandboxException, match=r"501.*snapshot"):
        box.create_snapshot()
    with pytest.raises(SandboxException, match=r"501.*snapshot"):
        world.Sandbox.create_snapshot(box.sandbox_id, name="n")
    for pages in (world.Sandbox.list_snapshots(), box.list_snapshots()):
        assert pages.next_items() == []
    assert world.Sandbox.delete_snapshot("none") is False


def test_fork(world: World, box: Any) -> None:
    with pytest.raises(SandboxException, match=r"501.*fork"):
        box.fork()
    with pytest.raises(SandboxException, match=r"501.*fork"):
        world.Sandbox.fork(box.sandbox_id, count=2)


def test_update_network(world: World, box: Any) -> None:
    box.update_network({"allow_out": ["a.example.org"], "deny_out": ["0.0.0.0/0"]})
    world.Sandbox.update_network(box.sandbox_id, {})
    with pytest.raises(SandboxException, match=r"501.*denyOut"):
        box.update_network({"deny_out": ["192.0.2.1"]})


def test_options_that_would_not_be_kept(world: World, box: Any) -> None:
    with pytest.raises(SandboxException, match=r"501.*denyOut"):
        world.Sandbox.create(network={"deny_out": ["192.0.2.1"]})
    with pytest.raises(SandboxException, match=r"501.*egressProxy"):
        world.Sandbox.create(network={"egress_proxy": {"address": "proxy.example.com:1080"}})
    with pytest.raises(SandboxException, match=r"501.*volume"):
        world.Sandbox.create(volume_mounts={"/mnt": "v"})
    with pytest.raises(SandboxException, match=r"501.*memory"):
        box.pause(keep_memory=False)
    assert box.is_running()


def test_mcp(box: Any) -> None:
    assert box.get_mcp_url().endswith("/mcp")
    with pytest.raises(e2b.FileNotFoundException):  # no gateway has written one
        box.get_mcp_token()


def test_templates_volumes_secrets() -> None:
    with pytest.raises(Exception, match=r"404|501"):
        Volume.create("v")
    with pytest.raises(Exception, match=r"404|501"):
        Volume.list()
    with pytest.raises(Exception, match=r"404|501"):
        e2b.Secret.create("s", "v")
    with pytest.raises(Exception, match=r"404|501"):
        Template.build(Template().from_image("busybox"), "t")
    assert not Template.exists("t")
