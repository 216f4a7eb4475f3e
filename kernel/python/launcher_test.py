"""Tests of launcher.py with real kernels, over the wire: python -m pytest launcher_test.py."""

from __future__ import annotations

import json
import os
import pathlib
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient

LAUNCHER = pathlib.Path(__file__).with_name("launcher.py")
PATIENCE = 60  # seconds until a kernel that says nothing has failed its test

Message = dict[str, Any]


class Run:
    """One executed cell: what it published between busy and idle, and its reply."""

    def __init__(self) -> None:
        self.published: list[Message] = []
        self.reply: Message = {}

    def of(self, kind: str) -> list[Message]:
        return [m for m in self.published if m["msg_type"] == kind]

    def text(self, name: str = "stdout") -> str:
        return "".join(m["content"]["text"] for m in self.of("stream") if m["content"]["name"] == name)

    @property
    def result(self) -> str:
        (message,) = self.of("execute_result")
        return str(message["content"]["data"]["text/plain"])


class Kernel:
    """A kernel that the launcher started, in a process group of its own."""

    python = sys.executable

    def __init__(self, args: Sequence[str] = (), env: Mapping[str, str] | None = None) -> None:
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="k2", dir="/tmp"))
        connection = self.dir / "connection.json"
        for file in LAUNCHER.parent.glob("*.py"):
            shutil.copy(file, self.dir)
        ports = {f"{name}_port": n for n, name in enumerate(["shell", "iopub", "stdin", "control", "hb"], 1)}
        connection.write_text(
            json.dumps(
                {
                    **ports,
                    "transport": "ipc",
                    "ip": str(self.dir / "s"),
                    "key": "k",
                    "signature_scheme": "hmac-sha256",
                }
            )
        )
        # ipykernel looks for pytest's variable, and leaves fd 1 and 2 alone where it is set.
        own = {
            name: v
            for name, v in os.environ.items()
            if not name.startswith(("PYTEST", "PYTHON", "JPY", "K2_"))
        }
        self.process = self.spawn(["-f", str(connection), *args], {**own, **(env or {})})
        self.strays: list[Message] = []  # what finish saw of other requests
        self.answers: dict[str, Message] = {}
        try:
            self.connect(connection)
        except BaseException:
            self.close()
            raise

    def spawn(self, args: list[str], env: dict[str, str]) -> Any:
        """Start the process, and return what can be asked for its pid, to poll and to wait."""
        return subprocess.Popen(
            [self.python, str(self.dir / LAUNCHER.name), *args],
            cwd=self.dir,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def connect(self, connection: pathlib.Path) -> None:
        self.client = BlockingKernelClient(connection_file=str(connection))
        self.client.load_connection_file()
        self.client.start_channels(hb=False)
        self.features = self.answer(self.send("kernel_info_request", {}))["supported_features"]
        self.await_iopub()

    def close(self) -> None:
        self.client.stop_channels()
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self.dir)

    def send(self, kind: str, content: Message, channel: str = "shell", **message: Any) -> str:
        """Send a request; message holds its metadata, buffers, and subshell_id."""
        buffers = message.pop("buffers", None)
        subshell = message.pop("subshell_id", None)
        request = self.client.session.msg(kind, content, **message)
        if subshell:
            request["header"]["subshell_id"] = subshell
        self.client.session.send(getattr(self.client, f"{channel}_channel").socket, request, buffers=buffers)
        return str(request["header"]["msg_id"])

    def start(self, code: str, k2: Any = None, **message: Any) -> str:
        content = {
            "code": textwrap.dedent(code),
            "silent": False,
            "store_history": True,
            "user_expressions": {},
        }
        content.update({"allow_stdin": message.pop("allow_stdin", False), "stop_on_error": False})
        metadata = {} if k2 is None else {"k2": k2}
        return self.send("execute_request", content, metadata=metadata, **message)

    def finish(self, request: str) -> Run:
        run = Run()
        run.published = self.published(request)
        run.reply = self.answer(request)
        return run

    def published(self, request: str) -> list[Message]:
        """Return what a request publishes, up to its idle."""
        published: list[Message] = []
        while True:
            message = self.client.get_iopub_msg(timeout=PATIENCE)
            if message["parent_header"].get("msg_id") != request:
                self.strays.append(message)
                continue
            published.append(message)
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                return published

    def run(self, code: str, k2: Any = None, **message: Any) -> Run:
        return self.finish(self.start(code, k2, **message))

    def answer(self, request: str, channel: str = "shell") -> Message:
        while request not in self.answers:
            reply = getattr(self.client, f"get_{channel}_msg")(timeout=PATIENCE)
            self.answers[reply["parent_header"]["msg_id"]] = reply["content"]
        return self.answers.pop(request)

    def await_state(self, request: str, kind: str) -> Message:
        while True:
            message: Message = self.client.get_iopub_msg(timeout=PATIENCE)
            if message["parent_header"].get("msg_id") == request and message["msg_type"] == kind:
                return message

    def interrupt(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def interrupt_until_idle(self, request: str) -> Message:
        """Interrupt as a supervisor does, again after a second without a sign: CPython can miss a signal."""
        for _ in range(PATIENCE):
            self.interrupt()
            try:
                while self.client.get_iopub_msg(timeout=1)["content"].get("execution_state") != "idle":
                    pass
            except queue.Empty:
                continue
            return self.answer(request)
        raise TimeoutError("the kernel cannot be interrupted")

    def await_iopub(self) -> None:
        """Send requests until one is seen on iopub, whose subscription takes a moment, and then its reply."""
        while True:
            request = self.start("")
            self.answer(request)
            try:
                while self.client.get_iopub_msg(timeout=0.5)["parent_header"].get("msg_id") != request:
                    pass
            except queue.Empty:
                continue
            self.run("")
            return


@pytest.fixture(scope="module")
def start() -> Callable[..., Kernel]:
    """What starts a kernel."""
    return Kernel


@pytest.fixture(scope="module")
def kernel(start: Callable[..., Kernel]) -> Iterator[Kernel]:
    kernel = start()
    yield kernel
    assert kernel.process.poll() is None, "the kernel died"
    kernel.close()


# What any kernel does


def test_results_streams_and_errors(kernel: Kernel) -> None:
    run = kernel.run("import sys; print('out'); print('err', file=sys.stderr); 40 + 2")
    assert (run.text(), run.text("stderr"), run.result) == ("out\n", "err\n", "42")
    assert run.reply["status"] == "ok"

    run = kernel.run("1/0")
    assert run.of("error")[0]["content"]["ename"] == run.reply["ename"] == "ZeroDivisionError"
    assert "\x1b[" not in "".join(run.reply["traceback"])
    assert "launcher" not in "".join(run.reply["traceback"])


def test_history_is_in_memory(kernel: Kernel) -> None:
    n = kernel.run("'remembered'").reply["execution_count"]
    assert kernel.run(f"In[{n}], Out[{n}]").result == "(\"'remembered'\", 'remembered')"
    assert kernel.run(f"%history {n}").text() == "'remembered'\n"
    assert kernel.run("import sys; 'sqlite3' in sys.modules").result == "False"


def test_history_requests(start: Callable[..., Kernel]) -> None:
    kernel = start()

    def history(kind: str, **which: Any) -> list[Any]:
        request = {"hist_access_type": kind, "raw": True, "output": False, **which}
        reply = kernel.answer(kernel.send("history_request", request))
        return [code for _, _, code in reply["history"]]

    try:
        assert history("tail", n=2) == []
        for code in ("a = 1", "b = 2", "a = 1"):
            kernel.run(code)
        assert history("tail", n=2) == ["b = 2", "a = 1"]
        assert history("tail", n=100) == history("search", n=100) == ["a = 1", "b = 2", "a = 1"]
        assert history("search", pattern="a*", n=100) == ["a = 1", "a = 1"]
        assert history("search", pattern="*", unique=True, n=100) == ["b = 2", "a = 1"]
        assert history("range", session=0, start=1, stop=3) == ["a = 1", "b = 2"]
    finally:
        kernel.close()


def test_input(kernel: Kernel) -> None:
    request = kernel.start("input('name? ')", allow_stdin=True)
    assert kernel.client.get_stdin_msg(timeout=PATIENCE)["content"]["prompt"] == "name? "
    kernel.client.input("Ada")
    assert kernel.finish(request).result == "'Ada'"
    assert kernel.run("input()").reply["ename"] == "StdinNotImplementedError"


def test_user_code_sees_an_ordinary_kernel(kernel: Kernel) -> None:
    run = kernel.run("import sys; [__name__, '__file__' in globals(), sys.argv[0], *sys.path]")
    name, has_file, argv0, *path = eval(run.result)
    assert (name, has_file) == ("__main__", False)
    assert argv0.endswith("ipykernel_launcher.py")
    assert str(LAUNCHER.parent) not in path
    assert "" in path
    names = eval(kernel.run("[n for n in vars(sys.modules['__main__']) if n[0] != '_']").result)
    assert {"App", "Kernel", "Stream", "zmq", "main"}.isdisjoint(names)
    assert (
        kernel.run("import os; [n for n in os.environ if n.startswith(('JPY', 'K2', 'PYDEVD'))]").result
        == "[]"
    )


def test_pickle_and_multiprocessing(kernel: Kernel) -> None:
    run = kernel.run("""
        import multiprocessing, os, pickle
        class Point:
            x = 3
        def double(n):
            print("in the child")
            return 2 * n
        with multiprocessing.get_context("fork").Pool(1) as pool:
            forked = pool.map(double, [21])
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            spawned = pool.map(abs, [-1])
        pickle.loads(pickle.dumps(Point())).x, forked, spawned
        """)
    assert run.result == "(3, [42], [1])"
    assert run.text() == "in the child\n"


def test_exception_group(kernel: Kernel) -> None:
    run = kernel.run("raise ExceptionGroup('g', [ValueError(1), TypeError(2)])")
    assert run.reply["status"] == "error"
    if sys.version_info >= (3, 11):
        assert run.reply["ename"] == "ExceptionGroup"
        assert "TypeError: 2" in run.text("stderr")
    else:
        assert run.reply["ename"] == "NameError"


def test_comm_with_buffers(kernel: Kernel) -> None:
    kernel.run("""
        def opened(comm, message):
            buffers = [bytes(b)[::-1] for b in message["buffers"]]
            comm.send({"echo": message["content"]["data"]}, buffers=buffers)
        get_ipython().kernel.comm_manager.register_target("echo", opened)
        """)
    content = {"comm_id": "c1", "target_name": "echo", "data": {"n": 1}}
    request = kernel.send("comm_open", content, buffers=[b"\x00\x01\xff", b""])
    message = kernel.await_state(request, "comm_msg")
    assert message["content"]["data"] == {"echo": {"n": 1}}
    assert [bytes(b) for b in message["buffers"]] == [b"\xff\x01\x00", b""]


def test_subshell_runs_beside_a_cell(kernel: Kernel) -> None:
    if "kernel subshells" not in kernel.features:
        assert kernel.run("import ipykernel; ipykernel.version_info[0]").result == "6"
        return
    request = kernel.send("create_subshell_request", {}, channel="control")
    subshell = kernel.answer(request, "control")["subshell_id"]
    kernel.run("import threading; meet = threading.Event()")
    request = kernel.start("meet.wait(60)")
    beside = kernel.start("meet.set()", subshell_id=subshell)
    assert kernel.finish(request).result == "True"
    assert kernel.answer(beside)["status"] == "ok"
    request = kernel.send("delete_subshell_request", {"subshell_id": subshell}, channel="control")
    assert kernel.answer(request, "control")["status"] == "ok"


# Run options

STATE = "(os.getcwd(), os.environ.get('A'), os.environ.get('B'))"


def state(kernel: Kernel) -> tuple[str, str | None, str | None]:
    cwd, a, b = eval(kernel.run(f"import os; {STATE}").result)
    return cwd, a, b


@pytest.fixture
def home(kernel: Kernel) -> str:
    """The kernel in its own directory, with A unset and B set."""
    kernel.run(f"import os; os.chdir({str(kernel.dir)!r}); os.environ.pop('A', None); os.environ['B'] = 'b'")
    return str(kernel.dir)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (f"print({STATE})", "ok"),
        (f"print({STATE}); 1/0", "error"),
        (f"print({STATE}); this is no Python", "error"),
        (f"print({STATE}); os.chdir('/'); os.environ['A'] = 'x'; del os.environ['B']", "ok"),
        (f"import asyncio; await asyncio.sleep(0.01); print({STATE})", "ok"),
        (f"import asyncio; print({STATE}); await asyncio.sleep(0.01); 1/0", "error"),
    ],
)
def test_options_hold_for_one_cell(kernel: Kernel, home: str, code: str, status: str) -> None:
    run = kernel.run(code, {"cwd": "/usr", "envs": {"A": "1", "B": "2 = ü\n"}})
    assert run.reply["status"] == status
    if "no Python" not in code:
        assert run.text() == "('/usr', '1', '2 = ü\\n')\n"
    assert state(kernel) == (home, None, "b")
    assert kernel.run('os.system(\'test -z "$A" -a "$B" = b\')').result == "0"


