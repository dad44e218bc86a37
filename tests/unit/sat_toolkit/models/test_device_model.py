"""Device models: what they hold, and that nothing of it is lost on the way through JSON."""

from __future__ import annotations

import pytest

from sat_toolkit.domain import device as second_name
from sat_toolkit.models.Device_Model import (
    Device,
    DeviceType,
    SerialDevice,
    SocketCANDevice,
    USBDevice,
)


def test_a_device_takes_the_guides_positional_arguments() -> None:
    made = Device("id0", "Name", DeviceType.Ethernet, {"mac": "aa"})
    assert (made.device_id, made.name, made.device_type) == ("id0", "Name", "Ethernet")
    made.update_attribute("ip", "10.0.0.1")
    assert made.get_attribute("ip") == "10.0.0.1"
    assert made.get_attribute("absent", 7) == 7


def test_device_types_are_their_own_names() -> None:
    assert [t.value for t in DeviceType] == ["USB", "Wireless", "Ethernet", "Serial", "CAN"]
    assert [t.name for t in DeviceType] == [t.value for t in DeviceType]


def test_two_devices_share_no_attributes() -> None:
    given: dict[str, int] = {}
    one, two = Device("a", "A", "USB", given), Device("b", "B", "USB", given)
    one.update_attribute("x", 1)
    assert two.attributes == {}
    assert given == {}


@pytest.mark.parametrize(
    ("made", "fields", "device_type"),
    [
        (SerialDevice("s", "S"), {"port": "", "baud_rate": 115200}, DeviceType.Serial),
        (SerialDevice("s", "S", port="/dev/tty0", baud_rate=9600), {"port": "/dev/tty0", "baud_rate": 9600}, "Serial"),
        (USBDevice("u", "U", vendor_id="1d6b"), {"vendor_id": "1d6b", "product_id": ""}, DeviceType.USB),
        (SocketCANDevice(device_id="c", name="C"), {"interface": "can0"}, DeviceType.CAN),
        (SocketCANDevice("c", "C", interface="vcan1"), {"interface": "vcan1"}, DeviceType.CAN),
    ],
)  # fmt: skip
def test_typed_devices_come_back_from_json_whole(
    made: Device, fields: dict[str, object], device_type: str
) -> None:
    assert made.device_type == device_type
    assert {field: getattr(made, field) for field in fields} == fields
    assert made.to_dict().items() >= fields.items()
    assert made.attributes == fields, "what a client gets are the attributes"
    for back in (Device.from_json(made.to_json()), type(made).from_dict(made.to_dict())):
        assert type(back) is type(made)
        assert back == made


def test_a_typed_field_can_be_set() -> None:
    made = SerialDevice("s", "S", attributes={"port": "/dev/a"})
    assert made.port == "/dev/a"
    made.port = "/dev/b"
    assert made.to_dict()["port"] == made.attributes["port"] == "/dev/b"


def test_a_device_of_attributes_alone_becomes_its_typed_class() -> None:
    back = Device.from_dict(
        {"device_id": "c", "device_type": "CAN", "attributes": {"interface": "vcan0"}}
    )
    assert isinstance(back, SocketCANDevice)
    assert back.interface == "vcan0"


def test_an_unknown_type_and_unknown_keys_are_no_obstacle() -> None:
    back = Device.from_dict({"device_id": "l", "device_type": "LIN", "later_field": 1})
    assert (back.device_type, back.name) == ("LIN", "l")


def test_the_host_travels_only_when_there_is_one() -> None:
    assert "host" not in Device("a", "A", "USB").to_dict()
    assert Device.from_dict(Device("a", "A", "USB", host="bench1").to_dict()).host == "bench1"


def test_hardware_id_is_an_attribute() -> None:
    assert Device("a", "A", "USB").hardware_id is None
    assert Device("a", "A", "USB", {"hardware_id": 17}).hardware_id == "17"


def test_the_second_import_name_is_the_same_class() -> None:
    assert second_name.Device is Device
    assert second_name.SocketCANDevice is SocketCANDevice
