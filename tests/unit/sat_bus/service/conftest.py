"""No setting from outside, and a settings file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SAT_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "sat.toml"
    path.write_text(
        '[bus]\nsite = "file"\n[host]\nlog_level = "debug"\ncount = 7\n[drivers.drv_x]\nport = "/dev/a"\n'
    )
    return path
