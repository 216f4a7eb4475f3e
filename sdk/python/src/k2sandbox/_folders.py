"""Where the server of one's own has its socket and its files, and what it finds in its environment.

Code in sandboxes runs as another user where the server is root's. Such users have to be able to enter the
folders of the server, which they cannot below /root: then these are in /var/lib.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from pathlib import Path
from typing import Optional

from .errors import StartError

LONGEST = 107  # bytes of the path of a unix socket
SHARED = Path("/var/lib")  # where root's files are that others read


def runtime(rest: int) -> Path:
    """Return a folder that is this user's alone, for sockets whose names have so many bytes.

    Raises:
        StartError: there is none.
    """
    mine = f"k2sandbox-{os.geteuid()}"
    folders = [Path(tempfile.gettempdir()) / mine, Path("/tmp") / mine]
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(base):
        folders.insert(0, Path(base) / "k2sandbox")
    problems = []
    for folder in folders:
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            info = folder.lstat()
        except OSError as error:
            problems.append(str(error))
            continue
        if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid() or info.st_mode & 0o077:
            problems.append(f"{folder} is not this user's alone")
        elif len(os.fsencode(folder)) + 1 + rest > LONGEST:
            problems.append(f"{folder} is too long a path for a socket")
        else:
            return folder
    raise StartError(
        "there is no place for the server's socket: " + "; ".join(problems),
        hint="set XDG_RUNTIME_DIR to a folder that only this user can enter (mode 0700)",
    )


def state() -> Optional[Path]:
    """Return where what outlives a server is kept; None where there is no home to write to."""
    given = os.environ.get("XDG_STATE_HOME", "")
    folder = (Path(given) if os.path.isabs(given) else _home("~/.local/state")) / "k2sandbox"
    try:
        folder.mkdir(mode=0o755 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if folder.is_absolute() and os.access(folder, os.W_OK | os.X_OK) else None


def data() -> Optional[Path]:
    """Return where the Python that code runs in is; None where the program itself knows it best."""
    if os.path.isabs(os.environ.get("XDG_DATA_HOME", "")) or os.path.exists(
        os.path.expanduser("~/.local/share/k2sandbox/python")
    ):
        return None
    return _home("~/.local/share") / "k2sandbox"


def environ() -> dict[str, str]:
    """Return the environment of the server: nothing that is for its clients, and this Python as the last that it may use."""
    found = {name: value for name, value in os.environ.items() if not name.startswith("K2_")}
    path = (found.get("PATH") or os.defpath).split(os.pathsep)
    path += [os.path.dirname(python) for python in (sys.executable, getattr(sys, "_base_executable", "")) if python]
    if os.geteuid() == 0:  # a Python that others may use is the better one
        path.sort(key=lambda folder: not _open(Path(folder)))
    found["PATH"] = os.pathsep.join(path)
    return found


def _home(folder: str) -> Path:
    """A folder in the home, or for root one where others can enter it."""
    home = Path(os.path.expanduser(folder))
    return SHARED if os.geteuid() == 0 and not _open(home) else home


def _open(folder: Path) -> bool:
    """Whether all users can enter a folder, or could if it were made."""
    there = [parent for parent in (folder, *folder.parents) if parent.exists()]
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in there)
