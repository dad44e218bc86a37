"""Which plugin files have changed since the last look."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sat_host.devices.plugin_files import Sources


def write(path: Path, text: str = "pass\n", at: float = 1.0) -> Path:
    path.write_text(text)
    os.utime(path, (at, at))
    return path


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    return write(tmp_path / "drv_x.py")


def test_what_was_there_is_no_change(driver: Path, tmp_path: Path) -> None:
    sources = Sources([tmp_path])
    assert sources.changed() == set()


@pytest.mark.parametrize(("text", "at"), [("pass \n", 1.0), ("pass\n", 2.0)])
def test_a_file_of_another_size_or_time_has_changed_once(
    driver: Path, tmp_path: Path, text: str, at: float
) -> None:
    sources = Sources([tmp_path])
    write(driver, text, at)
    assert sources.changed() == {driver}
    assert sources.changed() == set()


def test_files_that_come_and_go_have_changed(driver: Path, tmp_path: Path) -> None:
    sources = Sources([tmp_path])
    helper = write(tmp_path / "helper.py")
    assert sources.changed() == {helper}
    driver.unlink()
    assert sources.changed() == {driver}


def test_only_python_files_count(driver: Path, tmp_path: Path) -> None:
    sources = Sources([tmp_path])
    write(tmp_path / "notes.txt")
    (tmp_path / "__pycache__").mkdir()
    assert sources.changed() == set()


def test_all_folders_are_looked_at_and_need_not_exist(driver: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    sources = Sources([tmp_path, other])
    assert sources.changed() == set()
    other.mkdir()
    new = write(other / "drv_y.py")
    assert sources.changed() == {new}
