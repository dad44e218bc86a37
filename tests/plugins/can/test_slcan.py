"""The slcan lines: exact forms, and a reader that a noisy line can neither stop nor fool."""

from __future__ import annotations

from random import Random
from typing import Any

import can
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.devices.can.frames import FD_LENGTHS
from plugins.devices.can.slcan import LineReader, format_frame, parse_line


def _message(number: int, data: bytes = b"", **flags: Any) -> can.Message:
    return can.Message(arbitration_id=number, data=data, **{"is_extended_id": False, **flags})


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (_message(0x123, b"\xde\xad"), b"t1232DEAD"),
        (_message(0x1, b""), b"t0010"),
        (_message(0x18FF50E5, b"\x01", is_extended_id=True), b"T18FF50E5101"),
        (_message(0x7DF, is_remote_frame=True, dlc=8), b"r7DF8"),
        (_message(0x7DF, is_remote_frame=True, dlc=0, is_extended_id=True), b"R000007DF0"),
        (_message(0x123, bytes(12), is_fd=True), b"d1239" + b"00" * 12),
        (_message(0x123, bytes(64), is_fd=True, bitrate_switch=True), b"b123F" + b"00" * 64),
    ],
)
def test_lines(message: can.Message, line: bytes) -> None:
    assert format_frame(message) == line + b"\r"
    parsed = parse_line(line, timestamp=5.0)
    assert parsed is not None
    assert parsed.timestamp == 5.0
    assert parsed.equals(message, timestamp_delta=None)


@given(
    st.booleans(),
    st.booleans(),
    st.integers(0, 0x7FF),
    st.sampled_from(FD_LENGTHS),
    st.randoms(use_true_random=False),
)
def test_every_data_frame_survives_the_line(
    extended: bool, fd: bool, number: int, length: int, random: Random
) -> None:
    data = random.randbytes(length if fd else min(length, 8))
    message = _message(number, data, is_extended_id=extended, is_fd=fd)
    parsed = parse_line(format_frame(message)[:-1])
    assert parsed is not None
    assert parsed.equals(message, timestamp_delta=None)


def test_a_time_stamp_of_the_adapter_is_no_data() -> None:
    parsed = parse_line(b"t1232DEAD0FA0")
    assert parsed is not None
    assert bytes(parsed.data) == b"\xde\xad"


@pytest.mark.parametrize("reply", [b"", b"z", b"Z", b"V1013", b"N1234", b"F00"])
def test_replies_are_no_frames(reply: bytes) -> None:
    assert parse_line(reply) is None


@pytest.mark.parametrize(
    "line",
    [
        b"t",
        b"t123",
        b"t1232DE",
        b"t1232DEADBE",
        b"t8000",
        b"t123900",
        b"T2000000000",
        b"x1230",
        b"\xff",
        b"t12 0",
        b"T1230",
    ],
)
def test_what_is_no_line_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"slcan|length"):
        parse_line(line)


def test_the_reader_starts_behind_the_first_end_of_line() -> None:
    # The tail of a cut line may look like a frame: here an FD frame without data.
    reader = LineReader()
    assert reader.feed(b"D1230\rt1230\r", 1.0)[0].arbitration_id == 0x123
    assert reader.bad_lines == 0


def test_a_bad_line_costs_itself_only() -> None:
    reader = LineReader()
    frames = reader.feed(b"\rt1001AA\r\xff\xfet1011BB\rt1021CC\r\at1031DD\r", 1.0)
    assert [frame.arbitration_id for frame in frames] == [0x100, 0x102, 0x103]
    assert reader.bad_lines == 1


def test_a_line_that_never_ends_is_given_up_and_the_next_one_read() -> None:
    reader = LineReader()
    reader.feed(b"\r", 1.0)
    assert reader.feed(b"t" * 1000, 1.0) == []
    assert reader.feed(b"1230\rt1230\r", 1.0)[0].arbitration_id == 0x123
    assert reader.bad_lines == 1


@given(st.lists(st.binary(max_size=30), max_size=20), st.integers(1, 40))
def test_noise_never_raises_and_frames_behind_it_are_read(noise: list[bytes], size: int) -> None:
    reader = LineReader()
    stream = b"".join(noise) + b"\rt1232DEAD\r"
    frames = [
        frame
        for at in range(0, len(stream), size)
        for frame in reader.feed(stream[at : at + size], 1.0)
    ]
    assert frames
    assert format_frame(frames[-1]) == b"t1232DEAD\r"
