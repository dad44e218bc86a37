"""What `DeviceDriverManager` drives: the protocol that the in-process and the bus backend share.

A backend keeps the devices it knows and their states, applies the lifecycle (or asks those who do)
and raises a `SatError` for every refusal and failure; the manager turns these into its dicts. So
both backends give the same keys, statuses and messages.

A backend from elsewhere is named by the entry point ``bus`` of the group ``sat_toolkit.backends``:
a callable that takes the broker's URL (the value of SAT_BROKER_URL) and returns a `Backend`. It
does no I/O when it is called; the first method that needs the broker connects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sat_toolkit.core.commands import Command
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.core.lifecycle import Operation
from sat_toolkit.models.Device_Model import Device

ENTRY_POINT_GROUP = "sat_toolkit.backends"
ENTRY_POINT_NAME = "bus"


@dataclass(frozen=True)
class Reached:
    """A lifecycle operation that succeeded.

    `changed` is False when the device had reached the operation's target before; `state` is where
    it is now.
    """

    changed: bool
    state: DeviceState


def device_key(driver: str, device_id: str) -> str:
    """The key of a device in `Backend.states` and of its lock."""
    return f"{driver}:{device_id}"


class Backend(Protocol):
    """Every method may be called from any thread; of one device one `operate` or `command` at a
    time.

    Every method may raise `HostLost`, `Timeout` or any other SatError of getting at the device.
    """

    def drivers(self) -> Sequence[str]:
        """The names of the drivers there are, also of those that cannot be loaded."""
        ...

    def scan(self, driver: str) -> list[Device]:
        """Scan now and return what is there. A known device is never moved down by it.

        Raises:
            DriverError, PluginError: the scan failed.
        """
        ...

    def devices(self, driver: str) -> list[Device]:
        """The known devices of a driver, without scanning. An id may be there twice, with two
        hosts."""
        ...

    def state(self, driver: str, device: Device) -> DeviceState:
        """Where a device is; UNKNOWN when it is not known."""
        ...

    def states(self) -> Mapping[str, DeviceState]:
        """All known devices' states under their `device_key`: a copy."""
        ...

    def operate(self, operation: Operation, driver: str, device: Device) -> Reached:
        """Run initialize, connect, reset or close as `lifecycle.plan` has it.

        `device` is one of `devices()`, or, when it is not known, what the caller gave: connect then
        scans for it. What counts of it is `device_id`, and `host` where it has one.

        Raises:
            BadState: not offered in the device's state; the text is that of `lifecycle.plan`.
            UnknownDevice: ``Device X not found``.
            DriverError: it failed; the text begins with ``Initialization failed``, ``Connection
                failed``, ``Reset failed`` or ``Close failed`` and the device is in ERROR.
        """
        ...

    def command(self, driver: str, device: Device, command: str, args: Mapping[str, Any]) -> Any:
        """Run a command on a known device and return its result as plain JSON.

        Raises:
            BadState, UnknownCommand, BadArgs: refused, nothing was run.
            CommandFailed or another DriverError: it failed.
        """
        ...

    def commands(self, driver: str) -> dict[str, Command]:
        """What a driver declares. A bus backend that knows no device of it may answer nothing."""
        ...

    def shutdown(self) -> None:
        """Let go of everything: close what is open in this process, end threads. May be called
        twice.

        Called when the manager is closed or collected, at the latest when the interpreter exits.
        """
        ...
