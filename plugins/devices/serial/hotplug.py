"""Notices serial ports that come and go, as the kernel or udev tells it over netlink. Any user may listen.

Only the notice: what there is now is `discovery.machine_ports`. Where udev runs it is udev that is listened to, because
only then the links that name a port are there.
"""

from __future__ import annotations

import errno
import socket
import struct
import time
from pathlib import Path
from typing import Final

NETLINK_KOBJECT_UEVENT: Final = 15
GROUP_KERNEL: Final = 1
GROUP_UDEV: Final = 2
_UDEV_PREFIX: Final = b"libudev\0"
_UDEV_HEADER: Final = struct.Struct(
    "=8s8xII"
)  # prefix, magic and size of the header, where the properties are, their length
_RECEIVE_BYTES: Final = 65_536


class PortWatch:
    """A subscription to the events of the kernel's devices.

    Raises:
        OSError: netlink is not to be had here.
    """

    def __init__(self, udev: Path = Path("/run/udev")) -> None:
        group = GROUP_UDEV if (udev / "control").exists() else GROUP_KERNEL
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, NETLINK_KOBJECT_UEVENT)
        self._socket.bind((0, group))

    def wait(self, timeout: float) -> bool:
        """Whether a tty came, went or changed within `timeout` seconds. True as soon as one does.

        Raises:
            OSError: the subscription is broken.
        """
        deadline = time.monotonic() + timeout
        while (remaining := deadline - time.monotonic()) > 0:
            self._socket.settimeout(remaining)
            try:
                data = self._socket.recv(_RECEIVE_BYTES)
            except TimeoutError:
                return False
            except OSError as error:
                if error.errno == errno.ENOBUFS:  # the kernel dropped messages for us: anything may have changed
                    return True
                raise
            if concerns_ttys(data):
                return True
        return False

    def close(self) -> None:
        """End the subscription."""
        self._socket.close()

    def __del__(self) -> None:
        """An instance that scans is let go without a word; the subscription goes with it."""
        if hasattr(self, "_socket"):
            self.close()


def concerns_ttys(data: bytes) -> bool:
    """Whether a message of the kernel or of udev is about a tty."""
    if data.startswith(_UDEV_PREFIX):
        if len(data) < _UDEV_HEADER.size:
            return False
        _, offset, length = _UDEV_HEADER.unpack_from(data)
        data = data[offset : offset + length]
    return b"SUBSYSTEM=tty" in data.split(b"\0")
