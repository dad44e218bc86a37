"""Who leads: epochs only rise, and of two the higher one stays."""

from __future__ import annotations

import pytest

from sat_bus.contract.messages import OrchestratorState
from sat_orchestrator.fleet.leadership import Leadership, Verdict


def said(state: str, ident: str, epoch: int) -> OrchestratorState:
    return OrchestratorState.model_validate({"state": state, "id": ident, "epoch": epoch})


def test_a_claim_is_above_everything_that_was_seen() -> None:
    leadership = Leadership("me", 3)
    leadership.saw(7)
    leadership.judge(said("ready", "other", 5))
    assert leadership.epoch == 0
    assert leadership.claim() == 8
    assert leadership.claim() == 9


def test_an_epoch_above_ours_is_noticed_once_we_lead() -> None:
    leadership = Leadership("me", 3)
    assert not leadership.saw(9)
    leadership.claim()
    assert not leadership.saw(10)
    assert leadership.saw(11)


@pytest.mark.parametrize(
    ("state", "ident", "epoch", "verdict"),
    [
        ("ready", "me", 4, Verdict.IGNORE),
        ("offline", "me", 4, Verdict.REASSERT),  # our own will, from a connection that was cut
        ("offline", "other", 3, Verdict.REASSERT),
        ("offline", "other", 9, Verdict.REASSERT),
        ("ready", "other", 3, Verdict.REASSERT),
        ("ready", "other", 5, Verdict.STAND_DOWN),
        ("ready", "zoe", 4, Verdict.STAND_DOWN),
        ("ready", "ann", 4, Verdict.REASSERT),
    ],
)
def test_what_a_word_on_orch_state_means(
    state: str, ident: str, epoch: int, verdict: Verdict
) -> None:
    leadership = Leadership("me", 3)
    leadership.claim()
    assert leadership.judge(said(state, ident, epoch)) is verdict


def test_before_we_lead_nothing_is_judged() -> None:
    assert Leadership("me", 3).judge(said("ready", "other", 9)) is Verdict.IGNORE
