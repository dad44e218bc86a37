"""What the orchestrator writes: rows five times a second at most, and the truth about lost hosts."""

from __future__ import annotations

import json
import time
from typing import Any

from sat_bus.contract import topics
from tests.unit.sat_orchestrator.parts import BOOT, HOST, KEY, SITE, Parts, S

ROW = topics.TABLE_ROW.build(SITE, **KEY._asdict())


def quiet() -> Parts:
    """A device that nobody but the test shows."""
    parts = Parts(leading=False)
    parts.host_up()
    parts.device(S.DISCOVERED)
    return parts


def rows(parts: Parts) -> list[dict[str, Any]]:
    return [sent.body for sent in parts.bus.sent if sent.topic == ROW]


def test_a_row_is_shown_at_once_and_then_when_its_turn_comes() -> None:
    parts = quiet()
    parts.publisher.row(KEY)
    assert [row["observed"] for row in rows(parts)] == ["discovered"]
    parts.status(S.INITIALIZED)
    parts.publisher.row(KEY)
    parts.clock.now += 0.19
    parts.publisher.flush()
    assert len(rows(parts)) == 1
    parts.status(S.CONNECTED)
    parts.publisher.row(KEY)
    parts.clock.now += 0.01
    parts.publisher.flush()
    assert [row["observed"] for row in rows(parts)] == ["discovered", "connected"]
    parts.clock.now += 1.0
    parts.publisher.flush()
    assert len(rows(parts)) == 2
    assert all(sent.retain for sent in parts.bus.sent)


def test_a_row_that_looks_the_same_is_not_shown_again() -> None:
    parts = quiet()
    for _ in range(3):
        parts.publisher.row(KEY)
        parts.clock.now += 1.0
    assert len(rows(parts)) == 1


def test_what_did_not_change_takes_no_turn_from_what_does() -> None:
    parts = quiet()
    parts.publisher.row(KEY)
    parts.clock.now += 0.2
    parts.publisher.row(KEY)
    parts.status(S.CONNECTED)
    parts.publisher.row(KEY)
    assert len(rows(parts)) == 2


def test_a_broker_that_has_forgotten_is_told_every_row_again() -> None:
    parts = quiet()
    parts.publisher.row(KEY)
    parts.publisher.republish()
    assert len(rows(parts)) == 2
    assert rows(parts)[0] == rows(parts)[1]


def test_a_lost_device_is_written_in_its_hosts_stead() -> None:
    parts = quiet()
    parts.status(S.CONNECTED)
    parts.host_gone()
    before = time.time()
    parts.publisher.lost(KEY)
    status = json.loads(
        parts.bus.retained(topics.DEVICE_STATUS.build(SITE, **KEY._asdict())) or b""
    )
    assert (status["state"], status["quality"], status["last_known"]) == (
        "unknown", "lost", "connected",
    )  # fmt: skip
    assert before - 0.001 <= status["since"] <= time.time() + 0.001
    state = parts.bus.retained(topics.DEVICE_STATE.build(SITE, **KEY._asdict()))
    assert state == b"unknown"
    parts.publisher.host_lost(HOST, BOOT)
    said = parts.bus.retained(topics.HOST_STATE.build(SITE, host=HOST))
    assert json.loads(said or b"") == {"state": "lost", "boot": BOOT}


def test_an_event_tells_what_happened_under_which_boot_and_rev() -> None:
    parts = quiet()
    before = time.time()
    parts.publisher.event(KEY, "held", "other hardware")
    event = parts.bus.sent[-1]
    assert event.topic == topics.DEVICE_EVENT.build(SITE, **KEY._asdict())
    assert not event.retain
    at = event.body.pop("at")
    assert before <= at <= time.time()
    assert {**event.body, "at": 0} == {
        "event": "held", "reason": "other hardware", "by": "orchestrator", "boot": BOOT, "rev": 1,
        "at": 0,
    }  # fmt: skip
    parts.fleet.status(KEY, None, parts.clock.now, retained=False)
    parts.publisher.event(KEY, "lost", "gone")
    assert parts.bus.sent[-1].body["rev"] == 0


def test_a_cleared_row_is_gone_and_may_come_back() -> None:
    parts = quiet()
    parts.publisher.row(KEY)
    parts.status(S.CONNECTED)
    parts.publisher.row(KEY)
    parts.publisher.clear(KEY, device=False)
    assert parts.bus.retained(ROW) == b""
    assert parts.bus.retained(topics.DEVICE_STATE.build(SITE, **KEY._asdict())) is None
    parts.clock.now += 1.0
    parts.publisher.flush()
    parts.publisher.republish()
    assert parts.bus.retained(ROW) == b""
    parts.publisher.row(KEY)
    assert json.loads(parts.bus.retained(ROW) or b"")["observed"] == "connected"


def test_with_its_device_all_that_a_host_has_retained_is_cleared() -> None:
    parts = quiet()
    parts.publisher.clear(KEY, device=True)
    for topic in (topics.TABLE_ROW, topics.DEVICE_STATE, topics.DEVICE_STATUS, topics.DEVICE_META):
        assert parts.bus.retained(topic.build(SITE, **KEY._asdict())) == b""
