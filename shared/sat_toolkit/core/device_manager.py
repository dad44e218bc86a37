"""DeviceDriverManager: the guide's way to drive devices, in process or over the bus.

Every call returns a dict and raises nothing. All work is done by a `Backend`; this module resolves
what the caller names, serialises the calls on one device, and words the answers.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from types import TracebackType
from typing import Any, Self

from sat_toolkit.core import lifecycle
from sat_toolkit.core.backend import ENTRY_POINT_GROUP, ENTRY_POINT_NAME, Backend, device_key
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.core.lifecycle import Operation
from sat_toolkit.core.local_backend import LocalBackend
from sat_toolkit.core.plugin_loader import find_plugins, plugin_folders
from sat_toolkit.errors import (
    BadArgs,
    Busy,
    ConfigError,
    Denied,
    Internal,
    SatError,
    UnknownDevice,
    UnknownDriver,
)
from sat_toolkit.models.Device_Model import Device

log = logging.getLogger(__name__)

Answer = dict[str, Any]

_DONE = {
    Operation.INITIALIZE: "Device initialized",
    Operation.CONNECT: "Device connected",
    Operation.RESET: "Device reset",
    Operation.CLOSE: "Device closed",
}


class DeviceDriverManager:
    """Scans, drives and cleans up devices.

    A device may be given as a Device, as its dict, or as its id. A success is ``{"status":
    "success", ...}``, a failure ``{"status": "error", "message": text, "code": wire code}``.

    Args:
        backend: what does the work; by default what `backend_from` makes of the environment.
        lock_timeout: seconds that a call waits for another one on the same device.

    Raises (from the constructor only):
        ConfigError: SAT_PLUGINS, SAT_DRIVERS or SAT_BROKER_URL cannot be used.
        PluginError: two plugins have the same driver name.
    """

    # The guide's tables under the guide's names.
    _state_transitions = lifecycle.TRANSITIONS
    state_hierarchy = lifecycle.HIERARCHY

    def __init__(self, backend: Backend | None = None, *, lock_timeout: float = 60.0) -> None:
        self._backend: Backend = backend if backend is not None else backend_from(os.environ)
        self._lock_timeout = lock_timeout
        self._locks: dict[str, threading.RLock] = {}
        self._locks_lock = threading.Lock()
        self._touched: dict[str, dict[str, Device]] = {}
        self._disabled: set[str] = set()
        # A program that forgets to clean up leaves no device open and no thread behind.
        self._finalizer = weakref.finalize(self, self._backend.shutdown)

    def close(self) -> None:
        """Close the devices of this process and let go of the backend."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- drivers -----------------------------------------------------------------------------------

    def list_drivers(self) -> Answer:
        """``drivers``: all names, sorted; ``disabled``: those of them that are disabled."""
        return _answer(
            lambda: {"drivers": sorted(self._backend.drivers()), "disabled": sorted(self._disabled)}
        )

    def enable_driver(self, driver: str) -> Answer:
        """Undo `disable_driver`."""

        def enable() -> Answer:
            self._known_driver(driver)
            self._disabled.discard(driver)
            return {"message": "Driver enabled"}

        return _answer(enable)

    def disable_driver(self, driver: str) -> Answer:
        """Make this manager refuse calls for `driver`; closing its devices is still done."""

        def disable() -> Answer:
            self._known_driver(driver)
            self._disabled.add(driver)
            return {"message": "Driver disabled"}

        return _answer(disable)

    def get_supported_commands(self, driver: str) -> Answer:
        """``commands``: name -> ``{"description", "parameters" (JSON Schema)[, "timeout_ms"]}``."""

        def commands() -> Answer:
            self._usable_driver(driver)
            found: dict[str, dict[str, Any]] = {}
            for command in self._backend.commands(driver).values():
                found[command.name] = {
                    "description": command.description,
                    "parameters": command.parameters,
                }
                if command.timeout_ms is not None:
                    found[command.name]["timeout_ms"] = command.timeout_ms
            return {"commands": found}

        return _answer(commands)

    # --- devices -----------------------------------------------------------------------------------

    @property
    def device_states(self) -> Mapping[str, DeviceState]:
        """The states of all known devices, under the keys of `get_device_key`."""
        return self._backend.states()

    @staticmethod
    def get_device_key(driver: str, device: Device | str) -> str:
        """The key of a device in `device_states` and for `_get_device_lock`."""
        return device_key(driver, device.device_id if isinstance(device, Device) else device)

    def get_device_state(self, driver: str, device_id: str = "") -> Answer:
        """``devices``: id -> state; and ``state``, when `device_id` or the number of devices says
        whose."""

        def state() -> Answer:
            self._known_driver(driver)
            known = self._backend.devices(driver)
            states = {device.device_id: self._backend.state(driver, device) for device in known}
            if device_id:
                return {
                    "devices": states,
                    "state": self._backend.state(driver, self._known(driver, device_id)),
                }
            return {"devices": states} | (
                {"state": next(iter(states.values()))} if len(states) == 1 else {}
            )

        return _answer(state)

    def scan_devices(self, driver: str) -> Answer:
        """``devices``: the Device objects that are there."""

        def scan() -> Answer:
            self._usable_driver(driver)
            return {"devices": self._backend.scan(driver)}

        return _answer(scan)

    def initialize_device(
        self, driver: str, device: Device | Mapping[str, Any] | str | None
    ) -> Answer:
        return self._manage_device_lifecycle(driver, device, Operation.INITIALIZE)

    def connect_device(
        self, driver: str, device: Device | Mapping[str, Any] | str | None
    ) -> Answer:
        """Connect; scans for a device that is not known and initialises one that is not."""
        return self._manage_device_lifecycle(driver, device, Operation.CONNECT)

    def reset_device(self, driver: str, device: Device | Mapping[str, Any] | str | None) -> Answer:
        """Stop the streams and reset; initialize comes next."""
        return self._manage_device_lifecycle(driver, device, Operation.RESET)

    def close_device(self, driver: str, device: Device | Mapping[str, Any] | str | None) -> Answer:
        return self._manage_device_lifecycle(driver, device, Operation.CLOSE)

    def execute_command(
        self,
        driver: str,
        command: str,
        device_id: Device | str = "",
        args: Mapping[str, Any] | None = None,
        **more_args: Any,
    ) -> Answer:
        """``result``: what the command returned, as plain JSON.

        The command's args are `args` and all further keywords. Without `device_id` the driver must
        have exactly one device.
        """

        def execute() -> Answer:
            self._usable_driver(driver)
            if not command:
                raise BadArgs("Command not specified")
            if args is not None and not isinstance(args, Mapping):
                raise BadArgs(f"args must be an object, not {type(args).__name__}")
            device = self._known(driver, device_id)
            self._touch(driver, device)
            with self._locked(driver, device):
                result = self._backend.command(
                    driver, device, command, dict(args or {}) | more_args
                )
            return {"result": result}

        return _answer(execute)

    def initialize_all_devices(self) -> Answer:
        """Scan each driver and initialise what it finds.

        Returns driver -> ``{"status", "devices": [{"device": Device, "status", "message"}]}``; the
        status of a driver is ``error`` when its scan or one of its devices failed.
        """
        results: Answer = {}
        for driver in self._enabled_drivers():
            scanned = self.scan_devices(driver)
            devices = [
                {"device": device} | self.initialize_device(driver, device)
                for device in scanned.get("devices", [])
            ]
            results[driver] = scanned | {"status": _worst([scanned, *devices]), "devices": devices}
        return results

    def cleanup_all_devices(self) -> Answer:
        """Close the devices that this manager initialised, connected or commanded; no others.

        Returns driver -> ``{"status", "devices": {device_id: result of close_device}}``.
        """
        results: Answer = {}
        for driver, devices in list(self._touched.items()):
            closed = {
                device.device_id: self.close_device(driver, device)
                for device in list(devices.values())
            }
            results[driver] = {"status": _worst(closed.values()), "devices": closed}
        return results

    # --- the inside, under the guide's names ---------------------------------------------------------

    def _get_device_lock(self, key: str) -> threading.RLock:
        """The lock of one device: ``with
        manager._get_device_lock(manager.get_device_key(...))``."""
        with self._locks_lock:
            return self._locks.setdefault(key, threading.RLock())

    def _manage_device_lifecycle(
        self, driver: str, device: Device | Mapping[str, Any] | str | None, operation: Operation
    ) -> Answer:
        def manage() -> Answer:
            if operation is Operation.CLOSE:
                self._known_driver(driver)
            else:
                self._usable_driver(driver)
            named = self._named(driver, device)
            try:
                with self._locked(driver, named):
                    outcome = self._backend.operate(operation, driver, named)
            finally:
                # Also when it failed: what is half open needs closing too.
                if self._backend.state(driver, named) is not DeviceState.UNKNOWN:
                    self._touch(driver, named)
            if operation is Operation.CLOSE:
                self._forget(driver, named)
            return {
                "message": _DONE[operation]
                if outcome.changed
                else f"Device already {outcome.state}"
            }

        return _answer(manage)

    @contextmanager
    def _locked(self, driver: str, device: Device) -> Iterator[None]:
        lock = self._get_device_lock(device_key(driver, device.device_id))
        if not lock.acquire(timeout=self._lock_timeout):
            raise Busy(f"Device {device.device_id} has been busy for {self._lock_timeout:g} s")
        try:
            yield
        finally:
            lock.release()

    def _known_driver(self, driver: str) -> None:
        if driver not in self._backend.drivers():
            raise UnknownDriver(f"Driver {driver} not found")

    def _usable_driver(self, driver: str) -> None:
        self._known_driver(driver)
        if driver in self._disabled:
            raise Denied(f"Driver {driver} is disabled")

    def _enabled_drivers(self) -> list[str]:
        listed = self.list_drivers()
        return [driver for driver in listed.get("drivers", []) if driver not in self._disabled]

    def _named(self, driver: str, given: Device | Mapping[str, Any] | str | None) -> Device:
        """The device that `given` names; one that the backend does not know is taken as it is."""
        if not given:
            raise BadArgs("Device not specified")
        if isinstance(given, str):
            wanted = Device(given, given, "")
        elif isinstance(given, Device):
            wanted = given
        elif isinstance(given, Mapping) and given.get("device_id"):
            wanted = Device.from_dict(given)
        else:
            raise BadArgs("Device not specified: give a Device, its dict, or its id")
        same = [
            device
            for device in self._backend.devices(driver)
            if device.device_id == wanted.device_id
        ]
        if wanted.host:
            same = [device for device in same if device.host == wanted.host]
        if len(same) > 1:
            hosts = ", ".join(sorted(device.host for device in same))
            raise UnknownDevice(
                f"Device {wanted.device_id} is on several hosts: {hosts}; give the Device"
            )
        return same[0] if same else wanted

    def _known(self, driver: str, given: Device | str) -> Device:
        """The known device that `given` names, or the only one there is."""
        known = self._backend.devices(driver)
        if not given:
            if len(known) == 1:
                return known[0]
            ids = ", ".join(sorted(device.device_id for device in known)) or "none; scan first"
            raise BadArgs(f"Device not specified; {driver} has: {ids}")
        named = self._named(driver, given)
        if all(device.device_id != named.device_id for device in known):
            raise UnknownDevice(f"Device {named.device_id} not found")
        return named

    def _touch(self, driver: str, device: Device) -> None:
        self._touched.setdefault(driver, {})[f"{device.host}/{device.device_id}"] = device

    def _forget(self, driver: str, device: Device) -> None:
        devices = self._touched.get(driver, {})
        devices.pop(f"{device.host}/{device.device_id}", None)
        if not devices:
            self._touched.pop(driver, None)


