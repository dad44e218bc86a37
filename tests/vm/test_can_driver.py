"""The SocketCAN driver on the kernel's CAN, in the virtual machine: vcan, CAN FD, and two
controllers on one bus."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.vm.machine import Image, Machine, Process

TIMEOUT = 60.0
FLOOD = 40_000


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with Machine(Image.build()) as machine:
        machine.shell("modprobe -a can_raw can_bcm vcan kvaser_pci")
        machine.shell("ip link add vcan0 type vcan; ip link set vcan0 mtu 16 up")
        machine.shell("ip link add vcan1 type vcan; ip link set vcan1 mtu 72 up")
        machine.shell(
            "for link in can0 can1; do ip link set $link up type can bitrate 500000; done"
        )
        yield machine


class Guest:
    """The program in the guest that has the drivers."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._answers = 0

    def ask(self, bus: str, name: str, args: dict[str, Any]) -> Any:
        self._process.write(json.dumps([bus, name, args]).encode() + b"\n")
        self._answers += 1
        deadline = time.monotonic() + TIMEOUT
        while len(lines := self._process.lines()) < self._answers:
            self._process.read(deadline - time.monotonic())
            assert not self._process.ended, self._process.stderr.decode()
            assert time.monotonic() < deadline, "no answer"
        return json.loads(lines[self._answers - 1])


@pytest.fixture(scope="module")
def guest(machine: Machine) -> Iterator[Guest]:
    with machine.start("python3", "/tree/tests/vm/can_driver.py") as process:
        yield Guest(process)


class Driver:
    """A driver in the guest, its bus connected."""

    def __init__(self, guest: Guest, name: str) -> None:
        self._guest = guest
        self._name = name

    def do(self, name: str, **args: Any) -> Any:
        return self._guest.ask(self._name, name, args)


@pytest.fixture
def driver(guest: Guest) -> Iterator[Callable[..., Driver]]:
    """Opens drivers, and closes them."""
    made: list[Driver] = []

    def make(link: str, **config: Any) -> Driver:
        made.append(Driver(guest, f"{link}/{len(made)}"))
        made[-1].do("open", link=link, config=config)
        return made[-1]

    yield make
    for each in made:
        each.do("close")


def untimed(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in frame.items() if key != "t"} for frame in frames]


def cangen(machine: Machine, link: str, *options: str) -> None:
    """Generate frames; when the queue is full it waits."""
    machine.check("cangen", link, "-p", "10", "-i", *options, timeout=TIMEOUT)


def test_frames_of_every_kind_are_told_apart(
    machine: Machine, driver: Callable[..., Driver]
) -> None:
    bus = driver("vcan1")
    bus.do("start")
    before = float(machine.shell("date +%s.%N"))
    for frame in (
        "123#DEAD",
        "18FF50E5##1" + "AA" * 12,
        "005##0" + "BB" * 64,
        "7DF#R8",
        "20000004#0001000000000000",
    ):
        machine.check("cansend", "vcan1", frame)
    frames = bus.do("frames", n=5)
    assert untimed(frames) == [
        {"id": 0x123, "tx": True, "data": "dead"},
        {"id": 0x18FF50E5, "ext": True, "fd": True, "brs": True, "tx": True, "data": "aa" * 12},
        {"id": 5, "fd": True, "tx": True, "data": "bb" * 64},
        {"id": 0x7DF, "rtr": True, "tx": True, "dlc": 8, "data": ""},
        {"id": 4, "err": True, "tx": True, "data": "0001000000000000"},
    ]
    stamps = [frame["t"] for frame in frames]
    assert stamps == sorted(stamps)
    assert before < stamps[0]
    assert stamps[-1] < float(machine.shell("date +%s.%N"))
    status = bus.do("status")
    assert (
        status["counters"]["rx"],
        status["counters"]["errors"],
        status["counters"]["overruns"],
    ) == (5, 1, 1)
    assert status["fd"] is True
    assert (
        status["receive_buffer"] == 8 * 1024 * 1024
    )  # with CAP_NET_ADMIN, whatever net.core.rmem_max says


@pytest.mark.parametrize("own", [False, True])
def test_own_frames_come_back_when_asked_for(driver: Callable[..., Driver], *, own: bool) -> None:
    sender, other = driver("can0", receive_own_messages=own), driver("can1")
    for bus in (sender, other):
        bus.do("start")
    sender.do("send", id=0x11, data="01")
    assert untimed(other.do("frames", n=1)) == [{"id": 0x11, "data": "01"}]
    other.do("send", id=0x22, data="02")
    expected = [{"id": 0x11, "tx": True, "data": "01"}] * own + [{"id": 0x22, "data": "02"}]
    assert untimed(sender.do("frames", n=len(expected))) == expected


