"""The CAN tests' bench: a driver as a host runs it, a sink that collects its frames, a simulated
ECU."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from plugins.devices.can.drv_socketcan import SocketCANDriver
from sat_toolkit.core.runner import DriverRunner
from sat_toolkit.models.Device_Model import Device
from sat_toolkit.testing import Recorder

DEADLINE = 10.0
ROOT = Path(__file__).resolve().parents[3]


class Rig:
    """A scanned device in a runner of its own, as in a worker process."""

    def __init__(self, info: dict[str, Any], device_id: str) -> None:
        self.sink = Recorder()
        scanned = {
            device.device_id: device for device in DriverRunner(SocketCANDriver, info).scan()
        }
        # The scan is another process's: only plain data gets here.
        self.device = Device.from_json(scanned[device_id].to_json())
        self.runner = DriverRunner(
            SocketCANDriver,
            info,
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


class SimEcu:
    """A simulated ECU as a process."""

    def __init__(self, *args: str) -> None:
        program = [sys.executable, "-m", "plugins.devices.can.sim_ecu", "--die-with-parent", *args]
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
