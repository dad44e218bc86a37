"""Buses of the configuration: what is wrong is said with the entry's name."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import can
import pytest
import serial

from plugins.devices.can.buses import BusConfig, close_bus, is_gone, open_bus, parse_buses
from sat_toolkit.errors import ConfigError, DriverError

GOOD = {
    "name": "ecu",
    "interface": "slcan",
    "channel": "/dev/ttyACM0",
    "bitrate": 500_000,
    "rtscts": True,
}


def test_an_entry_with_the_interfaces_own_options() -> None:
    assert parse_buses({"buses": [GOOD]}) == [
        BusConfig("ecu", "slcan", "/dev/ttyACM0", 500_000, fd=False, options={"rtscts": True})
    ]


def test_no_configuration_is_no_bus() -> None:
    assert parse_buses({}) == []


@pytest.mark.parametrize(
    ("buses", "says"),
    [
        ("ecu", "buses must be a list"),
        (["ecu"], r"buses\[0\] must be an object"),
        ([GOOD, {**GOOD, "name": ""}], r"buses\[1\]: name"),
        ([{**GOOD, "interface": "slkan"}], r'buses\[0\] \("ecu"\): interface .*slcan'),
        ([{**GOOD, "channel": None}], r'\("ecu"\): channel'),
        ([{**GOOD, "bitrate": "fast"}], r'\("ecu"\): bitrate must be bit/s'),
        ([{**GOOD, "fd": "yes"}], r'\("ecu"\): fd'),
        ([GOOD, GOOD], "'ecu' is given twice"),
    ],
)
def test_a_bad_entry_is_named(buses: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_buses({"buses": buses})


@pytest.mark.parametrize(
    ("channel", "port"),
    [
        ("/dev/ttyUSB0@115200", Path("/dev/ttyUSB0")),
        ("socket://10.0.0.1:23", None),
        ("/dev/pts/3", Path("/dev/pts/3")),
    ],
)
def test_the_port_of_a_serial_adapter(channel: str, port: Path | None) -> None:
    assert BusConfig("ecu", "slcan", channel).port == port


def test_a_bus_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    with pytest.raises(DriverError, match=r"cannot open slcan .*No such file"):
        open_bus(BusConfig("ecu", "slcan", str(tmp_path / "none"), 500_000))


def test_a_virtual_bus_carries_fd_when_configured() -> None:
    for fd, protocol in ((True, can.CanProtocol.CAN_FD), (False, can.CanProtocol.CAN_20)):
        bus = open_bus(BusConfig("ecu", "virtual", "fd-test", fd=fd))
        assert bus.protocol is protocol
        close_bus(bus)


def _caused(cause: BaseException) -> can.CanError:
    error = can.CanOperationError("Could not write")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "gone"),
    [
        (can.CanOperationError("Failed to transmit: down", errno.ENETDOWN), False),
        (can.CanOperationError("Failed to transmit: unplugged", errno.ENXIO), True),
        (can.CanOperationError("Failed to transmit: no buffer", errno.ENOBUFS), False),
        (can.CanOperationError("Transmit buffer full"), False),
        (_caused(serial.SerialTimeoutException("Write timeout")), False),
        (_caused(serial.SerialException("write failed")), True),
        (_caused(OSError(errno.EIO, "Input/output error")), True),
        (None, False),
    ],
)
def test_a_bus_that_is_gone_is_told_from_a_busy_one(
    error: BaseException | None, gone: bool
) -> None:
    assert is_gone(error) is gone
