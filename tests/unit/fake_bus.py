"""A bus that keeps what is published, and delivers what the test hands to a handler itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sat_bus.contract.topics import Traffic
from sat_bus.transport.bus import BusStats, Handler


@dataclass(frozen=True)
class Published:
    topic: str
    payload: bytes
    retain: bool = False
    expiry: float | None = None
    traceparent: str | None = None
    on_drop: Callable[[str], None] | None = None

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.payload)
        return body


class FakeBus:
    """A Bus that keeps what is published. `up` False: it takes nothing."""

    def __init__(self) -> None:
        self.sent: list[Published] = []
        self.up = True
        self.connected = True
        self.handlers: dict[str, Handler] = {}
        self.ended: list[str] = []
        self.connection: list[Callable[[bool], None]] = []

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
        if self.up:
            self.sent.append(Published(topic, payload, retain, expiry_s, traceparent, on_drop))
        return self.up

    def retained(self, topic: str) -> bytes | None:
        """What a broker would hold there; empty once it was cleared, None when nothing was said."""
        found = [each.payload for each in self.sent if each.retain and each.topic == topic]
        return found[-1] if found else None

    def start(self, timeout: float | None = None) -> bool:
        return True

    def subscribe(self, subscription: str, handler: Handler, *, qos: int = 1) -> None:
        self.handlers[subscription] = handler

    def unsubscribe(self, subscription: str) -> None:
        self.ended.append(subscription)

    def deliver_on(self, post: Callable[[Callable[[], None]], bool]) -> None:
        pass

    def on_connection(self, handler: Callable[[bool], None]) -> None:
        self.connection.append(handler)

    def flush(self, timeout: float) -> bool:
        return True

    def stats(self) -> BusStats:
        return BusStats(0, 0, 0, 0, 0, {}, 0)

    def close(self, timeout: float = 2.0) -> None:
        self.ended.append("closed")
