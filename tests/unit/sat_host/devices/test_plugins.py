"""Drivers come out of plugin files, and come again when those change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sat_host.devices.inventory import Inventory
from sat_host.devices.jobs import Job
from sat_host.devices.plugins import Plugins
from sat_host.devices.scanner import Scanner
from sat_host.outcome import Outcome
from sat_host.settings import HostSettings
from sat_host.wire_messages import Describe, HardwareChanged, Scan
from sat_toolkit.core.device_spec import DeviceState as S
from sat_toolkit.core.lifecycle import Operation
from sat_toolkit.errors import PluginError
from tests.unit.sat_host.fakes import LoopRig
from tests.unit.sat_host.host_fakes import Frames, Readers, Workers


class Rig(LoopRig):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.family = folder / "lab"
        self.family.mkdir(exist_ok=True)
        self.workers, self.readers = Workers(), Readers()
        self.inventory = Inventory("bench")
        scanner = Scanner(self.inventory, self.loop, self.workers, self.readers, Frames())
        settings = HostSettings(family="lab", host="bench", plugins=str(folder))
        self.plugins = Plugins(
            settings, self.loop, self.inventory, scanner, self.workers, self.readers
        )

    def write(self, *names: str, text: str = "pass\n") -> None:
        for name in names:
            (self.family / name).write_text(text)
            os.utime(self.family / name, (1.0, 1.0 + len(text)))

    def begin(self, *names: str) -> None:
        self.write(*names)
        self.plugins.find()
        self.plugins.start()

    @property
    def names(self) -> list[str]:
        return [driver.name for driver in self.inventory.drivers]

    @property
    def described(self) -> list[str]:
        """The scan workers that were asked to describe, in order."""
        return [w.name for w in self.workers.workers if Describe() in w.requests]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_each_plugin_file_is_a_driver(rig: Rig) -> None:
    rig.begin("drv_x.py", "drv_y.py", "helper.py")
    assert rig.names == ["drv_x", "drv_y"]
    assert rig.described == ["drv_x/scan", "drv_y/scan"]
    name, plugin, device = rig.workers.spawned[0]
    assert (name, plugin.path, device) == ("drv_x/scan", rig.family / "drv_x.py", None)
    assert rig.workers.of("drv_x/scan").owner is rig.inventory.driver("drv_x")


def test_a_driver_that_was_described_is_scanned(rig: Rig) -> None:
    rig.begin("drv_x.py")
    assert rig.workers.last.requests == [Describe(), Scan()]
    assert [device.id for device in rig.inventory.devices] == ["a"]
    assert rig.plugins.all_described.settled


def test_a_family_without_drivers_is_described(rig: Rig) -> None:
    with capture_logs() as logs:
        rig.plugins.find()
    assert logs[0]["event"] == "no drivers"
    assert str(rig.family.parent) in logs[0]["folders"]
    assert rig.plugins.all_described.settled
    rig.plugins.start()
    assert rig.names == []


def test_all_are_described_when_the_last_one_is(rig: Rig) -> None:
    description = rig.workers.answers.pop(Describe)
    rig.begin("drv_x.py", "drv_y.py")
    rig.workers.of("drv_y/scan").answer(description)
    assert not rig.plugins.all_described.settled
    rig.workers.of("drv_x/scan").answer(description)
    assert rig.plugins.all_described.settled


def test_drivers_that_cannot_be_used_are_described_too(rig: Rig) -> None:
    rig.workers.error = OSError("no more")
    with capture_logs() as logs:
        rig.begin("drv_x.py", "drv_y.py")
    assert [(entry["event"], entry["driver"]) for entry in logs] == [
        ("driver cannot be used", "drv_x"),
        ("driver cannot be used", "drv_y"),
    ]
    assert rig.plugins.all_described.settled
    assert rig.inventory.driver("drv_x").error == "no worker process could be started: no more"
    assert list(rig.inventory.devices) == []


def test_folders_that_make_no_sense_are_refused(rig: Rig) -> None:
    rig.write("drv_x.dot.py")
    with pytest.raises(PluginError, match="may have a dot"):
        rig.plugins.find()
    assert rig.workers.spawned == []


def test_a_file_that_changes_is_loaded_again_and_its_devices_restarted(rig: Rig) -> None:
    rig.begin("drv_x.py", "drv_y.py")
    device = rig.inventory.device("drv_x", "a")
    device.submit(Job(Operation.CONNECT, "ann", 900.0))
    first = rig.workers.of("drv_x/scan")
    rig.pass_time(0.5)
    assert rig.described == ["drv_x/scan", "drv_y/scan"]
    rig.write("drv_x.py", text="changed\n")
    rig.readers.heard.clear()
    rig.pass_time(0.5)
    assert rig.described == ["drv_x/scan", "drv_y/scan", "drv_x/scan"]
    assert first.dismissed
    assert device.state is S.DISCONNECTED
    assert [entry[:2] for entry in rig.readers.of("describe")] == [("drv_x", "a")]
    (shown,) = rig.readers.of("show")
    assert shown[2].reason == "its plugin was reloaded"
    assert not rig.inventory.driver("drv_x").reloading


def test_a_device_restarts_once_for_a_reload(rig: Rig) -> None:
    rig.begin("drv_x.py")
    rig.write("drv_x.py", text="changed\n")
    rig.pass_time(0.5)
    device = rig.inventory.device("drv_x", "a")
    device.submit(Job(Operation.CONNECT, "ann", 900.0))
    driver = rig.inventory.driver("drv_x")
    rig.plugins.described(driver)
    assert device.state is S.CONNECTED


def test_code_that_does_not_load_leaves_the_old_code_running(rig: Rig) -> None:
    rig.begin("drv_x.py")
    device = rig.inventory.device("drv_x", "a")
    device.submit(Job(Operation.CONNECT, "ann", 900.0))
    rig.workers.answers[Describe] = Outcome(error=PluginError("it has a hole"))
    scans = len(rig.workers.of("drv_x/scan").requests)
    rig.write("drv_x.py", text="changed\n")
    rig.pass_time(0.5)
    assert rig.inventory.driver("drv_x").error == "it has a hole"
    assert device.state is S.CONNECTED
    assert Scan() not in rig.workers.of("drv_x/scan").requests
    assert scans == 2


def test_a_helper_that_changes_reloads_all_beside_it(rig: Rig) -> None:
    rig.begin("drv_x.py", "drv_y.py", "helper.py")
    rig.write("helper.py", text="changed\n")
    with capture_logs() as logs:
        rig.pass_time(0.5)
    assert [(entry["event"], entry["files"]) for entry in logs] == [
        ("plugin changed", ["helper.py"])
    ] * 2
    assert rig.described[2:] == ["drv_x/scan", "drv_y/scan"]


def test_another_drivers_file_reloads_nobody_else(rig: Rig) -> None:
    rig.begin("drv_x.py")
    rig.write("drv_y.py")
    rig.pass_time(0.5)
    assert rig.names == ["drv_x", "drv_y"]
    assert rig.described == ["drv_x/scan", "drv_y/scan"]


def test_folders_that_no_longer_make_sense_are_passed_over(rig: Rig) -> None:
    rig.begin("drv_x.py")
    rig.write("drv_x.py", "drv_x.dot.py", text="changed\n")
    with capture_logs() as logs:
        rig.pass_time(0.5)
    assert [entry["event"] for entry in logs] == ["plugins cannot be read again"]
    assert rig.loop.errors == 0
    assert rig.described == ["drv_x/scan"]


def test_a_hint_of_new_hardware_is_a_scan_soon(rig: Rig) -> None:
    rig.begin("drv_x.py")
    rig.inventory.driver("drv_x").on_event(HardwareChanged())
    assert rig.workers.last.requests.count(Scan()) == 1
    rig.pass_time(0.25)
    assert rig.workers.last.requests.count(Scan()) == 2
