"""A pytest plugin for two workers of pytest-xdist: one has the virtual machine's tests, the other
all others.

Each runs its own one by one. `scripts/test` loads it with ``-p tests.beside``.
"""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling


class Beside(LoadScopeScheduling):
    """Tests of one scope run one by one on the same worker."""

    def _split_scope(self, nodeid: str) -> str:
        return "vm" if nodeid.startswith("tests/vm/") else "others"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Beside:
    return Beside(config, log)
