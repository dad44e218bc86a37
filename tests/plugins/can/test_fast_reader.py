"""Frames off a socket in batches. A UDP socket stands in for one of CAN: its stamps, its counter of
drops, its errors and its buffer are the same code of the kernel; what UDP cannot do is written into
the memory that the kernel fills."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import can
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plugins.devices.can.buses import BusConfig
from plugins.devices.can.drv_socketcan import SocketCANDriver
from plugins.devices.can.fast_reader import (
    VECTOR,
    FastReader,
    ReadBatch,
    Vector,
    memory_of,
    set_receive_buffer,
)
from plugins.devices.can.receiving import Counters, FrameStream, link_drops
from sat_toolkit.core.frame_block import (
    BRS,
    CLASSIC,
    ERROR,
    ESI,
    EXTENDED,
    FD,
    FDF,
    REMOTE,
    TX,
    FrameBlock,
)
from sat_toolkit.core.runner import DriverRunner
from sat_toolkit.core.stream_manager import StreamManager, StreamWrapper
from sat_toolkit.errors import DriverError
from sat_toolkit.models.Device_Model import Device, DeviceType
from tests.waiting import eventually

RECORD = struct.Struct("<IIIBBH")
Frame = tuple[int, int, int, bytes]


def classic(
    can_id: int, data: bytes = b"", *, length: int | None = None, rest: bytes = b"", pad: int = 0
) -> bytes:
    """``struct can_frame``; `rest` is what a sender left behind its data, `pad` what in the unused
    bytes."""
    length = len(data) if length is None else length
    return struct.pack("<IBBBB8s", can_id, length, pad, pad, pad, data + rest)


def fd(can_id: int, data: bytes, flags: int = 0, rest: bytes = b"") -> bytes:
    """``struct canfd_frame``."""
    return struct.pack("<IBBBB64s", can_id, len(data), flags, 0, 0, data + rest)


def fields(block: FrameBlock) -> list[Frame]:
    """Each record as ``(can_id, len, flags, all data bytes)``; the reserved bytes must be 0."""
    records = [
        bytes(block.records[i : i + block.size]) for i in range(0, len(block.records), block.size)
    ]
    parsed = [(RECORD.unpack_from(record), record[16:]) for record in records]
    assert all(reserved == 0 for (*_, reserved), _ in parsed)
    return [(can_id, length, flags, data) for (_, _, can_id, length, flags, _), data in parsed]


def ids(block: FrameBlock) -> list[int]:
    return [frame["id"] for frame in block.frames()]


def stamps(block: FrameBlock) -> list[float]:
    return [frame["t"] for frame in block.frames()]


class Wire:
    """A socket to be read, and a way to put frames on it."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self._peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._peer.connect(self.socket.getsockname())

    def put(self, *frames: bytes) -> None:
        for frame in frames:
            self._peer.send(frame)

    def flood(self, n: int, first: int = 0) -> None:
        """`n` frames, numbered by their ids from `first`."""
        self.put(*(classic(i | EXTENDED, bytes(8)) for i in range(first, first + n)))

    def close(self) -> None:
        self.socket.close()
        self._peer.close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    with contextlib.closing(Wire()) as made:
        yield made


def read(reader: FastReader) -> ReadBatch:
    assert reader.wait(5.0)
    batch = reader.read()
    assert batch is not None
    return batch


def read_all(reader: FastReader) -> list[ReadBatch]:
    batches = []
    while (batch := reader.read()) is not None:
        batches.append(batch)
    return batches


def test_frames_keep_their_order_content_and_time(wire: Wire) -> None:
    reader = FastReader(wire.socket)
    before = time.time()
    wire.put(classic(0x123, b"\xde\xad"), classic(0x18FF50E5 | EXTENDED, bytes(range(8))))
    wire.put(classic(0x7DF | REMOTE, length=8))
    batch = read(reader)
    assert batch.block.size == CLASSIC
    assert [{**frame, "t": 0} for frame in batch.block.frames()] == [
        {"t": 0, "id": 0x123, "data": "dead"},
        {"t": 0, "id": 0x18FF50E5, "ext": True, "data": "0001020304050607"},
        {"t": 0, "id": 0x7DF, "rtr": True, "dlc": 8, "data": ""},
    ]
    assert before <= stamps(batch.block)[0] <= stamps(batch.block)[2] <= time.time()
    assert (batch.losses, batch.errors, batch.overruns) == ((), 0, 0)
    assert reader.read() is None


