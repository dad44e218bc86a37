"""A driver of a host: its scan worker, what it declares, and its scans. Lives on the work loop
alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sat_bus.service.loop import Timer
from sat_host.pool.handle import CallResult, WorkerHandle
from sat_toolkit.core.commands import Command
from sat_toolkit.core.plugin_loader import PluginFile
from sat_toolkit.errors import SatError

DESCRIBE_DEADLINE = 20.0
SCAN_DEADLINE = 15.0
MIN_SCAN_PERIOD = 0.5
MAX_SCAN_WAIT = 60.0


@dataclass(frozen=True)
class ScanResult:
    """The devices found, each a Device as a dict with its ``hardware_id``; or what went wrong."""

    devices: tuple[dict[str, Any], ...] = ()
    error: SatError | None = None


ScanDone = Callable[[ScanResult], None]


class Driver:
    """One plugin file of the host's family.

    Args:
        plugin: the file.
        spawn: starts a scan worker for this driver, or raises OSError.
        on_described: told when the driver is known, or why it cannot be used.
        on_hardware_changed: told when the driver's own watch says that hardware came or went.
    """

    def __init__(
        self,
        plugin: PluginFile,
        spawn: Callable[[Driver], WorkerHandle],
        on_described: Callable[[Driver], None],
        on_hardware_changed: Callable[[Driver], None],
    ) -> None:
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
        self._failures = 0
        self._spawn = spawn
        self._on_described = on_described
        self._on_hardware_changed = on_hardware_changed
        self._worker: WorkerHandle | None = None
        self._waiting: list[ScanDone] = []
        self._scanning = False
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
        try:
            self._worker = self._spawn(self)
        except OSError as error:
            self._described(
                CallResult(error=SatError(f"no worker process could be started: {error}"))
            )
            return
        self._describing = True
        self._worker.call({"do": "describe"}, DESCRIBE_DEADLINE, self._described)

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
        self._scanning = self._describing = False

    def scan(self, done: ScanDone) -> None:
        """Scan; a scan that runs already serves all who ask meanwhile."""
        self._waiting.append(done)
        if self._worker is None:
            self.start()
        if not self._scanning and not self._describing:
            self._begin_scan()

    def _begin_scan(self) -> None:
        if self._worker is None:
            self._scanned(CallResult(error=SatError(self.error or "no scan worker")))
            return
        self._scanning = True
        self._worker.call({"do": "scan"}, SCAN_DEADLINE, self._scanned)

    def _described(self, result: CallResult) -> None:
        self.described = True
        self._describing = False
        if result.error is not None:
            self.error = str(result.error)
        else:
            self.error = None
            self.commands = {
                name: Command(name, spec["description"], spec["parameters"], spec["timeout_ms"])
                for name, spec in result.result["commands"].items()
            }
            self.streams = result.result["streams"]
            self.scan_period = max(MIN_SCAN_PERIOD, float(result.result["scan_period"]))
        self._on_described(self)
        if self._waiting and not self._scanning:
            if result.error is not None:
                self._scanned(result)
            else:
                self._begin_scan()

    def _scanned(self, result: CallResult) -> None:
        self._scanning = False
        self.scanned = True
        waiting, self._waiting = self._waiting, []
        self._failures = self._failures + 1 if result.error is not None else 0
        if result.error is not None:
            outcome = ScanResult(error=result.error)
        else:
            outcome = ScanResult(devices=tuple(result.result))
        for done in waiting:
            done(outcome)

    # -- WorkerOwner -----------------------------------------------------------------------------

    def on_frames(self, header: dict[str, Any], frames: bytes) -> None:
        """A scan worker has no streams."""

    def on_event(self, event: dict[str, Any]) -> None:
        if event["event"] == "changed":
            self._on_hardware_changed(self)

    def on_exit(self, reason: str) -> None:
        self._worker = None
        self._scanning = False
        self.error = self.error or reason
