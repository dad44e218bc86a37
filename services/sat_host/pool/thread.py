"""A worker on threads of the host itself: for thousands of light simulated devices, whose drivers
are trusted.

A thread cannot be killed. One that hangs is abandoned: its device is in ERROR and the thread stays
until the host ends. Limits of memory, processes and files do not apply, and a driver that ends the
process ends the host.
"""

from __future__ import annotations

import socket
import threading

from sat_bus.service.loop import WorkLoop
from sat_host.pool.handle import WorkerHandle, WorkerOwner
from sat_host.pool.multiplexer import Multiplexer
from sat_host.wire_messages import Configure
from sat_host.worker.link import HostLink, LinkClosedError
from sat_host.worker.server import serve


class WorkerThread(WorkerHandle):
    """A worker thread."""

    def __init__(
        self,
        name: str,
        configure: Configure,
        loop: WorkLoop,
        multiplexer: Multiplexer,
        owner: WorkerOwner,
    ) -> None:
        ours, theirs = socket.socketpair()
        self._reason = ""
        self._link = HostLink(theirs)
        self._thread = threading.Thread(target=self._run, name=f"worker/{name}", daemon=True)
        super().__init__(name, configure, loop, multiplexer, owner, ours)
        self._thread.start()

    def kill(self, reason: str = "") -> None:
        """Abandon the thread: what it still sends reaches nobody."""
        if not self._exited:
            self._reason = self._reason or reason
            self._link.close()
            self._over(self._reason or "worker thread abandoned")

    def wait(self, timeout: float) -> None:
        self._thread.join(timeout)

    def _has_ended(self) -> bool:
        return not self._thread.is_alive()

    def _on_eof(self, problem: str = "") -> None:
        self._link.close()
        self._over(self._reason or problem or "worker thread ended")

    def _run(self) -> None:
        try:
            serve(self._link, own_process=False)
        except LinkClosedError:
            pass
        finally:
            self._link.close()
