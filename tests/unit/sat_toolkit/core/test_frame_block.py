"""CAN frames as records and back, and the bin batches that carry them."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sat_bus.contract import bin_batch
from sat_toolkit.core.frame_block import CLASSIC, FD, FrameBlock
from sat_toolkit.errors import BadRequest

CLASSIC_FRAME = {"t": 1_700_000_000.5, "id": 0x123, "data": "deadbeef"}
FD_FRAME = {
    "t": 1_700_000_001.25,
    "id": 0x1ABCDEF,
    "ext": True,
    "fd": True,
    "brs": True,
    "data": "00" * 64,
}
REMOTE_FRAME = {"t": 0.0, "id": 5, "rtr": True, "dlc": 8, "data": ""}

frames = st.builds(
    lambda i, ext, err, tx, data, sec, millis: {
        "t": sec + millis / 1000,
        "id": i if ext else i & 0x7FF,
        **({"ext": True} if ext else {}),
        **({"err": True} if err else {}),
        **({"tx": True} if tx else {}),
        "data": data.hex(),
    },
    st.integers(0, 0x1FFF_FFFF),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.binary(max_size=8),
    st.integers(0, 2**31),
    st.integers(0, 999),
)


def test_a_record_lies_as_it_is_written_down() -> None:
    block = FrameBlock.pack([{**CLASSIC_FRAME, "ext": True, "tx": True}])
    assert bytes(block.records) == struct.pack(
        "<IIIBBBB8s",
        1_700_000_000,
        500_000_000,
        0x8000_0123,
        4,
        0x80,
        0,
        0,
        bytes.fromhex("deadbeef"),
    )


def test_one_can_fd_frame_makes_all_records_long() -> None:
    block = FrameBlock.pack([CLASSIC_FRAME, FD_FRAME])
    assert (block.size, len(block)) == (FD, 2)
    assert list(block.frames()) == [CLASSIC_FRAME, FD_FRAME]
    assert FrameBlock.pack([CLASSIC_FRAME]).size == CLASSIC


@settings(max_examples=30)
@given(st.lists(frames, max_size=20))
def test_frames_come_back_as_they_were(given_frames: list[dict[str, Any]]) -> None:
    block = FrameBlock.pack(given_frames)
    times = [frame.pop("t") for frame in given_frames]
    for unpacked in (list(block.frames()), [json.loads(text) for text in block.json_frames()]):
        assert [frame.pop("t") for frame in unpacked] == pytest.approx(times, abs=1e-6)
        assert unpacked == given_frames
    assert [t for _, t in block.stamps()] == pytest.approx(times, abs=1e-6)


def test_a_remote_frame_keeps_its_dlc() -> None:
    assert list(FrameBlock.pack([REMOTE_FRAME]).frames()) == [REMOTE_FRAME]


def test_times_in_json_are_exact_to_the_nanosecond() -> None:
    block = FrameBlock(struct.pack("<IIIBBBB8s", 1_700_000_000, 7, 1, 0, 0, 0, 0, b""))
    assert block.json_frames()[0].startswith(b'{"t":1700000000.000000007,')


NO_FRAMES: list[dict[str, Any]] = [
    {"data": ""},
    {"id": -1},
    {"id": "x"},
    {"id": 1 << 29},
    {"id": 1, "data": "00" * 9},
    {"id": 1, "fd": True, "data": "00" * 65},
    {"id": 1, "data": "xyz"},
    {"id": 1, "data": 5.5},
    {"id": 1, "t": -1.0},
    {"id": 1, "t": 2.0**33},
]


@pytest.mark.parametrize("frame", NO_FRAMES)
def test_what_is_no_frame_is_refused(frame: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="frame 0"):
        FrameBlock.pack([frame])


def test_a_block_of_no_whole_records_is_refused() -> None:
    with pytest.raises(ValueError, match="whole number"):
        FrameBlock(b"0" * 25)
    with pytest.raises(ValueError, match="24 or 80"):
        FrameBlock(b"0" * 16, 16)


def test_a_slice_is_a_block() -> None:
    block = FrameBlock.pack([{"t": float(i), "id": i, "data": ""} for i in range(10)])
    assert [f["id"] for f in block[3:5].frames()] == [3, 4]
    assert [f["id"] for f in block.pick([0, 9]).frames()] == [0, 9]
    assert block[3:5].t0 == 3.0


@settings(max_examples=30)
@given(st.lists(frames, max_size=5))
def test_a_batch_comes_back_as_it_was(given_frames: list[dict[str, Any]]) -> None:
    block = FrameBlock.pack(given_frames)
    payload = bin_batch.encode({"stream": "ä", "seq": 7}, block)
    header, decoded = bin_batch.decode(payload)
    assert header == {"stream": "ä", "seq": 7, "n": len(given_frames), "size": block.size}
    assert bytes(decoded.records) == block.records
    assert (len(payload) - len(block.records)) % 8 == 0


GOOD = bin_batch.encode({"seq": 0}, FrameBlock.pack([CLASSIC_FRAME]))


@pytest.mark.parametrize(
    "payload",
    [b"", b"SAT", b"XATF" + GOOD[4:], GOOD[:4] + b"\x02" + GOOD[5:], GOOD[:-1], GOOD + b"\0" * 24,
     GOOD[:6] + b"\xff\xff" + GOOD[8:],
     GOOD.replace(b'"n":1', b'"n":2'), GOOD.replace(b'"size":24', b'"size":16'), GOOD.replace(b'{"seq"', b'["seq"')],
)  # fmt: skip
def test_what_is_no_batch_is_refused(payload: bytes) -> None:
    with pytest.raises(BadRequest):
        bin_batch.decode(payload)


@given(st.binary(max_size=200))
def test_no_payload_raises_anything_else(payload: bytes) -> None:
    for candidate in (payload, GOOD[:8] + payload, GOOD[: len(GOOD) - len(payload) % len(GOOD)]):
        try:
            bin_batch.decode(candidate)
        except BadRequest:
            continue
