"""Reads through a null pointer."""

from __future__ import annotations

import ctypes
from typing import Any

from plugins.devices.vicious.sick import SickDriver


class SegvDriver(SickDriver):
    def sick(self) -> Any:
        return ctypes.string_at(0)
