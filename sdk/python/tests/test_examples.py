"""The examples run as they are, each by a Python of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from conftest import Server

EXAMPLES = Path(__file__).parent.parent / "examples"
SOURCES = Path(__file__).parent.parent / "src"


def run(name: str, *arguments: str) -> str:
    """Return what an example prints, which complains of nothing."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(SOURCES)}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


def test_agent(server: Server) -> None:
    out = run("agent.py")
    assert "AttributeError" in out
    assert out.endswith("The mean fare is 34.92.\n")


def test_analysis(server: Server, tmp_path: Path) -> None:
    out = run("analysis.py", str(tmp_path))
    assert "Bergen" in out
    assert "Rain: Athens, Bergen, Quito" in out
    assert (tmp_path / "rain.png").read_bytes().startswith(b"\x89PNG")
    assert "mean" in (tmp_path / "summary.csv").read_text()


def test_long_job(server: Server) -> None:
    first, second = run("long_job.py").split("the second client saw:\n")
    assert first == "the first client saw:\nstep 1 of 10\nstep 2 of 10\nstep 3 of 10\n\n"
    assert second == "".join(f"step {step} of 10\n" for step in range(4, 11)) + "\nit ended: ok, 'done'\n"


def test_web_server(server: Server) -> None:
    out = run("web_server.py")
    assert "200 text/html <h1>Hello from /greeting</h1>" in out


def test_all_examples_are_run() -> None:
    assert {file.name for file in EXAMPLES.glob("*.py")} == {"agent.py", "analysis.py", "long_job.py", "web_server.py"}
