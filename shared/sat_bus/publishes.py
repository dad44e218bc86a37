"""Reads PUBLISH packets out of what has arrived on a connection: MQTT 3.1.1 and 5, QoS 0 and 1. PURE.

paho takes five system calls for each packet; here all that has arrived is read at once. A packet that is anything
else, not whole yet, or not as it should be ends the reading and is left to paho, which knows what to do about it.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from sat_bus.port import Inbound

_DUP_OR_RETAIN, _RETAIN = 0x09, 0x01
_QOS_0, _QOS_1 = 0x30, 0x32  # the first byte of a PUBLISH, those flags apart
_PUBACK = b"\x40\x02"
_SIZE = struct.Struct(">H")
# The properties that a PUBLISH may have in MQTT 5, but for the topic alias, which nobody has allowed the broker.
_FORMAT, _EXPIRY, _CONTENT_TYPE, _RESPONSE_TOPIC, _CORRELATION, _SUBSCRIPTION, _USER = 1, 2, 3, 8, 9, 11, 38


class Arrived(NamedTuple):
    """Messages, each with the identifiers of the subscriptions that it is for; the PUBACKs that they ask for; how many
    bytes they took."""

    messages: list[tuple[Inbound, tuple[int, ...]]]
    acks: bytes
    size: int


class _UnexpectedError(Exception):
    """The packet is not as expected."""


def read(data: bytes, now: float, *, mqtt5: bool) -> Arrived:
    """The whole PUBLISH packets that `data` begins with; they arrived at `now`."""
    messages: list[tuple[Inbound, tuple[int, ...]]] = []
    acks: list[bytes] = []
    taken = 0
    try:
        while taken < len(data):
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
            messages.append((Inbound(topic.decode(), data[at:end], retain, *answer, now), given.subscriptions))
            if ident:
                acks.append(_PUBACK + ident)
            taken = end
    except (_UnexpectedError, IndexError, struct.error, UnicodeDecodeError):
        pass
    return Arrived(messages, b"".join(acks), taken)


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