def test_what_options_do_not_name_is_the_cells(kernel: Kernel, home: str) -> None:
    kernel.run("os.chdir('/usr'); os.environ['B'] = 'cell'; os.environ['A'] = 'cell'", {"envs": {"A": "1"}})
    assert state(kernel) == ("/usr", None, "cell")
    kernel.run("os.environ['A'] = 'cell'", {"cwd": "/"})
    assert state(kernel) == ("/usr", "cell", "cell")


def test_options_reach_the_expressions_of_the_user(kernel: Kernel, home: str) -> None:
    content = {
        "code": "",
        "silent": True,
        "store_history": False,
        "user_expressions": {"a": "os.environ['A']"},
    }
    request = kernel.send("execute_request", content, metadata={"k2": {"envs": {"A": "1"}}})
    assert kernel.answer(request)["user_expressions"]["a"]["data"]["text/plain"] == "'1'"


def test_options_are_undone_after_an_interrupt(kernel: Kernel, home: str) -> None:
    request = kernel.start("while True: print(end='.', flush=True)", {"cwd": "/usr", "envs": {"A": "1"}})
    kernel.await_state(request, "stream")
    kernel.interrupt()
    assert kernel.finish(request).reply["ename"] == "KeyboardInterrupt"
    assert state(kernel) == (home, None, "b")


