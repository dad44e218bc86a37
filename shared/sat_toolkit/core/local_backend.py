"""The in-process backend: plugins run in this very process, without a broker or a service.

Each device has its own driver instance, and each driver one more that only scans. Nothing here
protects the process from a plugin that hangs or crashes; a driver host does, by its worker
processes.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sat_toolkit.core import lifecycle
from sat_toolkit.core.backend import Reached, device_key
from sat_toolkit.core.base_plugin import BaseDeviceDriver
from sat_toolkit.core.commands import Command
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.core.lifecycle import Operation, Step
from sat_toolkit.core.plugin_loader import PluginFile, load_driver
from sat_toolkit.core.runner import DriverRunner
from sat_toolkit.core.stream_manager import StreamSink
from sat_toolkit.errors import CommandFailed, DriverError, UnknownDevice, UnknownDriver
from sat_toolkit.models.Device_Model import Device

log = logging.getLogger(__name__)

# A device in one of these that a scan does not find was unplugged; an open one may just hide.
_AT_REST = (DeviceState.DISCOVERED, DeviceState.DISCONNECTED, DeviceState.ERROR)


@dataclass
class _Entry:
    """One known device. `busy` counts the operations that run on it."""

    driver: str
    device: Device
    state: DeviceState = DeviceState.DISCOVERED
    reason: str = ""
    runner: DriverRunner | None = None
    busy: int = 0


class LocalBackend:
    """A `Backend` over plugin files.

    Args:
        plugins: the drivers; each is imported when it is first used.
        infos: driver name -> its configuration.
        sink: where the streams of all devices go; `StreamData.channel` is the device's id.
        load: imports a plugin file and returns its class.
    """

    def __init__(
        self,
        plugins: Sequence[PluginFile],
        infos: Mapping[str, Mapping[str, Any]] | None = None,
        sink: StreamSink | None = None,
        load: Callable[[PluginFile], type[BaseDeviceDriver]] = load_driver,
    ) -> None:
        self._plugins = {plugin.name: plugin for plugin in plugins}
        self._infos = dict(infos or {})
        self._sink = sink
        self._load = load
        self._classes: dict[str, type[BaseDeviceDriver]] = {}
        self._scanners: dict[str, DriverRunner] = {}
        self._entries: dict[str, _Entry] = {}
        self._lock = (
            threading.Lock()
        )  # guards _entries and each entry's state; never held over a hook
        self._scan_lock = (
            threading.RLock()
        )  # held over a scan: a scanning instance is used by one thread

    def drivers(self) -> Sequence[str]:
        return list(self._plugins)

    def scan(self, driver: str) -> list[Device]:
        with self._scan_lock:
            found = self._scanner(driver).scan()
        present = {device.device_id: device for device in found}
        with self._lock:
            for device_id, device in present.items():
                entry = self._entries.setdefault(
                    device_key(driver, device_id), _Entry(driver, device)
                )
                if entry.state in _AT_REST and not entry.busy:
                    entry.device = device
            gone = [
                key
                for key, entry in self._entries.items()
                if entry.driver == driver
                and entry.device.device_id not in present
                and entry.state in _AT_REST
                and not entry.busy
            ]
            removed = [self._entries.pop(key) for key in gone]
        for entry in removed:
            self._discard(entry)
        return found

    def devices(self, driver: str) -> list[Device]:
        with self._lock:
            return [entry.device for entry in self._entries.values() if entry.driver == driver]

    def state(self, driver: str, device: Device) -> DeviceState:
        return self.states().get(device_key(driver, device.device_id), DeviceState.UNKNOWN)

    def states(self) -> Mapping[str, DeviceState]:
        with self._lock:
            return {key: entry.state for key, entry in self._entries.items()}

    def operate(self, operation: Operation, driver: str, device: Device) -> Reached:
        if self.state(driver, device) is DeviceState.UNKNOWN and operation in (
            Operation.INITIALIZE,
            Operation.CONNECT,
        ):
            lifecycle.plan(operation, DeviceState.UNKNOWN)
            self.scan(driver)
        with self._in_use(driver, device) as entry:
            steps = lifecycle.plan(operation, entry.state)
            for step in steps:
                self._step(entry, step)
            return Reached(bool(steps), entry.state)

    def command(self, driver: str, device: Device, command: str, args: Mapping[str, Any]) -> Any:
        with self._in_use(driver, device) as entry:
            lifecycle.plan(Operation.COMMAND, entry.state)
            self._move(entry, DeviceState.ACTIVE)
            try:
                return self._runner(entry).command(command, args)
            except CommandFailed:
                raise
            except DriverError as error:
                self._fail(entry, str(error))
                raise
            finally:
                with self._lock:
                    # Not so when the command or the acquisition failed in the meantime.
                    if entry.state is DeviceState.ACTIVE:
                        entry.state = lifecycle.apply(entry.state, DeviceState.CONNECTED)

    def commands(self, driver: str) -> dict[str, Command]:
        with self._scan_lock:
            return self._scanner(driver).commands()

    def shutdown(self) -> None:
        with self._lock:
            entries = list(self._entries.values())
            self._entries.clear()
        for entry in entries:
            self._discard(entry)

    def _class(self, driver: str) -> type[BaseDeviceDriver]:
        if driver not in self._plugins:
            raise UnknownDriver(f"Driver {driver} not found")
        if driver not in self._classes:
            self._classes[driver] = self._load(self._plugins[driver])
        return self._classes[driver]

    def _scanner(self, driver: str) -> DriverRunner:
        if driver not in self._scanners:
            self._scanners[driver] = DriverRunner(self._class(driver), self._infos.get(driver))
        return self._scanners[driver]

    def _runner(self, entry: _Entry) -> DriverRunner:
        if entry.runner is None:
            entry.runner = DriverRunner(
                self._class(entry.driver),
                self._infos.get(entry.driver),
                entry.device,
                sink=self._sink,
                on_acquisition_failed=lambda reason: self._fail(entry, reason),
            )
        return entry.runner

    @contextmanager
    def _in_use(self, driver: str, device: Device) -> Iterator[_Entry]:
        """The entry of a device, safe from being taken for unplugged."""
        with self._lock:
            entry = self._entries.get(device_key(driver, device.device_id))
            if entry is None:
                raise UnknownDevice(f"Device {device.device_id} not found")
            entry.busy += 1
        try:
            yield entry
        finally:
            with self._lock:
                entry.busy -= 1

    def _step(self, entry: _Entry, step: Step) -> None:
        """Call one hook and move the device to what its success leads to."""
        before = entry.state
        try:
            # What was never initialised has nothing to close.
            if step.operation is not Operation.CLOSE or entry.runner is not None:
                runner = self._runner(entry)
                {
                    Operation.INITIALIZE: runner.initialize,
                    Operation.CONNECT: runner.connect,
                    Operation.RESET: runner.reset,
                    Operation.CLOSE: runner.close,
                }[step.operation]()
        except DriverError as error:
            self._fail(entry, str(error))
            raise
        with self._lock:
            if entry.state is not before:  # an acquisition that the hook started has died already
                raise DriverError(entry.reason)
            entry.state = lifecycle.apply(before, step.target)
        if step.operation is Operation.CLOSE:
            entry.runner = None  # the next initialize starts with a fresh instance

    def _move(self, entry: _Entry, target: DeviceState) -> None:
        with self._lock:
            entry.state = lifecycle.apply(entry.state, target)

    def _fail(self, entry: _Entry, reason: str) -> None:
        with self._lock:
            entry.reason = reason
            if lifecycle.allowed(entry.state, DeviceState.ERROR):
                entry.state = DeviceState.ERROR

    def _discard(self, entry: _Entry) -> None:
        """Close a device that is gone or going; there is nobody to tell that it failed."""
        if entry.runner is None:
            return
        try:
            entry.runner.close()
        except DriverError as error:
            log.warning("%s %s: %s", entry.driver, entry.device.device_id, error)
        entry.runner = None
