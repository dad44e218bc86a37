"""The SocketCAN driver on a machine without CAN: it is handed a UDP socket, each datagram of which
is a frame.

Only where the bus comes from differs. Configuration: ``port``, to receive on.
"""

from __future__ import annotations

import socket

import can

from plugins.devices.can.buses import BusConfig
from plugins.devices.can.drv_socketcan import SocketCANDriver
from sat_toolkit.models.Device_Model import Device, DeviceType

DEVICE = "bus0"


class StandInBus(can.BusABC):
    """A bus with a socket, as python-can's SocketcanBus is; frames are read past python-can."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", port))

    def send(self, msg: can.Message, timeout: float | None = None) -> None:
        raise can.CanOperationError("the stand-in sends nothing")

    def shutdown(self) -> None:
        super().shutdown()
        self.socket.close()

    def fileno(self) -> int:
        return self.socket.fileno()


class StandInDriver(SocketCANDriver):
    """`SocketCANDriver` on a `StandInBus`."""

    def _scan_impl(self) -> list[Device]:
        return [Device(DEVICE, "stand-in for a CAN link", DeviceType.CAN, {"hardware_id": DEVICE})]

    def _config_of(self, device: Device) -> BusConfig:
        return BusConfig(device.device_id, "standin", int(self.info["port"]))

    def _make_bus(self, config: BusConfig) -> can.BusABC:
        return StandInBus(int(config.channel))

    def _frame_socket(self, bus: can.BusABC) -> socket.socket | None:
        assert isinstance(bus, StandInBus)
        return bus.socket