@pytest.mark.parametrize("size", [CLASSIC, FD])
def test_what_a_sender_left_in_unused_bytes_is_cleared(wire: Wire, size: int) -> None:
    reader = FastReader(wire.socket, fd=size == FD)
    wire.put(classic(1, b"\x11\x22", rest=b"\xff" * 6, pad=0xFF), classic(2, bytes(8), pad=0xFF))
    wire.put(classic(3 | REMOTE, b"\xff" * 8))
    assert fields(read(reader).block) == [
        (1, 2, 0, b"\x11\x22" + bytes(6)),
        (2, 8, 0, bytes(8)),
        (3 | REMOTE, 8, 0, bytes(8)),
    ]
    wire.put(classic(4, b"\x01" * 8, pad=0xFF))  # full frames alone take another way
    assert fields(read(reader).block) == [(4, 8, 0, b"\x01" * 8)]


def test_fd_frames_are_told_from_classic_ones(wire: Wire) -> None:
    reader = FastReader(wire.socket, fd=True)
    wire.put(
        fd(1, b"\xaa" * 64, BRS | ESI | FDF),
        fd(2, b"\xbb" * 12, rest=b"\xff" * 52),
        classic(3, b"\xcc" * 8),
    )
    batch = read(reader)
    assert batch.block.size == FD
    assert fields(batch.block) == [
        (1, 64, FDF | BRS | ESI, b"\xaa" * 64),
        (2, 12, FDF, b"\xbb" * 12 + bytes(52)),
        (3, 8, 0, b"\xcc" * 8 + bytes(56)),
    ]
    wire.put(fd(4, b"\xdd" * 64), fd(5, b"\xee" * 64))
    assert fields(read(reader).block) == [(4, 64, FDF, b"\xdd" * 64), (5, 64, FDF, b"\xee" * 64)]


def test_a_batch_without_fd_frames_has_short_records_on_any_bus(wire: Wire) -> None:
    reader = FastReader(wire.socket, fd=True)
    wire.put(fd(1, b"\xff" * 64))
    read(reader)
    before = time.time()
    wire.put(classic(2, b"\x01\x02"), classic(3, b"\x03" * 8))
    block = read(reader).block
    assert block.size == CLASSIC
    assert fields(block) == [(2, 2, 0, b"\x01\x02" + bytes(6)), (3, 8, 0, b"\x03" * 8)]
    assert before <= stamps(block)[0] <= time.time()


FRAMES = st.one_of(
    st.builds(
        lambda can_id, bits, data: (can_id | bits, 0, data),
        st.integers(0, 0x1FFFFFFF),
        st.sampled_from([0, EXTENDED, EXTENDED | ERROR, ERROR]),
        st.binary(max_size=8),
    ),
    st.builds(
        lambda can_id, flags, data: (can_id | EXTENDED, flags | FDF, data),
        st.integers(0, 0x1FFFFFFF),
        st.sampled_from([0, BRS, ESI, BRS | ESI]),
        st.sampled_from([0, 1, 7, 8, 12, 64]).flatmap(lambda n: st.binary(min_size=n, max_size=n)),
    ),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(FRAMES, min_size=1, max_size=40))
def test_any_mixture_comes_out_as_it_went_in(
    wire: Wire, sent: list[tuple[int, int, bytes]]
) -> None:
    reader = FastReader(wire.socket, fd=True)
    wire.put(
        *(
            fd(i, data, flags, b"\xff") if flags else classic(i, data, rest=b"\xff")
            for i, flags, data in sent
        )
    )
    batch = read(reader)
    width = batch.block.size - 16
    assert fields(batch.block) == [
        (i, len(data), flags, data.ljust(width, b"\0")) for i, flags, data in sent
    ]
    assert batch.errors == sum(bool(i & ERROR) for i, _, _ in sent)


def test_error_frames_are_counted_and_those_of_a_full_controller(wire: Wire) -> None:
    reader = FastReader(wire.socket)
    overrun, passive = b"\x00\x01" + bytes(6), b"\x00\x20" + bytes(6)
    wire.put(classic(1, bytes(8)), classic(0x4 | ERROR, overrun), classic(0x4 | ERROR, passive))
    wire.put(classic(0x4, overrun), classic(0x2 | ERROR, overrun))
    batch = read(reader)
    assert (len(batch.block), batch.errors, batch.overruns) == (5, 3, 1)


