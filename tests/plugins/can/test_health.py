"""The rules of a bus's health: states, what is told of them, and when a restart is due."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.devices.can.health import BusHealth, Policy, Signs, parse_policy, read_error_frame
from plugins.devices.can.links import CanLink
from sat_toolkit.errors import ConfigError

CONTROLLER = CanLink(
    "can0", "can", True, False, "pci", 500_000, controller="error-active", tx_errors=0, rx_errors=0
)
VIRTUAL = CanLink("vcan0", "vcan", True, True, "vcan:vcan0")


def health(
    policy: Policy | None = None, spread: float = 0.0, link: CanLink = CONTROLLER
) -> BusHealth:
    bus = BusHealth(policy or Policy(), lambda: spread)
    bus.saw_link(link, 0.0)
    return bus


def in_state(state: str, link: CanLink = CONTROLLER, **changes: Any) -> CanLink:
    return replace(link, controller=state, **changes)


def error_frame(flags: int, *data: int) -> bytes:
    return struct.pack("=IB3x8s", 0x2000_0000 | flags, 8, bytes(data).ljust(8, b"\0"))


@pytest.mark.parametrize(
    ("frame", "signs"),
    [
        (error_frame(0x040), Signs("bus-off")),
        (error_frame(0x100), Signs("error-active")),
        (error_frame(0x204, 0, 0x08, 0, 0, 0, 0, 97, 4), Signs("error-warning", 97, 4)),
        (error_frame(0x204, 0, 0x30, 0, 0, 0, 0, 130, 129), Signs("error-passive", 130, 129)),
        (error_frame(0x204, 0, 0x40), Signs("error-active", 0, 0)),
        (error_frame(0x004, 0, 0x04, 0, 0, 0, 0, 0, 96), Signs("error-warning", 0, 96)),
        (error_frame(0x004, 0, 0x01), Signs()),
        (error_frame(0x088, 0, 0, 4), Signs()),
        (b"", Signs()),
    ],
    ids=[
        "bus-off",
        "restarted",
        "warning",
        "passive",
        "active",
        "counted by older kernels",
        "overrun",
        "bus error",
        "cut",
    ],
)
def test_what_an_error_frame_says(frame: bytes, signs: Signs) -> None:
    assert read_error_frame(frame) == signs


@given(st.binary(max_size=80))
def test_no_frame_is_odd_enough_to_fail(frame: bytes) -> None:
    assert read_error_frame(frame).state in (
        None,
        "error-active",
        "error-warning",
        "error-passive",
        "bus-off",
    )


def test_every_change_is_told_once_with_the_counters() -> None:
    bus = health()
    assert bus.news() is None
    bus.saw_link(in_state("error-warning", tx_errors=97, rx_errors=2), 1.0)
    assert bus.news() == {
        "state": "error-warning",
        "was": "error-active",
        "tx_errors": 97,
        "rx_errors": 2,
    }
    bus.saw_link(in_state("error-warning", tx_errors=99, rx_errors=2), 2.0)
    assert bus.news() is None
    assert bus.tx_errors == 99


def test_a_link_goes_down_comes_up_and_is_removed() -> None:
    bus = health(link=VIRTUAL)
    told = []
    for second, link in enumerate([replace(VIRTUAL, up=False), VIRTUAL, None]):
        bus.saw_link(link, float(second))
        told.append(bus.news())
    assert told == [
        {"state": "down", "was": "error-active"},
        {"state": "error-active", "was": "down"},
        {"state": "removed", "was": "error-active"},
    ]


def test_error_frames_alone_tell_the_state_of_a_link_without_a_controller_until_it_goes_down() -> (
    None
):
    bus = health(link=VIRTUAL)
    bus.saw_error_frame(Signs("error-passive", 130, 0), 1.0)
    bus.saw_link(VIRTUAL, 2.0)
    assert bus.news() == {
        "state": "error-passive",
        "was": "error-active",
        "tx_errors": 130,
        "rx_errors": 0,
    }
    bus.saw_link(replace(VIRTUAL, up=False), 3.0)
    bus.saw_error_frame(Signs("bus-off"), 3.5)
    assert bus.state == "down"
    bus.saw_link(VIRTUAL, 4.0)
    assert bus.state == "error-active"


def test_the_end_of_a_bus_off_is_told_with_the_sums() -> None:
    bus = health()
    bus.saw_link(in_state("bus-off"), 1.0)
    off = bus.news()
    bus.saw_link(CONTROLLER, 2.0)
    on = bus.news()
    assert off is not None
    assert on is not None
    assert (off["was"], off["bus_offs"], off["recoveries"]) == ("error-active", 1, 0)
    assert (on["was"], on["bus_offs"], on["recoveries"]) == ("bus-off", 1, 1)


def test_a_bus_off_that_is_over_already_is_told_all_the_same() -> None:
    bus = health(link=replace(CONTROLLER, restart_ms=10))
    bus.saw_error_frame(Signs("bus-off"), 1.0)
    bus.saw_error_frame(Signs("error-active"), 1.01)
    bus.saw_link(replace(CONTROLLER, restart_ms=10), 1.02)
    assert bus.news() == {
        "state": "error-active",
        "was": "error-active",
        "tx_errors": 0,
        "rx_errors": 0,
        "bus_offs": 1,
        "recoveries": 1,
        "recovery": "kernel",
    }
    assert bus.news() is None


def delays(bus: BusHealth, count: int, *, stays: float = 0.0) -> list[float]:
    """What each of `count` bus-offs waits for its restart, when the bus stays well for `stays`
    seconds in between."""
    now, found = 100.0, []
    for _ in range(count):
        bus.saw_link(in_state("bus-off"), now)
        assert bus.due is not None
        found.append(bus.due - now)
        now = bus.due
        bus.restart_tried(now)
        bus.saw_link(CONTROLLER, now)
        assert bus.due is None
        now += stays
    return found


def test_the_wait_doubles_up_to_the_longest_while_it_goes_off_again_and_again() -> None:
    bus = health(Policy(first_s=1.0, max_s=10.0))
    assert delays(bus, 6, stays=2.0) == pytest.approx([1, 2, 4, 8, 10, 10])
    assert (bus.bus_offs, bus.recoveries) == (6, 6)
    assert bus.news() == {
        "state": "error-active",
        "was": "error-active",
        "tx_errors": 0,
        "rx_errors": 0,
        "bus_offs": 6,
        "recoveries": 6,
        "recovery": "driver",
    }
    assert delays(bus, 3, stays=11.0) == pytest.approx([10, 1, 1])


def test_restarts_are_spread_and_never_later_than_the_longest() -> None:
    assert delays(health(Policy(first_s=8.0, max_s=8.0), spread=1.0), 2) == pytest.approx([6, 6])
    assert delays(health(Policy(first_s=8.0, max_s=8.0), spread=0.0), 2) == pytest.approx([8, 8])


def test_it_is_tried_again_while_it_stays_off_until_it_cannot_be() -> None:
    bus = health(Policy(first_s=1.0, max_s=60.0))
    bus.saw_link(in_state("bus-off"), 0.0)
    for due in (1.0, 3.0, 7.0):
        assert bus.due == pytest.approx(due)
        bus.restart_tried(due)
        bus.saw_link(in_state("bus-off"), due)
    assert (bus.attempts, bus.bus_offs) == (3, 1)
    bus.restart_tried(15.0, "needs CAP_NET_ADMIN")
    assert (bus.due, bus.problem) == (None, "needs CAP_NET_ADMIN")
    bus.saw_link(CONTROLLER, 20.0)
    assert (bus.problem, bus.attempts, bus.recoveries) == ("", 0, 1)


@pytest.mark.parametrize(
    ("policy", "link", "who"),
    [
        (Policy(), CONTROLLER, "driver"),
        (Policy(auto=False), CONTROLLER, "nobody"),
        (Policy(), replace(CONTROLLER, restart_ms=100), "kernel"),
        (Policy(), VIRTUAL, "nobody"),
    ],
)
def test_who_restarts_it(policy: Policy, link: CanLink, who: str) -> None:
    bus = health(policy, link=link)
    bus.saw_error_frame(Signs("bus-off"), 1.0)
    assert bus.recovery == who
    assert (bus.due is not None) == (who == "driver")


def test_a_link_that_goes_down_needs_no_restart() -> None:
    bus = health()
    bus.saw_link(in_state("bus-off"), 1.0)
    bus.saw_link(in_state("stopped", up=False), 2.0)
    assert bus.due is None
    assert bus.recoveries == 0


def test_the_policy_of_the_configuration() -> None:
    assert parse_policy({}) == Policy(True, 1.0, 60.0)
    assert parse_policy({"recovery": {"mode": "off"}}) == Policy(False)
    assert parse_policy({"recovery": {"first_s": 0.2, "max_s": 5}}) == Policy(True, 0.2, 5.0)


@pytest.mark.parametrize(
    ("recovery", "says"),
    [
        ("auto", "recovery takes"),
        ({"mode": "always"}, "'always'"),
        ({"after_s": 1}, "first_s"),
        ({"first_s": 0}, "0.01 to 86400, not 0"),
        ({"first_s": True}, "not True"),
        ({"max_s": "60"}, "recovery.max_s must be seconds"),
        ({"first_s": float("nan")}, "nan"),
        ({"first_s": 10, "max_s": 5}, "must not be less"),
    ],
)
def test_what_no_policy_is(recovery: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_policy({"recovery": recovery})
