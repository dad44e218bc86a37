"""The planner: desired x observed -> at most one next action. PURE, and level-triggered: it
remembers nothing.

It is asked on every change and once a second. It never stops a stream that runs beyond what is
desired, and never acts while a client does.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from sat_bus.contract.messages import Desired
from sat_orchestrator.fleet.table import Action
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.core.lifecycle import path_to

BACKOFF_MIN_S = 1.0
BACKOFF_MAX_S = 30.0


class View(NamedTuple):
    """What the planner weighs of a row.

    Attributes:
        certain: the host is there and has told the device's state since we watch.
        held, stopped: automatic actions are off, with the reason.
        busy: an action or a client's request is under way.
        not_before: monotonic seconds; the back-off, or a client's turn.
        running: the stream types that run; `declared` those that the driver says it has.
    """

    observed: DeviceState
    desired: Desired | None
    certain: bool = True
    held: str = ""
    stopped: str = ""
    busy: bool = False
    not_before: float = 0.0
    running: Collection[str] = ()
    acquiring: bool = False
    declared: Collection[str] = ()


def next_action(view: View, now: float) -> Action | None:
    """The one action that brings the device nearer to what is desired; None when nothing does, or
    not now."""
    if not view.certain or view.held or view.stopped or view.busy or now < view.not_before:
        return None
    return _missing(view)


def converged(view: View) -> bool:
    """Whether the device is certainly where it should be."""
    return (
        view.certain
        and not view.held
        and view.observed is not DeviceState.ERROR
        and _missing(view) is None
    )


def backoff(attempts: int, jitter: float) -> float:
    """Seconds to wait after the `attempts`-th failure in a row: doubling from 1 to 30.

    Args:
        jitter: 0 to 1; spreads the wait by a quarter either way, so that devices do not retry in
            step.
    """
    base = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2.0 ** min(max(attempts, 1) - 1, 10))
    return min(BACKOFF_MAX_S, max(BACKOFF_MIN_S, base * (0.75 + jitter / 2)))


def _missing(view: View) -> Action | None:
    if view.desired is None:
        return None
    level = DeviceState(view.desired.level)
    operation = path_to(level, view.observed)
    if operation is not None:
        return Action(operation.value)
    # While a command runs (active) the device is asked for nothing more.
    if level is not DeviceState.CONNECTED or view.observed is not DeviceState.CONNECTED:
        return None
    for stream, args in sorted(view.desired.streams.items()):
        # A driver that declares no stream types acquires under a type of its own: any acquisition
        # will do.
        undeclared = view.acquiring and stream not in view.declared
        if stream not in view.running and not undeclared:
            return Action("start", stream, args)
    return None
