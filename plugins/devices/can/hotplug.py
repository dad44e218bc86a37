"""Notices CAN links that come, go, or change, as the kernel tells it over netlink.

Only the notice: what there is now is `links.kernel_links`. A plain socket rather than pyroute2's, whose own
buffers keep messages that a poll of the descriptor does not show.
"""

from __future__ import annotations

import errno
import socket
import struct
import time
from typing import Final

from plugins.devices.can.links import ARPHRD_CAN

RTMGRP_LINK: Final = 1
RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
_HEADER: Final = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_LINK: Final = struct.Struct("=BxHiII")  # ifinfomsg: family, hardware type, index, flags, change
_RECEIVE_BYTES: Final = 65_536


class LinkWatch:
    """A subscription to the kernel's link messages.

    Raises:
        OSError: netlink is not to be had here.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        try:
            self._socket.bind((0, RTMGRP_LINK))
        except OSError:
            self._socket.close()
            raise

    def wait(self, timeout: float) -> bool:
        """Whether a CAN link changed within `timeout` seconds. True as soon as one does.

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
            if concerns_can(data):
                return True
        return False

    def close(self) -> None:
        """End the subscription."""
        self._socket.close()

    def __del__(self) -> None:
        """An instance that scans is let go without a word; the subscription goes with it."""
        if hasattr(self, "_socket"):
            self.close()


def concerns_can(data: bytes) -> bool:
    """Whether a datagram of link messages has one of a CAN link."""
    offset = 0
    while offset + _HEADER.size + _LINK.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size:
            return False
        _, hardware, *_ = _LINK.unpack_from(data, offset + _HEADER.size)
        if kind in (RTM_NEWLINK, RTM_DELLINK) and hardware == ARPHRD_CAN:
            return True
        offset += (length + 3) & ~3
    return False
