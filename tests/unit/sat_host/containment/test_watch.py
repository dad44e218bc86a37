"""The watch: a worker that uses too much is ended with all it started, and nobody else is."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from sat_host.containment.census import Census
from sat_host.containment.watch import UsageWatch
from tests.waiting import Inbox, eventually

DEADLINE = 10.0
FAMILY = "sleep 60 & sleep 60 & echo ready; wait"


class Worker:
    """A worker that is a shell with two children, and uses too much once `too_much` is said."""

    cgroup = None
    left_behind = 0

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self.too_much = ""
        self.condemned: Inbox[str] = Inbox()
        self.trees: list[list[int]] = []
        self.process = subprocess.Popen(["sh", "-c", FAMILY], stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def excess(self, census: Census, tree: list[int], ended: int) -> str:
        self.trees.append(tree)
        return self.too_much

    def condemn(self, reason: str) -> None:
        self.condemned(reason)

    def close(self) -> None:
        for pid in _children(self.pid):
            os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.communicate(timeout=DEADLINE)


def _children(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as children:
            return [int(word) for word in children.read().split()]
    except OSError:
        return []


@pytest.fixture
def workers() -> Iterator[list[Worker]]:
    made = [Worker("one"), Worker("two")]
    yield made
    for worker in made:
        worker.close()


@pytest.fixture
def watch(workers: list[Worker]) -> Iterator[UsageWatch]:
    made = UsageWatch("test", ends_orphans=False)
    for worker in workers:
        made.spawn(lambda worker=worker: worker)
    made.start()
    yield made
    made.end()


def test_a_worker_is_seen_with_all_that_it_started(
    watch: UsageWatch, workers: list[Worker]
) -> None:
    one = workers[0]
    assert eventually(lambda: bool(one.trees))
    assert sorted(one.trees[0]) == sorted([one.pid, *_children(one.pid)])
    assert len(one.trees[0]) == 3


def test_what_uses_too_much_is_ended_with_all_it_started_and_nobody_else(
    watch: UsageWatch, workers: list[Worker]
) -> None:
    one, two = workers
    children = _children(one.pid)
    one.too_much = "process limit of 2 exceeded"
    assert one.condemned.wait() == ["process limit of 2 exceeded"]
    assert eventually(lambda: not one.alive)
    assert eventually(lambda: all(_is_over(pid) for pid in children))
    assert two.alive
    assert two.condemned.items == []


def _is_over(pid: int) -> bool:
    """Whether a process has ended, also where nobody has reaped it yet."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