def test_the_way_back_does_not_need_the_name(kernel: Kernel, home: str) -> None:
    kernel.run("os.mkdir('there'); os.chdir('there'); open('file', 'w').close()")
    kernel.run(f"os.rename({home + '/there'!r}, {home + '/elsewhere'!r})", {"cwd": "/usr"})
    assert kernel.run("os.listdir()").result == "['file']"


@pytest.mark.parametrize(
    ("k2", "ename", "says"),
    [
        ({"cwd": "/no/such/directory"}, "FileNotFoundError", "/no/such/directory"),
        ({"cwd": "/etc/passwd"}, "NotADirectoryError", "/etc/passwd"),
        ({"cwd": 3}, "TypeError", "k2.cwd must be a string, not int"),
        ({"cwd": "a\0b"}, "ValueError", "null"),
        ({"envs": {"A": "1", "C": 1}}, "TypeError", "k2.envs['C'] must be a string, not int"),
        ({"envs": {"A": "1", "C=D": "1"}}, "ValueError", "k2.envs['C=D']"),
        ({"cwd": "/usr", "envs": {"A": "a\0b"}}, "ValueError", "k2.envs['A']"),
        ({"cwd": "/usr", "envs": ["A"]}, "TypeError", "k2.envs must be an object, not list"),
        ("cwd", "TypeError", "k2 must be an object, not str"),
    ],
)
def test_options_that_cannot_be_applied(kernel: Kernel, home: str, k2: Any, ename: str, says: str) -> None:
    run = kernel.run("print('it ran')", k2)
    error = run.of("error")[0]["content"]
    assert run.reply["status"] == "error"
    assert error["ename"] == run.reply["ename"] == ename
    assert says in error["evalue"]
    assert error["traceback"] == [f"{ename}: {error['evalue']}"]
    assert run.text() == ""
    assert state(kernel) == (home, None, "b")


