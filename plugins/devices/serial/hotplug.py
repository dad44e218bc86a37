"""Notices serial ports that come and go, as the kernel or udev tells it over netlink. Any user may
listen.

Only the notice: what there is now is `discovery.machine_ports`. Where udev runs it is udev that is
listened to, because only then the links that name a port are there.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

from plugins.devices.netlink_watch import NetlinkWatch

NETLINK_KOBJECT_UEVENT: Final = 15
GROUP_KERNEL: Final = 1
GROUP_UDEV: Final = 2
_UDEV_PREFIX: Final = b"libudev\0"
_UDEV_HEADER: Final = struct.Struct(
    "=8s8xII"
)  # prefix, magic and size of the header, where the properties are, their length


def watch_ports(udev: Path = Path("/run/udev")) -> NetlinkWatch:
    """A subscription to the events of the kernel's devices, those of ttys.

    Raises:
        OSError: netlink is not to be had here.
    """
    group = GROUP_UDEV if (udev / "control").exists() else GROUP_KERNEL
    return NetlinkWatch(NETLINK_KOBJECT_UEVENT, group, concerns_ttys)


def concerns_ttys(data: bytes) -> bool:
    """Whether a message of the kernel or of udev is about a tty."""
    if data.startswith(_UDEV_PREFIX):
        if len(data) < _UDEV_HEADER.size:
            return False
        _, offset, length = _UDEV_HEADER.unpack_from(data)
        data = data[offset : offset + length]
    return b"SUBSYSTEM=tty" in data.split(b"\0")
