"""What a device needs of its host, so that it need not know the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sat_bus.contract.messages import Meta
from sat_bus.service.loop import WorkLoop
from sat_bus.service.tasks import Promise
from sat_host.devices.drivers import Driver, ScanResult
from sat_host.devices.face import Face
from sat_host.pool.handle import WorkerHandle, WorkerOwner
from sat_host.wire_messages import BatchHeader
from sat_toolkit.core.plugin_loader import PluginFile


class Workers(Protocol):
    """Where workers come from: a `pool.pool.Pool`."""

    def spawn(
        self, name: str, plugin: PluginFile, device: dict[str, Any] | None, owner: WorkerOwner
    ) -> WorkerHandle:
        """A worker. Raises OSError: no process could be had."""


class Scans(Protocol):
    """Who looks for devices: a `scanner.Scanner`."""

    def scan(self, driver: Driver) -> Promise[ScanResult]:
        """Settled when every device of `driver` has been told whether it was found."""


class Readers(Protocol):
    """The readers of the bus: a `bus.publisher.HostPublisher`."""

    def describe(self, driver: str, device: str, meta: Meta) -> None:
        """They know the device as this from now on."""

    def show(self, driver: str, device: str, face: Face) -> None:
        """They see the device like this from now on."""

    def tell(self, driver: str, device: str, event: str, fields: Mapping[str, Any]) -> None:
        """Something has happened to the device."""

    def settle_soon(self) -> None:
        """Devices were looked for: what the broker holds of others can go."""


class FrameSink(Protocol):
    """Where frames go, from any thread: a `bus.stream_publisher.StreamPublisher`."""

    def publish(self, driver: str, device: str, header: BatchHeader, frames: bytes) -> None:
        """Send one batch."""


@dataclass(frozen=True)
class Surroundings:
    """All of it."""

    loop: WorkLoop
    workers: Workers
    scans: Scans
    readers: Readers
    frames: FrameSink
