"""Stops its own process."""

from __future__ import annotations

import os
import signal
from typing import Any

from plugins.devices.vicious.sick import SickDriver


class FrozenDriver(SickDriver):
    def sick(self) -> Any:
        os.kill(os.getpid(), signal.SIGSTOP)
