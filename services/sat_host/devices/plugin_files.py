"""Notices when the files of a family's plugins change: a driver's own file, a helper module, a new
driver."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

Stamp = tuple[int, int]


class Sources:
    """The Python files beside some drivers, as they were at the last look."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._folders = tuple(folders)
        self._stamps = self._look()

    def changed(self) -> set[Path]:
        """The files that came, went or changed since the last call."""
        before, self._stamps = self._stamps, self._look()
        if before == self._stamps:
            return set()
        paths = before.keys() | self._stamps.keys()
        return {Path(path) for path in paths if before.get(path) != self._stamps.get(path)}

    def _look(self) -> dict[str, Stamp]:
        stamps: dict[str, Stamp] = {}
        for folder in self._folders:
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.endswith(".py"):
                        with contextlib.suppress(OSError):
                            stat = os.stat(entry.path)
                            stamps[entry.path] = (stat.st_mtime_ns, stat.st_size)
        return stamps
