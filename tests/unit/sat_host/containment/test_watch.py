"""The watch of what workers use, over a folder that looks like /proc: signals are noted, not sent."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from sat_host.containment.census import MARK, PROC, Census
from sat_host.containment.cgroup import Cgroup
from sat_host.containment.watch import CENSUS_PERIOD, MANY, UsageWatch
from tests.unit.sat_host.fakes import LoopRig
from tests.waiting import eventually

HOST = os.getpid()
DEADLINE = 10.0


class FakeCgroup(Cgroup):
    """Holds what it is told to; goes once it holds nothing."""

    def __init__(self, *held: int) -> None:
        self.held = list(held)
        self.kills = 0

    def pids(self) -> list[int]:
        return self.held

    def kill(self) -> int:
        self.kills += 1
        return len(self.held)

    def remove(self) -> bool:
        return not self.held


class FakeWorker:
    """A worker of so many processes at the most."""

    def __init__(self, pid: int, most: int = 3, cgroup: Cgroup | None = None) -> None:
        self.pid = pid
        self.mark = f"mark{pid}"
        self.cgroup = cgroup
        self.left_behind = 0
        self.alive = True
        self.most = most
        self.seen: list[tuple[list[int], int]] = []
        self.condemned: list[str] = []

    def excess(self, census: Census, pids: list[int], ended: int) -> str:
        self.seen.append((sorted(pids), ended))
        return "too many" if len(pids) + ended > self.most else ""

    def condemn(self, reason: str) -> None:
        self.condemned.append(reason)


class Rig:
    """A machine: its process table, and the signals that were sent."""

    def __init__(
        self,
        proc: Path,
        *,
        ends_orphans: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.proc = proc
        self.signals: list[tuple[int, str]] = []
        self.bomb: list[int] = []  # started, one for each round of signals, below the last stopped
        self.watch = UsageWatch(
            "host/h", ends_orphans=ends_orphans, proc=proc, send=self.signal_all, clock=clock
        )
        (proc / "loadavg").write_text("0.1 0.2 0.3 1/100 5\n")

    def run(self, pid: int, parent: int, mark: str = "") -> None:
        """A process appears."""
        folder = self.proc / str(pid)
        folder.mkdir(exist_ok=True)
        rest = " ".join(["0"] * 17)
        (folder / "stat").write_text(f"{pid} (x) S {parent} {rest} 7 0 25 0\n")
        (folder / "environ").write_text(f"A=1\0{MARK}={mark}\0" if mark else "A=1\0")

    def signal_all(self, pids: Iterable[int], number: signal.Signals) -> None:
        for pid in sorted(pids):
            self.signals.append((pid, number.name))
            if number is signal.SIGSTOP and self.bomb:
                self.run(self.bomb.pop(), pid)
            if number is signal.SIGKILL:
                for file in (self.proc / str(pid)).iterdir():
                    file.unlink()
                (self.proc / str(pid)).rmdir()

    def add(self, worker: FakeWorker, *children: int) -> FakeWorker:
        self.run(worker.pid, HOST, worker.mark)
        for child in children:
            self.run(child, worker.pid, worker.mark)
        with self.watch.paused():
            self.watch.add(worker)
        return worker

    @property
    def killed(self) -> list[int]:
        return [pid for pid, name in self.signals if name == "SIGKILL"]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def check(rig: Rig, *, regular: bool = True) -> None:
    rig.watch._check(regular=regular)


def test_a_worker_within_its_limits_is_left_alone(rig: Rig) -> None:
    worker = rig.add(FakeWorker(1001), 1002)
    check(rig)
    assert worker.seen == [([1001, 1002], 0)]
    assert (worker.condemned, rig.signals) == ([], [])


def test_one_that_uses_too_much_is_ended_with_its_tree_and_nobody_else(rig: Rig) -> None:
    bad, good = rig.add(FakeWorker(1001), 1002, 1003, 1004), rig.add(FakeWorker(2001), 2002)
    check(rig)
    assert bad.condemned == ["too many"]
    assert good.condemned == []
    assert rig.killed == [1001, 1002, 1003, 1004]
    stops = [pid for pid, name in rig.signals if name == "SIGSTOP"]
    assert rig.signals[: len(stops)] == [(pid, "SIGSTOP") for pid in stops]
    assert stops == rig.killed, "all are stopped before one is killed"


def test_what_it_starts_while_it_is_being_stopped_is_found_too(rig: Rig) -> None:
    rig.add(FakeWorker(1001), 1002, 1003, 1004)
    rig.bomb = [1010, 1011, 1012]
    check(rig)
    assert rig.killed == [1001, 1002, 1003, 1004, 1010, 1011, 1012]


def test_orphans_are_ended_once_a_second_and_counted_once(rig: Rig) -> None:
    worker = rig.add(FakeWorker(1001))
    rig.run(1500, HOST, worker.mark)
    rig.run(1501, 1500)
    check(rig, regular=False)
    assert rig.killed == []
    assert worker.seen[-1] == ([1001, 1500, 1501], 0), "they count as their worker's"
    check(rig)
    assert rig.killed == [1500, 1501]
    assert rig.watch.orphans_ended == 1
    rig.run(1500, HOST, worker.mark)  # it takes its time to end
    check(rig)
    assert rig.watch.orphans_ended == 1


def test_what_was_ended_meanwhile_counts_against_its_worker_for_a_second(rig: Rig) -> None:
    worker = rig.add(FakeWorker(1001, most=4))
    other = rig.add(FakeWorker(2001, most=1), 2002)
    rig.run(1500, HOST, worker.mark)
    check(rig, regular=False)  # ends the other one, and the orphan on the way
    assert other.condemned
    assert 1500 in rig.killed
    other.alive = False
    check(rig, regular=False)
    assert worker.seen[-1] == ([1001], 1)
    check(rig)
    check(rig)
    assert worker.seen[-1] == ([1001], 0)


def test_without_the_subreaper_nobody_is_taken_for_an_orphan(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path, ends_orphans=False)
    worker = rig.add(FakeWorker(1001))
    rig.run(1500, HOST, worker.mark)
    check(rig)
    assert rig.signals == []


def test_where_all_have_cgroups_only_those_are_looked_at(rig: Rig) -> None:
    cgroup = FakeCgroup(1001, 1002)
    worker = rig.add(FakeWorker(1001, cgroup=cgroup), 1002)
    rig.run(1500, HOST)
    check(rig)
    assert worker.seen == [([1001, 1002], 0)]
    assert rig.signals == []
    cgroup.held = [1001, 1002, 1003, 1004]
    check(rig)
    assert worker.condemned == ["too many"]
    assert cgroup.kills == 1
    assert rig.signals == [], "what is in a cgroup is killed there"


def test_one_without_a_cgroup_has_the_whole_table_looked_at(rig: Rig) -> None:
    rig.add(FakeWorker(1001, cgroup=FakeCgroup(1001)))
    rig.add(FakeWorker(2001), 2002, 2003, 2004)
    check(rig)
    assert rig.killed == [2001, 2002, 2003, 2004]


def test_a_worker_that_has_ended_is_forgotten_but_for_what_it_left(rig: Rig) -> None:
    cgroup = FakeCgroup(1002)
    worker = rig.add(FakeWorker(1001, cgroup=cgroup))
    worker.alive, worker.left_behind = False, 2
    check(rig)
    check(rig)
    assert worker.seen == []
    assert rig.watch.orphans_ended == 2
    assert rig.watch._leaving == [cgroup], "until it holds nothing more"
    cgroup.held = []
    check(rig)
    assert rig.watch._leaving == []


def test_a_census_is_taken_each_second_and_when_many_have_come(
    tmp_path: Path,
) -> None:
    clock = LoopRig().clock
    rig = Rig(tmp_path, clock=clock)
    worker = rig.add(FakeWorker(1001))
    for count, passed, censuses in (
        (100, 0.0, 1),
        (100, 0.1, 1),
        (100 + MANY - 1, 0.1, 1),
        (100 + MANY, 0.1, 2),
        (100 + MANY, 0.1, 2),
        (50, 0.1, 2),
        (50 + MANY, 0.1, 3),
        (50, CENSUS_PERIOD, 4),
    ):
        clock.now += passed
        rig.watch._look(count)
        assert len(worker.seen) == censuses, count


def test_its_thread_looks_and_survives_what_goes_wrong(rig: Rig) -> None:
    worker = rig.add(FakeWorker(1001))
    rig.watch.start()
    assert eventually(lambda: bool(worker.seen))
    assert "host/h/watch" in {thread.name for thread in threading.enumerate()}
    seen = len(worker.seen)
    (rig.proc / "loadavg").write_text("nonsense")
    assert eventually(lambda: len(worker.seen) > seen)
    worker.alive = False
    rig.watch.end()
    assert not rig.watch._thread.is_alive()


def test_at_the_end_all_that_is_left_is_ended(rig: Rig) -> None:
    cgroup = FakeCgroup()
    worker = rig.add(FakeWorker(1001, cgroup=cgroup))
    other = rig.add(FakeWorker(2001))
    rig.run(1500, HOST, worker.mark)
    rig.watch.start()
    worker.alive = other.alive = False
    rig.watch.end()
    assert 1500 in rig.killed
    assert rig.watch._leaving == []


def test_an_orphan_that_has_ended_is_let_go(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    pid = os.posix_spawn("/bin/true", ["true"], {})
    own = os.posix_spawn("/bin/true", ["true"], {})
    with rig.watch.paused():
        rig.watch.add(FakeWorker(own))
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    os.waitid(os.P_PID, own, os.WEXITED | os.WNOWAIT)
    assert PROC.joinpath(str(pid)).exists()
    rig.watch._reap()
    assert PROC.joinpath(str(own)).exists(), "a worker is its handle's to reap"
    os.waitpid(own, 0)
    rig.watch._reap()
    assert not PROC.joinpath(str(pid)).exists()
