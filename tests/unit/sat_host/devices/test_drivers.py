"""A driver of a host: described once, scanned for all who ask, and told apart from its own past."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sat_bus.service.tasks import Promise, Task
from sat_host.devices.drivers import MAX_SCAN_WAIT, MIN_SCAN_PERIOD, Driver, ScanResult
from sat_host.outcome import Outcome
from sat_host.pool.handle import WorkerHandle
from sat_host.wire_messages import (
    Acquiring,
    BatchHeader,
    CommandSpec,
    Describe,
    Description,
    HardwareChanged,
    Scan,
)
from sat_toolkit.core.commands import Command
from sat_toolkit.core.plugin_loader import PluginFile
from sat_toolkit.errors import DriverError, Indeterminate
from tests.unit.sat_host.fakes import LoopRig, ScriptedWorker

OBJECT = {"type": "object"}
DESCRIBED = Outcome(Description({"go": CommandSpec("x", OBJECT, 500)}, ["can"], 2.5))
FOUND = Outcome([{"device_id": "d1"}])
FAILED = Outcome(error=DriverError("no bus"))
GONE = Outcome(error=Indeterminate("worker died"), fatal=True, gone=True)


class Rig:
    """A driver, its workers in the order in which they were asked for, and the news of it."""

    def __init__(self) -> None:
        self.workers: list[ScriptedWorker] = []
        self.news: list[str] = []
        self.results: list[ScanResult] = []
        self.refuses = False
        self.when_described: Callable[[], object] = lambda: None
        self._rig = LoopRig()
        self.driver = Driver(PluginFile("drv_a", "can", Path("/p/drv_a.py")), self._rig.loop, self)

    @property
    def worker(self) -> ScriptedWorker:
        return self.workers[-1]

    def spawn_scanner(self, driver: Driver) -> WorkerHandle:
        if self.refuses:
            raise OSError("no more processes")
        self.workers.append(ScriptedWorker())
        return self.workers[-1]  # type: ignore[return-value]

    def described(self, driver: Driver) -> None:
        self.news.append("described")
        self.when_described()

    def hardware_changed(self, driver: Driver) -> None:
        self.news.append("changed")

    def scan(self) -> None:
        Task(self._rig.loop, self._note(self.driver.scan()))

    async def _note(self, result: Promise[ScanResult]) -> None:
        self.results.append(await result)

    def asked(self) -> list[type]:
        return [type(request) for request, *_ in self.worker.calls]


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture
def ready(rig: Rig) -> Rig:
    rig.driver.start()
    rig.worker.answer(DESCRIBED)
    return rig


def test_it_is_known_once_it_is_described(rig: Rig) -> None:
    rig.driver.start()
    assert (rig.asked(), rig.news, rig.driver.described) == ([Describe], [], False)
    rig.worker.answer(DESCRIBED)
    driver = rig.driver
    assert driver.commands == {"go": Command("go", "x", OBJECT, 500)}
    assert (driver.streams, driver.scan_period, driver.error) == (["can"], 2.5, None)
    assert (rig.news, driver.described, driver.scanned) == (["described"], True, False)
    assert driver.worker is rig.worker


def test_one_that_cannot_be_described_says_why(rig: Rig) -> None:
    rig.driver.start()
    rig.worker.answer(FAILED)
    assert (rig.driver.error, rig.driver.described) == ("no bus", True)
    assert rig.news == ["described"]
    rig.driver.reload()
    rig.worker.answer(DESCRIBED)
    assert rig.driver.error is None


def test_a_schema_that_is_none_makes_the_driver_useless(rig: Rig) -> None:
    rig.driver.start()
    rig.scan()
    spec = CommandSpec("", {"type": "nonsense"})
    rig.worker.answer(Outcome(Description({"go": spec}, [], 1.0)))
    assert "supported_commands['go']: no valid JSON Schema" in str(rig.driver.error)
    assert rig.driver.commands == {}
    assert str(rig.results[0].error) == rig.driver.error


def test_without_a_process_it_says_so_and_so_do_its_scans(rig: Rig) -> None:
    rig.refuses = True
    rig.scan()
    text = "no worker process could be started: no more processes"
    assert (rig.driver.error, rig.driver.described) == (text, True)
    assert str(rig.results[0].error) == text
    rig.refuses = False
    rig.scan()
    rig.worker.answer(DESCRIBED)
    rig.worker.answer(FOUND)
    assert rig.results[1] == ScanResult(({"device_id": "d1"},))


@pytest.mark.parametrize(("declared", "used"), [(0.001, MIN_SCAN_PERIOD), (7.0, 7.0)])
def test_no_driver_is_scanned_too_often(rig: Rig, declared: float, used: float) -> None:
    rig.driver.start()
    rig.worker.answer(Outcome(Description({}, [], declared)))
    assert rig.driver.scan_period == rig.driver.scan_wait == used


def test_a_scan_under_way_serves_all_who_ask(ready: Rig) -> None:
    ready.scan()
    ready.scan()
    assert ready.asked() == [Describe, Scan]
    ready.worker.answer(FOUND)
    assert ready.results == [ScanResult(({"device_id": "d1"},))] * 2
    assert ready.driver.scanned
    ready.scan()
    assert ready.asked() == [Describe, Scan, Scan]


def test_a_scan_that_is_asked_for_early_waits_for_the_description(rig: Rig) -> None:
    rig.driver.start()
    rig.scan()
    assert rig.asked() == [Describe]
    rig.worker.answer(DESCRIBED)
    assert rig.asked() == [Describe, Scan]
    rig.worker.answer(FOUND)
    assert len(rig.results) == 1


def test_an_owner_may_scan_as_soon_as_it_is_told(rig: Rig) -> None:
    rig.when_described = rig.scan
    rig.driver.start()
    rig.scan()
    rig.worker.answer(DESCRIBED)
    assert rig.asked() == [Describe, Scan], "one for both"
    rig.worker.answer(FOUND)
    assert len(rig.results) == 2


def test_a_driver_that_fails_waits_longer_each_time(ready: Rig) -> None:
    waits = []
    for _ in range(12):
        ready.scan()
        ready.worker.answer(FAILED)
        waits.append(ready.driver.scan_wait)
    assert waits[:3] == [5.0, 10.0, 20.0]
    assert waits[-1] == MAX_SCAN_WAIT
    assert str(ready.results[0].error) == "no bus"
    ready.scan()
    ready.worker.answer(FOUND)
    assert ready.driver.scan_wait == 2.5


def test_a_scan_worker_that_dies_is_replaced_by_the_next_scan(ready: Rig) -> None:
    ready.scan()
    ready.worker.answer(GONE)
    ready.driver.on_exit("worker died")
    assert str(ready.results[0].error) == "worker died"
    assert (ready.driver.worker, ready.driver.error) == (None, "worker died")
    ready.scan()
    assert len(ready.workers) == 2
    ready.worker.answer(DESCRIBED)
    ready.worker.answer(FOUND)
    assert ready.results[1].error is None
    assert ready.driver.error is None


def test_the_first_reason_for_being_useless_stands(rig: Rig) -> None:
    rig.driver.start()
    rig.worker.answer(FAILED)
    rig.driver.on_exit("worker died")
    assert rig.driver.error == "no bus"


def test_a_reload_begins_anew_and_the_scan_under_way_with_it(ready: Rig) -> None:
    ready.scan()
    old = ready.worker
    ready.driver.reload()
    assert ready.driver.reloading
    assert old.dismissed
    old.answer(FOUND)
    assert ready.results == [], "what the old worker says counts no more"
    ready.worker.answer(DESCRIBED)
    ready.worker.answer(Outcome([{"device_id": "new"}]))
    assert ready.results == [ScanResult(({"device_id": "new"},))]


def test_a_reload_during_a_description_asks_the_new_worker(rig: Rig) -> None:
    rig.driver.start()
    old = rig.worker
    rig.driver.reload()
    old.answer(FAILED)
    assert (rig.driver.error, rig.news) == (None, [])
    rig.worker.answer(DESCRIBED)
    assert rig.news == ["described"]


def test_a_stop_ends_the_worker_and_does_no_harm_without_one(ready: Rig) -> None:
    ready.driver.stop()
    assert ready.worker.dismissed
    ready.driver.stop()
    assert ready.driver.worker is None


def test_only_changes_of_the_hardware_are_news(ready: Rig) -> None:
    ready.driver.on_event(Acquiring(True))
    ready.driver.on_frames(BatchHeader("can", "json", "r", 0, {}, b"{"), b"[]")
    ready.driver.on_event(HardwareChanged())
    assert ready.news == ["described", "changed"]
