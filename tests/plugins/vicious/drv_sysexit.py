"""Calls `sys.exit()` as if it were a program."""

from __future__ import annotations

import sys
from typing import Any

from plugins.devices.vicious.sick import SickDriver


class SysExitDriver(SickDriver):
    where = "command"

    def sick(self) -> Any:
        sys.exit("that was all")
