"""Batches in both forms: what they say of themselves, and their frames."""

from __future__ import annotations

from typing import Any

import pytest

from sat_bus.contract import bin_batch, strict_json
from sat_client.batches import read_batch, read_head
from sat_toolkit.core.frame_block import FrameBlock
from sat_toolkit.errors import BadRequest

HEADER = {
    "stream": "s1",
    "boot": "b1",
    "seq": 5,
    "t0": 1.0,
    "dropped": {"kernel": 2},
    "channel": "ecu",
}
FRAMES: list[dict[str, Any]] = [
    {"t": 1.0, "id": 5, "data": "00"},
    {"t": 2.0, "id": 6, "data": "ff"},
]


def payload(form: str, **more: Any) -> bytes:
    if form == "bin":
        return bin_batch.encode({**HEADER, **more}, FrameBlock.pack(FRAMES))
    return strict_json.dumps({**HEADER, "n": 2, **more, "frames": FRAMES})


@pytest.mark.parametrize("form", ["json", "bin"])
def test_a_batch_in_either_form(form: str) -> None:
    batch = read_batch(form, payload(form))
    assert (batch.form, batch.stream, batch.boot, batch.seq, batch.n) == (form, "s1", "b1", 5, 2)
    assert [frame["id"] for frame in batch.frames] == [5, 6]
    assert len(batch.block) == 2
    assert batch.numpy()["can_id"].tolist() == [5, 6]
    head = read_head(form, payload(form))
    assert head == batch.head
    assert (head.seq, head.n, head.dropped) == (5, 2, {"kernel": 2})


@pytest.mark.parametrize("form", ["json", "bin"])
def test_a_batch_without_its_first_frames(form: str) -> None:
    batch = read_batch(form, payload(form))
    assert batch.without_first(0) is batch
    rest = batch.without_first(1)
    assert (rest.seq, rest.n, rest.t0) == (6, 1, 2.0)
    assert [frame["id"] for frame in rest.frames] == [6]


def test_a_batch_that_does_not_add_up_is_refused() -> None:
    with pytest.raises(BadRequest, match="n is 3, and there are 2 frames"):
        read_batch("json", payload("json", n=3))
    for wrong in (b"garbage", b"{}", b"[]", payload("bin")[:20]):
        for form in ("json", "bin"):
            with pytest.raises(BadRequest):
                read_batch(form, wrong)
            with pytest.raises(BadRequest):
                read_head(form, wrong)


def test_a_head_is_found_wherever_the_frames_stand() -> None:
    odd = strict_json.dumps({"frames": FRAMES, **HEADER, "n": 2})
    assert read_head("json", odd).seq == 5
