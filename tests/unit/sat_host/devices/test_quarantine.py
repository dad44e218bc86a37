"""How many deaths of its workers take a device out of use."""

from __future__ import annotations

from sat_host.devices import quarantine
from sat_host.devices.quarantine import Deaths


def test_five_deaths_within_a_minute_are_too_many() -> None:
    deaths = Deaths()
    assert [deaths.count(100.0 + 15.0 * n) for n in range(5)] == [False] * 4 + [True]
    assert deaths.count(161.0), "the latest five count"


def test_five_deaths_in_more_than_a_minute_are_not() -> None:
    deaths = Deaths()
    assert [deaths.count(time) for time in (100.0, 115.0, 130.0, 145.0, 160.1)] == [False] * 5
    assert deaths.count(175.0)


def test_a_clean_record_begins_anew() -> None:
    deaths = Deaths()
    for _ in range(4):
        deaths.count(100.0)
    deaths.forgive()
    assert [deaths.count(101.0) for _ in range(5)] == [False] * 4 + [True]


def test_the_reason_names_the_last_death() -> None:
    assert quarantine.reason("exit status 3") == (
        "quarantined after 5 deaths within 60 s, the last: exit status 3"
    )
