"""The SocketCAN driver on a machine without CAN: it is handed a UDP socket, each datagram of which is a frame.

Only where the bus comes from differs. Configuration: ``port``, to receive on.
"""

from __future__ import annotations

import socket
from typing import Any

import can
from can.interfaces import BACKENDS
from can.interfaces.socketcan.socketcan import capture_message

from plugins.devices.can.buses import BusConfig
from plugins.devices.can.drv_socketcan import SocketCANDriver
from sat_toolkit.models.Device_Model import Device, DeviceType

DEVICE = "bus0"
INTERFACE = "standin"
SO_TIMESTAMPNS = 35


class StandInBus(can.BusABC):
    """A bus with a socket, as python-can's SocketcanBus is."""

    def __init__(self, channel: int, **kwargs: Any) -> None:
        super().__init__(channel, **kwargs)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.socket.bind(("127.0.0.1", channel))

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

    def fileno(self) -> int:
        return self.socket.fileno()


BACKENDS[INTERFACE] = (__name__, StandInBus.__name__)


class StandInDriver(SocketCANDriver):
    """`SocketCANDriver` on a `StandInBus`."""

    def _scan_impl(self) -> list[Device]:
        return [Device(DEVICE, "stand-in for a CAN link", DeviceType.CAN, {"hardware_id": DEVICE})]

    def _config_of(self, device: Device) -> BusConfig:
        return BusConfig(device.device_id, INTERFACE, int(self.info["port"]))
