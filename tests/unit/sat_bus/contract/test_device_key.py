"""How devices are named: one hit, several, or none with a hint."""

from __future__ import annotations

import pytest

from sat_bus.contract.device_key import Key, find, unknown
from sat_toolkit.errors import BadArgs

CAN0, CAN1 = Key("bench1", "drv_can", "can0"), Key("bench1", "drv_can", "can1")
OTHER = Key("bench2", "drv_can", "can0")
TTY = Key("bench1", "drv_uart", "/dev/ttyUSB0")


@pytest.mark.parametrize(
    ("name", "scope", "expected"),
    [
        ("can1", {}, CAN1),
        ("drv_can/can1", {}, CAN1),
        ("bench2/drv_can/can0", {}, OTHER),
        ("can0", {"host": "bench2"}, OTHER),
        ("/dev/ttyUSB0", {}, TTY),
        ("drv_uart//dev/ttyUSB0", {"host": "bench1"}, TTY),
        ("can0", {"host": "bench3"}, None),
        ("can1", {"driver": "drv_uart"}, None),
        ("can", {}, None),
    ],
)
def test_find(name: str, scope: dict[str, str], expected: Key | None) -> None:
    assert find([CAN0, CAN1, OTHER, TTY], name, **scope) == expected


def test_several_are_listed() -> None:
    with pytest.raises(BadArgs, match="bench1/drv_can/can0, bench2/drv_can/can0"):
        find([CAN0, CAN1, OTHER], "can0")


def test_an_unknown_device_comes_with_a_hint() -> None:
    assert "did you mean bench1/drv_can/can1" in str(unknown([CAN1, TTY], "cam1"))
    assert "known are bench1/drv_can/can1" in str(unknown([CAN1], "zzz", driver="drv_can"))
    assert "plug one in, or scan" in str(unknown([], "zzz"))
