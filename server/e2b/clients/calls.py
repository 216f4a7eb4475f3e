"""Which public calls of a client were driven: looked at from outside, nothing of the client is changed."""

from __future__ import annotations

import inspect
import sys
import threading
from types import CodeType, FrameType
from typing import Any


class Calls:
    """The public calls of some classes, and which of them were made since watch."""

    def __init__(self, classes: list[type]) -> None:
        self.names: dict[CodeType, str] = {}
        self.made: set[str] = set()
        for cls in classes:
            for name in dir(cls):
                if not name.startswith("_"):
                    self._add(cls, name)

    def _add(self, cls: type, name: str) -> None:
        value: Any = inspect.getattr_static(cls, name)
        named = f"{cls.__name__}.{name}"
        if hasattr(value, "class_method_name"):  # of both the class and its instances
            static = inspect.getattr_static(cls, value.class_method_name)
            self.names[inspect.unwrap(static.__func__).__code__] = f"{cls.__name__}.{name}(id)"
            value = value.method
        if isinstance(value, property):
            value = value.fget
        value = inspect.unwrap(getattr(value, "__func__", value))
        if inspect.isfunction(value):
            self.names[value.__code__] = named

    def watch(self) -> None:
        threading.setprofile(self._event)
        sys.setprofile(self._event)

    def _event(self, frame: FrameType, event: str, arg: object) -> None:
        if event == "call" and frame.f_code in self.names:
            self.made.add(self.names[frame.f_code])

    def missed(self) -> set[str]:
        return set(self.names.values()) - self.made
