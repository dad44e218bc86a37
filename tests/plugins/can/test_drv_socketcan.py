"""The driver on python-can's virtual bus, run as a host runs it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import can
import pytest

from plugins.devices.can.drv_socketcan import SocketCANDriver
from sat_toolkit.core.runner import DriverRunner
from sat_toolkit.core.stream_manager import StreamAction, StreamData, StreamSource, StreamType
from sat_toolkit.errors import BadArgs, CommandFailed, DriverError, UnknownCommand
from sat_toolkit.models.Device_Model import Device, SocketCANDevice
from tests.waiting import eventually

INFO: dict[str, Any] = {
    "buses": [{"name": "ecu", "interface": "virtual", "channel": "bench", "fd": True}]
}


@pytest.fixture
def peer() -> Iterator[can.BusABC]:
    """Somebody else on the bus."""
    with can.Bus(
        channel="bench", interface="virtual", protocol=can.CanProtocol.CAN_FD, ignore_config=True
    ) as bus:
        yield bus


def expect(bus: can.BusABC) -> can.Message:
    frame = bus.recv(5.0)
    assert frame is not None
    return frame


def has_id(arbitration_id: int) -> Callable[[StreamData], bool]:
    return lambda frame: frame.data["id"] == arbitration_id


def test_scan_lists_configured_buses() -> None:
    devices = DriverRunner(SocketCANDriver, INFO).scan()
    device = next(device for device in devices if device.device_id == "ecu")
    assert device.device_type == "CAN"
    assert device.hardware_id == "virtual:ecu"
    assert device.attributes["interface"] == "virtual"
    assert device.attributes["channel"] == "bench"


def test_scan_of_a_bad_configuration_names_the_entry() -> None:
    info = {"buses": [{"name": "ecu", "interface": "nonsense", "channel": 0}]}
    with pytest.raises(DriverError, match=r'buses\[0\] \("ecu"\): interface'):
        DriverRunner(SocketCANDriver, info).scan()


def test_a_socketcan_bus_without_its_link_and_a_port_that_is_not_there_are_not_listed() -> None:
    info = {
        "buses": [
            {"name": "a", "interface": "socketcan", "channel": "can-none"},
            {"name": "b", "interface": "slcan", "channel": "/dev/ttyNone0"},
        ]
    }
    assert {"a", "b"}.isdisjoint(
        device.device_id for device in DriverRunner(SocketCANDriver, info).scan()
    )


def test_a_link_that_is_not_there_says_so() -> None:
    runner = DriverRunner(SocketCANDriver, {}, SocketCANDevice("can-none", "CAN", "can-none"))
    with pytest.raises(DriverError, match="there is no CAN link can-none"):
        runner.initialize()


def test_frames_of_every_kind_reach_the_stream(rig: Callable, peer: can.BusABC) -> None:
    ecu = rig(INFO).connect()
    assert ecu.command("start") == "Started streaming"
    assert ecu.sink.open
    before = time.time()
    peer.send(can.Message(arbitration_id=0x123, is_extended_id=False, data=b"\xde\xad"))
    peer.send(
        can.Message(arbitration_id=0x18FF50E5, data=bytes(12), is_fd=True, bitrate_switch=True)
    )
    peer.send(can.Message(arbitration_id=0x7DF, is_extended_id=False, is_remote_frame=True, dlc=8))
    peer.send(
        can.Message(arbitration_id=0x4, is_extended_id=False, is_error_frame=True, data=b"\x00\x01")
    )
    frames = ecu.sink.wait_frames(4)
    assert [frame.data for frame in frames] == [
        {"id": 0x123, "data": "dead"},
        {"id": 0x18FF50E5, "ext": True, "fd": True, "brs": True, "data": "00" * 12},
        {"id": 0x7DF, "rtr": True, "dlc": 8, "data": ""},
        {"id": 0x4, "err": True, "data": "0001"},
    ]
    assert all(before <= frame.timestamp <= time.time() for frame in frames)
    first = frames[0]
    assert (first.stream_type, first.channel, first.source, first.action) == (
        StreamType.CAN,
        "ecu",
        StreamSource.SERVER,
        StreamAction.DATA,
    )
    status = ecu.command("status")
    assert status["counters"] == {"rx": 4, "tx": 0, "errors": 1, "overruns": 1}
    assert status["streaming"] is True
    assert ecu.command("stop") == "Stopped streaming"
    assert ecu.command("status")["streaming"] is False
    assert not ecu.sink.open


def test_a_stream_begins_with_the_present(rig: Callable, peer: can.BusABC) -> None:
    ecu = rig(INFO).connect()
    peer.send(can.Message(arbitration_id=0x1, is_extended_id=False))
    ecu.command("start")
    peer.send(can.Message(arbitration_id=0x2, is_extended_id=False))
    ecu.sink.wait_frames(matches=has_id(0x2))
    assert [frame.data["id"] for frame in ecu.sink.frames] == [0x2]


@pytest.mark.parametrize(
    ("args", "sent"),
    [
        ({"id": "0x123", "data": "de ad"}, {"id": 0x123, "data": "dead"}),
        ({"id": 0x18FF50E5}, {"id": 0x18FF50E5, "ext": True, "data": ""}),
        ({"id": 1, "extended": True, "data": "00"}, {"id": 1, "ext": True, "data": "00"}),
        (
            {"id": 1, "fd": True, "brs": True, "data": "00" * 64},
            {"id": 1, "fd": True, "brs": True, "data": "00" * 64},
        ),
        ({"id": 1, "remote": True, "dlc": 4}, {"id": 1, "rtr": True, "dlc": 4, "data": ""}),
    ],
)
def test_send_puts_the_frame_on_the_bus_and_answers_with_it(
    rig: Callable, peer: can.BusABC, args: dict[str, Any], sent: dict[str, Any]
) -> None:
    ecu = rig(INFO).connect()
    assert ecu.command("send", **args) == sent
    frame = expect(peer)
    assert frame.arbitration_id == sent["id"]
    assert frame.is_extended_id is sent.get("ext", False)
    assert frame.is_fd is sent.get("fd", False)
    assert frame.is_remote_frame is sent.get("rtr", False)
    assert frame.data.hex() == sent["data"]
    assert ecu.command("status")["counters"]["tx"] == 1


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({}, "id"),
        ({"id": "291"}, "0x123|does not match"),
        ({"id": -1}, "minimum"),
        ({"id": 1, "data": "xyz"}, "hex"),
        ({"id": 1, "data": "00" * 9}, "0 to 8"),
        ({"id": 0x800, "extended": False}, "11-bit"),
        ({"id": 1, "dta": "00"}, "dta"),
        ({"id": 1, "period_ms": 0}, "minimum"),
        ({"id": 1, "count": 3}, "period_ms"),
        ({"id": 1, "stop": True, "data": "00"}, "id and extended only"),
    ],
)
def test_what_send_does_not_take_costs_nothing_but_the_command(
    rig: Callable, peer: can.BusABC, args: dict[str, Any], says: str
) -> None:
    ecu = rig(INFO).connect()
    with pytest.raises(BadArgs, match=says):
        ecu.command("send", **args)
    ecu.command("send", id=0x55)
    assert expect(peer).arbitration_id == 0x55


def test_commands_need_an_open_bus_and_a_known_name(rig: Callable) -> None:
    ecu = rig(INFO)
    for name in ("start", "status"):
        with pytest.raises(CommandFailed, match="connect the device first"):
            ecu.command(name)
    with pytest.raises(UnknownCommand, match="filter"):
        ecu.command("sned")
    assert not ecu.sink.open


def test_fd_is_refused_by_a_classic_bus(rig: Callable) -> None:
    info = {"buses": [{"name": "ecu", "interface": "virtual", "channel": "classic"}]}
    ecu = rig(info).connect()
    with pytest.raises(CommandFailed, match="no CAN FD"):
        ecu.command("send", id=1, fd=True)


def test_cyclic_sending_is_replaced_counted_out_and_stopped(
    rig: Callable, peer: can.BusABC
) -> None:
    ecu = rig(INFO).connect()
    started = ecu.command("send", id=0x10, data="01", period_ms=5)
    assert started == {"id": 0x10, "data": "01", "period_ms": 5, "count": None, "replaced": False}
    stamps = [expect(peer).timestamp for _ in range(20)]
    assert 0.08 < stamps[-1] - stamps[0] < 1.0
    assert ecu.command("send", id=0x10, data="02", period_ms=5)["replaced"] is True
    while expect(peer).data != b"\x02":
        continue
    (task,) = ecu.command("status")["cyclic"]
    assert task["data"] == "02"
    assert task["period_ms"] == 5
    assert ecu.command("send", stop=True, id=0x11) == {"stopped": 0}
    assert ecu.command("send", stop=True, id=0x10) == {"stopped": 1}
    assert ecu.command("status")["cyclic"] == []
    while peer.recv(0.1) is not None:
        continue
    ecu.command("send", id=0x20, period_ms=2, count=3)
    assert eventually(lambda: ecu.command("status")["cyclic"] == [])
    assert [expect(peer).arbitration_id for _ in range(3)] == [0x20] * 3
    assert peer.recv(0.1) is None


def test_closing_ends_cyclic_sending_and_its_thread(rig: Callable, peer: can.BusABC) -> None:
    ecu = rig(INFO).connect()
    ecu.command("send", id=0x10, period_ms=3_600_000)
    ecu.command("send", id=0x11, period_ms=1)
    assert any(thread.name == "can/cyclic/ecu" for thread in threading.enumerate())
    ecu.runner.close()
    assert not any(thread.name == "can/cyclic/ecu" for thread in threading.enumerate())


def test_filters_choose_what_is_received_until_reset(rig: Callable, peer: can.BusABC) -> None:
    ecu = rig(INFO).connect()
    ecu.command("start", filters=[{"id": "0x100", "mask": "0x700", "extended": False}])

    def send_all() -> None:
        for number, extended in ((0x200, False), (0x123, True), (0x101, False), (0x1FF, False)):
            peer.send(can.Message(arbitration_id=number, is_extended_id=extended))

    send_all()
    ecu.sink.wait_frames(matches=has_id(0x1FF))
    assert [frame.data["id"] for frame in ecu.sink.frames] == [0x101, 0x1FF]
    assert ecu.command("filter", filters=[{"id": 0x200}]) == {
        "filters": [{"id": 0x200, "mask": 0x1FFFFFFF}]
    }
    send_all()
    ecu.sink.wait_frames(matches=has_id(0x200))
    assert ecu.command("filter", filters=[]) == {"filters": []}
    send_all()
    ecu.sink.wait_frames(
        matches=lambda frame: frame.data["id"] == 0x123 and frame.data.get("ext", False)
    )
    with pytest.raises(BadArgs, match="filters"):
        ecu.command("filter")
    ecu.command("filter", filters=[{"id": 0x7}])
    ecu.runner.reset()
    ecu.connect()
    assert ecu.command("status")["filters"] == []


def test_what_a_client_streams_in_goes_onto_the_bus(rig: Callable, peer: can.BusABC) -> None:
    ecu = rig(INFO).connect()

    def put(frame: object) -> None:
        ecu.runner.client_data(
            StreamData(
                StreamType.CAN, "ecu", time.time(), StreamSource.CLIENT, StreamAction.SEND, frame
            )
        )

    put({"id": 0x123, "data": "deadbeef"})
    assert expect(peer).data.hex() == "deadbeef"
    with pytest.raises(BadArgs, match="0 to 8"):
        put({"id": 0x123, "data": "00" * 9})


def test_own_frames_are_on_the_stream_when_asked_for(rig: Callable) -> None:
    ecu = rig(INFO | {"receive_own_messages": True}).connect()
    ecu.command("start")
    ecu.command("send", id=0x42)
    (frame,) = ecu.sink.wait_frames(matches=has_id(0x42))
    assert frame.data == {"id": 0x42, "tx": True, "data": ""}


def test_a_hardware_clock_with_its_own_zero_becomes_time_since_the_epoch(rig: Callable) -> None:
    info = {"buses": [INFO["buses"][0] | {"preserve_timestamps": True}]}
    ecu = rig(info).connect()
    ecu.command("start")
    with can.Bus(
        channel="bench", interface="virtual", preserve_timestamps=True, ignore_config=True
    ) as peer:
        for stamp in (12.5, 12.75):
            peer.send(can.Message(arbitration_id=1, timestamp=stamp))
        first, second = ecu.sink.wait_frames(2, has_id(1))
    assert first.timestamp == pytest.approx(time.time(), abs=5)
    assert second.timestamp - first.timestamp == pytest.approx(0.25)


def test_a_bus_that_is_shut_under_the_stream_fails_it_with_the_reason(rig: Callable) -> None:
    ecu = rig(INFO).connect()
    ecu.command("start")
    ecu.runner.driver._bus.shutdown()
    assert "the bus is gone" in ecu.sink.wait_failure()
    assert not ecu.sink.open


def test_close_is_idempotent_and_the_device_connects_again(rig: Callable, peer: can.BusABC) -> None:
    ecu = rig(INFO).connect()
    ecu.command("start")
    ecu.runner.close()
    ecu.runner.close()
    ecu.connect()
    ecu.command("send", id=0x77)
    assert expect(peer).arbitration_id == 0x77


def test_two_devices_do_not_meet(rig: Callable) -> None:
    info = {
        "buses": [
            {"name": "a", "interface": "virtual", "channel": "A"},
            {"name": "b", "interface": "virtual", "channel": "B"},
        ]
    }
    a, b = rig(info, "a").connect(), rig(info, "b").connect()
    a.command("start")
    b.command("start")
    for channel, number in (("A", 1), ("B", 2)):
        with can.Bus(channel=channel, interface="virtual", ignore_config=True) as peer:
            peer.send(can.Message(arbitration_id=number))
    a.sink.wait_frames(matches=has_id(1))
    b.sink.wait_frames(matches=has_id(2))
    a.runner.close()
    b.command("send", id=3)
    assert [frame.channel for frame in a.sink.frames + b.sink.frames] == ["a", "b"]


def test_a_device_that_was_not_scanned_here_opens_by_its_attributes(
    rig: Callable, peer: can.BusABC
) -> None:
    device = Device("handmade", "CAN", "CAN", {"interface": "virtual", "channel": "bench"})
    runner = DriverRunner(SocketCANDriver, {}, device)
    runner.initialize()
    runner.connect()
    runner.command("send", {"id": 9})
    assert expect(peer).arbitration_id == 9
    runner.close()
