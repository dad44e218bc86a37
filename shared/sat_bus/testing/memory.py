"""The bus within one process, for tests: the semantics of MQTT without a broker, a socket or a
wait.

What is published is routed at once, on the publisher's thread; handlers run on the subscriber's
dispatch thread as with every adapter. `MemoryBroker` can lose clients, stop, start and forget, as
real brokers do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self

from sat_bus.contract.topics import Traffic, encode_level, matches
from sat_bus.transport.bus import BusStats, Handler, Inbound, Will, check_filter, check_topic
from sat_bus.transport.inbox import Dispatcher, Subscription, stats_of
from sat_bus.transport.outbox import OnDrop, Outbox, Outgoing


class MemoryBroker:
    """Routes between the `MemoryBus` objects that name it, and keeps retained messages."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._clients: dict[str, MemoryBus] = {}
        self._away: dict[str, MemoryBus] = {}
        self._retained: dict[str, Outgoing] = {}
        self._running = True

    @property
    def retained(self) -> dict[str, bytes]:
        """Retained payloads by topic."""
        with self._lock:
            return {topic: message.payload for topic, message in self._retained.items()}

    def kill(self, client_id: str) -> None:
        """The client's process is gone without a word: its will is published, and it never comes
        back."""
        self._lose(client_id, forever=True)

    def cut(self, client_id: str) -> None:
        """The client's connection breaks: its will is published, and it connects again."""
        bus = self._lose(client_id, forever=False)
        if bus is not None:
            bus.reconnect()

    def wipe(self) -> None:
        """Forget all retained messages."""
        with self._lock:
            self._retained.clear()

    def stop(self) -> None:
        """The broker ends: every client loses its connection; wills reach nobody. Retained messages
        are kept."""
        with self._lock:
            self._running = False
            gone = list(self._clients.values())
            self._away.update(self._clients)
            self._clients.clear()
        for bus in gone:
            bus.lost()

    def start(self) -> None:
        """The broker is back: its clients connect again."""
        with self._lock:
            self._running = True
            back = list(self._away.values())
            self._away.clear()
        for bus in back:
            bus.reconnect()

    def admit(self, bus: MemoryBus) -> bool:
        """Take a client in; one of the same id is thrown out for good, and its will is
        published."""
        other = self._clients.get(bus.client_id)
        if other is not None and other is not bus:
            self._lose(bus.client_id, forever=True)
        with self._lock:
            if not self._running:
                self._away[bus.client_id] = bus
                return False
            self._clients[bus.client_id] = bus
            for subscription in bus.dispatcher.subscriptions():
                self.replay(bus, subscription)
        return True

    def replay(self, bus: MemoryBus, subscription: Subscription) -> None:
        """Give a new subscription the retained messages that it catches."""
        with self._lock:
            if self._clients.get(bus.client_id) is not bus:
                return
            for topic, message in self._retained.items():
                if matches(subscription.filter, topic):
                    bus.dispatcher.message(_inbound(message, retain=True), (subscription.ident,))

    def leave(self, bus: MemoryBus) -> None:
        """A client says goodbye: no will."""
        with self._lock:
            for clients in (self._clients, self._away):
                if clients.get(bus.client_id) is bus:
                    del clients[bus.client_id]

    def route(self, bus: MemoryBus, message: Outgoing) -> bool:
        """Deliver what `bus` sends; False when it is not connected."""
        with self._lock:
            if self._clients.get(bus.client_id) is not bus:
                return False
            self._deliver(message)
            return True

    def _deliver(self, message: Outgoing) -> None:
        if message.retain and message.payload:
            self._retained[message.topic] = message
        elif message.retain:
            self._retained.pop(message.topic, None)
        for bus in self._clients.values():
            idents = tuple(
                s.ident for s in bus.dispatcher.subscriptions() if matches(s.filter, message.topic)
            )
            if idents:
                bus.dispatcher.message(_inbound(message, retain=False), idents)

    def _lose(self, client_id: str, *, forever: bool) -> MemoryBus | None:
        with self._lock:
            bus = self._clients.pop(client_id, None)
            if bus is None:
                return None
            if bus.will is not None:
                self._deliver(Outgoing(bus.will.topic, bus.will.payload, retain=True))
        bus.lost(forever=forever)
        return bus


class MemoryBus:
    """A `sat_bus.transport.bus.Bus` on a `MemoryBroker`.

    Args:
        broker: where it connects.
        client_id: its name, which no other client may have.
        will: published, retained, when it is lost.

    Raises:
        BadRequest: the client id or the topic of the will cannot be used.
    """

    def __init__(self, broker: MemoryBroker, client_id: str, *, will: Will | None = None) -> None:
        self.client_id = encode_level("client", client_id)
        if will is not None:
            check_topic(will.topic)
        self.will = will
        self.dispatcher = Dispatcher(client_id)
        self._broker = broker
        self._outbox = Outbox()
        self._sending = threading.RLock()
        self._connected = False
        self._started = False
        self._closed = False
        self._connections = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def connected(self) -> bool:
        return self._connected

    def start(self, timeout: float | None = None) -> bool:
        """Connect; `timeout` is not needed here, as nothing waits."""
        del timeout
        if not self._started:
            self._started = True
            self.dispatcher.start()
            self.reconnect()
        return self._connected

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
        on_drop: OnDrop | None = None,
    ) -> bool:
        check_topic(topic)
        message = Outgoing(
            topic, payload, qos, retain, traffic, response_topic, correlation, expiry_s, traceparent, on_drop
        )  # fmt: skip
        accepted = self._outbox.put(message)
        self._send()
        return accepted

    def subscribe(self, subscription: str, handler: Handler, *, qos: int = 1) -> None:
        check_filter(subscription)
        self._broker.replay(self, self.dispatcher.add(subscription, handler, qos))

    def unsubscribe(self, subscription: str) -> None:
        self.dispatcher.remove(subscription)

    def deliver_on(self, post: Callable[[Callable[[], None]], bool]) -> None:
        self.dispatcher.deliver_on(post)

    def on_connection(self, handler: Callable[[bool], None]) -> None:
        self.dispatcher.on_connection(handler)

    def flush(self, timeout: float) -> bool:
        return self._outbox.flush(timeout)

    def stats(self) -> BusStats:
        return stats_of(self._outbox, self.dispatcher, self._connections)

    def close(self, timeout: float = 2.0) -> None:
        self._closed = True
        self._broker.leave(self)
        self._connected = False
        self._outbox.offline()
        self.dispatcher.stop(timeout)

    def reconnect(self) -> None:
        """Called by the broker when it can be reached again."""
        if self._closed or not self._broker.admit(self):
            return
        self._outbox.online()
        self._connected = True
        self._connections += 1
        self.dispatcher.connection(True)
        self._send()

    def lost(self, *, forever: bool = False) -> None:
        """Called by the broker when the connection is gone."""
        self._closed = self._closed or forever
        self._connected = False
        self._outbox.offline()
        self.dispatcher.connection(False)

    def _send(self) -> None:
        with self._sending:
            while (message := self._outbox.take()) is not None:
                if self._broker.route(self, message):
                    self._outbox.done(message)


def _inbound(message: Outgoing, *, retain: bool) -> Inbound:
    return Inbound(
        message.topic, message.payload, retain, message.response_topic, message.correlation, message.traceparent
    )  # fmt: skip
