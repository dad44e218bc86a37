"""The device lifecycle: this file owns every transition. PURE: no I/O, no threads, no clock.

`TRANSITIONS` and `HIERARCHY` are the guide's tables, word for word ("State Transitions", "State
Hierarchy"). `EXTRA_TRANSITIONS` are the edges that the guide describes in prose and leaves out of
its table, each with its reason. `docs/reference/lifecycle.md` is drawn from these tables.

Whoever runs operations (the driver host, the in-process manager) asks `plan` for the driver hooks
to call and applies each step's target state as the hook succeeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.errors import BadState

TRANSITIONS: dict[DeviceState, list[DeviceState]] = {
    DeviceState.UNKNOWN: [DeviceState.DISCOVERED],
    DeviceState.DISCOVERED: [DeviceState.INITIALIZED],
    DeviceState.INITIALIZED: [DeviceState.CONNECTED, DeviceState.DISCONNECTED],
    DeviceState.CONNECTED: [DeviceState.ACTIVE, DeviceState.DISCONNECTED],
    DeviceState.ACTIVE: [DeviceState.CONNECTED, DeviceState.ERROR],
    DeviceState.ERROR: [DeviceState.DISCONNECTED],
    DeviceState.DISCONNECTED: [DeviceState.INITIALIZED],
}

HIERARCHY: dict[DeviceState, int] = {
    DeviceState.UNKNOWN: 0,
    DeviceState.DISCOVERED: 1,
    DeviceState.INITIALIZED: 2,
    DeviceState.CONNECTED: 3,
    DeviceState.ACTIVE: 4,
}

_FAILS = 'the guide: "automatically transitions to ERROR state on failures"'
_CLOSES = "close, reset and clean-up are always offered"
_UNPLUGGED = "the device was unplugged"

EXTRA_TRANSITIONS: dict[tuple[DeviceState, DeviceState], str] = {
    (DeviceState.DISCOVERED, DeviceState.ERROR): _FAILS,
    (DeviceState.INITIALIZED, DeviceState.ERROR): _FAILS,
    (DeviceState.CONNECTED, DeviceState.ERROR): _FAILS,
    (DeviceState.DISCONNECTED, DeviceState.ERROR): _FAILS,
    (DeviceState.DISCOVERED, DeviceState.DISCONNECTED): _CLOSES,
    (DeviceState.ACTIVE, DeviceState.DISCONNECTED): _CLOSES,
    (DeviceState.DISCOVERED, DeviceState.UNKNOWN): _UNPLUGGED,
    (DeviceState.DISCONNECTED, DeviceState.UNKNOWN): _UNPLUGGED,
    (DeviceState.ERROR, DeviceState.UNKNOWN): _UNPLUGGED,
}


class Operation(StrEnum):
    """What may be asked of a device; also the word of the bus request."""

    SCAN = "scan"
    INITIALIZE = "initialize"
    CONNECT = "connect"
    COMMAND = "command"
    RESET = "reset"
    CLOSE = "close"


@dataclass(frozen=True)
class Step:
    """One driver hook to call, and the state that its success leads to."""

    operation: Operation
    target: DeviceState


TARGETS: dict[Operation, DeviceState] = {
    Operation.SCAN: DeviceState.DISCOVERED,
    Operation.INITIALIZE: DeviceState.INITIALIZED,
    Operation.CONNECT: DeviceState.CONNECTED,
    Operation.RESET: DeviceState.DISCONNECTED,
    Operation.CLOSE: DeviceState.DISCONNECTED,
}

_SCAN = Step(Operation.SCAN, DeviceState.DISCOVERED)
_INITIALIZE = Step(Operation.INITIALIZE, DeviceState.INITIALIZED)
_CONNECT = Step(Operation.CONNECT, DeviceState.CONNECTED)
_UPWARD: dict[DeviceState, tuple[Step, ...]] = {
    DeviceState.UNKNOWN: (_SCAN, _INITIALIZE, _CONNECT),
    DeviceState.DISCOVERED: (_INITIALIZE, _CONNECT),
    DeviceState.DISCONNECTED: (_INITIALIZE, _CONNECT),
    DeviceState.INITIALIZED: (_CONNECT,),
    DeviceState.CONNECTED: (),
    DeviceState.ACTIVE: (),
}


class IllegalTransition(BadState):
    """A transition that neither table has. Nothing was changed."""


def allowed(state: DeviceState, target: DeviceState) -> bool:
    """Whether either table has the edge ``state -> target``."""
    return target in TRANSITIONS[state] or (state, target) in EXTRA_TRANSITIONS


def apply(state: DeviceState, target: DeviceState) -> DeviceState:
    """`target`, when the edge exists.

    Raises:
        IllegalTransition: neither table has it; the message lists what `state` leads to.
    """
    if not allowed(state, target):
        reachable = ", ".join(sorted(other for other in DeviceState if allowed(state, other)))
        raise IllegalTransition(f"{state} does not lead to {target}; it leads to: {reachable}")
    return target


def plan(operation: Operation, state: DeviceState) -> tuple[Step, ...]:
    """The hooks to call, in order, for `operation` from `state`; empty when it is there already.

    - connect scans first when the device is unknown and initialises first when it is not
      initialised (guide, "Automatic State Management");
    - reset and close end in DISCONNECTED, so that the guide's recovery, reset then initialize,
      works within its own table;
    - an operation whose target the device has reached changes nothing (guide, "State Hierarchy").

    Raises:
        BadState: `operation` is not offered in `state`; the message names what is.
    """
    if operation in (Operation.RESET, Operation.CLOSE):
        if state in (DeviceState.DISCONNECTED, DeviceState.UNKNOWN):
            return ()
        return (Step(operation, DeviceState.DISCONNECTED),)
    if operation is Operation.COMMAND:
        if state not in (DeviceState.CONNECTED, DeviceState.ACTIVE):
            raise BadState(
                f"a command needs a connected device, this one is {state}; connect it first"
            )
        return (Step(operation, DeviceState.CONNECTED),)
    if operation is Operation.SCAN:
        return (_SCAN,) if state is DeviceState.UNKNOWN else ()
    if state is DeviceState.ERROR:
        refused = (
            "connect device in"
            if operation is Operation.CONNECT
            else f"perform {operation} in current"
        )
        raise BadState(f"Cannot {refused} state {state}: reset the device first")
    if operation is Operation.INITIALIZE:
        if state is DeviceState.UNKNOWN:
            raise BadState(
                f"Cannot perform initialize in current state {state}: scan for the device first"
            )
        return tuple(step for step in _UPWARD[state] if step is _INITIALIZE)
    return _UPWARD[state]


def path_to(level: DeviceState, state: DeviceState) -> Operation | None:
    """The one next operation that brings a device from `state` towards the desired `level`.

    `level` is one of DISCONNECTED, INITIALIZED, CONNECTED. None: it is there. ERROR is left by
        reset.
    A known device is asked for `level` itself, and `plan` walks up to it. An initialised or
    connected device that should be lower is closed, never stepped down by a hook that drivers do
    not have.
    """
    if state is DeviceState.ERROR:
        return Operation.RESET
    if level is DeviceState.DISCONNECTED:
        at_rest = (DeviceState.DISCONNECTED, DeviceState.DISCOVERED, DeviceState.UNKNOWN)
        return None if state in at_rest else Operation.CLOSE
    if state is DeviceState.UNKNOWN:
        return Operation.SCAN
    rank = HIERARCHY.get(state, 0)
    if level is DeviceState.INITIALIZED:
        if rank > HIERARCHY[level]:
            return Operation.CLOSE
        return None if rank == HIERARCHY[level] else Operation.INITIALIZE
    return None if rank >= HIERARCHY[DeviceState.CONNECTED] else Operation.CONNECT
