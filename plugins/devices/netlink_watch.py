"""Waits for a netlink message that matters, for drivers that notice hardware coming and going."""

from __future__ import annotations

import errno
import socket
import time
import weakref
from collections.abc import Callable
from typing import Final

_RECEIVE_BYTES: Final = 65_536


class NetlinkWatch:
    """A subscription to one multicast group. Any user may listen.

    Args:
        protocol: the netlink family, such as ``socket.NETLINK_ROUTE``.
        group: the group's bit.
        concerns: whether a datagram is one to wake up for.

    Raises:
        OSError: netlink is not to be had here.
    """

    def __init__(self, protocol: int, group: int, concerns: Callable[[bytes], bool]) -> None:
        self._concerns = concerns
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol
        )
        try:
            self._socket.bind((0, group))
        except OSError:
            self._socket.close()
            raise
        weakref.finalize(self, self._socket.close)  # with the driver that has it

    def fileno(self) -> int:
        """To wait for it together with others."""
        return self._socket.fileno()

    def wait(self, timeout: float) -> bool:
        """Whether a message that matters came within `timeout` seconds. True as soon as one does.

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
                if (
                    error.errno == errno.ENOBUFS
                ):  # the kernel dropped messages for us: anything may have changed
                    return True
                raise
            if self._concerns(data):
                return True
        return False

    def drain(self) -> None:
        """Take what has come, whatever it is, without waiting."""
        try:
            while True:
                self._socket.recv(_RECEIVE_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise

    def close(self) -> None:
        """End the subscription."""
        self._socket.close()
