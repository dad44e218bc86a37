"""The table of commands: each is where it says, and its extra is one that there is."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path

import pytest

from sat_cli.command_table import COMMANDS

PROJECT = tomllib.loads((Path(__file__).resolve().parents[3] / "pyproject.toml").read_text())


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_where_the_table_says(name: str) -> None:
    module, _, function = COMMANDS[name].where.partition(":")
    assert callable(getattr(importlib.import_module(f"sat_cli.commands.{module}"), function))


def test_every_extra_is_one_of_the_distribution() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    assert {place.extra for place in COMMANDS.values()} <= set(extras)
