"""The lifecycle's tables are the guide's, and no plan ever leaves them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sat_toolkit.core.device_spec import DevicePluginSpec, DeviceState
from sat_toolkit.core.lifecycle import (
    EXTRA_TRANSITIONS,
    HIERARCHY,
    TARGETS,
    TRANSITIONS,
    IllegalTransition,
    Operation,
    apply,
    path_to,
    plan,
)
from sat_toolkit.errors import BadState, Code

STATES = list(DeviceState)
LEVELS = [DeviceState.DISCONNECTED, DeviceState.INITIALIZED, DeviceState.CONNECTED]


def test_the_transition_table_is_the_guides() -> None:
    assert {
        DeviceState.UNKNOWN: [DeviceState.DISCOVERED],
        DeviceState.DISCOVERED: [DeviceState.INITIALIZED],
        DeviceState.INITIALIZED: [DeviceState.CONNECTED, DeviceState.DISCONNECTED],
        DeviceState.CONNECTED: [DeviceState.ACTIVE, DeviceState.DISCONNECTED],
        DeviceState.ACTIVE: [DeviceState.CONNECTED, DeviceState.ERROR],
        DeviceState.ERROR: [DeviceState.DISCONNECTED],
        DeviceState.DISCONNECTED: [DeviceState.INITIALIZED],
    } == TRANSITIONS


def test_the_hierarchy_is_the_guides() -> None:
    assert {
        DeviceState.UNKNOWN: 0,
        DeviceState.DISCOVERED: 1,
        DeviceState.INITIALIZED: 2,
        DeviceState.CONNECTED: 3,
        DeviceState.ACTIVE: 4,
    } == HIERARCHY


def test_the_states_are_the_words_on_the_wire() -> None:
    words = ["unknown", "discovered", "initialized", "connected", "active", "disconnected", "error"]
    assert [state.value for state in DeviceState] == words


def test_device_plugin_spec_can_be_imported_and_made() -> None:
    assert DevicePluginSpec().name == ""


def test_the_extra_edges_are_these_and_each_has_a_reason() -> None:
    every_failure = {
        (s, DeviceState.ERROR)
        for s in STATES
        if s not in (DeviceState.UNKNOWN, DeviceState.ERROR, DeviceState.ACTIVE)
    }
    closes = {(s, DeviceState.DISCONNECTED) for s in (DeviceState.DISCOVERED, DeviceState.ACTIVE)}
    unplugged = {
        (s, DeviceState.UNKNOWN)
        for s in (DeviceState.DISCOVERED, DeviceState.DISCONNECTED, DeviceState.ERROR)
    }
    assert set(EXTRA_TRANSITIONS) == every_failure | closes | unplugged
    assert all(EXTRA_TRANSITIONS.values())


def test_no_extra_edge_repeats_the_guides_table() -> None:
    assert not [edge for edge in EXTRA_TRANSITIONS if edge[1] in TRANSITIONS[edge[0]]]


@given(st.sampled_from(STATES), st.sampled_from(STATES))
def test_apply_takes_an_edge_or_refuses(state: DeviceState, target: DeviceState) -> None:
    if target in TRANSITIONS[state] or (state, target) in EXTRA_TRANSITIONS:
        assert apply(state, target) is target
    else:
        with pytest.raises(IllegalTransition) as caught:
            apply(state, target)
        assert caught.value.code is Code.BAD_STATE
        assert f"{state} does not lead to {target}" in str(caught.value)


@given(st.sampled_from(list(Operation)), st.sampled_from(STATES))
def test_every_step_of_a_plan_is_an_allowed_edge(operation: Operation, state: DeviceState) -> None:
    try:
        steps = plan(operation, state)
    except BadState:
        return
    if operation is Operation.COMMAND:  # ACTIVE while it runs, and back
        start = state if state is DeviceState.ACTIVE else apply(state, DeviceState.ACTIVE)
        assert apply(start, steps[0].target) is DeviceState.CONNECTED
        return
    for step in steps:
        state = apply(state, step.target)
    if steps:
        assert state is TARGETS[operation]


@given(st.sampled_from(list(TARGETS)), st.sampled_from(STATES))
def test_an_operation_done_twice_changes_nothing_the_second_time(
    operation: Operation, state: DeviceState
) -> None:
    try:
        steps = plan(operation, state)
    except BadState:
        return
    for step in steps:
        state = step.target
    assert plan(operation, state) == ()


def test_connect_scans_and_initialises_first_where_it_must() -> None:
    def names(state: DeviceState) -> list[str]:
        return [str(step.operation) for step in plan(Operation.CONNECT, state)]

    assert names(DeviceState.UNKNOWN) == ["scan", "initialize", "connect"]
    assert names(DeviceState.DISCOVERED) == ["initialize", "connect"]
    assert names(DeviceState.DISCONNECTED) == ["initialize", "connect"]
    assert names(DeviceState.INITIALIZED) == ["connect"]
    assert names(DeviceState.CONNECTED) == []


def test_a_rescan_never_moves_a_known_device() -> None:
    assert all(
        plan(Operation.SCAN, state) == () for state in STATES if state is not DeviceState.UNKNOWN
    )


@pytest.mark.parametrize(
    ("operation", "state", "text"),
    [
        (
            Operation.INITIALIZE,
            DeviceState.ERROR,
            "Cannot perform initialize in current state error: reset",
        ),
        (
            Operation.INITIALIZE,
            DeviceState.UNKNOWN,
            "Cannot perform initialize in current state unknown: scan",
        ),
        (Operation.CONNECT, DeviceState.ERROR, "Cannot connect device in state error: reset"),
        (Operation.COMMAND, DeviceState.INITIALIZED, "this one is initialized; connect it first"),
        (Operation.COMMAND, DeviceState.ERROR, "this one is error"),
    ],
)
def test_a_refusal_says_what_would_be_accepted(
    operation: Operation, state: DeviceState, text: str
) -> None:
    with pytest.raises(BadState, match=text):
        plan(operation, state)


def test_the_guides_recovery_works_within_the_tables() -> None:
    (reset,) = plan(Operation.RESET, DeviceState.ERROR)
    assert reset.target is DeviceState.DISCONNECTED
    (initialize,) = plan(Operation.INITIALIZE, reset.target)
    assert initialize.target is DeviceState.INITIALIZED


@given(st.sampled_from(LEVELS), st.sampled_from(STATES))
def test_path_to_reaches_every_level_from_every_state(
    level: DeviceState, state: DeviceState
) -> None:
    for _ in range(6):
        operation = path_to(level, state)
        if operation is None:
            break
        steps = plan(operation, state)
        assert steps, f"{operation} from {state} would do nothing, for ever"
        state = apply(state, steps[-1].target) if len(steps) == 1 else steps[-1].target
    else:
        pytest.fail(f"still on the way to {level}, at {state}")
    at_rest = (DeviceState.DISCONNECTED, DeviceState.DISCOVERED, DeviceState.UNKNOWN)
    if level is DeviceState.DISCONNECTED:
        assert state in at_rest
    elif level is DeviceState.CONNECTED:
        assert state in (DeviceState.CONNECTED, DeviceState.ACTIVE)
    else:
        assert state is level
