"""One thread that serves many descriptors: writes that do not fit, pauses, and channels that go at
any moment."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from sat_host.pool.multiplexer import MAX_PENDING, Multiplexer, Pace

DEADLINE = 10.0
FAST = 1e9


class Far:
    """The other end of a channel, and what the near end has been told."""

    def __init__(self, multiplexer: Multiplexer, bytes_per_s: float = FAST) -> None:
        near, self.socket = socket.socketpair()
        self.received = bytearray()
        self.closed = threading.Event()
        self._arrived = threading.Condition()
        self.channel = multiplexer.add(
            near.detach(), self._on_bytes, self._on_closed, bytes_per_s=bytes_per_s
        )

    def _on_closed(self, problem: str) -> None:
        assert problem == ""
        self.closed.set()

    def _on_bytes(self, data: bytes) -> None:
        with self._arrived:
            self.received += data
            self._arrived.notify_all()

    def wait(self, count: int) -> None:
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.received) >= count, DEADLINE)


@pytest.fixture
def multiplexer() -> Iterator[Multiplexer]:
    made = Multiplexer("test")
    made.start()
    yield made
    made.stop()


def test_bytes_pass_both_ways_and_the_end_is_told(multiplexer: Multiplexer) -> None:
    far = Far(multiplexer)
    far.socket.sendall(b"up")
    far.wait(2)
    assert far.channel.send(b"down")
    assert far.socket.recv(10) == b"down"
    far.socket.close()
    assert far.closed.wait(DEADLINE)
    assert not far.channel.send(b"too late")


def test_what_does_not_fit_is_sent_later_and_only_so_much_may_wait(
    multiplexer: Multiplexer,
) -> None:
    far = Far(multiplexer)
    block = b"x" * (MAX_PENDING // 2)
    assert far.channel.send(block)
    assert far.channel.send(block)
    assert not far.channel.send(block), "a reader that does not read costs a bounded buffer"
    left = 2 * len(block)
    while left:
        left -= len(far.socket.recv(1 << 20))
    assert far.channel.send(b"again")
    assert far.socket.recv(10) == b"again"
    far.socket.close()


def test_a_flood_is_read_no_faster_than_its_pace_and_the_others_are_served(
    multiplexer: Multiplexer,
) -> None:
    flood, other = Far(multiplexer, bytes_per_s=1000.0), Far(multiplexer)
    flood.socket.sendall(b"x" * 1500)
    flood.wait(1500)
    flood.socket.sendall(b"y")
    other.socket.sendall(b"hello")
    other.wait(5)
    assert len(flood.received) == 1500, "it pauses for half a second"
    assert flood.channel.send(b"written all the same")
    assert flood.socket.recv(30) == b"written all the same"
    flood.wait(1501)
    flood.socket.close()
    other.socket.close()


def test_pace_is_an_average_with_a_seconds_worth_at_once() -> None:
    pace = Pace(100.0)
    assert pace.spend(100) == pytest.approx(0.0, abs=0.01)
    assert pace.spend(50) == pytest.approx(0.5, abs=0.1)


def test_channels_that_are_removed_while_they_are_ready_harm_nobody(
    multiplexer: Multiplexer,
) -> None:
    steady = Far(multiplexer)
    total = 0
    for _ in range(20):
        crowd = [Far(multiplexer) for _ in range(20)]
        for far in crowd:
            far.channel.send(b"z" * 300_000)
            far.socket.send(b"ready to be read")
        steady.socket.send(b"s")
        for far in crowd:
            multiplexer.remove(far.channel)
            far.socket.close()
        total += 1
    steady.wait(total)
    steady.socket.close()


def test_a_callback_that_raises_costs_its_own_channel(multiplexer: Multiplexer) -> None:
    def burst(data: bytes) -> None:
        raise RuntimeError("no")

    near, far_end = socket.socketpair()
    told: list[str] = []
    closed = threading.Event()

    def tell(problem: str) -> None:
        told.append(problem)
        closed.set()

    multiplexer.add(near.detach(), burst, tell, bytes_per_s=FAST)
    far_end.sendall(b"x")
    assert closed.wait(DEADLINE)
    assert told == ["no"]
    far_end.close()
    read_end, write_end = os.pipe()
    got = threading.Event()
    multiplexer.add(read_end, lambda data: got.set(), lambda problem: None, bytes_per_s=FAST)
    os.write(write_end, b"x")
    assert got.wait(DEADLINE)
    os.close(write_end)
