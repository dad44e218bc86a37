"""Notices when the files of a family's plugins change: a driver's own file, a helper module, a new driver."""

from __future__ import annotations

import contextlib
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
        return {path for path in before.keys() | self._stamps.keys() if before.get(path) != self._stamps.get(path)}

    def _look(self) -> dict[Path, Stamp]:
        stamps: dict[Path, Stamp] = {}
        for folder in self._folders:
            for path in folder.glob("*.py"):
                with contextlib.suppress(OSError):
                    stat = path.stat()
                    stamps[path] = (stat.st_mtime_ns, stat.st_size)
        return stamps
