"""The messages between a host and its workers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sat_host import wire
from sat_host.wire import Decoder, Kind, WireError


@given(
    st.lists(st.dictionaries(st.text(max_size=5), st.integers(-(2**70), 2**70)), max_size=5),
    st.integers(1, 40),
)
def test_messages_survive_any_cutting_of_the_byte_stream(
    messages: list[dict[str, int]], size: int
) -> None:
    data = b"".join(wire.pack(message) for message in messages)
    decoder, received = Decoder(), []
    for start in range(0, len(data), size):
        received += [wire.unpack(body) for _, body in decoder.feed(data[start : start + size])]
    assert received == messages


def test_a_batch_keeps_its_frames_unread() -> None:
    ((kind, body),) = Decoder().feed(wire.pack_frames({"seq": 3}, b'[{"id":1}]'))
    assert kind is Kind.FRAMES
    assert wire.unpack_frames(body) == ({"seq": 3}, b'[{"id":1}]')


@pytest.mark.parametrize(
    "data", [b"\x00\x00\x00\x00\x00", b"\xff\xff\xff\xff\x00", b"\x00\x00\x00\x02\x09{"]
)
def test_a_prefix_that_no_message_has_is_refused(data: bytes) -> None:
    with pytest.raises(WireError, match="bad prefix"):
        list(Decoder().feed(data))


@pytest.mark.parametrize("body", [b"", b"[1]", b"{", b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(WireError):
        wire.unpack(body)


@pytest.mark.parametrize("body", [b"", b"\x00\x00\x00\x09{}", b"\x00\x00\x00\x01["])
def test_a_body_that_is_no_batch_is_refused(body: bytes) -> None:
    with pytest.raises(WireError, match="bad batch"):
        wire.unpack_frames(body)


def test_what_is_too_large_is_refused_by_the_sender() -> None:
    with pytest.raises(WireError, match="at most"):
        wire.pack({"text": "x" * wire.MAX_MESSAGE})
