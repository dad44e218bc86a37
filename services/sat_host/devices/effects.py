"""What the shell of a device has to do, in order, because of something that happened. Plain data,
made by `machine` and carried out by `device`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sat_host import wire_messages
from sat_host.devices.face import Face
from sat_host.devices.jobs import Job
from sat_host.outcome import Outcome
from sat_toolkit.core.device_spec import DeviceState


@dataclass(frozen=True, slots=True)
class Publish:
    """Readers are to see this."""

    face: Face


@dataclass(frozen=True, slots=True)
class Tell:
    """An event of the device, with the fields that belong to it."""

    event: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Finished:
    """Whoever asked for `job` is to hear what became of it, and in which `state` the device was
    then."""

    job: Job
    outcome: Outcome
    state: DeviceState


@dataclass(frozen=True, slots=True)
class ScanFirst:
    """The driver is to look for its devices, as a step of `job`; then `Machine.scanned`."""

    job: Job


@dataclass(frozen=True, slots=True)
class Spawn:
    """A worker is to be started for `job`; then `Machine.spawned` or `Machine.spawn_failed`."""

    job: Job


@dataclass(frozen=True, slots=True)
class CallWorker:
    """The worker is to be asked, as a step of `job`; then `Machine.answered`."""

    job: Job
    request: wire_messages.RunHook | wire_messages.RunCommand
    timeout: float


@dataclass(frozen=True, slots=True)
class ShowActive:
    """`Machine.show_active` is to be called `after` so many seconds, where `job` runs until
    then."""

    job: Job
    after: float


@dataclass(frozen=True, slots=True)
class HaltStreams:
    """The worker is to end its stream, if it listens."""


@dataclass(frozen=True, slots=True)
class Dismiss:
    """The worker is to end by itself, and is not ours any more."""


@dataclass(frozen=True, slots=True)
class Kill:
    """The worker is to be ended by force."""


Effect = (
    Publish
    | Tell
    | Finished
    | ScanFirst
    | Spawn
    | CallWorker
    | ShowActive
    | HaltStreams
    | Dismiss
    | Kill
)
