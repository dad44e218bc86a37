"""The machine's ports: names that stay, and nothing else for a port."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from plugins.devices.serial.discovery import (
    UDEV_PATIENCE_S,
    describe,
    has_settled,
    is_real,
    links,
    machine_ports,
)


@dataclass
class Info:
    """A port as pyserial describes it."""

    device: str
    name: str = field(init=False)
    vid: int | None = None
    pid: int | None = None
    serial_number: str | None = None
    manufacturer: str | None = None
    product: str | None = None
    location: str | None = None

    def __post_init__(self) -> None:
        self.name = self.device.rpartition("/")[2]


FTDI = Info("/dev/ttyUSB0", 0x0403, 0x6001, "A50285BI", "FTDI", "FT232R USB UART", "1-1")
CH340 = Info("/dev/ttyUSB1", 0x1A86, 0x7523, None, None, "USB Serial", "1-2")


def test_an_adapter_with_a_serial_number_has_its_name_by_id() -> None:
    by_id = {"/dev/ttyUSB0": Path("/dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A50285BI-if00-port0")}
    by_path = {"/dev/ttyUSB0": Path("/dev/serial/by-path/pci-0000:00:14.0-usb-0:1:1.0-port0")}
    (device,) = describe([FTDI], by_id, by_path)
    assert device.device_id == "usb-FTDI_FT232R_USB_UART_A50285BI-if00-port0"
    assert device.name == "FT232R USB UART (/dev/ttyUSB0)"
    assert device.attributes == {
        "port": "/dev/ttyUSB0",
        "baud_rate": 115200,
        "by_id": str(by_id["/dev/ttyUSB0"]),
        "by_path": str(by_path["/dev/ttyUSB0"]),
        "vid": "0403",
        "pid": "6001",
        "serial_number": "A50285BI",
        "manufacturer": "FTDI",
        "product": "FT232R USB UART",
        "location": "1-1",
        "hardware_id": "usb:0403:6001:A50285BI",
    }


def test_an_adapter_without_one_has_the_name_of_the_place_that_it_is_plugged_in() -> None:
    by_id = {"/dev/ttyUSB1": Path("/dev/serial/by-id/usb-1a86_USB_Serial-if00-port0")}
    by_path = {"/dev/ttyUSB1": Path("/dev/serial/by-path/pci-0000:00:14.0-usb-0:2:1.0-port0")}
    (device,) = describe([CH340], by_id, by_path)
    assert device.device_id == "pci-0000:00:14.0-usb-0:2:1.0-port0"
    assert device.hardware_id == "usb:1a86:7523@1-2"
    assert describe([CH340], by_id, {})[0].device_id == "usb-1a86_USB_Serial-if00-port0"


def test_without_udev_the_name_is_made_of_what_usb_says() -> None:
    assert [device.device_id for device in describe([FTDI, CH340], {}, {})] == [
        "0403:6001:A50285BI",
        "ttyUSB1",
    ]


def test_the_ports_of_one_adapter_and_twins_have_names_of_their_own() -> None:
    quad = [Info(f"/dev/ttyUSB{i}", 0x0403, 0x6011, "FT4", location=f"1-3:1.{i}") for i in range(4)]
    devices = describe(quad, {}, {})
    assert [device.device_id for device in devices] == [f"0403:6011:FT4:1.{i}" for i in range(4)]
    assert len({device.hardware_id for device in devices}) == 4
    twins = [Info("/dev/ttyACM0", 1, 2, "123456"), Info("/dev/ttyACM1", 1, 2, "123456")]
    assert [device.device_id for device in describe(twins, {}, {})] == [
        "0001:0002:123456",
        "ttyACM1",
    ]


def test_a_built_in_port_has_its_own_name() -> None:
    (device,) = describe([Info("/dev/ttyS4")], {}, {})
    assert (device.device_id, device.hardware_id, device.name) == (
        "ttyS4",
        "tty:ttyS4",
        "Serial port (/dev/ttyS4)",
    )


def test_the_links_of_a_folder_by_where_they_lead(tmp_path: Path) -> None:
    port = tmp_path / "ttyUSB0"
    port.touch()
    folder = tmp_path / "by-path"
    assert links(folder) == {}
    folder.mkdir()
    for name in ("b-usbv2", "a-usb"):
        (folder / name).symlink_to("../ttyUSB0")
    assert links(folder) == {str(port): folder / "a-usb"}


def test_a_port_without_a_uart_and_the_console_are_none(tmp_path: Path) -> None:
    for name, kind in (("ttyS0", "4"), ("ttyS1", "0"), ("ttyS2", "4")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "type").write_text(f"{kind}\n")
    (tmp_path / "console").mkdir()
    (tmp_path / "console" / "active").write_text("tty0 ttyS0\n")
    real = [name for name in ("ttyS0", "ttyS1", "ttyS2", "ttyUSB0") if is_real(name, tmp_path)]
    assert real == ["ttyS2", "ttyUSB0"]


def test_a_usb_port_waits_for_udev_but_not_for_ever(tmp_path: Path) -> None:
    udev = tmp_path / "udev"
    port = tmp_path / "ttyUSB0"
    port.touch()
    info = Info(str(port), 1, 2)
    assert has_settled(info, udev), "without udev there is nothing to wait for"
    (udev / "data").mkdir(parents=True)
    (udev / "control").touch()
    assert not has_settled(info, udev)
    assert has_settled(Info(str(port)), udev)
    assert not has_settled(Info(str(tmp_path / "gone"), 1, 2), udev)
    node = os.stat(port).st_rdev
    entry = udev / "data" / f"c{os.major(node)}:{os.minor(node)}"
    entry.touch()
    assert has_settled(info, udev)
    entry.unlink()
    old = Info("/dev/null", 1, 2)
    assert time.time() - os.stat("/dev/null").st_ctime > UDEV_PATIENCE_S
    assert has_settled(old, udev)


def test_the_ports_of_this_machine_can_be_listed() -> None:
    devices = machine_ports()
    assert all(os.path.exists(device.port) and device.hardware_id for device in devices)
    console = Path("/sys/class/tty/console/active").read_text().split()
    assert not {os.path.basename(device.port) for device in devices} & set(console)
