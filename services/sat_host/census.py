"""Which processes there are below a worker, and what they use: read from /proc, once a second.

A worker's process group is not enough to hold what a plugin starts: a child may leave it. What loses its parent
becomes a child of the host, which asks the kernel for that (`become_subreaper`), and is ended there.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
_PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024


@dataclass(frozen=True)
class Usage:
    """A worker and all below it: how many processes, and their resident memory."""

    processes: int
    memory_kb: int


@dataclass(frozen=True)
class Census:
    """The children of each process, at one moment."""

    children: dict[int, list[int]]

    def below(self, pid: int) -> list[int]:
        """`pid` and all its descendants."""
        found = [pid]
        for one in found:
            found.extend(self.children.get(one, ()))
        return found

    def usage(self, pid: int) -> Usage:
        """What `pid` and its descendants use."""
        pids = self.below(pid)
        return Usage(len(pids), sum(_resident_kb(one) for one in pids))


def take_census(proc: Path = Path("/proc")) -> Census:
    """Read the process table. Processes that end meanwhile are left out."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir(proc):
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                stat = (proc / entry.name / "stat").read_bytes()
                parent = int(stat[stat.rindex(b")") + 2 :].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    return Census(children)


def become_subreaper() -> bool:
    """Have orphaned descendants become children of this process; whether the kernel agreed."""
    try:
        return ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0  # type: ignore[no-any-return]
    except (OSError, AttributeError):
        return False


def kill_all(pids: Iterable[int]) -> None:
    """SIGKILL; those that are gone already are no error."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def end_orphans(census: Census, own: set[int]) -> int:
    """Kill and reap every child of this process that is not in `own`, with all below it; how many."""
    strays = [pid for pid in census.children.get(os.getpid(), ()) if pid not in own]
    for pid in strays:
        kill_all(census.below(pid))
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return len(strays)


def _resident_kb(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_KB
    except (OSError, ValueError, IndexError):
        return 0
