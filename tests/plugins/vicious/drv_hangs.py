"""Takes its time: `info`: ``seconds``, default an hour."""

from __future__ import annotations

import time
from typing import Any

from plugins.devices.vicious.sick import SickDriver


class HangsDriver(SickDriver):
    def _at(self, hook: str, healthy: Any) -> Any:
        super()._at(hook, None)
        return healthy

    def sick(self) -> Any:
        time.sleep(self.info.get("seconds", 3600))
