"""One project in containers for the tests of this folder; without an engine they are skipped, and
say so."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose.stack import Stack

FOLDER = Path(__file__).parent
HELP = "`scripts/docker run -- ...` brings an engine on Debian"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """They look from outside with Mosquitto's clients, and take the time that containers take to
    come up."""
    for item in items:
        if item.path.parent == FOLDER:
            item.add_marker(pytest.mark.mosquitto)
            item.add_marker(pytest.mark.timeout(240))


@pytest.fixture(scope="session")
def engine() -> None:
    """Skips what needs an engine where no engine runs."""
    for argv in (["docker", "version"], ["docker", "compose", "version"]):
        if shutil.which(argv[0]) is None:
            pytest.skip(f"there is no docker here; {HELP}")
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
        if done.returncode:
            pytest.skip(f"{' '.join(argv)}: {done.stderr.strip()}; {HELP}")


@pytest.fixture(scope="session")
def stack(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The project as it ships; tests leave it as they found it."""
    with Stack(tmp_path_factory.mktemp("stack")) as running:
        yield running
