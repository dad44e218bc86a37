"""Real cgroups, where the tests may make some; and a folder that looks like version 2 where there
is only version 1."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE

import pytest

from sat_host.containment.census import start_time
from sat_host.containment.cgroup import THREADS, Cgroups

DEADLINE = 10.0
BOMB = """
import os, time
first = os.getpid()
input()
try:
    while True:
        if os.fork() == 0:
            os.setsid()
            if os.fork():
                os._exit(0)
            time.sleep(3600)
except BlockingIOError:
    if os.getpid() == first:
        print("refused", flush=True)
    time.sleep(3600)
"""
LEAVER = """
import os, subprocess, time
from sat_host.containment.cgroup import Cgroups
cgroups = Cgroups.find()
sleeper = subprocess.Popen(["sleep", "3600"], start_new_session=True)
cgroups.make(8).add(sleeper.pid)
print(sleeper.pid, cgroups.folder, flush=True)
time.sleep(3600)
"""


@pytest.fixture
def cgroups() -> Iterator[Cgroups]:
    try:
        found = Cgroups.find()
    except OSError as error:
        pytest.skip(f"no cgroups to be had: {error}")
    yield found
    found.close()
    assert not found.folder.exists()


@pytest.fixture
def run() -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Runs Python, which is killed at last."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str) -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen([sys.executable, "-c", code], stdin=PIPE, stdout=PIPE, text=True)
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=DEADLINE)


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + DEADLINE
    while not (holds := condition()) and time.monotonic() < deadline:
        os.sched_yield()
    return holds


def test_the_kernel_refuses_what_is_too_many_and_all_of_it_is_killed(
    run: Callable[[str], subprocess.Popen[str]], cgroups: Cgroups
) -> None:
    cgroup = cgroups.make(2)
    bomb = run(BOMB)
    assert bomb.stdin is not None
    assert bomb.stdout is not None
    cgroup.add(bomb.pid)
    assert not cgroup.refused()
    print("go", file=bomb.stdin, flush=True)
    assert bomb.stdout.readline() == "refused\n"
    assert cgroup.refused()
    assert THREADS // 2 < len(cgroup.pids()) <= cgroup.ceiling == 2 + THREADS
    assert cgroup.kill() > THREADS // 2
    assert bomb.wait(DEADLINE) == -signal.SIGKILL
    assert eventually(lambda: not cgroup.pids())
    assert eventually(cgroup.remove)


def test_what_a_killed_host_leaves_is_removed_by_the_next(
    run: Callable[[str], subprocess.Popen[str]], cgroups: Cgroups
) -> None:
    """And what a living one has is left alone."""
    killed, living = run(LEAVER), run(LEAVER)
    assert killed.stdout is not None
    assert living.stdout is not None
    (left, folder), (kept, other) = (
        killed.stdout.readline().split(),
        living.stdout.readline().split(),
    )
    killed.kill()
    killed.wait(DEADLINE)
    try:
        Cgroups.find().close()
        assert not Path(folder).exists()
        assert eventually(
            lambda: (
                not Path(f"/proc/{left}").exists() or "Z" in Path(f"/proc/{left}/stat").read_text()
            )
        )
        assert Path(other).exists()
        assert start_time(int(kept))
    finally:
        living.kill()
        living.wait(DEADLINE)
        Cgroups.find().close()
        assert not Path(other).exists()


def test_without_cgroups_the_reason_is_said(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="this process is not in"):
        Cgroups.find(tmp_path)


@pytest.fixture
def unified(tmp_path: Path) -> Path:
    """What a process sees where there is version 2: its /proc and the root of the cgroups."""
    (tmp_path / "self").mkdir()
    own = tmp_path / "root" / "unit"
    own.mkdir(parents=True)
    for folder in (own.parent, own):
        (folder / "cgroup.procs").write_text(f"{os.getpid()}\n")
        (folder / "cgroup.subtree_control").write_text("")
    return tmp_path


def test_a_unit_of_version_2_that_is_not_delegated_is_left_alone(unified: Path) -> None:
    (unified / "self" / "cgroup").write_text("0::/unit\n")
    with pytest.raises(PermissionError, match="unit is not delegated"):
        Cgroups.find(unified / "root", unified)
    assert len(list((unified / "root" / "unit").iterdir())) == 2


def test_in_version_2_the_host_makes_room_for_its_workers(unified: Path) -> None:
    """It goes into a cgroup of its own, since one that has processes itself cannot hand the
    controller on."""
    (unified / "self" / "cgroup").write_text("0::/\n")
    cgroups = Cgroups.find(unified / "root", unified)
    assert (cgroups.folder / "host" / "cgroup.procs").read_text() == str(os.getpid())
    for folder in (cgroups.folder, cgroups.folder.parent):
        assert (
            folder / "cgroup.subtree_control"
        ).read_text() == "+cpu"  # the last word; "+pids" came before


@pytest.mark.parametrize("word", [b"1", b"0"])
def test_a_unit_of_version_2_says_itself_whether_it_is_delegated(
    unified: Path, word: bytes
) -> None:
    unit = unified / "root" / "unit"
    (unified / "self" / "cgroup").write_text("0::/unit\n")
    try:
        os.setxattr(unit, "user.delegate", word)
    except OSError as error:
        pytest.skip(f"no extended attributes here: {error}")
    if word == b"0":
        with pytest.raises(PermissionError, match="unit is not delegated"):
            Cgroups.find(unified / "root", unified)
    else:
        assert Cgroups.find(unified / "root", unified).folder.parent == unit
