"""Makes `_sync` from `_async`: python unasync.py [--check].

What is alike in both is written once, for asyncio. This takes `async` and `await` out of it and gives things their
other names. What differs is in `_io.py`, which is written twice.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

PACKAGE = Path(__file__).parent / "src" / "k2sandbox"
BY_HAND = ("__init__.py", "_io.py")
HEADER = "# Made by unasync.py from {}: change that.\n"
NAMES = {
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "StopAsyncIteration": "StopIteration",
    "aclose": "close",
    "aread": "read",
    "aiter_raw": "iter_raw",
    "asynccontextmanager": "contextmanager",
    "_async": "_sync",
}
WORD = re.compile(r"\b(?:await |async (?=with|for|def)|an (?=Async)|\w+)")


def name(word: str) -> str:
    """Return what a name is without asyncio."""
    if word in NAMES:
        return NAMES[word]
    match = re.fullmatch(r"(_?)Async([A-Z]\w*)", word)
    return match[1] + match[2] if match else word


def text(string: str) -> str:
    """Return a string, such as a docstring with an example, without asyncio."""
    gone = {"await ": "", "async ": "", "an ": "a "}
    return WORD.sub(lambda m: gone[m[0]] if m[0] in gone else name(m[0]), string)


def convert(source: str) -> str:
    """Return a module without asyncio."""
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    out, done = [], 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        start = starts[token.start[0] - 1] + token.start[1]
        end = starts[token.end[0] - 1] + token.end[1]
        if start < done or token.type in (tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT):
            continue
        out.append(source[done:start])
        done = end
        if token.string in ("async", "await"):
            done += len(source[end:]) - len(source[end:].lstrip(" "))
        elif token.type == tokenize.NAME:
            out.append(name(token.string))
        else:
            out.append(text(source[start:end]))
    return "".join([*out, source[done:]])


def tidy(source: str, path: Path) -> str:
    """Return source as ruff formats it."""
    for command in (
        ["check", "--fix", "--unsafe-fixes", "--quiet", "--exit-zero", "--select", "I,UP028,SIM117"],
        ["format", "--quiet"],
    ):
        ruff = [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(path), "-"]
        source = subprocess.run(ruff, input=source, capture_output=True, text=True, check=True).stdout
    return source


def main(check: bool) -> int:
    """Write the modules, or tell which are not what they would be."""
    wrong = 0
    made = set()
    for path in sorted((PACKAGE / "_async").glob("*.py")):
        if path.name in BY_HAND:
            continue
        to = PACKAGE / "_sync" / path.name
        made.add(to.name)
        header = HEADER.format(path.relative_to(PACKAGE).as_posix())
        source = tidy(header + convert(path.read_text()), to)
        if to.exists() and to.read_text() == source:
            continue
        if check:
            print(f"{to} is not what unasync.py makes of {path}", file=sys.stderr)
            wrong = 1
        else:
            to.write_text(source)
    for left in sorted((PACKAGE / "_sync").glob("*.py")):
        if left.name not in made and left.name not in BY_HAND:
            print(f"{left} is made of nothing", file=sys.stderr)
            wrong = 1
    return wrong


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