def test_what_is_no_frame_ends_the_reading(wire: Wire) -> None:
    reader = FastReader(wire.socket, fd=True)
    wire.put(b"hello")
    with pytest.raises(DriverError, match=r"5 bytes .* 16 or 72"):
        read(reader)


def test_more_than_one_call_takes_comes_in_several(wire: Wire) -> None:
    set_receive_buffer(wire.socket, 8 * 1024 * 1024)
    reader = FastReader(wire.socket)
    wire.flood(VECTOR + 10)
    batches = read_all(reader)
    assert [len(batch.block) for batch in batches] == [VECTOR, 10]
    assert [can_id for batch in batches for can_id in ids(batch.block)] == list(range(VECTOR + 10))


# --- losses ------------------------------------------------------------------------------------------


@pytest.fixture
def small(wire: Wire) -> Wire:
    """A wire whose receive buffer holds a few frames."""
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    return wire


def check_account(batches: list[ReadBatch], sent: int) -> None:
    """Each frame is in a batch or in a loss, and each loss stands where the numbers of the frames
    leap."""
    expected = 0
    for batch in batches:
        losses = dict(batch.losses)
        for index, can_id in enumerate(ids(batch.block)):
            expected += losses.get(index, 0)
            assert can_id == expected
            expected += 1
    assert expected == sent


def test_frames_that_the_kernel_dropped_are_counted_at_their_place(small: Wire) -> None:
    reader = FastReader(small.socket)
    small.flood(100)
    batches = read_all(reader)
    assert len(batches) == 1
    held = len(batches[0].block)
    assert held < 100
    small.put(classic(100 | EXTENDED, bytes(8)), classic(101 | EXTENDED, bytes(8)))
    batches.append(read(reader))
    assert batches[1].losses == ((0, 100 - held),)
    check_account(batches, 102)


def test_received_and_lost_are_sent_while_reading_goes_on(small: Wire) -> None:
    reader = FastReader(small.socket)
    small.flood(100)  # more than the buffer holds, so that some are lost however fast the reader is
    flood = threading.Thread(target=small.flood, args=(19_900, 100))
    flood.start()
    batches = []
    while flood.is_alive() or memory_of(small.socket)[0]:
        batches += read_all(reader)
    flood.join()
    small.put(classic(20_000 | EXTENDED, bytes(8)))
    batches += [read(reader)]
    assert sum(lost for batch in batches for _, lost in batch.losses) > 0
    check_account(batches, 20_001)


def test_drops_behind_the_last_frame_are_found_while_nothing_comes(small: Wire) -> None:
    reader = FastReader(small.socket)
    small.flood(100)
    assert reader.lost_unseen() == 0  # what waits to be read comes before them
    held = sum(len(batch.block) for batch in read_all(reader))
    assert reader.lost_unseen() == 100 - held
    assert reader.lost_unseen() == 0
    small.put(classic(1))
    assert read(reader).losses == ()


def test_what_was_dropped_before_a_stream_began_is_not_its_loss(small: Wire) -> None:
    reader = FastReader(small.socket)
    for _ in range(2):
        small.flood(100)
        reader.skip(1.0)
        assert reader.read() is None
        small.put(classic(1))
        assert read(reader).losses == ()


def test_skipping_ends_on_a_bus_that_never_falls_silent(wire: Wire) -> None:
    reader = FastReader(wire.socket)
    wire.flood(50)
    reader.skip(-1.0)
    wire.flood(1)
    assert read(reader).losses == ()


# --- what UDP cannot do ------------------------------------------------------------------------------


def fill(vector: Vector, i: int, control: bytes, *, flags: int = 0, frame: bytes = b"") -> None:
    """Write what the kernel writes for the frame at `i`."""
    frame = frame or classic(i)
    at = i * vector.records.size + 8
    vector.records.bytes[at : at + len(frame)] = frame
    at = i * vector.control_size
    vector.control[at : at + len(control)] = control
    vector.headers[i].message.flags, vector.headers[i].length = flags, len(frame)
    vector.headers[i].message.controllen = len(control)


def kernel_control(nanoseconds: int = 0, drops: int | None = None) -> bytes:
    """The control messages of a frame; the kernel leaves the drops out while there are none."""
    stamp = struct.pack("=QiiQQ", 32, socket.SOL_SOCKET, 35, *divmod(nanoseconds, 10**9))
    return (
        stamp if drops is None else stamp + struct.pack("=QiiI4x", 20, socket.SOL_SOCKET, 40, drops)
    )


