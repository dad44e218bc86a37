"""The devices that a driver's scan finds. Plain data: no hardware, no I/O.

`attributes` holds everything a client may want to know of the device and travels to it, so its
values should be JSON. The typed classes keep their fields (port, interface, ...) in `attributes`
too and show them as properties: a device that crossed the bus has lost nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Self


class DeviceType(StrEnum):
    """How a device is attached. A driver may use any other word for what is not listed."""

    USB = "USB"
    Wireless = "Wireless"
    Ethernet = "Ethernet"
    Serial = "Serial"
    CAN = "CAN"


def _device_type(value: str) -> DeviceType | str:
    try:
        return DeviceType(value)
    except ValueError:
        return value


class Device:
    """One device.

    Args:
        device_id: the driver's own name for it, stable across scans; unique within its driver.
        name: what a person reads.
        device_type: a `DeviceType`, or any other word.
        attributes: everything else; `hardware_id` in it tells a replaced device from the old one.
        host: the driver host that has the device; empty in process.
    """

    # Fields of a subclass that live in `attributes`, each with its default.
    _fields: Mapping[str, Any] = {}

    def __init__(
        self,
        device_id: str,
        name: str,
        device_type: DeviceType | str,
        attributes: Mapping[str, Any] | None = None,
        host: str = "",
    ) -> None:
        self.device_id = device_id
        self.name = name
        self.device_type = _device_type(device_type)
        self.attributes: dict[str, Any] = dict(attributes or {})
        self.host = host

    @property
    def hardware_id(self) -> str | None:
        """What tells this very piece of hardware from another under the same name, if known."""
        value = self.attributes.get("hardware_id")
        return None if value is None else str(value)

    def get_attribute(self, key: str, default: Any = None) -> Any:
        return self.attributes.get(key, default)

    def update_attribute(self, key: str, value: Any) -> None:
        self.attributes[key] = value

    def to_dict(self) -> dict[str, Any]:
        """device_id, name, device_type, attributes; the typed fields; host when there is one."""
        plain: dict[str, Any] = {
            "device_id": self.device_id,
            "name": self.name,
            "device_type": str(self.device_type),
            "attributes": dict(self.attributes),
        }
        plain |= {field: self.attributes.get(field) for field in self._fields}
        if self.host:
            plain["host"] = self.host
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Device:
        """The device that `to_dict` described; keys it does not know are ignored.

        ``Device.from_dict`` gives a SerialDevice, USBDevice or SocketCANDevice back where
        `device_type` and the typed fields say so.

        Raises:
            KeyError: `device_id` is missing.
        """
        device_type = _device_type(str(data.get("device_type", "")))
        attributes = dict(data.get("attributes") or {})
        typed = _TYPED.get(device_type)
        if cls is Device and typed and any(f in data or f in attributes for f in typed._fields):
            return typed.from_dict(data)
        attributes |= {field: data[field] for field in cls._fields if field in data}
        made = cls.__new__(cls)
        Device.__init__(
            made,
            str(data["device_id"]),
            str(data.get("name", data["device_id"])),
            device_type,
            dict(cls._fields) | attributes,
            str(data.get("host", "")),
        )
        return made

    def to_json(self) -> str:
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str | bytes) -> Device:
        return cls.from_dict(json.loads(text))

    def _put_fields(self, **given: Any) -> Self:
        """Store typed fields; a value in `attributes` wins over one that was left at its
        default."""
        for field, value in given.items():
            if value != self._fields[field] or field not in self.attributes:
                self.attributes[field] = value
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(self.device_id)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.device_id!r}, {self.name!r}, {str(self.device_type)!r})"
        )


class SerialDevice(Device):
    """A device behind a serial port."""

    _fields = {"port": "", "baud_rate": 115200}

    def __init__(
        self,
        device_id: str,
        name: str,
        port: str = "",
        baud_rate: int = 115200,
        device_type: DeviceType | str = DeviceType.Serial,
        attributes: Mapping[str, Any] | None = None,
        host: str = "",
    ) -> None:
        super().__init__(device_id, name, device_type, attributes, host)
        self._put_fields(port=port, baud_rate=baud_rate)

    @property
    def port(self) -> str:
        return str(self.attributes["port"])

    @port.setter
    def port(self, value: str) -> None:
        self.attributes["port"] = value

    @property
    def baud_rate(self) -> int:
        return int(self.attributes["baud_rate"])

    @baud_rate.setter
    def baud_rate(self, value: int) -> None:
        self.attributes["baud_rate"] = value


class USBDevice(Device):
    """A USB device; the ids are hexadecimal text as `lsusb` prints them."""

    _fields = {"vendor_id": "", "product_id": ""}

    def __init__(
        self,
        device_id: str,
        name: str,
        vendor_id: str = "",
        product_id: str = "",
        device_type: DeviceType | str = DeviceType.USB,
        attributes: Mapping[str, Any] | None = None,
        host: str = "",
    ) -> None:
        super().__init__(device_id, name, device_type, attributes, host)
        self._put_fields(vendor_id=vendor_id, product_id=product_id)

    @property
    def vendor_id(self) -> str:
        return str(self.attributes["vendor_id"])

    @vendor_id.setter
    def vendor_id(self, value: str) -> None:
        self.attributes["vendor_id"] = value

    @property
    def product_id(self) -> str:
        return str(self.attributes["product_id"])

    @product_id.setter
    def product_id(self, value: str) -> None:
        self.attributes["product_id"] = value


class SocketCANDevice(Device):
    """A CAN bus; `interface` is the kernel's name of the link."""

    _fields = {"interface": "can0"}

    def __init__(
        self,
        device_id: str,
        name: str,
        interface: str = "can0",
        device_type: DeviceType | str = DeviceType.CAN,
        attributes: Mapping[str, Any] | None = None,
        host: str = "",
    ) -> None:
        super().__init__(device_id, name, device_type, attributes, host)
        self._put_fields(interface=interface)

    @property
    def interface(self) -> str:
        return str(self.attributes["interface"])

    @interface.setter
    def interface(self, value: str) -> None:
        self.attributes["interface"] = value


_TYPED: dict[str, type[Device]] = {
    DeviceType.Serial: SerialDevice,
    DeviceType.USB: USBDevice,
    DeviceType.CAN: SocketCANDevice,
}
