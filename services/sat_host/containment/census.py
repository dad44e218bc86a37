"""Which processes there are below a worker, and what they use: read from /proc.

A worker's process group is not enough to hold what a plugin starts: a child may leave it. What
loses its parent becomes a child of the host, which asks the kernel for that (`become_subreaper`),
and is ended there.
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
MARK = "SAT_WORKER_MARK"
PROC = Path("/proc")
# Fields of /proc/<pid>/stat, counted from the one that follows the name.
_PARENT, _START, _RESIDENT = 1, 19, 21
_PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024


@dataclass(frozen=True)
class Census:
    """Some or all processes, at one moment: the children of each, and the resident memory of each
    in KiB."""

    children: dict[int, list[int]]
    resident_kb: dict[int, int]

    def below(self, pid: int) -> list[int]:
        """`pid` and all its descendants."""
        found = [pid]
        for one in found:
            found.extend(self.children.get(one, ()))
        return found


def all_pids(proc: Path = PROC) -> list[int]:
    """All processes of the machine, or of the container."""
    return [int(name) for name in os.listdir(proc) if name.isdigit()]


def take_census(pids: Iterable[int], proc: Path = PROC) -> Census:
    """Look at `pids`. Those that end meanwhile are left out."""
    children: dict[int, list[int]] = {}
    resident: dict[int, int] = {}
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):
            stat = _stat(pid, proc)
            children.setdefault(int(stat[_PARENT]), []).append(pid)
            resident[pid] = int(stat[_RESIDENT]) * _PAGE_KB
    return Census(children, resident)


def start_time(pid: int) -> int:
    """When a process started, in ticks since the machine did; 0 when no process has this id."""
    try:
        return int(_stat(pid, PROC)[_START])
    except OSError:
        return 0


def _stat(pid: int, proc: Path) -> list[bytes]:
    with open(f"{proc}/{pid}/stat", "rb") as file:
        text = file.read()
    return text[text.rindex(b")") + 2 :].split()


def tasks(loadavg: int) -> int:
    """How many processes and threads the machine has, which /proc/loadavg, kept open as `loadavg`,
    tells at no cost. 0 where it does not tell."""
    try:
        return int(os.pread(loadavg, 128, 0).split()[3].partition(b"/")[2])
    except (OSError, ValueError, IndexError):
        return 0


def become_subreaper() -> bool:
    """Have orphaned descendants become children of this process; whether the kernel agreed."""
    try:
        return ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0  # type: ignore[no-any-return]
    except (OSError, AttributeError):
        return False


def signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal; those that are gone already are no error."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def mark_of(pid: int, proc: Path = PROC) -> str:
    """The mark of the worker that a process comes from, as its environment tells; empty when it
    does not."""
    prefix = f"{MARK}=".encode()
    try:
        environment = (proc / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    return next(
        (
            entry[len(prefix) :].decode(errors="replace")
            for entry in environment
            if entry.startswith(prefix)
        ),
        "",
    )


def exceeds_memory(census: Census, pids: list[int], limit_kb: int) -> bool:
    """Whether processes take more memory than `limit_kb` together.

    A page that several of them have counts once in all, which the kernel has to walk their tables
    to know: that is asked only when it would be too much with each page counted for each of them.
    """
    if sum(census.resident_kb.get(pid, 0) for pid in pids) <= limit_kb:
        return False
    return sum(_proportional_kb(pid) for pid in pids) > limit_kb


def _proportional_kb(pid: int) -> int:
    """A process's own pages, and its share of those it has together with others."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_bytes()
        return int(rollup.split(b"\nPss:", 1)[1].split(None, 1)[0])
    except (OSError, ValueError, IndexError):
        return 0
