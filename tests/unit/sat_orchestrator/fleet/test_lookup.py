"""Who is meant, whether they can be asked, and what is said of who is not known."""

from __future__ import annotations

from typing import Any

import pytest

from sat_bus.contract.device_key import Key
from sat_bus.contract.messages import DeviceArgs
from sat_orchestrator.fleet import lookup
from sat_toolkit.errors import BadArgs, Expired, HostLost, UnknownDevice, UnknownDriver
from tests.unit.sat_orchestrator.parts import BOOT, DRIVER, HOST, KEY, NEW_BOOT, Parts

TTY = Key("other", "drv_y", "tty")


def two() -> Parts:
    parts = Parts(leading=False)
    parts.host_up()
    parts.host_up("other")
    parts.device()
    parts.device(key=TTY)
    return parts


def named(device: str, **more: Any) -> DeviceArgs:
    return DeviceArgs(device=device, **more)


def test_a_device_is_known_by_its_names() -> None:
    fleet = two().fleet
    assert lookup.known(fleet, named("can0")) == KEY
    assert lookup.find([KEY], named("tty")) is None
    assert lookup.find([KEY], named("can0", host="other")) is None
    assert lookup.row(fleet, TTY).key == TTY
    with pytest.raises(BadArgs):
        lookup.find([KEY, KEY._replace(host="third")], named("can0"))


def test_who_is_not_known_is_told_what_is() -> None:
    fleet = two().fleet
    with pytest.raises(UnknownDevice, match="did you mean bench/drv_x/can0"):
        lookup.known(fleet, named("can1"))
    with pytest.raises(UnknownDevice, match="Device can7 of drv_x of bench not found"):
        lookup.row(fleet, Key(HOST, DRIVER, "can7"))
    with pytest.raises(UnknownDriver, match="Driver drv_z not found; known are drv_x, drv_y"):
        lookup.known(fleet, named("can0", driver="drv_z"))
    with pytest.raises(UnknownDevice, match="of drv_y"):  # which only a row names
        lookup.known(fleet, named("can0", driver="drv_y"))
    nobody = Parts(leading=False).fleet
    assert "known are none; no host is there" in str(lookup.unknown_driver(nobody, "drv_z"))


def test_the_hosts_that_can_be_asked() -> None:
    parts = two()
    assert lookup.hosts(parts.fleet, None, None) == [HOST, "other"]
    assert lookup.hosts(parts.fleet, "other", None) == ["other"]
    assert lookup.hosts(parts.fleet, None, "drv_z") == []
    assert lookup.hosts(parts.fleet, "other", "drv_z") == []
    assert lookup.hosts(parts.fleet, "other", DRIVER) == ["other"]
    parts.host_gone()
    assert lookup.hosts(parts.fleet, None, DRIVER) == ["other"]
    with pytest.raises(HostLost, match="host bench is lost: it is offline"):
        lookup.hosts(parts.fleet, HOST, None)
    parts.fleet.hosts["other"].word = "init"
    with pytest.raises(HostLost, match="host other is not ready yet"):
        lookup.hosts(parts.fleet, "other", None)
    with pytest.raises(UnknownDevice, match="host third is not known; known are bench, other"):
        lookup.hosts(parts.fleet, "third", None)
    with pytest.raises(UnknownDevice, match="known are none"):
        lookup.hosts(Parts(leading=False).fleet, "third", None)


def test_a_device_can_be_reached_while_its_host_is_there() -> None:
    parts = two()
    assert lookup.why_lost(parts.fleet, KEY) is None
    lookup.check_reachable(parts.fleet, KEY)
    parts.host_gone()
    with pytest.raises(HostLost, match="host bench of can0 is lost: it is offline"):
        lookup.check_reachable(parts.fleet, KEY)
    unheard = Key("third", DRIVER, "can0")
    parts.fleet.row(unheard, 0.0)
    with pytest.raises(HostLost, match="host third of can0 was not heard yet"):
        lookup.check_reachable(parts.fleet, unheard)


def test_a_request_may_be_meant_for_one_boot() -> None:
    parts = two()
    lookup.check_boot(parts.fleet, KEY, None)
    lookup.check_boot(parts.fleet, KEY, BOOT)
    with pytest.raises(Expired, match=f"of host bench; the present one is {BOOT}"):
        lookup.check_boot(parts.fleet, KEY, NEW_BOOT)
    parts.fleet.row(Key("third", DRIVER, "can0"), 0.0)
    with pytest.raises(Expired, match="the present one is unknown"):
        lookup.check_boot(parts.fleet, Key("third", DRIVER, "can0"), "x" * 200)
