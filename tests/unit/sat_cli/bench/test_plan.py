"""What `sat up` would run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sat_cli.bench.demo import FamilyDemo, Simulator
from sat_cli.bench.plan import EVERYTHING, BenchPlan, hints, programs

DEMO = FamilyDemo(
    (Simulator(device="ecu", module="sim", args=["--pty", "/run/x/ecu"]),),
    {"drv_socketcan": {"buses": [{"name": "ecu"}]}},
    ({"match": "*/ecu", "level": "connected"},),
)


def bench(**changes: Any) -> BenchPlan:
    fields: dict[str, Any] = {
        "broker_url": "mqtt://127.0.0.1:1884", "broker_kind": "mosquitto", "bind": "127.0.0.1", "port": 1884,
        "ws_port": None, "site": "lab", "families": ("can", "serial"), "plugins": "/p", "demo": DEMO,
        "state": Path("/state"), "runtime": Path("/run/x"),
    }  # fmt: skip
    return BenchPlan(**(fields | changes))


def test_a_whole_bench_in_order_of_its_start() -> None:
    found = programs(bench(), {})
    assert [p.name for p in found] == [
        "broker",
        "sim-ecu",
        "orchestrator",
        "host-can",
        "host-serial",
    ]
    assert [p.name for p in found if p.last] == ["broker"]


def test_every_service_is_told_broker_and_site() -> None:
    for program in programs(bench(site="s"), {})[2:]:
        assert program.argv[-4:] == ("--broker", "mqtt://127.0.0.1:1884", "--site", "s")


def test_a_broker_from_outside_is_not_started() -> None:
    assert "broker" not in [p.name for p in programs(bench(broker_kind=None), {})]


def test_without_the_demo_there_is_no_ecu_and_drivers_are_left_alone() -> None:
    found = {
        p.name: p
        for p in programs(bench(demo=FamilyDemo()), {"SAT_DRIVERS": '{"drv_x": {"y": 1}}'})
    }
    assert "sim-ecu" not in found
    assert json.loads(found["host-can"].env["SAT_DRIVERS"]) == {"drv_x": {"y": 1}}
    assert json.loads(found["orchestrator"].env["SAT_POLICY"]) == EVERYTHING


def test_the_demo_brings_its_simulator_configuration_and_policy() -> None:
    found = {p.name: p for p in programs(bench(), {})}
    assert found["sim-ecu"].argv[1:] == (
        "-P", "-m", "sat_cli.bench.simulate", "sim", "--pty", "/run/x/ecu",
    )  # fmt: skip
    assert json.loads(found["host-serial"].env["SAT_DRIVERS"]) == DEMO.drivers
    assert json.loads(found["orchestrator"].env["SAT_POLICY"]) == list(DEMO.policy)


def test_the_users_policy_and_database_win() -> None:
    mine = {"SAT_POLICY": "[]", "SAT_DATABASE_URL": "sqlite:///mine.db"}
    env = next(p.env for p in programs(bench(), mine) if p.name == "orchestrator")
    assert env == mine


def test_the_hints_name_port_and_broker_where_they_are_not_the_usual_ones() -> None:
    assert "sat ls --broker mqtt://127.0.0.1:1884" in hints(bench())
    usual = hints(bench(port=1883, broker_url="mqtt://127.0.0.1:1883"))
    assert usual[0] == "sat ls"
    assert usual[-1] == "mosquitto_sub -h 127.0.0.1 -p 1883 -v -t 'sat/1/#'"
