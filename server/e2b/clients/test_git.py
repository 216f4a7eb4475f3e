"""The git of the client: its commands, with a repository in the sandbox in place of one far away."""

from __future__ import annotations

from typing import Any

import pytest
from e2b import CommandExitException, GitUpstreamException


def test_git(box: Any, folder: str) -> None:
    git, repo, far = box.git, f"{folder}/repo", f"{folder}/far.git"
    git.configure_user("Ada", "ada@example.com")
    git.set_config("init.defaultBranch", "main")
    assert git.get_config("user.name") == "Ada"
    assert git.get_config("no.such") is None
    git.init(repo, initial_branch="main")
    git.init(far, bare=True)
    box.files.write(f"{repo}/f", "one\n")
    status = git.status(repo)
    assert [(f.name, f.status) for f in status.file_status] == [("f", "untracked")]
    git.add(repo)
    git.commit(repo, "first", author_name="Ada", author_email="ada@example.com")
    assert git.status(repo).is_clean

    git.create_branch(repo, "side")
    assert git.branches(repo).current_branch == "side"
    git.checkout_branch(repo, "main")
    git.delete_branch(repo, "side", force=True)
    assert git.branches(repo).branches == ["main"]

    git.remote_add(repo, "origin", f"file://{far}")
    assert git.remote_get(repo, "origin") == f"file://{far}"
    assert git.remote_get(repo, "other") is None
    with pytest.raises(GitUpstreamException):
        git.pull(repo)
    git.push(repo, "origin", "main")
    git.clone(f"file://{far}", f"{folder}/clone", branch="main", depth=1)
    assert box.files.read(f"{folder}/clone/f") == "one\n"
    git.pull(repo, "origin", "main")

    box.files.write(f"{repo}/f", "two\n")
    git.add(repo, files=["f"])
    git.reset(repo, mode="mixed", target="HEAD")
    assert [f.staged for f in git.status(repo).file_status] == [False]
    git.restore(repo, ["f"])
    assert box.files.read(f"{repo}/f") == "one\n"
    with pytest.raises(CommandExitException):
        git.commit(repo, "nothing to commit")


def test_credentials(box: Any) -> None:
    box.git.dangerously_authenticate("ada", "no-secret", host="git.example.com")
    assert "ada:no-secret@git.example.com" in box.files.read(".git-credentials")
    box.files.remove(".git-credentials")
    box.files.remove(".gitconfig")
