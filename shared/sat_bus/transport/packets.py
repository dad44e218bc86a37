"""PUBLISH and PUBACK packets of MQTT 3.1.1 and 5, up to QoS 1: the path of frames, commands and
replies. PURE.

paho takes five system calls for each packet that comes, and a tenth of a millisecond for a PUBLISH
or PUBACK; here all that has arrived is read at once. A packet that is anything else, not whole yet,
or not as it should be ends the reading and is left to paho, which knows what to do about it.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from sat_bus.transport.bus import Inbound

_DUP_OR_RETAIN, _RETAIN = 0x09, 0x01
_QOS_0, _QOS_1 = 0x30, 0x32  # the first byte of a PUBLISH, those flags apart
_ACK = 0x40
_PUBACK = bytes((_ACK, 2))
_SIZE = struct.Struct(">H")
# The properties that a PUBLISH may have in MQTT 5, but for the topic alias, which nobody has
# allowed the broker.
_FORMAT, _EXPIRY, _CONTENT_TYPE, _RESPONSE_TOPIC, _CORRELATION, _SUBSCRIPTION, _USER = (
    1,
    2,
    3,
    8,
    9,
    11,
    38,
)


class Arrived(NamedTuple):
    """What was read.

    Attributes:
        messages: each with the identifiers of the subscriptions that it is for.
        acks: the PUBACKs that they ask for.
        acked: the packet identifiers of ours that were acknowledged, each with its reason code.
        size: how many bytes all that took.
    """

    messages: list[tuple[Inbound, tuple[int, ...]]]
    acks: bytes
    acked: list[tuple[int, int]]
    size: int


class _UnexpectedError(Exception):
    """The packet is not as expected."""


def read(data: bytes, now: float, *, mqtt5: bool) -> Arrived:
    """The whole packets that `data` begins with; they arrived at `now`."""
    messages: list[tuple[Inbound, tuple[int, ...]]] = []
    acks: list[bytes] = []
    acked: list[tuple[int, int]] = []
    taken = 0
    try:
        while taken < len(data):
            if data[taken] == _ACK:
                size = data[taken + 1]
                if not 2 <= size < 0x80 or taken + 2 + size > len(data):
                    break
                acked.append(puback(data[taken + 2 : taken + 2 + size]))
                taken += 2 + size
                continue
            kind = data[taken] & ~_DUP_OR_RETAIN
            if kind not in (_QOS_0, _QOS_1):
                break
            length, at = _varint(data, taken + 1)
            end = at + length
            if end > len(data):
                break
            topic, at = _bytes(data, at)
            ident = b""
            if kind == _QOS_1:
                ident, at = data[at : at + 2], at + 2
            given, at = _properties(data, at) if mqtt5 else (_NONE, at)
            if at > end or not topic:
                break
            retain = bool(data[taken] & _RETAIN)
            answer = given.response_topic, given.correlation, given.trace
            messages.append(
                (Inbound(topic.decode(), data[at:end], retain, *answer, now), given.subscriptions)
            )
            if ident:
                acks.append(_PUBACK + ident)
            taken = end
    except (_UnexpectedError, IndexError, struct.error, UnicodeDecodeError):
        pass
    return Arrived(messages, b"".join(acks), acked, taken)


def puback(body: bytes) -> tuple[int, int]:
    """The packet identifier and the reason code of a PUBACK, whose fixed header is left out.

    Raises:
        struct.error: it is too short.
    """
    return _SIZE.unpack_from(body)[0], body[2] if len(body) > 2 else 0


def publish(
    topic: str, payload: bytes, ident: int, *, retain: bool = False, properties: bytes | None = None
) -> bytes:
    """A PUBLISH of QoS 1. `properties` are those of MQTT 5, None makes one of 3.1.1."""
    name = topic.encode()
    head = _SIZE.pack(len(name)) + name + _SIZE.pack(ident)
    if properties is not None:
        head += _as_varint(len(properties)) + properties
    first = _QOS_1 | _RETAIN if retain else _QOS_1
    return b"".join((bytes((first,)), _as_varint(len(head) + len(payload)), head, payload))


def properties(
    response_topic: str | None,
    correlation: bytes | None,
    expiry_s: int | None,
    traceparent: str | None,
) -> bytes:
    """What a PUBLISH of MQTT 5 may say beside its payload."""
    if (response_topic, correlation, expiry_s, traceparent) == (None, None, None, None):
        return b""
    given = b""
    if response_topic is not None:
        given += bytes((_RESPONSE_TOPIC,)) + _sized(response_topic.encode())
    if correlation is not None:
        given += bytes((_CORRELATION,)) + _sized(correlation)
    if expiry_s is not None:
        given += bytes((_EXPIRY,)) + expiry_s.to_bytes(4, "big")
    if traceparent is not None:
        given += bytes((_USER,)) + _sized(b"traceparent") + _sized(traceparent.encode())
    return given


class _Given(NamedTuple):
    """What the properties of a message say."""

    response_topic: str | None = None
    correlation: bytes | None = None
    trace: str | None = None
    subscriptions: tuple[int, ...] = ()


_NONE = _Given()


def _properties(data: bytes, at: int) -> tuple[_Given, int]:
    length, at = _varint(data, at)
    end = at + length
    response_topic = correlation = trace = None
    subscriptions: list[int] = []
    while at < end:
        kind, at = data[at], at + 1
        if kind == _SUBSCRIPTION:
            number, at = _varint(data, at)
            subscriptions.append(number)
        elif kind == _RESPONSE_TOPIC:
            text, at = _bytes(data, at)
            response_topic = text.decode()
        elif kind == _CORRELATION:
            correlation, at = _bytes(data, at)
        elif kind == _USER:
            name, at = _bytes(data, at)
            value, at = _bytes(data, at)
            trace = value.decode() if name == b"traceparent" else trace
        elif kind == _CONTENT_TYPE:
            _, at = _bytes(data, at)
        elif kind == _EXPIRY:
            at += 4
        elif kind == _FORMAT:
            at += 1
        else:
            raise _UnexpectedError
    if at != end:
        raise _UnexpectedError
    return _Given(response_topic, correlation, trace, tuple(subscriptions)), at


def _bytes(data: bytes, at: int) -> tuple[bytes, int]:
    """What stands behind its length of two bytes, and where the next begins."""
    (size,) = _SIZE.unpack_from(data, at)
    end = at + 2 + size
    return data[at + 2 : end], end


def _sized(data: bytes) -> bytes:
    return _SIZE.pack(len(data)) + data


def _as_varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of one to four bytes, and where the next begins."""
    byte = data[at]
    if byte < 0x80:
        return byte, at + 1
    number, shift = byte & 0x7F, 7
    while byte & 0x80:
        if shift > 21:
            raise _UnexpectedError
        at += 1
        byte = data[at]
        number |= (byte & 0x7F) << shift
        shift += 7
    return number, at + 1
