"""A regular expression that never ends, which holds the GIL and a processor."""

from __future__ import annotations

import re
from typing import Any

from plugins.devices.vicious.sick import SickDriver


class GilHogDriver(SickDriver):
    def sick(self) -> Any:
        return re.match(r"(a|aa)+$", "a" * 500 + "b")
