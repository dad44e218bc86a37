"""The hosts and the rows of the lifecycle table, as data. PURE.

`KnownHost` and `Row` are changed by `fleet.Fleet` alone, with the help of `presence`, `recovery` and
`rows`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sat_bus.contract.device_key import Key
from sat_bus.contract.messages import EXPLICIT, Birth, Desired, Meta, Quality, Status
from sat_toolkit.core.device_spec import DeviceState

NOT_CLIENTS = frozenset({"host", "orchestrator", "policy"})


@dataclass(frozen=True)
class Action:
    """What to ask of a host for a device: scan, initialize, connect, start, reset or close. A
    connect initialises first where that is needed."""

    operation: str
    stream: str = ""
    args: dict[str, Any] = field(default_factory=dict)


class Presence(StrEnum):
    """Whether a host is there: not known yet, heard, or gone."""

    AWAITED = "awaited"
    ALIVE = "alive"
    GONE = "gone"


@dataclass
class KnownHost:
    """A driver host as the bus shows it. Times are the orchestrator's monotonic clock.

    Attributes:
        boot: the present boot; what carries an older one is stale.
        word: the last state that the host (or its will) published for this boot.
        timer: the last heartbeat, or when waiting for one began.
        reason: why it is gone.
        resyncs, resync_at: how often its truth was asked for again without success, and when next.
    """

    name: str
    timer: float
    boot: str = ""
    birth: Birth | None = None
    word: str = ""
    presence: Presence = Presence.AWAITED
    reason: str = ""
    scan_at: float = 0.0
    resyncs: int = 0
    resync_at: float = 0.0

    @property
    def ready(self) -> bool:
        """It is heard, has said who it is, and is neither starting nor leaving."""
        return self.presence is Presence.ALIVE and self.askable

    @property
    def askable(self) -> bool:
        """A client's request may go to it: nothing says that it is away, though its heartbeat may
        be yet to come."""
        away = self.presence is Presence.GONE or self.word in ("init", "draining")
        return self.birth is not None and not away

    @property
    def drivers(self) -> frozenset[str]:
        """The drivers that its birth names."""
        return (
            frozenset(driver.name for driver in self.birth.drivers)
            if self.birth is not None
            else frozenset()
        )


@dataclass
class Row:
    """A device in the table.

    Attributes:
        status, meta: the last of the host, or None; `status_at` is when the status came.
        observed, quality, last_known: follow from the status and the host's presence.
        explicit: what a client wants; None leaves it to policy.
        policy, rule: what policy wants, and which rule says so.
        hardware_id: the identity that belongs to the name; `held` says that another one answers to
            it.
        streams_seen: of each stream type the start or stop that `explicit` already takes into
            account.
        attempts, rounds: failures and recoveries since it was last healthy for a while.
        not_before, client_until, settle_until: the planner waits for its back-off, for the client
            whose turn it is, for the status that a reply has announced: the state or the stream
                `settle_for`.
        in_flight: what the planner has asked for; `clients` counts the clients' requests under way.
        stopped: why the planner has given up.
    """

    key: Key
    status: Status | None = None
    status_at: float = 0.0
    meta: Meta | None = None
    observed: DeviceState = DeviceState.UNKNOWN
    quality: Quality = "lost"
    last_known: DeviceState | None = None
    explicit: Desired | None = None
    policy: Desired | None = None
    rule: str = ""
    hardware_id: str | None = None
    held: str = ""
    streams_seen: dict[str, str] = field(default_factory=dict)
    attempts: int = 0
    rounds: int = 0
    not_before: float = 0.0
    client_until: float = 0.0
    settle_until: float = 0.0
    settle_for: DeviceState | str | None = None
    healthy_since: float | None = None
    in_flight: Action | None = None
    clients: int = 0
    stopped: str = ""
    lost_written_at: float | None = None

    @property
    def desired(self) -> Desired | None:
        """What is wanted: by the client, else by the rule."""
        return self.explicit or self.policy

    @property
    def source(self) -> str:
        """Where `desired` comes from: ``explicit``, a rule's name, or nothing."""
        return EXPLICIT if self.explicit is not None else self.rule


@dataclass(frozen=True)
class Record:
    """A row as the database keeps it."""

    key: Key
    hardware_id: str | None = None
    explicit: Desired | None = None
    streams_seen: dict[str, str] = field(default_factory=dict)
    observed: DeviceState = DeviceState.UNKNOWN
    rev: int = 0
