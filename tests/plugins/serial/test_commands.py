"""What the serial driver's commands take, as their schemas say it before the driver is asked."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.devices.serial.commands import EXPECT_MAX_MS, MAX_WRITE
from plugins.devices.serial.drv_serial import SerialDriver
from sat_toolkit.core.commands import check_args, declared
from sat_toolkit.errors import BadArgs


def check(command: str, args: dict[str, Any]) -> None:
    check_args(declared(SerialDriver)[command], args)


@pytest.mark.parametrize(
    ("command", "args"),
    [
        ("start", {}),
        ("start", {"framing": "raw"}),
        ("start", {"framing": "lines", "max_length": 1, "idle_ms": 60_000}),
        ("write", {"text": "x" * MAX_WRITE}),
        ("write", {"hex": "DE ad", "newline": "crlf"}),
        ("expect", {"text": "ready", "timeout_ms": EXPECT_MAX_MS}),
        ("expect", {"pattern": "v([0-9]+)", "send": "version", "newline": "lf"}),
        ("settings", {"baud_rate": 115_200, "parity": "E", "stopbits": 1.5, "dtr": False}),
        ("send_break", {}),
    ],
)
def test_what_is_taken(command: str, args: dict[str, Any]) -> None:
    check(command, args)


@pytest.mark.parametrize(
    ("command", "args"),
    [
        ("start", {"framing": "words"}),
        ("start", {"max_length": 0}),
        ("write", {}),
        ("write", {"text": "a", "hex": "61"}),
        ("write", {"text": "x" * (MAX_WRITE + 1)}),
        ("write", {"hex": "DE a"}),
        ("expect", {}),
        ("expect", {"text": "a", "pattern": "b"}),
        ("expect", {"text": ""}),
        ("expect", {"text": "a", "newline": "lf"}),
        ("expect", {"text": "a", "timeout_ms": EXPECT_MAX_MS + 1}),
        ("settings", {"parity": "X"}),
        ("settings", {"cts": True}),
        ("send_break", {"duration_ms": 5_001}),
    ],
)
def test_what_is_refused(command: str, args: dict[str, Any]) -> None:
    with pytest.raises(BadArgs):
        check(command, args)
