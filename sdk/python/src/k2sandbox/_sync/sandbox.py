# Made by unasync.py from _async/sandbox.py: change that.
"""Sandboxes: made, found, used and ended."""

from __future__ import annotations

import builtins
import uuid
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn, Optional, Union

from .. import errors
from .._faces import either
from ..models import Callback, Context, Execution, Preview, SandboxInfo, context_of, preview_of, sandbox_of
from . import _io
from .execution import Callbacks, Run
from .transport import Transport, segment

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from .filesystem import Filesystem
    from .notebook import Notebook
    from .process import Process
    from .terminal import Terminal

DEFAULT_TEMPLATE = "k2sandbox/python:latest"
HOME = "/home/user"


def _set_timeout_by_id(
    cls: type[Sandbox],
    sandbox_id: str,
    timeout: float,
    *,
    api_key: Optional[str] = None,
    api_url: Optional[str] = None,
    request_timeout: Optional[float] = None,
) -> None:
    path = f"/v1/sandboxes/{segment('sandbox_id', sandbox_id)}/timeout"
    _ask((api_url, api_key, request_timeout), "POST", path, json={"timeout": timeout})


def _set_network_by_id(
    cls: type[Sandbox],
    sandbox_id: str,
    network: Mapping[str, Any],
    *,
    api_key: Optional[str] = None,
    api_url: Optional[str] = None,
    request_timeout: Optional[float] = None,
) -> None:
    path = f"/v1/sandboxes/{segment('sandbox_id', sandbox_id)}/network"
    _ask((api_url, api_key, request_timeout), "PUT", path, json=_mapping("network", network))


def _kill_by_id(
    cls: type[Sandbox],
    sandbox_id: str,
    *,
    api_key: Optional[str] = None,
    api_url: Optional[str] = None,
    request_timeout: Optional[float] = None,
) -> bool:
    path = f"/v1/sandboxes/{segment('sandbox_id', sandbox_id)}"
    try:
        _ask((api_url, api_key, request_timeout), "DELETE", path)
    except (errors.SandboxNotFound, errors.SandboxExpired):
        return False
    return True


