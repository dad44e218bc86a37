"""The database: its tables, what is found in them, and what is said when it cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from sat_bus.contract.device_key import Key
from sat_bus.contract.messages import Desired
from sat_orchestrator.fleet.table import Record
from sat_orchestrator.store.database import (
    AuditEntry,
    Database,
    delete_record,
    save_audit,
    save_epoch,
    save_observed,
    save_record,
)
from sat_orchestrator.store.schema import audit, metadata
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.errors import ConfigError

ONE, TWO = Key("bench", "drv_x", "one"), Key("bench", "drv_x", "two")


def test_migrations_lead_to_the_schema(path: Path) -> None:
    db = Database(f"sqlite:///{path}")
    db.open()
    with db.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    db.open()  # once more changes nothing
    db.close()


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("nonsense", "sqlite:///"),
        ("oracle+nothing://x/y", "sqlite:///"),
        ("sqlite:////proc/nowhere/x.db", "cannot be used"),
    ],
)
def test_a_wrong_url_says_what_is_accepted(url: str, hint: str) -> None:
    with pytest.raises(ConfigError, match="database_url") as caught:
        Database(url).open()
    assert hint in str(caught.value)


def test_a_file_that_is_no_database_is_named(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("this is not a database, by any means at all")
    with pytest.raises(ConfigError, match=r"lab\.db cannot be used: DatabaseError"):
        Database(f"sqlite:///{path}").open()


def test_a_password_is_never_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        Database("postgresql+nodriver://sat:secret@db/sat").open()
    assert "secret" not in str(caught.value)


@pytest.fixture
def database(path: Path):
    made = Database(f"sqlite:///{path}")
    made.open()
    yield made
    made.close()


def test_rows_are_written_as_a_whole_changed_and_deleted(database: Database) -> None:
    desired = Record(ONE, "serial-1", Desired(level="connected"), {"can": "s1/running/ann"})
    with database.engine.begin() as connection:
        save_record(connection, desired)
        save_record(connection, Record(TWO))
        delete_record(connection, TWO)
    assert database.open().records == [desired]
    with database.engine.begin() as connection:
        save_record(connection, Record(ONE))
    assert database.open().records == [Record(ONE)]


def test_observed_states_are_written_for_known_rows_and_for_new_ones(database: Database) -> None:
    desired = Record(ONE, "serial-1", Desired(level="connected"))
    with database.engine.begin() as connection:
        save_record(connection, desired)
        save_observed(connection, [(ONE, DeviceState.ERROR, 3), (TWO, DeviceState.CONNECTED, 4)])
    assert database.open().records == [
        Record(ONE, "serial-1", desired.explicit, observed=DeviceState.ERROR, rev=3),
        Record(TWO, observed=DeviceState.CONNECTED, rev=4),
    ]


def test_the_epoch_is_one_number(database: Database) -> None:
    for epoch in (1, 2, 5):
        with database.engine.begin() as connection:
            save_epoch(connection, epoch)
    assert database.open().epoch == 5


def test_of_the_audit_the_newest_are_kept(database: Database) -> None:
    with database.engine.begin() as connection:
        for number in range(10):
            save_audit(connection, [AuditEntry(number, "ann", "scan", "", "ok")], keep=3)
    with database.engine.connect() as connection:
        assert connection.execute(sa.select(audit.c.at)).scalars().all() == [7, 8, 9]
