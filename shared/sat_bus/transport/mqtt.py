"""The bus over MQTT 5 or 3.1.1, by TCP or WebSocket. Only this and `paho_client` know paho.

The network thread of `network` alone uses the paho client, which lives for one connection: other
threads put messages in the outbox and wake it, and what arrives goes to the dispatcher. So no
handler runs on that thread, none can end it, and none can block it until the broker takes us for
dead. At most 20 messages are outstanding, 4 of them frames, QoS 0 included. Messages of QoS 1 are
made, and over plain TCP messages and PUBACKs are read, past paho by `packets`.
"""

from __future__ import annotations

import logging
import math
import select
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any, Literal

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from sat_bus.transport import packets
from sat_bus.transport.bus import Inbound, Will
from sat_bus.transport.endpoint import parse_url
from sat_bus.transport.inbox import Subscription
from sat_bus.transport.network import ConnectionEnd, ConnectionParts, NetworkBus
from sat_bus.transport.outbox import MAX_PAYLOAD, Outgoing
from sat_bus.transport.paho_client import CONNECT_TIMEOUT_S, Client
from sat_bus.transport.reconnect import Version
from sat_toolkit.errors import ConfigError

log = logging.getLogger(__name__)

KEEPALIVE_S = 5
READ_BYTES = 131_072  # more than the largest batch: what does not fit is left to paho, after this has looked at it
PACKETS_A_TURN = 32
# While the inbox is crowded nothing is read, as the broker's queue is the longer one. But not for
# so long that it takes us for dead.
PAUSE_S, LONGEST_PAUSE_S = 0.002, 1.0
# A few PUBACKs are held for a moment, so that a reply goes out before the PUBACK of its request: a
# broker that saves itself at each of them, as Mosquitto can, keeps the reply waiting meanwhile.
HELD_ACKS, HOLD_S = 2, 0.004
# Reason codes of MQTT 5, which paho also makes of the codes of 3.1.1.
_UNSUPPORTED_VERSION = 132
_BAD_CREDENTIALS = (134, 135)
_TAKEN_OVER = 142
_LONGEST_EXPIRY_S = 0xFFFF_FFFF  # four bytes
_FAILURE = 128  # and above


class MqttBus(NetworkBus):
    """A `sat_bus.transport.bus.Bus` on an MQTT broker.

    Args:
        url: see `sat_bus.transport.endpoint`.
        client_id: the name that the broker knows us by; another connection of the same name ends
            ours.
        will: what the broker publishes, retained, when we are gone without a word.
        protocol: ``auto`` tries MQTT 5 and falls back to 3.1.1.
        tls_ca: a PEM file of certificates to trust instead of the system's.
        keepalive_s: a peer that is silent is noticed after up to twice this time.

    Raises:
        ConfigError: a wrong URL, or a `tls_ca` that cannot be read.
        BadRequest: a client id or a topic of the will that cannot be used.
    """

    def __init__(
        self,
        url: str,
        client_id: str,
        *,
        will: Will | None = None,
        protocol: Literal["auto", "5", "3.1.1"] = "auto",
        tls_ca: Path | None = None,
        keepalive_s: int = KEEPALIVE_S,
    ) -> None:
        endpoint = parse_url(url)
        super().__init__(
            endpoint,
            client_id,
            will=will,
            versions=("5", "3.1.1") if protocol == "auto" else (protocol,),
            tls=_tls_context(tls_ca) if endpoint.tls else None,
            keepalive_s=keepalive_s,
            connect=_Connection,
        )


