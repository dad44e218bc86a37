"""The sign of life of a simulator: written by the loop that turns, and not at every turn."""

from __future__ import annotations

from pathlib import Path

import pytest

from plugins.devices.alive_file import NO_FILE, AliveFile


def test_the_first_beat_writes_it_and_the_next_ones_do_not(tmp_path: Path) -> None:
    path = tmp_path / "alive"
    alive = AliveFile(path)
    alive.beat()
    assert path.read_text() == "simulating\n"
    path.unlink()
    alive.beat()
    assert not path.exists()


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        AliveFile(tmp_path / "nowhere" / "alive").beat()


def test_without_a_file_a_beat_does_nothing() -> None:
    NO_FILE.beat()
