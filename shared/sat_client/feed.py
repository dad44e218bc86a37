"""Messages of the contract as they arrive, decoded on the reader's thread."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from sat_bus.contract import messages as m
from sat_bus.contract import topics
from sat_bus.transport.bus import Inbound
from sat_client.inbox import QUEUE, Attach, Inbox
from sat_toolkit.errors import BadRequest


@dataclass(frozen=True)
class Heard:
    """A message as the contract's table reads it; `message` is None where a retained topic was
    cleared."""

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
    """

    def __init__(
        self, site: str, subscriptions: tuple[str, ...], attach: Attach, *, capacity: int = QUEUE
    ) -> None:
        self.malformed = 0
        self._site = site
        self._inbox: Inbox[None] = Inbox(subscriptions, attach, capacity=capacity)

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
        return self._inbox.closed

    @property
    def overflow(self) -> int:
        """Messages that fell out because they were not read in time."""
        return self._inbox.overflow

    def get(self, timeout: float) -> Heard | None:
        """The next message; None when none came within `timeout` seconds or the feed was closed."""
        deadline = time.monotonic() + timeout
        while True:
            arrival = self._inbox.get(max(0.0, deadline - time.monotonic()))
            if arrival is None:
                return None
            heard = self._read(arrival.inbound)
            if heard is not None:
                return heard

    def close(self) -> None:
        """Stop listening; a reader that waits returns."""
        self._inbox.close()

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