class _Connection:
    """One connection, with a paho client of its own. Who uses the client holds `_turn_lock`: the
    network thread except while it waits, or a publisher that finds it waiting."""

    def __init__(self, link: ConnectionParts, version: Version) -> None:
        self.outcome = ConnectionEnd.UNREACHED
        self.reason = ""
        self._link = link
        self._version = version
        self._ended = False
        self._ready = False
        self._idents = version == "5"
        self._acks = b""
        self._acks_due = 0.0
        self._paused = False
        self._uncrowded = 0.0
        self._revision = -1
        self._active: dict[str, Subscription] = {}
        self._unconfirmed: dict[int, str] = {}
        self._in_flight: dict[int, Outgoing] = {}
        self._poll = select.poll()
        self._turn_lock = threading.Lock()
        self._client = self._make_client()

    def run(self) -> None:
        link = self._link
        self._client.open()
        self.outcome = ConnectionEnd.UNANSWERED
        deadline = time.monotonic() + CONNECT_TIMEOUT_S
        self._poll.register(link.waker.fileno(), select.POLLIN)
        while not self._ended:
            if link.closing.is_set():
                self._say_goodbye()
                return
            if not self._ready and time.monotonic() > deadline:
                self.reason = f"no answer within {CONNECT_TIMEOUT_S:g} s"
                return
            self._turn(0.5)

    def dispose(self) -> None:
        """Close the socket; without a goodbye, so that the broker publishes the will."""
        sock = self._client.socket()
        if sock is not None:
            sock.close()

    def _make_client(self) -> Client:
        client = Client(self._link, self._version)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_written
        client.on_puback = self._on_puback
        client.on_message = self._on_message
        return client

    def push(self) -> bool:
        if not self._turn_lock.acquire(blocking=False):
            return False
        try:
            if self.outcome is not ConnectionEnd.LOST or self._ended:
                return False
            self._reconcile()  # what a caller subscribed to before it publishes, it shall hear
            self._send()
            self._acknowledge()
            if self._client.want_write():
                self._client.loop_write()
            return not (self._ended or self._client.want_write())
        finally:
            self._turn_lock.release()

    def _turn(self, longest: float) -> None:
        """Send what may go, wait for the network or for work, and read."""
        with self._turn_lock:
            sock = self._before_wait()
        if sock is None:
            self._ended = True
            return
        # TLS may hold what poll does not see
        buffered = not self._paused and getattr(sock, "pending", int)()
        longest = PAUSE_S if self._paused else HOLD_S if self._acks else longest
        events = dict(self._poll.poll(0 if buffered else longest * 1000))
        if self._link.waker.fileno() in events:
            self._link.waker.clear()
        with self._turn_lock:
            fired = events.get(sock.fileno(), 0)
            if buffered or fired & ~select.POLLOUT:
                self._read(sock)
            if not self._ended and self._client.loop_misc() != MQTTErrorCode.MQTT_ERR_SUCCESS:
                self._ended = True

    def _before_wait(self) -> Any:
        """Send what may go; the socket to wait for, None at the end of the connection."""
        client = self._client
        now = time.monotonic()
        if self.outcome is ConnectionEnd.LOST:
            self._reconcile()
            self._send()
            client.prove(now)
        if self._acks and (now >= self._acks_due or len(self._acks) > HELD_ACKS * 4):
            self._acknowledge()
        if client.want_write():
            client.loop_write()
        sock = client.socket()
        if self._ended or sock is None:
            return None
        self._paused = self._is_paused()
        reading = 0 if self._paused else select.POLLIN
        self._poll.register(sock.fileno(), reading | (select.POLLOUT if client.want_write() else 0))
        return sock

    def _is_paused(self) -> bool:
        now = time.monotonic()
        if not self._link.dispatcher.crowded:
            self._uncrowded = now
        return 0 < now - self._uncrowded < LONGEST_PAUSE_S

    def _read(self, sock: Any) -> None:
        """Take what has arrived: messages once, and whatever stands before them."""
        for _ in range(PACKETS_A_TURN):
            if self._read_messages(sock) or not self._client.read_packet() or self._ended:
                return

    def _read_messages(self, sock: Any) -> bool:
        """Take the messages and PUBACKs that have arrived, up to what is neither; False: it is for
        paho to read."""
        if (
            type(sock) is not socket.socket or not self._client.between_packets
        ):  # TLS and WebSocket cannot be peeked at
            return False
        try:
            data = sock.recv(READ_BYTES, socket.MSG_PEEK)
        except OSError:
            return False
        now = time.monotonic()
        arrived = packets.read(data, self._client.arrival(now), mqtt5=self._version == "5")
        if not arrived.size:
            return False
        sock.recv(arrived.size)
        for mid, reason in arrived.acked:
            self._on_puback(mid, reason)
        for inbound, idents in arrived.messages:
            self._link.dispatcher.message(inbound, idents)
        if not self._acks:
            self._acks_due = now + HOLD_S
        self._acks += arrived.acks
        return True

    def _acknowledge(self) -> None:
        if self._acks:
            acks, self._acks = self._acks, b""
            self._client.acknowledge(acks)

    def _reconcile(self) -> None:
        """Make the broker's subscriptions what the dispatcher's are."""
        dispatcher = self._link.dispatcher
        if dispatcher.revision == self._revision:
            return
        self._revision = dispatcher.revision
        wanted = {entry.filter: entry for entry in dispatcher.subscriptions()}
        for filter_ in self._active.keys() - wanted.keys():
            del self._active[filter_]
            self._client.unsubscribe(filter_)
        for entry in wanted.values():
            if self._active.get(entry.filter) is not entry:
                self._active[entry.filter] = entry
                self._subscribe(entry)

    def _subscribe(self, entry: Subscription) -> None:
        properties = None
        if self._idents:
            properties = _new_properties(PacketTypes.SUBSCRIBE)
            properties.SubscriptionIdentifier = entry.ident
        options = SubscribeOptions(qos=entry.qos) if self._version == "5" else None
        _, mid = self._client.subscribe(
            entry.filter, 0 if options else entry.qos, options=options, properties=properties
        )  # fmt: skip
        if mid is not None:
            self._unconfirmed[mid] = entry.filter

    def _send(self) -> None:
        while (message := self._link.outbox.take()) is not None:
            if message.qos:
                mid = self._client.send(message, self._properties(message))
            else:  # heartbeats and the like, which have no properties
                mid = self._client.publish(message.topic, message.payload, 0, message.retain).mid
            self._in_flight[mid] = message

    def _properties(self, message: Outgoing) -> bytes | None:
        """What MQTT 5 adds; left out on 3.1.1, as nothing relies on it."""
        if self._version != "5":
            return None
        expiry_s = (
            None
            if message.expiry_s is None
            else max(1, math.ceil(min(message.expiry_s, _LONGEST_EXPIRY_S)))
        )
        return packets.properties(
            message.response_topic, message.correlation, expiry_s, message.traceparent
        )

    def _say_goodbye(self) -> None:
        deadline = time.monotonic() + 0.5
        if self.outcome is not ConnectionEnd.LOST:
            return
        self._client.disconnect()
        while not self._ended and time.monotonic() < deadline:
            self._turn(0.05)

    # -- callbacks of paho, on this thread; they only take note -------------------------------------

    def _on_connect(
        self, _client: paho.Client, _data: Any, _flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:  # fmt: skip
        if reason.is_failure:
            refused_version = reason.value == _UNSUPPORTED_VERSION
            self.outcome = (
                ConnectionEnd.VERSION_REFUSED if refused_version else ConnectionEnd.REFUSED
            )
            self.reason = f"refused: {reason}"
            if reason.value in _BAD_CREDENTIALS:
                self.reason += ": check the user and password in the broker URL, and the broker's list of users"
            return
        self.outcome = ConnectionEnd.LOST  # as it will be some day
        self._idents = (
            self._idents and getattr(properties, "SubscriptionIdentifierAvailable", 1) == 1
        )
        self._reconcile()
        # What arrives while subscriptions are still being confirmed may be answered at once.
        self._link.outbox.online(getattr(properties, "ReceiveMaximum", None))
        self._check_ready()

    def _on_subscribe(
        self, _client: Any, _data: Any, mid: int, reasons: list[ReasonCode], _properties: Any
    ) -> None:  # fmt: skip
        subscription = self._unconfirmed.pop(mid, None)
        if subscription is not None and any(reason.is_failure for reason in reasons):
            log.error(
                "the broker refuses %s the subscription to %s (%s): allow it in the broker's access list",
                self._link.client_id, subscription, reasons[0],
            )  # fmt: skip
        self._check_ready()

    def _check_ready(self) -> None:
        if not self._ready and not self._unconfirmed:
            self._ready = True
            self._link.ready()

    def _on_disconnect(
        self, _client: Any, _data: Any, flags: Any, reason: ReasonCode, _properties: Any
    ) -> None:  # fmt: skip
        self._ended = True
        if not flags.is_disconnect_packet_from_server:
            self.reason = self.reason or "the connection broke"
        elif reason.value == _TAKEN_OVER:
            self.reason = f"another client uses the id {self._link.client_id!r}; give each its own"
        else:
            self.reason = str(reason)

    def _on_written(
        self, _client: Any, _data: Any, mid: int, _reason: Any, _properties: Any
    ) -> None:
        """A message of QoS 0 has gone out."""
        self._on_puback(mid, 0)

    def _on_puback(self, mid: int, reason: int) -> None:
        message = self._in_flight.pop(mid, None)
        if message is None:
            return
        refused = reason >= _FAILURE
        if refused:
            log.error(
                "the broker refuses %s to publish to %s (code %d)",
                self._link.client_id,
                message.topic,
                reason,
            )
        self._link.outbox.done(message, "refused" if refused else None)

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        dispatcher = self._link.dispatcher
        if len(message.payload) > MAX_PAYLOAD:
            dispatcher.count("oversize")
            return
        try:
            topic = message.topic
        except UnicodeDecodeError:
            dispatcher.count("malformed")
            return
        properties = message.properties
        users = dict(getattr(properties, "UserProperty", ()))
        inbound = Inbound(
            topic,
            bytes(message.payload),
            message.retain,
            getattr(properties, "ResponseTopic", None),
            getattr(properties, "CorrelationData", None),
            users.get("traceparent"),
            self._client.arrival(time.monotonic()),
        )
        dispatcher.message(inbound, tuple(getattr(properties, "SubscriptionIdentifier", ())))


def _tls_context(ca: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if ca is None else str(ca))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"tls_ca {ca}: {error}; a readable file of PEM certificates is accepted"
        ) from None


def _new_properties(packet: int) -> Properties:
    return Properties(packet)  # type: ignore[no-untyped-call]
