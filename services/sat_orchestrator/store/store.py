"""What must survive a restart, written on a thread of its own (`orchestrator/store`).

Delivery and the epoch are written at once, and their caller is told; what was observed and the
audit are written behind, once a second, conflated and bounded. A database that is full, slow or
broken fails single writes, counted and with a reason; it never ends the service nor holds up its
work loop.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from sqlalchemy.engine import Connection

from sat_bus.contract.device_key import Key
from sat_bus.service.loop import WorkLoop
from sat_bus.service.tasks import Promise
from sat_orchestrator.fleet.table import Record
from sat_orchestrator.store import database
from sat_orchestrator.store.database import AuditEntry, Database, Kept
from sat_toolkit.core.device_spec import DeviceState

log = logging.getLogger(__name__)

URGENT_CAPACITY = 256
OBSERVED_CAPACITY = 10_000
AUDIT_CAPACITY = 1_000
PERIOD_S = 1.0
RETRY_MAX_S = 10.0


@dataclass(frozen=True)
class _Urgent:
    write: Callable[[Connection], None]
    done: Promise[str]


class Store:
    """A `Database` behind a thread. Writes that somebody waits for give a promise of the reason why
    they failed, empty for success, which is settled on `loop`.

    Args:
        period: seconds between writes of what nobody waits for.
    """

    def __init__(self, db: Database, loop: WorkLoop, *, period: float = PERIOD_S) -> None:
        self._db = db
        self._loop = loop
        self._period = period
        self._changed = threading.Condition()
        self._urgent: deque[_Urgent] = deque()
        self._observed: dict[Key, tuple[DeviceState, int]] = {}
        self._audit: deque[AuditEntry] = deque()
        self._counts: Counter[str] = Counter()
        self._failing = ""
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="orchestrator/store", daemon=True)

    def open(self) -> Kept:
        """Migrate, read what was kept, start the thread.

        Raises:
            ConfigError: the database cannot be used.
        """
        kept = self._db.open()
        self._thread.start()
        return kept

    def close(self, timeout: float = 2.0) -> None:
        """Write what waits, within `timeout` seconds, and end the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        if not self._thread.is_alive():
            self._db.close()

    def save(self, record: Record) -> Promise[str]:
        """Write a row now."""
        return self._put(partial(database.save_record, record=record))

    def save_epoch(self, epoch: int) -> Promise[str]:
        """Write the epoch now."""
        return self._put(partial(database.save_epoch, epoch=epoch))

    def delete(self, key: Key) -> Promise[str]:
        """Remove a row now."""
        with self._changed:
            self._observed.pop(key, None)
        return self._put(partial(database.delete_record, key=key))

    def observed(self, key: Key, state: DeviceState, rev: int) -> None:
        """Write soon what was observed; of several the newest."""
        with self._changed:
            if key not in self._observed and len(self._observed) >= OBSERVED_CAPACITY:
                self._counts["observed_dropped"] += 1
                return
            self._observed[key] = (state, rev)

    def audit(self, entry: AuditEntry) -> None:
        """Write soon who asked for what."""
        with self._changed:
            if len(self._audit) >= AUDIT_CAPACITY:
                self._audit.popleft()
                self._counts["audit_dropped"] += 1
            self._audit.append(entry)

    def counts(self) -> dict[str, int]:
        """Writes that failed or were dropped, by cause."""
        with self._changed:
            return dict(self._counts)

    @property
    def waiting(self) -> int:
        """Writes that wait."""
        with self._changed:
            return len(self._urgent) + len(self._observed) + len(self._audit)

    def _put(self, write: Callable[[Connection], None]) -> Promise[str]:
        done: Promise[str] = Promise()
        with self._changed:
            if not self._stopped and len(self._urgent) < URGENT_CAPACITY:
                self._urgent.append(_Urgent(write, done))
                self._changed.notify()
                return done
            self._counts["desired_failed"] += 1
        full = f"{URGENT_CAPACITY} writes wait for the database already"
        done.set_result("the database is stopped" if self._stopped else full)
        return done

    def _run(self) -> None:
        wait, due = self._period, time.monotonic() + self._period
        while True:
            with self._changed:
                while not self._urgent and not self._stopped and time.monotonic() < due:
                    self._changed.wait(due - time.monotonic())
                urgent = list(self._urgent)
                self._urgent.clear()
                stopped = self._stopped
            for job in urgent:
                self._write_urgent(job)
            if time.monotonic() >= due or stopped:
                wait = self._period if self._write_behind() else min(RETRY_MAX_S, wait * 2)
                due = time.monotonic() + wait
            if stopped:
                return

    def _write_urgent(self, job: _Urgent) -> None:
        failure = self._transact(job.write)
        if failure:
            with self._changed:
                self._counts["desired_failed"] += 1
        self._loop.post(partial(job.done.set_result, failure))

    def _write_behind(self) -> bool:
        with self._changed:
            observed, self._observed = self._observed, {}
            audit, self._audit = list(self._audit), deque()
        if not observed and not audit:
            return True

        if not self._transact(partial(self._save_behind, observed=observed, audit=audit)):
            return True
        with self._changed:
            self._counts["observed_failed"] += 1
            self._observed = {**observed, **self._observed}
            waiting = [*audit, *self._audit]
            self._counts["audit_dropped"] += max(0, len(waiting) - AUDIT_CAPACITY)
            self._audit = deque(waiting[-AUDIT_CAPACITY:])
        return False

    def _save_behind(
        self,
        connection: Connection,
        observed: dict[Key, tuple[DeviceState, int]],
        audit: list[AuditEntry],
    ) -> None:
        database.save_observed(connection, [(key, *seen) for key, seen in observed.items()])
        if audit:
            database.save_audit(connection, audit, self._db.audit_rows)

    def _transact(self, write: Callable[[Connection], None]) -> str:
        """Run `write` in a transaction of its own. The reason of a failure, else empty."""
        try:
            with self._db.engine.begin() as connection:
                write(connection)
        except database.ERRORS as error:
            failure = database.reason(error)
            if failure != self._failing:
                log.error("the database %s fails: %s", self._db.name, failure)
            self._failing = failure
            return failure
        if self._failing:
            log.warning("the database %s works again", self._db.name)
        self._failing = ""
        return ""
