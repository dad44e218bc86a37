"""The monitor where there is nothing to watch; on real links it is tested in the virtual
machine."""

from __future__ import annotations

import logging
import threading

import pytest

from plugins.devices.can.health import Policy
from plugins.devices.can.links import CanLink
from plugins.devices.can.load import FrameKinds
from plugins.devices.can.monitor import LinkMonitor


def test_a_link_that_cannot_be_watched_is_said_and_costs_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    link = CanLink("nolink0", "can", True, False, "", index=2**31 - 1)
    told: list[str] = []
    with caplog.at_level(logging.WARNING):
        monitor = LinkMonitor(
            link,
            Policy(),
            FrameKinds(),
            lambda event, /, **fields: told.append(event),
            "can/health/x",
        )
        assert monitor.describe()["bus_off"]["count"] == 0
        monitor.close()
    assert "the health of nolink0 is not watched" in caplog.text
    assert "can/health/x" not in [thread.name for thread in threading.enumerate()]
    assert told == []