def test_the_feature_is_announced(kernel: Kernel) -> None:
    assert "k2:run_options" in kernel.features
    assert kernel.run("1", {}).result == "1"
    assert kernel.run("2", {"cwd": "", "envs": {}}).result == "2"


# Output


def test_big_output_comes_in_bounded_messages(kernel: Kernel) -> None:
    run = kernel.run("print('aé𝄞' * 3_000_000); print('z' * 5_000_000)")
    pieces = [m["content"]["text"] for m in run.of("stream")]
    assert max(len(piece.encode()) for piece in pieces) <= 1 << 20
    assert "".join(pieces) == "aé𝄞" * 3_000_000 + "\n" + "z" * 5_000_000 + "\n"


def test_a_paused_reader_loses_nothing(kernel: Kernel) -> None:
    progress = kernel.dir / "progress"
    progress.write_text("")
    request = kernel.start("""
        from IPython.display import publish_display_data
        with open("progress", "ab", buffering=0) as progress:
            for i in range(4000):
                publish_display_data({"text/plain": str(i), "text/html": "x" * 2000})
                progress.write(b".")
        print("end")
        """)
    size = -1
    while size != (size := progress.stat().st_size) or size == 0:
        time.sleep(1)  # until it is at a standstill, held back or at its end
    run = kernel.finish(request)
    assert [m["content"]["data"]["text/plain"] for m in run.of("display_data")] == [
        str(i) for i in range(4000)
    ]
    assert run.text() == "end\n"


