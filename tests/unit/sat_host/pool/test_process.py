"""A worker process, with a shell script in the place of Python: how it ends, and what that is called."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from sat_host.containment.census import MARK, Census
from sat_host.containment.cgroup import Cgroup
from sat_host.pool import process
from sat_host.pool.multiplexer import Multiplexer
from sat_host.pool.process import LINES_PER_SECOND, MAX_LINE, WorkerProcess, explain_exit
from tests.unit.sat_host.fakes import CONFIGURE, FakeOwner, LoopRig
from tests.waiting import eventually

DEADLINE = 10.0


class FakeCgroup(Cgroup):
    """Holds what it is told to hold."""

    def __init__(self, held: list[int] | None = None, refuses: OSError | None = None) -> None:
        self.ceiling = 136
        self.held = held or []
        self.refuses = refuses
        self.is_full = False
        self.added: list[int] = []
        self.kills = 0
        self.removed = False

    def add(self, pid: int) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.added.append(pid)

    def pids(self) -> list[int]:
        return self.held

    def refused(self) -> bool:
        return self.is_full

    def kill(self) -> int:
        self.kills += 1
        return len(self.held)

    def remove(self) -> bool:
        self.removed = True
        return True


class Rig:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._program = folder / "worker"
        monkeypatch.setattr(sys, "executable", str(self._program))
        self.time = LoopRig()
        self.loop = self.time.loop
        self.multiplexer = Multiplexer("test")
        self.multiplexer.start()
        self.owner = FakeOwner()
        self.workers: list[WorkerProcess] = []

    def start(self, script: str, cgroup: Cgroup | None = None) -> WorkerProcess:
        self._program.write_text(f'#!/bin/bash\nFD="${{@: -2:1}}"\n{script}\n')
        self._program.chmod(0o755)
        self.workers.append(
            WorkerProcess("drv/d", CONFIGURE, self.loop, self.multiplexer, self.owner, cgroup)
        )
        return self.workers[-1]

    def ended(self, worker: WorkerProcess) -> str:
        """What its owner hears of its end."""
        assert eventually(lambda: self._has_ended(worker))
        return self.owner.exits[-1]

    def _has_ended(self, worker: WorkerProcess) -> bool:
        self.time.pass_time(0.005)  # the reaping is a timer
        return not worker.alive


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    made = Rig(tmp_path, monkeypatch)
    yield made
    for worker in made.workers:
        worker.kill()
        worker.wait(DEADLINE)
    made.multiplexer.stop()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 3", "worker died: exit status 3"),
        ("kill -SEGV $$", "worker died: signal SIGSEGV"),
    ],
)
def test_an_end_of_its_own_is_explained(rig: Rig, script: str, reason: str) -> None:
    assert rig.ended(rig.start(script)) == reason


def test_a_kill_has_the_first_reason_given(rig: Rig) -> None:
    worker = rig.start("exec sleep 100")
    worker.kill()
    worker.kill("too slow")
    worker.kill("later")
    assert rig.ended(worker) == "too slow"
    assert worker._process.returncode == -signal.SIGKILL
    worker.kill("too late")
    assert rig.owner.exits == ["too slow"]


def test_a_kill_takes_all_that_it_started_with_it(rig: Rig, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    worker = rig.start(f"setsid sleep 100 & echo $! > {note}; sleep 100")
    assert eventually(lambda: note.exists() and bool(note.read_text().strip()))
    child = int(note.read_text())
    worker.kill()
    rig.ended(worker)
    assert eventually(lambda: not _runs(child))


def test_one_that_closes_its_socket_and_goes_on_is_killed(rig: Rig) -> None:
    worker = rig.start('eval "exec $FD>&-"; exec sleep 100')
    assert rig.ended(worker) == "worker closed its connection"


def test_one_that_talks_nonsense_is_killed_for_it(rig: Rig) -> None:
    worker = rig.start('head -c 32 /dev/zero >&"$FD"; exec sleep 100')
    assert rig.ended(worker).startswith("worker sent what is no message: bad prefix")


def test_one_that_ends_and_leaves_its_socket_open_is_noticed(rig: Rig) -> None:
    worker = rig.start("sleep 100 & exit 4")
    assert eventually(worker._has_ended)
    rig.time.pass_time(1.0)
    assert rig.ended(worker) == "worker died: exit status 4"


def test_it_is_a_session_of_its_own_and_carries_its_mark(rig: Rig) -> None:
    worker = rig.start("exec sleep 100")
    environ = Path(f"/proc/{worker.pid}/environ")
    assert eventually(lambda: f"{MARK}={worker.mark}".encode() in environ.read_bytes())
    assert os.getsid(worker.pid) == worker.pid


def test_without_a_process_nothing_is_left(rig: Rig, tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    cgroup = FakeCgroup()
    with pytest.raises(OSError, match="worker"):
        WorkerProcess("drv/d", CONFIGURE, rig.loop, rig.multiplexer, rig.owner, cgroup)
    assert cgroup.removed
    assert len(os.listdir("/proc/self/fd")) == before


def test_it_enters_its_cgroup_and_is_killed_by_way_of_it(rig: Rig) -> None:
    cgroup = FakeCgroup(held=[1, 2])
    worker = rig.start("exec sleep 100", cgroup)
    assert cgroup.added == [worker.pid]
    worker.kill("enough")
    assert cgroup.kills == 1
    rig.ended(worker)
    assert worker.left_behind == 0, "what was killed with it was not left behind"


def test_what_it_leaves_in_its_cgroup_is_killed_and_counted(rig: Rig) -> None:
    cgroup = FakeCgroup(held=[1, 2])
    worker = rig.start("exit 0", cgroup)
    assert rig.ended(worker) == "worker died: exit status 0"
    assert (worker.left_behind, cgroup.kills) == (2, 1)


@pytest.mark.parametrize("refusal", [PermissionError("no"), ProcessLookupError()])
def test_a_cgroup_that_refuses_it_is_done_without(rig: Rig, refusal: OSError) -> None:
    cgroup = FakeCgroup(refuses=refusal)
    with capture_logs() as logs:
        worker = rig.start("exec sleep 100", cgroup)
    gone = isinstance(refusal, ProcessLookupError)
    assert (worker.cgroup is cgroup) == gone
    assert cgroup.removed == (not gone)
    assert bool(logs) == (not gone)


def census(pids: list[int], kb: int = 0) -> Census:
    return Census({}, dict.fromkeys(pids, kb))


def test_its_limits_are_of_processes_and_memory(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = rig.start("exec sleep 100")
    eight = list(range(8))
    assert worker.excess(census(eight), eight, 0) == ""
    assert worker.excess(census(eight), eight, 1) == "process limit of 8 exceeded"
    assert worker.excess(census([*eight, 8]), [*eight, 8], 0) == "process limit of 8 exceeded"
    own = [os.getpid()]
    assert worker.excess(census(own, 65_537), own, 0) in ("", "memory limit of 64 MiB exceeded")


def test_one_whose_cgroup_was_full_is_over_its_limit(rig: Rig) -> None:
    cgroup = FakeCgroup(held=[1])
    worker = rig.start("exec sleep 100", cgroup)
    assert worker.excess(census([1]), [1], 0) == ""
    cgroup.is_full = True
    assert worker.excess(census([1]), [1], 0) == "limit of 136 processes and threads exceeded"
    cgroup.held = list(range(9))
    assert worker.excess(census([1]), [1], 0) == "process limit of 8 exceeded"


def test_one_that_is_condemned_is_killed_by_the_loop(rig: Rig) -> None:
    worker = rig.start("exec sleep 100")
    worker.condemn("too much")
    assert worker._kill_reason == ""
    assert rig.ended(worker) == "too much"


def logged(
    feed: Callable[[process._OutputLog], None], clock: Callable[[], float] = time.monotonic
) -> list[Any]:
    output = process._OutputLog("drv/d", clock)
    with capture_logs() as logs:
        feed(output)
        output.on_closed("")
    return [entry.get("line", entry) for entry in logs]


def test_what_it_prints_is_logged_in_whole_lines() -> None:
    def feed(output: process._OutputLog) -> None:
        for part in (b"one\nt", b"wo\n\n", b"\xff three  \nrest"):
            output.on_bytes(part)

    assert logged(feed) == ["one", "two", "\ufffd three"]


def test_lines_are_cut_and_so_is_what_has_no_end() -> None:
    def feed(output: process._OutputLog) -> None:
        output.on_bytes(b"x" * (MAX_LINE + 5) + b"\n")
        output.on_bytes(b"y" * (3 * MAX_LINE))
        assert len(output._rest) == MAX_LINE

    assert logged(feed) == ["x" * MAX_LINE]


def test_a_flood_of_lines_is_capped_and_counted() -> None:
    clock = LoopRig().clock

    def feed(output: process._OutputLog) -> None:
        output.on_bytes(b"x\n" * (LINES_PER_SECOND + 7))
        clock.now += 1.0
        output.on_bytes(b"y\n")

    lines = logged(feed, clock)
    assert lines[:LINES_PER_SECOND] == ["x"] * LINES_PER_SECOND
    cut, last = lines[LINES_PER_SECOND:]
    assert (cut["event"], cut["lines"], last) == ("output cut", 7, "y")


@pytest.mark.parametrize(
    ("status", "text"),
    [(0, "exit status 0"), (3, "exit status 3"), (-9, "signal SIGKILL"), (-99, "signal 99")],
)
def test_an_exit_in_words(status: int, text: str) -> None:
    assert explain_exit(status) == text


def _runs(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
