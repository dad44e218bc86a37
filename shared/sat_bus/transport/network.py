"""What a bus on a network does whatever the library: queues, the thread that keeps a connection,
its ends.

`NetworkBus` owns one thread, ``bus/net/<client_id>``. It makes one `Connection` after the other,
each used once and thrown away, so that nothing queued in a dead one can go out late. This module
knows no MQTT library.
"""

from __future__ import annotations

import logging
import os
import random
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol, Self

from sat_bus.contract.topics import Traffic, encode_level
from sat_bus.transport.bus import BusStats, Handler, Will, check_filter, check_topic
from sat_bus.transport.endpoint import Endpoint
from sat_bus.transport.inbox import Dispatcher, stats_of
from sat_bus.transport.outbox import OnDrop, Outbox, Outgoing
from sat_bus.transport.reconnect import Reconnect, Version

log = logging.getLogger(__name__)


class ConnectionEnd(Enum):
    """How a connection ended."""

    UNREACHED = auto()  # no transport
    UNANSWERED = auto()  # a transport, and no word of the broker
    VERSION_REFUSED = auto()
    REFUSED = auto()
    LOST = auto()  # it had been accepted


class Waker:
    """A pipe that ends the wait of the network thread; at most one byte is in it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read, self._write = os.pipe()
        self._pending = False
        self._closed = False

    def fileno(self) -> int:
        return self._read

    def wake(self) -> None:
        with self._lock:
            if not self._pending and not self._closed:
                self._pending = True
                os.write(self._write, b"\0")

    def clear(self) -> None:
        with self._lock:
            if self._pending:
                self._pending = False
                os.read(self._read, 1)

    def close(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._read)
                os.close(self._write)


@dataclass(frozen=True)
class ConnectionParts:
    """What a connection works with.

    Attributes:
        closing: set when the bus is being closed; the connection then says goodbye and ends.
        outbox: to be told (`online`) when the broker takes messages.
        ready: to be called when the subscriptions stand too.
    """

    endpoint: Endpoint
    client_id: str
    will: Will | None
    tls: ssl.SSLContext | None
    keepalive_s: int
    outbox: Outbox
    dispatcher: Dispatcher
    waker: Waker
    closing: threading.Event
    ready: Callable[[], None]


class Connection(Protocol):
    """One connection; made, run and disposed of on the network thread. Only `push` is for any
    thread."""

    outcome: ConnectionEnd
    reason: str  # why it ended, for a person, with the next step where there is one

    def run(self) -> None:
        """Connect and serve until the connection ends or the bus is closed.

        Raises:
            OSError: the broker cannot be reached.
            ValueError: its host name is not one.
        """

    def push(self) -> bool:
        """Send what may go at once, on the thread of the caller, without waiting. False: it has to
        be done, or gone on with, by the network thread."""

    def dispose(self) -> None:
        """Free what it holds, whatever its state."""


class NetworkBus:
    """A `sat_bus.transport.bus.Bus` over connections that `connect` makes.

    Args:
        endpoint: where the broker is.
        client_id: the name that the broker knows us by.
        will: what the broker publishes, retained, when we are gone without a word.
        versions: the protocol versions to use, the preferred one first.
        tls: for endpoints with TLS.
        keepalive_s: seconds of silence after which the broker is asked for a sign of life.
        connect: makes a connection, not yet run.

    Raises:
        BadRequest: the client id or the topic of the will cannot be used.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        client_id: str,
        *,
        will: Will | None,
        versions: tuple[Version, ...],
        tls: ssl.SSLContext | None,
        keepalive_s: int,
        connect: Callable[[ConnectionParts, Version], Connection],
    ) -> None:
        self.client_id = encode_level("client", client_id)
        if will is not None:
            check_topic(will.topic)
        self._endpoint = endpoint
        self._connect = connect
        self._reconnect = Reconnect(versions, random.random)
        self._outbox = Outbox()
        self._dispatcher = Dispatcher(client_id)
        self._waker = Waker()
        self._closing = threading.Event()
        self._link = ConnectionParts(
            endpoint, client_id, will, tls, keepalive_s,
            self._outbox, self._dispatcher, self._waker, self._closing, self._ready,
        )  # fmt: skip
        self._connection: Connection | None = None
        self._up = threading.Event()
        self._started = False
        self._version: Version | None = None
        self._connections = 0
        self._complaint = ""
        self._refused = False
        self._said = ""
        self._thread = threading.Thread(target=self._run, name=f"bus/net/{client_id}", daemon=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def connected(self) -> bool:
        return self._up.is_set()

    @property
    def protocol(self) -> Version | None:
        """The version of the present or last connection; None before the first."""
        return self._version

    @property
    def problem(self) -> str:
        """Why there is no connection, in words for a person; empty while there is one or before the
        first attempt."""
        return self._complaint

    @property
    def refused(self) -> bool:
        """Whether nothing listened on the broker's port in the last attempt; not so while there is
        a connection."""
        return self._refused

    def start(self, timeout: float | None = None) -> bool:
        if not self._started:
            self._started = True
            self._dispatcher.start()
            self._thread.start()
        return self._up.wait(timeout) if timeout is not None else self._up.is_set()

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
        if response_topic is not None:
            check_topic(response_topic)
        accepted = self._outbox.put(
            Outgoing(
                topic,
                payload,
                qos,
                retain,
                traffic,
                response_topic,
                correlation,
                expiry_s,
                traceparent,
                on_drop,
            )
        )
        # The publisher sends by itself where it can: waking another thread for it costs more than
        # the sending.
        connection = self._connection
        if accepted and (connection is None or not connection.push()):
            self._waker.wake()
        return accepted

    def subscribe(self, subscription: str, handler: Handler, *, qos: int = 1) -> None:
        check_filter(subscription)
        self._dispatcher.add(subscription, handler, qos)
        self._waker.wake()

    def unsubscribe(self, subscription: str) -> None:
        if self._dispatcher.remove(subscription):
            self._waker.wake()

    def deliver_on(self, post: Callable[[Callable[[], None]], bool]) -> None:
        self._dispatcher.deliver_on(post)

    def on_connection(self, handler: Callable[[bool], None]) -> None:
        self._dispatcher.on_connection(handler)

    def flush(self, timeout: float) -> bool:
        return self._outbox.flush(timeout)

    def stats(self) -> BusStats:
        return stats_of(self._outbox, self._dispatcher, self._connections)

    def close(self, timeout: float = 2.0) -> None:
        deadline = time.monotonic() + timeout
        if self.connected:
            self._outbox.flush(timeout / 2)
        self._closing.set()
        self._waker.wake()
        if self._thread.is_alive():
            self._thread.join(max(0.0, deadline - time.monotonic()))
        self._dispatcher.stop(max(0.1, deadline - time.monotonic()))
        if not self._started:
            self._waker.close()

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                self._closing.wait(self._attempt())
        finally:
            self._waker.close()

    def _attempt(self) -> float:
        """One connection from its beginning to its end; returns the seconds to wait before the
        next."""
        version = self._reconnect.version
        self._connection = connection = self._connect(self._link, version)
        began = time.monotonic()
        refused = False
        try:
            connection.run()
        except (OSError, ValueError) as error:
            refused = isinstance(error, ConnectionRefusedError)
            connection.reason = connection.reason or f"{error or type(error).__name__}"
        except Exception as error:
            log.exception(
                "the connection of %s to %s ended by a fault of ours",
                self.client_id,
                self._endpoint,
            )
            connection.reason = repr(error)
        finally:
            self._connection = None
            connection.dispose()
            was_up = self._down()
        if self._closing.is_set():
            return 0.0
        self._refused = refused
        delay = self._delay(connection.outcome, time.monotonic() - began)
        if delay > 0:  # else the other version is tried at once
            self._complain(connection.reason, was_up)
        return delay

    def _delay(self, outcome: ConnectionEnd, lasted: float) -> float:
        if outcome is ConnectionEnd.VERSION_REFUSED:
            return self._reconnect.version_refused()
        if outcome is ConnectionEnd.LOST:
            return self._reconnect.lost(lasted)
        if outcome is ConnectionEnd.UNANSWERED:
            return self._reconnect.unanswered()
        return self._reconnect.failed()

    def _ready(self) -> None:
        self._version = self._reconnect.version
        self._reconnect.connected()
        self._connections += 1
        self._complaint = ""
        self._refused = False
        if not self._reconnect.flapping:
            self._said = ""
        log.info("%s is connected to %s by MQTT %s", self.client_id, self._endpoint, self._version)
        self._up.set()
        self._dispatcher.connection(True)

    def _down(self) -> bool:
        was_up = self._up.is_set()
        self._up.clear()
        self._outbox.offline()
        if was_up and not self._closing.is_set():
            self._dispatcher.connection(False)
        return was_up

    def _complain(self, reason: str, was_up: bool) -> None:
        """Say once, not at each attempt, why there is no connection."""
        if self._reconnect.flapping:
            reason = f"again and again; does another client use the id {self.client_id!r}? last: {reason}"
        self._complaint = reason
        if reason != self._said:
            self._said = reason
            what = "lost the connection to" if was_up else "cannot connect to"
            log.warning("%s %s %s (%s); trying again", self.client_id, what, self._endpoint, reason)
