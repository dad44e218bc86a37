"""PUBLISH and PUBACK packets out of a chunk of the stream, and what is left to paho."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sat_bus.transport import packets
from sat_bus.transport.bus import Inbound


def sized(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def varint(number: int) -> bytes:
    more = number >> 7
    return bytes([number & 0x7F | (0x80 if more else 0)]) + (varint(more) if more else b"")


def packet(
    topic: bytes,
    payload: bytes,
    *,
    first: int = 0x32,
    ident: int = 1,
    properties: bytes | None = None,
) -> bytes:
    body = sized(topic) + (struct.pack(">H", ident) if first & 0x06 else b"")
    if properties is not None:
        body += varint(len(properties)) + properties
    return bytes([first]) + varint(len(body + payload)) + body + payload


def test_reads_what_is_whole_and_begins_the_chunk() -> None:
    data = (
        packet(b"a/b", b"1", ident=7)
        + packet(b"c", b"", first=0x31)
        + packet(b"d", b"x" * 300, first=0x3B, ident=8)
    )
    arrived = packets.read(data + b"\xd0\x00" + packet(b"later", b""), 5.0, mqtt5=False)
    assert arrived.messages == [
        (Inbound("a/b", b"1"), ()),
        (Inbound("c", b"", retain=True), ()),
        (Inbound("d", b"x" * 300, retain=True), ()),
    ]
    assert arrived.acks == b"\x40\x02\x00\x07\x40\x02\x00\x08"
    assert arrived.size == len(data)
    assert {inbound.arrived for inbound, _ in arrived.messages} == {5.0}


def test_reads_the_properties_of_mqtt_5() -> None:
    properties = b"".join((
        b"\x01\x01", b"\x02\x00\x00\x00\x09", b"\x03", sized(b"text"),
        b"\x08", sized(b"reply/x"), b"\x09", sized(b"\0\1"), b"\x0b\x05", b"\x0b\x80\x01",
        b"\x26", sized(b"traceparent"), sized(b"00-1"), b"\x26", sized(b"k"), sized(b"v"),
    ))  # fmt: skip
    arrived = packets.read(packet(b"t", b"{}", properties=properties), 0.0, mqtt5=True)
    expected = Inbound(
        "t", b"{}", response_topic="reply/x", correlation=b"\0\1", traceparent="00-1"
    )
    assert arrived.messages == [(expected, (5, 128))]


def test_reads_what_acknowledges_ours_between_messages() -> None:
    acks = b"\x40\x02\x12\x34", b"\x40\x03\x00\x02\x10", b"\x40\x04\x00\x03\x87\x00"
    data = acks[0] + packet(b"a", b"1", properties=b"") + acks[1] + acks[2]
    arrived = packets.read(data, 0.0, mqtt5=True)
    assert arrived.acked == [(0x1234, 0), (2, 0x10), (3, 0x87)]
    assert (len(arrived.messages), arrived.size) == (1, len(data))


@pytest.mark.parametrize("strange", [
    b"\x40\x02\x00",
    b"\x40\x01\x00\x00",
    b"\x40\x82\x00\x00\x01",
    b"\x40",
    packet(b"t", b"", first=0x34),
    packet(b"t", b"", first=0x36),
    packet(b"\xff", b""),
    packet(b"", b""),
    b"\x32\x05\x00\x09to\x00",
    b"\x32\xff\xff\xff\xff\x01",
    b"\x32",
    b"",
])  # fmt: skip
def test_leaves_the_rest_to_paho(strange: bytes) -> None:
    good = packet(b"a", b"1")
    arrived = packets.read(good + strange, 0.0, mqtt5=False)
    assert (len(arrived.messages), arrived.acks, arrived.size) == (
        1,
        b"\x40\x02\x00\x01",
        len(good),
    )


@pytest.mark.parametrize("properties", [
    b"\x23\x00\x01",
    b"\x7f",
    b"\x02\x00",
    b"\x08\x00\x09x",
    b"\x0b\xff\xff\xff\xff\x01",
    b"\x08" + sized(b"\xff"),
])  # fmt: skip
def test_leaves_strange_properties_to_paho(properties: bytes) -> None:
    data = packet(b"t", b"payload", properties=properties)
    assert packets.read(data, 0.0, mqtt5=True) == ([], b"", [], 0)


@given(
    st.lists(
        st.tuples(st.text("abc/\u00e4", min_size=1), st.binary(max_size=200), st.booleans()),
        max_size=5,
    ),
    st.data(),
)
def test_a_chunk_that_ends_anywhere_gives_the_packets_before_its_end(
    messages: list[tuple[str, bytes, bool]], data: st.DataObject
) -> None:
    whole = [
        packet(t.encode(), p, first=0x32 if q else 0x30, properties=b"") for t, p, q in messages
    ]
    stream = b"".join(whole)
    end = data.draw(st.integers(0, len(stream)))
    arrived = packets.read(stream[:end], 0.0, mqtt5=True)
    assert [(inbound.topic, inbound.payload) for inbound, _ in arrived.messages] == [
        (topic, payload) for topic, payload, _ in messages[: len(arrived.messages)]
    ]
    assert arrived.size == sum(len(one) for one in whole[: len(arrived.messages)])
    assert arrived.size + len((*whole, b"")[len(arrived.messages)]) > end or arrived.size == end


@given(st.binary(max_size=60), st.booleans())
def test_takes_no_more_than_there_is(data: bytes, mqtt5: bool) -> None:
    assert packets.read(data, 0.0, mqtt5=mqtt5).size <= len(data)


@given(
    st.text("abc/\u00e4", min_size=1),
    st.binary(max_size=20_000),
    st.booleans(),
    st.integers(1, 65_535),
    st.none() | st.text("r/", min_size=1),
    st.none() | st.binary(max_size=200),
    st.none() | st.integers(1, 1 << 31),
    st.none() | st.just("00-1"),
)
def test_what_is_made_is_read_again(
    topic: str,
    payload: bytes,
    retain: bool,
    ident: int,
    response_topic: str | None,
    correlation: bytes | None,
    expiry_s: int | None,
    traceparent: str | None,
) -> None:
    properties = packets.properties(response_topic, correlation, expiry_s, traceparent)
    packet = packets.publish(topic, payload, ident, retain=retain, properties=properties)
    arrived = packets.read(packet, 0.0, mqtt5=True)
    assert arrived.messages == [
        (Inbound(topic, payload, retain, response_topic, correlation, traceparent), ())
    ]
    assert (arrived.acks[2:], arrived.size) == (struct.pack(">H", ident), len(packet))
    assert packets.read(packets.publish(topic, payload, ident), 0.0, mqtt5=False).messages == [
        (Inbound(topic, payload), ())
    ]
