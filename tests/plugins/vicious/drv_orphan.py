"""Leaves a child behind that has left the session and holds every descriptor of the worker, then ends."""

from __future__ import annotations

import os
import time
from typing import Any

from plugins.devices.vicious.sick import SickDriver


class OrphanDriver(SickDriver):
    def sick(self) -> Any:
        if os.fork() == 0:
            os.setsid()
            time.sleep(3600)
            os._exit(0)
        os._exit(0)