def test_half_a_pair_of_surrogates_holds_nothing_up(kernel: Kernel) -> None:
    assert kernel.run(r"print('\ud83d'); print('\ud83d\ude00')").text() == "\ufffd\n\U0001f600\n"
    assert kernel.run("print(1)").text() == "1\n"


def test_output_of_file_descriptors_belongs_to_its_cell(kernel: Kernel) -> None:
    kernel.run("import os, subprocess")
    for i in range(20):
        run = kernel.run(f"os.system('echo é{i}; echo e{i} >&2'); None")
        assert (run.text(), run.text("stderr")) == (f"é{i}\n", f"e{i}\n")
    run = kernel.run(
        "subprocess.run(['python3', '-c', 'print(\"€\" * 200_000)'], check=True); os.write(2, b'\\xff'); None"
    )
    assert (run.text(), run.text("stderr")) == ("€" * 200_000 + "\n", "\ufffd")


def test_a_flood_on_a_file_descriptor_does_not_hold_the_reply(kernel: Kernel) -> None:
    run = kernel.run("flood = subprocess.Popen(['yes'])")
    assert run.reply["status"] == "ok"
    assert kernel.run("flood.kill(); flood.wait()").reply["status"] == "ok"


def test_threads(kernel: Kernel) -> None:
    run = kernel.run("""
        import threading
        threads = [threading.Thread(target=lambda n=n: print(f"thread {n}\\n", end="")) for n in range(5)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        """)
    assert sorted(run.text().splitlines()) == [f"thread {n}" for n in range(5)]
    kernel.run("""
        go = threading.Event()
        late = threading.Thread(target=lambda: (go.wait(), print("late")))
        late.start()
        """)
    kernel.strays.clear()
    run = kernel.run("go.set(); late.join()")
    run.published += kernel.strays  # before ipykernel 7.1 it belongs to the cell that started the thread
    assert run.text() == "late\n"


# Fork and interrupts


@pytest.mark.parametrize(
    ("code", "status"),
    [("print('both')", 0), ("1/0 if pid == 0 else print('both')", 1), ("await asyncio.sleep(0)", 0)],
)
def test_a_forked_child_ends_with_its_cell(kernel: Kernel, code: str, status: int) -> None:
    run = kernel.run(f"import asyncio, os; pid = os.fork(); {code}")
    assert run.reply["status"] == "ok"
    assert kernel.run("os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])").result == str(status)
    assert kernel.run("'one kernel'").result == "'one kernel'"
    with pytest.raises(queue.Empty):
        kernel.client.get_shell_msg(timeout=0)


