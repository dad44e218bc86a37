"""The guide's programs and its template through the bus: what in process is the same as over a
broker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.rack import DEADLINE, Rack

pytestmark = pytest.mark.mosquitto
PLUGINS_TESTS = Path(__file__).parent.parent / "plugins"
FIXTURES = PLUGINS_TESTS / "fixtures"
PROGRAMS = [("lifecycle_program.py", "manage_device_lifecycle"), ("usage_program.py",)]


def run(program: tuple[str, ...], env: dict[str, str]) -> list[tuple[str, Any]]:
    """What the program's calls returned: name, answer."""
    argv = [
        sys.executable,
        str(Path(__file__).parent / "recorded.py"),
        str(PLUGINS_TESTS / "guide" / program[0]),
    ]
    base = {name: value for name, value in os.environ.items() if not name.startswith("SAT_")}
    done = subprocess.run(
        [*argv, *program[1:]], env=base | env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "failed" not in done.stderr, done.stderr
    return [tuple(call) for call in json.loads(done.stdout)]


def as_by_policy(local: dict[str, Any], remote: dict[str, Any]) -> dict[str, Any]:
    """What is answered in process, where policy may have been quicker: that it was so already."""
    said = str(remote.get("message", ""))
    return local | {"message": said} if said.startswith("Device already ") else local


@pytest.fixture(
    params=[
        pytest.param(("embedded", "discovered"), id="embedded"),
        pytest.param(("mosquitto", "discovered"), id="mosquitto", marks=pytest.mark.slow),
        pytest.param(("mosquitto", "connected"), id="mosquitto-by-policy", marks=pytest.mark.slow),
    ],
)
def guide_rack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Rack, bool]]:
    """A rack whose host serves the guide's driver, and whether policy may have connected its
    devices before the program asks."""
    kind, level = request.param
    policy = [{"match": "*", "level": "connected"}] if level == "connected" else []
    with Rack(tmp_path_factory.mktemp("guide"), kind, policy) as rack:
        host = rack.add_host("your_device", FIXTURES)
        rack.observer.wait(
            lambda: rack.observer.json("sat/1/lab/orch/state").get("state") == "ready",
            "orchestrator",
        )
        rack.observer.wait_state(level, dev=f"sat/1/lab/dev/{host}/drv_your_device/your0")
        yield rack, bool(policy)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program[0])
def test_a_program_of_the_guide_has_the_same_answers_both_ways(
    guide_rack: tuple[Rack, bool], program: tuple[str, ...]
) -> None:
    rack, by_policy = guide_rack
    here = run(program, {"SAT_PLUGINS": str(FIXTURES)})
    there = run(program, {"SAT_BROKER_URL": rack.url, "SAT_SITE": "lab"})
    assert [name for name, _ in there] == [name for name, _ in here]
    for (name, local), (_, remote) in zip(here, there, strict=True):
        if name == "cleanup_all_devices":
            assert all(value["status"] == "success" for value in remote.values())
        elif name == "scan_devices":
            assert remote["status"] == "success"
            assert {d["device_id"] for d in remote["devices"]} == {
                d["device_id"] for d in local["devices"]
            }
        else:
            assert remote == (as_by_policy(local, remote) if by_policy else local)


def test_the_template_loads_streams_and_answers_on_the_bus(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with Rack(
        tmp_path_factory.mktemp("template"), "mosquitto", [{"match": "*", "level": "connected"}]
    ) as rack:
        host = rack.add_host("template", FIXTURES)
        dev = f"sat/1/lab/dev/{host}/drv_template/template0"
        rack.observer.wait_state("connected", dev=dev)
        assert rack.command("start", dev=dev)["result"] == "Started streaming"
        rack.observer.wait_streaming(dev=dev, stream="custom")
        assert rack.observer.frames(dev, "custom")[0]["data"] == "reading"
        refused = rack.command("status", dev=dev)
        assert (refused["code"], refused["message"]) == ("driver_error", "Unknown command: status")
        rack.observer.wait_streaming(dev=dev, stream="custom")
        assert rack.command("stop", dev=dev)["result"] == "Stopped streaming"
        rack.observer.wait(
            lambda: rack.observer.json(f"{dev}/status")["streams"]["custom"]["state"] == "stopped",
            "stopped",
            DEADLINE,
        )
