"""When to try the broker again, and with which version of MQTT. PURE.

The delay grows from 0.1 s to 1 s and is scattered, so that a fleet does not return as one. A broker
that refuses MQTT 5 is tried with 3.1.1 at once, and what has worked is remembered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

Version = Literal["5", "3.1.1"]
SHORTEST_S = 0.1
LONGEST_S = 1.0
_STABLE_S = 5.0  # a connection that lasted less does not count as a recovery: two clients of one id would storm
_STRIKES = 3


class Reconnect:
    """Tell it how each attempt ended; it answers with the seconds to wait before the next.

    Args:
        versions: the versions that may be used, the preferred one first.
        random: a number in [0, 1).
    """

    def __init__(self, versions: tuple[Version, ...], random: Callable[[], float]) -> None:
        self._versions = list(versions)
        self._random = random
        self._delay = SHORTEST_S
        self._worked = False
        self._strikes = 0
        self._refusals = 0
        self._short = 0

    @property
    def flapping(self) -> bool:
        """Whether the last three connections or more ended within seconds of being accepted."""
        return self._short >= _STRIKES

    @property
    def version(self) -> Version:
        """The version to use in the next attempt."""
        return self._versions[0]

    def connected(self) -> None:
        """The broker has accepted us."""
        self._worked = True
        self._strikes = self._refusals = 0

    def version_refused(self) -> float:
        """The broker said that it does not speak this version."""
        self._refusals += 1
        self._switch()
        return 0.0 if self._refusals < len(self._versions) else self._wait()

    def unanswered(self) -> float:
        """The connection was closed, or stayed silent, before the broker answered: perhaps it does
        not know this version. One that has worked before is given up only after several such
        attempts, as a broker that starts may do the same."""
        self._strikes += 1
        if not self._worked or self._strikes >= _STRIKES:
            self._strikes = 0
            self._switch()
        return self._wait()

    def failed(self) -> float:
        """The broker could not be reached, or refused us for another reason."""
        return self._wait()

    def lost(self, lasted: float) -> float:
        """A connection that had been accepted is gone after `lasted` seconds."""
        self._short += 1
        if lasted >= _STABLE_S:
            self._delay = SHORTEST_S
            self._short = 0
        return self._wait()

    def _switch(self) -> None:
        self._versions.append(self._versions.pop(0))

    def _wait(self) -> float:
        delay = self._delay
        self._delay = min(LONGEST_S, 2 * delay)
        return delay * (0.5 + 0.5 * self._random())
