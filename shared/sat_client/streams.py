"""Frames as they arrive, with an exact count of those that do not.

`Cursor` is pure arithmetic over the batches' sequence numbers. `Watch` is the bounded queue between the
bus's dispatch thread and whoever reads; what falls out of it is missed like anything else that did not
arrive, because the counting happens at the reading end.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

from sat_bus import messages as m
from sat_bus import topics
from sat_bus.port import Handler, Inbound
from sat_client.view import Key
from sat_toolkit.errors import BadRequest

QUEUE = 1_000  # batches
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
    missed: int = 0
    dropped: dict[str, int] | None = None

    @property
    def frames(self) -> list[dict[str, Any]]:
        return self.batch.frames


class Cursor:
    """Where the streams of one topic have got to.

    The first stream it sees may have been running for a while, so it is joined where it is; every later
    one is followed from its first frame.
    """

    def __init__(self) -> None:
        self._next: OrderedDict[tuple[str, str], tuple[int, dict[str, int]]] = OrderedDict()

    def advance(self, batch: m.Batch) -> tuple[int, dict[str, int]] | None:
        """How many frames are missing before `batch`, and the drops that are new in it; None for a repetition."""
        key = (batch.boot, batch.stream)
        known = self._next.get(key)
        if known is None:
            expected, before = (0, {}) if self._next else (batch.seq, batch.dropped)
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

    Attributes:
        malformed: batches that could not be read.
        overflow: batches that fell out of the queue because they were not read in time.
        frames, missed, dropped: running totals of what `get` returned.
    """

    def __init__(
        self,
        site: str,
        subscription: str,
        attach: Callable[[str, Handler], Callable[[], None]],
        *,
        capacity: int = QUEUE,
    ) -> None:
        self.malformed = self.overflow = self.frames = self.missed = self.dropped = 0
        self._site = site
        self._cursors: dict[tuple[Key, str], Cursor] = {}
        self._queue: deque[tuple[Key, str, m.Batch]] = deque()
        self._capacity = capacity
        self._ready = threading.Condition()
        self._closed = False
        self._detach = attach(subscription, self._on_batch)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Received]:
        while not self._closed:
            received = self.get(timeout=1.0)
            if received is not None:
                yield received

    def get(self, timeout: float) -> Received | None:
        """The next batch; None when none came within `timeout` seconds or the watch was closed."""
        deadline = time.monotonic() + timeout
        while True:
            with self._ready:
                if not self._ready.wait_for(lambda: self._queue or self._closed, max(0.0, deadline - time.monotonic())):
                    return None
                if not self._queue:
                    return None
                key, kind, batch = self._queue.popleft()
            step = self._cursors.setdefault((key, kind), Cursor()).advance(batch)
            if step is not None:
                return self._count(Received(key, kind, batch, *step))

    def close(self) -> None:
        """Stop listening; a reader that waits returns."""
        self._detach()
        with self._ready:
            self._closed = True
            self._ready.notify_all()

    def _count(self, received: Received) -> Received:
        self.frames += received.batch.n
        self.missed += received.missed
        self.dropped += sum((received.dropped or {}).values())
        return received

    def _on_batch(self, message: Inbound) -> None:
        match = topics.parse(self._site, message.topic)
        if match is None or match.topic is not topics.STREAM_JSON:
            return
        try:
            batch = m.Batch.decode(message.payload)
        except BadRequest:
            self.malformed += 1
            return
        key = Key(match.levels["host"], match.levels["driver"], match.levels["device"])
        with self._ready:
            if len(self._queue) >= self._capacity:
                self._queue.popleft()
                self.overflow += 1
            self._queue.append((key, match.levels["stream"], batch))
            self._ready.notify()
