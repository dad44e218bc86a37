"""A driver's events on their way from a worker to its host, within their ration."""

from __future__ import annotations

import threading
import time
from typing import Any

from sat_host.wire_messages import DriverReported, EventsDropped
from sat_host.worker.link import HostLink
from sat_toolkit.core.driver_events import Ration


class DriverEvents:
    """Passes on what the driver reports, from any thread, and tells how much of it was too much."""

    def __init__(self, link: HostLink) -> None:
        self._link = link
        self._lock = threading.Lock()
        self._ration = Ration()

    def tell(self, name: str, data: dict[str, Any]) -> None:
        """Pass one event on, or count it as dropped."""
        with self._lock:
            passes = self._ration.take(time.monotonic())
        if passes:
            self._link.send(DriverReported(name, data))

    def report(self) -> None:
        """Tell how many were dropped since the last time; to be called now and then."""
        with self._lock:
            dropped = self._ration.dropped(time.monotonic())
        if dropped:
            self._link.send(EventsDropped(dropped))
