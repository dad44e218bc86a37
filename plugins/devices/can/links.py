"""The kernel's CAN links, over netlink. Reads only: bringing a link up is the administrator's.

A kernel without CAN has none. Interface names are taken as they are: nothing is read into them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pyroute2 import IPRoute

ARPHRD_CAN: Final = 280
KINDS: Final = frozenset({"can", "vcan", "vxcan", "slcan"})
CANFD_MTU: Final = 72
SYSFS: Final = Path("/sys")
_IFF_UP: Final = 1


@dataclass(frozen=True)
class CanLink:
    """One link as the kernel describes it. `bitrate` in bit/s; None where it has none (vcan).

    `controller` is the controller's state in lower case ("error-active", "bus-off"), None on virtual links.
    `hardware_id` stays the same over reboots and renumbering of interfaces.
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

    @property
    def up_command(self) -> str:
        """What an administrator types to bring this link up."""
        if self.kind in ("vcan", "vxcan"):
            return f"ip link set {self.name} up"
        if self.kind == "slcan":
            return f"ip link set {self.name} up (its bitrate was given to slcand)"
        return f"ip link set {self.name} up type can bitrate {self.bitrate or 500_000}"


def kernel_links(sysfs: Path = SYSFS) -> list[CanLink]:
    """Every CAN link of this network namespace, up or down, by name. Raises OSError where netlink is not to be had."""
    with IPRoute() as netlink:
        return parse_links(netlink.get_links(), sysfs)


def find_link(name: str, sysfs: Path = SYSFS) -> CanLink | None:
    """The link of that name, None when there is none."""
    return next((link for link in kernel_links(sysfs) if link.name == name), None)


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
    return CanLink(
        name=name,
        kind=kind or "slcan",
        up=bool(message["flags"] & _IFF_UP),
        fd=(message.get_attr("IFLA_MTU") or 0) >= CANFD_MTU,
        hardware_id=_hardware_id(name, kind or "slcan", sysfs),
        bitrate=_bitrate(details, "IFLA_CAN_BITTIMING"),
        data_bitrate=_bitrate(details, "IFLA_CAN_DATA_BITTIMING"),
        controller=_controller(details),
        tx_errors=counters["txerr"] if counters else None,
        rx_errors=counters["rxerr"] if counters else None,
    )


def _attribute(details: Any, name: str) -> Any:
    return details.get_attr(name) if details is not None else None


def _bitrate(details: Any, name: str) -> int | None:
    timing = _attribute(details, name)
    return int(timing["bitrate"]) or None if timing else None


def _controller(details: Any) -> str | None:
    state = _attribute(details, "IFLA_CAN_STATE")
    if state is None:
        return None
    return str(state).lower().replace("_", "-")


def _hardware_id(name: str, kind: str, sysfs: Path) -> str:
    """The place of the controller in the machine: bus path and port, not the name, which may be another tomorrow."""
    folder = sysfs / "class" / "net" / name
    device = folder / "device"
    if "/" in name or not device.exists():
        return f"{kind}:{name}"
    port = _read(folder / "dev_port") or "0"
    channel = _read(folder / "dev_id") or "0x0"
    path = device.resolve().relative_to(sysfs.resolve())
    return f"{path}#{port}.{int(channel, 0)}"


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
