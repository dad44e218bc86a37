"""Children that have children of their own. `info`: ``escape`` has each leave the session and its parent.

BOUND protects the machine that runs the tests where nothing else does.
"""

from __future__ import annotations

import os
import time
from typing import Any

from plugins.devices.vicious.sick import SickDriver

BOUND = 200


class ForkBombDriver(SickDriver):
    def sick(self) -> Any:
        permits, write_end = os.pipe()
        os.write(write_end, b"x" * BOUND)
        os.set_blocking(permits, False)
        try:
            while os.read(permits, 1):
                if os.fork() == 0 and self.info.get("escape"):
                    os.setsid()
                    if os.fork():
                        os._exit(0)
                time.sleep(0.02)
        except BlockingIOError:
            time.sleep(3600)
