"""The machine's own serial ports, each under a name that stays. Opens none of them.

The name is that of the link below /dev/serial/by-id; for a USB adapter without a serial number that
below by-path, as two such adapters share one by-id name; without udev ``vid:pid:serial``, and at
last the port's own name. Left out are ports without hardware behind them and those on which the
machine has its own console.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from serial.tools import list_ports

from sat_toolkit.models.Device_Model import SerialDevice

# How long a new port is left alone until udev has made its links.
UDEV_PATIENCE_S: Final = 5.0
_NO_UART: Final = "0"


class PortInfo(Protocol):
    """What pyserial tells of a port."""

    device: str
    name: str
    vid: int | None
    pid: int | None
    serial_number: str | None
    manufacturer: str | None
    product: str | None
    location: str | None


def machine_ports() -> list[SerialDevice]:
    """The ports that are there now."""
    infos = [info for info in list_ports.comports() if is_real(info.name) and has_settled(info)]
    return describe(infos, links(Path("/dev/serial/by-id")), links(Path("/dev/serial/by-path")))


def is_real(name: str, tty_class: Path = Path("/sys/class/tty")) -> bool:
    """Whether a port has hardware, and the machine does not use it as its own console.

    The kernel makes a ttyS for each port that a PC might have; the type of one that is not there is
    0.
    """
    if _read(tty_class / name / "type") == _NO_UART:
        return False
    return name not in _read(tty_class / "console" / "active").split()


def has_settled(info: PortInfo, udev: Path = Path("/run/udev")) -> bool:
    """Whether udev is through with a USB port: before that its links, and so its name, are not
    there yet."""
    if info.vid is None or not (udev / "control").exists():
        return True
    try:
        node = os.stat(info.device)
    except OSError:
        return False
    entry = udev / "data" / f"c{os.major(node.st_rdev)}:{os.minor(node.st_rdev)}"
    return entry.exists() or time.time() - node.st_ctime > UDEV_PATIENCE_S


def links(folder: Path) -> dict[str, Path]:
    """The links in `folder` by the path that they lead to; of several to one port the first by
    name."""
    try:
        entries = sorted(folder.iterdir(), reverse=True)
    except OSError:
        return {}
    return {os.path.realpath(entry): entry for entry in entries}


def describe(
    infos: Iterable[PortInfo], by_id: Mapping[str, Path], by_path: Mapping[str, Path]
) -> list[SerialDevice]:
    """A device for each port."""
    devices: dict[str, SerialDevice] = {}
    for info in sorted(infos, key=lambda info: info.device):
        device_id = _device_id(info, by_id.get(info.device), by_path.get(info.device))
        if device_id in devices:
            device_id = info.name
        attributes = {
            "by_id": _text(by_id.get(info.device)),
            "by_path": _text(by_path.get(info.device)),
            "vid": _hex(info.vid),
            "pid": _hex(info.pid),
            "serial_number": info.serial_number,
            "manufacturer": info.manufacturer,
            "product": info.product,
            "location": info.location,
            "hardware_id": _hardware_id(info),
        }
        known = {key: value for key, value in attributes.items() if value}
        name = f"{info.product or 'Serial port'} ({info.device})"
        devices[device_id] = SerialDevice(device_id, name, info.device, attributes=known)
    return list(devices.values())


def _device_id(info: PortInfo, by_id: Path | None, by_path: Path | None) -> str:
    if by_id is not None and (info.serial_number or info.vid is None):
        return by_id.name
    if by_path is not None:
        return by_path.name
    if by_id is not None:
        return by_id.name
    if info.vid is not None and info.serial_number:
        return _usb_name(info)
    return info.name


def _hardware_id(info: PortInfo) -> str:
    """Tells one adapter from another; of those without a serial number, only by where they are
    plugged in."""
    if info.vid is None:
        return f"tty:{info.name}"
    return (
        f"usb:{_usb_name(info)}"
        if info.serial_number
        else f"usb:{_hex(info.vid)}:{_hex(info.pid)}@{info.location}"
    )


def _usb_name(info: PortInfo) -> str:
    """``0403:6011:FT4XYZ``, with the interface of an adapter that has several."""
    interface = (info.location or "").partition(":")[2]
    name = f"{_hex(info.vid)}:{_hex(info.pid)}:{info.serial_number}"
    return f"{name}:{interface}" if interface else name


def _hex(number: int | None) -> str | None:
    return None if number is None else f"{number:04x}"


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
