"""A C call that sleeps for an hour and keeps the GIL."""

from __future__ import annotations

import ctypes
from typing import Any

from plugins.devices.vicious.sick import SickDriver


class GilSleepDriver(SickDriver):
    where = "command"

    def sick(self) -> Any:
        return ctypes.PyDLL(None).sleep(3600)