def backend_from(environ: Mapping[str, str]) -> Backend:
    """The backend that the environment asks for.

    SAT_BROKER_URL: the bus. Otherwise in process, with the plugins of SAT_PLUGINS beside the
        project's
    own, and SAT_DRIVERS: a JSON object, driver name -> its configuration (an object).

    Raises:
        ConfigError: one of them cannot be used.
        PluginError: two plugins have the same driver name.
    """
    url = environ.get("SAT_BROKER_URL")
    if url:
        found = entry_points(group=ENTRY_POINT_GROUP, name=ENTRY_POINT_NAME)
        if not found:
            raise ConfigError(
                f"SAT_BROKER_URL is set, but nothing installed offers the entry point "
                f"{ENTRY_POINT_NAME!r} of {ENTRY_POINT_GROUP!r}"
            )
        backend: Backend = next(iter(found)).load()(url)
        return backend
    plugins = find_plugins(plugin_folders(environ.get("SAT_PLUGINS")))
    return LocalBackend(plugins, _driver_infos(environ.get("SAT_DRIVERS")))


def _driver_infos(text: str | None) -> dict[str, dict[str, Any]]:
    if not text:
        return {}
    takes = 'SAT_DRIVERS takes a JSON object of objects: {"drv_name": {"key": "value"}}'
    try:
        infos = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{takes}; {error}") from None
    if not isinstance(infos, dict) or not all(isinstance(info, dict) for info in infos.values()):
        raise ConfigError(takes)
    return infos


def _answer(action: Callable[[], Answer]) -> Answer:
    """What `action` returns as a success; what it raises as a failure."""
    try:
        return {"status": "success"} | action()
    except SatError as error:
        return {"status": "error", "message": str(error), "code": str(error.code)}
    except Exception as error:
        log.exception("a fault of the device manager or its backend")
        return {
            "status": "error",
            "message": f"{type(error).__name__}: {error}",
            "code": str(Internal.code),
        }


def _worst(results: Any) -> str:
    return "error" if any(result["status"] == "error" for result in results) else "success"
