"""A driver of a host: its scan worker, what it declares, and its scans. Lives on the work loop
alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from sat_bus.service.loop import Timer, WorkLoop
from sat_bus.service.tasks import Promise, Task
from sat_host.outcome import Outcome
from sat_host.pool.handle import WorkerHandle
from sat_host.wire_messages import (
    BatchHeader,
    Describe,
    Description,
    Event,
    HardwareChanged,
    Scan,
)
from sat_toolkit.core import commands
from sat_toolkit.core.commands import Command
from sat_toolkit.core.plugin_loader import PluginFile
from sat_toolkit.errors import PluginError, SatError

DESCRIBE_DEADLINE = 20.0
SCAN_DEADLINE = 15.0
MIN_SCAN_PERIOD = 0.5
MAX_SCAN_WAIT = 60.0


@dataclass(frozen=True)
class ScanResult:
    """The devices found, each a Device as a dict with its ``hardware_id``; or what went wrong."""

    devices: tuple[dict[str, Any], ...] = ()
    error: SatError | None = None


class DriverOwner(Protocol):
    """What a driver needs of its host, and whom it tells its news."""

    def spawn_scanner(self, driver: Driver) -> WorkerHandle:
        """A worker that scans for `driver`, which is its owner. Raises OSError."""

    def described(self, driver: Driver) -> None:
        """It is known what the driver declares, or why it cannot be used."""

    def hardware_changed(self, driver: Driver) -> None:
        """The driver's own watch says that hardware came or went."""


class Driver:
    """One plugin file of the host's family.

    Attributes:
        commands, streams: what it declares.
        error: why it cannot be used.
        described, scanned: whether it has been, with success or without.
        reloading: its file is being read again.
        next_scan: the timer of its next periodic scan; its host's.
    """

    def __init__(self, plugin: PluginFile, loop: WorkLoop, owner: DriverOwner) -> None:
        self.plugin = plugin
        self.name = plugin.name
        self.commands: dict[str, Command] = {}
        self.streams: list[str] = []
        self.error: str | None = None
        self.described = False
        self.scanned = False
        self.scan_period = 5.0
        self.reloading = False
        self.next_scan: Timer | None = None
        self._loop = loop
        self._owner = owner
        self._failures = 0
        self._worker: WorkerHandle | None = None
        self._scan: Promise[ScanResult] | None = None  # the one that is under way
        self._describing = False

    @property
    def worker(self) -> WorkerHandle | None:
        return self._worker

    @property
    def scan_wait(self) -> float:
        """Seconds until the next periodic scan."""
        return min(
            max(self.scan_period, MAX_SCAN_WAIT), self.scan_period * 2.0 ** min(self._failures, 10)
        )

    def start(self) -> None:
        """Start the scan worker and ask what the driver declares."""
        self._describing = True
        Task(self._loop, self._start())

    def reload(self) -> None:
        """Read the plugin's file again, in a new worker. Devices keep theirs until they are
        initialised anew."""
        self.reloading = True
        self.stop()
        self.start()

    def stop(self) -> None:
        """End the scan worker."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.dismiss()

    def scan(self) -> Promise[ScanResult]:
        """Scan; one that is under way serves all who ask meanwhile."""
        if self._scan is not None:
            return self._scan
        scan: Promise[ScanResult] = Promise()
        self._scan = scan
        if self._worker is None and not self._describing:
            self.start()
        elif not self._describing:
            Task(self._loop, self._run_scan())
        return scan

    async def _start(self) -> None:
        """Describe in a new worker, then scan if somebody waits for that."""
        try:
            worker = self._worker = self._owner.spawn_scanner(self)
        except OSError as error:
            self._describe(Outcome(error=SatError(f"no worker process could be started: {error}")))
            return
        outcome = await worker.call(Describe(), DESCRIBE_DEADLINE)
        if worker is self._worker:  # it has not been replaced meanwhile
            self._describe(outcome)

    def _describe(self, outcome: Outcome) -> None:
        self.described = True
        self._describing = False
        error = outcome.error
        if error is None:
            try:
                self._take(outcome.result)
            except PluginError as wrong:
                error = wrong
        self.error = None if error is None else str(error)
        waited_for = self._scan
        self._owner.described(self)
        if waited_for is None:
            return
        if error is not None:
            self._end_scan(ScanResult(error=error))
        else:
            Task(self._loop, self._run_scan())

    def _take(self, description: Description) -> None:
        """Raises PluginError: a schema in it is not valid."""
        for name, spec in description.commands.items():
            commands.check_schema(name, spec.parameters)
        self.commands = {
            name: Command(name, spec.description, spec.parameters, spec.timeout_ms)
            for name, spec in description.commands.items()
        }
        self.streams = description.streams
        self.scan_period = max(MIN_SCAN_PERIOD, description.scan_period)

    async def _run_scan(self) -> None:
        worker = self._worker
        if worker is None:
            self._end_scan(ScanResult(error=SatError(self.error or "no scan worker")))
            return
        outcome = await worker.call(Scan(), SCAN_DEADLINE)
        if worker is not self._worker:  # a new one scans once it is described
            return
        if outcome.error is not None:
            self._end_scan(ScanResult(error=outcome.error))
        else:
            self._end_scan(ScanResult(tuple(outcome.result)))

    def _end_scan(self, result: ScanResult) -> None:
        self.scanned = True
        self._failures = 0 if result.error is None else self._failures + 1
        scan, self._scan = self._scan, None
        if scan is not None:
            scan.set_result(result)

    # -- WorkerOwner -----------------------------------------------------------------------------

    def on_frames(self, header: BatchHeader, frames: bytes) -> None:
        """A scan worker has no streams."""

    def on_event(self, event: Event) -> None:
        """WorkerOwner: only its watch for hardware has something to tell."""
        if isinstance(event, HardwareChanged):
            self._owner.hardware_changed(self)

    def on_exit(self, reason: str) -> None:
        """WorkerOwner: the next scan has a new worker."""
        self._worker = None
        self.error = self.error or reason
