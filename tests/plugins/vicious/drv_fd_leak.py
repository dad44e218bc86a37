"""Opens files and closes none."""

from __future__ import annotations

import os
from typing import Any

from plugins.devices.vicious.sick import SickDriver


class FdLeakDriver(SickDriver):
    def sick(self) -> Any:
        while True:
            os.open(os.devnull, os.O_RDONLY)
