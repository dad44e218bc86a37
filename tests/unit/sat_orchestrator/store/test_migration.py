"""The way from an older database to the present one: taken where it is behind, and there alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from sat_orchestrator.store.database import Database
from sat_orchestrator.store.migration import NEWEST
from sat_toolkit.errors import ConfigError


def test_a_new_database_is_of_the_newest_version(path: Path) -> None:
    db = Database(f"sqlite:///{path}")
    db.open()
    with db.engine.connect() as connection:
        found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    assert found == NEWEST
    db.close()


def test_a_database_of_a_newer_program_is_not_taken(path: Path) -> None:
    db = Database(f"sqlite:///{path}")
    db.open()
    with db.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigError, match=r"cannot be used: .*9999"):
        db.open()
    db.close()


def test_migrations_are_loaded_for_a_database_that_is_behind_and_no_other(path: Path) -> None:
    code = (
        "import sys\nfrom sat_orchestrator.store.database import Database\n"
        f"Database('sqlite:///{path}').open()\nprint('alembic' in sys.modules)"
    )
    said = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        for _ in range(2)
    ]
    assert [result.stdout for result in said] == ["True\n", "False\n"]