def test_interrupt_of_the_process_group(kernel: Kernel) -> None:
    request = kernel.start("print('started', flush=True); subprocess.run(['sleep', '60'])")
    kernel.await_state(request, "stream")
    kernel.interrupt()
    assert kernel.finish(request).reply["ename"] == "KeyboardInterrupt"


def test_interrupt_of_an_await_takes_one_signal(kernel: Kernel) -> None:
    request = kernel.start("import asyncio; print('started', flush=True); await asyncio.sleep(1000)")
    kernel.await_state(request, "stream")
    kernel.interrupt()
    assert kernel.finish(request).reply["ename"] in ("CancelledError", "KeyboardInterrupt")


def test_interrupt_as_soon_as_the_kernel_is_busy(kernel: Kernel) -> None:
    for _ in range(20):
        request = kernel.start("while True: pass")
        kernel.await_state(request, "status")
        assert kernel.interrupt_until_idle(request)["ename"] == "KeyboardInterrupt"


def test_interrupts_at_any_moment_lose_no_reply(kernel: Kernel) -> None:
    for i in range(80):
        request = kernel.start("sum(range(5000))")
        kernel.await_state(request, "status")
        time.sleep(i / 40_000)
        kernel.interrupt()
        assert kernel.answer(request)["status"] in ("ok", "error")
    assert kernel.run("1").result == "1"


def test_no_interrupt_makes_the_iopub_thread_look_ended(kernel: Kernel) -> None:
    kernel.run("import sys; iopub = sys.stdout.pub_thread.thread")
    for i in range(40):
        request = kernel.start("while True: iopub.is_alive()")
        kernel.await_state(request, "status")
        time.sleep(i / 60_000)
        assert kernel.interrupt_until_idle(request)["ename"] == "KeyboardInterrupt"
    assert kernel.run("iopub.is_alive()").result == "True"


INTERRUPTED_PRINTS = """
import signal, sys, threading

def say(who, i):
    sys.stdout.write(f"<{who} {i}>")
    sys.stdout.flush()

def stop(*_):
    raise InterruptedError

def say_all(who, n):  # what was said, and what was interrupted
    done, rest = [], []
    for i in range(n):
        try:
            signal.setitimer(signal.ITIMER_REAL, (i % 97 + 1) * 3e-6)
            say(who, i)
            done.append(i)
        except InterruptedError:
            rest.append(i)
        finally:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0)
            except InterruptedError:
                pass
    return done, rest

before = signal.signal(signal.SIGALRM, stop)
beside = threading.Thread(target=lambda: [say("beside", i) for i in range(500)])
beside.start()
done, rest = say_all("main", 1000)  # as many as IPython tells of a list
signal.signal(signal.SIGALRM, before)
beside.join()
done, len(rest)
"""


def test_no_interrupt_of_a_print_loses_output_or_sends_it_twice(start: Callable[..., Kernel]) -> None:
    kernel = start()
    try:
        run = kernel.run(INTERRUPTED_PRINTS)
        done, interrupted = eval(run.result)
        assert interrupted > 10
        said = re.findall(r"<(\w+) (\d+)>", run.text())
        assert run.text() == "".join(f"<{who} {n}>" for who, n in said)
        main = [int(n) for who, n in said if who == "main"]
        assert main == sorted(set(main))
        assert set(done) <= set(main)
        assert [int(n) for who, n in said if who == "beside"] == list(range(500))
        assert kernel.run("print(1)").text() == "1\n"
    finally:
        kernel.close()


WITHOUT_ZMQ_SEND = """
import ctypes
class Library(ctypes.PyDLL):
    def __getitem__(self, name):
        if name == "zmq_send":
            raise AttributeError(name)
        return super().__getitem__(name)
ctypes.PyDLL = Library
"""


