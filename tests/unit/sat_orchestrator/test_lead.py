"""The lead on the bus: claimed above all that was seen, said again where something hides it, and
yielded."""

from __future__ import annotations

from typing import Any

from sat_bus.contract import topics
from sat_bus.contract.messages import OrchestratorState
from sat_bus.service.tasks import Task
from tests.unit.sat_orchestrator.parts import OWN, SITE, Parts

TOPIC = topics.ORCHESTRATOR_STATE.build(SITE)


def said(parts: Parts) -> list[dict[str, Any]]:
    assert all(each.retain for each in parts.bus.sent if each.topic == TOPIC)
    return [each.body for each in parts.bus.sent if each.topic == TOPIC]


def other(state: str, epoch: int) -> OrchestratorState:
    return OrchestratorState.model_validate({"state": state, "id": "zoe", "epoch": epoch})


def test_we_lead_once_the_epoch_is_stored() -> None:
    parts = Parts(leading=False)
    parts.leadership.saw(6)
    parts.store.slow = True
    Task(parts.loop, parts.lead.take())
    assert parts.store.epochs == [7]
    assert not parts.lead.leading
    parts.store.settle()
    assert parts.lead.leading
    assert said(parts) == []


def test_we_lead_although_the_epoch_could_not_be_stored() -> None:
    parts = Parts(leading=False)
    parts.store.failure = "disk full"
    Task(parts.loop, parts.lead.take())
    assert parts.lead.leading


def test_an_epoch_above_ours_is_topped_stored_and_said() -> None:
    parts = Parts()
    parts.lead.saw(4)
    assert said(parts) == []
    parts.lead.saw(9)
    assert said(parts) == [{"state": "ready", "id": OWN, "epoch": 10}]
    assert parts.store.epochs == [10]


def test_before_we_lead_epochs_are_only_remembered() -> None:
    parts = Parts(leading=False)
    parts.lead.saw(9)
    parts.lead.rise()
    assert said(parts) == []
    assert parts.store.epochs == []
    assert parts.leadership.claim() == 10


def test_what_hides_that_we_lead_is_overwritten() -> None:
    parts = Parts()
    assert not parts.lead.yields_to(other("offline", 9))
    assert said(parts) == [{"state": "ready", "id": OWN, "epoch": 4}]
    assert not parts.lead.yields_to(OrchestratorState(state="ready", id=OWN, epoch=4))
    assert len(said(parts)) == 1


def test_one_with_a_higher_epoch_is_yielded_to_without_a_word() -> None:
    parts = Parts()
    assert parts.lead.yields_to(other("ready", 5))
    assert not parts.lead.leading
    assert said(parts) == []


def test_who_does_not_lead_yields_to_nobody() -> None:
    parts = Parts(leading=False)
    assert not parts.lead.yields_to(other("ready", 9))
    assert not parts.lead.yields_to(other("offline", 9))
    assert said(parts) == []
