"""Streams of devices for a reader, a thread or an asyncio task, with an exact account of what does
not arrive.

`Watch` hands out batches, `Frames` the frames in them. What falls out of the reader's own queue is
counted too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Self

from sat_bus.contract import topics
from sat_bus.contract.device_key import Key
from sat_bus.transport.bus import Inbound
from sat_client.batches import Batch, read_batch, read_head
from sat_client.gaps import CLIENT, TRANSPORT, Cursor, Fallen, Gap
from sat_client.inbox import QUEUE, Arrival, Attach, Inbox
from sat_toolkit.errors import BadArgs, BadRequest

Form = Literal["auto", "json", "bin"]
_ROWS: dict[str, tuple[topics.Topic, ...]] = {
    "auto": (topics.STREAM_BIN, topics.STREAM_JSON),
    "json": (topics.STREAM_JSON,),
    "bin": (topics.STREAM_BIN,),
}
_FALLEN = 64  # streams of one topic that are remembered while nobody reads
_Lost = dict[tuple[str, str], Fallen]


@dataclass(frozen=True)
class Received:
    """A batch of a device's stream, and what is missing before it.

    Attributes:
        type: the stream's type, ``can``.
        gap: the frames that are missing right before this batch, and why; None when none are.
        dropped: frames that the host counted as lost since the last batch, by cause: the growth of
            its own totals.
        explained: of frames in earlier gaps, until now "transport", those whose cause the host
            tells with this batch.
    """

    key: Key
    type: str
    batch: Batch
    gap: Gap | None
    dropped: dict[str, int]
    explained: dict[str, int]

    @property
    def frames(self) -> list[dict[str, Any]]:
        return self.batch.frames

    @property
    def missed(self) -> int:
        """How many frames are missing right before this batch."""
        return self.gap.count if self.gap else 0

    @property
    def lost_after(self) -> int:
        """Of the frames in `gap`, those lost after the host, as far as it has told; less those
        `explained` now."""
        causes = self.gap.causes if self.gap else {}
        return causes.get(TRANSPORT, 0) + causes.get(CLIENT, 0) - sum(self.explained.values())


class Watch:
    """Batches of one or many devices, oldest first: iterate over it (``for``, or ``async for`` in a
    task), or ask with `get` or `receive`.

    It listens from its construction until `close`; use it in a ``with`` or ``async with``
    statement.

    Args:
        subscriptions: filters of stream topics, of either form or of both.
        attach: subscribes a handler to a filter and returns what ends that.
        capacity: batches that wait; beyond that the oldest fall out, and are counted.
        from_start: the watch is older than every stream, so that what is missing at its beginning
            is counted too.

    Attributes:
        frames: how many frames were received.
        causes: how many are missing, by cause.
        dropped: what the hosts counted as lost meanwhile.
        malformed: batches that could not be read; their frames are missing.
    """

    def __init__(
        self,
        site: str,
        subscriptions: tuple[str, ...],
        attach: Attach,
        *,
        capacity: int = QUEUE,
        from_start: bool = False,
    ) -> None:
        self.frames = self.dropped = self.malformed = 0
        self.causes: dict[str, int] = {}
        self._site = site
        self._from_start = from_start
        self._cursors: dict[tuple[Key, str], Cursor] = {}
        self._inbox: Inbox[_Lost] = Inbox(subscriptions, attach, capacity=capacity, fold=self._fold)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Received]:
        while not self.closed:
            received = self.get(timeout=1.0)
            if received is not None:
                yield received

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def __aiter__(self) -> AsyncIterator[Received]:
        while not self.closed:
            received = await self.receive()
            if received is not None:
                yield received

    @property
    def closed(self) -> bool:
        return self._inbox.closed

    @property
    def missed(self) -> int:
        """How many frames are missing. With `frames` that is every number that the followed streams
        have given out."""
        return sum(self.causes.values())

    @property
    def overflow(self) -> int:
        """Batches that fell out of the queue because they were not read in time."""
        return self._inbox.overflow

    def get(self, timeout: float) -> Received | None:
        """The next batch; None when none came within `timeout` seconds or the watch was closed."""
        deadline = time.monotonic() + timeout
        while True:
            arrival = self._inbox.get(max(0.0, deadline - time.monotonic()))
            if arrival is None:
                return None
            received = self._follow(arrival)
            if received is not None:
                return received

    async def receive(self, timeout: float | None = None) -> Received | None:
        """As `get`, for a task; without a `timeout` until the watch is closed."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while True:
            left = None if deadline is None else max(0.0, deadline - loop.time())
            arrival = await self._inbox.receive(left)
            if arrival is None:
                return None
            received = self._follow(arrival)
            if received is not None:
                return received

    def close(self) -> None:
        """Stop listening; a reader that waits returns."""
        self._inbox.close()

    def _follow(self, arrival: Arrival[_Lost]) -> Received | None:
        match = topics.parse(self._site, arrival.inbound.topic)
        if match is None or match.topic not in _ROWS["auto"]:
            return None
        levels = match.levels
        key, kind = Key(levels["host"], levels["driver"], levels["device"]), levels["stream"]
        cursor = self._cursors.setdefault((key, kind), Cursor(from_start=self._from_start))
        for fallen in (arrival.fallen or {}).values():
            cursor.pass_over(fallen)
        try:
            batch = read_batch(_form(match), arrival.inbound.payload)
        except BadRequest:
            self.malformed += 1
            return None
        step = cursor.advance(batch.head)
        if step is None:
            return None
        received = Received(
            key, kind, batch.without_first(step.known), step.gap, step.dropped, step.explained
        )
        self._count(received)
        return received

    def _count(self, received: Received) -> None:
        self.frames += received.batch.n
        self.dropped += sum(received.dropped.values())
        for cause, count in (received.gap.causes if received.gap else {}).items():
            self.causes[cause] = self.causes.get(cause, 0) + count
        for cause, count in received.explained.items():
            self.causes[cause] = self.causes.get(cause, 0) + count
            self.causes[TRANSPORT] -= count

    def _fold(self, before: _Lost | None, inbound: Inbound) -> _Lost:
        lost = before if before is not None else {}
        match = topics.parse(self._site, inbound.topic)
        if match is None:
            return lost
        try:
            head = read_head(_form(match), inbound.payload)
        except BadRequest:
            self.malformed += 1
            return lost
        key = (head.boot, head.stream)
        lost[key] = Fallen.of(head, lost.pop(key, None))
        if len(lost) > _FALLEN:
            del lost[next(iter(lost))]
        return lost


