"""What a host has, by name; and one sentence for each name that it does not know."""

from __future__ import annotations

from typing import Any

import pytest

from sat_host.devices.device import HostedDevice
from sat_host.devices.drivers import Driver
from sat_host.devices.inventory import Inventory
from sat_host.devices.surroundings import Surroundings
from sat_toolkit.core.commands import Command
from sat_toolkit.errors import BadArgs, UnknownCommand, UnknownDevice, UnknownDriver
from tests.unit.sat_host.fakes import LoopRig
from tests.unit.sat_host.host_fakes import Frames, Readers, Workers, device_info, plugin


class Rig(LoopRig):
    def __init__(self) -> None:
        super().__init__()
        self.inventory = Inventory("bench")

    def driver(self, name: str) -> Driver:
        driver = Driver(plugin(name), self.loop, self)  # type: ignore[arg-type]
        self.inventory.add_driver(driver)
        return driver

    def device(self, driver: Driver, device_id: str) -> HostedDevice:
        scans: Any = None
        around = Surroundings(self.loop, Workers(), scans, Readers(), Frames())
        device = HostedDevice(driver, device_info(device_id), around)
        self.inventory.add(device)
        return device


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_drivers_are_known_by_name(rig: Rig) -> None:
    assert list(rig.inventory.drivers) == []
    with pytest.raises(UnknownDriver, match="unknown driver 'drv_z'; bench has: none"):
        rig.inventory.driver("drv_z")
    x, y = rig.driver("drv_x"), rig.driver("drv_y")
    assert list(rig.inventory.drivers) == [x, y]
    assert rig.inventory.driver("drv_y") is y
    assert rig.inventory.get_driver("drv_x") is x
    assert rig.inventory.get_driver("drv_z") is None
    with pytest.raises(UnknownDriver, match="unknown driver 'drv_z'; bench has: drv_x, drv_y"):
        rig.inventory.driver("drv_z")


def test_devices_are_known_by_driver_and_id(rig: Rig) -> None:
    x, y = rig.driver("drv_x"), rig.driver("drv_y")
    a, b, c = rig.device(x, "a"), rig.device(y, "b"), rig.device(x, "c")
    assert list(rig.inventory.devices) == [a, b, c]
    assert list(rig.inventory.devices_of(x)) == [a, c]
    assert rig.inventory.device("drv_x", "a") is a
    assert rig.inventory.get_device("drv_y", "b") is b
    assert rig.inventory.get_device("drv_x", "b") is None


def test_what_is_not_there_is_named(rig: Rig) -> None:
    x = rig.driver("drv_x")
    with pytest.raises(UnknownDevice, match=r"Device can0 not found; no device is known"):
        rig.inventory.device("drv_x", "can0")
    rig.device(x, "can1")
    with pytest.raises(UnknownDevice, match=r"can0 not found; did you mean bench/drv_x/can1\?"):
        rig.inventory.device("drv_x", "can0")
    with pytest.raises(UnknownDriver, match="'drv_z'; bench has: drv_x"):
        rig.inventory.device("drv_z", "can1")


def test_people_may_leave_out_the_driver(rig: Rig) -> None:
    x, y = rig.driver("drv_x"), rig.driver("drv_y")
    a, b = rig.device(x, "a"), rig.device(y, "b")
    assert rig.inventory.find("a") is a
    assert rig.inventory.find("drv_y/b") is b
    assert rig.inventory.find("b", "drv_y") is b
    with pytest.raises(UnknownDevice):
        rig.inventory.find("b", "drv_x")
    with pytest.raises(UnknownDriver):
        rig.inventory.find("b", "drv_z")
    with pytest.raises(UnknownDevice, match="ghost not found"):
        rig.inventory.find("ghost")


def test_a_name_of_two_devices_needs_the_driver(rig: Rig) -> None:
    devices = [rig.device(rig.driver(name), "a") for name in ("drv_x", "drv_y")]
    with pytest.raises(BadArgs, match="2 devices: bench/drv_x/a, bench/drv_y/a"):
        rig.inventory.find("a")
    assert rig.inventory.find("a", "drv_y") is devices[1]


def test_a_device_that_is_forgotten_is_not_there(rig: Rig) -> None:
    x = rig.driver("drv_x")
    a, b = rig.device(x, "a"), rig.device(x, "b")
    rig.inventory.forget(a)
    assert list(rig.inventory.devices) == [b]
    with pytest.raises(UnknownDevice):
        rig.inventory.find("a", "drv_x")


def test_commands_are_those_that_the_driver_declares(rig: Rig) -> None:
    driver = rig.driver("drv_x")
    device = rig.device(driver, "a")
    with pytest.raises(UnknownCommand, match="unknown command 'send'; drv_x has: none"):
        rig.inventory.command(device, "send")
    driver.commands = {"stop": Command("stop"), "send": Command("send")}
    assert rig.inventory.command(device, "send") is driver.commands["send"]
    with pytest.raises(UnknownCommand, match="unknown command 'dance'; drv_x has: send, stop"):
        rig.inventory.command(device, "dance")


def test_when_all_drivers_have_been_described_and_scanned(rig: Rig) -> None:
    assert rig.inventory.described
    assert rig.inventory.scanned
    x, y = rig.driver("drv_x"), rig.driver("drv_y")
    x.described = x.scanned = True
    assert not rig.inventory.described
    assert not rig.inventory.scanned
    y.described = True
    assert rig.inventory.described
    y.error = "it cannot be loaded"
    assert rig.inventory.scanned, "one that cannot be used never will be"
    y.error, y.scanned = None, True
    assert rig.inventory.scanned
