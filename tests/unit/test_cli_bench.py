"""What `sat up` would run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sat_cli.bench import Bench, demo_drivers, hints, programs
from sat_toolkit.errors import ConfigError


def bench(**changes: Any) -> Bench:
    fields: dict[str, Any] = {
        "broker_url": "mqtt://127.0.0.1:1884", "broker_kind": "mosquitto", "bind": "127.0.0.1", "port": 1884,
        "ws_port": None, "site": "lab", "families": ("can", "serial"), "plugins": "/p", "demo": True,
        "state": Path("/state"), "runtime": Path("/run/x"),
    }  # fmt: skip
    return Bench(**(fields | changes))


def test_a_whole_bench_in_order_of_its_start() -> None:
    found = programs(bench(), {})
    assert [p.name for p in found] == ["broker", "sim-ecu", "orchestrator", "host-can", "host-serial"]
    assert [p.name for p in found if p.last] == ["broker"]


def test_every_service_is_told_broker_and_site() -> None:
    for program in programs(bench(site="s"), {})[2:]:
        assert program.argv[-4:] == ("--broker", "mqtt://127.0.0.1:1884", "--site", "s")


def test_a_broker_from_outside_is_not_started() -> None:
    assert "broker" not in [p.name for p in programs(bench(broker_kind=None), {})]


def test_without_the_demo_there_is_no_ecu_and_drivers_are_left_alone() -> None:
    found = {p.name: p for p in programs(bench(demo=False), {"SAT_DRIVERS": "{}"})}
    assert "sim-ecu" not in found
    assert found["host-can"].env["SAT_DRIVERS"] == "{}"


def test_the_demo_bus_joins_what_the_user_has_configured() -> None:
    mine = {"drv_socketcan": {"buses": [{"name": "mine"}], "x": 1}, "drv_other": {"y": 2}}
    found = demo_drivers(json.dumps(mine), Path("/run/ecu"))
    assert found["drv_other"] == {"y": 2}
    assert found["drv_socketcan"]["x"] == 1
    assert found["drv_socketcan"]["buses"] == [
        {"name": "mine"},
        {"name": "ecu", "interface": "slcan", "channel": "/run/ecu"},
    ]


@pytest.mark.parametrize("text", ["[]", "{", '{"drv_socketcan": 1}', '{"drv_socketcan": {"buses": [1]}}'])
def test_drivers_that_are_no_object_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="SAT_DRIVERS"):
        demo_drivers(text, Path("/run/ecu"))


def test_the_users_policy_and_database_win() -> None:
    mine = {"SAT_POLICY": "[]", "SAT_DATABASE_URL": "sqlite:///mine.db"}
    env = next(p.env for p in programs(bench(), mine) if p.name == "orchestrator")
    assert env == mine


def test_the_hints_name_port_and_broker_where_they_are_not_the_usual_ones() -> None:
    assert "sat ls --broker mqtt://127.0.0.1:1884" in hints(bench())
    usual = hints(bench(port=1883, broker_url="mqtt://127.0.0.1:1883"))
    assert usual[0] == "sat ls"
    assert usual[-1] == "mosquitto_sub -h 127.0.0.1 -p 1883 -v -t 'sat/1/#'"
