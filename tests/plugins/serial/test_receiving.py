"""The one reader of a line: for the stream and for `expect`, both bounded, and the end of the line
told once."""

from __future__ import annotations

import queue
from collections.abc import Iterator

import pytest

from plugins.devices.serial.receiving import EXPECT_LIMIT, STREAM_LIMIT, Found, Reader
from sat_toolkit.errors import DriverError
from tests.waiting import Inbox, eventually

DEADLINE = 10.0


class Line:
    """Gives what the test puts in; an exception is raised."""

    def __init__(self) -> None:
        self.comes: queue.Queue[bytes | Exception] = queue.Queue()

    def read(self) -> bytes:
        try:
            item = self.comes.get(timeout=0.01)
        except queue.Empty:
            return b""
        if isinstance(item, Exception):
            raise item
        return item


class Bench:
    def __init__(self) -> None:
        self.line = Line()
        self.lost: Inbox[str] = Inbox()
        self.reader = Reader(self.line, "test/reader", self.lost)  # type: ignore[arg-type] # reads

    def receive(self, *chunks: bytes) -> None:
        """The line gives these, and the reader has them."""
        before = self.reader.received
        for chunk in chunks:
            self.line.comes.put(chunk)
        assert eventually(lambda: self.reader.received == before + sum(map(len, chunks)))


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    made.reader.start()
    yield made
    made.reader.stop()


def search(wanted: bytes):
    def found(received: bytes) -> Found[bytes] | None:
        at = received.find(wanted)
        return None if at < 0 else Found(received[:at], at + len(wanted))

    return found


def test_a_stream_has_what_came_since_it_began(bench: Bench) -> None:
    bench.receive(b"before")
    bench.reader.attach()
    bench.receive(b"one", b"two")
    chunks = [bench.reader.take(DEADLINE), bench.reader.take(DEADLINE)]
    assert [chunk.data for chunk in chunks if chunk] == [b"one", b"two"]
    assert bench.reader.take(0.0) is None


def test_what_nobody_takes_falls_out_at_the_old_end_and_is_counted(bench: Bench) -> None:
    bench.reader.attach()
    block = STREAM_LIMIT // 4
    bench.receive(*[bytes([n]) * block for n in range(6)])
    chunk = bench.reader.take(DEADLINE)
    assert chunk is not None
    assert (chunk.data[:1], chunk.dropped) == (b"\x02", 2 * block)
    assert bench.reader.stream_dropped == 2 * block
    following = bench.reader.take(DEADLINE)
    assert following is not None
    assert following.dropped == 0


def test_expect_looks_past_what_it_found(bench: Bench) -> None:
    bench.receive(b"a=1;b=2;")
    first = bench.reader.expect(search(b";"), DEADLINE)
    assert first is not None
    assert first.value == b"a=1"
    assert bench.reader.unread() == b"b=2;"
    bench.reader.forget()
    assert bench.reader.expect(search(b";"), 0.0) is None


def test_expect_waits_for_what_is_to_come(bench: Bench) -> None:
    bench.line.comes.put(b"rea")
    bench.line.comes.put(b"dy")
    assert bench.reader.expect(search(b"ready"), DEADLINE) is not None


def test_what_expect_may_look_at_is_bounded(bench: Bench) -> None:
    bench.receive(b"old", bytes(EXPECT_LIMIT))
    assert bench.reader.unread() == bytes(EXPECT_LIMIT)


def test_a_line_that_is_lost_is_told_once_and_ends_expect(bench: Bench) -> None:
    bench.line.comes.put(DriverError("unplugged"))
    assert bench.lost.wait() == ["unplugged"]
    with pytest.raises(DriverError, match="unplugged"):
        bench.reader.expect(search(b"x"), DEADLINE)
    with pytest.raises(DriverError, match="unplugged"):
        bench.reader.attach()


def test_a_stream_tells_the_loss_itself_after_what_came_before(bench: Bench) -> None:
    bench.reader.attach()
    bench.receive(b"last words")
    bench.line.comes.put(DriverError("unplugged"))
    chunk = bench.reader.take(DEADLINE)
    assert chunk is not None
    assert chunk.data == b"last words"
    with pytest.raises(DriverError, match="unplugged"):
        bench.reader.take(DEADLINE)
    bench.reader.detach(told=True)
    assert bench.lost.items == []


def test_a_loss_that_the_stream_has_not_told_is_told_at_its_end(bench: Bench) -> None:
    bench.reader.attach()
    bench.line.comes.put(DriverError("unplugged"))
    with pytest.raises(DriverError):
        bench.reader.take(DEADLINE)
    bench.reader.detach(told=False)
    assert bench.lost.items == ["unplugged"]


def test_a_fault_while_reading_is_no_silence(bench: Bench) -> None:
    bench.line.comes.put(ZeroDivisionError("oops"))
    assert bench.lost.wait() == ["reading failed: ZeroDivisionError: oops"]
