"""Devices whose names lead out of every folder and topic, and some that are no names at all."""

from __future__ import annotations

from typing import Any

from plugins.devices.vicious.sick import SickDriver
from sat_toolkit.models.Device_Model import Device

NAMES = [
    "../../etc/passwd",
    "a/b#+",
    "%2e%2e",
    "$SYS",
    " ",
    "tab\tnewline\n",
    "ü\u202e",
    "\x00",
    "same",
    "same",
]
REFUSED = ["", "x" * 300, "\ud800", None, 7, b"bytes"]


class NamesDriver(SickDriver):
    where = "scan"

    def sick(self) -> Any:
        return [Device(name, str(name), "Ethernet") for name in NAMES + REFUSED]  # type: ignore[arg-type]
