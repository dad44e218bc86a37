"""What hosts are asked: once more under a higher epoch, and scans that make rows."""

from __future__ import annotations

from typing import Any

import pytest

from sat_bus.contract.device_key import Key
from sat_bus.contract.messages import Reply
from sat_bus.service.tasks import Promise, start
from sat_orchestrator import hosts as module
from sat_orchestrator.fleet import fleet as fleet_module
from sat_orchestrator.hosts import Scanned, found_by
from sat_toolkit.core.lifecycle import Operation
from sat_toolkit.errors import HostLost
from tests.unit.sat_orchestrator.parts import BOOT, DRIVER, HOST, KEY, Parts


def there(*names: str, **more: Any) -> dict[str, Any]:
    return {
        "devices": [{"driver": DRIVER, "device": n, "state": "discovered", **more} for n in names]
    }


def host() -> Parts:
    parts = Parts()
    parts.host_up()
    return parts


def asking(parts: Parts, timeout: float = 10.0) -> Promise[Reply]:
    return start(parts.loop, parts.hosts.ask(HOST, "close", {"device": "can0"}, timeout))


def scanning(parts: Parts, driver: str | None = None) -> Promise[Scanned]:
    return start(parts.loop, parts.hosts.scan(HOST, driver, 5.0))


def test_a_host_is_asked_for_its_present_boot() -> None:
    parts = host()
    promise = asking(parts)
    assert parts.the("close").body["boot"] == BOOT
    parts.answer(parts.the("close"))
    assert promise.result().status == "ok"


def test_a_host_that_refuses_our_epoch_is_asked_once_more_in_what_is_left_of_the_time() -> None:
    parts = host()
    promise = asking(parts)
    parts.clock.now += 4.0
    parts.refuse(parts.the("close"), "fenced")
    again = parts.the("close")
    assert (again.body["epoch"], again.body["timeout_ms"], again.body["boot"]) == (5, 5_800, BOOT)
    assert parts.store.epochs == [5]
    parts.refuse(again, "fenced", "still")
    assert (promise.result().code, promise.result().message) == ("fenced", "still")
    assert parts.asked() == []


def test_without_time_a_host_is_not_asked_again() -> None:
    parts = host()
    promise = asking(parts, 4.0)
    parts.clock.now += 4.0
    parts.refuse(parts.the("close"), "fenced")
    assert promise.result().code == "fenced"
    assert parts.asked() == []


def test_another_refusal_is_not_about_the_epoch() -> None:
    parts = host()
    promise = asking(parts)
    parts.refuse(parts.the("close"), "bad_state")
    assert promise.result().code == "bad_state"
    assert parts.store.epochs == []


def test_a_scan_makes_rows_of_what_is_there() -> None:
    parts = host()
    promise = scanning(parts, DRIVER)
    assert parts.the("scan").body["args"] == {"driver": DRIVER}
    parts.answer(parts.the("scan"), there("can0", "can1"))
    scanned = promise.result()
    assert scanned.found == [KEY, Key(HOST, DRIVER, "can1")]
    assert (scanned.host, scanned.reply.status) == (HOST, "ok")
    assert list(parts.fleet.rows) == scanned.found


def test_a_device_that_the_table_has_no_room_for_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fleet_module, "MAX_ROWS", 1)
    parts = host()
    promise = scanning(parts)
    parts.answer(parts.the("scan"), there("can0", "can1"))
    assert len(promise.result().found) == 2
    assert list(parts.fleet.rows) == [KEY]


@pytest.mark.parametrize(
    "result",
    [None, [], {}, {"devices": "x"}, {"devices": ["x", {}, {"driver": DRIVER}, {"device": "can0"}]},
     there("can0", state="unknown")],
)  # fmt: skip
def test_what_makes_no_sense_in_the_reply_to_a_scan_is_passed_over(result: Any) -> None:
    assert found_by(HOST, Reply(status="ok", result=result)) == []


def test_nobody_in_particular_is_content_with_the_scan_that_is_under_way() -> None:
    parts = host()
    parts.hosts.look_around(HOST)
    parts.hosts.look_around(HOST)
    request = parts.the("scan")
    assert request.body["args"] == {}
    assert request.body["timeout_ms"] == 29_800
    parts.answer(request, there("can0"))
    assert list(parts.fleet.rows) == [KEY]
    parts.hosts.look_around(HOST)
    parts.the("scan")
    parts.host_up("other")
    parts.hosts.look_around("other")
    parts.the("scan", "other")


def test_a_scan_of_one_driver_is_not_a_look_around() -> None:
    parts = host()
    scanning(parts, DRIVER)
    parts.hosts.look_around(HOST)
    assert [each.body["args"] for each in parts.asked("scan")] == [{"driver": DRIVER}, {}]


def test_a_host_publishes_everything_again() -> None:
    parts = host()
    parts.hosts.resync(HOST)
    assert parts.the("resync").body["timeout_ms"] == 9_800
    parts.answer(parts.the("resync"))
    assert parts.loop.errors == 0


def test_who_waits_for_a_host_that_is_gone_or_silent_is_told() -> None:
    parts = host()
    first = asking(parts)
    parts.hosts.gone("other", HostLost("not this one"))
    assert not first.settled
    parts.hosts.gone(HOST, HostLost("it is gone"))
    assert first.result().message == "it is gone"
    second = asking(parts)
    parts.clock.now += 10.0
    parts.hosts.expire()
    assert second.result().code == "timeout"


def test_an_action_has_time_for_every_hook_of_its_way_up() -> None:
    """The host gives initialize and connect 30 s each, and a connect may be both."""
    hooks = {Operation.INITIALIZE: 30.0, Operation.CONNECT: 30.0}
    assert sum(hooks.values()) < module.ACTION_TIMEOUT_S < 70.0
