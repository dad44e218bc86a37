"""How a host and its workers talk over a socketpair: length-prefixed messages, no pickle. PURE.

A message is a 4-byte big-endian length of what follows, one byte of kind, and the body. JSON is one
object. FRAMES is a 4-byte length of a JSON header, the header, and frames as a JSON array or as
records: batches, whose frames the host passes on without reading them, and the blocks that a client
sends to a device.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

import orjson

from sat_bus.contract import strict_json

MAX_MESSAGE = 1_048_576
_PREFIX = struct.Struct(">IB")
_LENGTH = struct.Struct(">I")


class Kind(IntEnum):
    JSON = 0
    FRAMES = 1


_KINDS = {kind.value: kind for kind in Kind}


class WireError(Exception):
    """The peer sent what is no message; the connection is of no more use."""


def pack(message: dict[str, Any]) -> bytes:
    """`message` as JSON.

    Raises:
        WireError: it is larger than MAX_MESSAGE.
        TypeError: it holds something JSON has no form for.
    """
    return _framed(Kind.JSON, strict_json.dumps(message))


def pack_frames(header: dict[str, Any], frames: bytes | memoryview) -> bytes:
    """A batch: its header, and its frames as a JSON array or as records.

    Raises:
        WireError: it is larger than MAX_MESSAGE.
    """
    head = orjson.dumps(header)
    length = 1 + _LENGTH.size + len(head) + len(frames)
    if length > MAX_MESSAGE:
        raise WireError(f"message of {length} bytes; at most {MAX_MESSAGE} are accepted")
    return b"".join((_PREFIX.pack(length, Kind.FRAMES), _LENGTH.pack(len(head)), head, frames))


def unpack_frames(body: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the frames of a FRAMES body.

    Raises:
        WireError: the body is no batch.
    """
    try:
        (size,) = _LENGTH.unpack_from(body)
        header = orjson.loads(body[4 : 4 + size])
    except (struct.error, orjson.JSONDecodeError, RecursionError) as error:
        raise WireError(f"bad batch: {error}") from None
    if not isinstance(header, dict) or len(body) < 4 + size:
        raise WireError("bad batch: its header is no object, or cut off")
    return header, body[4 + size :]


def unpack(body: bytes) -> dict[str, Any]:
    """The object in a JSON body.

    Raises:
        WireError: it is none.
    """
    try:
        message = json.loads(body)  # exact for integers beyond 64 bits, which clients may send
    except (ValueError, RecursionError) as error:
        raise WireError(f"bad message: {error}") from None
    if not isinstance(message, dict):
        raise WireError("bad message: no object")
    return message


class Decoder:
    """Bytes in, whole messages out."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[Kind, bytes]]:
        """The messages that `data` completes.

        Raises:
            WireError: a length or kind that no message has.
        """
        self._buffer += data
        while len(self._buffer) >= _PREFIX.size:
            length, kind = _PREFIX.unpack_from(self._buffer)
            if not 1 <= length <= MAX_MESSAGE or kind not in _KINDS:
                raise WireError(f"bad prefix: length {length}, kind {kind}")
            end = 4 + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_PREFIX.size : end])
            del self._buffer[:end]
            yield _KINDS[kind], body


def _framed(kind: Kind, body: bytes) -> bytes:
    if len(body) + 1 > MAX_MESSAGE:
        raise WireError(f"message of {len(body)} bytes; at most {MAX_MESSAGE} are accepted")
    return _PREFIX.pack(len(body) + 1, kind) + body