def hardware_control(kernel: int, hardware: int) -> bytes:
    times = (*divmod(kernel, 10**9), 0, 0, *divmod(hardware, 10**9))
    return struct.pack("=QiiQQQQQQ", 64, socket.SOL_SOCKET, 37, *times)


def nanoseconds(block: FrameBlock) -> list[int]:
    records = (block.records[i : i + 8] for i in range(0, len(block.records), block.size))
    return [
        sec * 10**9 + nsec for sec, nsec in (struct.unpack("<II", record) for record in records)
    ]


def test_the_counter_of_drops_wraps() -> None:
    vector = Vector(CLASSIC, n=8)
    for i, drops in enumerate([0xFFFF_FFFE, 0xFFFF_FFFE, 0xFFFF_FFFF, 3, 3]):
        fill(vector, i, kernel_control(drops=drops))
    vector.drops = 0xFFFF_FFF0
    assert vector.take(5).losses == ((0, 14), (2, 1), (3, 4))
    fill(vector, 0, kernel_control(drops=0xFFFF_FFFF))
    fill(vector, 1, kernel_control())  # the counter is at 0 and so is left out
    vector.drops = 0xFFFF_FFFF
    assert vector.take(2).losses == ((1, 1),)


@pytest.mark.parametrize("size", [CLASSIC, FD])
def test_frames_that_this_machine_sent_are_marked(size: int) -> None:
    vector = Vector(size, n=8)
    own, local = socket.MSG_DONTROUTE | socket.MSG_CONFIRM, socket.MSG_DONTROUTE
    for i, flags in enumerate([0, own, local, 0]):
        fill(vector, i, kernel_control(), flags=flags)
    if size == FD:
        fill(vector, 4, kernel_control(), flags=own, frame=fd(4, bytes(64), BRS))
        fill(vector, 5, kernel_control(), frame=fd(5, bytes(64)))
    told = [flags for _, _, flags, _ in fields(vector.take(6 if size == FD else 4).block)]
    assert told == [0, TX, TX, 0] + ([TX | FDF | BRS, FDF] if size == FD else [])
    fill(vector, 0, kernel_control())
    assert fields(vector.take(1).block) == [(0, 0, 0, bytes(8))]


EPOCH = 1_760_000_000 * 10**9


def test_stamps_of_the_kernel_are_kept_to_the_nanosecond() -> None:
    vector = Vector(CLASSIC, n=4)
    for i in range(3):
        fill(vector, i, kernel_control(EPOCH + i))
    assert nanoseconds(vector.take(3).block) == [EPOCH, EPOCH + 1, EPOCH + 2]


def test_stamps_of_hardware_that_keeps_the_time_are_taken_as_they_are() -> None:
    vector = Vector(CLASSIC, hardware=True, n=4)
    for i in range(3):
        fill(vector, i, hardware_control(EPOCH, EPOCH + 5 + i))
    assert nanoseconds(vector.take(3).block) == [EPOCH + 5, EPOCH + 6, EPOCH + 7]


def test_stamps_of_hardware_that_counts_from_its_start_are_shifted_by_its_first() -> None:
    vector = Vector(FD, hardware=True, n=4)
    fill(vector, 0, hardware_control(EPOCH + 900, 100))
    fill(vector, 1, hardware_control(EPOCH + 5000, 250))
    fill(vector, 2, hardware_control(EPOCH + 7000, 0))  # an echo, which has none of the hardware
    assert nanoseconds(vector.take(3).block) == [EPOCH + 900, EPOCH + 1050, EPOCH + 7000]


def test_hardware_that_has_no_clock_leaves_the_kernels(wire: Wire) -> None:
    reader = FastReader(wire.socket, hardware=True)
    before = time.time()
    wire.put(classic(1), classic(2, bytes(8)))
    batch = read(reader)
    first, second = stamps(batch.block)
    assert before - 0.001 <= first <= second <= time.time()
    assert batch.losses == ()


def test_losses_are_counted_with_stamps_of_hardware_too(small: Wire) -> None:
    reader = FastReader(small.socket, hardware=True)
    small.flood(100)
    batches = read_all(reader)
    small.put(classic(100 | EXTENDED, bytes(8)))
    check_account([*batches, read(reader)], 101)


# --- the stream --------------------------------------------------------------------------------------


