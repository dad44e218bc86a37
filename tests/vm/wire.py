"""How the harness talks with the agent in the guest: framed bytes on one TCP connection for each
command.

Each frame is a kind (one byte), a length (four bytes, big-endian) and that many bytes. The first
frame of a connection is a REQUEST. Only the standard library, for the guest has this file beside
the agent.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any, Final

AGENT_PORT: Final = 7000
# What the agent prints on the console when it serves: this word and the token that requests must
# show.
READY: Final = "vm-agent-ready"

REQUEST, STDIN, STDIN_END, SIGNAL = 0, 1, 2, 3  # to the agent
STDOUT, STDERR, EXIT = 4, 5, 6  # from the agent

_HEAD: Final = struct.Struct("!BI")
_LIMIT: Final = 1 << 24


def send(connection: socket.socket, kind: int, body: bytes = b"") -> None:
    connection.sendall(_HEAD.pack(kind, len(body)) + body)


def send_json(connection: socket.socket, kind: int, body: dict[str, Any]) -> None:
    send(connection, kind, json.dumps(body).encode())


def receive(connection: socket.socket) -> tuple[int, bytes] | None:
    """The next frame; None at the end of the connection. TimeoutError by the socket's own time
    limit."""
    head = _exactly(connection, _HEAD.size)
    if head is None:
        return None
    kind, length = _HEAD.unpack(head)
    if length > _LIMIT:
        raise ValueError(f"a frame of {length} bytes; at most {_LIMIT} are taken")
    body = _exactly(connection, length)
    return None if body is None else (kind, body)


def _exactly(connection: socket.socket, count: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(count - len(parts))
        if not part:
            return None
        parts += part
    return bytes(parts)
