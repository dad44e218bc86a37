"""The bus as services see it: one Protocol, two adapters (`memory` and `mqtt`) that pass one test
class.

Handlers run on the adapter's own dispatch thread or, where a service says so, on its work loop; one
at a time and in order of arrival, never on the network thread. A handler must be quick. What it
raises is logged and counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from sat_bus.contract.topics import Traffic
from sat_toolkit.errors import BadRequest


@dataclass(frozen=True, slots=True)
class Inbound:
    """A message that arrived, at `arrived` on `time.monotonic`, or before that where a dead link
    held it back.

    `retain` is True only for what the broker had kept before the subscription."""

    topic: str
    payload: bytes
    retain: bool = False
    response_topic: str | None = None
    correlation: bytes | None = None
    traceparent: str | None = None
    arrived: float = field(default_factory=time.monotonic, compare=False)


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
        dropped: messages lost, by cause: ``control_full control_offline state_full frames_full
            frames_offline oversize refused inbox_full handler_error``; ``malformed``: it arrived
            with a topic that is not UTF-8; ``control_unacked frames_unacked``: sent before the
            connection was lost, so that it is unknown whether they arrived.
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
        """Whether the broker has accepted the present connection and the subscriptions are in
        place."""

    def start(self, timeout: float | None = None) -> bool:
        """Connect in the background; with `timeout`, wait that many seconds for it and say whether
        it is up."""

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
        """Queue a message; never blocks. False: it was refused and counted, and will not go out
        later.

        CONTROL is refused while offline and when its queue is full. STATE replaces what waits on
        the same topic and is kept while offline. FRAMES go out by turns, one of each topic, and are
        dropped while offline; beyond the byte bound the oldest of the topic with the most bytes are
        dropped. `on_drop` is called with the cause when the message is lost, now or later, from any
        thread.

        Raises:
            BadRequest: no topic to publish to.
        """

    def subscribe(self, subscription: str, handler: Handler, *, qos: int = 1) -> None:
        """Call `handler` for what `subscription` catches, now and after each reconnect; it replaces
        the handler of an earlier subscription to the same filter. Where two filters of one client
        catch the same topic, MQTT 3.1.1 may call both handlers once for each.

        Raises:
            BadRequest: no filter.
        """

    def unsubscribe(self, subscription: str) -> None:
        """End a subscription and forget its handler."""

    def deliver_on(self, post: Callable[[Callable[[], None]], bool]) -> None:
        """Before `start`: call all handlers in jobs that `post` takes, `WorkLoop.post`, not on a
        dispatch thread."""

    def on_connection(self, handler: Callable[[bool], None]) -> None:
        """Call `handler(True)` after each connection, when the subscriptions stand, and
        `handler(False)` when it is lost (not for `close`). Retained messages may come before
        `handler(True)`."""

    def flush(self, timeout: float) -> bool:
        """Wait until everything queued has gone out and been acknowledged; False when `timeout`
        seconds ran out."""

    def stats(self) -> BusStats:
        """Counters and queue lengths."""

    def close(self, timeout: float = 2.0) -> None:
        """Send what is queued if that takes no more than `timeout`, disconnect cleanly (no will),
        end the threads."""


@lru_cache(256)
def check_topic(topic: str) -> None:
    """Refuse what MQTT has no topic for.

    Raises:
        BadRequest: empty, too long, with a wildcard or NUL in it, or not Unicode.
    """
    _check(topic)
    if "+" in topic or "#" in topic:
        raise BadRequest(f"the topic {topic[:80]!r} has a wildcard; only subscriptions may")


def check_filter(subscription: str) -> None:
    """Refuse what MQTT has no subscription for.

    Raises:
        BadRequest: empty, too long, with a wildcard beside other text in a level, or not Unicode.
    """
    _check(subscription)
    levels = subscription.split("/")
    wrong = [level for level in levels if ("+" in level or "#" in level) and len(level) > 1]
    if wrong or "#" in levels[:-1]:
        raise BadRequest(f"the filter {subscription[:80]!r}: + fills a whole level, # the last one")


def _check(text: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise BadRequest(f"the topic {text[:80]!r} is not Unicode text") from None
    if not 1 <= size <= 65_535 or "\0" in text:
        raise BadRequest(f"a topic of {size} bytes; 1 to 65535 without NUL are accepted")
