"""The CAN tests' bench: a driver as a host runs it, a sink that collects its frames, a simulated ECU."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from plugins.devices.can.drv_socketcan import SocketCANDriver
from sat_toolkit.core.runner import DriverRunner
from sat_toolkit.core.stream_manager import FrameByFrame, StreamData
from sat_toolkit.models.Device_Model import Device

DEADLINE = 10.0
ROOT = Path(__file__).resolve().parents[3]


class Collector(FrameByFrame):
    """A StreamSink that keeps what arrives."""

    def __init__(self) -> None:
        self.frames: list[StreamData] = []
        self.failures: list[str] = []
        self.is_open = False
        self._changed = threading.Condition()

    def opened(self, channel: str) -> None:
        self.is_open = True

    def closed(self, channel: str) -> None:
        self.is_open = False

    def data(self, stream_data: StreamData) -> None:
        with self._changed:
            self.frames.append(stream_data)
            self._changed.notify_all()

    def failed(self, reason: str) -> None:
        with self._changed:
            self.failures.append(reason)
            self._changed.notify_all()

    def wait_frames(self, matches: Callable[[dict[str, Any]], bool], count: int = 1) -> list[StreamData]:
        """The first `count` frames whose dict matches."""
        with self._changed:
            self._changed.wait_for(lambda: sum(matches(f.data) for f in self.frames) >= count, DEADLINE)
            found = [frame for frame in self.frames if matches(frame.data)]
        assert len(found) >= count, f"{len(found)} of {count} frames among {len(self.frames)}"
        return found[:count]

    def wait_failure(self) -> str:
        with self._changed:
            assert self._changed.wait_for(lambda: bool(self.failures), DEADLINE), "the acquisition did not fail"
        return self.failures[0]


class Rig:
    """A scanned device in a runner of its own, as in a worker process."""

    def __init__(self, info: dict[str, Any], device_id: str) -> None:
        self.sink = Collector()
        scanned = {device.device_id: device for device in DriverRunner(SocketCANDriver, info).scan()}
        # The scan is another process's: only plain data gets here.
        self.device = Device.from_json(scanned[device_id].to_json())
        self.runner = DriverRunner(
            SocketCANDriver, info, self.device, sink=self.sink, on_acquisition_failed=self.sink.failed
        )

    def connect(self) -> Rig:
        self.runner.initialize()
        self.runner.connect()
        return self

    def command(self, name: str, **args: Any) -> Any:
        return self.runner.command(name, args)


class SimEcu:
    """A simulated ECU as a process."""

    def __init__(self, *args: str) -> None:
        program = [sys.executable, "-m", "plugins.devices.can.sim_ecu", "--die-with-parent", *args]
        environment = os.environ | {"PYTHONPATH": f"{ROOT / 'shared'}{os.pathsep}{ROOT}"}
        self.process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT)
        assert self.process.stdout is not None
        self.ready = self.process.stdout.readline()

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        status = self.process.wait(DEADLINE)
        self.process.stdout.close()
        return status


@pytest.fixture
def rig() -> Iterator[Callable[..., Rig]]:
    """Makes rigs and closes them."""
    made: list[Rig] = []

    def make(info: dict[str, Any], device_id: str = "ecu") -> Rig:
        made.append(Rig(info, device_id))
        return made[-1]

    yield make
    for each in made:
        each.runner.close()


@pytest.fixture
def sim() -> Iterator[Callable[..., SimEcu]]:
    """Starts simulated ECUs and ends them."""
    started: list[SimEcu] = []

    def start(*args: str) -> SimEcu:
        started.append(SimEcu(*args))
        assert started[-1].ready.startswith("sim_ecu ready"), started[-1].ready
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.stop()
        each.process.stdout.close()


@pytest.fixture
def wait_until() -> Callable[[Callable[[], bool]], None]:
    """Wait until a condition holds, with a deadline."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < deadline, "the condition never held"
            time.sleep(0.005)

    return wait
