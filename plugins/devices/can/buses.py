"""The buses that configuration names, and how a bus is opened, closed and found dead.

A bus is an object such as ``{"name": "ecu", "interface": "slcan", "channel": "/dev/ttyACM0",
"bitrate": 500000}``; every other key is a keyword argument of that python-can interface.
"""

from __future__ import annotations

import errno
import grp
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import can
import serial
from can.interfaces import VALID_INTERFACES

from plugins.devices.can.slcan import SlcanBus
from sat_toolkit.errors import ConfigError, DriverError

_PORT_INTERFACES: Final = frozenset({"slcan", "serial", "robotell", "usb2can_serial"})
_OWN_KEYS: Final = frozenset({"name", "interface", "channel", "bitrate", "fd"})
# A link that is down is there, and may be up again: ENETDOWN is not among them.
_GONE: Final = frozenset({errno.ENODEV, errno.ENXIO, errno.EIO, errno.EBADF})


@dataclass(frozen=True)
class BusConfig:
    """How to open one bus. `bitrate` in bit/s; `options` are the interface's further keyword
    arguments."""

    name: str
    interface: str
    channel: str | int
    bitrate: int | None = None
    fd: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def hardware_id(self) -> str:
        """Stays with the name in the configuration: a pty or USB port may have another path each
        time."""
        return f"{self.interface}:{self.name}"

    @property
    def port(self) -> Path | None:
        """The file of a serial port or pty; None for a bus that has none, such as a network
        port."""
        if self.interface not in _PORT_INTERFACES or "://" in str(self.channel):
            return None
        return Path(str(self.channel).partition("@")[0])


def parse_buses(info: Mapping[str, Any]) -> list[BusConfig]:
    """The entries of ``info["buses"]``. Raises ConfigError, which names the entry and what it
    takes."""
    entries = info.get("buses", [])
    if not isinstance(entries, list):
        raise ConfigError(
            f"buses must be a list of objects with name, interface and channel, not {entries!r}"
        )
    buses = [_parse_bus(f"buses[{index}]", entry) for index, entry in enumerate(entries)]
    names = [bus.name for bus in buses]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"buses: the name {twice[0]!r} is given twice; each bus needs its own")
    return buses


def open_bus(config: BusConfig) -> can.BusABC:
    """Open the bus. Raises DriverError with what is wrong and what to do about it."""
    options: dict[str, Any] = dict(config.options)
    if config.bitrate is not None:
        options["bitrate"] = config.bitrate
    if config.interface == "virtual":
        options["protocol"] = can.CanProtocol.CAN_FD if config.fd else can.CanProtocol.CAN_20
    elif config.fd:
        options["fd"] = True
    try:
        if config.interface == "slcan":
            if config.port is not None and config.port.resolve().is_relative_to("/dev/pts"):
                options.setdefault(
                    "sleep_after_open", 0.0
                )  # no board behind it that resets when opened
            return SlcanBus(str(config.channel), **options)
        return can.Bus(
            channel=config.channel, interface=config.interface, ignore_config=True, **options
        )
    except (can.CanError, OSError, ValueError, TypeError) as error:
        raise DriverError(
            f"cannot open {config.interface} {config.channel}: {_explain(config, error)}"
        ) from error


def close_bus(bus: can.BusABC) -> None:
    """Shut the bus down; one that is dead already is let go in silence."""
    try:
        bus.shutdown()
    except (can.CanError, OSError):
        if isinstance(bus, SlcanBus):
            bus.serialPortOrig.close()


def is_gone(error: BaseException | None) -> bool:
    """Whether an error of a bus means that the bus is no longer there, rather than busy or refusing
    a frame."""
    seen = 0
    while error is not None and seen < 5:
        if isinstance(error, serial.SerialTimeoutException):
            return False
        if isinstance(error, serial.SerialException):
            return True
        number = getattr(error, "error_code", None) or getattr(error, "errno", None)
        if number in _GONE:
            return True
        error, seen = error.__cause__, seen + 1
    return False


def reason(error: BaseException) -> str:
    """The error's text with that of its cause, which is where python-can's wrappers keep the
    reason."""
    cause = error.__cause__
    return f"{error}: {cause}" if cause is not None and str(cause) not in str(error) else str(error)


def _parse_bus(where: str, entry: object) -> BusConfig:
    if not isinstance(entry, Mapping):
        raise ConfigError(
            f"{where} must be an object with name, interface and channel, not {entry!r}"
        )
    name, interface, channel = entry.get("name"), entry.get("interface"), entry.get("channel")
    if not isinstance(name, str) or not name or not name.isprintable():
        raise ConfigError(f"{where}: name must be a text that is not empty, not {name!r}")
    where = f'{where} ("{name}")'
    if interface not in VALID_INTERFACES:
        raise ConfigError(
            f"{where}: interface must be one of python-can's, not {interface!r}: {', '.join(sorted(VALID_INTERFACES))}"
        )
    if isinstance(channel, bool) or not isinstance(channel, str | int) or channel == "":
        raise ConfigError(
            f'{where}: channel must be a name or number such as "can0", "/dev/ttyACM0" or 0, not {channel!r}'
        )
    bitrate, fd = entry.get("bitrate"), entry.get("fd", False)
    if bitrate is not None and (
        isinstance(bitrate, bool) or not isinstance(bitrate, int) or bitrate <= 0
    ):
        raise ConfigError(f"{where}: bitrate must be bit/s such as 500000, not {bitrate!r}")
    if not isinstance(fd, bool):
        raise ConfigError(f"{where}: fd must be true or false, not {fd!r}")
    options = {str(key): value for key, value in entry.items() if key not in _OWN_KEYS}
    return BusConfig(name, str(interface), channel, bitrate, fd, options)


def _explain(config: BusConfig, error: BaseException) -> str:
    text = reason(error)
    number = next((n for e in (error, error.__cause__) if (n := getattr(e, "errno", None))), None)
    port = config.port
    if number == errno.EACCES and port is not None and port.exists():
        group = _group_of(port)
        return f"{text}. It belongs to group {group}: `usermod -aG {group} USER` as root lets USER open it"
    if number in (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT) and config.interface == "socketcan":
        return f"{text}. This kernel has no CAN: `modprobe can_raw` as root (CAP_SYS_MODULE) loads it, if installed"
    return text


def _group_of(path: Path) -> str:
    number = os.stat(path).st_gid
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
