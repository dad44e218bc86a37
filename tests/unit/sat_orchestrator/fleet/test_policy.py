"""Policy rules: which device they catch, and that the first one decides."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from sat_bus.contract.device_key import Key
from sat_bus.contract.messages import Desired
from sat_orchestrator.fleet.policy import PolicyRule, decide, matches

CAN0 = Key("bench1-can", "drv_socketcan", "can0")
TTY = Key("bench1-serial", "drv_uart", "/dev/ttyUSB0")


@pytest.mark.parametrize(
    ("pattern", "key", "expected"),
    [
        ("*", CAN0, True),
        ("can0", CAN0, True),
        ("can?", CAN0, True),
        ("can[1-9]", CAN0, False),
        ("CAN0", CAN0, False),
        ("bench1-can", CAN0, False),
        ("drv_socketcan/*", CAN0, True),
        ("drv_*/can0", CAN0, True),
        ("bench1-can/can0", CAN0, False),
        ("bench1-*/drv_socketcan/can0", CAN0, True),
        ("bench2-*/*/*", CAN0, False),
        ("*/*/*", TTY, True),
        ("/dev/tty*", TTY, True),
        ("bench1-serial/drv_uart//dev/ttyUSB0", TTY, True),
        ("*", TTY, True),
    ],
)
def test_patterns(pattern: str, key: Key, expected: bool) -> None:
    assert matches(pattern, key) is expected


def test_the_first_match_wins_and_is_named() -> None:
    rules = [
        PolicyRule(match="can1", level="disconnected"),
        PolicyRule(
            match="drv_socketcan/*",
            level="connected",
            streams={"can": {"fd": True}},
            name="all CAN",
        ),
        PolicyRule(level="initialized"),
    ]
    decision = decide(rules, CAN0)
    assert decision is not None
    assert decision.rule == "all CAN"
    assert decision.desired == Desired(level="connected", streams={"can": {"fd": True}})
    other = decide(rules, TTY)
    assert other is not None
    assert (other.rule, other.desired.level) == ("*", "initialized")


def test_without_a_rule_nothing_is_wanted() -> None:
    assert decide([], CAN0) is None
    assert decide([PolicyRule(match="vcan*", level="connected")], CAN0) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"level": "active"},
        {"level": "connected", "stream": {}},
        {"match": "*"},
        {"level": "connected", "match": ""},
        {"level": "connected", "match": "x" * 401},
    ],
)
def test_a_wrong_rule_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PolicyRule.model_validate(wrong)


def test_a_rule_may_be_one_letter_or_long_and_stays_as_it_is() -> None:
    for pattern in ("*", "x" * 400):
        rule = PolicyRule.model_validate({"match": pattern, "level": "connected"})
        assert rule.match == pattern
        with pytest.raises(ValidationError):
            rule.level = "disconnected"
