"""Frames into batches in a worker: numbers, bounds, counted drops."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sat_host.delivery import Delivery, DeliveryChanges
from sat_host.wire_messages import Acquiring, BatchHeader, StreamChanged
from sat_host.worker import batcher, encoding
from sat_host.worker.batcher import Batcher
from sat_toolkit.core.frame_block import FrameBlock
from sat_toolkit.core.stream_manager import StreamAction, StreamData, StreamSource, StreamType

DEADLINE = 10.0


class HostEnd:
    """The way to the host, and what has come over it; `gate` closed, the host does not read."""

    def __init__(self) -> None:
        self.batches: list[dict[str, Any]] = []
        self.headers: list[BatchHeader] = []
        self.records: list[bytes] = []
        self.told: list[Acquiring | StreamChanged] = []
        self.senders: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.knocked = threading.Event()
        self.arrived = threading.Condition()

    def send_batch(self, header: BatchHeader, frames: bytes | memoryview) -> None:
        self.knocked.set()
        self.gate.wait(DEADLINE)
        text = json.loads(header.text + b"}")
        with self.arrived:
            self.senders.add(threading.current_thread().name)
            self.headers.append(header)
            self.records.append(bytes(frames))
            read = json.loads(bytes(frames)) if header.form == "json" else []
            self.batches.append({**text, "dropped": header.dropped, "frames": read})
            self.arrived.notify_all()

    def ready(self) -> bool:
        return self.gate.is_set()

    def send(self, message: Acquiring | StreamChanged) -> None:
        with self.arrived:
            self.told.append(message)
            self.arrived.notify_all()

    @property
    def streams(self) -> list[StreamChanged]:
        return [message for message in self.told if isinstance(message, StreamChanged)]

    def wait_for(self, condition: Callable[[], object]) -> None:
        with self.arrived:
            assert self.arrived.wait_for(lambda: bool(condition()), DEADLINE)

    def wait_frames(self, count: int) -> None:
        self.wait_for(lambda: sum(b["n"] for b in self.batches) >= count)


@pytest.fixture
def host() -> HostEnd:
    return HostEnd()


@pytest.fixture
def make(host: HostEnd) -> Iterator[Callable[[Delivery], Batcher]]:
    made: list[Batcher] = []

    def make(delivery: Delivery) -> Batcher:
        made.append(Batcher("dev", (StreamType.CAN,), host, delivery))
        return made[-1]

    yield make
    host.gate.set()
    for batcher_made in made:
        batcher_made.stop()


@pytest.fixture
def sink(make: Callable[[Delivery], Batcher]) -> Batcher:
    return make(Delivery())


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
    run_id = host.headers[0].run_id
    assert host.told == [
        Acquiring(True),
        StreamChanged("can", run_id, running=True),
        StreamChanged("can", run_id, running=False),
        Acquiring(False),
    ]
    assert {(h.kind, h.form, h.run_id) for h in host.headers} == {("can", "json", run_id)}
    assert {(b["stream"], b["channel"]) for b in host.batches} == {(run_id, "dev")}
    assert [h.n for h in host.headers] == [b["n"] for b in host.batches]


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
    heard = zip(host.headers, host.batches, strict=True)
    uart = [batch for header, batch in heard if header.kind == "uart"]
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
    host.wait_for(lambda: len(host.batches) >= 2)
    assert {b["n"] for b in host.batches} == {0}
    sink.closed("dev")


def test_a_stream_that_was_not_declared_opens_with_its_first_frame(
    host: HostEnd, sink: Batcher
) -> None:
    sink.opened("dev")
    sink.data(frame(b"\x01\x02", StreamType.UART))
    host.wait_frames(1)
    sink.closed("dev")
    uart = [b for b, h in zip(host.batches, host.headers, strict=True) if h.kind == "uart"]
    assert uart[0]["frames"][0]["data"] == "0102"
    assert {stream.kind for stream in host.streams} == {"can", "uart"}


def test_each_start_has_a_stream_id_of_its_own(host: HostEnd, sink: Batcher) -> None:
    for _ in range(2):
        sink.opened("dev")
        sink.data(frame({"id": 1}))
        sink.closed("dev")
    assert len({stream.run_id for stream in host.streams if stream.running}) == 2
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
    host.wait_for(lambda: numbers(host)[-1:] == [total])
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


def test_a_stream_that_the_driver_ends_is_said_to_have_ended_by_itself(
    host: HostEnd, sink: Batcher
) -> None:
    sink.opened("dev")
    driver = threading.Thread(target=sink.closed, args=("dev",))
    driver.start()
    driver.join(DEADLINE)
    assert [(s.running, s.by_itself) for s in host.streams] == [(True, False), (False, True)]


def test_both_forms_have_the_same_numbers_and_bin_its_record_size(
    host: HostEnd, make: Callable[[Delivery], Batcher]
) -> None:
    sink = make(Delivery(("json", "bin")))
    sink.opened("dev")
    sink.block("dev", block(0, 300))
    sink.data(frame({"id": 1, "data": "00"}))
    host.wait_for(lambda: sum(b["n"] for b in host.batches) >= 602)
    sink.closed("dev")
    by_form = {
        form: [
            (b["seq"], b["n"], b.get("size"))
            for b, h in zip(host.batches, host.headers, strict=True)
            if h.form == form and b["n"]
        ]
        for form in ("json", "bin")
    }
    assert by_form["json"] == [(0, 300, None), (300, 1, None)]
    assert by_form["bin"] == [(0, 300, 24), (300, 1, 24)]
    assert [len(r) for r, h in zip(host.records, host.headers, strict=True) if h.form == "bin"] == [
        300 * 24,
        24,
        0,
    ]


def test_a_record_of_another_size_begins_a_batch_of_its_own(
    host: HostEnd, make: Callable[[Delivery], Batcher]
) -> None:
    sink = make(Delivery(("bin",)))
    sink.opened("dev")
    for fd in (False, False, True, False):
        sink.data(frame({"id": 1, "fd": fd, "data": ""}))
    host.wait_frames(4)
    sink.closed("dev")
    assert [(b["seq"], b["n"], b["size"]) for b in host.batches if b["n"]] == [
        (0, 2, 24),
        (2, 1, 80),
        (3, 1, 24),
    ]


def test_a_batch_that_would_be_too_large_is_parted(host: HostEnd, sink: Batcher) -> None:
    sink.opened("dev")
    for number in range(5):
        sink.data(frame({"id": number, "data": "x" * 30_000}))
    host.wait_frames(5)
    sink.closed("dev")
    assert assert_numbered(host.batches) == 5
    assert max(len(record) for record in host.records) < 1.1 * encoding.MAX_BYTES


def test_large_frames_that_wait_are_bounded_by_their_bytes(host: HostEnd, sink: Batcher) -> None:
    sink.opened("dev")
    host.gate.clear()
    size = 100_000
    total = 3 * batcher.MAX_WAITING_BYTES // size
    for _ in range(total):
        sink.data(frame(b"x" * size, StreamType.CUSTOM))
        assert sink._streams["custom"].bytes <= batcher.MAX_WAITING_BYTES
    assert sink._streams["custom"].frames < total // 2
    host.gate.set()
    sink.closed("dev")
    last = next(b for b, h in zip(host.batches[::-1], host.headers[::-1], strict=True)
                if h.kind == "custom")  # fmt: skip
    assert last["dropped"].keys() == {"worker", "oversize"}


def test_a_start_says_how_its_streams_are_delivered(
    host: HostEnd, make: Callable[[Delivery], Batcher]
) -> None:
    sink = make(Delivery(("json",), 10))
    assert sink.deliver(DeliveryChanges(("bin",), 20, 1.0)) == pytest.approx(0.020)
    sink.opened("dev")
    for _ in range(2):
        sink.block("dev", block(0, 300))
    sink.data(
        StreamData(StreamType.CAN, "dev", 1.5, StreamSource.SERVER, StreamAction.DATA, {"id": 7})
    )
    sink.closed("dev")
    assert {header.form for header in host.headers} == {"bin"}
    assert sum(batch["n"] for batch in host.batches) == 300
    assert host.batches[-1]["thinned"] == 301
    assert sink.deliver(DeliveryChanges()) == pytest.approx(0.010), "the next start begins anew"


def test_a_start_while_streams_run_adds_a_form(
    host: HostEnd, make: Callable[[Delivery], Batcher]
) -> None:
    sink = make(Delivery(("json",), 10))
    sink.opened("dev")
    sink.deliver(DeliveryChanges(("bin",)))
    sink.block("dev", block(0, 300))
    sink.closed("dev")
    assert {header.form for header in host.headers} == {"json", "bin"}


def test_an_end_waits_only_so_long_for_a_host_that_does_not_read(
    host: HostEnd, sink: Batcher
) -> None:
    sink.opened("dev")
    host.gate.clear()
    sink.data(frame({"id": 1}))
    before = time.monotonic()
    sink.closed("dev")
    assert time.monotonic() - before < batcher.CLOSE_DEADLINE + 1.0
    assert host.told[-1] == Acquiring(False)


def test_a_stop_ends_its_thread_where_it_has_one(host: HostEnd) -> None:
    sink = Batcher("dev", (StreamType.CAN,), host, Delivery())
    sink.stop()
    sink = Batcher("dev", (StreamType.CAN,), host, Delivery())
    sink.opened("dev")
    assert sink._thread.name == "stream/dev"
    sink.stop()
    assert not sink._thread.is_alive()
