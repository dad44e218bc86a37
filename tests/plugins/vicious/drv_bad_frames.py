"""Broadcasts what is no frame."""

from __future__ import annotations

import time
from typing import Any

from plugins.devices.vicious.sick import SickDriver


class Bad:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class BadFramesDriver(SickDriver):
    def sick(self) -> Any:
        recursive: list[Any] = []
        recursive.append(recursive)
        now = time.time()
        frames = [
            (Bad(), now),
            (recursive, now),
            ("x" * 1_000_000, now),
            (float("nan"), now),
            ({Bad(): Bad()}, now),
        ]
        frames += [
            ("stamp", stamp) for stamp in (float("nan"), float("inf"), "now", Bad(), 10**400, [])
        ]
        while self.is_acquiring.is_set():
            for data, stamp in frames:
                self.send(data, stamp)
            time.sleep(0.1)
