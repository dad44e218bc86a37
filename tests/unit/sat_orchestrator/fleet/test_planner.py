"""The planner: at most one action, the right one, and none while somebody else acts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sat_bus.contract.messages import Desired
from sat_orchestrator.fleet.planner import (
    BACKOFF_MAX_S,
    BACKOFF_MIN_S,
    View,
    backoff,
    converged,
    next_action,
)
from sat_orchestrator.fleet.table import Action
from sat_toolkit.core.device_spec import DeviceState

S = DeviceState
CONNECTED = Desired(level="connected")
STREAMING = Desired(level="connected", streams={"can": {"fd": True}, "uart": {}})


def operation(view: View, now: float = 0.0) -> str | None:
    action = next_action(view, now)
    return action.operation if action is not None else None


@pytest.mark.parametrize(
    ("level", "path"),
    [
        ("connected", {S.UNKNOWN: "scan", S.DISCOVERED: "connect", S.INITIALIZED: "connect", S.CONNECTED: None,
                       S.ACTIVE: None, S.DISCONNECTED: "connect", S.ERROR: "reset"}),
        ("initialized", {S.UNKNOWN: "scan", S.DISCOVERED: "initialize", S.INITIALIZED: None, S.CONNECTED: "close",
                         S.ACTIVE: "close", S.DISCONNECTED: "initialize", S.ERROR: "reset"}),
        ("disconnected", {S.UNKNOWN: None, S.DISCOVERED: None, S.INITIALIZED: "close", S.CONNECTED: "close",
                          S.ACTIVE: "close", S.DISCONNECTED: None, S.ERROR: "reset"}),
    ],
)  # fmt: skip
def test_the_next_step_from_every_state(level: str, path: dict[DeviceState, str | None]) -> None:
    desired = Desired.model_validate({"level": level})
    assert {state: operation(View(state, desired)) for state in DeviceState} == path


@pytest.mark.parametrize("state", list(DeviceState))
def test_nothing_is_done_for_a_device_that_nobody_wants(state: DeviceState) -> None:
    assert next_action(View(state, None), 0.0) is None


@pytest.mark.parametrize(
    "reason",
    [
        {"certain": False},
        {"held": "other hardware"},
        {"stopped": "gave up"},
        {"busy": True},
        {"not_before": 1.5},
    ],
)
def test_nothing_is_done_while(reason: dict[str, object]) -> None:
    view = View(S.DISCOVERED, CONNECTED)
    assert next_action(view, 1.0) is not None
    assert next_action(view._replace(**reason), 1.0) is None  # type: ignore[arg-type]


def test_a_back_off_ends() -> None:
    assert operation(View(S.DISCOVERED, CONNECTED, not_before=1.5), 1.5) == "connect"


def test_missing_streams_are_started_one_at_a_time_with_their_args() -> None:
    view = View(S.CONNECTED, STREAMING, declared=frozenset({"can", "uart"}))
    assert next_action(view, 0.0) == Action("start", "can", {"fd": True})
    assert next_action(view._replace(running=frozenset({"can"})), 0.0) == Action(
        "start", "uart", {}
    )
    assert next_action(view._replace(running=frozenset({"can", "uart"})), 0.0) is None


def test_streams_wait_while_a_command_runs_and_below_connected() -> None:
    assert next_action(View(S.ACTIVE, STREAMING), 0.0) is None
    desired = Desired(level="initialized", streams={"can": {}})
    assert next_action(View(S.INITIALIZED, desired), 0.0) is None


def test_extra_streams_are_never_stopped() -> None:
    assert (
        next_action(View(S.CONNECTED, CONNECTED, running=frozenset({"can"}), acquiring=True), 0.0)
        is None
    )


def test_any_acquisition_satisfies_a_stream_that_the_driver_does_not_declare() -> None:
    view = View(S.CONNECTED, Desired(level="connected", streams={"can": {}}), acquiring=True)
    assert next_action(view, 0.0) is None
    assert next_action(view._replace(declared=frozenset({"can"})), 0.0) is not None
    assert next_action(view._replace(acquiring=False), 0.0) is not None


def test_convergence() -> None:
    assert converged(View(S.CONNECTED, CONNECTED))
    assert converged(View(S.DISCOVERED, None))
    assert converged(View(S.CONNECTED, CONNECTED, not_before=99.0))
    assert not converged(View(S.ERROR, None))
    assert not converged(View(S.INITIALIZED, CONNECTED))
    assert not converged(View(S.CONNECTED, CONNECTED, certain=False))


@given(st.integers(0, 1000), st.floats(0, 1))
def test_the_back_off_stays_in_its_bounds(attempts: int, jitter: float) -> None:
    assert BACKOFF_MIN_S <= backoff(attempts, jitter) <= BACKOFF_MAX_S


def test_the_back_off_doubles() -> None:
    assert [backoff(n, 0.5) for n in range(1, 7)] == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0]
    assert backoff(3, 0.0) == 3.0
    assert backoff(3, 1.0) == 5.0


LEVELS = st.sampled_from(["disconnected", "initialized", "connected"])


@given(LEVELS, st.sampled_from(list(DeviceState)))
def test_following_the_plan_reaches_the_level_and_stops(level: str, start: DeviceState) -> None:
    results = {"scan": S.DISCOVERED, "initialize": S.INITIALIZED, "connect": S.CONNECTED,
               "reset": S.DISCONNECTED, "close": S.DISCONNECTED}  # fmt: skip
    state, desired = start, Desired.model_validate({"level": level})
    for _ in range(6):
        wanted = operation(View(state, desired))
        if wanted is None:
            break
        state = results[wanted]
    assert converged(View(state, desired))
