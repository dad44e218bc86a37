"""When a device is taken out of use: after too many deaths of its workers in too short a time.
PURE."""

from __future__ import annotations

from collections import deque

DEATHS = 5
WITHIN = 60.0


class Deaths:
    """The latest deaths of a device's workers."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=DEATHS)

    def count(self, now: float) -> bool:
        """One more. Whether that makes too many."""
        self._times.append(now)
        return len(self._times) == DEATHS and now - self._times[0] <= WITHIN

    def forgive(self) -> None:
        """Start with a clean record."""
        self._times.clear()


def reason(last: str) -> str:
    """Why the device is in quarantine, `last` being why the last worker died."""
    return f"quarantined after {DEATHS} deaths within {WITHIN:g} s, the last: {last}"
