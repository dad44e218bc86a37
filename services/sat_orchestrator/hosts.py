"""What is asked of driver hosts, by whomever: under our newest epoch, and scans with the rows that
come of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import structlog

from sat_bus.contract.device_key import Key
from sat_bus.contract.messages import Reply
from sat_bus.service.loop import WorkLoop
from sat_bus.service.tasks import Task
from sat_orchestrator.bus.host_calls import HostCalls
from sat_orchestrator.fleet.fleet import Fleet
from sat_orchestrator.lead import Lead
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.errors import Code, SatError

_log = structlog.get_logger(__name__)

# Initialize and connect of a driver may take 30 s each, and a connect is both.
ACTION_TIMEOUT_S = 65.0
SCAN_TIMEOUT_S = 30.0
RESYNC_TIMEOUT_S = 10.0


class Scanned(NamedTuple):
    """What a host said to a scan, and the devices that are there."""

    host: str
    reply: Reply
    found: list[Key]


class Hosts:
    """Asks the hosts of a fleet."""

    def __init__(self, loop: WorkLoop, fleet: Fleet, calls: HostCalls, lead: Lead) -> None:
        self._loop = loop
        self._fleet = fleet
        self._calls = calls
        self._lead = lead
        self._scanning: set[tuple[str, str | None]] = set()

    async def ask(
        self,
        host: str,
        operation: str,
        args: dict[str, Any],
        timeout: float,
        *,
        traceparent: str | None = None,
    ) -> Reply:
        """Ask a host; once more with a higher epoch where it refuses ours as over."""
        boot = self._fleet.hosts[host].boot
        deadline = self._loop.now() + timeout
        reply = await self._calls.ask(host, boot, operation, args, timeout, traceparent=traceparent)
        left = deadline - self._loop.now()
        if reply.code is Code.FENCED and left > 0:
            self._lead.rise()
            reply = await self._calls.ask(
                host, boot, operation, args, left, traceparent=traceparent
            )
        return reply

    async def scan(self, host: str, driver: str | None, timeout: float) -> Scanned:
        """Have a host look for devices, of one driver or of all; new ones get a row."""
        which = (host, driver)
        self._scanning.add(which)
        try:
            args = {} if driver is None else {"driver": driver}
            reply = await self.ask(host, "scan", args, timeout)
        finally:
            self._scanning.discard(which)
        found = found_by(host, reply)
        for key in found:
            self._make_row(key)
        return Scanned(host, reply, found)

    def look_around(self, host: str) -> None:
        """Have a host scan, with nobody in particular waiting: one that is under way will do."""
        if (host, None) not in self._scanning:
            Task(self._loop, self._look_around(host))

    def resync(self, host: str) -> None:
        """Have a host publish everything again."""
        Task(self._loop, self._resync(host))

    def gone(self, host: str, error: SatError) -> None:
        """End with `error` what waits for a host: it is lost, or its boot is over."""
        self._calls.fail(host, error)

    def expire(self) -> None:
        """End what hosts have not answered in time."""
        self._calls.expire(self._loop.now())

    async def _look_around(self, host: str) -> None:
        await self.scan(host, None, SCAN_TIMEOUT_S)

    async def _resync(self, host: str) -> None:
        await self.ask(host, "resync", {}, RESYNC_TIMEOUT_S)

    def _make_row(self, key: Key) -> None:
        try:
            self._fleet.row(key, self._loop.now())
        except SatError as error:
            _log.error("device left out", device=str(key), reason=str(error))


def found_by(host: str, reply: Reply) -> list[Key]:
    """The devices that the reply to a scan says are there."""
    result = reply.result if isinstance(reply.result, dict) else {}
    listed = result.get("devices", [])
    return [
        Key(host, str(item["driver"]), str(item["device"]))
        for item in (listed if isinstance(listed, list) else [])
        if isinstance(item, dict)
        and item.get("driver")
        and item.get("device")
        and item.get("state") != DeviceState.UNKNOWN
    ]
