"""Closes every descriptor that is open."""

from __future__ import annotations

import os
from typing import Any

from plugins.devices.vicious.sick import SickDriver


class ClosedFdsDriver(SickDriver):
    def sick(self) -> Any:
        os.closerange(0, 4096)
