"""All workers of a host: started, held to their limits, ended together. Lives on the work loop
alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog

from sat_bus.service.loop import WorkLoop
from sat_host.containment.cgroup import Cgroup, Cgroups
from sat_host.containment.watch import UsageWatch
from sat_host.pool.handle import WorkerHandle, WorkerOwner
from sat_host.pool.multiplexer import Multiplexer
from sat_host.pool.process import WorkerProcess
from sat_host.pool.thread import WorkerThread
from sat_host.settings import HostSettings
from sat_host.wire_messages import Configure
from sat_toolkit.core.plugin_loader import PluginFile

_log = structlog.get_logger(__name__)


class Pool:
    """The workers of a host.

    Args:
        ends_orphans: this process is the subreaper of its workers and has no other children.
        find_cgroups: where workers may have cgroups; raises OSError where they may not.
        on_threads: makes a worker of this process's own threads.
    """

    def __init__(
        self,
        settings: HostSettings,
        loop: WorkLoop,
        *,
        ends_orphans: bool,
        find_cgroups: Callable[[], Cgroups] = Cgroups.find,
        on_threads: Callable[..., WorkerHandle] = WorkerThread,
    ) -> None:
        self._settings = settings
        self._loop = loop
        self._watch = UsageWatch(f"host/{settings.host}", ends_orphans=ends_orphans)
        self._cgroups: Cgroups | None = None
        self._find = find_cgroups
        self._on_threads = on_threads
        self._multiplexer = Multiplexer(f"host/{settings.host}")
        self._workers: list[WorkerHandle] = []

    def __len__(self) -> int:
        """How many live."""
        return sum(worker.alive for worker in self._workers)

    @property
    def orphans_ended(self) -> int:
        """Processes that workers left behind, and that were killed."""
        return self._watch.orphans_ended

    def start(self) -> None:
        """Serve workers from now on, and watch what they use."""
        self._multiplexer.start()
        self._find_cgroups()
        self._watch.start()

    def spawn(
        self, name: str, plugin: PluginFile, device: dict[str, Any] | None, owner: WorkerOwner
    ) -> WorkerHandle:
        """A worker of `plugin` for `device` (a Device as a dict), or one that only scans (None).

        Raises:
            OSError: no process could be had.
        """
        configure = Configure(
            driver=plugin.name,
            family=plugin.family,
            path=str(plugin.path),
            info=self._settings.drivers.get(plugin.name, {}),
            limits=self._settings.limits,
            delivery=self._settings.delivery,
            device=device,
        )
        worker: WorkerHandle
        if device is not None and self._settings.isolation == "thread":
            worker = self._on_threads(name, configure, self._loop, self._multiplexer, owner)
        else:
            with self._watch.paused():
                worker = WorkerProcess(
                    name, configure, self._loop, self._multiplexer, owner, self._cgroup()
                )
                self._watch.add(worker)
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
        self._watch.end()
        if self._cgroups is not None:
            self._cgroups.close()

    def stop(self) -> None:
        """Serve no more."""
        self._multiplexer.stop()

    def _find_cgroups(self) -> None:
        if self._settings.worker_cgroups == "off":
            _log.info("workers are held by the watch alone", reason="worker_cgroups is off")
            return
        try:
            self._cgroups = self._find()
        except OSError as error:
            _log.info("workers are held by the watch alone", reason=str(error))
        else:
            _log.info("workers are held by cgroups", folder=str(self._cgroups.folder))

    def _cgroup(self) -> Cgroup | None:
        if self._cgroups is None:
            return None
        try:
            return self._cgroups.make(self._settings.worker_processes)
        except OSError as error:
            _log.warning("no cgroup for a worker", error=str(error))
            return None
