"""What `sat doctor` finds on a site and on this machine, and what it says to do."""

from __future__ import annotations

import pytest

from sat_bus.contract import messages as m
from sat_bus.contract import topics
from sat_cli import checks
from sat_cli.brokers.tcp_ports import find_free_port
from sat_cli.checks import Check
from tests.unit.sat_cli.conftest import Reached


def of_site(reached: Reached) -> dict[str, Check]:
    assert reached.site.bus.flush(5.0)
    return {check.name: check for check in checks.check_site(**reached.where)}


def test_a_site_that_is_well(reached: Reached) -> None:
    found = of_site(reached)
    assert {name: check.level for name, check in found.items()} == dict.fromkeys(
        ("broker", "orchestrator", "host bench-can", "device ecu"), "ok"
    )
    assert "MQTT 3.1.1" in found["broker"].text
    assert "ms there and back" in found["broker"].text


def test_without_an_orchestrator_it_is_said_what_to_start(reached: Reached) -> None:
    reached.site.orchestrator("offline")
    check = of_site(reached)["orchestrator"]
    assert (check.level, check.text, check.todo) == (
        "fail",
        "it is offline",
        "start it: sat orchestrator",
    )


def test_a_host_that_is_gone_takes_its_devices_along(reached: Reached) -> None:
    reached.site.host_state("offline")
    found = of_site(reached)
    assert found["host bench-can"].level == "fail"
    assert "sat host --family can --name bench-can" in found["host bench-can"].todo
    assert (found["device ecu"].level, found["device ecu"].todo) == (
        "warn",
        "start the host bench-can",
    )


def test_a_driver_that_does_not_load_is_told_by_its_host(reached: Reached) -> None:
    birth = m.Birth(
        boot=reached.site.boot, family="can", drivers=[m.DriverInfo(name="drv_x", error="no class")],
        manifest=m.Manifest(count=1, rev=1), epoch_seen=0, version="0", clock=1.0,
    )  # fmt: skip
    reached.site.publish(topics.HOST_BIRTH, birth, host=reached.site.host)
    check = of_site(reached)["host bench-can"]
    assert (check.level, check.text) == ("warn", "drv_x: no class")


def test_a_device_in_error_says_why_and_what_to_do(reached: Reached) -> None:
    reached.site.status("ecu", "error", reason="no carrier")
    check = of_site(reached)["device ecu"]
    assert (check.level, check.text) == ("fail", "error: no carrier")
    assert "sat set bench-can/drv_socketcan/ecu connected" in check.todo


def test_without_a_broker_there_is_one_finding() -> None:
    (check,) = checks.check_site(f"mqtt://127.0.0.1:{find_free_port()}", "lab")
    assert (check.name, check.level) == ("broker", "fail")
    assert "sat up (everything)" in check.todo


def test_a_wrong_url_is_to_be_corrected() -> None:
    (check,) = checks.check_site("ftp://bench", "lab")
    assert (check.level, check.todo) == ("fail", "correct --broker, SAT_BROKER_URL or SAT_TLS_CA")


def test_a_folder_of_plugins_that_is_not_there_is_said() -> None:
    (check,) = checks.check_plugins("/nowhere/at/all")
    assert (check.name, check.level) == ("plugins", "fail")
    assert "/nowhere/at/all" in check.text


@pytest.mark.parametrize(
    ("ports", "level", "text"),
    [
        ([], "ok", "none are plugged in"),
        (["/dev/null"], "ok", "/dev/null"),
        (["/dev/null", "/no/such/port"], "fail", "no permission for /no/such/port"),
    ],
)
def test_serial_ports_that_may_not_be_opened_are_named(
    ports: list[str], level: str, text: str
) -> None:
    (check,) = checks.check_serial(ports)
    assert (check.level, check.text) == (level, text)


def test_the_interpreter_and_the_libraries_are_named() -> None:
    check = checks.check_python()
    assert check.level == "ok"
    assert "paho-mqtt" in check.text
