"""What is said of a device in words."""

from __future__ import annotations

from typing import Any

import pytest

from sat_bus.contract import messages as m
from sat_cli import device_text
from sat_client import Device
from sat_toolkit.core.device_spec import DeviceState
from tests.unit.client_site import FakeSite, until


def desired(level: str, **streams: dict[str, Any]) -> m.Desired:
    return m.Desired.model_validate({"level": level, "streams": streams})


def test_the_reason_is_the_hosts_word_else_what_holds_it(ecu: Device, site: FakeSite) -> None:
    site.row(
        "ecu", observed=DeviceState.ERROR, desired=None, policy="",
        held="another hardware answers", reason="gave up",
    )  # fmt: skip
    until(lambda: ecu.row is not None)
    assert device_text.reason(ecu) == "another hardware answers"
    site.status("ecu", "error", reason="no carrier")
    until(lambda: ecu.state is DeviceState.ERROR)
    assert device_text.reason(ecu) == "no carrier"


@pytest.mark.parametrize(
    ("level", "policy", "why"),
    [
        ("disconnected", "explicit", "somebody wants it disconnected; `sat set ecu auto` gives it back to policy"),
        ("connected", "explicit", ""),
        ("disconnected", "all", ""),
    ],
)  # fmt: skip
def test_whose_wish_keeps_it_down_is_told(
    ecu: Device, site: FakeSite, level: str, policy: str, why: str
) -> None:
    site.row("ecu", observed=DeviceState.DISCONNECTED, desired=desired(level), policy=policy)
    until(lambda: ecu.row is not None)
    assert device_text.reason(ecu) == why


def test_streams_that_run_are_named_and_the_others_with_their_state(
    ecu: Device, site: FakeSite
) -> None:
    streams = {
        "uart": m.StreamStatus(state="stopped", stream="s2", by="ann"),
        "can": m.StreamStatus(state="running", stream="s1", by="ann"),
    }
    site.status("ecu", "connected", streams=streams)
    until(lambda: bool(ecu.status and ecu.status.streams))
    assert device_text.streams_text(ecu.status) == "can uart:stopped"
    assert device_text.streams_text(None) == ""
