"""Where fleet, hosts and bus meet: effects are carried out here, and plans turned into requests.

Everything runs on the work loop. Nothing here decides: the pure modules do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import structlog

from sat_bus.contract.device_key import Key
from sat_bus.service.loop import WorkLoop
from sat_bus.service.tasks import Task
from sat_orchestrator.bus.publisher import TablePublisher
from sat_orchestrator.fleet.effects import (
    Effect,
    EpochSeen,
    HostGone,
    HostRestarted,
    Noted,
    Resync,
    RowChanged,
    ScanWanted,
    WriteLost,
)
from sat_orchestrator.fleet.fleet import Fleet
from sat_orchestrator.fleet.table import Action, Presence
from sat_orchestrator.hosts import ACTION_TIMEOUT_S, SCAN_TIMEOUT_S, Hosts
from sat_orchestrator.lead import Lead
from sat_toolkit.errors import HostLost

_log = structlog.get_logger(__name__)


class Steering:
    """Carries out what a fleet asks for, and what the planner wants for its devices.

    Attributes:
        connected: the broker is there and has told what it holds.
    """

    def __init__(
        self, loop: WorkLoop, fleet: Fleet, hosts: Hosts, publisher: TablePublisher, lead: Lead
    ) -> None:
        self.connected = False
        self._loop = loop
        self._fleet = fleet
        self._hosts = hosts
        self._publisher = publisher
        self._lead = lead

    # -- time --------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Several times a second: what time brings about."""
        self._hosts.expire()
        if self._lead.leading and self.connected:
            self.apply(self._fleet.tick(self._loop.now()))

    def turn(self) -> None:
        """Once a second: show and plan every device, whatever was missed before."""
        for key in list(self._fleet.rows):
            self.changed(key)

    def reconnected(self) -> None:
        """The broker is back, perhaps without its memory."""
        self.connected = True
        self._fleet.restart_timers(self._loop.now())
        if not self._lead.leading:
            return
        self._publisher.republish()
        for host in self._fleet.hosts.values():
            if host.presence is Presence.GONE:
                self._publisher.host_lost(host.name, host.boot)
                for row in self._fleet.of_host(host.name):
                    if row.status is not None:
                        self._publisher.lost(row.key)

    # -- effects -----------------------------------------------------------------------------------

    def apply(self, effects: Iterable[Effect]) -> None:
        """Carry out what the fleet asks for. Before we lead only the fleet's own memory changes."""
        changed: dict[Key, None] = {}
        for effect in effects:
            if isinstance(effect, RowChanged):
                changed[effect.key] = None
            elif isinstance(effect, EpochSeen):
                self._lead.saw(effect.epoch)
            elif isinstance(effect, HostRestarted):
                self._fail_calls(effect.host, f"host {effect.host} was restarted")
            elif self._lead.leading:
                self._carry_out(effect)
        for key in changed:
            self.changed(key)

    def changed(self, key: Key) -> None:
        """Show a device's row where it looks different, and do the next thing for the device, if
        there is one."""
        if not self._lead.leading or key not in self._fleet.rows:
            return
        self._publisher.row(key)
        if self.connected:
            action = self._fleet.next_action(key, self._loop.now())
            if action is not None:
                Task(self._loop, self._act(key, action))

    def forget(self, key: Key, *, device: bool) -> None:
        """Drop a device from the fleet and the bus; with `device` also what its host has
        retained."""
        self._fleet.remove(key)
        self._publisher.clear(key, device=device)

    def _carry_out(self, effect: Effect) -> None:
        if isinstance(effect, HostGone):
            self._host_gone(effect)
        elif isinstance(effect, WriteLost):
            self._publisher.lost(effect.key)
        elif isinstance(effect, Resync):
            _log.info("resync", host=effect.host, reason=effect.reason)
            self._hosts.resync(effect.host)
        elif isinstance(effect, ScanWanted):
            self._hosts.look_around(effect.host)
        elif isinstance(effect, Noted):
            _log.warning(effect.event, device=str(effect.key), reason=effect.reason)
            self._publisher.event(effect.key, effect.event, effect.reason)

    def _host_gone(self, effect: HostGone) -> None:
        _log.warning("host lost", host=effect.host, reason=effect.reason)
        host = self._fleet.hosts[effect.host]
        if host.word != "offline":  # what the host or its will has said already stands
            self._publisher.host_lost(effect.host, host.boot)
        self._fail_calls(effect.host, f"host {effect.host} is lost: {effect.reason}")

    def _fail_calls(self, host: str, reason: str) -> None:
        self._hosts.gone(host, HostLost(f"{reason}; the effect of the request is unknown"))

    # -- plans -------------------------------------------------------------------------------------

    async def _act(self, key: Key, action: Action) -> None:
        """Ask the device's host for `action`, and note what came of it."""
        _log.info("plan", device=str(key), operation=action.operation, stream=action.stream)
        self._fleet.begin(key, action)
        self._publisher.row(key)
        timeout = SCAN_TIMEOUT_S if action.operation == "scan" else ACTION_TIMEOUT_S
        reply = await self._hosts.ask(
            key.host, action.operation, _action_args(key, action), timeout
        )
        if reply.code is not None:
            _log.warning("failed", device=str(key), code=reply.code, reason=reply.message)
        now = self._loop.now()
        self.apply(self._fleet.finish(key, reply.code, reply.message, reply.state, now))


def _action_args(key: Key, action: Action) -> dict[str, Any]:
    if action.operation == "scan":
        return {"driver": key.driver}
    named: dict[str, Any] = {"driver": key.driver, "device": key.device}
    if action.operation == "start":
        return {**named, "stream": action.stream, "args": action.args}
    return named
