"""Tests of variables.py, in a real kernel."""

from __future__ import annotations

import pathlib
import shutil
import textwrap
from collections.abc import Iterator
from typing import Any

import launcher_test
import pytest
from launcher_test import Kernel, Message


@pytest.fixture(scope="module")
def started() -> Iterator[Kernel]:
    kernel = Kernel()
    yield kernel
    assert kernel.process.poll() is None, "the kernel died"
    kernel.close()


@pytest.fixture
def kernel(started: Kernel) -> Kernel:
    """The kernel without variables."""
    started.run("%reset -f")
    return started


def ask(kernel: Kernel) -> Message:
    request = kernel.send("k2_variables_request", {})
    reply = kernel.answer(request)
    assert reply["status"] == "ok"
    assert {message["msg_type"] for message in kernel.published(request)} == {"status"}
    return reply


def after(kernel: Kernel, code: str) -> dict[str, dict[str, Any]]:
    run = kernel.run(code)
    assert run.reply["status"] == "ok", run.reply
    return {v.pop("name"): v for v in ask(kernel)["variables"]}


def test_the_feature_is_announced(kernel: Kernel) -> None:
    assert "k2:variables" in kernel.features


def test_only_the_users_names(kernel: Kernel) -> None:
    assert after(kernel, "1; 'shown'\n_mine = 2; x = 1\n%history -n 1\n!true").keys() == {"_mine", "x"}
    kernel.run("1/0")
    assert after(kernel, "globals()[3] = 1; del _mine").keys() == {"x"}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("1", {"type": "int", "repr": "1"}),
        ("10**5000", {"type": "int", "repr": "<integer of 16610 bits>"}),
        ("True", {"type": "bool", "repr": "True"}),
        ("0.5", {"type": "float", "repr": "0.5"}),
        ("None", {"type": "NoneType", "repr": "None"}),
        ("'é' * 100", {"type": "str", "length": 100, "repr": "'" + "é" * 60 + "'…"}),
        ("b'ab'", {"type": "bytes", "length": 2, "repr": "b'ab'"}),
        ("'\\ud800'", {"type": "str", "length": 1, "repr": "'\\ud800'"}),
        ("list(range(10**6))", {"type": "list", "length": 10**6, "repr": "[0, 1, 2, 3, 4, 5, …]"}),
        ("(1, (2, (3, (4,))))", {"type": "tuple", "length": 2, "repr": "(1, (2, (3, …)))"}),
        ("{'a': {1}, 2: None}", {"type": "dict", "length": 2, "repr": "{'a': {1}, 2: None}"}),
        ("range(3)", {"type": "range", "length": 3, "repr": "range(0, 3)"}),
        ("ValueError('x', 1)", {"type": "ValueError", "repr": "ValueError('x', 1)"}),
        ("object()", {"type": "object", "repr": "<object object>"}),
        ("__import__('collections').deque([1])", {"type": "deque", "length": 1, "repr": "deque([1])"}),
        ("__import__('collections').OrderedDict(a=1)", {"length": 1, "repr": "OrderedDict({'a': 1})"}),
        (
            "__import__('datetime').datetime(2024, 1, 2)",
            {"repr": "2024-01-02 00:00:00", "module": "datetime"},
        ),
        ("__import__('decimal').Decimal('1.1')", {"repr": "Decimal('1.1')", "module": "decimal"}),
        ("__import__('pathlib').Path('/a')", {"repr": "PosixPath('/a')"}),
        ("__import__('json')", {"kind": "module", "type": "module", "repr": "<module 'json'>"}),
        ("lambda a, *, b: a", {"kind": "function", "repr": "<lambda>(a, b)"}),
        ("len", {"kind": "function", "repr": "<built-in len>"}),
        ("int", {"kind": "class", "type": "type", "repr": "<class 'int'>"}),
        (
            "type('C', (), {})()",
            {"kind": "variable", "type": "C", "module": "__main__", "repr": "<C object>"},
        ),
    ],
)
def test_values(kernel: Kernel, expression: str, expected: dict[str, Any]) -> None:
    told = after(kernel, f"x = {expression}")["x"]
    assert {name: told.get(name) for name in expected} == expected
    assert "length" in expected or "length" not in told
    assert told["size"] > 0


