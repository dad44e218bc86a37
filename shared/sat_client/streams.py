"""Frames as they arrive, with an exact count of those that do not.

`Cursor` is pure arithmetic over the batches' sequence numbers. `Watch` counts at the reading end of a
feed, so what falls out of the feed's queue is missed like anything else that did not arrive.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from sat_bus import messages as m
from sat_client.feed import Feed, Heard
from sat_client.view import Key

_STREAMS = 64  # streams remembered per cursor


@dataclass(frozen=True)
class Received:
    """A batch of a device's stream, and what is missing before it.

    Attributes:
        type: the stream's type, ``can``.
        missed: frames of this stream that were sent to the bus and did not arrive here.
        dropped: frames that the host counted as lost before the bus since the last batch, by cause.
    """

    key: Key
    type: str
    batch: m.Batch
    missed: int
    dropped: dict[str, int]

    @property
    def frames(self) -> list[dict[str, Any]]:
        return self.batch.frames


class Cursor:
    """Where the streams of one topic have got to.

    The first stream it sees may have been running for a while, so it is joined where it is, unless
    `from_start`; every later one is followed from its first frame.
    """

    def __init__(self, *, from_start: bool = False) -> None:
        self._join = not from_start
        self._next: OrderedDict[tuple[str, str], tuple[int, dict[str, int]]] = OrderedDict()

    def advance(self, batch: m.Batch) -> tuple[int, dict[str, int]] | None:
        """How many frames are missing before `batch`, and the drops that are new in it; None for a repetition."""
        key = (batch.boot, batch.stream)
        known = self._next.get(key)
        if known is None:
            expected, before = (batch.seq, batch.dropped) if self._join else (0, {})
            self._join = False
        else:
            expected, before = known
            if batch.n and batch.seq + batch.n <= expected:
                return None
        self._next[key] = (max(expected, batch.seq + batch.n), batch.dropped)
        while len(self._next) > _STREAMS:
            self._next.popitem(last=False)
        new = {cause: count - before.get(cause, 0) for cause, count in batch.dropped.items()}
        return max(0, batch.seq - expected), {cause: count for cause, count in new.items() if count > 0}


class Watch:
    """Batches of one or many devices, oldest first; iterate over it, or ask with `get`.

    It listens from its construction until `close`; use it in a ``with`` statement.

    Args:
        from_start: the watch is older than every stream, so that what is missing at its beginning is counted too.

    Attributes:
        frames, missed, dropped: running totals of what `get` returned.
    """

    def __init__(self, feed: Feed, *, from_start: bool = False) -> None:
        self._from_start = from_start
        self.frames = self.missed = self.dropped = 0
        self._feed = feed
        self._cursors: dict[tuple[Key, str], Cursor] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Received]:
        while not self._feed.closed:
            received = self.get(timeout=1.0)
            if received is not None:
                yield received

    @property
    def overflow(self) -> int:
        """Batches that fell out of the queue because they were not read in time."""
        return self._feed.overflow

    @property
    def malformed(self) -> int:
        """Batches that could not be read."""
        return self._feed.malformed

    def get(self, timeout: float) -> Received | None:
        """The next batch; None when none came within `timeout` seconds or the watch was closed."""
        deadline = time.monotonic() + timeout
        while True:
            heard = self._feed.get(max(0.0, deadline - time.monotonic()))
            if heard is None:
                return None
            received = self._follow(heard)
            if received is not None:
                return received

    def close(self) -> None:
        """Stop listening; a reader that waits returns."""
        self._feed.close()

    def _follow(self, heard: Heard) -> Received | None:
        batch, levels = heard.message, heard.match.levels
        if not isinstance(batch, m.Batch):
            return None
        key, kind = Key(levels["host"], levels["driver"], levels["device"]), levels["stream"]
        step = self._cursors.setdefault((key, kind), Cursor(from_start=self._from_start)).advance(batch)
        if step is None:
            return None
        missed, dropped = step
        self.frames += batch.n
        self.missed += missed
        self.dropped += sum(dropped.values())
        return Received(key, kind, batch, missed, dropped)
