"""CAN frames to a device in packed batches: what became of each."""

from __future__ import annotations

from typing import Any

import pytest

from sat_bus.contract import messages as m
from sat_bus.contract import topics
from sat_client import Failed, Rack, Sent
from sat_toolkit import errors
from sat_toolkit.core.frame_block import FrameBlock
from tests.unit.client_site import FakeSite, until


def test_packed_frames_are_answered_one_by_one(rack: Rack, site: FakeSite) -> None:
    site.answer = lambda match, request: {
        "sent": 2,
        "failed": [{"index": 1, "reason": "no such id"}],
    }
    frames: list[dict[str, Any]] = [
        {"id": 1, "data": "00"},
        {"id": 2, "data": ""},
        {"id": 3, "rtr": True, "dlc": 4},
    ]
    assert rack.device("ecu").send_frames(frames) == Sent(2, (Failed(1, "no such id"),))
    ((header, block),) = site.packed
    assert [frame["id"] for frame in block.frames()] == [1, 2, 3]
    assert header["reply_to"] == f"sat/1/lab/reply/{rack.client}/{header['request_id']}"


@pytest.mark.parametrize(("fd", "parts"), [(False, [4096, 904]), (True, [3264, 1736])])
def test_more_frames_than_a_host_takes_at_once_go_in_parts(
    rack: Rack, site: FakeSite, fd: bool, parts: list[int]
) -> None:
    site.answer = lambda match, request: {"sent": 0, "failed": [{"index": 0, "reason": "never"}]}
    sent = rack.device("ecu").send_frames({"id": i, "data": "", "fd": fd} for i in range(5000))
    assert [len(block) for _, block in site.packed] == parts
    assert sent == Sent(0, (Failed(0, "never"), Failed(parts[0], "never")))


def test_packed_frames_may_go_without_an_answer(rack: Rack, site: FakeSite) -> None:
    block = FrameBlock.pack([{"id": 1, "data": "00"}])
    assert rack.device("ecu").send_frames(block, confirm=False) is None
    until(lambda: [header for header, _ in site.packed] == [{"n": 1, "size": 24}])


def test_frames_that_are_none_and_refusals_are_errors(rack: Rack, site: FakeSite) -> None:
    with pytest.raises(errors.BadArgs, match=r"frame 1: .*id"):
        rack.device("ecu").send_frames([{"id": 1, "data": ""}, {"data": ""}])

    def refuse_the_second(match: topics.Match, request: m.Request) -> dict[str, Any]:
        if len(site.packed) > 1:
            raise errors.Busy("the queue is full")
        return {"sent": 4096, "failed": []}

    site.answer = refuse_the_second
    with pytest.raises(errors.Busy) as caught:
        rack.device("ecu").send_frames({"id": 1, "data": ""} for _ in range(5000))
    assert caught.value.__notes__ == ["4096 of 5000 frames were in the batches before"]
