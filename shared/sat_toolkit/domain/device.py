"""The device models under their second import name."""

from sat_toolkit.models.Device_Model import (
    Device,
    DeviceType,
    SerialDevice,
    SocketCANDevice,
    USBDevice,
)

__all__ = ["Device", "DeviceType", "SerialDevice", "SocketCANDevice", "USBDevice"]
