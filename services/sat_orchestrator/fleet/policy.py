"""Policy: which devices go to which level by themselves, as rules of the configuration. PURE.

The first rule that matches a device decides; without one a device is discovered and left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints

from sat_bus.contract.device_key import Key
from sat_bus.contract.messages import Desired, Level


class PolicyRule(BaseModel):
    """One rule.

    Attributes:
        match: shell patterns (``* ? [a-z]``) for ``<host>/<driver>/<device>``; two parts stand for
            ``<driver>/<device>`` and one for ``<device>``. A pattern that begins with ``/`` is a
            device's.
        level: where the device goes.
        streams: the streams that run there, each with the args of its start.
        name: how the table calls the rule; default its pattern.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    match: Annotated[str, StringConstraints(min_length=1, max_length=400)] = "*"
    level: Level
    streams: dict[str, dict[str, Any]] = {}
    name: str = ""


@dataclass(frozen=True)
class Decision:
    """What policy wants of a device, and which rule says so."""

    desired: Desired
    rule: str


def decide(rules: Sequence[PolicyRule], key: Key) -> Decision | None:
    """What the first matching rule says of `key`; None when no rule speaks of it."""
    for rule in rules:
        if matches(rule.match, key):
            return Decision(
                Desired(level=rule.level, streams=rule.streams), rule.name or rule.match
            )
    return None


def matches(pattern: str, key: Key) -> bool:
    """Whether `pattern` catches the device `key`; a device id may itself hold slashes."""
    parts = [pattern] if pattern.startswith("/") else pattern.split("/", 2)
    names = key[3 - len(parts) :]
    return all(fnmatchcase(name, part) for name, part in zip(names, parts, strict=True))
