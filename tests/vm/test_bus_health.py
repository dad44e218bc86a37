"""States of a controller, bus-off and its end, down and up as events, and the load: by kernel
drivers.

The bus with error states is that of a software USB adapter under the kernel's own driver
(usb2can.py).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest

from sat_bus.contract import topics
from sat_client import Rack
from sat_client.feed import Feed
from sat_toolkit.errors import SatError
from tests.vm.buses import DEADLINE, MARK, Link, eventually_true, plain, virtual_link
from tests.vm.machine import Machine, Process


class Events:
    """The driver's events of one link, from now on."""

    def __init__(self, feed: Feed, link: Link) -> None:
        self._feed = feed
        self._link = link
        self._told: list[dict[str, Any]] = []

    def wait(self, name: str, **fields: Any) -> dict[str, Any]:
        """The data of the next event of this name with these fields, and when it was told; others
        are let go."""
        deadline = time.monotonic() + DEADLINE
        while (left := deadline - time.monotonic()) > 0:
            heard = self._feed.get(left)
            if (
                heard is None
                or heard.message is None
                or heard.match.levels["device"] != self._link.name
            ):
                continue
            event = heard.message.model_dump()
            self._told.append(event)
            if event["event"] == f"driver.{name}" and fields.items() <= event["data"].items():
                return dict(event["data"], at=event["at"])
        raise AssertionError(
            f"no {name} with {fields} within {DEADLINE:g} s; told: {self._told[-10:]}"
        )


@contextmanager
def events_of(link: Link) -> Iterator[Events]:
    with link.rack.feed(topics.DEVICE_EVENT) as feed:
        yield Events(feed, link)


class Adapter(Link):
    """The link of the software adapter."""

    def __init__(self, machine: Machine, rack: Rack, name: str, process: Process) -> None:
        super().__init__(machine, rack, name)
        self._process = process

    def tell(self, line: str) -> None:
        self._process.write(line.encode() + b"\n")

    def mark(self, number: int) -> None:
        self.tell(f"frame {MARK:03x} {number:02x}")

    def up(self, bitrate: int = 500_000, restart_ms: int = 0) -> None:
        """Bring the link up anew with these settings."""
        link = f"ip link set {self.name}"
        self.machine.shell(
            f"{link} down; {link} up type can bitrate {bitrate} restart-ms {restart_ms}"
        )

    def bus_offs(self) -> list[float]:
        """When the kernel noted them, in seconds since its start."""
        return [
            float(time)
            for time in re.findall(
                rf"\[ *([\d.]+)\].* {self.name}: bus-off", self.machine.shell("dmesg")
            )
        ]

    def await_state(self, state: str) -> None:
        eventually_true(lambda: self.do("status")["bus_state"] == state, f"{self.name} is {state}")

    def carries_frames(self) -> bool:
        """Whether a frame on the bus comes out of the stream."""
        came = self.frames_of(lambda: self.tell("frame 123 deadbeef"))
        return plain([frame for frame in came if "err" not in frame]) == [
            {"id": 0x123, "data": "deadbeef"}
        ]


@pytest.fixture(scope="module")
def pair(machine: Machine) -> Iterator[None]:
    """The emulated cards, up; they have the names can0 and can1 in all modules."""
    machine.shell(
        "modprobe kvaser_pci; for l in can0 can1; do ip link set $l up type can bitrate 500000; done"
    )
    yield
    machine.run("sh", "-c", "ip link set can0 down; ip link set can1 down")


@pytest.fixture(scope="module")
def adapter(machine: Machine, rack: Rack, pair: None) -> Iterator[Adapter]:
    with machine.start("python3", "/tree/tests/vm/usb2can.py", timeout=3600.0) as process:
        process.wait_output("^attached$", DEADLINE)
        folder = "/sys/bus/usb/drivers/usb_8dev/*/net"
        eventually_true(
            lambda: machine.run("sh", "-c", f"ls {folder}").status == 0, "the adapter has a link"
        )
        adapter = Adapter(machine, rack, machine.shell(f"ls {folder}").strip(), process)
        adapter.up()
        adapter.await_stream()
        yield adapter
        machine.run("ip", "link", "set", adapter.name, "down")


def test_states_and_counters_of_the_controller_are_in_status_and_told(adapter: Adapter) -> None:
    with events_of(adapter) as events:
        for word, tx, rx in (("warning", 97, 3), ("passive", 130, 4), ("active", 0, 0)):
            adapter.tell(f"{word} {tx} {rx}")
            told = events.wait("bus_state", state=f"error-{word}")
            assert (told["tx_errors"], told["rx_errors"]) == (tx, rx)
            status = adapter.do("status")
            assert status["bus_state"] == f"error-{word}"
            assert status["counters"]["controller_tx_errors"] == tx
            assert status["counters"]["controller_rx_errors"] == rx
    assert (status["bitrate"], status["sample_point"], status["up"]) == (500_000, 0.875, True)
    assert status["bus_off"]["recovery"] == "driver"
    assert adapter.carries_frames()


def test_a_bus_off_controller_is_restarted_ever_later_until_the_bus_is_well(
    adapter: Adapter,
) -> None:
    stream, before = adapter.stream, adapter.do("status")["bus_off"]
    with events_of(adapter) as events:
        adapter.tell("short")
        told = [
            events.wait("bus_state", state="bus-off", bus_offs=before["count"] + n)
            for n in (1, 2, 3)
        ]
        waits = [later - earlier for earlier, later in pairwise(adapter.bus_offs()[-3:])]
        assert waits[0] > 0.75
        assert waits[1] > 1.5
        off = adapter.do("status")["bus_off"]
        assert off["count"] >= before["count"] + 3
        assert off["last"] == pytest.approx(told[-1]["at"], abs=5)
        adapter.tell("mend")
        adapter.await_state("error-active")
    assert adapter.do("status")["bus_off"]["recoveries"] > before["recoveries"]
    assert adapter.carries_frames()
    assert adapter.stream == stream
    assert adapter.device.state == "connected"


