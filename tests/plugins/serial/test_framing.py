"""Bytes as frames and back: nothing is lost, whatever the line carries and however it is read."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.devices.serial.framing import (
    Framing,
    LineFramer,
    Piece,
    client_bytes,
    decode,
    encode,
    frame_bytes,
    message_bytes,
)


def lines_of(*chunks: bytes, max_length: int = 10) -> list[tuple[bytes, bytes | None]]:
    framer = LineFramer(max_length, 1.0)
    pieces = [
        piece for i, chunk in enumerate(chunks) for piece in framer.feed(float(i), chunk, 0.0)
    ]
    return [(piece.data, piece.eol) for piece in pieces + framer.flush()]


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([b"a\nb\r\n\nc"], [(b"a", b"\n"), (b"b", b"\r\n"), (b"", b"\n"), (b"c", b"")]),
        ([b"he", b"ll", b"o\r", b"\n"], [(b"hello", b"\r\n")]),
        ([b"a\rb\n"], [(b"a\rb", b"\n")]),
        ([b"a\r\r\n"], [(b"a\r", b"\r\n")]),
        ([b"0123456789\n"], [(b"0123456789", b"\n")]),
        ([b"0123456789\r\n"], [(b"0123456789", b"\r\n")]),
        ([b"0123456789", b"\r", b"\n"], [(b"0123456789", b"\r\n")]),
        ([b"0123456789A\n"], [(b"0123456789", b""), (b"A", b"\n")]),
        ([b"0123456789AB\n"], [(b"0123456789", b""), (b"AB", b"\n")]),
        ([b"x" * 25], [(b"x" * 10, b""), (b"x" * 10, b""), (b"x" * 5, b"")]),
        ([], []),
    ],
)
def test_lines_are_cut(chunks: list[bytes], expected: list[tuple[bytes, bytes]]) -> None:
    assert lines_of(*chunks) == expected


@given(
    st.lists(st.binary(max_size=40) | st.sampled_from([b"\r", b"\n", b"\r\n", b"abc"])),
    st.integers(1, 12),
)
def test_no_byte_is_lost_in_lines_and_none_is_too_long(
    chunks: list[bytes], max_length: int
) -> None:
    framer = Framing("lines", max_length, 1.0).framer()
    pieces = [piece for chunk in chunks for piece in framer.feed(0.0, chunk, 0.0)] + framer.flush()
    frames = [json.loads(json.dumps(piece.payload)) for piece in pieces]
    assert b"".join(frame_bytes(*frame) for frame in frames) == b"".join(chunks)
    assert all(len(piece.data) <= max_length or piece is pieces[-1] for piece in pieces)
    assert all(b"\n" not in piece.data for piece in pieces)


@given(st.binary())
def test_any_bytes_survive_as_text_or_hex(data: bytes) -> None:
    assert decode(*encode(data)) == data


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"plain text\t\r\n", ("plain text\t\r\n", "utf-8")),
        (b"\x1b[31mred\x1b[0m", ("\x1b[31mred\x1b[0m", "utf-8")),
        ("21 °C, größer, 温度".encode(), ("21 °C, größer, 温度", "utf-8")),
        (b"", ("", "utf-8")),
        (b"\x00\x01", ("0001", "hex")),
        (b"a\x7f", ("617f", "hex")),
        ("\x85".encode(), ("c285", "hex")),
        (b"\xff\xfe", ("fffe", "hex")),
        ("é".encode()[:1], ("c3", "hex")),
    ],
)
def test_text_stays_readable_and_the_rest_is_hex(data: bytes, expected: tuple[str, str]) -> None:
    assert encode(data) == expected


def test_a_piece_has_the_time_of_its_first_byte() -> None:
    framer = LineFramer(100, 1.0)
    assert framer.feed(1.0, b"slow ", 0.0) == []
    assert framer.feed(2.0, b"line\nnext\nre", 0.0) == [
        Piece(1.0, b"slow line", b"\n"),
        Piece(2.0, b"next", b"\n"),
    ]
    assert framer.feed(3.0, b"st", 0.0) == []
    assert framer.flush() == [Piece(2.0, b"rest", b"")]


def test_a_line_begun_is_sent_when_the_line_pauses() -> None:
    framer = LineFramer(100, 0.5)
    framer.feed(1.0, b"sat> ", 10.0)
    assert framer.due(10.4) == []
    framer.feed(2.0, b"x", 10.4)
    assert framer.due(10.8) == []
    assert framer.due(10.9) == [Piece(1.0, b"sat> x", b"")]
    assert framer.due(99.0) == []


def test_raw_makes_each_chunk_a_frame_without_an_end_of_line() -> None:
    framer = Framing("raw").framer()
    (piece,) = framer.feed(1.0, b"a\nb", 0.0)
    assert piece.payload == ("a\nb", {"encoding": "utf-8", "direction": "rx"})
    assert framer.due(99.0) == framer.flush() == []


@pytest.mark.parametrize(
    ("data", "metadata", "expected"),
    [
        ("help\n", None, b"help\n"),
        ({"text": "help", "newline": "crlf"}, None, b"help\r\n"),
        ({"hex": "de AD", "newline": "cr"}, None, b"\xde\xad\r"),
        ("dead", {"encoding": "hex"}, b"\xde\xad"),
        ({"t": 1.0, "data": "a", "metadata": {"encoding": "utf-8", "eol": "\n"}}, None, b"a\n"),
    ],
)
def test_what_a_client_may_send(
    data: object, metadata: dict[str, str] | None, expected: bytes
) -> None:
    assert client_bytes(data, metadata) == expected


@pytest.mark.parametrize(
    ("data", "metadata"),
    [
        (None, None),
        (7, None),
        ({}, None),
        ({"text": "a", "hex": "00"}, None),
        ({"text": 7}, None),
        ({"hex": "0"}, None),
        ({"text": "a", "newline": "lfcr"}, None),
        ({"text": "a", "newline": ["lf"]}, None),
        ("zz", {"encoding": "hex"}),
        ("a", {"encoding": "utf-16"}),
        ("a", {"eol": "b"}),
        ("\ud800", None),
    ],
)
def test_what_a_client_may_not_send(data: object, metadata: dict[str, str] | None) -> None:
    with pytest.raises(ValueError, match=r"accepted|must be|no UTF-8"):
        client_bytes(data, metadata)


def test_a_message_is_text_or_hex() -> None:
    assert message_bytes("a", None, "lf") == b"a\n"
    for text, hexadecimal in ((None, None), ("a", "00")):
        with pytest.raises(ValueError, match="exactly one"):
            message_bytes(text, hexadecimal)
