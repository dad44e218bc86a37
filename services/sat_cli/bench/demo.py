"""What a family adds to ``sat up`` for a bench without hardware: the ``demo.toml`` beside its
drivers.

So a new family brings its own demo, and nothing here knows any family. ``{runtime}`` in any text of
the file stands for the bench's temporary folder.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from sat_bus.contract.messages import explain
from sat_toolkit.errors import ConfigError

FILE = "demo.toml"


class Simulator(BaseModel):
    """A program in the place of hardware: a module that is run with args; its device's id is
    `device`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str
    module: str
    args: list[str] = []


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    simulators: list[Simulator] = []
    drivers: dict[str, dict[str, Any]] = {}
    policy: list[dict[str, Any]] = []


@dataclass(frozen=True)
class FamilyDemo:
    """The demos of all families together.

    Attributes:
        drivers: driver -> what is added to its configuration.
        policy: rules for the orchestrator.
    """

    simulators: tuple[Simulator, ...] = ()
    drivers: dict[str, dict[str, Any]] = field(default_factory=dict)
    policy: tuple[dict[str, Any], ...] = ()


def load_demo(folders: Iterable[Path], runtime: Path) -> FamilyDemo:
    """The demos of the families whose drivers lie in `folders`; one without a demo.toml has none.

    Raises:
        ConfigError: a file is no TOML or says what it cannot; the message names it.
    """
    simulators: list[Simulator] = []
    drivers: dict[str, dict[str, Any]] = {}
    policy: list[dict[str, Any]] = []
    for path in sorted(folder / FILE for folder in folders):
        if path.is_file():
            one = _read(path, runtime)
            simulators += one.simulators
            policy += one.policy
            drivers |= one.drivers
    return FamilyDemo(tuple(simulators), drivers, tuple(policy))


def with_drivers(configured: str, demo: FamilyDemo) -> dict[str, Any]:
    """The user's SAT_DRIVERS with the demo's drivers added: lists are joined, the user's other
    values win.

    Raises:
        ConfigError: `configured` is not what SAT_DRIVERS takes.
    """
    try:
        mine = json.loads(configured or "{}")
    except ValueError as error:
        mine = error
    if not isinstance(mine, dict) or not all(isinstance(info, dict) for info in mine.values()):
        raise ConfigError(
            'SAT_DRIVERS takes a JSON object, driver -> its configuration: {"drv_socketcan": {...}}'
        )
    merged = dict(mine)
    for driver, added in demo.drivers.items():
        info = merged.get(driver, {})
        lists = {
            key: [*info[key], *value] for key, value in added.items() if isinstance(info.get(key), list)
        }  # fmt: skip
        merged[driver] = {**added, **info, **lists}
    return merged


def _read(path: Path, runtime: Path) -> _File:
    try:
        return _File.model_validate(_filled(tomllib.loads(path.read_text()), str(runtime)))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    except ValidationError as error:
        raise ConfigError(
            f"{path}: {explain(error)}; it takes simulators, drivers and policy"
        ) from None


def _filled(value: Any, runtime: str) -> Any:
    if isinstance(value, str):
        return value.replace("{runtime}", runtime)
    if isinstance(value, dict):
        return {key: _filled(item, runtime) for key, item in value.items()}
    return [_filled(item, runtime) for item in value] if isinstance(value, list) else value