def test_where_libzmq_cannot_be_called_by_itself(tmp_path: pathlib.Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_ZMQ_SEND)
    kernel = Kernel(env={"PYTHONPATH": str(tmp_path)})
    try:
        assert kernel.run("import ctypes; ctypes.PyDLL.__name__").result == "'Library'"
        run = kernel.run("""
            from IPython.display import publish_display_data
            for i in range(300):
                print(i, flush=i % 7 == 0)
                publish_display_data({"text/plain": str(i)})
            "the last"
            """)
        said = [
            (m["content"].get("text") or m["content"]["data"]["text/plain"]).strip()
            for m in run.published
            if m["msg_type"] in ("stream", "display_data")
        ]
        assert said == [str(i) for i in range(300) for _ in "ab"]
        assert run.result == "'the last'"
        request = kernel.start("while True: pass")
        kernel.await_state(request, "status")
        assert kernel.interrupt_until_idle(request)["ename"] == "KeyboardInterrupt"
    finally:
        kernel.close()


def test_what_was_not_sent_before_a_fork_is_the_parents(kernel: Kernel) -> None:
    kernel.strays.clear()
    run = kernel.run("""
        import os
        print("once ", end="")
        pid = os.fork()
        if pid == 0:
            print("child ", end="", flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
        """)
    for _ in range(100):  # the child's comes by a pipe, and can be late
        if len(run.text().split()) < 2:
            kernel.run("pass")
            run.published += kernel.strays
            kernel.strays.clear()
    assert sorted(run.text().split()) == ["child", "once"]


def test_no_interrupt_is_lost_to_a_system_call(kernel: Kernel) -> None:
    kernel.run("import time")
    # One in fifty comes just before the call. Those that come earlier IPython can take, in its own callbacks.
    for i in range(100):
        request = kernel.start("print(1, flush=True); time.sleep(1000)")
        kernel.await_state(request, "stream")
        time.sleep(i / 60_000)
        kernel.interrupt()
        assert kernel.finish(request).reply["status"] == "error"


def test_signals_of_a_timer_hold_no_reply_back(kernel: Kernel) -> None:
    kernel.run("""
        import signal
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
        """)
    for i in range(100):
        assert kernel.run(str(i)).result == str(i)
    kernel.run("signal.setitimer(signal.ITIMER_REAL, 0)")


def test_an_interrupt_while_idle_is_nothing(kernel: Kernel) -> None:
    kernel.interrupt()
    assert kernel.run("1").result == "1"


def test_a_debugger_is_loaded_when_it_is_asked_for(start: Callable[..., Kernel]) -> None:
    kernel = start()
    sequence = iter(range(1, 100))

    def debug(command: str, **arguments: Any) -> Message:
        content = {"type": "request", "seq": next(sequence), "command": command, "arguments": arguments}
        reply = kernel.answer(kernel.send("debug_request", content, channel="control"), "control")
        assert reply["success"], reply
        return dict(reply.get("body") or {})

    try:
        assert kernel.run("import sys; 'debugpy' in sys.modules").result == "False"
        assert debug("debugInfo")["isStarted"] is False
        debug("initialize", clientID="test", adapterID="", pathFormat="path", linesStartAt1=True)
        debug("attach")
        code = "a = 6\na *= 7\nprint(a)"
        path = debug("dumpCell", code=code)["sourcePath"]
        debug("setBreakpoints", source={"path": path}, breakpoints=[{"line": 2}], sourceModified=False)
        debug("configurationDone")
        request = kernel.start(code)
        while (stopped := kernel.client.get_iopub_msg(timeout=PATIENCE))["content"].get("event") != "stopped":
            pass
        thread = stopped["content"]["body"]["threadId"]
        assert debug("stackTrace", threadId=thread)["stackFrames"][0]["line"] == 2
        debug("continue", threadId=thread)
        assert kernel.finish(request).text() == "42\n"
        assert debug("debugInfo")["isStarted"] is True
    finally:
        kernel.close()


def test_shutdown(start: Callable[..., Kernel]) -> None:
    kernel = start()
    try:
        request = kernel.send("shutdown_request", {"restart": False}, channel="control")
        assert kernel.answer(request, "control")["status"] == "ok"
        assert kernel.process.wait(PATIENCE) == 0
    finally:
        kernel.close()
