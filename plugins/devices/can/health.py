"""What a bus is in, by what its link and its error frames say, and when a bus-off controller is
restarted. PURE.

Time is an argument, in seconds of a clock that never goes back. `BusHealth` decides; asking the
kernel, restarting and telling are `monitor`'s.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from plugins.devices.can.links import CanLink
from sat_toolkit.errors import ConfigError

ACTIVE: Final = "error-active"
WARNING: Final = "error-warning"
PASSIVE: Final = "error-passive"
BUS_OFF: Final = "bus-off"
DOWN: Final = "down"
REMOVED: Final = "removed"
_RUNNING: Final = frozenset({ACTIVE, WARNING, PASSIVE})

# <linux/can/error.h>
_CONTROLLER, _BUS_OFF, _RESTARTED, _COUNTED = 0x004, 0x040, 0x100, 0x200
_WARNINGS, _PASSIVES, _ACTIVE = 0x0C, 0x30, 0x40
_FRAME: Final = struct.Struct("=IB3x8s")

# So that the controllers of one bus do not start again all at once, up to this part of a delay is
# left out.
_JITTER: Final = 0.25
_LEVELS: Final = 30


@dataclass(frozen=True)
class Policy:
    """When a controller that is bus-off is restarted: after `first_s`, then each time after twice
    as long, at most `max_s`; from the beginning again once it stayed on the bus for `max_s`."""

    auto: bool = True
    first_s: float = 1.0
    max_s: float = 60.0


@dataclass(frozen=True)
class Signs:
    """What an error frame says; None where it says nothing."""

    state: str | None = None
    tx_errors: int | None = None
    rx_errors: int | None = None


def parse_policy(info: Mapping[str, Any]) -> Policy:
    """The policy of ``info["recovery"]``. Raises ConfigError with what is accepted."""
    given = info.get("recovery", {})
    accepted = 'recovery takes {"mode": "auto" or "off", "first_s": seconds, "max_s": seconds}'
    if not isinstance(given, Mapping) or given.keys() - {"mode", "first_s", "max_s"}:
        raise ConfigError(f"{accepted}, not {given!r}")
    mode, first, longest = (
        given.get("mode", "auto"),
        given.get("first_s", 1.0),
        given.get("max_s", 60.0),
    )
    if mode not in ("auto", "off"):
        raise ConfigError(f"{accepted}; the mode is {mode!r}")
    for name, value in (("first_s", first), ("max_s", longest)):
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not 0.01 <= value <= 86_400
        ):
            raise ConfigError(f"recovery.{name} must be seconds from 0.01 to 86400, not {value!r}")
    if longest < first:
        raise ConfigError(f"recovery.max_s ({longest:g}) must not be less than first_s ({first:g})")
    return Policy(mode == "auto", float(first), float(longest))


def read_error_frame(frame: bytes) -> Signs:
    """The signs in an error frame as the kernel lays it out (``struct can_frame``)."""
    if len(frame) < _FRAME.size:
        return Signs()
    can_id, _, data = _FRAME.unpack_from(frame)
    counted = can_id & _COUNTED or (can_id & _CONTROLLER and (data[6] or data[7]))
    counters = (data[6], data[7]) if counted else (None, None)
    state = None
    if can_id & _BUS_OFF:
        state = BUS_OFF
    elif can_id & _RESTARTED:
        state = ACTIVE
    elif can_id & _CONTROLLER:
        passive, warning = data[1] & _PASSIVES, data[1] & _WARNINGS
        state = (
            PASSIVE if passive else WARNING if warning else ACTIVE if data[1] & _ACTIVE else None
        )
    return Signs(state, *counters)


def state_of(link: CanLink | None, otherwise: str) -> str:
    """The state of a link; `otherwise` where it has no controller that knows."""
    if link is None:
        return REMOVED
    if not link.up:
        return DOWN
    return link.controller or otherwise


class BusHealth:
    """The health of one bus. `spread` gives random numbers from 0 to 1.

    It begins as error-active, so that anything else is news.
    """

    def __init__(self, policy: Policy, spread: Callable[[], float]) -> None:
        self.state = ACTIVE
        self.tx_errors: int | None = None
        self.rx_errors: int | None = None
        self.bus_offs = 0
        self.recoveries = 0
        self.attempts = 0  # restarts tried since it went bus-off
        self.bus_off_at: float | None = None
        self.due: float | None = None  # when the next restart is to be tried
        self.problem = ""  # why no more restarts are tried
        self._policy = policy
        self._spread = spread
        self._link: CanLink | None = None
        self._level = 0
        self._recovered_at: float | None = None
        self._told: tuple[str, int] = (ACTIVE, 0)

    @property
    def recovery(self) -> str:
        """Who restarts the controller after a bus-off: ``kernel``, ``driver`` or ``nobody``."""
        link = self._link
        if link is not None and link.restart_ms:
            return "kernel"
        return (
            "driver"
            if self._policy.auto and link is not None and link.controller is not None
            else "nobody"
        )

    def saw_link(self, link: CanLink | None, now: float) -> None:
        """The kernel was asked; None: there is no such link any more."""
        was_up = self._link is None or self._link.up
        self._link = link
        # Links without a controller of the kernel's own are known by their error frames, from up to
        # down.
        known = self.state if was_up and self.state not in (DOWN, REMOVED) else ACTIVE
        if link is not None and link.tx_errors is not None:
            self.tx_errors, self.rx_errors = link.tx_errors, link.rx_errors
        self._enter(state_of(link, known), now)

    def saw_error_frame(self, signs: Signs, now: float) -> None:
        """An error frame came in."""
        if signs.tx_errors is not None:
            self.tx_errors, self.rx_errors = signs.tx_errors, signs.rx_errors
        if signs.state is not None and self.state not in (DOWN, REMOVED):
            self._enter(signs.state, now)

    def restart_tried(self, now: float, problem: str = "") -> None:
        """A restart was asked of the kernel; `problem`: it said no, and will again."""
        self.attempts += 1
        self._level = min(self._level + 1, _LEVELS)
        self.problem = problem
        self.due = None if problem else self._next(now)

    def news(self) -> dict[str, Any] | None:
        """What to tell of the state, if it is another than was told, or it was bus-off in
        between."""
        was, bus_offs = self._told
        if (self.state, self.bus_offs) == self._told:
            return None
        self._told = (self.state, self.bus_offs)
        fields: dict[str, Any] = {"state": self.state, "was": was}
        if self.tx_errors is not None:
            fields |= {"tx_errors": self.tx_errors, "rx_errors": self.rx_errors}
        if BUS_OFF in (self.state, was) or self.bus_offs != bus_offs:
            fields |= {
                "bus_offs": self.bus_offs,
                "recoveries": self.recoveries,
                "recovery": self.recovery,
            }
        return fields

    def _enter(self, state: str, now: float) -> None:
        was, self.state = self.state, state
        if state == was:
            return
        if state == BUS_OFF:
            self._went_off(now)
            return
        self.due, self.problem, self.attempts = None, "", 0
        if state not in _RUNNING:
            self._level, self._recovered_at = 0, None
        elif was == BUS_OFF:
            self.recoveries += 1
            self._recovered_at = now

    def _went_off(self, now: float) -> None:
        self.bus_offs += 1
        self.bus_off_at = now
        recovered = self._recovered_at
        if recovered is None or now - recovered >= self._policy.max_s:
            self._level = 0
        if self.recovery == "driver":
            self.due = self._next(now)

    def _next(self, now: float) -> float:
        delay = min(self._policy.max_s, self._policy.first_s * 2.0**self._level)
        return now + delay * (1 - _JITTER * self._spread())
