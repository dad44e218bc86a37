"""Frames of the kernel's virtual CAN, in and out, with can-utils as the other side."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest

from sat_client import Rack
from sat_toolkit.errors import DriverError
from tests.vm.buses import MARK, Candump, Link, plain, virtual_link
from tests.vm.machine import Machine

# As cansend and candump write a frame, and as the contract does.
FRAMES = [
    ("123#0102", {"id": 0x123, "data": "0102"}),
    ("7FF#", {"id": 0x7FF, "data": ""}),
    ("00000012#DEADBEEF", {"id": 0x12, "ext": True, "data": "deadbeef"}),
    ("1FFFFFFF#0011223344556677", {"id": 0x1FFFFFFF, "ext": True, "data": "0011223344556677"}),
    ("321#R", {"id": 0x321, "rtr": True, "dlc": 0, "data": ""}),
    ("321#R5", {"id": 0x321, "rtr": True, "dlc": 5, "data": ""}),
    ("001##0AABBCC", {"id": 1, "fd": True, "data": "aabbcc"}),
    ("001##1" + "5A" * 64, {"id": 1, "fd": True, "brs": True, "data": "5a" * 64}),
    ("12345678##112", {"id": 0x12345678, "ext": True, "fd": True, "brs": True, "data": "12"}),
]


@pytest.fixture(scope="module")
def bus(machine: Machine, rack: Rack) -> Iterator[Link]:
    with virtual_link(machine, rack, "vcan0") as link:
        yield link


def test_the_wheel_runs_not_the_tree(bus: Link) -> None:
    found = bus.machine.shell(
        "python3 -c 'import plugins.devices.can as can, sat_host; print(can.__file__, sat_host.__file__)'"
    )
    assert found.split() == [
        "/opt/sat/plugins/devices/can/__init__.py",
        "/opt/sat/sat_host/__init__.py",
    ]


def test_every_kind_of_frame_comes_in_as_it_is(bus: Link) -> None:
    sent = [text for text, _ in FRAMES]
    assert plain(bus.frames_of(lambda: bus.cansend(*sent))) == [frame for _, frame in FRAMES]


def test_an_esi_flag_and_an_error_frame_come_in_as_such(bus: Link) -> None:
    errors = bus.do("status")["counters"]["errors"]
    came = plain(bus.frames_of(lambda: bus.cansend("002##3FF", "20000080#0000000000000000")))
    assert came == [
        {"id": 2, "fd": True, "brs": True, "esi": True, "data": "ff"},
        {"id": 0x80, "err": True, "data": "0" * 16},
    ]
    assert bus.do("status")["counters"]["errors"] == errors + 1


def test_a_burst_comes_whole_in_order_and_with_the_kernels_times(bus: Link) -> None:
    count = 3000
    with Candump(bus) as candump:
        came = bus.frames_of(
            lambda: bus.machine.check(
                "cangen", bus.name, "-n", str(count), "-g", "0", "-I", "i", "-L", "8", "-D", "i"
            )
        )
        seen = candump.frames(count)
    assert [f"{frame['id']:03X}#{frame['data'].upper()}" for frame in came] == [
        text for _, text in seen
    ]
    assert max(abs(frame["t"] - time) for frame, (time, _) in zip(came, seen, strict=True)) < 2e-6


def test_a_mix_of_random_frames_comes_as_candump_has_it(bus: Link) -> None:
    count = 500
    with Candump(bus) as candump:
        came = bus.frames_of(
            lambda: bus.machine.check("cangen", bus.name, "-n", str(count), "-g", "1", "-m", "-R")
        )
        seen = candump.frames(count)
    assert [(frame["id"], frame["data"].upper()) for frame in came if not frame.get("rtr")] == [
        (int(text.split("#")[0], 16), text.split("#")[-1][1 if "##" in text else 0 :])
        for _, text in seen
        if "#R" not in text
    ]
    assert {frame.get("fd", False) for frame in came} == {True, False}


@pytest.mark.parametrize(("text", "frame"), FRAMES, ids=[text[:12] for text, _ in FRAMES])
def test_every_kind_of_frame_goes_out_as_asked(
    bus: Link, text: str, frame: dict[str, object]
) -> None:
    with Candump(bus) as candump:
        asked = {
            "extended" if key == "ext" else "remote" if key == "rtr" else key: frame[key]
            for key in frame
        }
        answer = bus.do(
            "send", **{key: value for key, value in asked.items() if key != "data" or value}
        )
        assert {key: answer[key] for key in frame} == frame
        assert candump.frames(1)[0][1].upper() == text.upper()


def test_several_frames_and_published_frames_go_out_in_order(bus: Link) -> None:
    with Candump(bus) as candump:
        answer = bus.do("send", frames=[{"id": 0x100 + n, "data": f"{n:02x}"} for n in range(50)])
        assert (answer["sent"], answer["failed"]) == (50, [])
        bus.device.send({"id": 0x200, "data": "ff"}, {"id": 0x201, "data": "00" * 12, "fd": True})
        seen = [text for _, text in candump.frames(52)]
    assert seen == [f"{0x100 + n:03X}#{n:02X}" for n in range(50)] + [
        "200#FF",
        "201##0" + "00" * 12,
    ]


def test_the_kernel_sends_cyclic_frames(bus: Link) -> None:
    with Candump(bus) as candump:
        bus.do("send", id=0x234, data="aa", period_ms=40, count=6)
        counted = candump.frames(6)
        bus.do("send", id=0x235, period_ms=50)
        assert bus.name in bus.machine.shell("cat /proc/net/can-bcm/*")
        candump.frames(9)
        bus.do("send", id=0x235, stop=True)
        bus.machine.shell(f"cansend {bus.name} 236#; sleep 0.3; cansend {bus.name} 237#")
        seen = candump.frames_up_to("237#")
    times = [time for time, _ in counted]
    assert all(later - earlier > 0.01 for earlier, later in pairwise(times))
    assert 0.9 * 5 * 0.040 < times[-1] - times[0] < 2.0
    assert seen.count("234#AA") == 6
    assert seen[seen.index("236#") :] == ["236#", "237#"]


FILTER = {"id": "0x100", "mask": "0x700"}


def test_filters_are_the_kernels(bus: Link) -> None:
    bus.do("filter", filters=[FILTER, {"id": "0x1abcdef", "extended": True}, {"id": MARK}])
    try:
        lists = bus.machine.shell("cat /proc/net/can/rcvlist_fil /proc/net/can/rcvlist_eff")
        assert any(bus.name in line and "00000700" in line for line in lists.split("\n")), lists
        wanted, others = (
            ["100#01", "1FF#02", "01ABCDEF#03"],
            ["0FF#04", "200#05", "00000100#06", "01ABCDEE#07"],
        )
        sent = [text for pair in zip(others, [*wanted, ""], strict=True) for text in pair if text]
        came = bus.frames_of(lambda: bus.cansend(*sent))
        # A filter without `extended` lets both kinds through.
        assert [frame["data"] for frame in came] == ["01", "02", "06", "03"]
    finally:
        bus.do("filter", filters=[])
    assert bus.name in bus.machine.shell("cat /proc/net/can/rcvlist_all")


def test_a_link_for_classic_can_refuses_can_fd(machine: Machine, rack: Rack) -> None:
    with virtual_link(machine, rack, "classic0", "mtu 16") as link:
        assert link.attribute("fd") is False
        with pytest.raises(DriverError, match="carries no CAN FD frames"):
            link.do("send", id=1, data="00", fd=True)
        with Candump(link) as candump:
            link.do("send", id=1, data="00")
            assert candump.frames(1)[0][1] == "001#00"
