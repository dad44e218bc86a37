"""paho's client as `sat_bus.transport.mqtt` uses it.

Told how to connect, open to be read and written past, and asked how fresh what it reads is.

It lives for one connection, and one thread at a time may use it.
"""

from __future__ import annotations

import os
import socket
import struct
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from sat_bus.transport import packets
from sat_bus.transport.network import ConnectionParts
from sat_bus.transport.outbox import Outgoing
from sat_bus.transport.reconnect import Version

CONNECT_TIMEOUT_S = 3.0
# How often the broker is asked for a sign of life, and how late at most a request runs that a dead
# link held back. A live link, whose client looks up twice a second, is proven again well within
# that.
PING_S, UNPROVEN_S = 1.0, 2.0
_PROTOCOL = {"5": MQTTProtocolVersion.MQTTv5, "3.1.1": MQTTProtocolVersion.MQTTv311}
_PUBLISH, _PUBACK, _PINGREQ = 0x30, 0x40, 0xC0


class Client(paho.Client):
    """A client of paho's for one connection of `link`, whose stream another may read between two
    packets, and write whole packets to.

    Attributes:
        on_puback: is told the packet identifier and the reason code.
    """

    on_puback: Callable[[int, int], None]

    def __init__(self, link: ConnectionParts, version: Version) -> None:
        endpoint = link.endpoint
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=link.client_id,
            protocol=_PROTOCOL[version],
            transport="websockets" if endpoint.websocket else "tcp",
            reconnect_on_failure=False,
        )
        self._link = link
        # 3.1.1 says it of the client, by default.
        self._clean_start: paho.CleanStartOption = (
            True if version == "5" else paho.MQTT_CLEAN_START_FIRST_ONLY
        )
        self._pings: deque[float] = deque()
        self._proven = 0.0
        self.suppress_exceptions = True  # a callback that raises must not end the thread
        self.connect_timeout = CONNECT_TIMEOUT_S
        self.max_inflight_messages_set(0)  # the outbox bounds it, QoS 0 included
        if endpoint.websocket:
            self.ws_set_options(endpoint.path, _without_origin)
        if endpoint.username is not None:
            self.username_pw_set(endpoint.username, endpoint.password)
        if link.tls is not None:
            self.tls_set_context(link.tls)
        if link.will is not None:
            self.will_set(link.will.topic, link.will.payload, qos=1, retain=True)
        self.on_socket_open = _set_nodelay
        self.on_socket_register_write = _leave_writing_to_the_loop

    def open(self) -> None:
        """Connect to the broker.

        Raises:
            OSError: it cannot be reached.
            ValueError: its host name is not one.
        """
        endpoint = self._link.endpoint
        self._proven = time.monotonic()
        try:
            self.connect(
                endpoint.host, endpoint.port, self._link.keepalive_s, clean_start=self._clean_start
            )
        except Exception as error:
            _close_sockets(error)
            raise

    @property
    def between_packets(self) -> bool:
        """Whether no packet is half read, so that what comes next on the socket is the beginning of
        one."""
        return self._in_packet["command"] == 0

    def read_packet(self) -> bool:
        """Read one packet, where `loop_read` may go on to those behind it; False: there was
        none."""
        code = self._packet_read()
        if code > 0:
            self._loop_rc_handle(code)
        return code == MQTTErrorCode.MQTT_ERR_SUCCESS

    def send(self, message: Outgoing, properties: bytes | None) -> int:
        """Send a message of QoS 1 in its turn; its packet identifier, for `on_puback`."""
        mid = self._mid_generate()
        packet = packets.publish(
            message.topic, message.payload, mid, retain=message.retain, properties=properties
        )
        self._packet_queue(_PUBLISH, packet, mid, 1)
        return mid

    def acknowledge(self, acks: bytes) -> None:
        """Send whole PUBACKs in their turn."""
        self._packet_queue(_PUBACK, acks, 0, 0)

    def _handle_pubackcomp(self, cmd: str) -> MQTTErrorCode:  # noqa: ARG002 - QoS 2 is not used, so it is a PUBACK
        try:
            self.on_puback(*packets.puback(bytes(self._in_packet["packet"])))
        except struct.error:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    # -- how fresh it is ---------------------------------------------------------------------------

    def arrival(self, now: float) -> float:
        """When what is read `now` counts as arrived: now, as long as the link is proven to be
        alive.

        A broker answers a ping behind all that it sent before. So what is read now was sent after
        the latest ping that was answered, and may be as old as that ping: a link that was cut, or a
        process that stood still, holds messages back and then brings them all. They count from
        `UNPROVEN_S` after that ping at the latest.
        """
        return min(now, self._proven + UNPROVEN_S)

    def prove(self, now: float) -> None:
        """Ask the broker for a sign of life, when it is time and none is awaited."""
        if not self._pings and now - self._proven >= PING_S:
            self._pings.append(now)
            self._send_simple_command(_PINGREQ)

    def _send_pingreq(self) -> MQTTErrorCode:
        """paho's own, by which it finds a connection dead."""
        self._pings.append(time.monotonic())
        return super()._send_pingreq()

    def _handle_pingresp(self) -> MQTTErrorCode:
        if self._pings:
            self._proven = self._pings.popleft()
        return super()._handle_pingresp()


def _set_nodelay(_client: Any, _data: Any, sock: Any) -> None:
    """Without it Nagle's algorithm holds every second small packet back for 40 ms."""
    duplicate = socket.socket(fileno=os.dup(sock.fileno()))  # a WebSocket wrapper has no setsockopt
    try:
        duplicate.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    finally:
        duplicate.close()


def _close_sockets(error: BaseException) -> None:
    """Close the sockets of a handshake that failed: paho leaves them to the garbage collector,
    which warns."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        for value in frame.f_locals.values():
            if isinstance(value, socket.socket):
                value.close()


def _leave_writing_to_the_loop(_client: Any, _data: Any, _sock: Any) -> None:
    """With a callback here, paho's calls only queue; `_turn` asks `want_write` and writes."""


def _without_origin(headers: dict[str, str]) -> dict[str, str]:
    """A browser must send the header Origin, so that brokers can tell web pages from programs such
    as this."""
    return {name: value for name, value in headers.items() if name != "Origin"}
