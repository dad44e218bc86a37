"""Frames into batches in a worker: numbers, bounds, counted drops."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from sat_host import batcher, encoding, wire
from sat_host.batcher import Batcher
from sat_toolkit.core.stream_manager import StreamAction, StreamData, StreamSource, StreamType

DEADLINE = 10.0


class HostEnd:
    """The host's end of the link; `gate` closed, it does not read."""

    def __init__(self) -> None:
        self.batches: list[dict[str, Any]] = []
        self.streams: list[tuple[str, str, bool]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.arrived = threading.Condition()

    def send(self, data: bytes) -> None:
        self.gate.wait(DEADLINE)
        ((_, body),) = wire.Decoder().feed(data)
        header, frames = wire.unpack_frames(body)
        with self.arrived:
            self.batches.append({**header, "frames": json.loads(frames)})
            self.arrived.notify_all()

    def ready(self) -> bool:
        return self.gate.is_set()

    def announce(self, kind: str, stream: str, running: bool) -> None:
        self.streams.append((kind, stream, running))

    def wait_frames(self, count: int) -> None:
        with self.arrived:
            assert self.arrived.wait_for(lambda: sum(b["n"] for b in self.batches) >= count, DEADLINE)


@pytest.fixture
def host() -> HostEnd:
    return HostEnd()


@pytest.fixture
def sink(host: HostEnd) -> Iterator[Batcher]:
    made = Batcher("dev", (StreamType.CAN,), host.send, host.ready, host.announce)
    yield made
    host.gate.set()
    made.stop()


def frame(value: Any, kind: StreamType = StreamType.CAN) -> StreamData:
    return StreamData(kind, "dev", time.time(), StreamSource.SERVER, StreamAction.DATA, value)


def assert_numbered(batches: list[dict[str, Any]]) -> int:
    """Batches without gaps but for the counted; returns the number after the last frame."""
    missing = 0
    following = 0
    for batch in batches:
        missing += batch["seq"] - following
        following = batch["seq"] + batch["n"]
    assert missing == sum(batches[-1]["dropped"].values())
    return following


def test_frames_arrive_in_order_under_rising_numbers(host: HostEnd, sink: Batcher) -> None:
    sink.opened("dev")
    for number in range(1000):
        sink.data(frame({"id": number}))
    host.wait_frames(1000)
    sink.closed("dev")
    assert [f["id"] for b in host.batches for f in b["frames"]] == list(range(1000))
    assert assert_numbered(host.batches) == 1000
    assert max(b["n"] for b in host.batches) <= batcher.MAX_FRAMES
    assert host.batches[-1]["n"] == 0
    (opened, ended) = host.streams
    assert (opened[0], opened[2], ended) == ("can", True, ("can", opened[1], False))


def test_a_host_that_does_not_read_costs_the_oldest_frames_and_they_are_counted(host: HostEnd, sink: Batcher) -> None:
    sink.opened("dev")
    host.gate.clear()
    total = batcher.MAX_WAITING + 2000
    for number in range(total):
        sink.data(frame({"id": number}))
    host.gate.set()
    sink.data(frame({"id": total}))
    with host.arrived:
        assert host.arrived.wait_for(
            lambda: host.batches and host.batches[-1]["frames"][-1:] and host.batches[-1]["frames"][-1]["id"] == total,
            DEADLINE,
        )
    assert assert_numbered(host.batches) == total + 1
    assert host.batches[-1]["dropped"]["worker"] > 0


def test_a_frame_too_large_or_no_json_is_counted_and_leaves_a_gap(host: HostEnd, sink: Batcher) -> None:
    class Hostile:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    sink.opened("dev")
    for value in ({"id": 0}, {"id": 1, "data": "x" * encoding.MAX_FRAME_BYTES}, {"id": 2}, {"id": Hostile()}, {"id": 4}):
        sink.data(frame(value))
    host.wait_frames(3)
    sink.closed("dev")
    assert assert_numbered(host.batches) == 5
    assert host.batches[-1]["dropped"]["oversize"] == 1


@pytest.mark.parametrize("timestamp", [float("nan"), float("inf"), "now", None, 10**400, []])
def test_a_time_that_is_none_is_counted_and_leaves_a_gap(host: HostEnd, sink: Batcher, timestamp: Any) -> None:
    sink.opened("dev")
    sink.data(StreamData(StreamType.CAN, "dev", timestamp, StreamSource.SERVER, StreamAction.DATA, {"id": 1}))
    sink.data(frame({"id": 2}))
    host.wait_frames(1)
    sink.closed("dev")
    assert assert_numbered(host.batches) == 2
    assert host.batches[-1]["dropped"] == {"bad_timestamp": 1}


def test_an_idle_stream_still_sends_a_batch_each_second(host: HostEnd, sink: Batcher) -> None:
    sink.opened("dev")
    with host.arrived:
        assert host.arrived.wait_for(lambda: len(host.batches) >= 2, DEADLINE)
    assert {b["n"] for b in host.batches} == {0}
    sink.closed("dev")


def test_a_stream_that_was_not_declared_opens_with_its_first_frame(host: HostEnd, sink: Batcher) -> None:
    sink.opened("dev")
    sink.data(frame(b"\x01\x02", StreamType.UART))
    host.wait_frames(1)
    sink.closed("dev")
    uart = [b for b in host.batches if b["type"] == "uart"]
    assert uart[0]["frames"][0]["data"] == "0102"
    assert {kind for kind, _, _ in host.streams} == {"can", "uart"}


def test_each_start_has_a_stream_id_of_its_own(host: HostEnd, sink: Batcher) -> None:
    for _ in range(2):
        sink.opened("dev")
        sink.data(frame({"id": 1}))
        sink.closed("dev")
    assert len({stream for _, stream, running in host.streams if running}) == 2
    assert [b["seq"] for b in host.batches if b["n"]] == [0, 0]
