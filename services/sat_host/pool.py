"""All workers of a host: started, held to their limits, ended together. Lives on the work loop alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

from sat_bus.loop import WorkLoop
from sat_host.census import end_orphans, take_census
from sat_host.drivers import Driver
from sat_host.handle import Worker, WorkerOwner
from sat_host.multiplexer import Multiplexer
from sat_host.process import WorkerProcess
from sat_host.settings import HostSettings
from sat_host.thread import WorkerThread

CENSUS_PERIOD = 1.0


class Pool:
    """The workers of a host.

    Args:
        ends_orphans: this process is the subreaper of its workers and has no other children.
    """

    def __init__(self, settings: HostSettings, loop: WorkLoop, *, ends_orphans: bool) -> None:
        self.orphans_ended = 0
        self._settings = settings
        self._loop = loop
        self._ends_orphans = ends_orphans
        self._multiplexer = Multiplexer(f"host/{settings.host}")
        self._workers: list[Worker] = []

    def __len__(self) -> int:
        """How many live."""
        return sum(worker.alive for worker in self._workers)

    def start(self) -> None:
        """Serve workers from now on, and look at what they use once a second."""
        self._multiplexer.start()
        self._loop.every(CENSUS_PERIOD, self._take_census)

    def spawn(self, name: str, driver: Driver, device: dict[str, Any] | None, owner: WorkerOwner) -> Worker:
        """A worker for `device` (a Device as a dict), or one that only scans (None).

        Raises:
            OSError: no process could be had.
        """
        config = {
            "driver": driver.name,
            "family": driver.plugin.family,
            "path": str(driver.plugin.path),
            "info": self._settings.drivers.get(driver.name, {}),
            "limits": self._settings.limits,
            "device": device,
        }
        threaded = device is not None and self._settings.isolation == "thread"
        kind = WorkerThread if threaded else WorkerProcess
        worker = kind(name, config, self._loop, self._multiplexer, owner)
        self._workers = [*(w for w in self._workers if w.alive), worker]
        return worker

    def forgive(self) -> None:
        """The host stood still: nobody's silence counts."""
        for worker in self._workers:
            worker.forgive()

    def end(self) -> None:
        """Kill them all and wait for their end."""
        for worker in self._workers:
            worker.kill()
        for worker in self._workers:
            worker.wait(1.0)
        if self._ends_orphans:
            end_orphans(take_census(), set())

    def stop(self) -> None:
        """Serve no more."""
        self._multiplexer.stop()

    def _take_census(self) -> None:
        census = take_census()
        processes = [w for w in self._workers if isinstance(w, WorkerProcess) and w.alive]
        ended: Counter[str] = Counter()
        if self._ends_orphans:
            ended = end_orphans(census, {worker.pid for worker in processes})
            self.orphans_ended += ended.total()
        for worker in processes:
            worker.check(census, ended[worker.mark])
