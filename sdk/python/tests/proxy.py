"""A proxy between the package and the server, which cuts connections."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Optional

# Says after how many bytes of the server's the connection with a number is cut; None: never; -1: it is silent from the start.
Budget = Callable[[int], Optional[int]]


class Proxy:
    """Leads from a TCP port to the server's unix socket. `cuts` counts the connections that were cut."""

    def __init__(self, url: str, budget: Budget) -> None:
        self._socket = url[len("unix:") :]
        self._budget = budget
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.cuts = 0
        self.connections = 0
        self._threads: list[threading.Thread] = []
        self._closed = threading.Event()
        self._start(self._accept)

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closed.is_set():
            if select.select([self._listener], [], [], 0.1)[0]:
                client, _ = self._listener.accept()
                self._start(self._forward, client, self._budget(self.connections))
                self.connections += 1

    def _forward(self, client: socket.socket, budget: Optional[int]) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, contextlib.suppress(OSError):
            server.connect(self._socket)
            while not self._closed.is_set():
                for ready in select.select([client, server], [], [], 0.1)[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    if ready is client:
                        server.sendall(data)
                        continue
                    if budget == -1:
                        continue
                    if budget is None:
                        client.sendall(data)
                        continue
                    client.sendall(data[:budget])
                    budget -= len(data)
                    if budget <= 0:
                        self.cuts += 1
                        if self.cuts % 2:  # a reset; the others end as if all were sent
                            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        return

    def close(self) -> None:
        """Cut all that is left, and end."""
        self._closed.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()


@contextlib.contextmanager
def proxied(url: str, budget: Budget) -> Iterator[Proxy]:
    """Run a proxy."""
    proxy = Proxy(url, budget)
    try:
        yield proxy
    finally:
        proxy.close()