@pytest.mark.parametrize("senders", [1, 3])
def test_received_and_lost_are_sent_under_a_flood(
    machine: Machine, driver: Callable[..., Driver], senders: int
) -> None:
    bus = driver("vcan0")
    bus.do("start")
    options = ("-g", "0", "-L", "8", "-D", "i", "-n", str(FLOOD))
    with ExitStack() as stack:
        floods = [
            stack.enter_context(
                machine.start("cangen", "vcan0", "-p", "10", "-i", "-I", str(n), *options)
            )
            for n in range(1, senders + 1)
        ]
        assert [flood.wait(TIMEOUT).status for flood in floods] == [0] * senders
    account = bus.do("account", n=senders * FLOOD)
    assert account["received"] + sum(account["lost"].values()) == senders * FLOOD
    if senders == 1 and "link" not in account["lost"]:
        assert account["misplaced"] == 0
    assert bus.do("status")["counters"]["overruns"] == sum(account["lost"].values())


def test_what_a_slow_reader_misses_is_counted_at_its_place(
    machine: Machine, driver: Callable[..., Driver]
) -> None:
    bus = driver("vcan0")
    bus.do("shrink_buffer", size=20_000)
    bus.do("start")
    cangen(machine, "vcan0", "-g", "0", "-I", "1", "-L", "8", "-D", "i", "-n", str(FLOOD))
    account = bus.do("account", n=FLOOD)
    assert account["lost"].get("kernel", 0) > 0
    assert account["received"] + sum(account["lost"].values()) == FLOOD
    if "link" not in account["lost"]:
        assert account["misplaced"] == 0


@pytest.mark.parametrize("way", ["list", "block"])
def test_more_frames_than_the_queue_holds_are_all_sent_in_order(
    driver: Callable[..., Driver], way: str
) -> None:
    sender = driver(
        "can0", receive_own_messages=True
    )  # the emulated controller that receives loses some
    sender.do("start")
    frames = [
        {"id": number & 0x7FF, "data": number.to_bytes(8, "big").hex()} for number in range(1000)
    ]
    result = (
        sender.do("send", frames=frames)
        if way == "list"
        else sender.do("send_block", frames=frames)
    )
    assert result == {"sent": 1000, "failed": []}
    assert untimed(sender.do("frames", n=1000)) == [frame | {"tx": True} for frame in frames]
    assert sender.do("status")["counters"]["tx"] == 1000


def test_fd_frames_are_sent_where_the_link_carries_them(driver: Callable[..., Driver]) -> None:
    fd, classic = driver("vcan1", receive_own_messages=True), driver("vcan0")
    fd.do("start")
    frames = [{"id": 1, "fd": True, "brs": True, "data": "aa" * 64}, {"id": 2, "data": "01"}]
    assert fd.do("send", frames=frames) == {"sent": 2, "failed": []}
    assert fd.do("send_block", frames=frames) == {"sent": 2, "failed": []}
    assert untimed(fd.do("frames", n=4)) == [frame | {"tx": True} for frame in frames * 2]
    for result in (classic.do("send", frames=frames), classic.do("send_block", frames=frames)):
        assert (result["sent"], [entry["index"] for entry in result["failed"]]) == (1, [0])
        assert "no CAN FD" in result["failed"][0]["reason"]


def test_the_kernel_sends_cyclic_frames_on_time_and_counted_out(
    driver: Callable[..., Driver],
) -> None:
    sender, other = driver("vcan0"), driver("vcan0")
    other.do("start")
    sender.do("send", id=0x10, data="01", period_ms=5, count=40)
    stamps = [frame["t"] for frame in other.do("frames", n=40)]
    assert 0.18 < stamps[-1] - stamps[0] < 1.0  # an emulated machine may be late
    assert sender.do("send", id=0x10, data="02", period_ms=2)["replaced"] is False
    other.do("frames", n=50)
    assert sender.do("send", id=0x10, data="03", period_ms=2)["replaced"] is True
    assert sender.do("status")["cyclic"][0]["data"] == "03"
    assert sender.do("send", stop=True) == {"stopped": 1}
    sender.do("send", id=0x77)
    while 0x77 not in [frame["id"] for frame in other.do("frames", n=1)]:
        continue
    sender.do("send", id=0x78)
    assert [frame["id"] for frame in other.do("frames", n=1)] == [0x78]


def test_a_link_that_goes_down_is_outlived_and_one_that_is_removed_is_not(
    machine: Machine, driver: Callable[..., Driver]
) -> None:
    machine.shell("ip link add vcan9 type vcan; ip link set vcan9 up")
    bus = driver("vcan9")
    bus.do("start")
    machine.shell(
        "cansend vcan9 001#; ip link set vcan9 down; ip link set vcan9 up; cansend vcan9 002#"
    )
    assert [frame["id"] for frame in bus.do("frames", n=2)] == [1, 2]
    machine.shell("ip link del vcan9")
    assert "the bus is gone" in bus.do("wait_failure")
