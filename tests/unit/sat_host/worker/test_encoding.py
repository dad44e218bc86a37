"""What drivers broadcast, as it travels."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sat_host.worker.encoding import (
    MAX_BYTES,
    MAX_FRAME_BYTES,
    Part,
    Run,
    empty,
    encode,
    frame_of,
    header_text,
    run_of_block,
)
from sat_toolkit.core.frame_block import FrameBlock
from sat_toolkit.core.stream_manager import StreamAction, StreamData, StreamSource, StreamType


def item(
    data: Any, kind: StreamType = StreamType.CAN, t: Any = 1.5, metadata: Any = None
) -> StreamData:
    return StreamData(kind, "dev", t, StreamSource.SERVER, StreamAction.DATA, data, metadata)


@pytest.mark.parametrize(
    ("given", "frame"),
    [
        (item({"id": 1, "data": b"\x01"}), {"t": 1.5, "id": 1, "data": "01"}),
        (item({"data": "x"}), {"t": 1.5, "data": {"data": "x"}}),
        (item([1]), {"t": 1.5, "data": [1]}),
        (item({"id": 1}, StreamType.CUSTOM), {"t": 1.5, "data": {"id": 1}}),
        (
            item("x", StreamType.UART, metadata={"a": (1,)}),
            {"t": 1.5, "data": "x", "metadata": {"a": [1]}},
        ),
    ],
)
def test_a_can_frame_is_flat_and_anything_else_is_not(
    given: StreamData, frame: dict[str, Any]
) -> None:
    assert frame_of(given) == frame


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        (item({"id": 1}, t="now"), "bad_timestamp"),
        (item({"id": 1, "data": "x" * MAX_FRAME_BYTES}), "oversize"),
        (item({"id": 1}, t=2**70), "not_json"),
        (item({"id": -1}), "no_can_frame"),
        (item({"id": 1, "data": "00"}), ""),
    ],
)
def test_what_cannot_travel_is_named_by_the_cause_of_its_loss(
    given: StreamData, cause: str
) -> None:
    text, block, problem = encode(given, ("json", "bin"))
    assert problem == cause
    assert (block is None) == bool(cause)
    assert bool(text) == (not cause)


def test_a_frame_has_no_record_where_none_is_sent() -> None:
    assert encode(item({"id": -1}), ("json",))[1:] == (None, "")


def test_a_run_is_parted_where_it_would_be_too_large() -> None:
    size = MAX_BYTES // 2 - 10
    run = Run(3, ("json",), [b'"%s"' % (b"x" * size)] * 3, [1.0, 2.0, 3.0])
    parts = list(run.parts("json"))
    assert [(p.start, p.n, p.t0, p.size) for p in parts] == [(0, 2, 1.0, None), (2, 1, 3.0, None)]
    assert sum(len(json.loads(bytes(part.payload))) for part in parts) == 3


def test_records_are_parted_at_whole_records() -> None:
    count = MAX_BYTES // 24 + 1
    block = FrameBlock.pack([{"t": float(n), "id": 1} for n in range(count)])
    parts = list(run_of_block(block, ("bin",)).parts("bin"))
    assert [(p.start, p.n, p.t0, p.size) for p in parts] == [
        (0, count - 1, 0.0, 24),
        (count - 1, 1, float(count - 1), 24),
    ]
    assert b"".join(bytes(part.payload) for part in parts) == block.records


def test_the_times_of_a_block_are_in_its_records() -> None:
    block = FrameBlock.pack([{"t": 7.25, "id": 1}])
    (part,) = run_of_block(block, ("json",)).parts("json")
    assert (part.t0, part.n) == (7.25, 1)
    assert run_of_block(block, ("bin",)).texts == []


def test_a_header_says_what_is_there_and_no_more() -> None:
    part = Part(2, 3, 1.5, b"", 24)
    assert json.loads(header_text("r1", "can0", 9, part, 4) + b"}") == {
        "stream": "r1", "seq": 9, "n": 3, "t0": 1.5, "channel": "can0", "thinned": 4, "size": 24,
    }  # fmt: skip
    assert header_text("r1", "can0", 9, Part(0, 1, 2.0, b"[]"), 0) == (
        b'{"stream":"r1","seq":9,"n":1,"t0":2.0,"channel":"can0"'
    )


def test_an_empty_batch_has_the_form_of_its_stream() -> None:
    assert empty("json", 2.0) == Part(0, 0, 2.0, b"[]", None)
    assert empty("bin", 2.0) == Part(0, 0, 2.0, b"", 24)
