"""Notices CAN links that come, go, or change, as the kernel tells it over netlink.

Only the notice: what there is now is `links.kernel_links`. A plain socket rather than pyroute2's,
whose own buffers keep messages that a poll of the descriptor does not show.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

from plugins.devices.can.links import ARPHRD_CAN
from plugins.devices.netlink_watch import NetlinkWatch

RTMGRP_LINK: Final = 1
RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
_HEADER: Final = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_LINK: Final = struct.Struct("=BxHiII")  # ifinfomsg: family, hardware type, index, flags, change


def watch_links() -> NetlinkWatch:
    """A subscription to the kernel's messages of CAN links.

    Raises:
        OSError: netlink is not to be had here.
    """
    return NetlinkWatch(socket.NETLINK_ROUTE, RTMGRP_LINK, concerns_can)


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
