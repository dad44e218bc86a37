"""What the shell must do about a change in the fleet, as data. PURE.

Effects are level-triggered wherever that is possible, so that one which is lost comes again.
"""

from __future__ import annotations

from dataclasses import dataclass

from sat_bus.contract.device_key import Key


@dataclass(frozen=True)
class Effect:
    """Something that the shell must do."""


@dataclass(frozen=True)
class HostGone(Effect):
    """The host is gone: what waits for it fails, and `host/<host>/state` says so."""

    host: str
    reason: str


@dataclass(frozen=True)
class HostRestarted(Effect):
    """The host has a new boot: what waits for the old one will never come."""

    host: str


@dataclass(frozen=True)
class Resync(Effect):
    """The host is to publish everything again."""

    host: str
    reason: str


@dataclass(frozen=True)
class ScanWanted(Effect):
    """The host is to look for devices."""

    host: str


@dataclass(frozen=True)
class RowChanged(Effect):
    """The row looks different, or something that the planner weighs has changed."""

    key: Key


@dataclass(frozen=True)
class WriteLost(Effect):
    """The bus shows a device of a host that is gone as if it were there: write the truth in the
    host's stead."""

    key: Key


@dataclass(frozen=True)
class Noted(Effect):
    """Something to tell: an event of the device."""

    key: Key
    event: str
    reason: str


@dataclass(frozen=True)
class EpochSeen(Effect):
    """A host has seen this epoch of an orchestrator."""

    epoch: int
