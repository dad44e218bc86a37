"""Where fleet, database, hosts and bus meet: effects are carried out here, and plans turned into
requests.

Everything runs on the work loop. Nothing here decides: the pure modules do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import structlog

from sat_bus.contract.device_key import Key
from sat_bus.contract.messages import Desired, Reply
from sat_bus.service.loop import WorkLoop
from sat_orchestrator.bus.host_calls import HostCalls
from sat_orchestrator.bus.publisher import Publisher
from sat_orchestrator.fleet import rows
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
from sat_orchestrator.fleet.table import Action, Presence, Record
from sat_orchestrator.store.database import Kept
from sat_orchestrator.store.store import Store
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.errors import Code, HostLost, SatError

_log = structlog.get_logger(__name__)

ACTION_TIMEOUT_S = 65.0
SCAN_TIMEOUT_S = 30.0
RESYNC_TIMEOUT_S = 10.0
STORE_RETRY_S = 5.0

Replied = Callable[[Reply], None]


class Core:
    """The orchestrator without its subscriptions.

    Args:
        clock: monotonic seconds.
        wall: seconds since the Unix epoch.
        on_epoch: told each epoch that a host has seen, and when one refuses ours.
    """

    def __init__(
        self,
        loop: WorkLoop,
        fleet: Fleet,
        store: Store,
        calls: HostCalls,
        publisher: Publisher,
        clock: Callable[[], float],
        wall: Callable[[], float],
        on_epoch: Callable[[int | None], None],
    ) -> None:
        self.fleet, self.store, self.calls, self.publisher = fleet, store, calls, publisher
        self.leading = False
        self.connected = False
        self.clock, self.wall = clock, wall
        self._loop = loop
        self._on_epoch = on_epoch
        self._scanning: set[tuple[str, str | None]] = set()
        self._saved: dict[Key, Record] = {}
        self._saving: set[Key] = set()
        self._save_again_at = 0.0
        self._noted: dict[Key, tuple[DeviceState, int]] = {}

    def load(self, kept: Kept) -> None:
        """Start from what the database has kept."""
        self.fleet.load(kept.records, self.clock())
        self._saved = {kept_record.key: _kept_for_sure(kept_record) for kept_record in kept.records}

    # -- time --------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Several times a second: what time brings about."""
        self.calls.expire()
        if self.leading and self.connected:
            self.apply(self.fleet.tick(self.clock()))
        self.publisher.flush()

    def turn(self) -> None:
        """Once a second: plan for every device and save what is not saved, whatever was missed
        before."""
        if not self.leading:
            return
        for key in list(self.fleet.rows):
            self.show(key)
            self.plan(key)
        self.note_observed()
        self._save_all_desired()

    def note_observed(self) -> None:
        """Have written what was observed since the last time."""
        for key, row in self.fleet.rows.items():
            if row.quality != "good" or row.status is None:
                continue
            seen = (row.observed, row.status.rev)
            if self._noted.get(key) != seen:
                self._noted[key] = seen
                self.store.observed(key, *seen)

    def reconnected(self) -> None:
        """The broker is back, perhaps without its memory."""
        self.fleet.restart_timers(self.clock())
        if not self.leading:
            return
        self.publisher.republish()
        for host in self.fleet.hosts.values():
            if host.presence is Presence.GONE:
                self.publisher.host_lost(host.name, host.boot)
                for row in self.fleet.of_host(host.name):
                    if row.status is not None:
                        self._write_lost(row.key)

    # -- effects -----------------------------------------------------------------------------------

    def apply(self, effects: Iterable[Effect]) -> None:
        """Carry out what the fleet asks for. Before we lead only the fleet's own memory changes."""
        changed: dict[Key, None] = {}
        for effect in effects:
            if isinstance(effect, RowChanged):
                changed[effect.key] = None
            elif isinstance(effect, EpochSeen):
                self._on_epoch(effect.epoch)
            elif isinstance(effect, HostRestarted):
                self.calls.host_gone(effect.host, f"host {effect.host} was restarted")
            elif self.leading:
                self._carry_out(effect)
        if self.leading:
            for key in changed:
                self.show(key)
                self.plan(key)

    def _carry_out(self, effect: Effect) -> None:
        if isinstance(effect, HostGone):
            self._host_lost(effect)
        elif isinstance(effect, WriteLost):
            self._write_lost(effect.key)
        elif isinstance(effect, Resync):
            _log.info("resync", host=effect.host, reason=effect.reason)
            self.call(effect.host, "resync", {}, RESYNC_TIMEOUT_S, lambda reply: None)
        elif isinstance(effect, ScanWanted):
            self.scan(effect.host, None, SCAN_TIMEOUT_S, None)
        elif isinstance(effect, Noted):
            row, host = self.fleet.rows[effect.key], self.fleet.hosts[effect.key.host]
            rev = row.status.rev if row.status is not None else 0
            _log.warning(effect.event, device=str(effect.key), reason=effect.reason)
            self.publisher.event(effect.key, effect.event, effect.reason, host.boot, rev)

    def _host_lost(self, effect: HostGone) -> None:
        _log.warning("host lost", host=effect.host, reason=effect.reason)
        host = self.fleet.hosts[effect.host]
        if host.word != "offline":  # what the host or its will has said already stands
            self.publisher.host_lost(effect.host, host.boot)
        self.calls.host_gone(effect.host, f"host {effect.host} is lost: {effect.reason}")

    def _write_lost(self, key: Key) -> None:
        row, host = self.fleet.rows[key], self.fleet.hosts[key.host]
        self.publisher.lost(key, rows.lost_status(row, host, round(self.wall(), 3)))

    def show(self, key: Key) -> None:
        """Publish the row where it has changed."""
        if key in self.fleet.rows:
            self.publisher.row(key)

    # -- hosts -------------------------------------------------------------------------------------

    def plan(self, key: Key) -> None:
        """Do the next thing for a device, if there is one."""
        if not self.leading or not self.connected:
            return
        action = self.fleet.next_action(key, self.clock())
        if action is None:
            return
        _log.info("plan", device=str(key), operation=action.operation, stream=action.stream)
        self.fleet.begin(key, action)
        self.show(key)
        done = self._action_done(key)
        if action.operation == "scan":
            self.call(key.host, "scan", {"driver": key.driver}, SCAN_TIMEOUT_S, done)
        else:
            self.call(key.host, action.operation, _action_args(key, action), ACTION_TIMEOUT_S, done)

    def _action_done(self, key: Key) -> Replied:
        def done(reply: Reply) -> None:
            if reply.code is not None:
                _log.warning("failed", device=str(key), code=reply.code, reason=reply.message)
            self.apply(self.fleet.finish(key, reply.code, reply.message, reply.state, self.clock()))

        return done

    def call(
        self,
        host: str,
        operation: str,
        args: dict[str, Any],
        timeout: float,
        done: Replied,
        *,
        traceparent: str | None = None,
    ) -> None:
        """Ask a host; once more with a higher epoch where it refuses ours as over."""
        boot = self.fleet.hosts[host].boot
        deadline = self.clock() + timeout

        def replied(reply: Reply) -> None:
            left = deadline - self.clock()
            if reply.code is Code.FENCED and left > 0:
                self._on_epoch(None)
                self.calls.send(host, boot, operation, args, left, done, traceparent=traceparent)
            else:
                done(reply)

        self.calls.send(host, boot, operation, args, timeout, replied, traceparent=traceparent)

    def scan(
        self, host: str, driver: str | None, timeout: float, done: Callable[[Reply, list[Key]], None] | None
    ) -> None:  # fmt: skip
        """Have a host look for devices; `done` gets its reply and the devices that are there.
        Without `done` (nobody in particular asks) a scan that is under way will do."""
        which = (host, driver)
        if done is None and which in self._scanning:
            return
        self._scanning.add(which)

        def scanned(reply: Reply) -> None:
            self._scanning.discard(which)
            found = _found(host, reply)
            for key in found:
                self._make_row(key)
            if done is not None:
                done(reply, found)

        self.call(host, "scan", {} if driver is None else {"driver": driver}, timeout, scanned)

    def _make_row(self, key: Key) -> None:
        try:
            self.fleet.row(key, self.clock())
        except SatError as error:
            _log.error("device left out", device=str(key), reason=str(error))

    # -- what is desired ------------------------------------------------------------------------------------

    def save_desired(
        self, key: Key, desired: Desired | None, *, accept: bool, done: Callable[[str], None]
    ) -> None:  # fmt: skip
        """Store what a client desires; `done` gets the reason of a failure, else nothing, on the
        work loop. It holds when `Fleet.set_desired` is told of it; what is stored and then
        withdrawn is overwritten again."""
        record = self.fleet.proposal(key, desired, accept=accept)
        self._save(record, done)

    def forget(self, key: Key, *, device: bool) -> None:
        """Drop a row everywhere; with `device` also what its host has retained."""
        self.fleet.remove(key)
        self.publisher.clear(key, device=device)
        self._noted.pop(key, None)
        self._saved.pop(key, None)
        self.store.delete(key, lambda failure: None)

    def host_error(self, key: Key) -> SatError | None:
        """Why nobody could do anything for the device now; None when its host may be asked."""
        host = self.fleet.hosts[key.host]
        if host.presence is Presence.GONE:
            return HostLost(f"host {key.host} of {key.device} is lost: {host.reason}")
        if not host.boot:
            return HostLost(f"host {key.host} of {key.device} was not heard yet")
        return None

    def _save(self, record: Record, done: Callable[[str], None]) -> None:
        key = record.key
        self._saving.add(key)

        def saved(failure: str) -> None:
            self._saving.discard(key)
            if not failure and key in self.fleet.rows:
                self._saved[key] = _kept_for_sure(record)
            done(failure)

        self.store.save(record, lambda failure: self._loop.post(lambda: saved(failure)))

    def _save_all_desired(self) -> None:
        """Save what differs from the database: what clients' acts say that they desire, and what
        failed before."""
        now = self.clock()
        if now < self._save_again_at:
            return

        def saved(failure: str) -> None:
            if failure:
                self._save_again_at = self.clock() + STORE_RETRY_S

        for key, row in self.fleet.rows.items():
            record = rows.record(row)
            if (
                row.clients
                or key in self._saving
                or self._saved.get(key, Record(key)) == _kept_for_sure(record)
            ):
                continue
            self._save(record, saved)


def _kept_for_sure(record: Record) -> Record:
    """The part of a record that must not be lost."""
    return Record(record.key, record.hardware_id, record.explicit, record.streams_seen)


def _action_args(key: Key, action: Action) -> dict[str, Any]:
    named: dict[str, Any] = {"driver": key.driver, "device": key.device}
    return (
        {**named, "stream": action.stream, "args": action.args}
        if action.operation == "start"
        else named
    )


def _found(host: str, reply: Reply) -> list[Key]:
    """The devices that a scan says are there."""
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
