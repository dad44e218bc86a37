"""The settings file of the services: TOML tables that refuse what they do not know.

`[bus]` is everybody's, `[host]` and `[orchestrator]` are each service's own, `[drivers.<name>]` is
handed to a driver. One file may serve several services: each looks into its own tables, and at the
others' no further than that they are tables.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sat_toolkit.errors import ConfigError

BUS, SERVICES, DRIVERS = "bus", ("host", "orchestrator"), "drivers"
TABLES = (BUS, *SERVICES, DRIVERS)


def read_settings(path: Path | None, places: Mapping[str, str]) -> dict[str, Any]:
    """The settings in a file, by name; none without a `path`.

    Args:
        places: setting -> the table that it stands in; empty for one that is a table itself.

    Raises:
        ConfigError: it cannot be read, is no TOML, or has what it must not; a line for each.
    """
    if path is None:
        return {}
    content = _read(path)
    if wrong := list(_wrong(path, content, places)):
        raise ConfigError("\n".join(wrong))
    found = {name: content[name] for name, table in places.items() if not table and name in content}
    for name, table in places.items():
        if table and name in content.get(table, {}):
            found[name] = content[table][name]
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(
            f"config {path}: {error.strerror}; a readable TOML file is accepted"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"config {path} is no TOML: {error}") from None


def _wrong(path: Path, content: Mapping[str, Any], places: Mapping[str, str]) -> Iterator[str]:
    ours = set(places.values()) - {""}
    for name, value in content.items():
        if name not in TABLES:
            yield _not_a_table(path, name, value, places)
        elif not isinstance(value, dict):
            yield f"{name} in {path} is {value!r}; it is a table: [{name}]"
        elif name in ours:
            yield from (
                _not_in_it(path, name, key, places) for key in value if places.get(key) != name
            )


def _not_a_table(path: Path, name: str, value: Any, places: Mapping[str, str]) -> str:
    """What stands at the top of a file where only tables do: often a setting, as all once did."""
    if table := places.get(name):
        new = f"[[{table}.{name}]]" if _is_array_of_tables(value) else f"{name} under [{table}]"
        return f"{name} in {path} stands in no table; write {new}"
    hint = _nearest(name, TABLES, "[{}]")
    takes = "it takes [bus], [host], [orchestrator] and [drivers.<name>]"
    return f"{name} in {path} is no table of a settings file{hint}; {takes}"


def _not_in_it(path: Path, table: str, key: str, places: Mapping[str, str]) -> str:
    if (right := places.get(key)) is not None:
        return f"{key} in [{table}] of {path} belongs in [{right or key}]"
    known = sorted(name for name, place in places.items() if place == table)
    hint = _nearest(key, known, "{}")
    return f"{key} in [{table}] of {path} is no setting{hint}; it takes {', '.join(known)}"


def _nearest(name: str, known: tuple[str, ...] | list[str], form: str) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f", did you mean {form.format(near[0])}?" if near else ""


def _is_array_of_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)
