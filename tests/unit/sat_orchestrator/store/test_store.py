"""The store: what survives, what is written when, and that a failing database fails writes and
nothing else."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sat_bus.contract.device_key import Key
from sat_bus.contract.messages import Desired
from sat_bus.service.loop import WorkLoop
from sat_bus.service.tasks import Promise
from sat_orchestrator.fleet.table import Record
from sat_orchestrator.store.database import AuditEntry, Database, Kept
from sat_orchestrator.store.schema import audit
from sat_orchestrator.store.store import AUDIT_CAPACITY, Store
from sat_toolkit.core.device_spec import DeviceState

LOOP = WorkLoop("test")
KEY = Key("bench", "drv_x", "dev/ü 1")
DESIRED = Record(
    KEY,
    "serial-1",
    Desired(level="connected", streams={"can": {"fd": True}}),
    {"can": "s1/running/ann"},
)


@pytest.fixture
def open_store(path: Path) -> Iterator[Callable[[], Store]]:
    stores: list[Store] = []

    def make() -> Store:
        database = Database(f"sqlite:///{path}", busy_timeout=0.1)
        stores.append(Store(database, LOOP, period=0.05))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


def outcome(promise: Promise[str]) -> str:
    assert LOOP.run_until(lambda: promise.settled, 10.0), "the store did not answer"
    return promise.result()


def saved(store: Store, record: Record) -> str:
    return outcome(store.save(record))


def query(path: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


def test_what_is_desired_is_on_disk_when_its_caller_is_told(
    open_store: Callable[[], Store], path: Path
) -> None:
    store = open_store()
    assert store.open() == Kept([], 0)
    assert saved(store, DESIRED) == ""
    assert query(path, "SELECT device, hardware_id FROM device") == [("dev/ü 1", "serial-1")]
    assert query(path, "PRAGMA journal_mode") == [("wal",)]


def test_everything_is_found_again(open_store: Callable[[], Store]) -> None:
    store = open_store()
    store.open()
    assert saved(store, DESIRED) == ""
    store.observed(KEY, DeviceState.CONNECTED, 7)
    store.save_epoch(3)
    store.save_epoch(4)
    store.close()
    kept = open_store().open()
    assert kept.epoch == 4
    assert kept.records == [
        Record(KEY, "serial-1", DESIRED.explicit, DESIRED.streams_seen, DeviceState.CONNECTED, 7)
    ]  # fmt: skip


def test_what_was_observed_leaves_what_is_desired_alone_and_may_come_first(
    open_store: Callable[[], Store],
) -> None:
    store = open_store()
    store.open()
    store.observed(KEY, DeviceState.DISCOVERED, 1)
    store.close()
    store = open_store()
    assert store.open().records == [Record(KEY, observed=DeviceState.DISCOVERED, rev=1)]
    assert saved(store, DESIRED) == ""
    store.observed(KEY, DeviceState.INITIALIZED, 2)
    store.observed(KEY, DeviceState.CONNECTED, 3)
    store.close()
    (record,) = open_store().open().records
    assert (record.explicit, record.observed, record.rev) == (
        DESIRED.explicit,
        DeviceState.CONNECTED,
        3,
    )


def test_auto_and_forget(open_store: Callable[[], Store]) -> None:
    store = open_store()
    store.open()
    assert saved(store, DESIRED) == ""
    assert saved(store, Record(KEY)) == ""
    store.close()
    store = open_store()
    assert store.open().records == [Record(KEY)]
    store.observed(KEY, DeviceState.CONNECTED, 9)
    assert outcome(store.delete(KEY)) == ""
    store.close()
    assert open_store().open().records == []


def test_a_broken_database_fails_single_writes_with_a_reason(
    open_store: Callable[[], Store], path: Path
) -> None:
    store = open_store()
    store.open()
    query(path, "ALTER TABLE device RENAME TO elsewhere")
    assert "no such table: device" in saved(store, DESIRED)
    assert store.counts()["desired_failed"] == 1
    query(path, "ALTER TABLE elsewhere RENAME TO device")
    assert saved(store, DESIRED) == ""


def test_a_locked_database_refuses_after_a_while_and_goes_on(
    open_store: Callable[[], Store], path: Path
) -> None:
    store = open_store()
    store.open()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("BEGIN EXCLUSIVE")  # somebody holds it longer than we wait
        assert "locked" in saved(store, DESIRED)
        connection.rollback()
    assert saved(store, DESIRED) == ""


def test_what_is_written_behind_is_tried_again(open_store: Callable[[], Store], path: Path) -> None:
    store = open_store()
    store.open()
    query(path, "ALTER TABLE device RENAME TO elsewhere")
    store.observed(KEY, DeviceState.CONNECTED, 5)
    deadline = threading.Event()
    for _ in range(500):
        if store.counts().get("observed_failed"):
            break
        deadline.wait(0.01)
    assert store.counts()["observed_failed"] >= 1
    assert store.waiting == 1
    query(path, "ALTER TABLE elsewhere RENAME TO device")
    store.close()
    assert [record.rev for record in open_store().open().records] == [5]


def test_the_audit_is_bounded_in_memory_and_on_disk(path: Path) -> None:
    store = Store(Database(f"sqlite:///{path}", audit_rows=20), LOOP)
    for n in range(AUDIT_CAPACITY + 5):
        store.audit(AuditEntry(float(n), "ann", "connect", str(KEY), "ok"))
    assert store.counts()["audit_dropped"] == 5
    store.open()
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        (count, newest) = connection.execute(
            f"SELECT count(*), max(at) FROM {audit.name}"
        ).fetchone()
    assert (count, newest) == (20, AUDIT_CAPACITY + 4)


def test_after_close_a_write_is_refused(open_store: Callable[[], Store]) -> None:
    store = open_store()
    store.open()
    store.close()
    assert saved(store, DESIRED) == "the database is stopped"


def test_a_row_that_a_hand_has_spoilt_is_passed_over(
    open_store: Callable[[], Store], path: Path
) -> None:
    store = open_store()
    store.open()
    assert saved(store, DESIRED) == ""
    assert saved(store, Record(Key("bench", "drv_x", "good"))) == ""
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            """UPDATE device SET desired = '{"level": "flying"}' WHERE hardware_id = 'serial-1'"""
        )
        connection.commit()
    assert [record.key.device for record in open_store().open().records] == ["good"]
