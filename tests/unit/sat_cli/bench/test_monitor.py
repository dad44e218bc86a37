"""The verdict on a bench: who connected, what flowed, what was lost."""

from __future__ import annotations

import time

from sat_bus.contract import messages as m
from sat_bus.testing.memory import MemoryBus
from sat_cli.bench.monitor import Monitor
from sat_client import Rack
from sat_toolkit.core.device_spec import DeviceState
from tests.unit.client_site import SITE, FakeSite
from tests.unit.sat_cli.bench.made import turn_until_frames
from tests.waiting import eventually


def test_nothing_at_all_is_a_failure_with_its_reasons(monitor: Monitor) -> None:
    monitor.turn(0.0)
    assert monitor.problems() == ["no device connected", "no frames arrived"]
    assert monitor.summary() == {
        "devices": [], "frames": 0, "frames_per_s": 0.0, "dropped": 0, "gaps": 0, "time_to_connected_s": None,
    }  # fmt: skip


def test_a_connected_device_with_frames_is_a_success(monitor: Monitor, site: FakeSite) -> None:
    site.device("ecu", "connected")
    site.batch(0, 5)
    site.batch(5, 5)
    turn_until_frames(monitor, 10)
    assert monitor.problems() == []
    summary = monitor.summary()
    assert (summary["frames"], summary["dropped"], summary["gaps"]) == (10, 0, 0)
    assert summary["time_to_connected_s"] >= 0
    assert summary["devices"][0]["device"] == "ecu"
    assert summary["devices"][0]["state"] == "connected"


def test_frames_missing_at_the_very_beginning_count(monitor: Monitor, site: FakeSite) -> None:
    site.device("ecu", "connected")
    site.batch(3, 5)
    turn_until_frames(monitor, 5)
    assert monitor.problems() == ["3 frames were lost"]
    assert monitor.summary()["gaps"] == 3


def test_drops_that_the_host_counted_count(monitor: Monitor, site: FakeSite) -> None:
    site.device("ecu", "connected")
    site.batch(2, 5, kernel=2)
    site.batch(8, 5, kernel=2)
    turn_until_frames(monitor, 10)
    assert monitor.problems() == ["3 frames were lost"]
    assert (monitor.summary()["dropped"], monitor.summary()["gaps"]) == (2, 1)


def test_a_drop_that_the_host_tells_late_is_no_longer_a_gap(
    monitor: Monitor, site: FakeSite
) -> None:
    site.batch(0, 5)
    site.batch(8, 5)
    site.batch(13, 5, frames_full=3)
    turn_until_frames(monitor, 15)
    assert (monitor.summary()["dropped"], monitor.summary()["gaps"]) == (3, 0)


def test_what_a_wish_of_an_earlier_run_keeps_from_connecting_is_said(
    monitor: Monitor, site: FakeSite
) -> None:
    site.device("ecu", "discovered")
    site.device("console", "error", reason="the port is gone")
    desired = m.Desired(level="disconnected")
    site.row("ecu", observed=DeviceState.DISCOVERED, desired=desired, policy="explicit")
    assert eventually(lambda: any(device.row for device in monitor.rack.devices()))
    monitor.turn(0.0)
    assert monitor.problems() == [
        "no device connected",
        "no frames arrived",
        "console did not connect: the port is gone",
        "ecu did not connect: somebody wants it disconnected; `sat set ecu auto` gives it back to policy",
    ]


def test_what_keeps_others_from_connecting_is_no_failure(site: FakeSite) -> None:
    with Rack(site=SITE, bus=MemoryBus(site.broker, "monitor")) as rack:
        monitor = Monitor(rack, time.monotonic(), ["ecu"])
        site.device("ecu", "connected")
        site.device("other", "error", reason="the port is gone")
        site.batch(0, 1)
        turn_until_frames(monitor, 1)
        assert eventually(lambda: any(device.state == "error" for device in rack.devices()))
        assert monitor.problems() == []
        monitor.close()


def test_a_device_that_was_connected_once_counts_as_connected(
    monitor: Monitor, site: FakeSite
) -> None:
    site.device("ecu", "connected")
    site.batch(0, 1)
    turn_until_frames(monitor, 1)
    site.status("ecu", "disconnected")
    monitor.rack.device("ecu").wait_for("disconnected", 5.0)
    monitor.turn(0.0)
    assert monitor.problems() == []
    assert monitor.summary()["devices"][0]["state"] == "disconnected"
