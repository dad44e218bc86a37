"""The receive side of an open bus: how much it holds, what it lost, and how it is emptied."""

from __future__ import annotations

import socket
import struct
import time
from contextlib import suppress
from typing import Final

import can

from plugins.devices.can.slcan import SlcanBus

RECEIVE_BUFFER: Final = 4 * 1024 * 1024
# getsockopt(SO_MEMINFO) answers 32-bit words, the ninth of which counts the frames dropped on the socket.
_SO_MEMINFO: Final = 55
_MEMINFO: Final = struct.Struct("9I")
_MAX_FRAME: Final = 2048


def enlarge_receive_buffer(bus: can.BusABC) -> None:
    """Ask for more than the default, which holds about 300 frames; the kernel caps it at net.core.rmem_max."""
    if (sock := _socket_of(bus)) is not None:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)


def socket_drops(bus: can.BusABC) -> int:
    """Frames that the kernel dropped because this process was slow to read; 0 where it does not say."""
    sock = _socket_of(bus)
    if sock is None:
        return 0
    try:
        words = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
    except OSError:
        return 0
    return int(_MEMINFO.unpack(words)[-1]) if len(words) == _MEMINFO.size else 0


def drain_bus(bus: can.BusABC, limit: float) -> None:
    """Discard what was received and not read, for `limit` seconds at the most.

    Raises OSError or can.CanError when the bus is gone.
    """
    deadline = time.monotonic() + limit
    sock = _socket_of(bus)
    if isinstance(bus, SlcanBus):
        bus.flush()
    elif sock is not None:
        # Past python-can, which takes ten times as long and on a busy bus would never catch up.
        with suppress(BlockingIOError):
            while time.monotonic() < deadline:
                sock.recv(_MAX_FRAME, socket.MSG_DONTWAIT)
    else:
        while time.monotonic() < deadline and bus.recv(timeout=0.0) is not None:
            pass


def _socket_of(bus: can.BusABC) -> socket.socket | None:
    sock = getattr(bus, "socket", None)
    return sock if isinstance(sock, socket.socket) else None
