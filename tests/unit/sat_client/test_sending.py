"""Frames on their way to a device: packed, in parts, and each that failed by its place among all."""

from __future__ import annotations

import pytest

from sat_bus.contract import bin_batch
from sat_client.requests import Offline
from sat_client.sending import packed, send_packed
from sat_toolkit.core.frame_block import FrameBlock
from sat_toolkit.errors import BadArgs
from tests.unit.fake_bus import FakeBus

FRAMES = [{"id": 1, "data": "00"}, {"id": 2, "data": "01"}]


def test_frames_become_a_block_and_a_block_stays_one() -> None:
    block = packed(FRAMES)
    assert len(block) == 2
    assert packed(block) is block
    with pytest.raises(BadArgs, match="frame 1"):
        packed([FRAMES[0], {"data": ""}])


def test_without_answers_frames_are_only_published() -> None:
    bus = FakeBus()
    assert send_packed(bus, None, "x/y", packed(FRAMES), host="bench", timeout=1.0) is None
    header, block = bin_batch.decode(bus.sent[0].payload)
    assert "reply_to" not in header
    assert len(block) == 2


def test_what_the_broker_does_not_take_is_said_with_what_went_before() -> None:
    bus = FakeBus()
    bus.up = False
    many = FrameBlock.pack({"id": 1, "data": ""} for _ in range(5000))
    with pytest.raises(Offline, match="this batch was not sent") as caught:
        send_packed(bus, None, "x/y", many, host="bench", timeout=1.0)
    assert caught.value.__notes__ == ["0 of 5000 frames were in the batches before"]
