"""The keeper of what is desired: what clients want is stored before anything is done for it, and
stored again until the database holds what the fleet holds. What was observed is noted beside it.
"""

from __future__ import annotations

from sat_bus.contract.device_key import Key
from sat_bus.contract.messages import Desired
from sat_bus.service.loop import WorkLoop
from sat_bus.service.tasks import Task, start
from sat_orchestrator.fleet import rows
from sat_orchestrator.fleet.fleet import Fleet
from sat_orchestrator.fleet.table import Record
from sat_orchestrator.store.database import Kept
from sat_orchestrator.store.store import Store
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.errors import Internal

STORE_RETRY_S = 5.0


class Keeper:
    """Keeps the rows of a fleet in a store."""

    def __init__(self, loop: WorkLoop, fleet: Fleet, store: Store) -> None:
        self._loop = loop
        self._fleet = fleet
        self._store = store
        self._saved: dict[Key, Record] = {}
        self._saving: set[Key] = set()
        self._again_at = 0.0
        self._noted: dict[Key, tuple[DeviceState, int]] = {}

    def load(self, kept: Kept) -> None:
        """Start from what the database has kept."""
        self._fleet.load(kept.records, self._loop.now())
        self._saved = {record.key: _kept_for_sure(record) for record in kept.records}

    async def save(self, key: Key, desired: Desired | None, *, accept: bool) -> None:
        """Store what a client desires. It holds when `Fleet.set_desired` is told of it; what is
        stored and then withdrawn is overwritten again.

        Raises:
            Internal: it could not be stored.
        """
        record = self._fleet.proposal(key, desired, accept=accept)
        failure = await start(self._loop, self._write(record))
        if failure:
            raise Internal(f"what is desired could not be stored: {failure}")

    def save_again(self) -> None:
        """Save what differs from the database: what clients' acts say that they desire, and what
        failed before."""
        if self._loop.now() < self._again_at:
            return
        for key, row in self._fleet.rows.items():
            record = rows.record(row)
            known = self._saved.get(key, Record(key)) == _kept_for_sure(record)
            if not known and not row.clients and key not in self._saving:
                Task(self._loop, self._write_again(record))

    def note_observed(self) -> None:
        """Have written what was observed since the last time."""
        for key, row in self._fleet.rows.items():
            if row.quality != "good" or row.status is None:
                continue
            seen = (row.observed, row.status.rev)
            if self._noted.get(key) != seen:
                self._noted[key] = seen
                self._store.observed(key, *seen)

    def forget(self, key: Key) -> None:
        """Drop what is kept of a device."""
        self._noted.pop(key, None)
        self._saved.pop(key, None)
        self._store.delete(key)

    async def _write_again(self, record: Record) -> None:
        if await self._write(record):
            self._again_at = self._loop.now() + STORE_RETRY_S

    async def _write(self, record: Record) -> str:
        """Write a record; the reason of a failure, else nothing. It goes on where nobody waits for
        it any more, so that we know what the database holds."""
        key = record.key
        self._saving.add(key)
        failure = await self._store.save(record)
        self._saving.discard(key)
        if not failure and key in self._fleet.rows:
            self._saved[key] = _kept_for_sure(record)
        return failure


def _kept_for_sure(record: Record) -> Record:
    """The part of a record that must not be lost."""
    return Record(record.key, record.hardware_id, record.explicit, record.streams_seen)
