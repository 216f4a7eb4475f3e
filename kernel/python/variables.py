"""Answers k2_variables_request: tells of the user's variables without running the user's code.

What is built in is read by the methods of its built-in class, whatever a subclass makes of
them; of other objects the fields are shown. Only for the shapes of well-known libraries a
little code of theirs runs, under an alarm.

The launcher loads this file when the first request comes.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import collections
import contextlib
import datetime
import itertools
import re
import signal
import sys
import threading
import time
import types
from collections.abc import Iterator
from typing import Any

COUNT = 1000  # variables in one answer
NAME, REPR = 200, 120  # characters
ITEMS, DEPTH = 6, 3  # of a container that are shown
TEXT = 60  # characters of a string that are shown
TIME = 3.0  # seconds, after which only names and types are told
ALARM = 1.0  # seconds for what a library has to say of one object

# Class attributes as the interpreter has them, whatever a metaclass says.
name_of = vars(type)["__name__"].__get__
module_of = vars(type)["__module__"].__get__
mro_of = vars(type)["__mro__"].__get__
vars_of = vars(type)["__dict__"].__get__

# What IPython keeps in the user's namespace.
OWN = re.compile(r"__\w*__|_+|_(i|ii|iii|ih|oh|dh)|_i?\d+|_exit_code")


def make(shell: Any) -> dict[str, Any]:
    """Describe the variables, by name: api/openapi.yaml has the fields as the schema Variables."""
    missing = object()
    names = sorted(
        name
        for name, value in list(shell.user_ns.items())
        if type(name) is str
        and value is not shell.user_ns_hidden.get(name, missing)
        and not OWN.fullmatch(name)
    )
    deadline = time.monotonic() + TIME
    variables = []
    for name in names[:COUNT]:
        with contextlib.suppress(KeyError):  # deleted by a thread
            variables.append(describe(name, shell.user_ns[name], time.monotonic() < deadline))
    return {"variables": variables, "truncated": len(names) > COUNT}


def describe(name: str, value: Any, closely: bool) -> dict[str, Any]:
    cls = type(value)
    module = module_of(cls)
    known = {"name": clip(name, NAME), "kind": kind(cls), "type": clip(name_of(cls), NAME), "repr": ""}
    if type(module) is str and module != "builtins":
        known["module"] = clip(module, NAME)
    if closely:
        with contextlib.suppress(Exception):  # such as a container that a thread changes
            known.update(details(value))
    known["repr"] = known["repr"] or clip(f"<{name_of(cls)} object>", REPR)
    return known


def kind(cls: type) -> str:
    if issubclass(cls, type):
        return "class"
    if issubclass(cls, (types.FunctionType, types.BuiltinFunctionType, types.MethodType)):
        return "function"
    return "module" if issubclass(cls, types.ModuleType) else "variable"


def details(value: Any) -> dict[str, Any]:
    """Return size, length or shape, and a short text of the value."""
    found: dict[str, Any] = {"size": size(value), "repr": clip(short(value), REPR)}
    for base, length in LENGTHS.items():
        if issubclass(type(value), base):
            found["length"] = length(value)
    with contextlib.suppress(BaseException):  # SystemExit, too, which would end the kernel
        found.update(of_library(value))
    return found


# Of these, and of what is derived from them, the length is told.
LENGTHS: dict[type, Any] = {
    base: base.__len__
    for base in (str, bytes, bytearray, list, tuple, dict, set, frozenset, collections.deque, range)
}


def size(value: Any) -> int:
    """Return the bytes of the object itself, without what it refers to, as sys.getsizeof does."""
    fields = instance_dict(value)
    slots = ((base, vars_of(base).get("__sizeof__")) for base in mro_of(type(value)))
    native = (s for b, s in slots if type(s) is types.MethodDescriptorType and s.__objclass__ is b)
    own: int = next(native)(value)
    return own + (0 if fields is None else dict.__sizeof__(fields))


def instance_dict(value: Any) -> Any:
    """Return the object's own fields; None where it has none, or where its class hides them."""
    for base in mro_of(type(value)):
        found = vars_of(base).get("__dict__")
        if found is not None:
            plain = type(found) is types.GetSetDescriptorType
            return found.__get__(value) if plain and base is not type else None
    return None


