"""What is read of the process table, from a folder that looks like /proc and from the real one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sat_host.containment.census import all_pids, exceeds_memory, start_time, take_census, tasks

PAGES = 25


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """1 has the children 2 and 3, of which 3 has 4; 5 has just ended."""
    for pid, parent, name in ((1, 0, "init"), (2, 1, "a) S 99 (b"), (3, 1, "sh"), (4, 3, "x y")):
        (tmp_path / str(pid)).mkdir()
        rest = " ".join(["0"] * 17)
        (tmp_path / str(pid) / "stat").write_text(
            f"{pid} ({name}) S {parent} {rest} 777 0 {PAGES} 0\n"
        )
    (tmp_path / "5").mkdir()
    (tmp_path / "meminfo").touch()
    return tmp_path


def test_all_below_a_process_are_found_whatever_their_names(proc: Path) -> None:
    census = take_census(all_pids(proc), proc)
    assert sorted(census.below(1)) == [1, 2, 3, 4]
    assert census.below(3) == [3, 4]
    assert census.resident_kb[2] == PAGES * os.sysconf("SC_PAGE_SIZE") // 1024


def test_only_those_that_were_asked_for_are_looked_at(proc: Path) -> None:
    assert take_census([3, 5, 6], proc).children == {1: [3]}


def test_memory_counts_once_for_all_that_share_it(proc: Path) -> None:
    own = os.getpid()
    census = take_census([own])
    resident = census.resident_kb[own]
    assert not exceeds_memory(census, [own], resident)
    assert exceeds_memory(census, [own], 1024)
    assert not exceeds_memory(census, [], 0)
    # Pages that are counted for each of four would be too much; what they really take is not.
    assert not exceeds_memory(take_census(all_pids(proc), proc), [1, 2, 3, 4], PAGES)


def test_a_process_started_once(proc: Path) -> None:
    assert start_time(os.getpid()) == start_time(os.getpid()) > 0
    assert start_time(2**22 + 1) == 0


@pytest.mark.parametrize(
    ("text", "count"), [("0.1 0.2 0.3 2/345 6789\n", 345), ("", 0), ("0.1 0.2 0.3 x y", 0)]
)
def test_the_tasks_of_the_machine_are_counted_where_it_tells(
    tmp_path: Path, text: str, count: int
) -> None:
    (tmp_path / "loadavg").write_text(text)
    with open(tmp_path / "loadavg", "rb") as file:
        assert tasks(file.fileno()) == count
