"""A bench for one driver: its simulator, and rigs that hold an instance each, as worker processes
do.

The bench notices what a driver leaves behind. It uses the driver the way a host does: the scan is
one instance's, the device another's, and only plain data gets from the one to the other.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sat_toolkit.core.base_plugin import BaseDeviceDriver
from sat_toolkit.core.commands import Command
from sat_toolkit.core.plugin_loader import load_driver, plugin_at
from sat_toolkit.core.runner import DriverRunner
from sat_toolkit.errors import DriverError
from sat_toolkit.models.Device_Model import Device
from sat_toolkit.testing.loading import Simulator, find_simulator
from sat_toolkit.testing.recorder import Recorder

GRACE = 3.0
# Threads that a library keeps for the whole process and that no API of it ends.
_RESIDENT = ("asyncio_", "AnyIO", "pytest_timeout")


class Violation(AssertionError):  # noqa: N818 - a test failure, not an error
    """A rule is not held; the message says how it showed."""


def _nothing() -> nullcontext[Mapping[str, Any]]:
    return nullcontext({})


@dataclass(frozen=True)
class Subject:
    """A driver, and all that a bench needs to know of it.

    Attributes:
        simulate: gives the context in which the device is there; see `sat_toolkit.testing.loading`.
        simulated: whether leaving that context pulls the device's plug.
        device_id: the device to use; None takes the first that a scan finds.
        arguments: command -> args, for commands that cannot be called without, and for ``start``.
        frames_within: seconds in which a started stream must bring a frame; None where a device may
            be silent.
    """

    driver: type[BaseDeviceDriver]
    simulate: Simulator = field(default=_nothing, repr=False)
    simulated: bool = False
    device_id: str | None = None
    arguments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    frames_within: float | None = 5.0

    @property
    def streams(self) -> bool:
        """Whether the driver offers a stream."""
        hooks = ("_acquisition_loop", "start_acquisition", "start_streaming")
        overrides = (
            getattr(self.driver, hook) is not getattr(BaseDeviceDriver, hook) for hook in hooks
        )
        return bool(self.driver.stream_types) or any(overrides)


def subject_of(
    driver: type[BaseDeviceDriver] | Path | str,
    info: Mapping[str, Any] | None = None,
    *,
    simulator: Simulator | None = None,
    **more: Any,
) -> Subject:
    """The subject that a driver is: on `simulator`, else as `info` has it, else on the simulator
    beside its file.

    Args:
        driver: its class, or the path of its file.
        more: further attributes of `Subject`.

    Raises:
        PluginError: the driver or its simulator cannot be loaded.
    """
    cls = driver if isinstance(driver, type) else load_driver(plugin_at(Path(driver)))
    if simulator is None and info is None and not isinstance(driver, type):
        simulator = find_simulator(plugin_at(Path(driver)))
    if simulator is not None:
        return Subject(cls, simulator, True, **more)
    configured = dict(info or {})
    return Subject(cls, lambda: nullcontext(configured), **more)


class Rig:
    """A device in an instance of its own, and what its streams did."""

    def __init__(self, subject: Subject, info: Mapping[str, Any], device: Device) -> None:
        self.device = device
        self.recorder = Recorder()
        self._subject = subject
        self.runner = DriverRunner(
            subject.driver,
            info,
            device,
            sink=self.recorder,
            on_acquisition_failed=self.recorder.failed,
        )

    @property
    def commands(self) -> dict[str, Command]:
        return self.runner.commands()

    def up(self) -> Self:
        """Initialise and connect."""
        self.runner.initialize()
        self.runner.connect()
        return self

    def command(self, name: str, /, **args: Any) -> Any:
        """Run a command; without `args` with those that the subject has for it."""
        return self.runner.command(name, args or self._subject.arguments.get(name, {}))

    def start(self) -> None:
        """Start the stream: by the command ``start`` where there is one, as policy does."""
        if "start" in self.commands:
            self.command("start")
        else:
            self.runner.driver.start_streaming(self._device())

    def stop(self) -> None:
        """Stop the stream."""
        if "stop" in self.commands:
            self.command("stop")
        else:
            self.runner.driver.stop_streaming(self._device())

    def close(self) -> None:
        self.runner.close()

    def _device(self) -> Device:
        return self.runner.device or self.device


class Bench:
    """Used in a ``with`` statement: the simulator runs while it lasts.

    Leaving it closes all rigs and raises `Violation` when threads are left that were not there
    before.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.info: Mapping[str, Any] = {}
        self._rigs: list[Rig] = []
        self._simulator = ExitStack()
        self._threads: set[threading.Thread] = set()
        self._plugged = True

    def __enter__(self) -> Self:
        self._threads = _threads()
        self.info = dict(self._simulator.enter_context(self.subject.simulate()) or {})
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for rig in self._rigs:
            try:
                rig.close()
            except DriverError as failure:
                if kind is None and self._plugged:
                    raise Violation(f"the driver cannot be closed: {failure}") from failure
        self._simulator.close()
        if kind is None:
            self._check_threads()

    def unplug(self) -> None:
        """Take the simulated device away."""
        self._plugged = False
        self._simulator.close()

    def scanner(self) -> DriverRunner:
        """An instance that only scans."""
        return DriverRunner(self.subject.driver, self.info)

    def scan(self) -> list[Device]:
        """What is there, as another process would hear of it."""
        return [travelled(device) for device in self.scanner().scan()]

    def device(self) -> Device:
        """The device to use.

        Raises:
            LookupError: the scan does not find it.
        """
        found = {device.device_id: device for device in self.scan()}
        wanted = self.subject.device_id
        if not found or (wanted is not None and wanted not in found):
            what = (
                f"the scan does not find {wanted!r}"
                if wanted is not None
                else "the scan finds no device"
            )
            raise LookupError(f"{what}; it finds: {', '.join(found) or 'nothing'}")
        return found[wanted] if wanted is not None else next(iter(found.values()))

    def rig(self, device: Device | None = None) -> Rig:
        """A new instance for a device, by default for the one to use."""
        self._rigs.append(Rig(self.subject, self.info, device or self.device()))
        return self._rigs[-1]

    def new_threads(self) -> list[str]:
        """The names of the threads that are here and were not when the bench began."""
        return sorted(thread.name for thread in _threads() - self._threads)

    def _check_threads(self) -> None:
        if not eventually(lambda: not self.new_threads(), GRACE):
            raise Violation(f"threads are left running: {', '.join(self.new_threads())}")


def travelled(device: Device) -> Device:
    """A device as another process gets it.

    Raises:
        Violation: its attributes are no JSON.
    """
    try:
        return Device.from_dict(json.loads(json.dumps(device.to_dict(), allow_nan=False)))
    except (TypeError, ValueError) as error:
        raise Violation(f"{device.device_id}: its attributes are no JSON: {error}") from None


def eventually(condition: Callable[[], bool], timeout: float) -> bool:
    """Whether `condition()` comes to hold within `timeout` seconds."""
    pause, deadline = threading.Event(), time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        pause.wait(0.01)
    return True


def _threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if not thread.name.startswith(_RESIDENT)}
