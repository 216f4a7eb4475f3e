"""Whom the benchmark compares: each with a kernel of its own, and a client of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import kernels
from channels import PEERS, Channels, Gateway
from clients import Asynchronous, Blocking, Client
from endpoint import HTTP
from engine import Engine, Server
from kernels import Kernel
from options import Options
from raw import Raw
from turns import reason

SERVE, AGENT, SOCKET = "k2sandbox", "k2sandbox agent", "k2sandbox, WebSocket"
SHARED = ("k2sandbox agent, one kernel", "raw pyzmq, that kernel", "jupyter_client, that kernel")
FLOOR, STOCK = "raw pyzmq, our launcher", "raw pyzmq, stock ipykernel"
BLOCKING, ASYNC = "jupyter_client, stock ipykernel", "jupyter_client asyncio, stock ipykernel"


@dataclass
class Lane:
    """Something that runs cells."""

    client: Client
    root: int  # the process that all its processes come from: a server, or the kernel itself


Open = Callable[[ExitStack], Lane]


def sandbox(o: Options, stack: ExitStack) -> Lane:
    server = stack.enter_context(closing(Server(o.binary, o.python)))
    client = stack.enter_context(closing(server.runner(server.create())))
    return Lane(client, server.process.pid)


def agent(o: Options, stack: ExitStack) -> Lane:
    engine = stack.enter_context(closing(Engine(o.binary, o.python)))
    return Lane(stack.enter_context(closing(HTTP(engine.address))), engine.process.pid)


def direct(o: Options, launcher: list[str], connect: Callable[[Path], Client], stack: ExitStack) -> Lane:
    kernel = stack.enter_context(closing(Kernel(o.python, launcher)))
    return Lane(stack.enter_context(closing(connect(kernel.connection_file))), kernel.process.pid)


def gateway(o: Options, name: str, stack: ExitStack) -> Lane:
    server = stack.enter_context(closing(Gateway(name, o.binary, o.python)))
    return Lane(stack.enter_context(closing(Channels(server))), server.pid)


def known(o: Options) -> dict[str, Open]:
    """Return what opens each lane."""
    return {
        SERVE: partial(sandbox, o),
        AGENT: partial(agent, o),
        SOCKET: partial(gateway, o, "k2sandbox"),
        FLOOR: partial(direct, o, kernels.OURS, Raw),
        STOCK: partial(direct, o, kernels.STOCK, Raw),
        BLOCKING: partial(direct, o, kernels.STOCK, Blocking),
        ASYNC: partial(direct, o, kernels.STOCK, Asynchronous),
        **{name: partial(gateway, o, name) for name in PEERS},
    }


def open_all(lanes: dict[str, Open], stack: ExitStack, failed: dict[str, str]) -> dict[str, Lane]:
    """Open lanes; those that cannot be opened are in failed."""
    opened = {}
    for name, start in lanes.items():
        try:
            opened[name] = start(stack)
        except Exception as error:
            failed[name] = f"does not start: {reason(error)}"
    return opened


def is_ours(lane: str) -> bool:
    return lane.startswith("k2sandbox")
