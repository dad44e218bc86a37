"""Starts threads that never end, some of which Python waits for at its end."""

from __future__ import annotations

import threading
from typing import Any

from plugins.devices.vicious.sick import SickDriver


class ThreadsDriver(SickDriver):
    where = "connect"

    def sick(self) -> Any:
        for number in range(20):
            threading.Thread(target=threading.Event().wait, daemon=bool(number % 2)).start()
        return True
