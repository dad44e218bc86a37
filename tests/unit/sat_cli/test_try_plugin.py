"""One plugin, loaded: its commands, or in one line why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from sat_cli.kit.new import new_plugin
from sat_cli.try_plugin import main


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    return new_plugin("tried", "lab", tmp_path)[0]


def test_a_plugin_that_loads_prints_its_commands(
    driver: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("drv_tried", "lab", str(driver)) == 0
    assert {"start", "stop", "status"} <= set(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("import time\n", "import time\nimport no_such_library\n", "no_such_library"),
        ("super().__init__(info)", "raise OSError('no key')", "its constructor raises OSError: no key"),
        ("class TriedDriver(", "class TriedDriver((", "drv_tried.py"),
    ],
)  # fmt: skip
def test_a_plugin_that_does_not_load_says_why_in_a_line(
    driver: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, says: str
) -> None:
    driver.write_text(driver.read_text().replace(old, new, 1))
    assert main("drv_tried", "lab", str(driver)) == 1
    out = capsys.readouterr().out
    assert says in out
    assert out.count("\n") == 1
