"""What replies carry: lists that fit, scans with their errors, and one line for the record."""

from __future__ import annotations

from typing import Any

from sat_bus.contract.device_key import Key
from sat_bus.contract.messages import Desired, ListArgs, Meta, Reply
from sat_orchestrator.bus import answers
from sat_toolkit.errors import DriverError
from tests.unit.sat_orchestrator.parts import BOOT, CONNECT, DRIVER, HOST, KEY, Parts, S

EVERYTHING = ListArgs()


def known(**settings: Any) -> Parts:
    parts = Parts(leading=False, **settings)
    parts.host_up()
    parts.host_up("other")
    parts.device(S.CONNECTED)
    parts.device(S.DISCOVERED, Key("other", "drv_y", "tty"))
    return parts


def test_a_list_names_hosts_with_their_drivers_and_devices_with_their_rows() -> None:
    result = answers.listing(known().fleet, EVERYTHING)
    bench, other = result["hosts"]
    assert bench == {
        "host": HOST, "state": "ready", "boot": BOOT, "reason": "", "family": "can",
        "drivers": [{"name": DRIVER, "error": None}],
    }  # fmt: skip
    assert other["host"] == "other"
    can0, tty = result["devices"]
    assert (can0["host"], can0["driver"], can0["device"], can0["observed"]) == (*KEY, "connected")
    assert can0["meta"]["device_type"] == "CAN"
    assert tty["device"] == "tty"
    assert result["complete"] is True


def test_a_list_may_be_of_one_host_or_driver() -> None:
    fleet = known().fleet
    of_host = answers.listing(fleet, ListArgs(host="other"))
    assert [host["host"] for host in of_host["hosts"]] == ["other"]
    assert [device["device"] for device in of_host["devices"]] == ["tty"]
    of_driver = answers.listing(fleet, ListArgs(driver=DRIVER))
    assert len(of_driver["hosts"]) == 2
    assert [device["device"] for device in of_driver["devices"]] == ["can0"]


def test_a_list_that_is_too_long_comes_without_descriptions_and_says_so() -> None:
    parts = known()
    meta = Meta(name="x" * 150_000, device_type="CAN")
    parts.fleet.meta(KEY, meta, 0.0)
    assert answers.listing(parts.fleet, EVERYTHING)["complete"] is True
    parts.fleet.meta(KEY, Meta(name="x" * 250_000, device_type="CAN"), 0.0)
    result = answers.listing(parts.fleet, EVERYTHING)
    assert result["complete"] is False
    assert all("meta" not in device for device in result["devices"])
    assert len(result["devices"]) == 2


def test_a_list_of_what_is_lost_or_never_spoke() -> None:
    parts = Parts(leading=False)
    parts.status(S.CONNECTED)
    (host,) = answers.listing(parts.fleet, EVERYTHING)["hosts"]
    assert (host["state"], host["family"], host["drivers"]) == ("unknown", None, [])
    parts.host_up()
    parts.host_gone()
    (host,) = answers.listing(parts.fleet, EVERYTHING)["hosts"]
    assert (host["state"], host["reason"]) == ("lost", "it is offline")


def test_what_is_desired_comes_from_a_client_or_a_rule() -> None:
    parts = known(rules=CONNECT)
    assert answers.desired(parts.row) == {
        "desired": {"level": "connected", "streams": {"can": {"fd": True}}},
        "policy": "all", "held": "",
    }  # fmt: skip
    parts.fleet.set_desired(KEY, Desired(level="disconnected"), accept=False)
    assert answers.desired(parts.row)["policy"] == "explicit"
    parts = known()
    assert answers.desired(parts.row) == {"desired": None, "policy": "", "held": ""}


def test_a_scan_lists_what_is_there_and_what_failed() -> None:
    result: dict[str, Any] = {"devices": [], "errors": {}}
    listed = [
        {"driver": DRIVER, "device": "can0", "state": "discovered"},
        {"driver": DRIVER, "device": "can1", "state": "unknown"},
        "nonsense",
    ]
    said = {"devices": listed, "errors": {DRIVER: 7}}
    answers.add_scan(result, HOST, Reply(status="ok", result=said))
    answers.add_scan(result, "odd", Reply(status="ok", result=["nonsense"]))
    answers.add_scan(result, "bare", Reply(status="ok", result={}))
    failed = Reply(status="error", code=DriverError("").code, message="broken")
    answers.add_scan(result, "broken", failed)
    assert result == {
        "devices": [{"host": HOST, "driver": DRIVER, "device": "can0", "state": "discovered"}],
        "errors": {"bench/drv_x": "7", "broken": "driver_error: broken"},
    }


def test_of_a_cleanup_each_device_has_its_outcome() -> None:
    reply = Reply(status="ok", state=S.DISCONNECTED)
    assert answers.closed(KEY, reply) == {
        **KEY._asdict(), "status": "ok", "message": "", "state": "disconnected",
    }  # fmt: skip
    assert answers.not_closed(KEY, DriverError("stuck")) == {
        **KEY._asdict(), "status": "error", "code": "driver_error", "message": "stuck",
    }  # fmt: skip


def test_the_args_of_a_request_are_one_short_line() -> None:
    assert answers.brief({"device": "can0"}) == '{"device":"can0"}'
    assert len(answers.brief({"device": "x" * 500})) == 200