class Frames:
    """The frames of a `Watch`, one by one, as dicts of the contract; ``for``, or ``async for`` in a
    task.

    Use it in a ``with`` or ``async with`` statement.

    Args:
        on_gap: called with what is missing, before the frame that follows it.

    Attributes:
        watch: where the batches come from; its totals are the account of what was received and what
            was not.
    """

    def __init__(self, watch: Watch, on_gap: Callable[[Gap], object] | None = None) -> None:
        self.watch = watch
        self._on_gap = on_gap

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for received in self.watch:
            yield from self._frames(received)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        while not self.watch.closed:
            received = await self.watch.receive()
            if received is not None:
                for frame in self._frames(received):
                    yield frame

    def close(self) -> None:
        """Stop listening; a reader that waits returns."""
        self.watch.close()

    def _frames(self, received: Received) -> list[dict[str, Any]]:
        if received.gap is not None and self._on_gap is not None:
            self._on_gap(received.gap)
        return received.frames


def rows_of(form: str) -> tuple[topics.Topic, ...]:
    """The rows of the contract that bring streams in `form`.

    Raises:
        BadArgs: there is no such form.
    """
    if form not in _ROWS:
        raise BadArgs(f"form {form!r}: {', '.join(_ROWS)} are accepted")
    return _ROWS[form]


def _form(match: topics.Match) -> str:
    return "bin" if match.topic is topics.STREAM_BIN else "json"
