"""A worker's end of the socketpair: whole messages, and an end that all who wait there notice."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from sat_host import wire
from sat_host.wire_messages import (
    Answer,
    Asked,
    BatchHeader,
    Halt,
    Ping,
    Pong,
    RunHook,
    StreamBatch,
    Up,
)
from sat_host.worker.link import SEND_BUFFER, HostLink, LinkClosedError
from tests.waiting import eventually

DEADLINE = 10.0
HEADER = BatchHeader("can", "json", "r", 1, {}, b"{")


class Ends:
    """Both ends: the worker's link, and the host's socket."""

    def __init__(self) -> None:
        self.host, end = socket.socketpair()
        self.host.settimeout(DEADLINE)
        self.link = HostLink(end)
        self._decoder = wire.Decoder[Up](wire.UP)

    def read(self, count: int = 1) -> list[Up]:
        messages: list[Up] = []
        while len(messages) < count:
            messages += self._decoder.feed(self.host.recv(65_536))
        return messages


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.host.close()
    made.link.close()


def test_messages_go_up_one_after_the_other(ends: Ends) -> None:
    ends.link.send(Pong())
    ends.link.send_batch(HEADER, memoryview(b"[1]"))
    ends.link.send_bytes(wire.encode(Answer(1, "x")))
    assert ends.read(3) == [Pong(), StreamBatch(HEADER, b"[1]"), Answer(1, "x")]


def test_messages_come_down_once_they_are_whole(ends: Ends) -> None:
    data = wire.encode(Asked(1, RunHook("connect"))) + wire.encode(Ping()) + wire.encode(Halt())
    ends.host.sendall(data[:5])
    threading.Timer(0.01, ends.host.sendall, (data[5:],)).start()
    received = ends.link.receive()
    while len(received) < 3:
        received += ends.link.receive()
    assert received == [Asked(1, RunHook("connect")), Ping(), Halt()]


def test_what_is_meant_for_the_host_is_refused(ends: Ends) -> None:
    ends.host.sendall(wire.encode(Pong()))
    with pytest.raises(wire.WireError, match="bad prefix"):
        ends.link.receive()


def test_it_is_ready_while_the_host_reads(ends: Ends) -> None:
    assert ends.link.ready()
    left = 8 * SEND_BUFFER
    sender = threading.Thread(target=ends.link.send_bytes, args=(bytes(left),))
    sender.start()  # which the host does not read: it holds the line
    assert eventually(lambda: not ends.link.ready())
    while left:
        left -= len(ends.host.recv(1 << 20))
    sender.join(DEADLINE)


def test_a_batch_waits_without_holding_the_line(ends: Ends) -> None:
    """While most of the buffer is full, a reply that comes later is sent before it."""
    filler = StreamBatch(HEADER, bytes(SEND_BUFFER // 2))
    while ends.link._room.poll(0):
        ends.link.send_bytes(wire.encode(filler))
    batch = threading.Thread(target=ends.link.send_batch, args=(HEADER, b"[7]"))
    batch.start()
    reply = threading.Thread(target=ends.link.send, args=(Answer(1, "soon"),))
    reply.start()
    messages: list[Up] = []
    while StreamBatch(HEADER, b"[7]") not in messages:
        messages += ends.read()
    batch.join(DEADLINE)
    reply.join(DEADLINE)
    assert messages[0] == filler
    if Answer(1, "soon") not in messages:
        assert ends.read() == [Answer(1, "soon")]


def test_a_host_that_is_gone_is_noticed_everywhere(ends: Ends) -> None:
    ends.host.close()
    with pytest.raises(LinkClosedError):
        ends.link.receive()
    with pytest.raises(LinkClosedError):
        ends.link.send(Pong())
    with pytest.raises(LinkClosedError):
        ends.link.send_batch(HEADER, b"[]")


def test_a_closed_end_ends_the_waiting_of_others(ends: Ends) -> None:
    ended = threading.Event()

    def receive() -> None:
        with pytest.raises(LinkClosedError):
            ends.link.receive()
        ended.set()

    reader = threading.Thread(target=receive)
    reader.start()
    ends.link.close()
    assert ended.wait(DEADLINE)
    reader.join(DEADLINE)
    ends.link.close()
    with pytest.raises(LinkClosedError):
        ends.link.send(Pong())
    with pytest.raises(LinkClosedError):
        ends.link.receive()
