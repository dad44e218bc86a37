"""What the orchestrator writes to the bus beside replies: rows, events, and the truth about lost
hosts."""

from __future__ import annotations

import time

from sat_bus.contract import topics
from sat_bus.contract.device_key import Key
from sat_bus.contract.messages import Event, HostState, TableRow
from sat_bus.contract.topics import Topic, Traffic
from sat_bus.service.loop import WorkLoop
from sat_bus.transport.bus import Bus
from sat_orchestrator.fleet import rows
from sat_orchestrator.fleet.fleet import Fleet

ROW_PERIOD_S = 0.2


class TablePublisher:
    """Writes to the bus. A row that changes often is published 5 times a second, the newest each
    time.

    Args:
        fleet: whose rows are published.
        loop: its clock says when a row has its turn.
    """

    def __init__(self, site: str, bus: Bus, fleet: Fleet, loop: WorkLoop) -> None:
        self._site = site
        self._bus = bus
        self._fleet = fleet
        self._loop = loop
        self._shown: dict[Key, TableRow] = {}
        self._shown_at: dict[Key, float] = {}
        self._waiting: dict[Key, None] = {}

    def row(self, key: Key) -> None:
        """Show a row if it has changed, now or when its turn comes."""
        self._waiting[key] = None
        self._show(key, self._loop.now())

    def flush(self) -> None:
        """Show the rows whose turn has come."""
        now = self._loop.now()
        for key in list(self._waiting):
            self._show(key, now)

    def republish(self) -> None:
        """Show every row again: the broker may have forgotten them."""
        for key, row in self._shown.items():
            self._retain(topics.TABLE_ROW, key, row.encode())

    def lost(self, key: Key) -> None:
        """Write in the stead of a device's host that it is lost."""
        row, host = self._fleet.rows[key], self._fleet.hosts[key.host]
        status = rows.lost_status(row, host, round(time.time(), 3))
        self._retain(topics.DEVICE_STATUS, key, status.encode())
        self._retain(topics.DEVICE_STATE, key, status.state.value.encode())

    def host_lost(self, host: str, boot: str) -> None:
        """Say that a host is lost."""
        topic = topics.HOST_STATE.build(self._site, host=host)
        message = HostState(state="lost", boot=boot)
        self._bus.publish(topic, message.encode(), retain=True, traffic=Traffic.STATE)

    def event(self, key: Key, event: str, reason: str) -> None:
        """Tell of something that happened to a device."""
        row, host = self._fleet.rows[key], self._fleet.hosts[key.host]
        message = Event.model_validate(
            {
                "event": event,
                "at": time.time(),
                "boot": host.boot,
                "rev": row.status.rev if row.status is not None else 0,
                "by": "orchestrator",
                "reason": reason,
            }
        )
        self._bus.publish(topics.DEVICE_EVENT.build(self._site, **key._asdict()), message.encode())

    def clear(self, key: Key, *, device: bool) -> None:
        """Clear a row, and with `device` also what a host that is gone has retained of it."""
        self._shown.pop(key, None)
        self._shown_at.pop(key, None)
        self._waiting.pop(key, None)
        self._retain(topics.TABLE_ROW, key, b"")
        if device:
            for topic in (topics.DEVICE_STATE, topics.DEVICE_STATUS, topics.DEVICE_META):
                self._retain(topic, key, b"")

    def _show(self, key: Key, now: float) -> None:
        if now - self._shown_at.get(key, -ROW_PERIOD_S) < ROW_PERIOD_S:
            return
        del self._waiting[key]
        known = self._fleet.rows[key]
        row = rows.table_row(known, self._fleet.hosts[key.host])
        if self._shown.get(key) != row:
            self._shown[key], self._shown_at[key] = row, now
            self._retain(topics.TABLE_ROW, key, row.encode())

    def _retain(self, topic: Topic, key: Key, payload: bytes) -> None:
        self._bus.publish(
            topic.build(self._site, **key._asdict()), payload, retain=True, traffic=Traffic.STATE
        )