class Account:
    """A sink that notes what came in its order: ids, and (n, cause) for a loss."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.is_open = False

    def opened(self, channel: str) -> None:
        self.is_open = True

    def closed(self, channel: str) -> None:
        self.is_open = False

    def data(self, stream_data: Any) -> None:
        raise AssertionError("a frame came by itself")

    def block(self, channel: str, block: FrameBlock) -> None:
        self.events += ids(block)

    def lost(self, channel: str, count: int, cause: str) -> None:
        self.events.append((count, cause))


class Reading:
    """A stream that reads a wire on a thread of its own."""

    def __init__(
        self,
        reader: FastReader,
        window: float = 0.01,
        dropped_by_link: Callable[[], int] = lambda: 0,
    ) -> None:
        manager = StreamManager()
        manager.window = window
        self.sink = Account()
        manager.sink = self.sink
        manager.register_stream("bus")
        self.counters = Counters()
        self.error: OSError | None = None
        self._running = threading.Event()
        self._running.set()
        self._stream = FrameStream(
            reader, StreamWrapper(manager), "bus", self.counters, dropped_by_link
        )
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self._stream.run(self._running)
        except OSError as error:
            self.error = error

    def __enter__(self) -> Reading:
        self._thread.start()
        return self

    def stop(self) -> float:
        """Stop it; the seconds that it took."""
        since = time.monotonic()
        self._running.clear()
        self._thread.join(5.0)
        return time.monotonic() - since

    def wait_end(self) -> None:
        self._thread.join(5.0)
        assert not self._thread.is_alive()

    def __exit__(self, *_: object) -> None:
        self.stop()


def test_a_loss_stands_between_the_frames_it_lies_between(small: Wire) -> None:
    reader = FastReader(small.socket)
    small.flood(100)
    batches = read_all(reader)
    held = len(batches[0].block)
    small.put(classic(7), classic(8))
    with Reading(reader) as reading:
        assert eventually(lambda: len(reading.sink.events) == 3)
    assert reading.sink.events == [(100 - held, "kernel"), 7, 8]
    assert reading.counters.received == 2


def test_a_loss_at_the_end_is_told_without_another_frame(small: Wire) -> None:
    reader = FastReader(small.socket)
    small.flood(100)
    with Reading(reader) as reading:
        assert eventually(lambda: any(isinstance(event, tuple) for event in reading.sink.events))
    *frames, (lost, cause) = reading.sink.events
    assert (frames, lost, cause) == (list(range(len(frames))), 100 - len(frames), "kernel")


def test_everything_is_received_or_lost_under_a_flood(small: Wire) -> None:
    with Reading(FastReader(small.socket)) as reading:
        small.flood(30_000)
        events = reading.sink.events
        assert eventually(
            lambda: (
                sum(event[0] if isinstance(event, tuple) else 1 for event in list(events)) == 30_000
            )
        )
    expected = 0
    for event in events:
        if isinstance(event, tuple):
            expected += event[0]
        else:
            assert event == expected
            expected += 1


@pytest.mark.parametrize("busy", [False, True])
def test_what_the_link_dropped_since_the_start_is_a_loss_of_its_own_cause(
    wire: Wire, tmp_path: Path, *, busy: bool
) -> None:
    counter = tmp_path / "can0" / "statistics" / "rx_dropped"
    counter.parent.mkdir(parents=True)
    counter.write_text("41\n")
    with (
        link_drops("can0", tmp_path) as dropped,
        Reading(FastReader(wire.socket), dropped_by_link=dropped) as reading,
    ):
        wire.flood(1)
        assert eventually(lambda: reading.sink.events == [0])
        counter.write_text("44\n")

        def told() -> bool:
            if busy:
                wire.flood(1)
            return (3, "link") in reading.sink.events

        assert eventually(told)
    assert reading.counters.link_drops == 3
    assert [event for event in reading.sink.events if isinstance(event, tuple)] == [(3, "link")]


def test_a_link_that_does_not_tell_what_it_dropped_dropped_nothing(tmp_path: Path) -> None:
    for name in (None, "can0"):
        with link_drops(name, tmp_path) as dropped:
            assert dropped() == 0


@pytest.mark.parametrize("window", [0.01, 1.0])
def test_a_stop_is_seen_at_once(wire: Wire, window: float) -> None:
    with Reading(FastReader(wire.socket), window) as reading:
        wire.flood(1)
        if window < 1:
            assert eventually(lambda: reading.sink.events == [0])
        assert reading.stop() < 0.2


def test_frames_gather_for_the_window(wire: Wire) -> None:
    with Reading(FastReader(wire.socket), 0.3) as reading:
        since = time.monotonic()
        wire.flood(3)
        assert eventually(lambda: bool(reading.sink.events))
        assert time.monotonic() - since > 0.25
    assert reading.sink.events == [0, 1, 2]


def test_a_long_window_does_not_let_the_buffer_run_over(wire: Wire) -> None:
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 256 * 1024)
    with Reading(FastReader(wire.socket), 1.0) as reading:
        for i in range(400):
            wire.flood(5)
            if i % 2:
                threading.Event().wait(0.001)
        assert eventually(lambda: reading.counters.received == 2000)
    assert not any(isinstance(event, tuple) for event in reading.sink.events)


def test_a_closed_socket_ends_the_stream_with_its_error(wire: Wire) -> None:
    reader = FastReader(wire.socket)
    with Reading(reader) as reading:
        wire.flood(1)
        assert eventually(lambda: bool(reading.sink.events))
        wire.socket.close()
        reading.wait_end()
    assert reading.error is not None
    assert reading.error.errno == errno.EBADF


def test_what_came_before_an_error_of_the_socket_is_delivered() -> None:
    """As when a link goes down: the kernel gives its error before the frames that wait."""
    with (
        contextlib.closing(Wire()) as wire,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody,
    ):
        nobody.bind(("127.0.0.1", 0))
        reader = FastReader(wire.socket)
        wire.flood(3)
        wire.socket.connect(nobody.getsockname())
        nobody.close()
        wire.socket.send(b"")  # refused: the error waits at the socket
        with Reading(reader) as reading:
            reading.wait_end()
    assert reading.error is not None
    assert reading.error.errno == errno.ECONNREFUSED
    assert reading.sink.events == [0, 1, 2]


# --- the driver --------------------------------------------------------------------------------------


class SocketBus(can.BusABC):
    """A bus of python-can that has a socket of CAN frames."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__("wire")
        self.socket = sock

    def send(self, msg: can.Message, timeout: float | None = None) -> None:
        raise AssertionError("frames go out by the socket")

    def fileno(self) -> int:
        return self.socket.fileno()

    def shutdown(self) -> None:
        super().shutdown()
        self.socket.close()


