"""Who looks for devices, and when."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from sat_bus.service.tasks import Promise
from sat_host.devices.drivers import Driver, ScanResult
from sat_host.devices.inventory import Inventory
from sat_host.devices.scanner import Scanner
from sat_host.outcome import Outcome
from sat_host.wire_messages import Scan
from sat_toolkit.core.device_spec import DeviceState as S
from sat_toolkit.errors import DriverError
from tests.unit.sat_host.fakes import LoopRig
from tests.unit.sat_host.host_fakes import Frames, Readers, Workers, device_info, plugin


class Rig(LoopRig):
    """A scanner with one driver, whose owner it is."""

    def __init__(self) -> None:
        super().__init__()
        self.workers, self.readers, self.frames = Workers(), Readers(), Frames()
        self.inventory = Inventory("bench")
        self.scanner = Scanner(self.inventory, self.loop, self.workers, self.readers, self.frames)
        self.driver = self.add("drv_x")

    def add(self, name: str) -> Driver:
        driver = Driver(plugin(name), self.loop, self)
        self.inventory.add_driver(driver)
        driver.start()
        return driver

    def spawn_scanner(self, driver: Driver):
        return self.workers.spawn(f"{driver.name}/scan", driver.plugin, None, driver)

    def described(self, driver: Driver) -> None: ...

    def hardware_changed(self, driver: Driver) -> None: ...

    @property
    def scans(self) -> int:
        """How often workers were asked to scan."""
        return sum(worker.requests.count(Scan()) for worker in self.workers.workers)

    @property
    def ids(self) -> list[str]:
        return [device.id for device in self.inventory.devices]

    def state(self, device: str) -> S:
        return self.inventory.device("drv_x", device).state


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_what_is_found_is_described_and_shown_before_the_scan_is_over(rig: Rig) -> None:
    rig.workers.find("a", "b")
    heard: list[tuple[list[str], bool]] = []

    async def wait(scan: Promise[ScanResult]) -> None:
        result = await scan
        heard.append(([info["device_id"] for info in result.devices], result.error is None))

    rig.run(wait(rig.scanner.scan(rig.driver)))
    assert heard == [(["a", "b"], True)]
    assert rig.ids == ["a", "b"]
    kinds = [(entry[0], *entry[1:3]) for entry in rig.readers.heard]
    assert kinds == [
        ("describe", "drv_x", "a"),
        ("show", "drv_x", "a"),
        ("describe", "drv_x", "b"),
        ("show", "drv_x", "b"),
        ("settle",),
    ]
    assert rig.readers.of("describe")[0][2].streams == ["can"]


def test_a_device_is_described_again_only_when_it_has_changed(rig: Rig) -> None:
    rig.scanner.scan(rig.driver)
    rig.readers.heard.clear()
    rig.scanner.scan(rig.driver)
    assert rig.readers.heard == [("settle",)]
    rig.workers.answers[Scan] = Outcome([device_info(hardware_id="s-1")])
    rig.readers.heard.clear()
    rig.scanner.scan(rig.driver)
    ((_, _, meta),) = rig.readers.of("describe")
    assert meta.hardware_id == "s-1"


def test_what_is_not_found_is_missing(rig: Rig) -> None:
    rig.workers.find("a", "b")
    rig.scanner.scan(rig.driver)
    rig.workers.find("b")
    rig.scanner.scan(rig.driver)
    assert (rig.state("a"), rig.state("b")) == (S.UNKNOWN, S.DISCOVERED)


def test_other_drivers_devices_are_not_missed(rig: Rig) -> None:
    rig.scanner.scan(rig.driver)
    rig.workers.find("c")
    rig.scanner.scan(rig.add("drv_y"))
    assert rig.state("a") is S.DISCOVERED
    assert rig.ids == ["a", "c"]


def test_a_scan_that_fails_changes_nothing(rig: Rig) -> None:
    rig.scanner.scan(rig.driver)
    rig.readers.heard.clear()
    rig.workers.answers[Scan] = Outcome(error=DriverError("no"))
    with capture_logs() as logs:
        assert str(rig.scanner.scan(rig.driver).result().error) == "no"
    assert [(entry["event"], entry["reason"]) for entry in logs] == [("scan failed", "no")]
    assert rig.state("a") is S.DISCOVERED
    assert rig.readers.heard == []


@pytest.mark.parametrize("name", ["", "x" * 129])
def test_a_device_without_room_in_a_topic_is_left_out(rig: Rig, name: str) -> None:
    rig.workers.find(name, "a")
    with capture_logs() as logs:
        rig.scanner.scan(rig.driver)
    assert [entry["event"] for entry in logs] == ["device left out"]
    assert rig.ids == ["a"]
    assert rig.readers.of("settle") == [()]


def test_a_driver_is_scanned_again_after_its_period(rig: Rig) -> None:
    rig.scanner.scan(rig.driver)
    rig.pass_time(4.75)
    assert rig.scans == 1
    rig.pass_time(0.25)
    assert rig.scans == 2
    rig.pass_time(5.0)
    assert rig.scans == 3


def test_a_scan_that_was_asked_for_puts_off_the_next(rig: Rig) -> None:
    rig.scanner.scan(rig.driver)
    rig.pass_time(4.0)
    rig.scanner.scan(rig.driver)
    rig.pass_time(4.0)
    assert rig.scans == 2
    rig.pass_time(1.0)
    assert rig.scans == 3


def test_a_driver_that_fails_is_scanned_less_often(rig: Rig) -> None:
    rig.workers.answers[Scan] = Outcome(error=DriverError("no"))
    rig.scanner.scan(rig.driver)
    rig.pass_time(9.75)
    assert rig.scans == 1
    rig.pass_time(0.25)
    assert rig.scans == 2


def test_a_burst_of_changes_is_one_scan(rig: Rig) -> None:
    rig.scanner.scan_soon(rig.driver)
    rig.clock.now += 0.15
    rig.settle()
    rig.scanner.scan_soon(rig.driver)
    assert rig.scans == 0
    rig.clock.now += 0.06
    rig.settle()
    assert rig.scans == 1
    rig.scanner.scan_soon(rig.driver)
    rig.pass_time(0.25)
    assert rig.scans == 2


def test_devices_are_given_their_surroundings(rig: Rig) -> None:
    rig.scanner.scan(rig.driver)
    device = rig.inventory.device("drv_x", "a")
    device._around.frames.publish("d", "a", None, b"")  # type: ignore[arg-type]
    assert len(rig.frames.batches) == 1
    assert device._around.scans is rig.scanner
    assert device._around.workers is rig.workers
