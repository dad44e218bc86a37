"""The bounded queue between the bus's dispatch thread and whoever reads what it brings.

The dispatch thread only enqueues; the payload is decoded on the reader's thread.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

from sat_bus import messages as m
from sat_bus import topics
from sat_bus.port import Handler, Inbound
from sat_toolkit.errors import BadRequest

QUEUE = 1_000

Attach = Callable[[str, Handler], Callable[[], None]]


@dataclass(frozen=True)
class Heard:
    """A message as the contract's table reads it; `message` is None where a retained topic was cleared."""

    match: topics.Match
    message: m.Message | None


class Feed:
    """Messages of some topics, oldest first; iterate over it, or ask with `get`.

    It listens from its construction until `close`; use it in a ``with`` statement.

    Args:
        attach: subscribes a handler to a filter and returns what ends that.
        capacity: messages that wait; beyond that the oldest fall out.

    Attributes:
        malformed: messages that could not be read.
        overflow: messages that fell out because they were not read in time.
    """

    def __init__(self, site: str, subscriptions: tuple[str, ...], attach: Attach, *, capacity: int = QUEUE) -> None:
        self.malformed = self.overflow = 0
        self._site = site
        self._queue: deque[Inbound] = deque()
        self._capacity = capacity
        self._ready = threading.Condition()
        self._closed = False
        self._detach = [attach(subscription, self._on_message) for subscription in subscriptions]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Heard]:
        while not self.closed:
            heard = self.get(timeout=1.0)
            if heard is not None:
                yield heard

    @property
    def closed(self) -> bool:
        return self._closed

    def get(self, timeout: float) -> Heard | None:
        """The next message; None when none came within `timeout` seconds or the feed was closed."""
        deadline = time.monotonic() + timeout
        while True:
            with self._ready:
                self._ready.wait_for(lambda: self._queue or self._closed, max(0.0, deadline - time.monotonic()))
                if not self._queue:
                    return None
                inbound = self._queue.popleft()
            heard = self._read(inbound)
            if heard is not None:
                return heard

    def close(self) -> None:
        """Stop listening; a reader that waits returns."""
        for detach in self._detach:
            detach()
        with self._ready:
            self._closed = True
            self._ready.notify_all()

    def _read(self, inbound: Inbound) -> Heard | None:
        match = topics.parse(self._site, inbound.topic)
        if match is None or match.topic.payload is None:
            return None
        if not inbound.payload:
            return Heard(match, None)
        try:
            return Heard(match, match.topic.payload.decode(inbound.payload))
        except BadRequest:
            self.malformed += 1
            return None

    def _on_message(self, message: Inbound) -> None:
        with self._ready:
            if len(self._queue) >= self._capacity:
                self._queue.popleft()
                self.overflow += 1
            self._queue.append(message)
            self._ready.notify()
