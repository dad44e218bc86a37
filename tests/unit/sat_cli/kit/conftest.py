"""A driver as `sat plugin new` writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sat_cli.kit.new import new_plugin


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    """A driver as `sat plugin new` writes it."""
    return new_plugin("probe", None, tmp_path)[0]