def test_sizes_are_those_of_the_interpreter(kernel: Kernel) -> None:
    for value in ("(n for n in ())", "{1}", "memoryview(b'abc')", "len", "7", "slice(1)"):
        told = after(kernel, f"x = {value}")
        assert str(told["x"]["size"]) == kernel.run("x.__sizeof__()").result


def test_objects_are_shown_by_their_fields(kernel: Kernel) -> None:
    told = after(
        kernel,
        textwrap.dedent("""
        import dataclasses, enum
        @dataclasses.dataclass
        class Point:
            x: int
            y: list
        @dataclasses.dataclass(slots=True)
        class Slotted:
            u: int
        class Color(enum.Enum):
            RED = 1
        point, slotted, color = Point(1, [2]), Slotted(3), Color.RED
        many = Point(0, 0); vars(many).update({f"f{i}": i for i in range(10)})
        """),
    )
    assert told["point"]["repr"] == "Point(x=1, y=[2])"
    assert told["slotted"]["repr"] == "Slotted(u=3)"
    assert told["color"]["repr"] == "Color.RED"
    assert told["many"]["repr"] == "Point(x=0, y=0, f0=0, f1=1, f2=2, f3=3, …)"


def test_libraries(kernel: Kernel) -> None:
    told = after(
        kernel,
        textwrap.dedent("""
        import numpy, pandas, polars
        a = numpy.zeros((1000, 1000)); s = numpy.float64(0.5); i = numpy.int64(3)
        class Derived(numpy.ndarray):
            @property
            def shape(self): raise SystemExit
        d = a[:2].view(Derived)
        f = pandas.DataFrame({"a": [1], "b": ["x"]}); c = f["a"]; n = f.index
        wide = pandas.DataFrame(numpy.broadcast_to(0.5, (10**6, 10**4)), copy=False)
        p = polars.DataFrame({"a": [1]}); q = p["a"]
        """),
    )
    assert (told["a"]["shape"], told["a"]["dtype"], told["a"]["size"]) == ([1000, 1000], "float64", 8_000_000)
    assert told["a"]["repr"] == "array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, …])"
    assert (told["d"]["shape"], told["d"]["type"]) == ([2, 1000], "Derived")
    assert (told["s"]["repr"], told["i"]["repr"]) == ("float64(0.5)", "int64(3)")
    assert (told["f"]["shape"], told["f"]["repr"]) == ([1, 2], "<DataFrame of 'a', 'b'>")
    assert (told["c"]["shape"], told["c"]["dtype"]) == ([1], "int64")
    assert told["n"]["shape"] == [1]
    assert told["wide"]["shape"] == [10**6, 10**4]
    assert (told["p"]["shape"], told["q"]["shape"]) == ([1, 1], [1])


HOSTILE = """
import sys
def trap(*args, **kwargs):
    print("trapped")
    while True: pass
class Meta(type):
    __name__ = property(trap)
    __module__ = property(trap)
    __mro__ = property(trap)
    __dict__ = property(trap)
    __instancecheck__ = __subclasscheck__ = __getattribute__ = __repr__ = __hash__ = __eq__ = trap
class Hostile(metaclass=Meta):
    __class__ = property(trap)
    __repr__ = __str__ = __len__ = __sizeof__ = __getattribute__ = __getattr__ = __format__ = __iter__ = trap
    __eq__ = __hash__ = __bool__ = __dir__ = __reduce__ = __get__ = trap
    shape = dtype = property(trap)
instance = object.__new__(Hostile)
class Dict(dict):
    items = keys = __iter__ = __len__ = __repr__ = __getattribute__ = __sizeof__ = trap
class List(list):
    __iter__ = __len__ = __repr__ = __getitem__ = __getattribute__ = trap
class Text(str):
    __iter__ = __len__ = __repr__ = __str__ = __getitem__ = __getattribute__ = trap
class Number(int):
    __repr__ = __str__ = __index__ = __int__ = __getattribute__ = bit_length = trap
class Hidden:
    __dict__ = property(trap)
class Zone(__import__("datetime").tzinfo):
    utcoffset = dst = tzname = __repr__ = trap
class Endless:
    def __getattr__(self, name): return getattr(self, name + "x")
class Failure(Exception):
    __str__ = __repr__ = __getattribute__ = trap
class Odd: pass
odd = Odd(); odd.__dict__[1] = 2
a, b, c, d, e, f = Dict(a=1), List([1]), Text("t"), Number(3), Hidden(), Endless()
g, h = __import__("datetime").datetime(2024, 1, 1, tzinfo=Zone()), Failure("x")
inside = [[instance], {"k": instance}, (Hostile,)]
module = __import__("types").ModuleType("m"); module.__dict__["__name__"] = instance
loop = []; loop.append(loop)
deep = []
for _ in range(100_000): deep = [deep]
"""


