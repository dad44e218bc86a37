"""What is asked of a device: a command's args are checked once, here."""

from __future__ import annotations

from typing import Any

import pytest

from sat_host.delivery import DeliveryChanges
from sat_host.devices.jobs import Deadlines, Job, command_job
from sat_host.wire_messages import RunCommand
from sat_toolkit.core.commands import Command
from sat_toolkit.core.lifecycle import Operation
from sat_toolkit.errors import BadArgs

SEND = Command(
    "send",
    parameters={
        "type": "object",
        "properties": {"id": {"type": "integer"}},
        "required": ["id"],
        "additionalProperties": False,
    },
    timeout_ms=700,
)
START = Command("start", parameters={"type": "object", "additionalProperties": False})


def make(command: Command, args: dict[str, Any], streams: tuple[str, ...] = ("can",)) -> Job:
    return command_job(command, streams, args, by="ann", deadline=7.0)


def test_a_command_becomes_a_job() -> None:
    job = make(SEND, {"id": 5})
    assert (job.operation, job.by, job.deadline, job.reason) == (Operation.COMMAND, "ann", 7.0, "")
    assert job.command == RunCommand("send", {"id": 5}, None)
    assert job.args == {"id": 5}
    assert job.limit == 0.7


def test_a_command_may_take_as_long_as_its_driver_says_or_does_not() -> None:
    assert make(START, {}).limit is None


@pytest.mark.parametrize("args", [{}, {"id": "x"}, {"id": 5, "more": 1}, {"id": 5, "stream": {}}])
def test_args_that_the_command_does_not_take_are_refused(args: dict[str, Any]) -> None:
    with pytest.raises(BadArgs, match=r"^send: "):
        make(SEND, args)


def test_a_start_says_how_its_streams_are_delivered() -> None:
    args = {"stream": {"window_ms": 50}}
    job = make(START, args)
    assert job.command == RunCommand("start", {}, DeliveryChanges(window_ms=50))
    assert job.args == args, "readers see what the client said"


def test_a_start_that_says_nothing_of_delivery_leaves_the_defaults() -> None:
    assert make(START, {}).command == RunCommand("start", {}, DeliveryChanges())
    assert make(START, {}, ()).command == RunCommand("start", {}, DeliveryChanges())


def test_a_delivery_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(BadArgs, match=r"^stream: "):
        make(START, {"stream": {"window_ms": 0}})


def test_the_word_of_a_job_is_the_commands_name_or_the_operation() -> None:
    assert make(SEND, {"id": 1}).word == "send"
    assert Job(Operation.RESET, "ann", 1.0).word == "reset"


def test_two_jobs_are_never_the_same() -> None:
    assert Job(Operation.RESET, "ann", 1.0) != Job(Operation.RESET, "ann", 1.0)


def test_how_long_hooks_may_take() -> None:
    assert Deadlines() == Deadlines(
        initialize=30.0, connect=30.0, reset=10.0, close=10.0, command=30.0
    )
