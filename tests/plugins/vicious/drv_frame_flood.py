"""Broadcasts as fast as it can, on two streams of its own making."""

from __future__ import annotations

from typing import Any

from plugins.devices.vicious.sick import SickDriver


class FrameFloodDriver(SickDriver):
    def sick(self) -> Any:
        count = 0
        while self.is_acquiring.is_set():
            self.send({"count": count, "text": "x" * 100})
            count += 1
