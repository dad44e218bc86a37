"""Batches and frames for threads and for asyncio tasks, in either form, and the bounded queue
before the reader."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from sat_bus.contract import bin_batch, topics
from sat_bus.transport.bus import Handler, Inbound
from sat_client.gaps import Gap
from sat_client.streams import Frames, Received, Watch
from tests.unit.sat_client.made import batch, packed


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
        row = topics.STREAM_BIN if payload.startswith(bin_batch.MAGIC) else topics.STREAM_JSON
        topic = row.build("lab", host="h", driver="d", device=device, stream="can")
        assert self.handler is not None
        self.handler(Inbound(topic, payload))


def watching(tap: Tap, **options: Any) -> Watch:
    return Watch("lab", ("x",), tap.attach, **options)


def read(watch: Watch) -> Received:
    received = watch.get(5.0)
    assert received is not None
    return received


@pytest.fixture
def tap() -> Tap:
    return Tap()


def test_a_watch_hands_out_batches_in_order_with_their_totals(tap: Tap) -> None:
    with watching(tap) as watch:
        for seq in (0, 5, 12):
            tap.push(batch(seq, 5).encode())
        got = [watch.get(1.0) for _ in range(3)]
    assert [r.batch.seq for r in got if r] == [0, 5, 12]
    assert [r.missed for r in got if r] == [0, 0, 2]
    assert (watch.frames, watch.missed, watch.dropped) == (15, 2, 0)
    assert tap.handler is None


@pytest.mark.parametrize("form", ["json", "bin"])
def test_what_falls_out_of_the_queue_is_missed_by_the_client_and_counted(
    tap: Tap, form: str
) -> None:
    def push(seq: int, n: int, **dropped: Any) -> None:
        tap.push(packed(seq, n, **dropped) if form == "bin" else batch(seq, n, **dropped).encode())

    with watching(tap, capacity=2) as watch:
        push(0, 1)
        assert read(watch).gap is None
        for seq in (1, 6, 7, 8):
            push(seq, 1, kernel=3 if seq > 1 else 0)
        received = read(watch)
        assert read(watch).gap is None
    assert (received.batch.seq, watch.overflow) == (7, 2)
    assert received.gap == Gap(1, 6, {"client": 2, "kernel": 3, "transport": 1})
    assert received.dropped == {"kernel": 3}
    assert (watch.frames, watch.missed, watch.causes) == (
        3,
        6,
        {"client": 2, "kernel": 3, "transport": 1},
    )


def test_json_whose_frames_do_not_stand_last_falls_out_as_well(tap: Tap) -> None:
    with watching(tap, capacity=1) as watch:
        tap.push(
            b'{"frames":[{"t":1.0,"id":1,"data":""}],"stream":"s1","boot":"b1","seq":0,"n":1,"t0":1,"channel":"c"}'
        )
        tap.push(b"no batch")
        tap.push(batch(1, 1).encode())
        assert read(watch).gap == Gap(0, 1, {"client": 1})
    assert watch.malformed == 1


def test_a_packed_batch_is_read_as_the_json_one(tap: Tap) -> None:
    with watching(tap) as watch:
        tap.push(packed(0, 3, kernel=1))
        tap.push(batch(3, 3, kernel=1).encode(), "other")
        one, two = read(watch), read(watch)
    assert (one.batch.form, two.batch.form) == ("bin", "json")
    assert [frame["id"] for frame in one.frames] == [0, 1, 2]
    assert one.batch.block.frames().__next__() == one.frames[0]
    assert (one.batch.stream, one.batch.boot, one.batch.t0, one.batch.dropped) == (
        "s1",
        "b1",
        1.0,
        {"kernel": 1},
    )


def test_of_a_stream_in_both_forms_each_frame_comes_once(tap: Tap) -> None:
    with watching(tap) as watch:
        tap.push(batch(0, 5).encode())
        tap.push(batch(5, 2).encode())  # the rest of what the next one has was lost as json
        tap.push(packed(0, 5))
        tap.push(packed(5, 5))
        tap.push(batch(10, 5).encode())
        tap.push(packed(10, 5))
        got = [read(watch) for _ in range(4)]
    assert [(r.batch.form, r.batch.seq, r.batch.n) for r in got] == [
        ("json", 0, 5), ("json", 5, 2), ("bin", 7, 3), ("bin", 10, 5),
    ]  # fmt: skip
    assert got[2].batch.t0 == 3.0
    assert [frame["id"] for r in got for frame in r.frames] == list(range(15))
    assert watch.missed == 0


def test_streams_of_two_devices_are_counted_apart(tap: Tap) -> None:
    with watching(tap) as watch:
        tap.push(batch(0, 5).encode(), "a")
        tap.push(batch(0, 5).encode(), "b")
        tap.push(batch(5, 5).encode(), "a")
        assert [watch.get(1.0).missed for _ in range(3)] == [0, 0, 0]


def test_garbage_is_counted_and_passed_over(tap: Tap) -> None:
    with watching(tap) as watch:
        tap.push(b"\xff")
        tap.push(batch(0, 1).encode())
        assert watch.get(1.0) is not None
    assert watch.malformed == 1


def test_get_returns_none_when_nothing_comes(tap: Tap) -> None:
    with watching(tap) as watch:
        assert watch.get(0.01) is None


def test_close_ends_a_reader_that_waits(tap: Tap) -> None:
    watch = watching(tap)
    seen: list[object] = []
    reader = threading.Thread(target=lambda: seen.extend(watch), name="test/reader")
    reader.start()
    tap.push(batch(0, 1).encode())
    watch.close()
    reader.join(5.0)
    assert not reader.is_alive()


def test_frames_come_one_by_one_and_gaps_between_them(tap: Tap) -> None:
    seen: list[Any] = []
    with Frames(watching(tap), seen.append) as frames:
        tap.push(packed(0, 2))
        tap.push(packed(5, 1, kernel=3))
        for frame in frames:
            seen.append(frame["id"])
            if frame["id"] == 5:
                break
    assert seen == [0, 1, Gap(2, 3, {"kernel": 3}), 5]
    assert (frames.watch.frames, frames.watch.causes) == (3, {"kernel": 3})


def test_the_totals_follow_what_the_host_tells_late(tap: Tap) -> None:
    with watching(tap) as watch:
        for one in (packed(0, 2), packed(5, 2), packed(7, 2, frames_full=2)):
            tap.push(one)
        got = [read(watch) for _ in range(3)]
    assert [received.lost_after for received in got] == [0, 3, -2]
    assert watch.causes == {"transport": 1, "frames_full": 2}
    assert (watch.frames, watch.missed, watch.dropped) == (6, 3, 2)


# -- asyncio -------------------------------------------------------------------------------------


def test_a_task_gets_batches_from_the_dispatch_thread(tap: Tap) -> None:
    async def main() -> list[int]:
        async with watching(tap) as watch:
            pusher = threading.Thread(
                target=lambda: [tap.push(packed(seq, 1)) for seq in range(100)],
                name="test/dispatch",
            )
            asyncio.get_running_loop().call_later(0.05, pusher.start)  # the task waits by then
            seen: list[int] = []
            async for received in watch:
                seen.append(received.batch.seq)
                if len(seen) == 100:
                    break
            pusher.join()
            return seen

    assert asyncio.run(main()) == list(range(100))
    assert tap.handler is None


def test_a_task_gets_frames_and_gaps(tap: Tap) -> None:
    async def main() -> list[Any]:
        seen: list[Any] = []
        async with Frames(watching(tap), seen.append) as frames:
            tap.push(batch(0, 1).encode())
            tap.push(batch(2, 1).encode())
            async for frame in frames:
                seen.append(frame["id"])
                if frame["id"] == 2:
                    return seen
        return seen

    assert asyncio.run(main()) == [0, Gap(1, 1, {"transport": 1}), 2]


def test_receive_gives_up_in_time_and_loses_nothing_by_it(tap: Tap) -> None:
    async def main() -> None:
        async with watching(tap) as watch:
            assert await watch.receive(timeout=0.01) is None
            assert await watch.receive(timeout=0) is None
            tap.push(batch(0, 1).encode())
            received = await watch.receive(timeout=0)
            assert received is not None

    asyncio.run(main())


def test_a_cancelled_task_leaves_the_batch_to_the_next(tap: Tap) -> None:
    async def main() -> None:
        async with watching(tap) as watch:
            task = asyncio.create_task(watch.receive())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            tap.push(batch(0, 1).encode())
            received = await watch.receive(timeout=5.0)
            assert received is not None
            assert received.batch.seq == 0

    asyncio.run(main())


def test_close_ends_a_task_that_waits(tap: Tap) -> None:
    async def main() -> list[Received]:
        watch = watching(tap)
        asyncio.get_running_loop().call_later(0.05, watch.close)
        return [received async for received in watch]

    assert asyncio.run(main()) == []


def test_other_tasks_have_their_turn_while_batches_abound(tap: Tap) -> None:
    async def main() -> int:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async with watching(tap) as watch:
            for seq in range(200):
                tap.push(batch(seq, 1).encode())
            task = asyncio.create_task(other())
            for _ in range(200):
                assert await watch.receive(timeout=5.0)
            task.cancel()
        return turns

    assert asyncio.run(main()) >= 199


# -- one batch -----------------------------------------------------------------------------------
