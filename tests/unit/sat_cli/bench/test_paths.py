"""Where the files of a bench go."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from sat_cli.bench.paths import make_runtime_dir, state_dir


def test_two_benches_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert state_dir(1883) == tmp_path / "sat" / "port-1883"
    assert not state_dir(1883).exists()
    one, two = make_runtime_dir(1883), make_runtime_dir(1883)
    assert one != two
    assert one.parent == tmp_path
    assert stat.S_IMODE(one.stat().st_mode) == 0o700


@pytest.mark.parametrize("base", [None, "", "relative/folder"])
def test_without_a_folder_for_state_it_is_the_homes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str | None
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    if base is not None:
        monkeypatch.setenv("XDG_STATE_HOME", base)
    assert state_dir(1) == tmp_path / ".local" / "state" / "sat" / "port-1"


@pytest.mark.parametrize("base", [None, "/nowhere/at/all"])
def test_without_a_usable_runtime_folder_it_is_a_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str | None
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    if base is not None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", base)
    assert make_runtime_dir(1).parent == tmp_path
