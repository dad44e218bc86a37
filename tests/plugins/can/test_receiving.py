"""Buses that are read through python-can: what the kernel dropped behind its back is told all the
same."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import can
import pytest

from plugins.devices.can.receiving import (
    Counters,
    MessageStream,
    drain_bus,
    enlarge_receive_buffer,
    socket_drops,
)
from sat_toolkit.core.stream_manager import StreamManager, StreamWrapper
from tests.waiting import eventually

SENT = 200


class DatagramBus(can.BusABC):
    """A python-can interface over datagrams that keeps its socket to itself, and reads while it is
    not held."""

    def __init__(self) -> None:
        super().__init__("datagrams")
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._peer.connect(self._socket.getsockname())
        self._free = threading.Event()
        self._free.set()
        self.reading = threading.Event()

    def hold(self, *, held: bool) -> None:
        if held:
            self.reading.clear()
            self._free.clear()
            self.reading.wait(5.0)
        else:
            self._free.set()

    def shrink(self) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)

    def send(self, msg: can.Message, timeout: float | None = None) -> None:
        self._peer.send(msg.arbitration_id.to_bytes(4, "big"))

    def _recv_internal(self, timeout: float | None) -> tuple[can.Message | None, bool]:
        self.reading.set()
        self._free.wait(5.0)
        self._socket.settimeout(timeout or 0.001)
        try:
            data = self._socket.recv(4)
        except TimeoutError:
            return None, False
        return can.Message(timestamp=time.time(), arbitration_id=int.from_bytes(data, "big")), False

    def fileno(self) -> int:
        return self._socket.fileno()

    def shutdown(self) -> None:
        super().shutdown()
        self._socket.close()
        self._peer.close()


class Tally:
    """A sink that counts."""

    def __init__(self) -> None:
        self.frames = 0
        self.losses: dict[str, int] = {}

    def opened(self, channel: str) -> None: ...

    def closed(self, channel: str) -> None: ...

    def data(self, stream_data: object) -> None:
        self.frames += 1

    def block(self, channel: str, block: object) -> None:
        raise AssertionError("a block of a bus that is read frame by frame")

    def lost(self, channel: str, count: int, cause: str) -> None:
        self.losses[cause] = self.losses.get(cause, 0) + count


@pytest.fixture
def bus() -> Iterator[DatagramBus]:
    with DatagramBus() as made:
        yield made


def flood(bus: can.BusABC) -> None:
    for number in range(SENT):
        bus.send(can.Message(arbitration_id=number))


def test_frames_dropped_before_python_can_read_them_are_told(bus: DatagramBus) -> None:
    bus.shrink()
    flood(bus)
    drain_bus(bus)
    before = socket_drops(bus)
    assert before > 0
    sink, manager, counters, running = Tally(), StreamManager(), Counters(), threading.Event()
    manager.sink = sink
    manager.register_stream("bus")
    running.set()
    stream = MessageStream(bus, StreamWrapper(manager), "bus", counters)
    reader = threading.Thread(target=stream.run, args=(running,))
    reader.start()
    bus.hold(held=True)
    flood(bus)
    bus.hold(held=False)
    assert eventually(lambda: sink.frames + sink.losses.get("kernel", 0) == SENT), (
        sink.frames,
        sink.losses,
    )
    running.clear()
    reader.join(5.0)
    assert sink.losses == {"kernel": socket_drops(bus) - before}
    assert counters.received == sink.frames > 0


def test_the_buffer_of_a_hidden_socket_is_enlarged_too(bus: DatagramBus) -> None:
    size = enlarge_receive_buffer(bus)
    assert size is not None
    assert size > 212_992


def test_a_bus_without_a_socket_has_no_buffer_and_no_drops() -> None:
    with can.Bus(interface="virtual", channel="none", ignore_config=True) as bus:
        assert enlarge_receive_buffer(bus) is None
        assert socket_drops(bus) == 0
