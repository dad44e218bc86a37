"""The test class, as the pytest of an author runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sat_toolkit.testing import RULES


def pytest_in(folder: Path, *words: str) -> str:
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", *words]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=60)
    return done.stdout


def test_a_faulty_driver_fails_in_the_test_of_that_rule(driver: Path) -> None:
    driver.write_text(
        driver.read_text().replace("timestamp=time.time()", "timestamp=time.monotonic()")
    )
    said = pytest_in(driver.parent)
    assert "1 failed" in said
    assert "test_conforms[frames-say-what-they-are]" in said
    assert "is not of today" in said


def test_a_rule_that_does_not_apply_may_be_left_out_by_name(driver: Path) -> None:
    driver.write_text(
        driver.read_text().replace("timestamp=time.time()", "timestamp=time.monotonic()")
    )
    test = driver.with_name("test_drv_benched.py")
    exempt = 'exempt = {"frames say what they are": "its clock starts with the device"}\n'
    test.write_text(test.read_text().replace("    driver = ", f"    {exempt}    driver = "))
    assert f"{len(RULES) - 1 + 3} passed" in pytest_in(driver.parent)


def test_a_rule_that_is_not_there_cannot_be_left_out(driver: Path) -> None:
    test = driver.with_name("test_drv_benched.py")
    test.write_text(
        test.read_text().replace(
            "    driver = ", '    exempt = {"no such rule": "x"}\n    driver = '
        )
    )
    assert "exempt names no rule: no such rule" in pytest_in(driver.parent)
