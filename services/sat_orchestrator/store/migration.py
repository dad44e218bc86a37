"""Brings a database up to the newest migration. Alembic is imported only for one that is behind: it
takes as long to load as the orchestrator itself."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

NEWEST = "0001"  # the last of migrations/versions
_MIGRATIONS = Path(__file__).parent / "migrations"


class MigrationError(Exception):
    """The database's version is not one of ours: a newer program has been here."""


def migrate(connection: Connection) -> None:
    """Run the migrations that `connection`'s database lacks.

    Raises:
        MigrationError: they cannot be.
    """
    if _version(connection) == NEWEST:
        return
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise MigrationError(str(error)) from None


def _version(connection: Connection) -> str | None:
    """The migration that the database is at; None where none was run."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.execute(
        sa.text("SELECT version_num FROM alembic_version")
    ).scalar()
    return version
