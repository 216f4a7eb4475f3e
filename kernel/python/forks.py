"""Keeps forked children of a kernel away from what is their parent's.

The launcher loads this file at its start.
"""

from __future__ import annotations

import selectors
from typing import Any


class ChildSelector:
    """The selector of an event loop in a forked child, which looks at no descriptor: they are its parent's.

    Else the child would take the signs of requests from its parent, and be caught in libzmq, which wants to
    be asked again by a child, for ever. It can run tasks. Most children never do: what they need is made
    when it is first asked for, as memory that a child writes to is no longer shared.
    """

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._of_parent = loop._selector

    def enter(self) -> None:
        """Take the place of the parent's selector. Runs in the child."""
        self._loop._selector = self

    def __getattr__(self, method: str) -> Any:
        self._loop._selector = selectors.DefaultSelector()
        self._loop._make_self_pipe()
        return getattr(self._loop._selector, method)
