"""One name for a call of an instance and for another one of its class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from typing import Generic, TypeVar, overload

    from typing_extensions import Concatenate, ParamSpec

    S = TypeVar("S")
    P = ParamSpec("P")
    R = TypeVar("R")
    Q = ParamSpec("Q")
    T = TypeVar("T")

    class either(Generic[S, P, R, Q, T]):
        """See below."""

        def __init__(self, one: Callable[Concatenate[S, P], R], by_id: Callable[Concatenate[type[S], Q], T]) -> None: ...
        @overload
        def __get__(self, instance: None, owner: type[S]) -> Callable[Q, T]: ...
        @overload
        def __get__(self, instance: S, owner: type[S]) -> Callable[P, R]: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...

else:

    class either:
        """A method of two faces: `sandbox.kill()` calls `one`, `Sandbox.kill(sandbox_id=…)` calls `by_id`."""

        def __init__(self, one: Callable[..., Any], by_id: Callable[..., Any]) -> None:
            self._one, self._by_id = one, by_id
            self.__doc__ = one.__doc__

        def __get__(self, instance: Any, owner: type) -> Any:
            return self._by_id.__get__(owner) if instance is None else self._one.__get__(instance)
