"""Frames into batches in a worker: numbers, bounds, counted drops."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from sat_host import wire
from sat_host.worker import batcher, encoding
from sat_host.worker.batcher import Batcher
from sat_toolkit.core.frame_block import FrameBlock
from sat_toolkit.core.stream_manager import StreamAction, StreamData, StreamSource, StreamType

DEADLINE = 10.0


class HostEnd:
    """The host's end of the link; `gate` closed, it does not read."""

    def __init__(self) -> None:
        self.batches: list[dict[str, Any]] = []
        self.streams: list[tuple[str, str, bool]] = []
        self.senders: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.knocked = threading.Event()
        self.arrived = threading.Condition()

    def send(self, data: bytes) -> None:
        self.knocked.set()
        self.gate.wait(DEADLINE)
        ((_, body),) = wire.Decoder().feed(data)
        header, frames = wire.unpack_frames(body)
        with self.arrived:
            self.senders.add(threading.current_thread().name)
            self.batches.append({**header, "frames": json.loads(frames)})
            self.arrived.notify_all()

    def ready(self) -> bool:
        return self.gate.is_set()

    def announce(self, kind: str, stream: str, running: bool) -> None:
        self.streams.append((kind, stream, running))

    def wait_frames(self, count: int) -> None:
        with self.arrived:
            assert self.arrived.wait_for(
                lambda: sum(b["n"] for b in self.batches) >= count, DEADLINE
            )


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


def test_a_host_that_does_not_read_costs_the_oldest_frames_and_they_are_counted(
    host: HostEnd, sink: Batcher
) -> None:
    sink.opened("dev")
    host.gate.clear()
    total = batcher.MAX_WAITING + 2000
    for number in range(total):
        sink.data(frame({"id": number}))
    host.gate.set()
    sink.data(frame({"id": total}))
    with host.arrived:
        assert host.arrived.wait_for(
            lambda: (
                host.batches
                and host.batches[-1]["frames"][-1:]
                and host.batches[-1]["frames"][-1]["id"] == total
            ),
            DEADLINE,
        )
    assert assert_numbered(host.batches) == total + 1
    assert host.batches[-1]["dropped"]["worker"] > 0


def test_long_frames_are_bounded_by_their_bytes_before_their_number(
    host: HostEnd, sink: Batcher
) -> None:
    text, total = "x" * 65_536, 300
    sink.opened("dev")
    host.gate.clear()
    sink.data(frame("first", StreamType.UART))
    assert host.knocked.wait(DEADLINE)  # from now on all that comes waits
    for _ in range(total):
        sink.data(frame(text, StreamType.UART))
    host.gate.set()
    sink.closed("dev")
    uart = [batch for batch in host.batches if batch["type"] == "uart"]
    kept = batcher.MAX_WAITING_BYTES // (len(text) + batcher._ITEM_BYTES)
    assert uart[-1]["dropped"] == {"worker": total - kept}
    assert assert_numbered(uart) == 1 + total


def test_a_frame_too_large_or_no_json_is_counted_and_leaves_a_gap(
    host: HostEnd, sink: Batcher
) -> None:
    class Hostile:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    sink.opened("dev")
    for value in (
        {"id": 0},
        {"id": 1, "data": "x" * encoding.MAX_FRAME_BYTES},
        {"id": 2},
        {"id": Hostile()},
        {"id": 4},
    ):
        sink.data(frame(value))
    host.wait_frames(3)
    sink.closed("dev")
    assert assert_numbered(host.batches) == 5
    assert host.batches[-1]["dropped"]["oversize"] == 1


@pytest.mark.parametrize("timestamp", [float("nan"), float("inf"), "now", None, 10**400, []])
def test_a_time_that_is_none_is_counted_and_leaves_a_gap(
    host: HostEnd, sink: Batcher, timestamp: Any
) -> None:
    sink.opened("dev")
    sink.data(
        StreamData(
            StreamType.CAN, "dev", timestamp, StreamSource.SERVER, StreamAction.DATA, {"id": 1}
        )
    )
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


def test_a_stream_that_was_not_declared_opens_with_its_first_frame(
    host: HostEnd, sink: Batcher
) -> None:
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


def block(first: int, count: int) -> FrameBlock:
    return FrameBlock.pack(
        [
            {"t": 1.0, "id": number & 0x7FF, "data": f"{number:08x}"}
            for number in range(first, first + count)
        ]
    )


def numbers(host: HostEnd) -> list[int]:
    return [int(f["data"], 16) for b in host.batches for f in b["frames"]]


def test_a_block_goes_out_on_the_thread_of_who_gathered_it(host: HostEnd, sink: Batcher) -> None:
    sink.opened("dev")
    sink.block("dev", block(0, 500))
    assert numbers(host) == list(range(500))
    assert host.senders == {threading.current_thread().name}


def test_small_blocks_in_quick_succession_share_a_batch(host: HostEnd, sink: Batcher) -> None:
    sink.opened("dev")
    for number in range(200):
        sink.block("dev", block(number, 1))
    host.wait_frames(200)
    assert numbers(host) == list(range(200))
    assert len(host.batches) < 100


def test_blocks_wait_while_the_host_does_not_read_and_the_oldest_are_dropped(
    host: HostEnd, sink: Batcher
) -> None:
    sink.opened("dev")
    host.gate.clear()
    total = batcher.MAX_WAITING // 1000 * 1000 + 20_000
    for first in range(0, total, 1000):
        sink.block("dev", block(first, 1000))
    sink.lost("dev", 77, "kernel")
    sink.block("dev", block(total, 1))
    host.gate.set()
    with host.arrived:
        assert host.arrived.wait_for(lambda: numbers(host)[-1:] == [total], DEADLINE)
    assert assert_numbered(host.batches) == total + 1 + 77
    dropped = host.batches[-1]["dropped"]
    assert dropped["kernel"] == 77
    assert dropped["worker"] == total + 1 - len(numbers(host))
    assert dropped["worker"] >= 19_000


def test_a_gap_stands_where_the_driver_reported_it(host: HostEnd, sink: Batcher) -> None:
    sink.opened("dev")
    sink.block("dev", block(0, 300))
    sink.lost("dev", 5, "kernel")
    sink.block("dev", block(305, 300))
    host.wait_frames(600)
    for batch in host.batches:
        for index, text in enumerate(batch["frames"]):
            assert int(text["data"], 16) == batch["seq"] + index
    assert host.batches[-1]["dropped"] == {"kernel": 5}
