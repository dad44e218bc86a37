"""What a driver may report as an event, and how often."""

from __future__ import annotations

from typing import Any

import pytest

from sat_toolkit.core.driver_events import BURST, MAX_BYTES, PER_SECOND, Ration, checked
from tests.unit.sdk_fakes import FakeDriver


@pytest.mark.parametrize("name", ["", "Bus", "bus-off", "1st", "driver.state", "a" * 41, 7, None])
def test_a_name_is_a_plain_word(name: Any) -> None:
    with pytest.raises(ValueError, match="lower-case letters, digits and _ are accepted"):
        checked(name, {})


def test_fields_become_json_and_are_small() -> None:
    said: dict[Any, Any] = {"data": b"\x01", "at": float("nan"), 1: {2}}
    assert checked("bus_state", said) == {
        "data": "01",
        "at": "nan",
        "1": [2],
    }
    with pytest.raises(ValueError, match=f"at most {MAX_BYTES} are accepted"):
        checked("bus_state", {"text": "x" * MAX_BYTES})


def test_a_burst_passes_then_so_many_a_second() -> None:
    ration = Ration()
    assert [ration.take(5.0) for _ in range(BURST + 3)] == [True] * BURST + [False] * 3
    assert sum(ration.take(6.0) for _ in range(BURST)) == PER_SECOND
    assert sum(ration.take(1e9) for _ in range(2 * BURST)) == BURST


def test_what_was_dropped_is_told_once_and_only_when_there_is_room() -> None:
    ration = Ration()
    for _ in range(BURST + 7):
        ration.take(0.0)
    assert ration.dropped(0.0) == 0
    assert ration.dropped(1.0) == 7
    assert ration.dropped(2.0) == 0


def test_a_driver_reports_with_any_field_names_and_without_a_listener() -> None:
    driver = FakeDriver()
    driver.report_event("moved", x=1)
    told: list[tuple[str, dict[str, Any]]] = []
    driver.on_event = lambda name, data: told.append((name, data))
    driver.report_event("moved", event="state", self=2)
    assert told == [("moved", {"event": "state", "self": 2})]
