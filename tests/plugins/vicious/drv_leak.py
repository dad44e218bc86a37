"""Takes memory, fast, and never gives any back."""

from __future__ import annotations

import time
from typing import Any

from plugins.devices.vicious.sick import SickDriver

CHUNK = 8 * 1_048_576


class LeakDriver(SickDriver):
    def sick(self) -> Any:
        kept = []
        while True:
            kept.append(bytearray(b"x") * CHUNK)
            time.sleep(0.01)
