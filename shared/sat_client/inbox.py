"""The bounded queue between the bus's dispatch thread and whoever reads what it brings, a thread or
an asyncio task.

The dispatch thread only enqueues; the payload is decoded by the reader.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from sat_bus.transport.bus import Handler, Inbound

QUEUE = 1_000

Attach = Callable[[str, Handler], Callable[[], None]]
FallenT = TypeVar("FallenT")
Fold = Callable[[FallenT | None, Inbound], FallenT]


@dataclass(frozen=True, slots=True)
class Arrival(Generic[FallenT]):
    """A message, and what is kept of those of its topic that fell out since the last one."""

    inbound: Inbound
    fallen: FallenT | None


class Inbox(Generic[FallenT]):
    """Messages of some topics, oldest first. It listens from its construction until `close`.

    Args:
        attach: subscribes a handler to a filter and returns what ends that.
        capacity: messages that wait; beyond that the oldest fall out.
        fold: makes what is kept of messages that fall out, one value for each topic; called on the
            dispatch thread.

    Attributes:
        overflow: messages that fell out because they were not read in time.
    """

    def __init__(
        self,
        subscriptions: tuple[str, ...],
        attach: Attach,
        *,
        capacity: int = QUEUE,
        fold: Fold[FallenT] | None = None,
    ) -> None:
        self.overflow = 0
        self._queue: deque[Inbound] = deque()
        self._capacity = capacity
        self._fold = fold
        self._fallen: dict[str, FallenT] = {}
        self._ready = threading.Condition()
        self._wakers: list[Callable[[], None]] = []
        self._closed = False
        self._detach = [attach(subscription, self._on_message) for subscription in subscriptions]

    @property
    def closed(self) -> bool:
        return self._closed

    def get(self, timeout: float) -> Arrival[FallenT] | None:
        """The next message; None when none came within `timeout` seconds or the inbox was
        closed."""
        with self._ready:
            self._ready.wait_for(self._has_news, timeout)
            return self._take()

    async def receive(self, timeout: float | None) -> Arrival[FallenT] | None:
        """As `get`, for a task. Others on the loop have their turn however fast messages come."""
        await asyncio.sleep(0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while True:
                    arrival = await self._take_or_wait()
                    if arrival is not None or self._closed:
                        return arrival
        return None

    async def _take_or_wait(self) -> Arrival[FallenT] | None:
        """A message that is there; else None, as soon as there may be one."""
        ready = asyncio.Event()
        wake = partial(_wake, asyncio.get_running_loop(), ready)
        with self._ready:
            if self._has_news():
                return self._take()
            self._wakers.append(wake)
        try:
            await ready.wait()
        finally:
            with self._ready:
                if wake in self._wakers:
                    self._wakers.remove(wake)
        return None

    def close(self) -> None:
        """Stop listening; a reader that waits returns."""
        for detach in self._detach:
            detach()
        with self._ready:
            self._closed = True
            self._wake()

    def _has_news(self) -> bool:
        return bool(self._queue) or self._closed

    def _take(self) -> Arrival[FallenT] | None:
        if not self._queue:
            return None
        inbound = self._queue.popleft()
        return Arrival(inbound, self._fallen.pop(inbound.topic, None))

    def _wake(self) -> None:
        self._ready.notify_all()
        for wake in self._wakers:
            wake()
        self._wakers.clear()

    def _on_message(self, message: Inbound) -> None:
        with self._ready:
            if len(self._queue) >= self._capacity:
                oldest = self._queue.popleft()
                self.overflow += 1
                if self._fold is not None:
                    self._fallen[oldest.topic] = self._fold(self._fallen.get(oldest.topic), oldest)
            self._queue.append(message)
            self._wake()


def _wake(loop: asyncio.AbstractEventLoop, ready: asyncio.Event) -> None:
    with contextlib.suppress(RuntimeError):  # the loop was closed over a task that waits
        loop.call_soon_threadsafe(ready.set)
