"""Links that come, go, and go down and up while they stream."""

from __future__ import annotations

import time

import pytest

from sat_client import Rack
from sat_toolkit.errors import DriverError
from tests.vm.buses import Link, eventually_true, plain, virtual_link
from tests.vm.machine import Machine

# Told by the kernel at once; without that the next scan would find it. Emulated, a second is soon too short.
NOTICED_WITHIN = 5.0


def test_a_link_that_is_added_is_a_device_at_once_and_streams_when_it_is_up(machine: Machine, rack: Rack) -> None:
    link = Link(machine, rack, "vcan1")
    machine.shell("ip link add vcan1 type vcan")
    try:
        started = time.monotonic()
        eventually_true(lambda: link.known, "vcan1 is a device")
        assert time.monotonic() - started < NOTICED_WITHIN
        assert link.attribute("state") == "down"
        reason = "the link vcan1 is down; bringing it up needs CAP_NET_ADMIN: as root, `ip link set vcan1 up`"
        eventually_true(lambda: reason in (link.device.status.reason if link.device.status else ""), reason)
        machine.shell("ip link set vcan1 up")
        link.await_stream()
        assert link.attribute("state") == "up"
        assert plain(link.frames_of(lambda: link.cansend("101#AB"))) == [{"id": 0x101, "data": "ab"}]
    finally:
        machine.run("ip", "link", "del", "vcan1")


def test_a_link_that_is_removed_is_gone_and_comes_back_by_itself(machine: Machine, rack: Rack) -> None:
    with virtual_link(machine, rack, "vcan2") as link:
        first = link.stream
        machine.shell("ip link del vcan2")
        started = time.monotonic()
        eventually_true(lambda: link.device.state == "unknown", "vcan2 is gone")
        assert time.monotonic() - started < NOTICED_WITHIN
        assert link.device.status is not None
        assert link.device.status.reason == "unplugged"
        machine.shell("ip link add vcan2 type vcan; ip link set vcan2 up")
        eventually_true(lambda: link.stream not in (None, first), "vcan2 streams again")
        assert plain(link.frames_of(lambda: link.cansend("102#"))) == [{"id": 0x102, "data": ""}]


def test_a_link_that_goes_down_and_up_keeps_its_stream(machine: Machine, rack: Rack) -> None:
    with virtual_link(machine, rack, "vcan3") as link:
        stream = link.stream
        for _ in range(3):
            machine.shell("ip link set vcan3 down")
            link.await_attribute("state", "down")
            assert link.do("status")["up"] is False
            with pytest.raises(DriverError, match="Network is down"):
                link.do("send", id=1)
            machine.shell("ip link set vcan3 up")
            link.await_attribute("state", "up")
            assert plain(link.frames_of(lambda: link.cansend("103#01"))) == [{"id": 0x103, "data": "01"}]
        assert link.stream == stream
        assert link.device.state == "connected"


def test_one_links_trouble_is_not_anothers(machine: Machine, rack: Rack) -> None:
    with virtual_link(machine, rack, "vcan4") as steady, virtual_link(machine, rack, "vcan5") as unsteady:

        def trouble() -> None:
            with machine.start("cangen", "vcan4", "-n", "400", "-g", "5", "-I", "i", "-L", "2", "-D", "i") as traffic:
                machine.shell("ip link set vcan5 down; ip link set vcan5 up; ip link del vcan5")
                assert traffic.wait().status == 0

        came = steady.frames_of(trouble)
        assert [frame["id"] for frame in came] == list(range(400))
        eventually_true(lambda: unsteady.device.state == "unknown", "vcan5 is gone")
