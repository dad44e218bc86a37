"""Which processes there are below a worker, and what they use: read from /proc, once a second.

A worker's process group is not enough to hold what a plugin starts: a child may leave it. What loses its parent
becomes a child of the host, which asks the kernel for that (`become_subreaper`), and is ended there.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
MARK = "SAT_WORKER_MARK"


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


def end_orphans(census: Census, own: set[int]) -> Counter[str]:
    """Kill and reap every child of this process that is not in `own`, with all below it; how many of each mark."""
    ended: Counter[str] = Counter()
    for pid in census.children.get(os.getpid(), ()):
        if pid not in own:
            below = census.below(pid)
            ended[_mark(pid)] += len(below)
            kill_all(below)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
    return ended


def _mark(pid: int) -> str:
    """The mark of the worker that a process comes from, as its environment tells; empty when it does not."""
    prefix = f"{MARK}=".encode()
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    return next(
        (entry[len(prefix) :].decode(errors="replace") for entry in environment if entry.startswith(prefix)), ""
    )


def memory_kb(pids: Iterable[int]) -> int:
    """The memory that processes take together."""
    return sum(_memory_kb(pid) for pid in pids)


def _memory_kb(pid: int) -> int:
    """What a process has of the memory: its own pages, and its share of those it has together with others."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_bytes()
        return int(rollup.split(b"\nPss:", 1)[1].split(None, 1)[0])
    except (OSError, ValueError, IndexError):
        return 0
