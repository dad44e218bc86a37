"""An interface of python-can for machines without CAN: each datagram of a UDP socket is a frame.

It runs in the gateway's own environment and imports nothing of ours; `capture_message` is
python-can's own code.
"""

from __future__ import annotations

import socket
from typing import Any

import can
from can.interfaces.socketcan.socketcan import capture_message


class StandInBus(can.BusABC):
    """`channel` is the port to receive on; `_recv_internal` is as in python-can's SocketcanBus."""

    def __init__(self, channel: Any, **kwargs: Any) -> None:
        super().__init__(channel, **kwargs)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", int(channel)))
        self.socket.setsockopt(
            socket.SOL_SOCKET, 35, 1
        )  # SO_TIMESTAMPNS, which capture_message reads

    def _recv_internal(self, timeout: float | None) -> tuple[can.Message | None, bool]:
        self.socket.settimeout(timeout)
        try:
            return capture_message(self.socket), True
        except can.CanOperationError:
            return None, True

    def send(self, msg: can.Message, timeout: float | None = None) -> None:
        raise can.CanOperationError("the stand-in sends nothing")

    def shutdown(self) -> None:
        super().shutdown()
        self.socket.close()
