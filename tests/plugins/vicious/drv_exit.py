"""Ends its process without a word."""

from __future__ import annotations

import os
from typing import Any

from plugins.devices.vicious.sick import SickDriver


class ExitDriver(SickDriver):
    def sick(self) -> Any:
        os._exit(self.info.get("status", 0))
