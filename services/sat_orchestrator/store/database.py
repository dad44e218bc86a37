"""The orchestrator's database: its engine and its few statements. Blocking; `store` calls it."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import SQLAlchemyError

from sat_bus.contract.device_key import Key
from sat_bus.contract.messages import Desired
from sat_orchestrator.fleet.table import Record
from sat_orchestrator.store.migration import MigrationError, migrate
from sat_orchestrator.store.schema import audit, devices, leadership
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.errors import ConfigError

log = logging.getLogger(__name__)

AUDIT_ROWS = 10_000
BUSY_TIMEOUT_S = 2.0
ERRORS = (SQLAlchemyError, OSError)


@dataclass(frozen=True)
class AuditEntry:
    """Who asked for what, when (seconds since the epoch), and what came of it: ``ok`` or a code."""

    at: float
    client: str
    operation: str
    target: str
    outcome: str
    message: str = ""


@dataclass(frozen=True)
class Kept:
    """What a start finds."""

    records: list[Record]
    epoch: int


class Database:
    """A database by its URL: ``sqlite:///<file>``, or PostgreSQL's ``postgresql+psycopg://...``.

    Args:
        audit_rows: how many entries of the audit are kept, the newest.
        busy_timeout: seconds to wait for a SQLite file that somebody else has locked.

    Raises:
        ConfigError: no URL, or one whose driver is not installed.
    """

    def __init__(
        self, url: str, *, audit_rows: int = AUDIT_ROWS, busy_timeout: float = BUSY_TIMEOUT_S
    ) -> None:
        self.audit_rows = audit_rows
        try:
            parsed = make_url(url)
            arguments: dict[str, Any] = {"pool_pre_ping": True}
            if parsed.get_backend_name() == "sqlite":
                arguments = {"connect_args": {"timeout": busy_timeout}}
            self.engine: Engine = sa.create_engine(parsed, **arguments)
        except (SQLAlchemyError, ImportError, ValueError) as error:
            raise ConfigError(
                f"database_url: {reason(error)}; accepted: sqlite:///<file>, or postgresql+psycopg://user@host/name "
                "where the package psycopg is installed"
            ) from None
        self.name = parsed.render_as_string(hide_password=True)
        self._file = (
            Path(parsed.database) if arguments.get("connect_args") and parsed.database else None
        )
        if self._file is not None:
            sa.event.listen(self.engine, "connect", _prepare_sqlite)

    def open(self) -> Kept:
        """Bring the tables up to date and read what was kept.

        Raises:
            ConfigError: it cannot be used; the message names it and says why.
        """
        try:
            if self._file is not None and str(self._file) != ":memory:":
                self._file.parent.mkdir(parents=True, exist_ok=True)
            with self.engine.begin() as connection:
                migrate(connection)
            with self.engine.connect() as connection:
                epoch = connection.execute(sa.select(leadership.c.epoch)).scalar()
                rows = connection.execute(sa.select(devices)).mappings().all()
        except (*ERRORS, MigrationError) as error:
            self.engine.dispose()
            raise ConfigError(
                f"database_url: {self.name} cannot be used: {reason(error)}"
            ) from None
        return Kept(
            [record for row in rows if (record := _record(dict(row))) is not None], epoch or 0
        )

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def save_record(connection: Connection, record: Record) -> None:
    """Write a row as a whole."""
    _upsert(
        connection,
        record.key,
        hardware_id=record.hardware_id,
        desired=record.explicit.model_dump(mode="json") if record.explicit is not None else None,
        streams_seen=record.streams_seen,
        observed=record.observed.value,
        rev=record.rev,
    )


def save_observed(connection: Connection, observed: Sequence[tuple[Key, DeviceState, int]]) -> None:
    """Write what was observed, all in one statement where the rows are there, and leave the rest of
    each row alone."""
    values = [
        {"of_" + level: name for level, name in key._asdict().items()} for key, _, _ in observed
    ]
    for value, (_, state, rev) in zip(values, observed, strict=True):
        value |= {"observed": state.value, "rev": rev, "updated_at": time.time()}
    if not values or connection.execute(_UPDATE_OBSERVED, values).rowcount == len(values):
        return
    for key, state, rev in observed:
        _upsert(connection, key, observed=state.value, rev=rev)


def delete_record(connection: Connection, key: Key) -> None:
    """Remove a row."""
    connection.execute(sa.delete(devices).where(*_is(key)))


def save_epoch(connection: Connection, epoch: int) -> None:
    """Write the epoch of our leadership."""
    if not connection.execute(
        sa.update(leadership).where(leadership.c.id == 1).values(epoch=epoch)
    ).rowcount:
        connection.execute(sa.insert(leadership).values(id=1, epoch=epoch))


def save_audit(connection: Connection, entries: list[AuditEntry], keep: int) -> None:
    """Add to the audit and keep its newest entries."""
    connection.execute(sa.insert(audit), [vars(entry) for entry in entries])
    newest = connection.execute(sa.select(sa.func.max(audit.c.id))).scalar() or 0
    connection.execute(sa.delete(audit).where(audit.c.id <= newest - keep))


def reason(error: BaseException) -> str:
    """What the database said, in one line and without the statement."""
    original = getattr(error, "orig", None) or error
    return f"{type(original).__name__}: {str(original).splitlines()[0] if str(original) else 'no reason given'}"


_UPDATE_OBSERVED = sa.update(devices).where(
    *(devices.c[level] == sa.bindparam(f"of_{level}") for level in Key._fields)
)  # fmt: skip


def _upsert(connection: Connection, key: Key, **values: Any) -> None:
    values["updated_at"] = time.time()
    if connection.execute(sa.update(devices).where(*_is(key)).values(**values)).rowcount:
        return
    fresh = {
        "streams_seen": {},
        "observed": DeviceState.UNKNOWN.value,
        "rev": 0,
        **key._asdict(),
        **values,
    }
    connection.execute(sa.insert(devices).values(**fresh))


def _is(key: Key) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        devices.c.host == key.host,
        devices.c.driver == key.driver,
        devices.c.device == key.device,
    )


def _record(row: dict[str, Any]) -> Record | None:
    """A row of the table; one that makes no sense, after a hand has been at it, is passed over and
    said."""
    key = Key(row["host"], row["driver"], row["device"])
    try:
        desired = row["desired"]
        return Record(
            key=key,
            hardware_id=row["hardware_id"],
            explicit=None if desired is None else Desired.model_validate(desired),
            streams_seen={str(name): str(mark) for name, mark in dict(row["streams_seen"]).items()},
            observed=DeviceState(row["observed"]),
            rev=int(row["rev"]),
        )
    except (ValidationError, ValueError, TypeError) as error:
        log.error("the stored row of %s makes no sense and is passed over: %s", key, error)
        return None


def _prepare_sqlite(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()
