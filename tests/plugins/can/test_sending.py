"""Frames out: each has a result, a full queue is waited out, and a block goes to the socket as it
is."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import can
import pytest

from plugins.devices.can.sending import BusBusy, Sender
from sat_toolkit.core.frame_block import FD, FrameBlock
from sat_toolkit.errors import BadArgs, CommandFailed, DriverError

CAN_FRAME = struct.Struct("<IBxxx8s")
CANFD_FRAME = struct.Struct("<IBBxx64s")


class PeerBus(can.BusABC):
    """A bus with a socket of frames; `peer` is its other end."""

    def __init__(self, *, fd: bool = False) -> None:
        super().__init__("pair")
        self._can_protocol = can.CanProtocol.CAN_FD if fd else can.CanProtocol.CAN_20
        # Datagrams that are never dropped: as on CAN, a full queue refuses them.
        self.socket, self.peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.peer.settimeout(5.0)

    def send(self, msg: can.Message, timeout: float | None = None) -> None:
        raise AssertionError("frames go out by the socket")

    def fill(self) -> int:
        """Send until no more is taken; how many were."""
        taken = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                self.socket.send(CAN_FRAME.pack(0, 0, b""), socket.MSG_DONTWAIT)
                taken += 1
        return taken

    def shutdown(self) -> None:
        super().shutdown()
        self.socket.close()
        self.peer.close()


@pytest.fixture
def pair() -> Iterator[Callable[..., tuple[PeerBus, Sender]]]:
    with contextlib.ExitStack() as stack:

        def make(*, fd: bool = False) -> tuple[PeerBus, Sender]:
            bus = stack.enter_context(PeerBus(fd=fd))
            return bus, Sender(bus, bus.socket)

        yield make


@pytest.fixture
def virtual() -> Iterator[tuple[can.BusABC, Sender]]:
    """A bus without a socket, and the sender on it; the first is the peer."""
    options: dict[str, Any] = {"channel": "sending", "interface": "virtual", "ignore_config": True}
    with can.Bus(**options) as peer, can.Bus(**options) as bus:
        yield peer, Sender(bus, None)


def frame(number: int, data: bytes = b"") -> can.Message:
    return can.Message(arbitration_id=number, is_extended_id=False, data=data)


def test_a_message_goes_out_in_the_kernels_form(
    pair: Callable[..., tuple[PeerBus, Sender]],
) -> None:
    bus, sender = pair()
    sender.send(frame(0x123, b"\xde\xad"))
    assert bus.peer.recv(100) == CAN_FRAME.pack(0x123, 2, b"\xde\xad")
    assert sender.sent == 1


def test_a_list_answers_for_each_frame(pair: Callable[..., tuple[PeerBus, Sender]]) -> None:
    bus, sender = pair()
    wanted: list[dict[str, Any]] = [
        {"id": "0x100", "data": "01"},
        {"id": 1, "data": "00" * 9},
        {"id": 2, "fd": True, "data": "00" * 12},
        {"id": 0x18FF50E5, "data": "02"},
        {"id": 3, "remote": True, "dlc": 4},
    ]
    result = sender.send_list(wanted)
    assert result["sent"] == 3
    assert [entry["index"] for entry in result["failed"]] == [1, 2]
    assert "0 to 8" in result["failed"][0]["reason"]
    assert "no CAN FD" in result["failed"][1]["reason"]
    assert [bus.peer.recv(100) for _ in range(3)] == [
        CAN_FRAME.pack(0x100, 1, b"\x01"),
        CAN_FRAME.pack(0x18FF50E5 | 1 << 31, 1, b"\x02"),
        CAN_FRAME.pack(3 | 1 << 30, 4, b""),
    ]


def test_a_block_goes_out_record_by_record(pair: Callable[..., tuple[PeerBus, Sender]]) -> None:
    bus, sender = pair(fd=True)
    block = FrameBlock.pack(
        [
            {"t": 1.5, "id": 0x7FF, "data": "0102", "tx": True},
            {
                "id": 0x800,
                "ext": True,
                "fd": True,
                "brs": True,
                "esi": True,
                "tx": True,
                "data": "aa" * 64,
            },
            {"id": 5, "rtr": True, "dlc": 3, "data": ""},
        ]
    )
    assert block.size == FD
    assert sender.send_block(block) == {"sent": 3, "failed": []}
    assert [bus.peer.recv(100) for _ in range(3)] == [
        CAN_FRAME.pack(0x7FF, 2, b"\x01\x02"),
        CANFD_FRAME.pack(0x800 | 1 << 31, 64, 0x05, b"\xaa" * 64),
        CAN_FRAME.pack(5 | 1 << 30, 3, b""),
    ]
    assert sender.sent == 3


def record(can_id: int, length: int, flags: int = 0) -> bytes:
    return struct.pack("<IIIBBxx64s", 0, 0, can_id, length, flags, b"")


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (record(0x20000004, 8), "error frames"),
        (record(0x800, 1), "11-bit"),
        (record(1, 9), "0 to 8"),
        (record(1, 9, 4), "9 bytes is no length of a CAN FD frame"),
        (record(0x40000001, 0, 4), "no remote frames"),
    ],
)
def test_a_record_that_cannot_be_sent_fails_alone(
    pair: Callable[..., tuple[PeerBus, Sender]], bad: bytes, says: str
) -> None:
    bus, sender = pair(fd=True)
    result = sender.send_block(FrameBlock(record(1, 0) + bad + record(2, 0), FD))
    assert (result["sent"], [entry["index"] for entry in result["failed"]]) == (2, [1])
    assert says in result["failed"][0]["reason"]
    assert [CAN_FRAME.unpack(bus.peer.recv(100))[0] for _ in range(2)] == [1, 2]


def test_fd_records_are_refused_by_a_classic_bus(
    pair: Callable[..., tuple[PeerBus, Sender]],
) -> None:
    _, sender = pair()
    result = sender.send_block(FrameBlock(record(1, 8, 4), FD))
    assert result["sent"] == 0
    assert "no CAN FD" in result["failed"][0]["reason"]


def test_a_block_goes_out_on_a_bus_without_a_socket(virtual: tuple[can.BusABC, Sender]) -> None:
    peer, sender = virtual
    block = FrameBlock.pack(
        [{"id": 1, "data": "01"}, {"id": 2, "err": True, "data": ""}, {"id": 3, "data": "03"}]
    )
    result = sender.send_block(block)
    assert (result["sent"], [entry["index"] for entry in result["failed"]]) == (2, [1])
    received = [peer.recv(5.0) for _ in range(2)]
    assert [message and message.arbitration_id for message in received] == [1, 3]
    assert sender.send_list([{"id": 4}]) == {"sent": 1, "failed": []}


def test_a_full_queue_is_waited_out(pair: Callable[..., tuple[PeerBus, Sender]]) -> None:
    bus, sender = pair()
    filled = bus.fill()
    assert filled > 0

    def make_room() -> None:
        threading.Event().wait(0.05)
        for _ in range(filled + 50):
            bus.peer.recv(100)

    reader = threading.Thread(target=make_room)
    reader.start()
    assert sender.send_list([{"id": number} for number in range(50)]) == {"sent": 50, "failed": []}
    reader.join()


def test_a_queue_that_stays_full_ends_the_list_in_time(
    pair: Callable[..., tuple[PeerBus, Sender]],
) -> None:
    bus, sender = pair()
    bus.fill()
    with pytest.raises(BusBusy, match=r"took none for 0\.05 s"):
        sender.send(frame(1), timeout=0.05)
    since = time.monotonic()
    result = sender.send_list([{"id": number} for number in range(3)])
    assert 0.9 < time.monotonic() - since < 2.0
    assert result["sent"] == 0
    assert [entry["index"] for entry in result["failed"]] == [0, 1, 2]
    assert "took none" in result["failed"][0]["reason"]
    assert result["failed"][2]["reason"] == "not tried: frame 0 ended the list"


def test_a_bus_that_went_away_is_told_once_nothing_was_sent(
    pair: Callable[..., tuple[PeerBus, Sender]],
) -> None:
    bus, sender = pair()
    bus.socket.close()
    with pytest.raises(DriverError, match="the bus is gone"):
        sender.send_list([{"id": 1}, {"id": 2}])
    with pytest.raises(DriverError, match="the bus is gone"):
        sender.send(frame(1))


def test_a_frame_that_the_kernel_refuses_costs_only_itself(
    pair: Callable[..., tuple[PeerBus, Sender]],
) -> None:
    bus, sender = pair()
    bus.peer.close()
    with pytest.raises(CommandFailed, match="the frame was not sent"):
        sender.send(frame(1))
    result = sender.send_list([{"id": 1}, {"id": 2}])
    assert [entry["index"] for entry in result["failed"]] == [0, 1]


@pytest.mark.parametrize(
    "args",
    [
        {"frames": []},
        {"frames": [{"id": 1}] * 1001},
        {"frames": [{"id": 1}], "period_ms": 10},
        {"frames": [{"id": 1}], "id": 1},
        {"frames": [{"data": "00"}]},
        {"frames": [{"id": 1, "dta": ""}]},
    ],
)
def test_a_list_that_is_none_is_refused_whole(
    rig: Callable[..., Any], args: dict[str, Any]
) -> None:
    info = {"buses": [{"name": "ecu", "interface": "virtual", "channel": "lists"}]}
    ecu = rig(info).connect()
    with pytest.raises(BadArgs):
        ecu.command("send", **args)
    assert ecu.command("status")["counters"]["tx"] == 0


def test_the_driver_sends_lists_and_blocks(rig: Callable[..., Any]) -> None:
    info = {"buses": [{"name": "ecu", "interface": "virtual", "channel": "lists"}]}
    with can.Bus(channel="lists", interface="virtual", ignore_config=True) as peer:
        ecu = rig(info).connect()
        sent = [{"id": number, "data": f"{number:02x}"} for number in range(200)]
        assert ecu.command("send", frames=sent) == {"sent": 200, "failed": []}
        assert ecu.runner.client_frames(FrameBlock.pack(sent)) == {"sent": 200, "failed": []}
        received = [peer.recv(5.0) for _ in range(400)]
        assert [message and message.arbitration_id for message in received] == list(range(200)) * 2
        assert ecu.command("status")["counters"]["tx"] == 400
