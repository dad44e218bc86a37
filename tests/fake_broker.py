"""A broker of MQTT 3.1.1 that misbehaves on demand: it stays silent, refuses, withholds
acknowledgements, hangs up.

It serves one connection after the other and records what clients send.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from dataclasses import dataclass
from typing import Self

from tests.waiting import Inbox

CONNECT, PUBLISH, PUBACK, SUBSCRIBE, UNSUBSCRIBE, PINGREQ, DISCONNECT = 1, 3, 4, 8, 10, 12, 14
ACCEPTED, NOT_AUTHORIZED = 0, 5


@dataclass(frozen=True)
class Packet:
    """A packet that a client sent; `connection` counts from 1."""

    connection: int
    kind: int
    flags: int
    body: bytes

    @property
    def version(self) -> int:
        """Of a CONNECT: the protocol level."""
        return self.body[6]

    @property
    def topic(self) -> str:
        """Of a PUBLISH."""
        return self.body[2 : 2 + struct.unpack("!H", self.body[:2])[0]].decode()


class FakeBroker:
    """Use it as a context manager; the attributes may be changed while it runs."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.connack: int | None = ACCEPTED  # None: no answer at all
        self.suback = 1  # 0x80: refused
        self.acknowledge = True  # PUBLISH of QoS 1
        self.hang_up_on_version_5 = False
        self.packets: Inbox[Packet] = Inbox()
        self.connections = 0
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sock: socket.socket | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="test/fake-broker")

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        return f"{'mqtts' if self._tls else 'mqtt'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        self.hang_up()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def hang_up(self) -> None:
        """End the present connection."""
        sock = self._sock
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def send(self, data: bytes) -> None:
        """Send raw bytes to the client."""
        assert self._sock is not None
        self._sock.sendall(data)

    def publish(self, topic: bytes, payload: bytes) -> None:
        """Send a PUBLISH of QoS 0."""
        self.send(packet(PUBLISH << 4, struct.pack("!H", len(topic)) + topic + payload))

    def request(self, topic: bytes, payload: bytes, ident: int) -> bytes:
        """The bytes of a PUBLISH of QoS 1."""
        return packet(
            PUBLISH << 4 | 2,
            struct.pack("!H", len(topic)) + topic + struct.pack("!H", ident) + payload,
        )

    def sent(self, kind: int, connection: int | None = None) -> list[Packet]:
        """The packets of `kind` that arrived."""
        return [
            p
            for p in list(self.packets.items)
            if p.kind == kind and connection in (None, p.connection)
        ]

    def topics(self, connection: int | None = None) -> list[str]:
        """The topics published to."""
        return [p.topic for p in self.sent(PUBLISH, connection)]

    def _run(self) -> None:
        while not self._closing:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with sock, contextlib.suppress(OSError, EOFError):
                if self._tls is not None:
                    sock = self._tls.wrap_socket(sock, server_side=True)
                with sock:
                    self._sock = sock
                    self.connections += 1
                    self._serve(sock)

    def _serve(self, sock: socket.socket) -> None:
        while not self._closing:
            head = _exactly(sock, 1)[0]
            size, shift = 0, 0
            while True:
                byte = _exactly(sock, 1)[0]
                size |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    break
            received = Packet(self.connections, head >> 4, head & 15, _exactly(sock, size))
            self.packets(received)
            answer = self._answer(received)
            if answer is None:
                return
            sock.sendall(answer)

    def _answer(self, received: Packet) -> bytes | None:
        """The bytes to answer with; None hangs up."""
        match received.kind:
            case 1:
                if self.hang_up_on_version_5 and received.version == 5:
                    return None
                return b"" if self.connack is None else packet(0x20, bytes([0, self.connack]))
            case 3 if received.flags & 6 and self.acknowledge:
                at = 2 + len(received.topic.encode())
                return packet(0x40, received.body[at : at + 2])
            case 8:
                return packet(0x90, received.body[:2] + bytes([self.suback]))
            case 10:
                return packet(0xB0, received.body[:2])
            case 12:
                return packet(0xD0, b"")
            case 14:
                return None
        return b""


def packet(head: int, body: bytes) -> bytes:
    """An MQTT packet."""
    size, length = len(body), bytearray()
    while True:
        size, digit = divmod(size, 128)
        length.append(digit | (128 if size else 0))
        if not size:
            return bytes([head]) + bytes(length) + body


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = sock.recv(size - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return bytes(data)