def short(value: Any, depth: int = 0) -> str:
    """Return a text like repr's, of bounded length, made by nobody's code but this file's."""
    cls = type(value)
    if any(cls is plain for plain in PLAIN):  # not by its hash: a metaclass can have its own
        return repr(value)
    for base, show in SHOWN.items():
        if issubclass(cls, base):
            text: str = "…" if depth == DEPTH and show in DEEP else show(value, depth)
            return text if cls is base or base in NAMED else f"{name_of(cls)}({text})"
    return "…" if depth == DEPTH else instance(value, depth)


def integer(value: int, _: int) -> str:
    bits = int.bit_length(value)
    return int.__repr__(value) if bits < 400 else f"<integer of {bits} bits>"


def string(value: Any, _: int) -> str:
    for base in (str, bytes, bytearray):
        if issubclass(type(value), base):
            head = base.__getitem__(value, slice(0, TEXT))
            return base.__repr__(head) + ("…" if base.__len__(value) > TEXT else "")
    raise TypeError


def sequence(value: Any, depth: int) -> str:
    for base, form in FORMS.items():
        if issubclass(type(value), base):
            parts = [short(item, depth + 1) for item in itertools.islice(base.__iter__(value), ITEMS)]
            more = ["…"] if base.__len__(value) > ITEMS else []
            return form.format(", ".join(parts + more) + ("," if base is tuple and len(parts) == 1 else ""))
    raise TypeError


FORMS: dict[Any, str] = {
    list: "[{}]",
    tuple: "({})",
    set: "{{{}}}",
    frozenset: "frozenset({{{}}})",
    collections.deque: "deque([{}])",
}


def mapping(value: dict[Any, Any], depth: int) -> str:
    items = itertools.islice(dict.items(value), ITEMS)
    parts = [f"{short(key, depth + 1)}: {short(item, depth + 1)}" for key, item in items]
    return "{" + ", ".join(parts + ([] if dict.__len__(value) <= ITEMS else ["…"])) + "}"


def real(value: float, _: int) -> str:
    return float.__repr__(value)


def moment(value: datetime.datetime, _: int) -> str:
    """Show a time without its zone, which can be the user's code."""
    names = ("year", "month", "day", "hour", "minute", "second", "microsecond")
    return str(datetime.datetime(*(getattr(datetime.datetime, name).__get__(value) for name in names)))


def raised(value: BaseException, depth: int) -> str:
    arguments = sequence(list(vars(BaseException)["args"].__get__(value)), depth)
    return f"{name_of(type(value))}({arguments[1:-1]})"


def module(value: types.ModuleType, _: int) -> str:
    fields = vars(types.ModuleType)["__dict__"].__get__(value)
    return f"<module {short(dict.get(fields, '__name__'), DEPTH - 1)}>"


def function(value: types.FunctionType, _: int) -> str:
    code = value.__code__
    count = code.co_argcount + code.co_kwonlyargcount
    return f"{value.__name__}({', '.join(code.co_varnames[:count])})"


def builtin(value: types.BuiltinFunctionType, _: int) -> str:
    return f"<built-in {value.__name__}>"


def class_(value: type, _: int) -> str:
    return f"<class {name_of(value)!r}>"


def instance(value: Any, depth: int) -> str:
    """Show an object by its fields."""
    cls = type(value)
    own = itertools.islice(dict.items(instance_dict(value) or {}), ITEMS + 1)
    fields = {name: field for name, field in own if type(name) is str}
    if type(fields.get("_name_")) is str:  # of an Enum
        return f"{name_of(cls)}.{fields['_name_']}"
    for base in mro_of(cls):
        for name, slot in vars_of(base).items():
            if type(slot) is types.MemberDescriptorType and slot.__objclass__ is base and is_python(base):
                with contextlib.suppress(AttributeError):
                    fields[name] = slot.__get__(value)
    if not fields:
        return f"<{name_of(cls)} object>"
    parts = [f"{name}={short(field, depth + 1)}" for name, field in itertools.islice(fields.items(), ITEMS)]
    return f"{name_of(cls)}({', '.join(parts + ([] if len(fields) <= ITEMS else ['…']))})"


def is_python(cls: type) -> bool:
    """Report whether the class was made by a class statement."""
    return bool(vars(type)["__flags__"].__get__(cls) & 1 << 9)


