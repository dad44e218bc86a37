"""Drivers in this very process: one instance a device, states, and nothing left open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.core.lifecycle import Operation
from sat_toolkit.core.local_backend import LocalBackend
from sat_toolkit.core.plugin_loader import PluginFile
from sat_toolkit.errors import BadState, CommandFailed, DriverError, UnknownDevice, UnknownDriver
from tests.unit.sdk_fakes import FakeDriver, RecordingSink, device

DRV = "drv_fake"
A, B = device("a"), device("b")


class Bench:
    """A backend over one driver; `does` is that of all its instances."""

    def __init__(self) -> None:
        bench = self
        self.does: dict[str, Any] = {"scan": [A, B]}
        self.instances: list[FakeDriver] = []
        self.loaded = 0

        class Driver(FakeDriver):
            def __init__(self) -> None:
                super().__init__()
                self.does = bench.does
                bench.instances.append(self)

        def load(plugin: PluginFile) -> type[FakeDriver]:
            self.loaded += 1
            return Driver

        plugin = PluginFile(DRV, "fake", Path("drv_fake.py"))
        self.backend = LocalBackend([plugin], {DRV: {"port": 5}}, RecordingSink(), load)

    def state(self) -> DeviceState:
        return self.backend.state(DRV, A)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.does.clear()
    made.backend.shutdown()


def test_a_driver_is_loaded_when_it_is_first_used_and_once(bench: Bench) -> None:
    assert bench.backend.drivers() == [DRV]
    assert bench.loaded == 0
    bench.backend.scan(DRV)
    bench.backend.operate(Operation.CONNECT, DRV, A)
    assert bench.loaded == 1
    assert [driver.info for driver in bench.instances] == [{"port": 5}] * 2  # a scanner, and a's


def test_the_way_up_and_down(bench: Bench) -> None:
    bench.backend.scan(DRV)
    assert bench.state() is DeviceState.DISCOVERED
    reached = bench.backend.operate(Operation.CONNECT, DRV, A)
    assert (reached.changed, reached.state) == (True, DeviceState.CONNECTED)
    assert not bench.backend.operate(Operation.CONNECT, DRV, A).changed
    assert bench.backend.operate(Operation.CLOSE, DRV, A).state is DeviceState.DISCONNECTED
    assert bench.backend.state(DRV, B) is DeviceState.DISCOVERED


def test_connect_looks_for_a_device_that_is_not_known_yet(bench: Bench) -> None:
    assert bench.backend.operate(Operation.CONNECT, DRV, A).state is DeviceState.CONNECTED
    bench.does["scan"] = []
    with pytest.raises(UnknownDevice, match="c not found"):
        bench.backend.operate(Operation.CONNECT, DRV, device("c"))


def test_what_a_scan_does_not_find_is_gone_unless_it_is_open(bench: Bench) -> None:
    bench.backend.scan(DRV)
    bench.backend.operate(Operation.CONNECT, DRV, A)
    bench.does["scan"] = []
    bench.backend.scan(DRV)
    assert [found.device_id for found in bench.backend.devices(DRV)] == ["a"]


def test_a_command_that_fails_alone_costs_nothing_else(bench: Bench) -> None:
    bench.backend.operate(Operation.CONNECT, DRV, A)
    bench.does["command"] = CommandFailed("not now")
    with pytest.raises(CommandFailed, match="not now"):
        bench.backend.command(DRV, A, "go", {})
    assert bench.state() is DeviceState.CONNECTED


def test_a_driver_that_fails_takes_its_device_into_error(bench: Bench) -> None:
    bench.backend.operate(Operation.CONNECT, DRV, A)
    bench.does["command"] = OSError("no port")
    with pytest.raises(DriverError, match="no port"):
        bench.backend.command(DRV, A, "go", {})
    assert bench.state() is DeviceState.ERROR
    with pytest.raises(BadState):
        bench.backend.command(DRV, A, "go", {})


def test_a_shutdown_closes_what_is_open_and_survives_a_driver_that_cannot(bench: Bench) -> None:
    for one in (A, B):
        bench.backend.operate(Operation.CONNECT, DRV, one)
    bench.does["close"] = OSError("stuck")
    bench.backend.shutdown()
    assert [driver.calls[-1] for driver in bench.instances[1:]] == ["close", "close"]
    assert bench.backend.states() == {}


def test_a_driver_that_is_not_there_is_named(bench: Bench) -> None:
    with pytest.raises(UnknownDriver, match="drv_none"):
        bench.backend.scan("drv_none")