def test_hostile_objects_run_nothing(kernel: Kernel) -> None:
    told = after(kernel, HOSTILE)
    assert (told["instance"]["type"], told["instance"]["repr"]) == ("Hostile", "<Hostile object>")
    assert told["Hostile"]["kind"] == "class"
    assert (told["a"]["repr"], told["a"]["length"]) == ("Dict({'a': 1})", 1)
    assert [told[name]["repr"] for name in "bcd"] == ["List([1])", "Text('t')", "Number(3)"]
    assert told["g"]["repr"] == "2024-01-01 00:00:00"
    assert told["h"]["repr"] == "Failure('x')"
    assert told["inside"]["repr"] == "[[<Hostile object>], {'k': <Hostile object>}, (<class 'Hostile'>,)]"
    assert told["loop"]["repr"] == "[[[…]]]"


def test_a_library_that_hangs_is_left(kernel: Kernel) -> None:
    told = after(
        kernel,
        textwrap.dedent("""
        import pandas, signal
        class Slow(pandas.DataFrame):
            @property
            def shape(self):
                while True: pass
        class Leaving(pandas.DataFrame):
            @property
            def shape(self): raise SystemExit
        slow, leaving, after = Slow({"a": [1]}), Leaving({"a": [1]}), signal.getsignal(signal.SIGALRM)
        """),
    )
    assert told["slow"]["type"] == "Slow"
    assert "shape" not in told["slow"]
    assert told["leaving"]["size"] > 0
    assert (
        kernel.run("signal.getsignal(signal.SIGALRM) == after, signal.getitimer(0)").result
        == "(True, (0.0, 0.0))"
    )


def test_an_alarm_of_the_user_stays(kernel: Kernel) -> None:
    told = after(kernel, "import signal, numpy; x = numpy.zeros(3); signal.alarm(1000); y = 1")
    assert (told["x"]["type"], told["y"]["repr"]) == ("ndarray", "1")
    assert kernel.run("signal.alarm(0) > 900").result == "True"


def test_many_variables(kernel: Kernel) -> None:
    kernel.run("globals().update({f'v{i:04}': i for i in range(1500)}); globals()['u' * 5000] = 1")
    reply = ask(kernel)
    assert (len(reply["variables"]), reply["truncated"]) == (1000, True)
    assert len(reply["variables"][0]["name"]) == 200


def test_there_is_always_an_answer(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(launcher_test.LAUNCHER.parent, tmp_path, dirs_exist_ok=True)
    (tmp_path / "variables.py").unlink()
    monkeypatch.setattr(launcher_test, "LAUNCHER", tmp_path / "launcher.py")
    kernel = Kernel()
    try:
        reply = kernel.answer(kernel.send("k2_variables_request", {}))
        assert (reply["status"], reply["ename"]) == ("error", "FileNotFoundError")
    finally:
        kernel.close()


def test_an_interrupt_loses_no_answer(kernel: Kernel) -> None:
    for _ in range(10):
        request = kernel.send("k2_variables_request", {})
        kernel.interrupt()
        assert kernel.answer(request)["status"] == "ok"
    assert kernel.run("1").result == "1"
