"""One thread that serves many descriptors: writes that do not fit, pauses, and channels that go at
any moment."""

from __future__ import annotations

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
        self.problem = ""
        self.refuses: Exception | None = None
        self.channel = multiplexer.add(near.detach(), self, bytes_per_s=bytes_per_s)

    def on_closed(self, problem: str) -> None:
        self.problem = problem
        self.closed.set()

    def on_bytes(self, data: bytes) -> None:
        if self.refuses is not None:
            raise self.refuses
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
    assert far.problem == ""
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


@pytest.mark.parametrize(
    ("refusal", "problem"), [(RuntimeError("no"), "no"), (KeyError(), "KeyError")]
)
def test_a_user_that_raises_costs_its_own_channel(
    multiplexer: Multiplexer, refusal: Exception, problem: str
) -> None:
    bad, good = Far(multiplexer), Far(multiplexer)
    bad.refuses = refusal
    bad.socket.sendall(b"x")
    assert bad.closed.wait(DEADLINE)
    assert bad.problem == bad.channel.problem == problem
    assert not bad.channel.send(b"more")
    assert bad.socket.recv(1) == b"", "its descriptor is closed"
    good.socket.sendall(b"x")
    good.wait(1)
    bad.socket.close()
    good.socket.close()


def test_one_that_is_removed_is_not_told_of_its_end(multiplexer: Multiplexer) -> None:
    removed, other = Far(multiplexer), Far(multiplexer)
    multiplexer.remove(removed.channel)
    multiplexer.remove(removed.channel)  # twice harms nobody
    assert removed.socket.recv(1) == b""
    other.socket.sendall(b"x")
    other.wait(1)
    assert not removed.closed.is_set()
    removed.socket.close()
    other.socket.close()


def test_one_that_pauses_may_be_removed(multiplexer: Multiplexer) -> None:
    flood = Far(multiplexer, bytes_per_s=10.0)
    flood.socket.sendall(b"x" * 500)
    flood.wait(500)
    multiplexer.remove(flood.channel)
    assert flood.socket.recv(1) == b""
    flood.socket.close()


def test_a_stop_closes_all_channels_also_those_that_pause() -> None:
    multiplexer = Multiplexer("test")
    multiplexer.start()
    flood, quiet = Far(multiplexer, bytes_per_s=10.0), Far(multiplexer)
    flood.socket.sendall(b"x" * 500)
    flood.wait(500)
    multiplexer.stop()
    for far in (flood, quiet):
        assert far.socket.recv(1) == b""
        assert not far.channel.send(b"x")
        far.socket.close()
