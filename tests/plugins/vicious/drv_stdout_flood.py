"""Prints as fast as it can."""

from __future__ import annotations

import os
from typing import Any

from plugins.devices.vicious.sick import SickDriver


class StdoutFloodDriver(SickDriver):
    def sick(self) -> Any:
        while self.is_acquiring.is_set():
            os.write(1, b"all is well " * 5_000 + b"\n" * 500)
