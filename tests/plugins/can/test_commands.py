"""What the CAN driver's commands take, as their schemas say it before the driver is asked."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.devices.can.drv_socketcan import SocketCANDriver
from sat_toolkit.core.commands import check_args, declared
from sat_toolkit.errors import BadArgs


def check(command: str, args: dict[str, Any]) -> None:
    check_args(declared(SocketCANDriver)[command], args)


@pytest.mark.parametrize(
    ("command", "args"),
    [
        ("send", {"id": "0x7DF", "data": "02 01 0C"}),
        ("send", {"id": 0x1FFF_FFFF, "extended": True, "period_ms": 10, "count": 3}),
        ("send", {"stop": True}),
        ("send", {"id": 5, "stop": True}),
        ("send", {"frames": [{"id": 1}, {"id": "0x2", "remote": True, "dlc": 8}]}),
        ("filter", {"filters": []}),
        ("start", {"filters": [{"id": "0x100", "mask": "0x700", "extended": False}]}),
        ("status", {}),
    ],
)
def test_what_is_taken(command: str, args: dict[str, Any]) -> None:
    check(command, args)


@pytest.mark.parametrize(
    ("command", "args"),
    [
        ("send", {}),
        ("send", {"stop": False}),
        ("send", {"id": "123"}),
        ("send", {"id": 0x2000_0000}),
        ("send", {"id": 1, "count": 3}),
        ("send", {"id": 1, "period_ms": 0.5}),
        ("send", {"id": 1, "colour": "red"}),
        ("send", {"frames": []}),
        ("send", {"frames": [{"id": 1}], "id": 2}),
        ("send", {"frames": [{"data": "00"}]}),
        ("filter", {}),
        ("filter", {"filters": [{"mask": 1}]}),
        ("stop", {"now": True}),
    ],
)
def test_what_is_refused(command: str, args: dict[str, Any]) -> None:
    with pytest.raises(BadArgs):
        check(command, args)
