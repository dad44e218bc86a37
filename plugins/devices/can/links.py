"""The kernel's CAN links, over netlink. Nothing is changed but a controller restarted: bringing a
link up is the administrator's.

A kernel without CAN has none. Interface names are taken as they are: nothing is read into them.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from sat_toolkit.errors import DriverError

ARPHRD_CAN: Final = 280
KINDS: Final = frozenset({"can", "vcan", "vxcan", "slcan"})
CANFD_MTU: Final = 72
SYSFS: Final = Path("/sys")
_IFF_UP: Final = 1
_ANSWER_S: Final = 5.0
_LOOK_S: Final = 0.1
_WITHOUT_RESTART: Final = frozenset({"gs_usb"})

_HEADER: Final = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_RTM_NEWLINK: Final = 16
_REQUEST_ACK: Final = 0x1 | 0x4
_IFLA_LINKINFO, _IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_CAN_RESTART = 18, 1, 2, 7


@dataclass(frozen=True)
class CanLink:
    """One link as the kernel describes it. `bitrate` in bit/s; None where it has none (vcan).

    `controller` is the controller's state in lower case ("error-active", "bus-off"), None on
    virtual links. `hardware_id` stays the same over reboots and renumbering of interfaces.
    `restart_ms` is when the kernel itself restarts a controller that is bus-off; None: it does not.
    `frames` with `payload` bytes of data went over the link so far, both ways. `driver` is the
    kernel's driver of the hardware.
    """

    name: str
    kind: str
    up: bool
    fd: bool
    hardware_id: str
    bitrate: int | None = None
    data_bitrate: int | None = None
    controller: str | None = None
    tx_errors: int | None = None
    rx_errors: int | None = None
    index: int = 0
    sample_point: float | None = None
    data_sample_point: float | None = None
    restart_ms: int | None = None
    frames: int = 0
    payload: int = 0
    driver: str | None = None

    @property
    def restartable(self) -> bool:
        """Whether its driver has a restart for a controller that is bus-off; no driver, as on a
        serial line: none."""
        return self.driver is not None and self.driver not in _WITHOUT_RESTART

    @property
    def up_command(self) -> str:
        """What an administrator types to bring this link up."""
        if self.kind in ("vcan", "vxcan"):
            return f"ip link set {self.name} up"
        if self.kind == "slcan":
            return f"ip link set {self.name} up (its bitrate was given to slcand)"
        return f"ip link set {self.name} up type can bitrate {self.bitrate or 500_000}"


def kernel_links(sysfs: Path = SYSFS) -> list[CanLink]:
    """Every CAN link of this network namespace, up or down, by name. Raises OSError where netlink
    is not to be had."""
    with IPRoute() as netlink:
        return parse_links(netlink.get_links(), sysfs)


def find_link(name: str, sysfs: Path = SYSFS) -> CanLink | None:
    """The link of that name, None when there is no such link."""
    return next((link for link in kernel_links(sysfs) if link.name == name), None)


def require_up(name: str) -> CanLink:
    """The link of that name. Raises DriverError when it is not there or not up, with what to do
    about it."""
    link = _find(name)
    if link is None:
        raise DriverError(
            f"there is no CAN link {name}: `ip link show type can` and `type vcan` list those there are"
        )
    if not link.up:
        raise DriverError(
            f"the link {name} is down; bringing it up needs CAP_NET_ADMIN: as root, `{link.up_command}`"
        )
    return link


def await_up(name: str, waits: Callable[[], bool]) -> CanLink | None:
    """The link once it is up, or when `waits()` is no longer true; None when it is removed. Raises
    DriverError."""
    while (link := _find(name)) is not None and not link.up and waits():
        time.sleep(_LOOK_S)
    return link


def _find(name: str) -> CanLink | None:
    try:
        return find_link(name)
    except OSError as error:
        raise DriverError(f"cannot ask the kernel for the link {name}: {error}") from error


class LinkQuery:
    """Asks for one link again and again. Made, used and closed by one thread. Raises OSError
    without netlink."""

    def __init__(self, index: int, sysfs: Path = SYSFS) -> None:
        self._index = index
        self._sysfs = sysfs
        self._netlink = IPRoute()

    def ask(self) -> CanLink | None:
        """The link as it is now; None when it was removed."""
        try:
            links = parse_links(self._netlink.link("get", index=self._index), self._sysfs)
        except NetlinkError as error:
            if error.code == errno.ENODEV:
                return None
            raise OSError(error.code, os.strerror(error.code)) from error
        return links[0] if links else None

    def close(self) -> None:
        self._netlink.close()


def restart_controller(index: int) -> None:
    """Have the kernel restart a controller that is bus-off, as ``ip link set can0 type can
    restart`` does.

    Raises:
        OSError: EPERM without CAP_NET_ADMIN, EBUSY when it is not bus-off, EINVAL when it is down
            or the kernel restarts it by itself, EOPNOTSUPP when its driver cannot.
    """
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    ) as netlink:
        netlink.settimeout(_ANSWER_S)
        netlink.send(restart_request(index))
        answer = netlink.recv(4096)
    (code,) = struct.unpack_from("=i", answer, _HEADER.size)
    if code:
        raise OSError(-code, os.strerror(-code))


def restart_request(index: int) -> bytes:
    """The netlink message for it. By hand, as pyroute2 sends the attribute without the number that
    the kernel wants."""
    restart = _attribute_bytes(_IFLA_CAN_RESTART, struct.pack("=I", 1))
    info = _attribute_bytes(_IFLA_INFO_KIND, b"can\0") + _attribute_bytes(_IFLA_INFO_DATA, restart)
    body = struct.pack("=BxHiII", 0, 0, index, 0, 0) + _attribute_bytes(_IFLA_LINKINFO, info)
    return _HEADER.pack(_HEADER.size + len(body), _RTM_NEWLINK, _REQUEST_ACK, 1, 0) + body


def _attribute_bytes(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + bytes(-length % 4)


def parse_links(messages: Iterable[Any], sysfs: Path = SYSFS) -> list[CanLink]:
    """The CAN links among netlink's link messages, by name."""
    links = (_parse_link(message, sysfs) for message in messages)
    return sorted((link for link in links if link is not None), key=lambda link: link.name)


