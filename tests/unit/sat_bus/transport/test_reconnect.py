"""Back-off, and the choice of the protocol version."""

from __future__ import annotations

import pytest

from sat_bus.transport.reconnect import Reconnect, Version

BOTH: tuple[Version, ...] = ("5", "3.1.1")


def policy(versions: tuple[Version, ...] = BOTH, random: float = 1.0) -> Reconnect:
    return Reconnect(versions, lambda: random)


def test_the_delay_grows_to_one_second_and_stays_there() -> None:
    reconnect = policy()
    assert [reconnect.failed() for _ in range(6)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])


def test_the_delay_is_scattered_by_half() -> None:
    assert policy(random=0.0).failed() == pytest.approx(0.05)


def test_a_connection_that_lasted_resets_the_delay_and_a_short_one_does_not() -> None:
    reconnect = policy()
    for _ in range(4):
        reconnect.failed()
    assert reconnect.lost(0.3) == pytest.approx(1.0)
    assert reconnect.lost(60.0) == pytest.approx(0.1)


def test_a_refused_version_is_replaced_at_once_and_remembered() -> None:
    reconnect = policy()
    assert reconnect.version == "5"
    assert reconnect.version_refused() == 0.0
    assert reconnect.version == "3.1.1"
    reconnect.connected()
    reconnect.lost(60)
    assert reconnect.version == "3.1.1"


def test_a_broker_that_refuses_every_version_is_not_hammered() -> None:
    reconnect = policy()
    assert reconnect.version_refused() == 0.0
    assert reconnect.version_refused() > 0.0
    assert policy(("5",)).version_refused() > 0.0


def test_silence_switches_the_version_until_one_has_worked() -> None:
    reconnect = policy()
    reconnect.unanswered()
    assert reconnect.version == "3.1.1"
    reconnect.unanswered()
    assert reconnect.version == "5"
    reconnect.connected()
    reconnect.unanswered()
    reconnect.unanswered()
    assert reconnect.version == "5", "a broker that starts is silent too"
    reconnect.unanswered()
    assert reconnect.version == "3.1.1"


def test_connections_that_end_at_once_again_and_again_are_noticed() -> None:
    reconnect = policy()
    for _ in range(2):
        reconnect.lost(0.1)
    assert not reconnect.flapping
    reconnect.lost(0.1)
    assert reconnect.flapping
    reconnect.lost(60.0)
    assert not reconnect.flapping
