"""What README.md shows works as it stands, from its first line to its last."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from conftest import Server


def test_readme(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parent.parent / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 5
    names: dict[str, Any] = {"__name__": "readme"}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    for shown in (
        "it says hello\n42\nhello\n",
        "ZeroDivisionError: division by zero\n",
        "0\n1\n2\n",
        "'notes.txt'",
        "['0', '1', '4']\n",
    ):
        assert shown in out
