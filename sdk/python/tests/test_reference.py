"""The API reference, block by block: its calls, in its order, against a real server.

Where a block needs something to be there (files, a sandbox's id) the test makes that first; "your-sandbox-id" and the
pid 12345 stand for real ones.
"""

from __future__ import annotations

import base64
import inspect
import os
from pathlib import Path
from typing import Any

import pytest
from conftest import Server

from k2sandbox import AsyncSandbox, Sandbox, SandboxExpired
from k2sandbox._async.filesystem import AsyncFilesystem, AsyncWatchHandle
from k2sandbox._async.notebook import AsyncNotebook
from k2sandbox._async.process import AsyncProcess, AsyncProcessHandle
from k2sandbox._async.terminal import AsyncPty, AsyncTerminal
from k2sandbox._sync.filesystem import Filesystem, WatchHandle
from k2sandbox._sync.notebook import Notebook
from k2sandbox._sync.process import Process, ProcessHandle
from k2sandbox._sync.terminal import Pty, Terminal

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of the test's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_creating_sandboxes(server: Server) -> None:
    # Create a new sandbox
    sandbox = Sandbox(
        template="k2sandbox/python:latest",  # Docker image template to use
        api_key=None,  # K2 Sandbox API key (defaults to K2_API_KEY env var)
        cwd="/home/user",  # Initial working directory
        envs={},  # Environment variables
        timeout=300,  # Inactivity timeout in seconds
        metadata={},  # Custom metadata for the sandbox
        request_timeout=None,  # API request timeout in seconds
    )
    first = sandbox
    assert first.is_running()
    assert (first.info.timeout, first.info.metadata) == (300, {})
    assert first.run_code("import os; os.getcwd()").text == "'/home/user'"

    # Create a sandbox using the class method
    sandbox = Sandbox.create(
        template="k2sandbox/python:latest",
        # ... other options same as above
    )
    second = sandbox
    assert second.sandbox_id != first.sandbox_id
    second.run_code("x = 41")

    # Connect to an existing sandbox by ID
    sandbox = Sandbox.connect(
        sandbox_id=second.sandbox_id,
        api_key=None,
        # ... other options same as above
        template="k2sandbox/python:latest",
        cwd="/home/user",
        envs={},
        timeout=300,
        metadata={},
        request_timeout=None,
    )
    assert sandbox.run_code("x + 1").text == "42"

    # Use a sandbox as a context manager
    with Sandbox() as sandbox:
        # Sandbox will be automatically closed when the block exits
        pass
    assert not sandbox.is_running()
    first.close()
    second.close()


def test_the_defaults_are_those_of_the_reference() -> None:
    defaults = {name: p.default for name, p in inspect.signature(Sandbox).parameters.items()}
    promised = {
        "template": "k2sandbox/python:latest",
        "api_key": None,
        "cwd": "/home/user",
        "timeout": 300,
        "request_timeout": None,
    }
    assert promised.items() <= defaults.items()
    assert list(defaults)[:7] == ["template", "api_key", "cwd", "envs", "timeout", "metadata", "request_timeout"]


