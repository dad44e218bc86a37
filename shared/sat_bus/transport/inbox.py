"""Hands arrived messages to their handlers, on one thread, in order of arrival. Shared by all
adapters of the bus.

That is a thread of its own, so that a handler that raises or blocks never reaches the network
thread and cannot end the connection nor let the broker take us for dead; or a service's work loop,
which saves each message a hop. The inbox is bounded in two lanes, so that a flood of frames never
pushes out a command or a state; each lane drops its oldest and counts.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sat_bus.contract.topics import matches
from sat_bus.transport.bus import BusStats, Handler, Inbound
from sat_bus.transport.outbox import Outbox

log = logging.getLogger(__name__)

_FRAME_LEVEL = 7  # sat/1/<site>/dev/<host>/<driver>/<device>/stream/...
_CACHED_TOPICS = 4_096
_AT_A_TIME = 32  # messages handled in one job of a work loop


@dataclass(frozen=True, slots=True)
class Subscription:
    """A filter with its handler. `ident` is its MQTT 5 subscription identifier."""

    filter: str
    ident: int
    qos: int
    handler: Handler


@dataclass(frozen=True, slots=True)
class _Arrival:
    number: int
    event: Inbound | bool  # a message, or the connection that came (True) or went
    idents: tuple[int, ...]

    @property
    def size(self) -> int:
        return len(self.event.payload) if isinstance(self.event, Inbound) else 0


class Dispatcher:
    """Subscriptions, the inbox, and the thread ``bus/dispatch/<client_id>`` unless `deliver_on`
    gives another.

    Args:
        client_id: whom it serves.
        capacity: most messages that wait, frames apart.
        frame_bytes: most bytes of frames that wait.
    """

    def __init__(
        self, client_id: str, *, capacity: int = 10_000, frame_bytes: int = 32 << 20
    ) -> None:
        self._capacity = capacity
        self._frame_limit = frame_bytes
        self._subscriptions: dict[str, Subscription] = {}
        self._by_ident: dict[int, Subscription] = {}
        self._last_ident = 0
        self._revision = 0
        self._matching: dict[str, tuple[Subscription, ...]] = {}
        self._connection_handlers: list[Callable[[bool], None]] = []
        self._others: deque[_Arrival] = deque()
        self._frames: deque[_Arrival] = deque()
        self._frame_bytes = 0
        self._arrivals = 0
        self._dropped: Counter[str] = Counter()
        self._stopped = False
        self._post: Callable[[Callable[[], None]], bool] | None = None
        self._posted = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(
            target=self._run, name=f"bus/dispatch/{client_id}", daemon=True
        )

    def deliver_on(self, post: Callable[[Callable[[], None]], bool]) -> None:
        """Before `start`: handle what arrives in jobs that `post` takes, and have no thread."""
        self._post = post

    def start(self) -> None:
        if self._post is None:
            self._thread.start()

    def stop(self, timeout: float) -> None:
        """End the thread after the present handler; what waits is forgotten."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def add(self, subscription: str, handler: Handler, qos: int) -> Subscription:
        """Remember a subscription; one to the same filter is replaced."""
        with self._changed:
            known = self._subscriptions.get(subscription)
            if known is None:
                self._last_ident += 1
            entry = Subscription(
                subscription, self._last_ident if known is None else known.ident, qos, handler
            )
            self._subscriptions[subscription] = entry
            self._revision += 1
            self._by_ident[entry.ident] = entry
            self._matching.clear()
            return entry

    def remove(self, subscription: str) -> bool:
        """Forget a subscription and its handler; False when there was no such subscription."""
        with self._changed:
            entry = self._subscriptions.pop(subscription, None)
            if entry is not None:
                del self._by_ident[entry.ident]
                self._revision += 1
                self._matching.clear()
            return entry is not None

    @property
    def revision(self) -> int:
        """Rises with each change of the subscriptions."""
        return self._revision

    def subscriptions(self) -> list[Subscription]:
        with self._changed:
            return list(self._subscriptions.values())

    def on_connection(self, handler: Callable[[bool], None]) -> None:
        with self._changed:
            self._connection_handlers.append(handler)

    def message(self, inbound: Inbound, idents: tuple[int, ...] = ()) -> None:
        """Queue an arrived message; never blocks. With `idents` it is for those subscriptions, else
        for all whose filter catches its topic."""
        with self._changed:
            self._arrivals += 1
            arrival = _Arrival(self._arrivals, inbound, idents)
            if is_frames(inbound.topic):
                self._frames.append(arrival)
                self._frame_bytes += arrival.size
                while self._frame_bytes > self._frame_limit or len(self._frames) > self._capacity:
                    self._frame_bytes -= self._frames.popleft().size
                    self._dropped["inbox_full"] += 1
            else:
                self._others.append(arrival)
                if len(self._others) > self._capacity:
                    self._drop_oldest_message()
            handle = self._notify()
        if handle:
            self._hand_over()

    def connection(self, up: bool) -> None:
        """Queue the news of the connection for the `on_connection` handlers."""
        with self._changed:
            self._arrivals += 1
            self._others.append(_Arrival(self._arrivals, up, ()))
            handle = self._notify()
        if handle:
            self._hand_over()

    def count(self, cause: str) -> None:
        """Count a message that was lost before it came here."""
        with self._changed:
            self._dropped[cause] += 1

    @property
    def crowded(self) -> bool:
        """Whether so much waits that it is better to let the broker keep the next messages for a
        moment."""
        return 2 * len(self._others) > self._capacity

    def depth(self) -> int:
        with self._changed:
            return len(self._others) + len(self._frames)

    def dropped(self) -> dict[str, int]:
        with self._changed:
            return dict(self._dropped)

    def _drop_oldest_message(self) -> None:
        """Of the lane without frames; news of the connection is never dropped."""
        for index, arrival in enumerate(self._others):
            if isinstance(arrival.event, Inbound):
                del self._others[index]
                self._dropped["inbox_full"] += 1
                return

    def _notify(self) -> bool:
        """Wake the thread, with the lock held; True: no thread runs, and the inbox is to be handed
        over."""
        if self._post is None:
            self._changed.notify()
            return False
        handle, self._posted = not self._posted, True
        return handle

    def _hand_over(self) -> None:
        """Have the inbox handled; without the lock, as it may happen at once."""
        if self._post is not None and not self._post(self._drain):
            self._posted = False  # and the next arrival tries again

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._others or self._frames)
                if self._stopped:
                    return
                event, handlers = self._take()
            self._call(handlers, event)

    def _drain(self) -> None:
        """A job of the work loop: handle some messages, and leave the rest for after the other jobs
        that wait."""
        for _ in range(_AT_A_TIME):
            with self._changed:
                if self._stopped or not (self._others or self._frames):
                    self._posted = False
                    return
                event, handlers = self._take()
            self._call(handlers, event)
        self._hand_over()

    def _take(self) -> tuple[Inbound | bool, list[Callable[[Any], None]]]:
        """The next event, with those who want it."""
        arrival = self._next()
        event = arrival.event
        if isinstance(event, bool):
            return event, list(self._connection_handlers)
        if arrival.idents:
            by_ident = self._by_ident
            return event, [by_ident[ident].handler for ident in arrival.idents if ident in by_ident]
        return event, [entry.handler for entry in self._catching(event.topic)]

    def _next(self) -> _Arrival:
        if self._frames and (not self._others or self._frames[0].number < self._others[0].number):
            arrival = self._frames.popleft()
            self._frame_bytes -= arrival.size
            return arrival
        return self._others.popleft()

    def _catching(self, topic: str) -> tuple[Subscription, ...]:
        found = self._matching.get(topic)
        if found is None:
            if len(self._matching) >= _CACHED_TOPICS:
                self._matching.clear()
            found = tuple(
                entry for entry in self._subscriptions.values() if matches(entry.filter, topic)
            )
            self._matching[topic] = found
        return found

    def _call(self, handlers: list[Callable[[Any], None]], event: Inbound | bool) -> None:
        for handler in handlers:
            try:
                handler(event)
            except Exception:
                self.count("handler_error")
                log.exception("a bus handler failed")


def is_frames(topic: str) -> bool:
    """Whether `topic` carries batches of a stream."""
    levels = topic.split("/", _FRAME_LEVEL + 1)
    return len(levels) > _FRAME_LEVEL and levels[_FRAME_LEVEL] == "stream"


def stats_of(outbox: Outbox, dispatcher: Dispatcher, connections: int) -> BusStats:
    """The counters of an adapter that is made of these."""
    lengths = outbox.lengths()
    dropped = outbox.dropped()
    for cause, count in dispatcher.dropped().items():
        dropped[cause] = dropped.get(cause, 0) + count
    return BusStats(
        control=lengths.control,
        state=lengths.state,
        frames=lengths.frames,
        frame_bytes=lengths.frame_bytes,
        inbox=dispatcher.depth(),
        dropped=dropped,
        reconnects=max(0, connections - 1),
    )
