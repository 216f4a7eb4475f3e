"""The server of one's own: started where none runs, on a unix socket that nobody else reaches.

The processes of a user share it. It outlives the process that started it, and ends itself
when nobody has used it for `IDLE` seconds. Another version of the program has another server.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from . import _folders, _program
from .errors import StartError

IDLE = 300  # seconds without sandboxes and requests
READY = 120  # seconds that a server may take to start, or to answer
PATIENCE = 3  # seconds until who waits for another process is told so


def address() -> str:
    """Return `unix:PATH` of the server, which answers when this returns.

    Takes a millisecond where it runs, and a part of a second where it has to be started. The first time on a
    machine the Python that code runs in is set up, which takes a minute or so and is told on stderr. May be called
    by any number of threads and processes at once.

    Raises:
        StartError: it cannot be started; the message is what it said, the hint what can be done.
    """
    program = _program.find()
    place = _place(program)
    if not _answers(place.socket):
        with _locked(place.lock):
            if not _answers(place.socket):
                _set_up(program, place)
                _start(program, place)
    return f"unix:{place.socket}"


@dataclass(frozen=True)
class _Place:
    socket: str
    lock: str
    state: str
    log: str
    data: tuple[str, ...]  # flags that say where the Python is


def _place(program: str) -> _Place:
    """Where the server of a program is. Copies of one build, as in several environments, have one server."""
    with open(program, "rb") as file:  # which has the id of its build near its beginning
        begin, size = file.read(1 << 13), file.seek(0, os.SEEK_END)
    name = hashlib.sha256(begin + str(size).encode()).hexdigest()[:12]
    folder = _folders.runtime(len(f"{name}.sock"))
    state, data = _folders.state() or folder, _folders.data()
    here = hashlib.sha256(f"{name} {folder}".encode(errors="surrogateescape")).hexdigest()[:12]  # a state is one server's
    return _Place(
        str(folder / f"{name}.sock"),
        str(folder / f"{name}.lock"),
        str(state / f"local-{here}"),
        str(state / f"local-{here}.log"),
        ("--data-dir", str(data)) if data else (),
    )


def _answers(path: str) -> bool:
    """Whether a server is there, for at least as long as it may be idle. One that is just ending is waited for."""
    deadline = time.monotonic() + READY
    while time.monotonic() < deadline:
        try:
            status = _ask(path, deadline)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except socket.timeout:
            break
        except OSError:  # it has ended meanwhile
            status = b""
        if status == b"200":
            return True
        time.sleep(0.02)
    raise StartError(f"the server at unix:{path} does not answer", hint=_owner(path))


def _ask(path: str, deadline: float) -> bytes:
    """Return the status of an answer; b"" where the connection is closed without one."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(max(deadline - time.monotonic(), 0.01))
        connection.connect(path)
        connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return connection.recv(64).partition(b" ")[2][:3]


def _owner(path: str) -> str:
    """Say how the server is ended."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        connection.connect(path)
        pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return f"end it: kill -9 {pid}"
    return "try again"


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    """Hold a lock that one process at a time has, and one thread of it."""
    import fcntl  # which other platforms do not have

    with open(path, "ab") as file:
        told, begin = False, time.monotonic()
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told and time.monotonic() - begin >= PATIENCE:
                    told = True
                    _tell("waiting for another process, which starts the server")
                time.sleep(0.02)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # also for children that were forked meanwhile


def _set_up(program: str, place: _Place) -> None:
    """Make the Python that code runs in, where there is none yet. Ctrl-C ends it."""
    screen = sys.stderr if sys.stderr is not None and sys.stderr.isatty() else None
    try:
        to = screen.fileno() if screen else subprocess.PIPE
    except OSError:
        to = subprocess.PIPE
    with _run([program, "python", *place.data], stdout=subprocess.DEVNULL, stderr=to) as process:
        try:
            said = _relay(process.stderr) if process.stderr else ""
            status = process.wait()
        except BaseException:
            process.terminate()
            raise
    if status != 0:
        raise _failed("cannot set up the Python that code runs in", said, "")


def _relay(lines: IO[bytes]) -> str:
    """Tell the user each line, and return them."""
    said = []
    for raw in lines:
        line = raw.decode(errors="replace")
        said.append(line)
        if not line.startswith("k2sandbox: cannot"):
            _tell(line.rstrip().replace("k2sandbox: ", "", 1))
    return "".join(said)


def _start(program: str, place: _Place) -> None:
    command = [program, "serve", "--listen", f"unix:{place.socket}", "--state-dir", place.state]
    command += ["--log-file", place.log, "--exit-idle-time", str(IDLE), *place.data]
    # A shell in between, so that the server is no child of this process, which would have to wait for it;
    # a session of its own, so that Ctrl-C and the end of a terminal do not reach it.
    detached = ["/bin/sh", "-c", '"$@" &', "sh", *command]
    with _run(detached, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        ready, _, _ = select.select([process.stdout], [], [], READY)
        listens = bool(ready) and process.stdout.readline()
        said = process.stderr.read() if ready else b""  # until it logs to its file, or has ended
    if listens:
        return
    if not _answers(place.socket):  # it may be that of a process that was killed when it had just started it
        raise _failed("cannot start the server", said.decode(errors="replace"), place.log)


def _run(command: list[str], *, stdout: int, stderr: int, start_new_session: bool = False) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            cwd="/",
            env=_folders.environ(),
            start_new_session=start_new_session,
        )
    except OSError as error:
        raise StartError(f"cannot run {command[0]}: {error}") from error


_HINTS = (
    ("unknown flag", "the program is of another version than this package: update both"),
    ("cannot confine code", "`k2sandbox doctor` tells what this machine lacks; a server that confines less, or nothing, is "
     "one that you start (k2sandbox serve --help: --isolation) and name in K2_API_URL"),
    ("no space left", "make room on the disk"),
    ("pip cannot", "the first use needs a package index: a network, or HTTPS_PROXY or PIP_INDEX_URL that lead to one"),
    ("python 3.", "install such a Python, or put the one that you have on PATH"),
)  # fmt: skip


def _failed(what: str, said: str, log: str) -> StartError:
    """The error of a program that has said why, after what it logged."""
    why = said[max(said.rfind("k2sandbox: "), 0) :].replace("k2sandbox: ", "", 1).strip()
    hint = next((hint for sign, hint in _HINTS if sign in why.lower()), f"see {log}" if log else "")
    return StartError(f"{what}: {why}" if why else what, hint=hint)


def _tell(text: str) -> None:
    if sys.stderr is not None:
        print(f"k2sandbox: {text}", file=sys.stderr, flush=True)
