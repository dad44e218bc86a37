"""What `sat ls` and `sat info` say of a site: its devices, why they are as they are, as JSON."""

from __future__ import annotations

from typing import Any

import pytest

from sat_bus.contract import messages as m
from sat_cli.commands import show
from sat_client import Device, Rack
from sat_toolkit.core.device_spec import DeviceState
from tests.unit.client_site import SITE, FakeSite, until


def desired(level: str, **streams: dict[str, Any]) -> m.Desired:
    return m.Desired.model_validate({"level": level, "streams": streams})


def test_a_site_as_json(rack: Rack, site: FakeSite) -> None:
    said = show.site_as_json(rack)
    assert (said["site"], said["orchestrator"]) == (SITE, "ready")
    assert said["hosts"] == [
        {
            "host": "bench-can",
            "state": "ready",
            "boot": site.boot,
            "family": "can",
            "drivers": [{"name": "drv_socketcan"}],
        }
    ]
    assert [device["device"] for device in said["devices"]] == ["ecu"]


def test_a_device_as_json(ecu: Device, site: FakeSite) -> None:
    site.row("ecu", observed=DeviceState.CONNECTED, desired=desired("connected"), policy="all")
    until(lambda: ecu.row is not None)
    said = show.device_as_json(ecu)
    assert (said["device"], said["name"], said["state"]) == ("ecu", "the ecu", "connected")
    assert (said["quality"], said["last_known"], said["reason"]) == ("good", None, "")
    assert said["desired"] == {"level": "connected", "streams": {}}
    assert said["policy"] == "all"


def test_a_lost_device_shows_what_it_was(ecu: Device, site: FakeSite) -> None:
    site.host_state("lost")
    until(lambda: ecu.quality == "lost")
    assert show.device_as_json(ecu)["last_known"] == "connected"
    assert show.device_as_json(ecu)["state"] == "unknown"


@pytest.mark.parametrize(
    ("policy", "rule", "text"),
    [
        ("explicit", False, "connected +can (explicit)"),
        ("all", False, "connected +can"),
        ("all", True, "connected +can (policy all)"),
    ],
)
def test_what_is_desired_in_words(policy: str, rule: bool, text: str) -> None:
    row = m.TableRow(
        observed=DeviceState.CONNECTED,
        desired=desired("connected", can={}),
        quality="good",
        policy=policy,
        rev=1,
    )
    assert show.desired_text(row, rule=rule).plain == text
    assert show.desired_text(None).plain == "-"
