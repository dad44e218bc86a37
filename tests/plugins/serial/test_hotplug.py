"""The notice of serial ports that come and go; the messages are as the kernel and udev send
them."""

from __future__ import annotations

import os
import struct
import threading
from pathlib import Path

import pytest

from plugins.devices.serial.drv_serial import SerialDriver
from plugins.devices.serial.hotplug import concerns_ttys, watch_ports


def kernel_message(subsystem: str) -> bytes:
    path = f"/devices/usb1/1-1/1-1:1.0/ttyUSB0/{subsystem}/ttyUSB0"
    return b"\0".join(
        part.encode()
        for part in (
            f"add@{path}",
            "ACTION=add",
            f"DEVPATH={path}",
            f"SUBSYSTEM={subsystem}",
            "SEQNUM=7",
            "",
        )
    )


def udev_message(subsystem: str) -> bytes:
    properties = b"\0".join(
        part.encode() for part in (f"SUBSYSTEM={subsystem}", "ACTION=add", "DEVNAME=/dev/x", "")
    )
    header = struct.pack("=8s4sIII16x", b"libudev\0", b"\xfe\xed\xca\xfe", 40, 40, len(properties))
    return header + properties


@pytest.mark.parametrize("make", [kernel_message, udev_message])
def test_a_tty_is_noticed_and_nothing_else(make) -> None:
    assert concerns_ttys(make("tty"))
    assert not concerns_ttys(make("usb"))
    assert not concerns_ttys(make("ttyx"))


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 64, b"libudev\0", b"libudev\0" + b"\xff" * 64, b"XSUBSYSTEM=tty"]
)
def test_noise_is_no_notice(data: bytes) -> None:
    assert not concerns_ttys(data)


def test_nothing_happens_within_the_time_given() -> None:
    watch = watch_ports()
    try:
        assert watch.wait(0.05) is False
    finally:
        watch.close()


def test_the_driver_wakes_up_when_the_kernel_tells_of_a_tty(tmp_path: Path) -> None:
    events = [
        path for path in Path("/sys/class/tty").glob("tty*/uevent") if os.access(path, os.W_OK)
    ]
    if not events or Path("/run/udev/control").exists():
        pytest.skip(
            "needs the right to make the kernel repeat an event, and a machine without udev"
        )
    driver = SerialDriver()
    assert driver.wait_for_change(0.01) is False
    timer = threading.Timer(0.1, events[0].write_text, ["change"])
    timer.start()
    try:
        assert driver.wait_for_change(10.0) is True
    finally:
        timer.join()