class WireDriver(SocketCANDriver):
    """The driver on a wire, which its configuration holds."""

    def _config_of(self, device: Device) -> BusConfig:
        return BusConfig(device.device_id, "wire", "wire")

    def _make_bus(self, config: BusConfig) -> can.BusABC:
        return SocketBus(self.info["wire"].socket)


@pytest.fixture
def driver(wire: Wire) -> Iterator[Callable[..., DriverRunner]]:
    runners: list[DriverRunner] = []

    def make(**more: Any) -> DriverRunner:
        device = Device("bus", "bus", DeviceType.CAN, {})
        runners.append(DriverRunner(WireDriver, {"wire": wire, **more}, device, sink=Account()))
        runners[-1].initialize()
        runners[-1].connect()
        return runners[-1]

    yield make
    for runner in runners:
        runner.close()


def test_the_driver_reads_a_socket_in_blocks_and_counts(
    wire: Wire, driver: Callable[..., DriverRunner]
) -> None:
    runner = driver()
    sink = runner.driver.stream_manager.sink
    assert isinstance(sink, Account)
    wire.flood(5)
    runner.command("start", {})
    wire.put(classic(0x11), classic(0x4 | ERROR, b"\0\1" + bytes(6)))
    assert eventually(
        lambda: len(sink.events) == 2
    )  # the five from before the start are none of it
    status = runner.command("status", {})
    assert status["counters"] == {"rx": 2, "tx": 0, "errors": 1, "overruns": 1}
    assert status["receive_buffer"] >= 2 * 212_992
    since = time.monotonic()
    runner.command("stop", {})
    assert time.monotonic() - since < 0.2
    assert not sink.is_open
    runner.command("start", {})
    wire.put(classic(0x12))
    assert eventually(lambda: sink.events[-1] == 0x12)


@pytest.mark.parametrize(("wanted", "fails"), [("hardware", False), ("best", True)])
def test_the_clock_of_the_stamps_is_configured(
    wire: Wire, driver: Callable[..., DriverRunner], wanted: str, fails: bool
) -> None:
    if fails:
        with pytest.raises(DriverError, match="timestamps must be kernel or hardware, not 'best'"):
            driver(timestamps=wanted)
        return
    runner = driver(timestamps=wanted)
    runner.command("start", {})
    wire.put(classic(1))
    sink = runner.driver.stream_manager.sink
    assert isinstance(sink, Account)
    assert eventually(lambda: sink.events == [1])
