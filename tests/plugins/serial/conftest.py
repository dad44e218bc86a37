"""The serial tests' bench: a driver as a host runs it, a sink that collects its frames, the far end
of a line."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from plugins.devices.pty_link import PtyLink
from plugins.devices.serial.drv_serial import SerialDriver
from plugins.devices.serial.framing import frame_bytes
from sat_toolkit.core.runner import DriverRunner
from sat_toolkit.models.Device_Model import Device
from sat_toolkit.testing import Recorder

DEADLINE = 10.0
ROOT = Path(__file__).resolve().parents[3]


class Collector(Recorder):
    """A recorder of bytes."""

    @property
    def is_open(self) -> bool:
        return bool(self.open)

    @property
    def carried(self) -> bytes:
        """The bytes of all frames in a row."""
        return b"".join(frame_bytes(frame.data, frame.metadata) for frame in list(self.frames))

    def wait_carried(self, expected: bytes) -> None:
        """Until the frames in a row are `expected`."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.carried) >= len(expected), DEADLINE)
        assert self.carried == expected


class Rig:
    """A scanned device in a runner of its own, as in a worker process."""

    def __init__(self, info: dict[str, Any], device_id: str) -> None:
        self.sink = Collector()
        self.info = {"discover": False, **info}
        scanned = {
            device.device_id: device for device in DriverRunner(SerialDriver, self.info).scan()
        }
        # The scan is another process's: only plain data gets here.
        self.device = Device.from_json(scanned[device_id].to_json())
        self.runner = DriverRunner(
            SerialDriver,
            self.info,
            self.device,
            sink=self.sink,
            on_acquisition_failed=self.sink.failed,
        )

    def connect(self) -> Rig:
        self.runner.initialize()
        self.runner.connect()
        return self

    def command(self, name: str, **args: Any) -> Any:
        return self.runner.command(name, args)


class FarEnd:
    """The far end of a serial line, in the hands of the test."""

    def __init__(self, link: Path) -> None:
        self.link = link
        self._line = PtyLink(link)
        self.is_plugged = True

    def say(self, data: bytes) -> None:
        """Write all of `data`."""
        deadline = time.monotonic() + DEADLINE
        while data:
            assert select.select([], [self._line], [], deadline - time.monotonic())[1], (
                "the driver does not read"
            )
            data = data[self._line.write(data) :]

    def heard(self, length: int) -> bytes:
        """The next `length` bytes that the driver writes."""
        data, deadline = b"", time.monotonic() + DEADLINE
        while len(data) < length:
            assert select.select([self._line], [], [], deadline - time.monotonic())[0], (
                f"only {data!r} came"
            )
            data += self._line.read()
        return data

    def unplug(self) -> None:
        if self.is_plugged:
            self.is_plugged = False
            self._line.close()


class SimConsole:
    """A simulated console as a process."""

    def __init__(self, *args: str) -> None:
        program = [
            sys.executable,
            "-m",
            "plugins.devices.serial.sim_console",
            "--die-with-parent",
            *args,
        ]
        environment = os.environ | {"PYTHONPATH": f"{ROOT / 'shared'}{os.pathsep}{ROOT}"}
        self.process = subprocess.Popen(
            program, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
        )
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

    def make(info: dict[str, Any], device_id: str = "console") -> Rig:
        made.append(Rig(info, device_id))
        return made[-1]

    yield make
    for each in made:
        each.runner.close()


@pytest.fixture
def far_end(tmp_path: Path) -> Iterator[Callable[..., FarEnd]]:
    """Makes far ends and unplugs them."""
    made: list[FarEnd] = []

    def make(name: str = "console") -> FarEnd:
        made.append(FarEnd(tmp_path / name))
        return made[-1]

    yield make
    for each in made:
        each.unplug()


@pytest.fixture
def sim() -> Iterator[Callable[..., SimConsole]]:
    """Starts simulated consoles and ends them."""
    started: list[SimConsole] = []

    def start(*args: str) -> SimConsole:
        started.append(SimConsole(*args))
        assert started[-1].ready.startswith("sim_console ready"), started[-1].ready
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
        pause, deadline = threading.Event(), time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < deadline, "the condition never held"
            pause.wait(0.005)

    return wait
