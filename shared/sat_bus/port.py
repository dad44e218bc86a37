"""The bus as services see it: one Protocol, two adapters (`memory` and `mqtt`) that pass one test class.

Handlers run on the adapter's own dispatch thread, one at a time and in order of arrival, never on the
network thread. A handler must be quick: it parses and enqueues. What it raises is logged and counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from sat_bus.topics import Traffic


@dataclass(frozen=True, slots=True)
class Inbound:
    """A message that arrived. `retain` is True only for what the broker had kept before the subscription."""

    topic: str
    payload: bytes
    retain: bool = False
    response_topic: str | None = None
    correlation: bytes | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes, retained, when this client is gone without a word."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class BusStats:
    """Counters since start, except the queue lengths, which are now.

    Attributes:
        control, state, frames: messages waiting to go out, by class.
        frame_bytes: bytes of frames waiting.
        inbox: messages waiting for their handler.
        dropped: messages lost, by cause: ``control_full control_offline frames_full frames_offline
            inbox_full oversize handler_error``.
        reconnects: connections made after the first.
    """

    control: int
    state: int
    frames: int
    frame_bytes: int
    inbox: int
    dropped: dict[str, int]
    reconnects: int


Handler = Callable[[Inbound], None]


class Bus(Protocol):
    """A connection to the broker that mends itself."""

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the present connection and the subscriptions are in place."""

    def start(self, timeout: float | None = None) -> bool:
        """Connect in the background; with `timeout`, wait that many seconds for it and say whether it is up."""

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        traffic: Traffic = Traffic.CONTROL,
        response_topic: str | None = None,
        correlation: bytes | None = None,
        expiry_s: float | None = None,
        traceparent: str | None = None,
        on_drop: Callable[[str], None] | None = None,
    ) -> bool:
        """Queue a message; never blocks. False: it was refused and counted, and will not go out later.

        CONTROL is refused while offline and when its queue is full. STATE replaces what waits on the same
        topic and is kept while offline. FRAMES drop the oldest beyond the byte bound and all while offline;
        `on_drop` is then called with the cause, from any thread.
        """

    def subscribe(self, subscription: str, handler: Handler, *, qos: int = 1) -> None:
        """Call `handler` for what `subscription` catches, now and after each reconnect."""

    def unsubscribe(self, subscription: str) -> None:
        """End a subscription and forget its handler."""

    def on_connection(self, handler: Callable[[bool], None]) -> None:
        """Call `handler(True)` after each connection, when the subscriptions stand, and `handler(False)` when
        it is lost; on the dispatch thread."""

    def flush(self, timeout: float) -> bool:
        """Wait until everything queued has gone out and been acknowledged; False when `timeout` seconds ran out."""

    def stats(self) -> BusStats:
        """Counters and queue lengths."""

    def close(self, timeout: float = 2.0) -> None:
        """Send what is queued if that takes no more than `timeout`, disconnect cleanly (no will), end the threads."""
