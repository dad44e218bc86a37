"""The bench and the recorder of `sat_toolkit.testing`, and the test class as an author's pytest
runs it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sat_cli.kit.new import new_plugin
from sat_toolkit.errors import PluginError
from sat_toolkit.testing import (
    RULES,
    Bench,
    Recorder,
    Subject,
    TcpInstrument,
    Violation,
    find_simulator,
    load,
    subject_of,
)
from sat_toolkit.testing.loading import simulator_file
from tests.unit.sdk_fakes import FakeDriver, datum


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    return new_plugin("benched", None, tmp_path)[0]


# --- the recorder ------------------------------------------------------------------------------------


def test_frames_are_waited_for_and_may_be_chosen() -> None:
    recorder = Recorder()
    for data in ("a", "b", "a", "c"):
        recorder.data(datum(data=data))
    assert [frame.data for frame in recorder.wait_frames(2, lambda frame: frame.data == "a")] == [
        "a",
        "a",
    ]
    assert [frame.data for frame in recorder.wait_frames(1, after=3)] == ["c"]


def test_a_frame_that_comes_later_ends_the_wait() -> None:
    recorder = Recorder()
    timer = threading.Timer(0.01, recorder.data, [datum(data="late")])
    timer.start()
    assert recorder.wait_frames()[0].data == "late"
    timer.join()


def test_waits_have_an_end_that_says_what_came() -> None:
    recorder = Recorder()
    recorder.data(datum(data="a"))
    recorder.opened("dev0")
    with pytest.raises(TimeoutError, match=r"1 of 2 frames came within 0\.01 s"):
        recorder.wait_frames(2, timeout=0.01)
    with pytest.raises(TimeoutError, match="and 1 that do not match"):
        recorder.wait_frames(1, lambda frame: False, timeout=0.01)
    with pytest.raises(TimeoutError, match="did not fail"):
        recorder.wait_failure(timeout=0.01)
    with pytest.raises(TimeoutError, match="still open"):
        recorder.wait_closed("dev0", timeout=0.01)


def test_a_dead_loop_ends_the_wait_for_frames() -> None:
    recorder = Recorder()
    recorder.failed("the port is gone")
    with pytest.raises(TimeoutError, match="0 of 1 frames came before it failed: the port is gone"):
        recorder.wait_frames(timeout=60)
    assert recorder.wait_failure() == "the port is gone"


# --- the bench ---------------------------------------------------------------------------------------


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


# --- finding -----------------------------------------------------------------------------------------


def test_the_simulator_beside_a_driver_is_found(driver: Path) -> None:
    assert load(driver).__name__ == "BenchedDriver"
    assert subject_of(driver).simulated
    assert not subject_of(driver, {"devices": {}}).simulated
    driver.with_name("sim_benched.py").rename(driver.with_name("sim_other.py"))
    assert simulator_file(driver) == driver.with_name("sim_other.py")
    driver.with_name("sim_second.py").write_text("def simulator(): ...\n")
    assert simulator_file(driver) is None  # which of the two is not said


def test_a_file_without_the_hook_is_no_simulator(driver: Path) -> None:
    driver.with_name("sim_benched.py").write_text("class Simulator: ...\n")
    assert simulator_file(driver) is None
    driver.with_name("sim_benched.py").write_text("not python (")
    assert simulator_file(driver) is None


def test_a_simulator_that_cannot_be_imported_says_so(driver: Path) -> None:
    from sat_toolkit.core.plugin_loader import plugin_at

    simulator = driver.with_name("sim_benched.py")
    simulator.write_text(f"import no_such_library\n{simulator.read_text()}")
    with pytest.raises(PluginError, match=r"sim_benched\.py: cannot be imported"):
        find_simulator(plugin_at(driver))


# --- the test class ----------------------------------------------------------------------------------


def pytest_in(folder: Path, *words: str) -> str:
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", *words]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=60)
    return done.stdout


def test_a_faulty_driver_fails_in_the_test_of_that_rule(driver: Path) -> None:
    driver.write_text(
        driver.read_text().replace("timestamp=time.time()", "timestamp=time.monotonic()")
    )
    said = pytest_in(driver.parent)
    assert "1 failed" in said
    assert "test_conforms[frames-say-what-they-are]" in said
    assert "is not of today" in said


def test_a_rule_that_does_not_apply_may_be_left_out_by_name(driver: Path) -> None:
    driver.write_text(
        driver.read_text().replace("timestamp=time.time()", "timestamp=time.monotonic()")
    )
    test = driver.with_name("test_drv_benched.py")
    exempt = 'exempt = {"frames say what they are": "its clock starts with the device"}\n'
    test.write_text(test.read_text().replace("    driver = ", f"    {exempt}    driver = "))
    assert f"{len(RULES) - 1 + 3} passed" in pytest_in(driver.parent)


def test_a_rule_that_is_not_there_cannot_be_left_out(driver: Path) -> None:
    test = driver.with_name("test_drv_benched.py")
    test.write_text(
        test.read_text().replace(
            "    driver = ", '    exempt = {"no such rule": "x"}\n    driver = '
        )
    )
    assert "exempt names no rule: no such rule" in pytest_in(driver.parent)