def test_the_kernels_own_restart_is_left_to_it(adapter: Adapter) -> None:
    adapter.up(restart_ms=300)
    adapter.await_state("error-active")
    assert adapter.do("status")["restart_ms"] == 300
    with events_of(adapter) as events:
        adapter.tell("bus-off 255 0")
        events.wait("bus_state", recovery="kernel")
        adapter.await_state("error-active")
    assert adapter.do("status")["bus_off"]["attempts"] == 0
    assert adapter.carries_frames()
    adapter.up()


# A driver without a host, which prints its events.
ALONE = """
import json, sys
from plugins.devices.can.drv_socketcan import SocketCANDriver
from sat_toolkit.core.runner import DriverRunner

def told(event, data):
    print(event, json.dumps(data), flush=True)

device = next(device for device in DriverRunner(SocketCANDriver).scan() if device.device_id == sys.argv[1])
runner = DriverRunner(SocketCANDriver, device=device, on_event=told)
runner.initialize()
runner.connect()
print("connected", flush=True)
sys.stdin.read()
runner.close()
"""


def test_without_the_privilege_the_command_to_type_is_told(adapter: Adapter) -> None:
    nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--inh-caps=-all",
        "--bounding-set=-all",
    ]
    with adapter.machine.start(*nobody, "python3", "-c", ALONE, adapter.name) as process:
        process.wait_output("^connected$", DEADLINE)
        # The host in the machine may restart it and does so ever later: the turn of this one comes.
        adapter.tell("short")
        told = json.loads(process.wait_output("^bus_recovery (.*)$", DEADLINE)[1])
        adapter.tell("mend")
    expected = (
        f"restarting it needs CAP_NET_ADMIN: as root, `ip link set {adapter.name} type can restart`"
    )
    assert told == {"state": "failed", "reason": expected}
    adapter.await_state("error-active")


def test_down_and_up_are_told_and_the_new_bit_rate_is_known(adapter: Adapter) -> None:
    with events_of(adapter) as events:
        adapter.machine.shell(f"ip link set {adapter.name} down")
        events.wait("bus_state", state="down")
        assert adapter.do("status")["bus_state"] == "down"
        adapter.up(250_000)
        events.wait("bus_state", state="error-active", was="down")
    assert adapter.do("status")["bitrate"] == 250_000
    assert adapter.carries_frames()


def test_a_link_that_comes_up_for_can_fd_is_opened_anew(machine: Machine, rack: Rack) -> None:
    with virtual_link(machine, rack, "vcan8", "mtu 16") as link:
        assert link.do("status")["fd"] is False
        machine.shell("ip link set vcan8 down; ip link set vcan8 mtu 72; ip link set vcan8 up")

        def is_anew() -> bool:
            try:
                return link.stream is not None and link.do("status")["fd"] is True
            except SatError:  # it is in error, or on its way out of it
                return False

        eventually_true(lambda: link.device.state != "connected" or is_anew(), "vcan8 is closed")
        eventually_true(is_anew, "vcan8 streams for CAN FD")
        assert plain(link.frames_of(lambda: link.cansend("105##1" + "AB" * 12))) == [
            {"id": 0x105, "fd": True, "brs": True, "data": "ab" * 12}
        ]


def test_error_frames_of_a_virtual_link_are_told_though_nobody_restarts_it(
    machine: Machine, rack: Rack
) -> None:
    with virtual_link(machine, rack, "vcan6") as link, events_of(link) as events:
        link.cansend("20000204#0008000000006002")
        told = events.wait("bus_state", state="error-warning")
        assert (told["tx_errors"], told["rx_errors"]) == (96, 2)
        link.cansend("20000040#0000000000000000")
        assert events.wait("bus_state", state="bus-off")["recovery"] == "nobody"
        link.cansend("20000100#0000000000000000")
        assert events.wait("bus_state", state="error-active")["recoveries"] == 1
        assert link.do("status")["counters"]["errors"] == 3


@pytest.mark.usefixtures("pair")
def test_the_load_is_that_of_the_frames_on_the_bus(machine: Machine, rack: Rack) -> None:
    link = Link(machine, rack, "can1").await_stream()
    bits = {"": 111 + 97 / 30, "-e": 131 + 117 / 30}
    for extended, each in bits.items():
        with machine.start(
            "cangen", "can0", "-g", "4", "-L", "8", "-I", "i", "-D", "r", *extended.split()
        ):
            # The sums are the kernel's; which kind the frames are of is seen in those that are
            # read.
            eventually_true(lambda: (link.do("status")["frames_per_s"] or 0) > 50, "frames")
            eventually_true(
                lambda each=each: _is_load(link.do("status"), each),
                f"a load by frames of {each:.0f} bits",
            )
        eventually_true(lambda: link.do("status")["load"]["percent"] == 0.0, "no load")


def _is_load(status: dict[str, Any], bits: float) -> bool:
    load, expected = status["load"], 100 * status["frames_per_s"] * bits / 500_000
    return (
        expected > 0
        and load["percent"] == pytest.approx(expected, abs=0.1)
        and load["percent_max"] > expected
    )
