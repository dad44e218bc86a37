"""How far a run of the tests is: in work, in few lines, and never with nonsense about the time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.progress import Progress, spoken, weight

ROOT = Path(__file__).resolve().parents[2]
SLOW, QUICK = "tests/e2e/test_x.py::test_x", "tests/unit/test_x.py::test_x"


def test_a_slow_test_is_more_of_the_work_than_a_quick_one() -> None:
    progress = Progress([SLOW, *[QUICK] * 3], 100.0)
    progress.finished(SLOW)
    assert progress.share > 0.9
    for _ in range(3):
        progress.finished(QUICK)
    assert progress.share == 1.0
    assert progress.line(165.4) == "[100% 4/4] 1:05"


def test_what_is_left_is_told_once_there_is_something_to_go_by() -> None:
    progress = Progress([QUICK] * 100, 0.0)
    assert progress.line(1.0) == "[  0% 0/100] 0:01"
    for _ in range(50):
        progress.finished(QUICK)
    assert progress.line(120.0) == "[ 50% 50/100] 2:00, about 2 min left"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "less than a minute"),
        (59, "less than a minute"),
        (61, "about 1 min"),
        (170, "about 3 min"),
    ],
)
def test_the_time_is_said_as_a_person_would(seconds: float, words: str) -> None:
    assert spoken(seconds) == f"{words} left"


def test_each_tenth_is_told_once() -> None:
    progress = Progress([QUICK] * 1000, 0.0)
    told = 0
    for _ in range(1000):
        progress.finished(QUICK)
        told += progress.tenth()
    assert told == 10


def test_a_run_of_nothing_is_over() -> None:
    assert Progress([], 0.0).line(0.0) == "[100% 0/0] 0:00"


def test_every_tier_has_a_weight() -> None:
    tiers = {path.parent for path in (ROOT / "tests").glob("*/**/test_*.py")}
    named = {path.relative_to(ROOT / "tests").parts[0] for path in tiers}
    quick = {"unit", "deploy"}
    assert {tier for tier in named if weight(f"tests/{tier}/test_x.py") == weight(QUICK)} == quick


def test_in_a_log_it_is_a_few_lines_and_a_failure_at_once(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_it.py").write_text(
        "import pytest\n@pytest.mark.parametrize('n', range(40))\ndef test_it(n):\n    assert n != 3\n"
    )
    argv = [sys.executable, "-m", "pytest", "-n", "2", "-p", "tests.progress", "-p", "no:cacheprovider",
            "-o", "console_output_style=classic"]  # fmt: skip
    said = subprocess.run(
        argv, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60
    ).stdout  # fmt: skip
    before, _, after = said.partition("= FAILURES =")
    lines = before.splitlines()
    assert "FAILED test_it.py::test_it[3]" in lines
    assert len([line for line in lines if line.startswith("[")]) == 10
    assert "[100% 40/40]" in before
    assert "FAILED test_it.py::test_it[3] - assert 3 != 3" in after
