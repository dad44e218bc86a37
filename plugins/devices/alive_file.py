"""The sign of life of a simulator that runs as a service of its own: a file that its loop keeps
young."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

_PERIOD_S: Final = 1.0


class AliveFile:
    """Written at `beat`, at most once a second; None: there is no file."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._due = 0.0

    def beat(self) -> None:
        """The loop turns. Raises OSError when the file cannot be written."""
        if self._path is not None and time.monotonic() >= self._due:
            self._path.write_text("simulating\n")
            self._due = time.monotonic() + _PERIOD_S


NO_FILE: Final = AliveFile(None)