def _parse_link(message: Any, sysfs: Path) -> CanLink | None:
    info = message.get_attr("IFLA_LINKINFO")
    kind = info.get_attr("IFLA_INFO_KIND") if info is not None else None
    name = message.get_attr("IFLA_IFNAME")
    if not name or (message["ifi_type"] != ARPHRD_CAN and kind not in KINDS):
        return None
    details = info.get_attr("IFLA_INFO_DATA") if kind == "can" else None
    counters = _attribute(details, "IFLA_CAN_BERR_COUNTER")
    bits, data_bits = (_timing(details, f"IFLA_CAN_{which}BITTIMING") for which in ("", "DATA_"))
    moved = message.get_attr("IFLA_STATS64") or {}
    return CanLink(
        name=name,
        kind=kind or "slcan",
        up=bool(message["flags"] & _IFF_UP),
        fd=(message.get_attr("IFLA_MTU") or 0) >= CANFD_MTU,
        hardware_id=_hardware_id(name, kind or "slcan", sysfs),
        bitrate=bits[0],
        data_bitrate=data_bits[0],
        controller=_controller(details),
        tx_errors=counters["txerr"] if counters else None,
        rx_errors=counters["rxerr"] if counters else None,
        index=message["index"],
        sample_point=bits[1],
        data_sample_point=data_bits[1],
        restart_ms=_attribute(details, "IFLA_CAN_RESTART_MS") or None,
        frames=moved.get("rx_packets", 0) + moved.get("tx_packets", 0),
        payload=moved.get("rx_bytes", 0) + moved.get("tx_bytes", 0),
        driver=_driver(name, sysfs),
    )


def _attribute(details: Any, name: str) -> Any:
    return details.get_attr(name) if details is not None else None


def _timing(details: Any, name: str) -> tuple[int | None, float | None]:
    """The bit rate and the sample point; the kernel has it in tenths of a percent."""
    timing = _attribute(details, name)
    if not timing or not timing["bitrate"]:
        return None, None
    return int(timing["bitrate"]), timing["sample_point"] / 1000 or None


def _controller(details: Any) -> str | None:
    state = _attribute(details, "IFLA_CAN_STATE")
    if state is None:
        return None
    return str(state).lower().replace("_", "-")


def _hardware_id(name: str, kind: str, sysfs: Path) -> str:
    """The place of the controller in the machine: bus path and port, not the name, which may be
    another tomorrow."""
    folder = sysfs / "class" / "net" / name
    device = folder / "device"
    if "/" in name or not device.exists():
        return f"{kind}:{name}"
    port = _read(folder / "dev_port") or "0"
    channel = _read(folder / "dev_id") or "0x0"
    path = device.resolve().relative_to(sysfs.resolve())
    return f"{path}#{port}.{int(channel, 0)}"


def _driver(name: str, sysfs: Path) -> str | None:
    link = sysfs / "class" / "net" / name / "device" / "driver"
    return link.resolve().name if "/" not in name and link.exists() else None


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
