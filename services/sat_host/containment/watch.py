"""Watches what the workers' processes use and leave behind, on a thread of its own, so that no
heartbeat waits for it.

Once a second it takes a census, and at once when the machine has many more processes than at the
last one. Where workers have cgroups, only those are looked at, and nothing can escape. Otherwise it
is the whole process table, and what has left its worker's tree is found as a child of this process,
the subreaper.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Protocol

import structlog

from sat_host.containment.census import (
    PROC,
    Census,
    all_pids,
    mark_of,
    signal_all,
    take_census,
    tasks,
)
from sat_host.containment.cgroup import Cgroup

_log = structlog.get_logger(__name__)

LOOK_PERIOD = 0.1
CENSUS_PERIOD = 1.0
MANY = 16  # more tasks than at the last census, for the next one to be now
STOP_DEADLINE = 1.0  # for finding all of a tree
END_DEADLINE = 3.0  # for the kernel to be done with what was killed, when the host ends


class Watched(Protocol):
    """A worker process, as the watch sees it.

    Attributes:
        mark: stands in the environment of the process and of all that it starts.
        cgroup: holds it with all that it starts, where there are cgroups to be had.
        left_behind: processes that it had left in its cgroup when it ended by itself.
    """

    mark: str
    cgroup: Cgroup | None
    left_behind: int

    @property
    def pid(self) -> int: ...

    @property
    def alive(self) -> bool: ...

    def excess(self, census: Census, pids: list[int], ended: int) -> str:
        """Which limit it and what it started, `pids`, are over; empty when none. `ended`: how many
        were found outside its tree and ended meanwhile."""

    def condemn(self, reason: str) -> None:
        """Have it killed for `reason`, soon."""


class UsageWatch:
    """Holds worker processes to their limits and ends what they leave behind, which `orphans_ended`
    counts.

    Args:
        ends_orphans: this process is the subreaper of its workers and has no other children.
        send: sends a signal to processes.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        *,
        ends_orphans: bool,
        proc: Path = PROC,
        send: Callable[[Iterable[int], signal.Signals], object] = signal_all,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.orphans_ended = 0
        self._ends_orphans = ends_orphans
        self._proc = proc
        self._send = send
        self._clock = clock
        self._lock = threading.Lock()
        self._workers: list[Watched] = []
        self._leaving: list[Cgroup] = []
        self._whole_table = False
        self._known: set[int] = set()
        self._ended: Counter[str] = Counter()
        self._tasks = 0
        self._due = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"{name}/watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While a worker is made: whoever takes a child for an orphan has to know all workers
        first."""
        with self._lock:
            yield

    def add(self, worker: Watched) -> None:
        """Watch `worker` from its first moment on; to be called while `paused`."""
        self._workers.append(worker)
        self._whole_table = self._whole_table or worker.cgroup is None

    def end(self) -> None:
        """Watch no more. All workers were killed: end what is left of them."""
        self._stopping.set()
        self._thread.join(END_DEADLINE)
        self._leaving += [worker.cgroup for worker in self._workers if worker.cgroup is not None]
        deadline = self._clock() + END_DEADLINE
        while self._clock() < deadline:
            left = self._end((), self._census())
            self._reap()
            self._leaving = [cgroup for cgroup in self._leaving if not cgroup.remove()]
            if not left and not self._leaving:
                return
            time.sleep(0.01)  # until the kernel is done with them

    def _run(self) -> None:
        with open(self._proc / "loadavg", "rb", buffering=0) as loadavg:
            while not self._stopping.wait(LOOK_PERIOD):
                try:
                    self._look(tasks(loadavg.fileno()))
                except OSError as error:
                    _log.warning("census failed", error=str(error))

    def _look(self, count: int) -> None:
        """Take a census if it is time, or if `count`, the tasks of the machine, has grown by many
        since the last."""
        now = self._clock()
        self._tasks = min(self._tasks, count)
        due = now >= self._due
        if due or count >= self._tasks + MANY:
            self._tasks = count
            self._check(regular=due)
        if due:
            self._due = now + CENSUS_PERIOD

    def _check(self, *, regular: bool) -> None:
        """Take a census; end the workers that use too much, and in a regular one all orphans.

        Those that were ended since the regular census before count against the limit of their
        worker.
        """
        self._reap()
        workers = self._living()
        self._leaving = [cgroup for cgroup in self._leaving if not cgroup.remove()]
        held = {
            worker.mark: worker.cgroup.pids() for worker in workers if worker.cgroup is not None
        }
        census = take_census(
            all_pids(self._proc) if self._whole_table else chain(*held.values()), self._proc
        )
        escaped: dict[str, list[int]] = {}
        for pid in self._orphans(census):
            escaped.setdefault(mark_of(pid, self._proc), []).extend(census.below(pid))
        condemned = []
        for worker in workers:
            tree = held.get(worker.mark) or census.below(worker.pid) + escaped.get(worker.mark, [])
            if problem := worker.excess(census, tree, self._ended[worker.mark]):
                worker.condemn(problem)
                condemned.append(worker)
        if regular:
            self._ended.clear()
        if condemned or regular:
            self._end(condemned, census)

    def _end(self, condemned: Sequence[Watched], census: Census) -> int:
        """End `condemned` with all they started, and all orphans; how many processes were found.

        All are stopped before one is killed: what has been killed cannot be found in its tree any
        more, and those that were not found yet go on and start others.
        """
        for worker in condemned:
            if worker.cgroup is not None:
                worker.cgroup.kill()
        stopped: set[int] = set()
        orphans: set[int] = set()
        deadline = self._clock() + STOP_DEADLINE
        while self._clock() < deadline:
            orphans.update(self._orphans(census))
            roots = stopped.union(
                orphans, (worker.pid for worker in condemned if worker.cgroup is None)
            )
            doomed = {below for pid in roots for below in census.below(pid)}
            if doomed <= stopped:
                break
            self._send(doomed - stopped, signal.SIGSTOP)
            stopped |= doomed
            census = self._census(without=stopped)
        self._ended.update(mark_of(pid, self._proc) for pid in stopped)
        self._send(stopped, signal.SIGKILL)
        self.orphans_ended += len(orphans - self._known)
        self._known = orphans  # they may still be ending at the next census
        return len(stopped)

    def _census(self, without: Set[int] = frozenset()) -> Census:
        pids = all_pids(self._proc) if self._whole_table else []
        return take_census((pid for pid in pids if pid not in without), self._proc)

    def _orphans(self, census: Census) -> list[int]:
        """The children of this process that are no workers, where no cgroup holds them until their
        worker ends."""
        if not self._ends_orphans or not self._whole_table:
            return []
        with self._lock:
            own = {worker.pid for worker in self._workers}
        return [pid for pid in census.children.get(os.getpid(), ()) if pid not in own]

    def _living(self) -> list[Watched]:
        """The workers that live; those that have ended are forgotten, but for what they left
        behind."""
        with self._lock:
            ended = [worker for worker in self._workers if not worker.alive]
            self._workers = [worker for worker in self._workers if worker.alive]
        self.orphans_ended += sum(worker.left_behind for worker in ended)
        self._leaving += [worker.cgroup for worker in ended if worker.cgroup is not None]
        return self._workers.copy()

    def _reap(self) -> None:
        """Let go of the orphans that have ended. A worker that has ended is its handle's to
        reap."""
        while self._ends_orphans:
            with self._lock:
                own = {worker.pid for worker in self._workers}
                try:
                    ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                    if ended is None or ended.si_pid in own:
                        return
                    os.waitpid(ended.si_pid, os.WNOHANG)
                except ChildProcessError:
                    return
