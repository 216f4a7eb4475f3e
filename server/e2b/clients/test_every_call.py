"""Every public call of the client was made by the tests that ran before, and is named in doc/e2b.md."""

from __future__ import annotations

import re
from pathlib import Path

import e2b
from e2b.sandbox.filesystem.filesystem import AsyncFileStreamReader, FileStreamReader
from e2b.sandbox_async.commands.command import Commands as AsyncCommands
from e2b.sandbox_async.commands.pty import Pty as AsyncPty
from e2b.sandbox_async.filesystem.filesystem import Filesystem as AsyncFilesystem
from e2b.sandbox_async.git import Git as AsyncGit
from e2b.sandbox_sync.commands.command import Commands
from e2b.sandbox_sync.commands.pty import Pty
from e2b.sandbox_sync.filesystem.filesystem import Filesystem
from e2b_code_interpreter import AsyncSandbox, Sandbox

from .calls import Calls

# What a document calls the objects of these classes.
SPELLED = {
    Sandbox: "",
    AsyncSandbox: "",
    Filesystem: "files.",
    AsyncFilesystem: "files.",
    Commands: "commands.",
    AsyncCommands: "commands.",
    Pty: "pty.",
    AsyncPty: "pty.",
    e2b.CommandHandle: "handle.",
    e2b.AsyncCommandHandle: "handle.",
    e2b.WatchHandle: "watch.",
    e2b.AsyncWatchHandle: "watch.",
    e2b.Git: "git.",
    AsyncGit: "git.",
    e2b.SandboxPaginator: "paginator.",
    e2b.AsyncSandboxPaginator: "paginator.",
    FileStreamReader: "stream.",
    AsyncFileStreamReader: "stream.",
}
if hasattr(e2b, "AsyncCommandInputHandle"):
    SPELLED[e2b.AsyncCommandInputHandle] = "input."

calls = Calls(list(SPELLED))


def test_every_call_was_made() -> None:
    assert not calls.missed()


def test_every_call_is_documented() -> None:
    text = (Path(__file__).parents[3] / "doc" / "e2b.md").read_text()
    section = text.partition("## What the clients see")[2].partition("\n## ")[0]
    named = set(re.findall(r"`([a-z_.]+)`", section))
    names = {
        prefix + name for cls, prefix in SPELLED.items() for name in dir(cls) if not name.startswith("_")
    }
    assert not names - named
