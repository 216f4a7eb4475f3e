"""What processes use: CPU and memory (proc(5))."""

from __future__ import annotations

import re
import time
from pathlib import Path


def below(pid: int) -> list[int]:
    """Return a process and all that it, or one of them, has started."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            children = (task / "children").read_text().split()
        except OSError:  # it has ended
            continue
        found += [pid for child in children for pid in below(int(child))]
    return found


def is_kernel(pid: int) -> bool:
    """Report whether a process is a kernel: they all have the option -f."""
    try:
        return b"-f" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def cpu(pid: int) -> float:
    """Return the seconds of CPU that a process has used, all its threads; 0 where it is gone."""
    try:
        return time.clock_gettime((~pid << 3) | 2)  # its clock: clock_getcpuclockid(3)
    except OSError:
        return 0


def resident(pid: int, field: str = "VmRSS") -> float:
    """Return VmRSS (resident now) or VmHWM (its peak) of a process in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else 0


def reset_peak(pid: int) -> None:
    """Have VmHWM start anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def share(pid: int) -> float:
    """Return the proportional set size of a process in MB; 0 where it is gone."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    found = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else 0


class Meter:
    """The CPU of processes, kernels apart from those that serve them, since it was made."""

    def __init__(self, root: int) -> None:
        self.root = root
        self.begun = {pid: cpu(pid) for pid in below(root)}

    def read(self) -> tuple[float, float]:
        """Return the seconds of the server's processes and of the kernels'."""
        server = kernel = 0.0
        for pid in below(self.root):
            used = cpu(pid) - self.begun.get(pid, 0)
            if is_kernel(pid):
                kernel += used
            else:
                server += used
        return server, kernel