PLAIN = [
    bool,
    complex,
    range,
    type(None),
    type(...),
    datetime.date,
    datetime.timedelta,
    datetime.timezone,
]

SHOWN: dict[type, Any] = {
    int: integer,
    float: real,
    str: string,
    bytes: string,
    bytearray: string,
    **dict.fromkeys(FORMS, sequence),
    dict: mapping,
    datetime.datetime: moment,
    BaseException: raised,
    types.ModuleType: module,
    types.FunctionType: function,
    types.BuiltinFunctionType: builtin,
    type: class_,
}
DEEP = {sequence, mapping, raised}
NAMED = {BaseException, types.ModuleType, type}  # their texts say what they are


def clip(text: str, limit: int) -> str:
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return text.encode("utf-8", "replace").decode()


# Libraries


def of_library(value: Any) -> dict[str, Any]:
    for name, kinds in LIBRARIES.items():
        library = sys.modules.get(name)
        for kind, tell in kinds.items() if type(library) is types.ModuleType else ():
            base = vars(types.ModuleType)["__dict__"].__get__(library).get(kind)
            if any(base is cls for cls in mro_of(type(value))):
                with alarm():
                    found: dict[str, Any] = tell(base, value)
                    return found
    return {}


def array(base: Any, value: Any) -> dict[str, Any]:
    plain = base.view(value, base)
    found = {**tensor(base, plain), "size": int(plain.nbytes)}
    if plain.dtype.kind in "biufcSU":
        found["repr"] = clip(f"array({short(plain.flat[: ITEMS + 1].tolist())})", REPR)
    return found


def scalar(base: Any, value: Any) -> dict[str, Any]:
    return {"repr": clip(f"{name_of(type(value))}({short(value.item())})", REPR)}


def tensor(base: Any, value: Any) -> dict[str, Any]:
    dtype = clip(str(value.dtype), NAME)
    shape = [int(n) for n in value.shape]
    return {"shape": shape, "dtype": dtype, "repr": f"<{name_of(base)} of {dtype}>"}


def frame(base: Any, value: Any) -> dict[str, Any]:
    names = [short(name) for name in value.columns[: ITEMS + 1]]
    text = ", ".join(names[:ITEMS] + (["…"] if len(names) > ITEMS else []))
    shape = [int(n) for n in value.shape]
    text = clip(f"<{name_of(base)} of {text or 'no columns'}>", REPR)
    found: dict[str, Any] = {"shape": shape, "repr": text}
    if hasattr(value, "estimated_size"):
        found["size"] = int(value.estimated_size())
    elif shape[1] <= NAME:
        found["size"] = int(value.memory_usage().sum())
    return found


def column(base: Any, value: Any) -> dict[str, Any]:
    size = value.estimated_size if hasattr(value, "estimated_size") else value.memory_usage
    return {**tensor(base, value), "size": int(size())}


def words(base: Any, value: Any) -> dict[str, Any]:
    return {"repr": clip(f"{name_of(base)}({str(value)!r})", REPR)} if type(value) is base else {}


LIBRARIES: dict[str, dict[str, Any]] = {
    "numpy": {"ndarray": array, "generic": scalar},
    "pandas": {"DataFrame": frame, "Series": column, "Index": column},
    "polars": {"DataFrame": frame, "Series": column},
    "torch": {"Tensor": tensor},
    "decimal": {"Decimal": words},
    "fractions": {"Fraction": words},
    "pathlib": {"PosixPath": words, "PurePosixPath": words},
    "uuid": {"UUID": words},
}


class TooLong(Exception):
    """A library took too long."""


@contextlib.contextmanager
def alarm() -> Iterator[None]:
    """Raise TooLong in what takes longer than ALARM, and at once where the user has set an alarm."""
    armed = True

    def ring(*_: object) -> None:
        if armed:
            raise TooLong

    taken = signal.getitimer(signal.ITIMER_REAL)[0] or signal.getsignal(signal.SIGALRM) is None
    if taken or threading.current_thread() is not threading.main_thread():
        raise TooLong
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, ALARM, ALARM / 10)
    try:
        try:
            yield
        finally:
            armed = False
    finally:  # also where the alarm came just then
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
