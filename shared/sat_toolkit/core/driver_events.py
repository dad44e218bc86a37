"""What a driver may tell beside its streams: named events, few and small.

`checked` says what an event is, `Ration` how many of them are passed on. No I/O; the time is an
argument.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from sat_toolkit.core.jsonable import jsonable

MAX_BYTES: Final = 4096
BURST: Final = 20
PER_SECOND: Final = 10.0
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")


def checked(event: object, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an event as plain JSON.

    Raises:
        ValueError: a name or fields that no event has; the message says what is accepted.
    """
    if not isinstance(event, str) or not _NAME.fullmatch(event):
        raise ValueError(
            f"event {str(event)[:80]!r}: up to 40 lower-case letters, digits and _ are accepted"
        )
    data: dict[str, Any] = jsonable(dict(fields))
    if (size := len(json.dumps(data))) > MAX_BYTES:
        raise ValueError(
            f"event {event}: its fields take {size} bytes, at most {MAX_BYTES} are accepted"
        )
    return data


class Ration:
    """Lets a burst of `BURST` events through and `PER_SECOND` in the long run; counts the others.

    Of one thread, or under a lock. `now` never goes back.
    """

    def __init__(self) -> None:
        self._left = float(BURST)
        self._at: float | None = None
        self._dropped = 0

    def take(self, now: float) -> bool:
        """Whether one more may pass; if not it counts as dropped."""
        if self._refill(now) < 1.0:
            self._dropped += 1
            return False
        self._left -= 1.0
        return True

    def dropped(self, now: float) -> int:
        """How many were dropped since the last answer, once there is room to tell; 0 until then."""
        if not self._dropped or self._refill(now) < 1.0:
            return 0
        self._left -= 1.0
        count, self._dropped = self._dropped, 0
        return count

    def _refill(self, now: float) -> float:
        if self._at is not None:
            self._left = min(float(BURST), self._left + (now - self._at) * PER_SECOND)
        self._at = now
        return self._left
