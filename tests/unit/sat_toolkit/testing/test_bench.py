"""The bench of `sat_toolkit.testing`: a device while it lasts, and what was left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sat_toolkit.testing import (
    Bench,
    Subject,
    TcpInstrument,
    Violation,
    subject_of,
)
from tests.unit.sdk_fakes import FakeDriver


def test_a_rig_is_a_connected_device() -> None:
    with Bench(subject_of(FakeDriver)) as bench:
        rig = bench.rig().up()
        driver = rig.runner.driver
        assert isinstance(driver, FakeDriver)
        rig.start()
        rig.recorder.wait_frames(2)
        rig.stop()
        assert not rig.recorder.open
        assert driver.calls[-1] == "cleanup"
    assert driver.calls[-1] == "close"


def test_a_thread_that_is_left_is_named() -> None:
    end = threading.Event()

    class Careless(FakeDriver):
        def _connect_impl(self, device: Any) -> bool:
            threading.Thread(target=end.wait, name="careless/1").start()
            return True

    with (
        pytest.raises(Violation, match="threads are left running: careless/1"),
        Bench(subject_of(Careless)) as bench,
    ):
        bench.rig().up()
    end.set()


def test_what_a_test_raises_comes_before_what_was_left() -> None:
    end = threading.Event()
    with pytest.raises(KeyError, match="the test's own"), Bench(subject_of(FakeDriver)):
        threading.Thread(target=end.wait).start()
        raise KeyError("the test's own")
    end.set()


def test_the_simulator_runs_as_long_as_the_bench() -> None:
    device = TcpInstrument({})

    @contextmanager
    def simulator() -> Iterator[dict[str, Any]]:
        with device:
            yield {"address": device.address}

    subject = subject_of(FakeDriver, simulator=simulator)
    assert subject.simulated
    with Bench(subject) as bench:
        assert bench.info == {"address": device.address}
        assert bench.rig().runner.driver.info == bench.info
        bench.unplug()
        assert f"sim/{'tcp'}" not in [thread.name for thread in threading.enumerate()]


def test_a_device_that_is_not_found_is_named() -> None:
    with (
        Bench(Subject(FakeDriver, device_id="dev7")) as bench,
        pytest.raises(LookupError, match=r"'dev7'; it finds: dev0"),
    ):
        bench.rig()