class Sandbox:
    """A sandbox: a machine of its own for code that nobody has to trust, with live Jupyter kernels.

    `Sandbox.create()` makes one; `with Sandbox()` makes one and ends it with the block.
    All calls may be made from any number of threads or tasks at a time.

    Attributes:
        sandbox_id: its id, for `connect`.
        info: what the server told of it when it was made or last asked.
        transport: the server that it is on.

    Example:
        with Sandbox() as sandbox:
            print((sandbox.run_code("1 + 1")).text)
    """

    def __init__(
        self,
        template: str = DEFAULT_TEMPLATE,
        api_key: Optional[str] = None,
        cwd: str = HOME,
        envs: Optional[Mapping[str, str]] = None,
        timeout: float = 300,
        metadata: Optional[Mapping[str, str]] = None,
        request_timeout: Optional[float] = None,
        *,
        api_url: Optional[str] = None,
        limits: Optional[Mapping[str, float]] = None,
        network: Optional[Mapping[str, Any]] = None,
        keep: bool = False,
    ) -> None:
        """Make a sandbox.

        Args:
            template: what it is made of.
            api_key: the server's key; by default K2_API_KEY.
            cwd: where code begins, an absolute path.
            envs: environment variables of all code inside.
            timeout: seconds of inactivity after which it ends by itself.
            metadata: your own texts, to find it by.
            request_timeout: seconds that a request to the server may take; None is 120. Runs of code have their own.
            api_url: where the server is, such as `http://127.0.0.1:8900` or `unix:/path`; by default
                K2_API_URL, else this user's own server, which is started where there is none.
            limits: `memory_mb`, `cpus`, `pids`, `disk_mb`.
            network: `{"mode": "full"}`, `"packages"` or `"none"`, or `{"allow": ["example.org"]}`.
            keep: whether the end of a `with` block leaves it running.

        Raises:
            K2Error: it cannot be made; the kind of error says why.
        """
        body = {
            "template": template,
            "cwd": None if cwd == HOME else cwd,  # its home is elsewhere where it has no file system of its own
            "envs": _mapping("envs", envs),
            "timeout": timeout,
            "metadata": _mapping("metadata", metadata),
            "limits": _mapping("limits", limits),
            "network": _mapping("network", network),
        }
        self._request = {name: value for name, value in body.items() if value is not None}
        self._server = (api_url, api_key, request_timeout)
        self._keep = keep
        self._blank()
        _io.at_once(self._start)

    def _blank(self) -> None:
        self._transport: Optional[Transport] = None
        self._info: Optional[SandboxInfo] = None
        self._envs: dict[str, str] = {}  # of what this handle runs, beside the sandbox's own
        self._cwd: Optional[str] = None
        self._ended = ""
        self._followers: list[_io.Follower] = []

    def _start(self) -> Self:
        if self._transport is None:
            transport = Transport.open(*self._server)
            try:
                answer = transport.request("POST", "/v1/sandboxes", json=self._request, once=True)
            except BaseException:
                transport.close()
                raise
            self._transport, self._info = transport, sandbox_of(answer.json())
        return self

    @classmethod
    def create(
        cls,
        template: str = DEFAULT_TEMPLATE,
        api_key: Optional[str] = None,
        cwd: str = HOME,
        envs: Optional[Mapping[str, str]] = None,
        timeout: float = 300,
        metadata: Optional[Mapping[str, str]] = None,
        request_timeout: Optional[float] = None,
        *,
        api_url: Optional[str] = None,
        limits: Optional[Mapping[str, float]] = None,
        network: Optional[Mapping[str, Any]] = None,
        keep: bool = False,
    ) -> Self:
        """Make a sandbox, with the arguments of the constructor, and return it when its kernel is ready.

        Example:
            sandbox = Sandbox.create(metadata={"user": "ada"}, timeout=600)
        """
        sandbox = cls(
            template,
            api_key,
            cwd,
            envs,
            timeout,
            metadata,
            request_timeout,
            api_url=api_url,
            limits=limits,
            network=network,
            keep=keep,
        )
        return sandbox._start()

    @classmethod
    def connect(
        cls,
        sandbox_id: str,
        api_key: Optional[str] = None,
        template: Optional[str] = None,
        cwd: Optional[str] = None,
        envs: Optional[Mapping[str, str]] = None,
        timeout: Optional[float] = None,
        metadata: Optional[Mapping[str, str]] = None,
        request_timeout: Optional[float] = None,
        *,
        api_url: Optional[str] = None,
        keep: bool = False,
    ) -> Self:
        """Return a sandbox that is there already.

        Args:
            sandbox_id: its id.
            api_key: the server's key, or the sandbox's own access token; by default K2_API_KEY.
            template: if given, what it has to have been made of.
            cwd: where code and processes that this object starts begin.
            envs: environment variables of code and processes that this object starts.
            timeout: if given, its seconds of inactivity from now on.
            metadata: if given, what has to be among its own.
            request_timeout, api_url, keep: as of the constructor.

        Raises:
            SandboxNotFound: there is none.
            SandboxExpired: it has ended; `reason` tells how.
            Conflict: it has another template or other metadata.

        Example:
            sandbox = Sandbox.connect("sb_x6cf4vzqj2m3n5b7k8l9")
        """
        path = f"/v1/sandboxes/{segment('sandbox_id', sandbox_id)}"
        self = cls.__new__(cls)
        self._server, self._keep = (api_url, api_key, request_timeout), keep
        self._blank()
        self._cwd, self._envs = cwd, _mapping("envs", envs)
        transport = Transport.open(*self._server)
        try:
            self._info = sandbox_of((transport.request("GET", path)).json())
            _same(transport, self._info, template, _mapping("metadata", metadata))
            if timeout is not None:
                answer = transport.request("POST", path + "/timeout", json={"timeout": timeout})
                self._info = sandbox_of(answer.json())
        except BaseException:
            transport.close()
            raise
        self._transport = transport
        return self

    def __enter__(self) -> Self:
        return self._start()

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        try:
            (self.disconnect() if self._keep else self.close())
        except errors.K2Error:
            if error is None:  # what ended the block says more
                raise

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} cannot be copied or sent to another process: send sandbox_id, and connect(sandbox_id) there")

    def __repr__(self) -> str:
        if self._info is None:
            return f"<{type(self).__name__}, not made yet>"
        return f"<{type(self).__name__} {self._info.sandbox_id}{f', {self._ended}' if self._ended else ''}>"

    @property
    def sandbox_id(self) -> str:
        """Its id."""
        return self.info.sandbox_id

    @property
    def info(self) -> SandboxInfo:
        """What the server told of it when it was made or last asked; `get_info` asks."""
        if self._info is None:
            raise errors.K2Error("the sandbox is not made yet", hint="use with, or Sandbox.create()")
        return self._info

    @property
    def transport(self) -> Transport:
        """The server that it is on."""
        info = self.info
        if self._ended or self._transport is None:
            raise errors.SandboxExpired(
                f"sandbox {info.sandbox_id} was {self._ended} by this object",
                sandbox_id=info.sandbox_id,
                details={"reason": self._ended},
                hint="Sandbox.connect(…) goes on with it" if self._ended == "disconnected" else None,
            )
        return self._transport

    def path(self, suffix: str = "") -> str:
        """Return the path of something of this sandbox in the HTTP API, such as `/files`."""
        return f"/v1/sandboxes/{self.sandbox_id}{suffix}"

    def spawn(self, call: Any, *args: Any) -> _io.Follower:
        """Call in the background: until it ends, is stopped, or this object ends the sandbox."""
        self._followers = [follower for follower in self._followers if follower.running]
        follower = _io.Follower(call, *args)
        self._followers.append(follower)
        return follower

    @cached_property
    def filesystem(self) -> Filesystem:
        """Its files."""
        from .filesystem import Filesystem

        return Filesystem(self)

    @cached_property
    def process(self) -> Process:
        """Its processes."""
        from .process import Process

        return Process(self)

    @cached_property
    def terminal(self) -> Terminal:
        """Its terminals."""
        from .terminal import Terminal

        return Terminal(self)

    @cached_property
    def notebook(self) -> Notebook:
        """Its default context as a notebook, with its packages."""
        from .notebook import Notebook

        return Notebook(self)

    def run_code(
        self,
        code: str,
        on_stdout: Optional[Callback] = None,
        on_stderr: Optional[Callback] = None,
        on_results: Optional[Callback] = None,
        timeout: Optional[float] = None,
        cwd: Optional[str] = None,
        envs: Optional[Mapping[str, str]] = None,
        *,
        context: Union[Context, str, None] = None,
        on_input: Optional[Callback] = None,
    ) -> Execution:
        """Run a cell in a live kernel and return all that it gave.

        What the code raises is in `error`, and no exception here. Variables stay for the cells that follow.

        Args:
            code: the cell.
            on_stdout: called with `{"line": …}` for each line on stdout while it runs, without the line's end.
            on_stderr: the same of stderr.
            on_results: called with `{"mime_type": …, "data": …, "result": …}` for each result. A callback
                that raises interrupts the run, and ends this call with its error.
            timeout: seconds that it may take; None is no bound.
            cwd: the working directory, for this cell only.
            envs: environment variables, for this cell only.
            context: the context to run in, or its id; by default the sandbox's own.
            on_input: called with `{"prompt": …, "password": …}` where the code calls `input()`; what it returns is the
                answer. Without it `input()` raises.

        Raises:
            RunTimeout: the time was up. The cell was stopped, and the kernel goes on.
            SandboxExpired: the sandbox has ended, or ended while the code ran.
            ConnectionLost: the server cannot be reached any more.
            InvalidRequest: an argument makes no sense; the message names it.
                All that come while the code runs have `execution`, which tells what it gave until then.

        Example:
            execution = sandbox.run_code("print('hello'); 6 * 7", on_stdout=lambda data: print(data["line"]))
            print(execution.text)
        """
        callbacks = Callbacks(on_stdout, on_stderr, on_results, on_input)
        body = self._cell(code, timeout, cwd, envs, context, on_input is not None)
        key = uuid.uuid4().hex

        def begun() -> str:  # the server knows what the key began
            headers = {"Idempotency-Key": key}
            with self.transport.stream("POST", self.path("/code"), json=body, headers=headers, timeout=5) as answer:
                return str(answer.headers.get("x-execution-id", ""))

        run = Run(self, "", 0, callbacks, begun)

        def opened(answer: Any) -> None:  # before the cell's turn comes, so that it can be interrupted then
            run.execution_id = answer.headers.get("x-execution-id") or run.execution_id

        source = self.transport.events("POST", self.path("/code"), json=body, once=key, opened=opened)
        return run._complete(source)

    def start_code(
        self,
        code: str,
        on_stdout: Optional[Callback] = None,
        on_stderr: Optional[Callback] = None,
        on_results: Optional[Callback] = None,
        timeout: Optional[float] = None,
        cwd: Optional[str] = None,
        envs: Optional[Mapping[str, str]] = None,
        *,
        context: Union[Context, str, None] = None,
        on_input: Optional[Callback] = None,
    ) -> Run:
        """Start a cell and return a handle of its run at once. It goes on whether somebody follows it or not.

        The arguments are those of `run_code`; callbacks are called while the handle is waited for or iterated over.

        Example:
            run = sandbox.start_code("import time; time.sleep(60)", timeout=30)
            execution = run.wait()
        """
        callbacks = Callbacks(on_stdout, on_stderr, on_results, on_input)
        body = self._cell(code, timeout, cwd, envs, context, on_input is not None)
        answer = self.transport.request("POST", self.path("/code"), json={**body, "detach": True}, once=True)
        return Run(self, answer.json()["execution_id"], 0, callbacks)

    def attach(
        self,
        execution_id: str,
        after: int = 0,
        on_stdout: Optional[Callback] = None,
        on_stderr: Optional[Callback] = None,
        on_results: Optional[Callback] = None,
    ) -> Run:
        """Return a handle of a run that was started before, perhaps by another process.

        Args:
            execution_id: its id.
            after: the `seq` of the last event that is known already; 0 is none.
            on_stdout, on_stderr, on_results: as of `run_code`.

        Raises:
            NotFound: there is no such run, or it is no longer kept.

        Example:
            run = sandbox.attach(execution_id)
            print((run.wait()).stdout)
        """
        run = Run(self, execution_id, after, Callbacks(on_stdout, on_stderr, on_results))
        self.transport.request("GET", run._path(""))
        return run

    def _cell(
        self,
        code: str,
        timeout: Optional[float],
        cwd: Optional[str],
        envs: Optional[Mapping[str, str]],
        context: Union[Context, str, None],
        asks: bool,
    ) -> dict[str, Any]:
        body = {
            "code": code,
            "timeout": timeout,
            "cwd": cwd if cwd is not None else self._cwd,
            "envs": {**self._envs, **_mapping("envs", envs)} or None,
            "context": context.context_id if isinstance(context, Context) else context,
            "allow_stdin": asks or None,
        }
        return {name: value for name, value in body.items() if value is not None}

    def create_context(
        self,
        language: Optional[str] = None,
        kernel: Optional[str] = None,
        cwd: Optional[str] = None,
        envs: Optional[Mapping[str, str]] = None,
    ) -> Context:
        """Start another kernel, with variables of its own, for `run_code(context=…)`.

        Args:
            language: such as `python`; or
            kernel: the name of a kernelspec. Without either it is the default one.
            cwd: where its code begins.
            envs: its environment variables.

        Example:
            bash = sandbox.create_context(language="bash")
            print((sandbox.run_code("echo $BASH_VERSION", context=bash)).text)
        """
        body = {"language": language, "kernel": kernel, "cwd": cwd, "envs": _mapping("envs", envs)}
        answer = self.transport.request("POST", self.path("/contexts"), json=body)
        return context_of(answer.json())

    def list_contexts(self) -> builtins.list[Context]:
        """Return its contexts, the oldest, which is the default one, first."""
        answer = self.transport.request("GET", self.path("/contexts"))
        return [context_of(context) for context in answer.json()["contexts"]]

    def delete_context(self, context: Union[Context, str]) -> None:
        """End a context and its kernel. Runs in it end as `aborted`."""
        self.transport.request("DELETE", self._context_path(context))

    def restart_context(self, context: Union[Context, str] = "default") -> Context:
        """Give a context a new kernel: its variables are gone, and runs in it end as `aborted`."""
        return context_of((self.transport.request("POST", self._context_path(context) + "/restart")).json())

    def interrupt(self, context: Union[Context, str] = "default") -> None:
        """Interrupt what runs in a context, if anything does."""
        self.transport.request("POST", self._context_path(context) + "/interrupt")

    def _context_path(self, context: Union[Context, str]) -> str:
        name = context.context_id if isinstance(context, Context) else context
        return self.path(f"/contexts/{segment('context', name)}")

    def get_info(self) -> SandboxInfo:
        """Ask the server about the sandbox; `info` keeps it."""
        self._info = sandbox_of((self.transport.request("GET", self.path())).json())
        return self._info

    def is_running(self) -> bool:
        """Whether code can run in it: it has not ended, and is not paused.

        Raises:
            ConnectionLost: no server answers, so that nobody can tell.
        """
        if self._ended and self._ended != "disconnected":
            return False
        try:
            return (self.get_info()).state == "running"
        except (errors.SandboxNotFound, errors.SandboxExpired):
            return False

    def metrics(self) -> dict[str, Any]:
        """Return what it uses now, as in the HTTP API: CPU, memory, disk, processes."""
        answer: dict[str, Any] = (self.transport.request("GET", self.path("/metrics"))).json()
        return answer

    def pause(self) -> None:
        """Freeze it: it uses no CPU and keeps its memory. What is asked of it then is refused (Conflict) until `resume`."""
        self._change("/pause")

    def resume(self) -> None:
        """Have it go on after `pause`."""
        self._change("/resume")

    def _change(self, suffix: str, json: Any = None, method: str = "POST") -> None:
        self._info = sandbox_of((self.transport.request(method, self.path(suffix), json=json)).json())

    def url(self, port: int) -> str:
        """Return the URL at which a server that listens on a port inside is reached; it takes the API key of this object.

        Raises:
            InvalidRequest: the k2sandbox server is on a unix socket, which has no URL: use `transport.request`.

        Example:
            httpx.get(sandbox.url(8000) + "index.html")
        """
        if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536:
            raise errors.InvalidRequest(f"port: expected 1 to 65535, got {port!r}")
        address = self.transport.address
        if address.socket is not None:
            raise errors.InvalidRequest(
                f"the server is on the unix socket {address.socket}, which has no URL",
                hint=f"sandbox.transport.request('GET', sandbox.path('/ports/{port}/')) reaches it",
            )
        return f"{address.base}{self.path(f'/ports/{port}/')}"

    def preview(self, port: int, expires_in: float = 3600) -> Preview:
        """Make a link by which a browser, of anybody who has the link, reaches what listens on a port inside.

        It leads to a host of that server alone, takes no API key, and works until it expires or the sandbox ends.

        Args:
            port: what the server inside listens on.
            expires_in: seconds that the link works, a day at most.

        Raises:
            K2Error: the k2sandbox server has no domain for such hosts, as one on a unix socket has none.

        Example:
            webbrowser.open(sandbox.preview(8000).url)
        """
        body = {"port": port, "expires_in": expires_in}
        return preview_of((self.transport.request("POST", self.path("/previews"), json=body)).json())

    def _set_timeout(self, timeout: float) -> None:
        """Set the seconds of inactivity after which it ends by itself; they count from now.

        `Sandbox.set_timeout(sandbox_id, timeout)` does that for one that there is no object of.
        """
        self._change("/timeout", {"timeout": timeout})

    set_timeout = either(_set_timeout, _set_timeout_by_id)

    def _set_network(self, network: Mapping[str, Any]) -> None:
        """Have it reach something else from now on. Connections that are open and not allowed any more are cut.

        `Sandbox.set_network(sandbox_id, network)` does that for one that there is no object of. The API key is needed: the
        sandbox's own access token is not enough.

        Args:
            network: as of the constructor. One that was made with the network `none` gets no other.

        Example:
            sandbox.set_network({"allow": ["api.example.org"]})
        """
        self._change("/network", _mapping("network", network), "PUT")

    set_network = either(_set_network, _set_network_by_id)

    def close(self) -> None:
        """End it gracefully: kernels shut down, processes get SIGTERM, and then all is removed.

        One that has ended already stays so.
        """
        self._end("POST", "/close", "closed")

    def _kill(self) -> bool:
        """End it at once, with all that is in it, and return whether it was there still.

        `Sandbox.kill(sandbox_id)` does that to one that there is no object of.
        """
        return self._end("DELETE", "", "killed")

    kill = either(_kill, _kill_by_id)

    def disconnect(self) -> None:
        """Leave it running, and close this object's connections. `connect` goes on with it."""
        self._leave("disconnected")

    def _end(self, method: str, suffix: str, how: str) -> bool:
        if self._ended or self._info is None:
            return False
        try:
            self.transport.request(method, self.path(suffix))
        except (errors.SandboxNotFound, errors.SandboxExpired):
            return False
        finally:
            self._leave(how)
        return True

    def _leave(self, how: str) -> None:
        if self._transport is not None and not self._ended:
            self._ended = how
            for follower in self._followers:
                follower.stop()
            self._transport.close()

    @classmethod
    def list(
        cls,
        metadata: Optional[Mapping[str, str]] = None,
        state: Optional[str] = None,
        *,
        api_key: Optional[str] = None,
        api_url: Optional[str] = None,
        request_timeout: Optional[float] = None,
    ) -> builtins.list[SandboxInfo]:
        """Return the sandboxes that there are, the newest first: with an API key those that were made with it.

        Args:
            metadata: only those that have these among their own.
            state: only those in this state; `ended` gives those of the last day.

        Example:
            for info in Sandbox.list():
                print(info.sandbox_id, info.state)
        """
        query: dict[str, Any] = {f"metadata.{key}": value for key, value in _mapping("metadata", metadata).items()}
        query.update(state=state, limit=1000)
        found: builtins.list[SandboxInfo] = []
        while True:
            page = _ask((api_url, api_key, request_timeout), "GET", "/v1/sandboxes", params=query)
            found.extend(map(sandbox_of, page["sandboxes"]))
            query["cursor"] = page.get("next_cursor")
            if not query["cursor"]:
                return found


