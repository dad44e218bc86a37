"""How a bench is shown: lines that are said once, a table that is drawn in place."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from sat_cli.bench.live import Lines, Table
from sat_cli.bench.monitor import Monitor
from tests.unit.client_site import FakeSite
from tests.unit.sat_cli.bench.made import turn_until_frames
from tests.waiting import eventually


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=100, force_terminal=False)


def printed(console: Console) -> str:
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_each_state_is_a_line_once(console: Console, monitor: Monitor, site: FakeSite) -> None:
    site.device("ecu", "discovered")
    site.born(devices=1)
    assert eventually(lambda: bool(monitor.rack.devices() and monitor.rack.hosts()))
    with Lines(console) as view:
        view.show(monitor, {}, 1.0)
        view.show(monitor, {}, 1.5)
        site.status("ecu", "error", reason="no carrier")
        assert eventually(lambda: monitor.rack.devices()[0].state == "error")
        view.show(monitor, {}, 2.0)
    lines = printed(console).splitlines()
    assert sorted(lines[:2]) == [
        "   1.0 s  bench-can/drv_socketcan/ecu: discovered",
        "   1.0 s  host bench-can: ready",
    ]
    assert lines[2:] == ["   2.0 s  bench-can/drv_socketcan/ecu: error (no carrier)"]


def test_the_traffic_is_a_line_now_and_then(
    console: Console, monitor: Monitor, site: FakeSite
) -> None:
    site.device("ecu", "connected")
    site.batch(0, 5)
    turn_until_frames(monitor, 5)
    view = Lines(console)
    for seconds in (1.0, 5.0, 6.0):
        view.show(monitor, {}, seconds)
    assert printed(console).count("5 frames, 0 lost") == 1


def test_the_table_shows_devices_services_and_hints(
    console: Console, monitor: Monitor, site: FakeSite
) -> None:
    site.device("ecu", "connected")
    site.batch(0, 5)
    site.batch(8, 1)
    turn_until_frames(monitor, 6)
    with Table(console, "broker on 1883", ("sat ls", "sat watch ecu")) as view:
        view.show(monitor, {"host-can": "running"}, 3725.0)
    said = printed(console)
    assert "SAT bench  broker on 1883  1:02:05" in said
    (row,) = [
        line.split() for line in said.splitlines() if " ecu " in f" {line} " and "watch" not in line
    ]
    assert row[:2] == ["ecu", "connected"]
    assert row[-3:] == ["6", "3", "bench-can"]
    assert "host-can running" in said
    assert "sat watch ecu" in said


def test_without_devices_the_table_says_so(console: Console, monitor: Monitor) -> None:
    with Table(console, "x", ()) as view:
        view.show(monitor, {}, 0.0)
    assert "no devices yet" in printed(console)
