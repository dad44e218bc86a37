"""The bus behind `DeviceDriverManager`: lifecycle requests go to the orchestrator, commands
straight to the host.

Named by the entry point ``bus`` of ``sat_toolkit.backends``. It connects at the first call that
needs the broker and keeps nothing of its own: what is known of devices is what the rack's view
shows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from sat_bus.contract import messages as m
from sat_bus.contract.device_key import Key
from sat_client.rack import Rack
from sat_client.requests import Offline, check
from sat_client.view import DeviceView, SiteView
from sat_toolkit.core.backend import Reached, device_key
from sat_toolkit.core.commands import Command
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.core.lifecycle import TARGETS, Operation
from sat_toolkit.errors import DriverError
from sat_toolkit.models.Device_Model import Device

# Seconds that the retained topics may trail a reply; after that others may have moved on.
SETTLE = 2.0
SCAN_TIMEOUT = 30.0
OPERATION_TIMEOUT = 60.0
COMMAND_TIMEOUT = 30.0


class BusBackend:
    """A `sat_toolkit.core.backend.Backend` over a broker.

    Args:
        url: the broker.
        rack: makes the rack, not yet open; by default one on `url`.
    """

    def __init__(self, url: str | None = None, *, rack: Callable[[], Rack] | None = None) -> None:
        self._make = rack or partial(Rack, url)
        self._lock = threading.Lock()
        self._open: Rack | None = None
        self._shut = False

    def drivers(self) -> Sequence[str]:
        with self._rack().reading() as view:
            return _drivers(view)

    def scan(self, driver: str) -> list[Device]:
        rack = self._rack()
        result = rack.scan(driver=driver, timeout=SCAN_TIMEOUT)
        found = [
            Key(str(entry["host"]), driver, str(entry["device"]))
            for entry in result.get("devices", ())
            if entry.get("driver") == driver
        ]
        errors = result.get("errors") or {}
        failures = [
            str(text)
            for name, text in errors.items()
            if name == driver or name.endswith(f"/{driver}")
        ]
        if failures and not found:
            raise DriverError("; ".join(failures))
        rack.reached(lambda view: all(_meta(view, key) is not None for key in found), SETTLE)
        with rack.reading() as view:
            return [_device(view.devices[key]) for key in found if key in view.devices]

    def devices(self, driver: str) -> list[Device]:
        with self._rack().reading() as view:
            return [_device(d) for d in _known(view) if d.key.driver == driver]

    def state(self, driver: str, device: Device) -> DeviceState:
        with self._rack().reading() as view:
            keys = [d.key for d in _known(view) if _is(d.key, driver, device)]
            return view.state(keys[0]) if len(keys) == 1 else DeviceState.UNKNOWN

    def states(self) -> Mapping[str, DeviceState]:
        with self._rack().reading() as view:
            return {device_key(d.key.driver, d.key.device): view.state(d.key) for d in _known(view)}

    def operate(self, operation: Operation, driver: str, device: Device) -> Reached:
        rack = self._rack()
        args = {"driver": driver, "device": device.device_id}
        if device.host:
            args["host"] = device.host
        reply = rack.orchestrate(operation.value, args, timeout=OPERATION_TIMEOUT)
        state = reply.state or TARGETS[operation]
        changed = not (isinstance(reply.result, dict) and reply.result.get("changed") is False)
        rack.reached(
            lambda view: any(
                _is(d.key, driver, device) and view.state(d.key) is state for d in _known(view)
            ),
            SETTLE,
        )
        return Reached(changed, state)

    def command(self, driver: str, device: Device, command: str, args: Mapping[str, Any]) -> Any:
        target = self._rack().device(device.device_id, host=device.host or None, driver=driver)
        return check(target.request(command, args, timeout=COMMAND_TIMEOUT)).result

    def commands(self, driver: str) -> dict[str, Command]:
        with self._rack().reading() as view:
            return {
                name: Command(name, info.description, info.parameters, info.timeout_ms)
                for device in _known(view)
                if device.key.driver == driver and device.meta is not None
                for name, info in device.meta.commands.items()
            }

    def shutdown(self) -> None:
        with self._lock:
            rack, self._open, self._shut = self._open, None, True
        if rack is not None:
            rack.close()

    def _rack(self) -> Rack:
        with self._lock:
            if self._shut:
                raise Offline("the device manager was closed")
            if self._open is None:
                self._open = self._make().open()
            return self._open


def _drivers(view: SiteView) -> list[str]:
    """Those that living hosts name in their births, also the ones that cannot be loaded."""
    named = {
        d.name
        for host in view.hosts.values()
        if host.birth and host.alive
        for d in host.birth.drivers
    }
    return sorted(named | {key.driver for key in view.devices})


def _known(view: SiteView) -> list[DeviceView]:
    """The devices that somebody could be asked about, in order of their names."""
    return [
        view.devices[key]
        for key in sorted(view.devices)
        if view.devices[key].status and not view.lost(key)
    ]


def _is(key: Key, driver: str, device: Device) -> bool:
    return (key.driver, key.device) == (driver, device.device_id) and device.host in ("", key.host)


def _meta(view: SiteView, key: Key) -> m.Meta | None:
    device = view.devices.get(key)
    return device.meta if device is not None else None


def _device(seen: DeviceView) -> Device:
    """The Device that the host's scan found, as its meta describes it."""
    meta = seen.meta or m.Meta(name=seen.key.device, device_type="")
    attributes = dict(meta.attributes)
    if meta.hardware_id is not None:
        attributes.setdefault("hardware_id", meta.hardware_id)
    plain = {"name": meta.name, "device_type": meta.device_type, "attributes": attributes}
    return Device.from_dict({"device_id": seen.key.device, "host": seen.key.host, **plain})