def _ask(server: tuple[Optional[str], Optional[str], Optional[float]], method: str, path: str, **more: Any) -> Any:
    """Ask a server one thing, and leave it."""
    transport = Transport.open(*server)
    try:
        answer = transport.request(method, path, **more)
        return answer.json() if answer.content else None
    finally:
        transport.close()


def _same(transport: Transport, info: SandboxInfo, template: Optional[str], metadata: Mapping[str, str]) -> None:
    """Raise Conflict where a sandbox is not what somebody takes it for."""
    if template is not None and not isinstance(template, str):
        raise errors.InvalidRequest(f"template: expected its name, got {template!r}")
    names = {template}
    if template not in (None, info.template):
        for known in (transport.request("GET", "/v1/templates")).json()["templates"]:
            if template in (known["template"], *known["aliases"]):
                names.add(known["template"])
        if info.template not in names:
            raise errors.Conflict(
                f"template: sandbox {info.sandbox_id} was made of {info.template!r}, not of {template!r}",
                sandbox_id=info.sandbox_id,
            )
    for key, value in metadata.items():
        if info.metadata.get(key) != value:
            raise errors.Conflict(
                f"metadata: sandbox {info.sandbox_id} has {info.metadata.get(key)!r} as {key!r}, not {value!r}",
                sandbox_id=info.sandbox_id,
            )


def _mapping(name: str, given: Optional[Mapping[str, Any]]) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise errors.InvalidRequest(f"{name}: expected a mapping such as a dict, got {given!r}")
    return dict(given)