def test_running_code(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    # Execute Python code
    execution = sandbox.run_code(
        code="print('Hello, world!')",
        on_stdout=lambda data: print(f"STDOUT: {data['line']}"),  # Callback for stdout lines
        on_stderr=lambda data: print(f"STDERR: {data['line']}"),  # Callback for stderr lines
        on_results=None,  # Callback for rich results (plots, etc.)
        timeout=None,  # Execution timeout in seconds
        cwd=None,  # Working directory for execution
        envs=None,  # Environment variables for execution
    )

    # Access execution results
    print(execution.text)  # The output of the execution
    print(execution.stdout)  # Concatenated stdout lines
    print(execution.stderr)  # Concatenated stderr lines
    print(execution.is_error)  # True if execution resulted in error
    assert capsys.readouterr().out == "STDOUT: Hello, world!\nHello, world!\n\nHello, world!\n\n\nFalse\n"


def test_sandbox_management(server: Server) -> None:
    sandbox, other, third = Sandbox(), Sandbox(), Sandbox()

    # Close the sandbox
    sandbox.close()

    # Kill the sandbox forcefully
    sandbox.kill()
    third.kill()

    # Kill a sandbox by ID (class method)
    Sandbox.kill(sandbox_id="your-sandbox-id")
    Sandbox.kill(sandbox_id=third.sandbox_id)

    # Check if the sandbox is running
    is_running = sandbox.is_running()
    assert (is_running, other.is_running()) == (False, True)

    # Set the inactivity timeout
    with pytest.raises(SandboxExpired):
        sandbox.set_timeout(timeout=600)
    sandbox = other
    sandbox.set_timeout(timeout=600)  # 10 minutes
    assert sandbox.info.timeout == 600

    # Set timeout for a sandbox by ID (class method)
    Sandbox.set_timeout(sandbox_id=other.sandbox_id, timeout=500)

    # List all sandboxes (class method)
    sandboxes = Sandbox.list()
    (listed,) = (info for info in sandboxes if info.sandbox_id == other.sandbox_id)
    assert listed.timeout == 500
    assert not {third.sandbox_id} & {info.sandbox_id for info in sandboxes}
    Sandbox.kill(sandbox_id=other.sandbox_id)
    assert not other.is_running()


def test_filesystem(sandbox: Sandbox, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sandbox.process.start("cd /home/user; printf 'Hello, file!' > file.txt; touch old_name.txt")
    sandbox.filesystem.write("/home/user/image.png", PNG)
    (here / "local_file.png").write_bytes(PNG + b"local")

    # Access the filesystem interface
    filesystem = sandbox.filesystem

    # List files in a directory
    files = filesystem.list(path="/home/user")
    for file in files:
        print(f"{file.name} ({file.size} bytes, {'directory' if file.is_dir else 'file'})")
    shown = capsys.readouterr().out
    assert "file.txt (12 bytes, file)\n" in shown
    assert f"image.png ({len(PNG)} bytes, file)\n" in shown

    # Read a file
    content = filesystem.read(path="/home/user/file.txt")
    binary_content = filesystem.read(path="/home/user/image.png", format="bytes")
    assert (content, binary_content) == ("Hello, file!", PNG)

    # Write to a file
    filesystem.write(path="/home/user/file.txt", data="Hello, world!")
    with open("local_file.png", "rb") as f:
        filesystem.write(path="/home/user/image.png", data=f)
    assert filesystem.read("/home/user/file.txt") == "Hello, world!"
    assert filesystem.read("/home/user/image.png", "bytes") == PNG + b"local"

    # Remove a file or directory
    filesystem.remove(path="/home/user/file.txt")

    # Rename/move a file or directory
    filesystem.rename(old_path="/home/user/old_name.txt", new_path="/home/user/new_name.txt")
    assert filesystem.exists("/home/user/new_name.txt")

    # Create a directory
    filesystem.make_dir(path="/home/user/new_directory")

    # Check if a file or directory exists
    exists = filesystem.exists(path="/home/user/file.txt")
    assert exists is False
    assert filesystem.exists("/home/user/new_directory")

    # Watch a directory for changes
    def on_fs_event(event: Any) -> None:
        print(f"Event: {event.event_type} on {event.path}")

    watch_handle = filesystem.watch_dir(path="/home/user", on_event=on_fs_event)
    # ... do some operations ...
    shown = ""
    for n in range(1000):  # until an event has come
        filesystem.write(f"/home/user/{n}.txt", "new")
        shown += capsys.readouterr().out
        if "Event: created on /home/user/0.txt\n" in shown:
            break
    watch_handle.stop()  # Stop watching
    assert "Event: created on /home/user/0.txt\n" in shown
    capsys.readouterr()
    filesystem.remove("/home/user/new_directory")
    assert capsys.readouterr().out == ""


def test_process(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    # Access the process interface
    process = sandbox.process

    # Run a command and wait for completion
    result = process.start(
        cmd="ls -la",
        on_stdout=lambda data: print(f"STDOUT: {data['line']}"),  # Callback for stdout lines
        on_stderr=lambda data: print(f"STDERR: {data['line']}"),  # Callback for stderr lines
        timeout=60,  # Execution timeout in seconds
        cwd=None,  # Working directory for the process
        envs=None,  # Environment variables for the process
        background=False,  # Whether to run in background
    )
    print(f"Exit code: {result.exit_code}")
    print(f"Output: {result.stdout}")
    print(f"Error: {result.stderr}")
    shown = capsys.readouterr().out
    assert shown.startswith("STDOUT: total ")
    assert "Exit code: 0\nOutput: total " in shown
    assert shown.endswith("Error: \n")

    # Run a command in the background
    handle = process.start(cmd="sleep 10 && echo 'Done'", background=True)
    # Do something else while the process runs
    print(f"Process is running with PID: {handle.pid}")
    assert process.start(f"kill -0 {handle.pid}").exit_code == 0
    # Wait for the process to complete
    result = handle.wait()
    assert (result.exit_code, result.stdout) == (0, "Done\n")
    # Send data to the process stdin
    handle.send_stdin("Some input data\n")
    # Kill the process
    handle.kill()

    # List running processes
    other = process.start("sleep 1000", background=True)
    capsys.readouterr()
    processes = process.list()
    for proc in processes:
        print(f"PID: {proc.pid}, Command: {proc.cmd}")
    assert capsys.readouterr().out == f"PID: {other.pid}, Command: sleep 1000\n"

    # Kill a process by PID
    process.kill(pid=12345)
    process.kill(pid=other.pid)
    assert process.list() == []


def test_terminal(sandbox: Sandbox) -> None:
    shown: list[str] = []

    # Access the terminal interface
    terminal = sandbox.terminal

    # Start a new PTY session
    def on_terminal_data(data: bytes) -> None:
        shown.append(f"Terminal output: {data.decode('utf-8', errors='ignore')}")

    pty = terminal.start(
        on_data=on_terminal_data,  # Callback for terminal output
        size=(24, 80),  # Terminal dimensions (rows, cols)
        cmd=None,  # Command to run (defaults to bash or sh)
        cwd=None,  # Working directory
        envs=None,  # Environment variables
    )

    # Send data to the terminal
    terminal.send_data(pid=pty.pid, data=b"ls -la\n")

    # Resize the terminal
    terminal.resize(pid=pty.pid, size=(30, 100))
    assert [p.size for p in sandbox.process.list()] == [(30, 100)]

    # Kill the terminal session
    terminal.send_data(pid=pty.pid, data=b"exit\n")
    assert "total " in pty.wait().stdout
    assert any("total " in text for text in shown)
    terminal.kill(pid=pty.pid)

    # PTY handle methods
    pty.send_data(b"echo 'Hello'\n")
    pty.resize(24, 80)
    pty.kill()

    pty = terminal.start(on_data=on_terminal_data, cmd="cat")
    assert pty.send_data(b"echo 'Hello'\n") is True
    assert pty.resize(24, 80) is True
    assert pty.kill() is True
    assert sandbox.process.list() == []


def test_notebook(index: Server, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sandbox = Sandbox(api_url=index.url)

    # Access the notebook interface
    notebook = sandbox.notebook

    # Execute code that might produce rich output (e.g., plots, HTML, etc.)
    execution = notebook.execute(
        code="import matplotlib.pyplot as plt; plt.plot([1, 2, 3]); plt.show()",
        on_stdout=lambda data: print(f"STDOUT: {data['line']}"),
        on_stderr=lambda data: print(f"STDERR: {data['line']}"),
        on_results=lambda data: print(f"Result: {data['mime_type']}"),
        timeout=None,
        cwd=None,
        metadata=None,
    )

    # Access rich results
    for result in execution.results:
        print(f"MIME type: {result.mime_type}")
        if result.mime_type == "image/png":
            # Save the plot to a file
            with open("plot.png", "wb") as f:
                f.write(result.image_data)  # type: ignore[arg-type]
        elif result.mime_type == "text/html":
            print(f"HTML content: {result.html}")
    assert "Result: image/png\n" in (shown := capsys.readouterr().out)
    assert "MIME type: image/png\n" in shown
    assert (here / "plot.png").read_bytes().startswith(PNG[:8])

    # Install a Python package
    notebook.install_package("pandas")
    notebook.install_package("numpy", version="1.20.0")

    # Get a list of installed packages
    packages = notebook.get_installed_packages()
    for pkg in packages:
        print(f"{pkg['name']} {pkg['version']}")
    assert "numpy 1.20.0\n" in (shown := capsys.readouterr().out)
    assert "pandas " in shown

    # Reset the notebook environment
    notebook.execute("x = 1")
    notebook.reset()
    assert notebook.execute("x").is_error
    sandbox.close()


@pytest.mark.parametrize(
    ("sync", "asynchronous"),
    [
        (Sandbox, AsyncSandbox),
        (Filesystem, AsyncFilesystem),
        (WatchHandle, AsyncWatchHandle),
        (Process, AsyncProcess),
        (ProcessHandle, AsyncProcessHandle),
        (Terminal, AsyncTerminal),
        (Pty, AsyncPty),
        (Notebook, AsyncNotebook),
    ],
)
def test_both_worlds_have_the_same_surface(sync: type, asynchronous: type) -> None:
    def surface(cls: type) -> dict[str, list[str]]:
        public = {name: value for name, value in vars(cls).items() if not name.startswith("_")}
        return {name: list(inspect.signature(v).parameters) if callable(v) else [] for name, v in public.items()}

    assert surface(sync) == surface(asynchronous)


def test_all_that_is_public_is_explained() -> None:
    import k2sandbox

    for name in k2sandbox.__all__:
        thing = getattr(k2sandbox, name)
        if inspect.isclass(thing):
            assert thing.__doc__, name
            for method, value in vars(thing).items():
                assert method.startswith("_") or not callable(value) or value.__doc__, f"{name}.{method}"
    assert os.path.exists(os.path.join(os.path.dirname(k2sandbox.__file__), "py.typed"))
