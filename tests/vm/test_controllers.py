"""Two real controllers (emulated Kvaser cards) on one bus: bit rates, frames between them, a card
that is pulled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sat_client import Rack
from sat_toolkit.errors import DriverError
from tests.vm.buses import MARK, Candump, Link, eventually_true, plain
from tests.vm.machine import Machine


@pytest.fixture(scope="module")
def pair(machine: Machine, rack: Rack) -> Iterator[tuple[Link, Link]]:
    links = "for link in can0 can1; do ip link set $link down; ip link set $link up type can bitrate 500000; done"
    machine.shell(f"modprobe kvaser_pci; {links}")
    yield Link(machine, rack, "can0").await_stream(), Link(machine, rack, "can1").await_stream()
    machine.run("sh", "-c", "ip link set can0 down; ip link set can1 down")


def test_a_controller_tells_what_it_is(pair: tuple[Link, Link]) -> None:
    places = set()
    for link in pair:
        status = link.do("status")
        assert (status["bitrate"], status["up"], status["fd"]) == (500_000, True, False)
        assert status["bus_state"] == "error-active"
        assert (link.attribute("kind"), link.attribute("bitrate")) == ("can", 500_000)
        places.add(link.attribute("hardware_id"))
    assert len(places) == 2
    assert all("pci" in place for place in places)


# No remote frames: QEMU's controller loses its place in its buffer after one. A bus takes no time
# in there either, so a sender must leave the receiver some.
ASKED: list[dict[str, Any]] = [
    {"id": 0x123, "data": "deadbeef"},
    {"id": 0x1ABCDEF0, "extended": True, "data": "00"},
]
EXPECTED: list[dict[str, Any]] = [
    {"id": 0x123, "data": "deadbeef"},
    {"id": 0x1ABCDEF0, "ext": True, "data": "00"},
]


def sends_mark(link: Link) -> Callable[[int], object]:
    return lambda number: link.do("send", id=MARK, data=f"{number:02x}")


@pytest.mark.parametrize("direction", [1, -1])
def test_frames_cross_the_bus_and_do_not_come_back(pair: tuple[Link, Link], direction: int) -> None:
    here, there = pair[::direction]
    came: list[dict[str, Any]] = []

    def cross() -> None:
        came.extend(there.frames_of(lambda: here.do("send", frames=ASKED), sends_mark(here)))

    assert here.frames_of(cross, sends_mark(there)) == []
    assert plain(came) == EXPECTED


def test_a_steady_sender_loses_nothing(pair: tuple[Link, Link]) -> None:
    here, there = pair
    count = 300
    with Candump(there, here) as candump:
        came = there.frames_of(
            lambda: here.machine.check(
                "cangen",
                "can0",
                "-n",
                str(count),
                "-g",
                "10",
                "-p",
                "100",
                "-I",
                "i",
                "-L",
                "8",
                "-D",
                "i",
            ),
            here.mark,
        )
        seen = [text for _, text in candump.frames(count)]
    assert [f"{frame['id']:03X}#{frame['data'].upper()}" for frame in came] == seen


def test_a_controller_that_is_overrun_says_so(pair: tuple[Link, Link]) -> None:
    here, there = pair
    overruns = there.do("status")["counters"]["overruns"]
    here.machine.check("cangen", "can0", "-n", "1000", "-g", "0", "-p", "100", "-L", "8")
    kernels = here.machine.shell("cat /sys/class/net/can1/statistics/rx_over_errors")
    assert int(kernels) > 0
    eventually_true(
        lambda: there.do("status")["counters"]["overruns"] > overruns, "the overruns are counted"
    )


def test_a_controller_without_can_fd_refuses_it(pair: tuple[Link, Link]) -> None:
    with pytest.raises(DriverError, match="carries no CAN FD frames"):
        pair[0].do("send", id=1, data="00", fd=True)


def test_another_bit_rate_is_shown(pair: tuple[Link, Link]) -> None:
    link = pair[1]
    for rate in (250_000, 500_000):
        link.machine.shell(f"ip link set can1 down; ip link set can1 up type can bitrate {rate}")
        link.await_attribute("bitrate", rate)
        assert link.do("status")["bitrate"] == rate


def test_a_card_that_is_pulled_is_gone_and_is_the_same_device_when_it_is_back(
    pair: tuple[Link, Link],
) -> None:
    here, pulled = pair
    place = pulled.attribute("hardware_id")
    first = here.stream
    here.machine.pull("card1")
    eventually_true(lambda: pulled.device.state == "unknown", "can1 is gone")
    here.machine.plug("card1")
    eventually_true(
        lambda: here.machine.run("ip", "link", "show", "can1").status == 0, "the kernel has can1"
    )
    here.machine.shell("ip link set can1 up type can bitrate 500000")
    pulled.await_stream()
    assert pulled.attribute("hardware_id") == place
    assert here.stream == first
    came = pulled.frames_of(lambda: here.do("send", id=0x55), sends_mark(here))
    assert plain(came) == [{"id": 0x55, "data": ""}]
