"""What /proc tells about processes: Linux only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class ProcessStat(NamedTuple):
    pid: int
    state: str
    parent: int
    group: int


def processes() -> list[ProcessStat]:
    """Return every process on the machine that is not a zombie."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended since the directory was listed
        # The command name may hold spaces and parentheses: split after its end.
        state, parent, group = stat.rpartition(")")[2].split()[:3]
        if state not in "ZX":
            found.append(ProcessStat(int(entry.name), state, int(parent), int(group)))
    return found


def rss(pid: int) -> int:
    """Return the resident memory of a process, in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def thread_count(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def fd_count(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))
