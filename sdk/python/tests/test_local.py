"""The server of one's own: `Sandbox()` where no URL is set. The servers are real, and so are the processes that use them."""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import BINARY

from k2sandbox import Sandbox, StartError, _folders, _local, _program

SOURCES = str(Path(_local.__file__).parent.parent)


class House:
    """Folders of a test's own, in which this user has no server yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("K2_")},
            "XDG_RUNTIME_DIR": str(folder / "run"),
            "XDG_STATE_HOME": str(folder / "state"),
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": SOURCES,
        }
        for name in ("run", "state", "bin"):
            (folder / name).mkdir(mode=0o700)
        (folder / "bin" / "k2sandbox").symlink_to(BINARY)

    def client(self, code: str, idle: int = 60, own_session: bool = False) -> subprocess.Popen[str]:
        """Start a process that uses the package."""
        code = f"from k2sandbox import Sandbox, _local; _local.IDLE, _local.PATIENCE = {idle}, 600\n{code}"
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", code],
            env=self.environ,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=own_session,
        )

    def servers(self) -> list[int]:
        """The servers that run here, without a child of one that is on its way to be another program."""
        found = {}
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = file.read_bytes().split(b"\0")
                parent = int((file.parent / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
            if b"serve" in words and any(word.startswith(f"unix:{self.folder}/".encode()) for word in words):
                found[int(file.parent.name)] = parent
        return [pid for pid, parent in found.items() if parent not in found]

    def log(self) -> str:
        return "".join(file.read_text() for file in (self.folder / "state" / "k2sandbox").glob("*.log"))


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    folder = Path(tempfile.mkdtemp(prefix="k2"))
    house = House(folder)
    for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME", "PATH"):
        monkeypatch.setenv(name, house.environ[name])
    monkeypatch.delenv("K2_API_URL", raising=False)
    monkeypatch.setattr(_local, "IDLE", 60)
    yield house
    for pid in house.servers():
        watch = os.pidfd_open(pid)
        os.kill(pid, signal.SIGCONT)
        os.kill(pid, signal.SIGTERM)
        ended(watch)
    shutil.rmtree(folder)


def ended(watch: int) -> None:
    """Wait until a process has ended, whose descriptor this is."""
    select.select([watch], [], [])
    os.close(watch)


def finished(client: subprocess.Popen[str]) -> str:
    """Return what a client printed, which had nothing to complain of."""
    out, err = client.communicate()
    assert (client.returncode, err) == (0, "")
    return out


def test_ten_processes_start_one_server(house: House) -> None:
    clients = [house.client("print(_local.address(), flush=True)") for _ in range(10)]
    assert len({finished(client) for client in clients}) == 1
    assert house.log().count("registry opened") == 1


def test_sessions_with_another_runtime_folder_have_another_server(house: House) -> None:
    """As a login has $XDG_RUNTIME_DIR, and cron has not; both have one home."""
    (house.folder / "run2").mkdir(mode=0o700)
    code = "with Sandbox() as sandbox: print(_local.address(), sandbox.run_code('6*7').text)"
    first = finished(house.client(code))
    house.environ["XDG_RUNTIME_DIR"] += "2"
    second = finished(house.client(code))
    assert (first.split()[1], second.split()[1]) == ("42", "42")
    assert first != second
    assert len(house.servers()) == 2


def test_it_outlives_its_starter_and_ends_itself(house: House) -> None:
    code = "with Sandbox() as sandbox: print(sandbox.run_code('6*7').text)"
    assert finished(house.client(code, idle=2)) == "42\n"
    (pid,) = house.servers()
    ended(os.pidfd_open(pid))
    assert "nobody has used this server" in house.log()
    assert not list((house.folder / "run" / "k2sandbox").glob("*.sock"))
    assert finished(house.client(code)) == "42\n"  # by another


def test_interrupt_is_the_clients_alone(house: House) -> None:
    cell = "print('ready', flush=True)\nwhile True: pass"
    code = f"Sandbox().run_code({cell!r}, on_stdout=lambda data: print(data['line'], flush=True))"
    client = house.client(code, own_session=True)
    assert client.stdout is not None
    assert client.stdout.readline() == "ready\n"
    os.killpg(client.pid, signal.SIGINT)  # as a terminal does
    _, err = client.communicate()
    assert "KeyboardInterrupt" in err
    with Sandbox.connect(Sandbox.list()[0].sandbox_id) as sandbox:
        assert sandbox.run_code("6 * 7").text == "42"


def test_a_killed_server_is_started_anew(house: House) -> None:
    sandbox = Sandbox()
    sandbox.run_code("x = 6")
    (pid,) = house.servers()
    watch = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    ended(watch)
    assert sandbox.run_code("x * 7").text == "42"  # which has gone on
    sandbox.kill()
    assert house.servers() not in ([], [pid])


def test_a_server_that_ends_is_waited_for(house: House) -> None:
    Sandbox()
    (pid,) = house.servers()
    os.kill(pid, signal.SIGTERM)
    assert Sandbox().run_code("6 * 7").text == "42"


def test_threads(house: House) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(_local.address())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(house.servers()) == 1


def test_whoever_waits_is_told(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    place = _local._place(_program.find())
    told = threading.Event()
    monkeypatch.setattr(_local, "PATIENCE", 0)
    monkeypatch.setattr(_local, "_tell", lambda text: told.set() if "another process" in text else None)
    with open(place.lock, "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiter = threading.Thread(target=_local.address)
        waiter.start()
        told.wait()
        assert house.servers() == []
    waiter.join()
    assert len(house.servers()) == 1


def test_a_server_that_hangs(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    _local.address()
    (pid,) = house.servers()
    os.kill(pid, signal.SIGSTOP)
    while not all(b") T" in file.read_bytes() for file in Path(f"/proc/{pid}/task").glob("*/stat")):
        pass
    monkeypatch.setattr(_local, "READY", 0.5)
    with pytest.raises(StartError, match="does not answer") as caught:
        Sandbox()
    assert str(pid) in caught.value.hint


def test_each_version_has_a_server(house: House) -> None:
    first = _local._place(_program.find())
    other = house.folder / "other"
    shutil.copyfile(BINARY, other)
    assert _local._place(str(other)) == first
    with other.open("ab") as file:
        file.write(b"changed")
    assert _local._place(str(other)).socket != first.socket


def test_no_program(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(house.folder))
    with pytest.raises(StartError, match="no program k2sandbox") as caught:
        Sandbox()
    assert "make -C k2sandbox build" in caught.value.hint
    assert "K2_API_URL" in caught.value.hint
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(StartError, match="darwin"):
        Sandbox()


def test_a_program_of_an_environment_comes_first(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = house.folder / "k2sandbox"
    shutil.copy(BINARY, mine)
    monkeypatch.setattr(_program, "_folders", lambda: iter([house.folder]))
    assert _program.find() == str(mine)
    monkeypatch.undo()
    assert len(list(_program._folders())) >= 3


def test_a_program_that_is_no_server(house: House) -> None:
    link = house.folder / "bin" / "k2sandbox"
    link.unlink()
    link.write_text("no program at all")
    link.chmod(0o755)
    with pytest.raises(StartError, match="cannot run"):
        Sandbox()


def test_a_program_that_is_too_old(house: House) -> None:
    link = house.folder / "bin" / "k2sandbox"
    link.unlink()
    link.write_text(f'#!/bin/sh\n[ "$1" = python ] || set -- serve --not-known\nexec {BINARY} "$@"\n')
    link.chmod(0o755)
    with pytest.raises(StartError, match="unknown flag") as caught:
        Sandbox()
    assert "update both" in caught.value.hint


def test_a_server_that_does_not_start(house: House) -> None:
    place = _local._place(_program.find())
    Path(place.state).parent.mkdir(exist_ok=True)
    Path(place.state).write_text("in the way")
    with pytest.raises(StartError, match="not a directory") as caught:
        Sandbox()
    assert place.log in caught.value.hint


def test_no_place_for_the_python(house: House, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    (house.folder / "file").write_text("in the way")
    monkeypatch.setenv("XDG_DATA_HOME", str(house.folder / "file"))
    with pytest.raises(StartError, match=r"set up the Python.*not a directory"):
        Sandbox()
    assert "in the way" not in capfd.readouterr().err


def test_no_package_index(house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(house.folder))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/nothing")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(StartError, match="pip cannot install") as caught:
        Sandbox()
    assert "package index" in caught.value.hint
    assert "k2sandbox: Installing uv\n" in capsys.readouterr().err


def test_folders_that_others_enter_are_not_used(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(house.folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    own = house.folder / "run" / "k2sandbox"
    own.mkdir(mode=0o755)
    assert _folders.runtime(17) == house.folder / f"k2sandbox-{os.geteuid()}"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(house.folder / "not" / "there"))
    assert _folders.runtime(17) == house.folder / f"k2sandbox-{os.geteuid()}"
    with pytest.raises(StartError, match=r"not this user's alone|too long"):
        _folders.runtime(1000)


def test_a_user_without_a_home(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/no-place")
    assert _local._place(_program.find()).state.startswith(str(house.folder / "run"))
