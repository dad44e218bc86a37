"""Links that come, go, and go down and up while they stream."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from sat_client import Rack
from sat_toolkit.errors import DriverError
from tests.vm.buses import Link, eventually_true, plain, virtual_link
from tests.vm.machine import Machine

# The kernel tells of links at once. An emulated machine on a busy one needs more than the second of
# a real one.
NOTICED_WITHIN = 5.0


@pytest.fixture(scope="module")
def steady(machine: Machine, rack: Rack) -> Iterator[Link]:
    with virtual_link(machine, rack, "vcan1") as link:
        yield link


def test_a_link_that_goes_down_and_up_keeps_its_stream(steady: Link) -> None:
    stream = steady.stream
    for _ in range(3):
        steady.machine.shell("ip link set vcan1 down")
        steady.await_attribute("state", "down")
        assert steady.do("status")["up"] is False
        with pytest.raises(DriverError, match="Network is down"):
            steady.do("send", id=1)
        steady.machine.shell("ip link set vcan1 up")
        steady.await_attribute("state", "up")
        assert plain(steady.frames_of(lambda: steady.cansend("103#01"))) == [
            {"id": 0x103, "data": "01"}
        ]
    assert steady.stream == stream
    assert steady.device.state == "connected"


def test_a_link_is_plugged_brought_up_pulled_while_another_streams_and_plugged_again(
    steady: Link,
) -> None:
    machine, link = steady.machine, Link(steady.machine, steady.rack, "vcan2")
    try:
        machine.shell("ip link add vcan2 type vcan")
        added = time.monotonic()
        eventually_true(lambda: link.known, "vcan2 is a device")
        assert time.monotonic() - added < NOTICED_WITHIN
        assert link.attribute("state") == "down"
        reason = "the link vcan2 is down; bringing it up needs CAP_NET_ADMIN: as root, `ip link set vcan2 up`"
        eventually_true(
            lambda: reason in (link.device.status.reason if link.device.status else ""), reason
        )

        machine.shell("ip link set vcan2 up")
        first = link.await_stream().stream
        assert link.attribute("state") == "up"
        assert plain(link.frames_of(lambda: link.cansend("101#AB"))) == [
            {"id": 0x101, "data": "ab"}
        ]

        def pull() -> None:
            with machine.start(
                "cangen", "vcan1", "-n", "300", "-g", "5", "-I", "i", "-L", "2", "-D", "i"
            ) as traffic:
                machine.shell("ip link del vcan2")
                pulled = time.monotonic()
                eventually_true(lambda: link.device.state == "unknown", "vcan2 is gone")
                assert time.monotonic() - pulled < NOTICED_WITHIN
                assert traffic.wait().status == 0

        assert [frame["id"] for frame in steady.frames_of(pull)] == list(range(300))
        assert link.device.status is not None
        assert link.device.status.reason == "unplugged"

        machine.shell("ip link add vcan2 type vcan; ip link set vcan2 up")
        eventually_true(lambda: link.stream not in (None, first), "vcan2 streams again")
        assert plain(link.frames_of(lambda: link.cansend("102#"))) == [{"id": 0x102, "data": ""}]
    finally:
        machine.run("ip", "link", "del", "vcan2")
