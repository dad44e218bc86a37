"""The counting of missing frames, and the bounded queue before the reader."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from sat_bus import messages as m
from sat_bus import topics
from sat_bus.port import Handler, Inbound
from sat_client.feed import Feed
from sat_client.streams import Cursor, Watch


def batch(seq: int, n: int, stream: str = "s1", boot: str = "b1", **dropped: int) -> m.Batch:
    frames = [{"t": 1.0, "id": 1, "data": ""}] * n
    return m.Batch(stream=stream, boot=boot, seq=seq, n=n, t0=1.0, dropped=dropped, channel="ecu", frames=frames)


def test_consecutive_batches_miss_nothing() -> None:
    cursor = Cursor()
    assert [cursor.advance(batch(seq, 5)) for seq in (0, 5, 10)] == [(0, {})] * 3


def test_a_hole_is_counted_exactly() -> None:
    cursor = Cursor()
    cursor.advance(batch(0, 5))
    assert cursor.advance(batch(12, 3)) == (7, {})


def test_a_running_stream_is_joined_where_it_is() -> None:
    assert Cursor().advance(batch(1000, 5, queue=7)) == (0, {})


def test_a_later_stream_is_followed_from_its_first_frame() -> None:
    cursor = Cursor()
    cursor.advance(batch(1000, 5))
    assert cursor.advance(batch(3, 5, stream="s2", queue=2)) == (3, {"queue": 2})


def test_a_new_boot_is_a_new_stream_even_under_the_same_id() -> None:
    cursor = Cursor()
    cursor.advance(batch(100, 5))
    assert cursor.advance(batch(0, 5, boot="b2")) == (0, {})


def test_an_empty_batch_shows_a_hole_at_the_end_of_a_burst() -> None:
    cursor = Cursor()
    cursor.advance(batch(0, 5))
    assert cursor.advance(batch(9, 0)) == (4, {})


def test_a_repetition_is_no_hole_and_no_new_frames() -> None:
    cursor = Cursor()
    cursor.advance(batch(0, 5))
    cursor.advance(batch(5, 5))
    assert cursor.advance(batch(0, 5)) is None
    assert cursor.advance(batch(10, 5)) == (0, {})


def test_drops_are_reported_once_by_their_growth() -> None:
    cursor = Cursor()
    cursor.advance(batch(0, 1, kernel=1))
    assert cursor.advance(batch(1, 1, kernel=4, queue=1)) == (0, {"kernel": 3, "queue": 1})
    assert cursor.advance(batch(2, 1, kernel=4, queue=1)) == (0, {})


class Tap:
    """Stands for the subscription: what `push` is given arrives at the watch."""

    def __init__(self) -> None:
        self.handler: Handler | None = None

    def attach(self, subscription: str, handler: Handler) -> Callable[[], None]:
        self.handler = handler
        return self.detach

    def detach(self) -> None:
        self.handler = None

    def push(self, payload: bytes, device: str = "ecu") -> None:
        topic = topics.STREAM_JSON.build("lab", host="h", driver="d", device=device, stream="can")
        assert self.handler is not None
        self.handler(Inbound(topic, payload))


@pytest.fixture
def tap() -> Tap:
    return Tap()


def test_a_watch_hands_out_batches_in_order_with_their_totals(tap: Tap) -> None:
    with Watch(Feed("lab", ("x",), tap.attach)) as watch:
        for seq in (0, 5, 12):
            tap.push(batch(seq, 5).encode())
        got = [watch.get(1.0) for _ in range(3)]
    assert [r.batch.seq for r in got if r] == [0, 5, 12]
    assert [r.missed for r in got if r] == [0, 0, 2]
    assert (watch.frames, watch.missed, watch.dropped) == (15, 2, 0)
    assert tap.handler is None


def test_what_falls_out_of_the_queue_is_missed_and_counted(tap: Tap) -> None:
    with Watch(Feed("lab", ("x",), tap.attach, capacity=2)) as watch:
        tap.push(batch(0, 1).encode())
        assert watch.get(1.0) is not None
        for seq in (1, 2, 3, 4):
            tap.push(batch(seq, 1).encode())
        received = watch.get(1.0)
    assert received is not None
    assert (received.batch.seq, received.missed, watch.overflow) == (3, 2, 2)


def test_streams_of_two_devices_are_counted_apart(tap: Tap) -> None:
    with Watch(Feed("lab", ("x",), tap.attach)) as watch:
        tap.push(batch(0, 5).encode(), "a")
        tap.push(batch(0, 5).encode(), "b")
        tap.push(batch(5, 5).encode(), "a")
        assert [watch.get(1.0).missed for _ in range(3)] == [0, 0, 0]  # type: ignore[union-attr]


def test_garbage_is_counted_and_passed_over(tap: Tap) -> None:
    with Watch(Feed("lab", ("x",), tap.attach)) as watch:
        tap.push(b"\xff")
        tap.push(batch(0, 1).encode())
        assert watch.get(1.0) is not None
    assert watch.malformed == 1


def test_get_returns_none_when_nothing_comes(tap: Tap) -> None:
    with Watch(Feed("lab", ("x",), tap.attach)) as watch:
        assert watch.get(0.01) is None


def test_close_ends_a_reader_that_waits(tap: Tap) -> None:
    watch = Watch(Feed("lab", ("x",), tap.attach))
    seen: list[object] = []
    reader = threading.Thread(target=lambda: seen.extend(watch), name="test/reader")
    reader.start()
    tap.push(batch(0, 1).encode())
    watch.close()
    reader.join(5.0)
    assert not reader.is_alive()
